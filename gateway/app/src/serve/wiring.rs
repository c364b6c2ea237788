//! Settings to running parts, each made from finished values of the one before.
//!
//! The only place that knows every crate's configuration; it decides nothing but what goes where.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use prometheus::Registry;
use tollgate_admin::audit_key::Signer;
use tollgate_core::identity::{KeySet, Mint};
use tollgate_core::issue::TokenDesk;
use tollgate_core::policy::Policy;
use tollgate_proxy::authenticate::{Keys, Standings};
use tollgate_proxy::collect::MemoryBudget;
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::gateway::{CallLimits, Gateway, Stores};
use tollgate_proxy::listener::{
    ClientAuthority, ListenerConfig, Listening, TlsFiles, check, listen,
};
use tollgate_proxy::live::{Live, Snapshot};
use tollgate_proxy::metrics::Metrics;
use tollgate_proxy::notices::{CapMarks, Webhook};
use tollgate_proxy::oauth::TokenExchanges;
use tollgate_proxy::obtain::Obtainer;
use tollgate_proxy::pool::Upstreams;
use tollgate_proxy::pressure::{Pressure, PressureLimits};
use tollgate_proxy::sealed::SealedTokens;
use tollgate_proxy::statement::Statements;
use tollgate_proxy::tracker::Tracker;
use tollgate_stores::embedded::{self, Bound, Embedded, EmbeddedConfig};
use tracing::{info, warn};

use super::usage::OwnUsage;
use super::{leave, onward};
use crate::config::{Fsync, Layout, Settings, WhenFull};
use crate::data_dir::DataDir;
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
    /// The policy files, to be watched.
    pub(super) watched: Unwatched<Watched>,
    /// Which elevated permissions were adopted; goes with the policy files.
    pub(super) permissions: Unwatched<Ledger>,
    /// The price files, to be watched.
    pub(super) priced: Unwatched<PriceWatch>,
    /// What signs the chains of records.
    pub(super) signer: Signer,
    /// Where keys are.
    pub(super) data: DataDir,
    /// All metrics.
    pub(super) registry: Registry,
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

/// Makes everything. Reads back the journal of the last run, so calls it cut are settled when
/// this returns.
///
/// # Errors
/// If a file, key, policy or store cannot be used.
pub(super) fn wire(settings: &Settings) -> anyhow::Result<Wired> {
    let data = DataDir::prepare(&settings.data_dir)?;
    if data.is_open_to_others() {
        let dir = data.path().display();
        warn!(%dir, "others than its owner can enter the data directory; it should be 0700");
    }
    let opened = Watched::open(&settings.policies_dir);
    let (policy, watched) = opened.map_err(|mistakes| tenant::listed(&mistakes))?;
    let (prices, priced) = PriceWatch::open(PriceFiles::of(settings))?;
    let stored = stores(settings, &data)?;
    let embedded = open(&stored)?;
    info!(
        policy = %policy.version,
        prices = %prices.version(),
        providers = policy.providers.len(),
        tenants = policy.tenants.len(),
        "loaded"
    );
    let permissions = permissions(settings, &embedded, &policy)?;
    let registry = Registry::new();
    let desk = Arc::new(TokenDesk {
        mint: mint(settings, &data)?,
        registry: embedded.registry.clone(),
    });
    let keys = Keys::new(keys(settings, &desk));
    let engine = Arc::new(engine(settings));
    let vault = vault::open(settings, data.path(), &policy)?;
    let gateway = Arc::new(Gateway {
        live: Live::new(Snapshot {
            policy,
            prices: Arc::new(prices),
            keys: Arc::new(keys),
        }),
        stores: Stores {
            budgets: embedded.budgets.clone(),
            rates: embedded.rates.clone(),
            registry: embedded.registry.clone(),
            records: embedded.records.clone(),
            deferred: embedded.deferred.clone(),
            vault,
        },
        standings: Standings::default(),
        upstreams: Upstreams::new(Arc::clone(&engine)),
        obtainer: Obtainer::default(),
        sealed: SealedTokens::default(),
        limits: call_limits(settings),
        pressure: Pressure::new(pressure_limits(settings)),
        memory: MemoryBudget::new(settings.limits.body_memory_bytes),
        metrics: Metrics::new(&registry)?,
        caps: CapMarks::default(),
        token_exchanges: TokenExchanges::default(),
        statements: Statements::of(Arc::new(OwnUsage(settings.data_dir.clone()))),
        tracker: Tracker::new(engine.max_detached),
        engine,
        desk,
        clock: clock::now,
    });
    Ok(Wired {
        gateway,
        embedded: Arc::new(embedded),
        watched: Unwatched::new(watched),
        permissions: Unwatched::new(permissions),
        priced: Unwatched::new(priced),
        signer: signer(&stored),
        data,
        registry,
    })
}

/// Opens the stores, and tells what the last run has left in them.
///
/// # Errors
/// If they cannot be opened.
fn open(stored: &EmbeddedConfig) -> anyhow::Result<Embedded> {
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

/// The sockets that calls come in by.
///
/// # Errors
/// If an address or certificate cannot be used.
pub(super) fn listener(
    settings: &Settings,
    gateway: &Arc<Gateway>,
) -> anyhow::Result<Listening<Gateway>> {
    for &address in settings.listen.iter().filter(|address| address.port() != 0) {
        check(address)?;
    }
    let config = ListenerConfig {
        addresses: settings.listen.clone(),
        tls: settings.tls.as_ref().map(|tls| TlsFiles {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            clients: tls.clients.as_ref().map(|clients| ClientAuthority {
                authorities: clients.file.clone(),
                required: clients.required,
            }),
        }),
    };
    let engine = Arc::clone(&gateway.engine);
    let tracker = gateway.tracker.clone();
    Ok(listen(&config, Arc::clone(gateway), engine, tracker)?)
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
