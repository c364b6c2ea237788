//! `tollgate sidecar`: a loopback relay that stands beside an agent and brings its task token.
//!
//! ```text
//!  SDK ──http, no key──► sidecar ──the same bytes + x-tollgate-token──► gateway
//!                          └─ keeper: exchanges and renews the token before it ends
//! ```
//! The agent's SDK is pointed at the sidecar and left unmodified; where it wants a key it has a
//! handle. The sidecar decides nothing and holds no provider key: who calls, what is allowed and
//! what it costs is the gateway's business. Worst case: no token can be had, and every call is
//! answered with 503 within [`keeper::PATIENCE`] until one can.

mod desk;
mod keeper;
mod link;
mod probe;
mod relay;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tollgate_core::ids::TaskId;
use tracing::{info, warn};

use crate::config::Vars;
use crate::logging::{self, LogFormat};
use crate::output;
use desk::{GatewayDesk, Source};
use keeper::Tokens;
use link::{GatewayUrl, Identity, LinkConfig};
use relay::Relay;

/// Where Kubernetes projects the service account's token in the example of `docs/sidecar.md`.
const PROJECTED_TOKEN: &str = "/var/run/secrets/tokens/tollgate";

/// How the sidecar is called.
#[derive(Debug, Args)]
pub(crate) struct Sidecar {
    /// The gateway's origin, like https://tollgate.example:8443 [default: TOLLGATE_GATEWAY]
    #[arg(long, value_name = "URL")]
    gateway: Option<GatewayUrl>,
    /// Where SDKs connect; a loopback address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Listen also where other machines can connect and spend in this agent's name
    #[arg(long)]
    insecure_beyond_loopback: bool,
    /// The service account's token to exchange, read anew each time
    #[arg(long, value_name = "FILE", default_value = PROJECTED_TOKEN)]
    subject_token_file: PathBuf,
    /// A live task token to start from instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject_token_file", "task"])]
    token_file: Option<PathBuf>,
    /// The task that calls are made for; otherwise the gateway names one
    #[arg(long, value_name = "NAME")]
    task: Option<TaskId>,
    /// Trust these authorities for the gateway's certificate, and no others
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show to the gateway
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// How long calls in flight get to finish when told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_seconds: u64,
    /// Ask the sidecar that listens at --listen whether it is ready, and end with 0 if it is
    #[arg(long)]
    probe: bool,
    /// What log lines on standard error look like
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// A command line that makes no sense as a whole.
pub(crate) type Nonsense = String;

/// What the sidecar was told, in finished types.
#[derive(Debug)]
pub(crate) struct Config {
    listen: SocketAddr,
    any_host: bool,
    source: Source,
    link: LinkConfig,
    drain: Duration,
    log_format: LogFormat,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Ask a running sidecar how it is.
    Probe(SocketAddr),
    /// Be one.
    Serve(Box<Config>),
}

impl Sidecar {
    /// Reads the command line as a whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn wanted(self, vars: &dyn Vars) -> Result<Wanted, Nonsense> {
        if self.probe {
            return Ok(Wanted::Probe(self.listen));
        }
        let gateway = match self.gateway {
            Some(gateway) => gateway,
            None => match vars.var("TOLLGATE_GATEWAY") {
                Some(text) => text.parse()?,
                None => return Err("--gateway or TOLLGATE_GATEWAY has to say where to".to_owned()),
            },
        };
        if !self.listen.ip().is_loopback() && !self.insecure_beyond_loopback {
            return Err(format!(
                "whoever reaches {} calls in this agent's name; listen on 127.0.0.1, or say \
                 --insecure-beyond-loopback",
                self.listen
            ));
        }
        if !gateway.tls && (self.ca.is_some() || self.certificate.is_some()) {
            return Err("certificates need a gateway at https://".to_owned());
        }
        Ok(Wanted::Serve(Box::new(Config {
            listen: self.listen,
            any_host: !self.listen.ip().is_loopback(),
            source: match self.token_file {
                Some(file) => Source::TaskToken(file),
                None => Source::SubjectToken {
                    file: self.subject_token_file,
                    task: self.task,
                },
            },
            link: LinkConfig {
                gateway,
                ca: self.ca,
                identity: self
                    .certificate
                    .zip(self.key)
                    .map(|(certificate, key)| Identity { certificate, key }),
            },
            drain: Duration::from_secs(self.drain_seconds),
            log_format: self.log_format,
        })))
    }
}

impl Wanted {
    /// Does it.
    ///
    /// # Errors
    /// If the sidecar cannot start, or is not ready.
    pub(crate) fn run(self, vars: &dyn Vars) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("tollgate-sidecar")
            .enable_all()
            .build()?;
        match self {
            Self::Probe(at) => runtime.block_on(probe::probe(at)),
            Self::Serve(config) => {
                let _log = logging::start(config.log_format, vars)?;
                let served = runtime.block_on(serve(*config));
                // Calls that are left were cut by the end of the time to drain.
                runtime.shutdown_background();
                served
            }
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // What the command line names must be readable once; later it may be missing for a while.
    let files = config.link.read()?;
    link::Link::new(&config.link, &files)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", config.listen))?;
    let listening = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tokens = Arc::new(Tokens::default());
    let desk = GatewayDesk::new(config.link, config.source);
    let keeping = tokio::spawn(keeper::keep(desk, Arc::clone(&tokens)));
    let relay = Arc::new(Relay::new(Arc::clone(&tokens), config.any_host));
    let (stop, stopped) = watch::channel(false);
    let mut relaying = tokio::spawn(relay::serve(listener, relay, stopped));
    info!(%listening, "listening; waiting for a task token");

    let announced = async {
        tokens.first().await;
        output::data(&format!("{}\n", json!({ "listening": listening })))?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let reason = tokio::select! {
        broken = announced => return broken,
        _received = terminate.recv() => "SIGTERM",
        _received = interrupt.recv() => "SIGINT",
        _ended = &mut relaying => anyhow::bail!("the listener ended by itself"),
    };
    info!(reason, "stopping; calls in flight may finish");
    stop.send_replace(true);
    tokio::select! {
        _ended = &mut relaying => info!("every call has ended"),
        () = tokio::time::sleep(config.drain) => warn!("calls are cut: the time to drain is over"),
        _received = terminate.recv() => warn!("calls are cut: told to stop twice"),
        _received = interrupt.recv() => warn!("calls are cut: told to stop twice"),
    }
    keeping.abort();
    Ok(())
}

#[cfg(test)]
mod tests;
