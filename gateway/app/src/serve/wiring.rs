//! Settings to running parts, each made from finished values of the one before.
//!
//! The only place that knows every crate's configuration; it decides nothing but what goes where.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use prometheus::Registry;
use tollgate_admin::audit_key::Signer;
use tollgate_archive::otlp::SpanExporter;
use tollgate_core::identity::{KeySet, Mint};
use tollgate_core::issue::TokenDesk;
use tollgate_core::notice::NoticeBook;
use tollgate_core::policy::Policy;
use tollgate_core::price::PriceBook;
use tollgate_core::vault::Vault;
use tollgate_proxy::authenticate::{Keys, Standings};
use tollgate_proxy::collect::MemoryBudget;
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::gateway::{CallLimits, Gateway, Stores};
use tollgate_proxy::listener::{ClientAuthority, Listening, TlsFiles, check, listen_on};
use tollgate_proxy::live::{Live, Snapshot};
use tollgate_proxy::metrics::Metrics;
use tollgate_proxy::notices::{CapMarks, Webhook};
use tollgate_proxy::oauth::TokenExchanges;
use tollgate_proxy::obtain::Obtainer;
use tollgate_proxy::pool::Upstreams;
use tollgate_proxy::pressure::{Pressure, PressureLimits};
use tollgate_proxy::reserve::Accounts;
use tollgate_proxy::sealed::SealedTokens;
use tollgate_proxy::statement::Statements;
use tollgate_proxy::tracker::Tracker;
use tollgate_stores::embedded::{self, Bound, Embedded, EmbeddedConfig, Switch};
use tollgate_stores::redis::Fleet;
use tracing::{info, warn};

use super::fleet;
use super::handover::Sockets;
use super::usage::OwnUsage;
use super::{leave, onward, traces};
use crate::config::{Fsync, Layout, Settings, WhenFull};
use crate::data_dir::DataDir;
use crate::logging::Log;
use crate::permissions::Ledger;
use crate::prices::book::{PriceFiles, PriceWatch};
use crate::reload::Watched;
use crate::{clock, tenant, vault};

/// Everything that runs, before it does.
pub(super) struct Wired {
    /// The call path.
    pub(super) gateway: Arc<Gateway>,
    /// The stores behind it.
    pub(super) embedded: Arc<Embedded>,
    /// What turns the call path away from them when a successor takes over.
    pub(super) switch: Arc<Switch>,
    /// Shares of caps that have been noticed.
    pub(super) notices: Arc<dyn NoticeBook>,
    /// The fleet that this gateway belongs to, if any.
    pub(super) fleet: Option<Arc<Fleet>>,
    /// The policy files, to be watched.
    pub(super) watched: Unwatched<Watched>,
    /// Which elevated permissions were adopted; goes with the policy files.
    pub(super) permissions: Unwatched<Ledger>,
    /// The price files, to be watched.
    pub(super) priced: Unwatched<PriceWatch>,
    /// What takes spans to a collector, if there is one.
    pub(super) spans: Unwatched<Option<SpanExporter>>,
    /// What signs the chains of records.
    pub(super) signer: Signer,
    /// The data directory.
    pub(super) data: DataDir,
    /// Where keys are.
    pub(super) shared: DataDir,
    /// All metrics without a tenant's name in them.
    pub(super) registry: Registry,
    /// Those of single tenants.
    pub(super) of_tenants: Registry,
    /// What clients are spoken TLS with.
    tls: Option<TlsFiles>,
}

/// Files that nobody watches yet.
pub(super) struct Unwatched<W>(Mutex<Option<W>>);

impl<W> Unwatched<W> {
    fn new(watched: W) -> Self {
        Self(Mutex::new(Some(watched)))
    }

    /// Hands them to their watcher.
    ///
    /// # Errors
    /// If they have one.
    pub(super) fn take(&self) -> anyhow::Result<W> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.take().context("the files are watched already")
    }
}

/// Everything that is loaded before the stores are touched: what is wrong with a file or a setting
/// comes out while a predecessor still serves.
pub(super) struct Prepared {
    data: DataDir,
    shared: DataDir,
    policy: Arc<Policy>,
    watched: Watched,
    prices: PriceBook,
    priced: PriceWatch,
    stored: EmbeddedConfig,
    mint: Mint,
    vault: Arc<dyn Vault>,
    tls: Option<TlsFiles>,
}

/// Loads it.
///
/// # Errors
/// If a file, key or policy cannot be used.
pub(super) fn prepare(settings: &Settings) -> anyhow::Result<Prepared> {
    let data = data_dir(&settings.data_dir)?;
    let shared = DataDir::prepare(settings.keys_dir())?;
    let opened = Watched::open(&settings.policies_dir);
    let (policy, watched) = opened.map_err(|mistakes| tenant::listed(&mistakes))?;
    let (prices, priced) = PriceWatch::open(PriceFiles::of(settings))?;
    let tls = tls(settings);
    if let Some(tls) = &tls {
        check(tls)?;
    }
    webhook(settings)?;
    Ok(Prepared {
        stored: stores(settings, &data)?,
        mint: mint(settings, &shared)?,
        vault: vault::open(settings, shared.path(), &policy)?,
        data,
        shared,
        policy,
        watched,
        prices,
        priced,
        tls,
    })
}

/// Makes everything. Reads back the journal of the last run, so calls it cut are settled when
/// this returns; those that a `predecessor` is still making stay open.
///
/// # Errors
/// If a store cannot be used.
pub(super) fn wire(
    settings: &Settings,
    prepared: Prepared,
    log: &Log,
    predecessor: bool,
) -> anyhow::Result<Wired> {
    let Prepared {
        data,
        shared,
        policy,
        watched,
        prices,
        priced,
        stored,
        mint,
        vault,
        tls,
    } = prepared;
    let embedded = open(&stored, predecessor)?;
    tell_loaded(&policy, &prices);
    let permissions = permissions(settings, &embedded, &policy)?;
    let (metrics, [registry, of_tenants]) = metrics(settings, &policy)?;
    let switch = Arc::new(Switch::here(embedded.ledgers()));
    let fleet = fleet::join(settings, &stored.replica, &embedded)?;
    let (mut stores, notices) = behind(&switch, fleet.as_ref(), &embedded, vault);
    listen(&metrics, &mut stores, fleet.as_ref());
    let desk = Arc::new(TokenDesk {
        mint,
        registry: Arc::clone(&stores.registry),
    });
    let first = snapshot(policy, prices, keys(settings, &desk));
    let engine = Arc::new(engine(settings));
    let (traces, spans) = traces::open(settings, stored.replica.as_str(), &registry)?;
    let gateway = Arc::new(Gateway {
        live: Live::new(first),
        stores,
        standings: Standings::default(),
        upstreams: Upstreams::new(Arc::clone(&engine)),
        obtainer: Obtainer::default(),
        sealed: SealedTokens::default(),
        limits: call_limits(settings),
        pressure: Pressure::new(pressure_limits(settings)),
        memory: MemoryBudget::new(settings.limits.body_memory_bytes),
        metrics,
        traces,
        accounts: Accounts::default(),
        caps: CapMarks::default(),
        token_exchanges: TokenExchanges::default(),
        statements: Statements::of(Arc::new(OwnUsage(settings.data_dir.clone()))),
        call_log: Arc::clone(&log.calls),
        scene: Arc::default(),
        tracker: Tracker::new(engine.max_detached),
        engine,
        desk,
        clock: clock::now,
    });
    Ok(Wired {
        gateway,
        embedded: Arc::new(embedded),
        switch,
        notices,
        fleet: fleet.map(Arc::new),
        watched: Unwatched::new(watched),
        permissions: Unwatched::new(permissions),
        priced: Unwatched::new(priced),
        spans: Unwatched::new(spans),
        signer: signer(&stored),
        data,
        shared,
        registry,
        of_tenants,
        tls,
    })
}

/// What calls are judged by at first.
fn snapshot(policy: Arc<Policy>, prices: PriceBook, keys: KeySet) -> Snapshot {
    Snapshot {
        policy,
        prices: Arc::new(prices),
        keys: Arc::new(Keys::new(keys)),
    }
}

/// Metrics, and where those are registered that name no tenant, and those that do.
///
/// # Errors
/// If two have one name.
fn metrics(settings: &Settings, policy: &Policy) -> anyhow::Result<(Metrics, [Registry; 2])> {
    let registries = [Registry::new(), Registry::new()];
    let [all, of_tenants] = &registries;
    let metrics = Metrics::new(all, of_tenants, settings.metrics.tenants)?;
    metrics.know(policy);
    Ok((metrics, registries))
}

/// Counts what is asked of the table of tokens, and what is heard of revocations elsewhere.
fn listen(metrics: &Metrics, stores: &mut Stores, fleet: Option<&Fleet>) {
    stores.registry = metrics.measured(Arc::clone(&stores.registry));
    if let Some(fleet) = fleet {
        fleet.registry.listen(Box::new(metrics.heard_of()));
    }
}

/// What calls are judged by: the fleet's, or else this gateway's own, until a successor has it.
/// Records are always its own.
fn behind(
    switch: &Arc<Switch>,
    fleet: Option<&Fleet>,
    embedded: &Embedded,
    vault: Arc<dyn Vault>,
) -> (Stores, Arc<dyn NoticeBook>) {
    let records = switch.clone();
    match fleet {
        Some(fleet) => {
            let stores = Stores {
                admission: fleet.admission(),
                budgets: fleet.budgets(),
                rates: fleet.rates(),
                registry: fleet.registry.clone(),
                records,
                deferred: fleet.deferred.clone(),
                vault,
            };
            (stores, fleet.notices.clone())
        }
        None => {
            let stores = Stores {
                admission: switch.clone(),
                budgets: switch.clone(),
                rates: switch.clone(),
                registry: switch.clone(),
                records,
                deferred: switch.clone(),
                vault,
            };
            (stores, embedded.notices.clone())
        }
    }
}

fn tell_loaded(policy: &Policy, prices: &PriceBook) {
    info!(
        policy = %policy.version,
        prices = %prices.version(),
        providers = policy.providers.len(),
        tenants = policy.tenants.len(),
        "loaded"
    );
}

/// The data directory, with a warning if it is not for its owner alone.
///
/// # Errors
/// If it cannot be made.
fn data_dir(path: &Path) -> anyhow::Result<DataDir> {
    let data = DataDir::prepare(path)?;
    if data.is_open_to_others() {
        let dir = path.display();
        warn!(%dir, "others than its owner can enter the data directory; it should be 0700");
    }
    Ok(data)
}

/// Opens the stores, from a `predecessor` if there is one; else tells what the last run has left
/// in them.
///
/// # Errors
/// If they cannot be opened.
fn open(stored: &EmbeddedConfig, predecessor: bool) -> anyhow::Result<Embedded> {
    if predecessor {
        return Ok(Embedded::take_over(stored, clock::now())?);
    }
    let embedded = Embedded::open(stored, clock::now())?;
    if embedded.interrupted() > 0 {
        let calls = embedded.interrupted();
        warn!(
            calls,
            "calls of the last run had no outcome; settled at what was reserved"
        );
    }
    Ok(embedded)
}

/// What signs the chains that these stores write.
fn signer(stored: &EmbeddedConfig) -> Signer {
    Signer {
        replica: stored.replica.clone(),
        key: stored.key.public().clone(),
    }
}

fn pressure_limits(settings: &Settings) -> PressureLimits {
    let calls = settings
        .limits
        .calls_in_flight
        .unwrap_or_else(leave::room_for_calls);
    info!(calls, "calls in flight at one time");
    PressureLimits {
        calls,
        lag: settings.limits.lag,
    }
}

fn call_limits(settings: &Settings) -> CallLimits {
    CallLimits {
        inspected_body_bytes: settings.limits.inspected_body_bytes,
        streamed_body_bytes: settings.limits.streamed_body_bytes,
        body_deadline: settings.deadlines.body,
        upload_idle: settings.deadlines.body,
    }
}

/// Where notices of cap shares go, if anywhere.
///
/// # Errors
/// If the secret cannot be read or used.
pub(super) fn webhook(settings: &Settings) -> anyhow::Result<Option<Webhook>> {
    let Some(webhook) = &settings.webhook else {
        return Ok(None);
    };
    let file = webhook.secret_file.display();
    let secret = std::fs::read_to_string(&webhook.secret_file)
        .map(zeroize::Zeroizing::new)
        .with_context(|| format!("{file} cannot be read"))?;
    let webhook = Webhook::new(webhook.upstream.clone(), &secret);
    Ok(Some(
        webhook.with_context(|| format!("{file} cannot be used"))?,
    ))
}

/// The gateway's own issuer of task tokens.
///
/// # Errors
/// If its key cannot be used.
fn mint(settings: &Settings, data: &DataDir) -> anyhow::Result<Mint> {
    let tokens = &settings.tokens;
    let mint = Mint::from_pem(&data.issuer_key()?, &tokens.issuer, &tokens.audience);
    mint.with_context(|| format!("{}/keys/issuer.pem", data.path().display()))
}

/// Whose task tokens are believed.
pub(super) fn keys(settings: &Settings, desk: &TokenDesk) -> KeySet {
    let keys = desk.mint.keys();
    keys.with_clock_skew(settings.tokens.clock_skew)
}

/// What takes calls from the sockets.
///
/// # Errors
/// If a socket or certificate cannot be used.
pub(super) fn listener(wired: &Wired, sockets: &Sockets) -> anyhow::Result<Listening<Gateway>> {
    let gateway = &wired.gateway;
    let engine = Arc::clone(&gateway.engine);
    let tracker = gateway.tracker.clone();
    let (sockets, tls) = (sockets.calls()?, wired.tls.as_ref());
    Ok(listen_on(
        sockets,
        tls,
        Arc::clone(gateway),
        engine,
        tracker,
    )?)
}

/// The certificates in the settings.
fn tls(settings: &Settings) -> Option<TlsFiles> {
    settings.tls.as_ref().map(|tls| TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        clients: tls.clients.as_ref().map(|clients| ClientAuthority {
            authorities: clients.file.clone(),
            required: clients.required,
        }),
    })
}

/// Takes note of the first policy's elevated permissions.
fn permissions(
    settings: &Settings,
    embedded: &Embedded,
    policy: &Policy,
) -> anyhow::Result<Ledger> {
    let mut permissions = Ledger::open(&settings.data_dir, embedded.events.clone())?;
    permissions.adopt(policy, clock::now())?;
    Ok(permissions)
}

/// What the stores of this installation are opened with.
///
/// # Errors
/// If the directory does not tell whose records it holds, or the key cannot be used.
fn stores(settings: &Settings, data: &DataDir) -> anyhow::Result<EmbeddedConfig> {
    let records = &settings.records;
    let replica = match &records.replica {
        Some(replica) => replica.clone(),
        None => data.replica()?,
    };
    let key = Arc::new(data.audit_key()?);
    Ok(EmbeddedConfig {
        fsync: match records.fsync {
            Fsync::Always => embedded::Fsync::Always,
            Fsync::Interval(interval) => embedded::Fsync::Interval(interval),
        },
        layout: match records.layout {
            Layout::Segments => embedded::Layout::Segments,
            Layout::Objects => embedded::Layout::Objects,
        },
        segment_age: records.segment_age,
        bound: Bound {
            max_waiting: records.max_waiting_bytes,
            when_full: match records.when_full {
                WhenFull::Refuse => embedded::WhenFull::Refuse,
                WhenFull::Admit => embedded::WhenFull::Admit,
            },
        },
        destinations: onward::destinations(settings),
        ..EmbeddedConfig::new(&settings.data_dir, replica, key, clock::now)
    })
}

fn engine(settings: &Settings) -> EngineConfig {
    let (limits, deadlines) = (&settings.limits, &settings.deadlines);
    EngineConfig {
        max_connections: limits.connections,
        max_head_bytes: limits.head_bytes,
        max_target_bytes: limits.target_bytes,
        head_deadline: deadlines.head,
        client_idle: deadlines.client_idle,
        clear_text_http2: settings.clear_text_http2,
        max_streams: limits.streams_per_connection,
        drain_deadline: deadlines.hang_up,
        drain_bytes: limits.hang_up_bytes,
        answer_idle: deadlines.answer_idle,
        connect_deadline: deadlines.connect,
        tls_deadline: deadlines.tls,
        first_byte_deadline: deadlines.first_byte,
        upstream_idle: deadlines.upstream_idle,
        max_idle_per_upstream: limits.idle_connections_per_upstream,
        ..EngineConfig::default()
    }
}
