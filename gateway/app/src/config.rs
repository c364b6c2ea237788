//! `gateway.toml`, environment and flags as finished settings.
//!
//! The only module that reads the environment. It knows nothing of the crates it serves: whoever
//! wires them takes what they need from [`Settings`]. Any mistake, wherever it stands, means no
//! settings at all, and all mistakes are told at once.

mod fleet;
pub(crate) mod files;
pub(crate) mod headers;
mod metrics;
mod otlp;
mod print;
mod read;
mod store;
#[cfg(test)]
mod tests;
mod traces;
mod vault;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_core::ids::ReplicaId;
use tollgate_core::policy::{Mistake, Upstream};
use tollgate_core::secret::Secret;

pub(crate) use fleet::FleetSettings;
pub(crate) use metrics::MetricsSettings;
pub(crate) use otlp::OtlpSettings;
pub(crate) use store::StoreSettings;
pub(crate) use traces::TracesSettings;
pub(crate) use vault::{AuthSettings, Kv2Settings, VaultSettings};

/// Where the policies are, if nothing says otherwise.
const DEFAULT_POLICIES: &str = "./policies";

/// Everything the operator may set about the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The directory of policy files; `gateway.toml` lies in it.
    pub(crate) policies_dir: PathBuf,
    /// The directory of keys, vault, journal, state and records.
    pub(crate) data_dir: PathBuf,
    /// Where clients connect. Port 0 lets the system choose.
    pub(crate) listen: Vec<SocketAddr>,
    /// TLS towards clients, on every address above.
    pub(crate) tls: Option<TlsFiles>,
    /// Whether HTTP/2 without TLS (prior knowledge) is spoken with clients.
    pub(crate) clear_text_http2: bool,
    /// Where operators, probes and metrics collectors connect.
    pub(crate) admin_listen: SocketAddr,
    /// Names in public DNS that browsers may call it by.
    pub(crate) admin_names: BTreeSet<String>,
    /// Threads that make calls; otherwise one for each processor.
    pub(crate) threads: Option<usize>,
    /// How long new calls are taken after it was told to end, while it says that it is not ready.
    pub(crate) unready: Duration,
    /// How long calls in flight may run on after a request to stop.
    pub(crate) drain: Duration,
    /// Prices that win over the built-in catalogue.
    pub(crate) prices_file: Option<PathBuf>,
    /// What task tokens must say.
    pub(crate) tokens: TokenSettings,
    /// How records are kept.
    pub(crate) records: RecordSettings,
    /// Where partitions are copied to, if anywhere.
    pub(crate) store: Option<StoreSettings>,
    /// Where records go as logs, if anywhere.
    pub(crate) otlp: Option<OtlpSettings>,
    /// Where spans of calls go, if anywhere.
    pub(crate) traces: Option<TracesSettings>,
    /// What metrics show, and to whom.
    pub(crate) metrics: MetricsSettings,
    /// Bounds on size and number.
    pub(crate) limits: LimitSettings,
    /// Bounds on time.
    pub(crate) deadlines: DeadlineSettings,
    /// Where secrets lie.
    pub(crate) vault: VaultSettings,
    /// Switches that give up a protection.
    pub(crate) insecure: InsecureSettings,
    /// Where notices of cap shares are sent, if anywhere.
    pub(crate) webhook: Option<WebhookSettings>,
    /// What is shared with other replicas, if there are any.
    pub(crate) fleet: Option<FleetSettings>,
}

impl Settings {
    /// Everybody who is spoken to by OTLP, by the table that names them.
    pub(crate) fn collectors(&self) -> impl Iterator<Item = (&'static str, &OtlpSettings)> {
        let traces = self.traces.iter();
        let traces = traces.map(|traces| ("traces", &traces.collector));
        let records = self.otlp.iter().map(|otlp| ("records.otlp", otlp));
        records.chain(traces)
    }

    /// Where keys and secrets lie: in a fleet, where all replicas have them.
    pub(crate) fn keys_dir(&self) -> &Path {
        let fleet = self.fleet.as_ref();
        fleet.map_or(&self.data_dir, |fleet| &fleet.shared_dir)
    }
}

/// PEM files of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Whether clients are asked for a certificate, and whose are believed.
    pub(crate) clients: Option<ClientAuthority>,
}

/// Who vouches for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientAuthority {
    /// PEM file of the authorities that sign client certificates.
    pub(crate) file: PathBuf,
    /// Whether a client without a certificate is turned away.
    pub(crate) required: bool,
}

/// What task tokens must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenSettings {
    /// The `iss` of tokens made here.
    pub(crate) issuer: String,
    /// The `aud` every token must have.
    pub(crate) audience: String,
    /// How far clocks may disagree.
    pub(crate) clock_skew: Duration,
}

/// How records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordSettings {
    /// Whose chains this gateway writes, if the data directory is not to say it.
    pub(crate) replica: Option<ReplicaId>,
    /// When the journal reaches the disk.
    pub(crate) fsync: Fsync,
    /// How many records share a file.
    pub(crate) layout: Layout,
    /// How long a record may lie in a segment that is not sealed.
    pub(crate) segment_age: Duration,
    /// How much may wait for the object store.
    pub(crate) max_waiting_bytes: u64,
    /// What happens beyond that.
    pub(crate) when_full: WhenFull,
}

/// When the journal reaches the disk. Either way it survives the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// Before each call goes out: survives a power cut whole.
    Always,
    /// At this interval: a power cut loses at most that much.
    Interval(Duration),
}

/// What happens when too much waits for the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Calls are refused.
    Refuse,
    /// Calls go on, as long as the disk takes their records.
    Admit,
}

/// How many records share a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Many, appended line by line.
    Segments,
    /// Each has its own.
    Objects,
}

/// Bounds on size and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitSettings {
    /// Calls in flight at one time; if absent, as many as there are files for.
    pub(crate) calls_in_flight: Option<usize>,
    /// Wait for a thread from which calls are turned away; zero for never.
    pub(crate) lag: Duration,
    /// Client connections at one time.
    pub(crate) connections: usize,
    /// HTTP/2 streams at one time on one connection.
    pub(crate) streams_per_connection: u32,
    /// Longest request head.
    pub(crate) head_bytes: usize,
    /// Longest request target.
    pub(crate) target_bytes: usize,
    /// Longest body that is read whole before it is judged.
    pub(crate) inspected_body_bytes: u64,
    /// Longest body that is streamed through.
    pub(crate) streamed_body_bytes: u64,
    /// Memory that all bodies read whole may take together.
    pub(crate) body_memory_bytes: u64,
    /// Bytes of an answer read on after its client has gone, so that usage is exact.
    pub(crate) hang_up_bytes: u64,
    /// Unused connections kept for each upstream.
    pub(crate) idle_connections_per_upstream: usize,
}

/// Bounds on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeadlineSettings {
    /// From the first byte of a request's head to its last.
    pub(crate) head: Duration,
    /// For a body that is read whole to arrive.
    pub(crate) body: Duration,
    /// A client connection without a request.
    pub(crate) client_idle: Duration,
    /// To find and reach an upstream.
    pub(crate) connect: Duration,
    /// For the TLS handshake with an upstream.
    pub(crate) tls: Duration,
    /// From sending a request to the head of its answer.
    pub(crate) first_byte: Duration,
    /// Between two pieces of an answer.
    pub(crate) answer_idle: Duration,
    /// Reading an answer on after its client has gone.
    pub(crate) hang_up: Duration,
    /// An unused connection to an upstream.
    pub(crate) upstream_idle: Duration,
}

/// Where notices of cap shares are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookSettings {
    /// The receiver.
    pub(crate) url: String,
    /// The same, taken apart.
    pub(crate) upstream: Upstream,
    /// The file of the signing secret.
    pub(crate) secret_file: PathBuf,
}

/// Switches that give up a protection; all are off unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct InsecureSettings {
    /// Lets the admin listener, which speaks plain HTTP, be reached from other machines.
    pub(crate) admin_beyond_loopback: bool,
    /// Lets notices go to an `http://` URL.
    pub(crate) plain_http_webhook: bool,
    /// Lets the vault server be an `http://` URL.
    pub(crate) plain_http_vault: bool,
    /// Lets the record store's endpoint be an `http://` URL.
    pub(crate) plain_http_record_store: bool,
    /// Lets a collector's endpoint be an `http://` URL.
    pub(crate) plain_http_otlp: bool,
    /// Lets Redis be spoken to without TLS beyond this machine.
    pub(crate) plain_redis: bool,
    /// Lets secrets lie in the environment.
    pub(crate) environment_vault: bool,
}

/// The environment, as far as settings read it.
pub(crate) trait Vars {
    /// The value of a variable, if it is set and not empty.
    fn var(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessVars;

impl Vars for ProcessVars {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var_os(name)
            .map(|value| value.to_string_lossy().into_owned())
            .filter(|value| !value.is_empty())
    }
}

/// The variables in which secrets may lie, as they are now.
pub(crate) fn secret_variables() -> HashMap<String, Secret> {
    let all = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let value = Secret::new(value.into_vec());
        name.starts_with("TOLLGATE_SECRET_")
            .then_some((name, value))
    });
    all.collect()
}

/// The variables in which the providers' own tools find credentials for object stores.
pub(crate) fn store_variables() -> Vec<(String, String)> {
    let all = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        let of_a_store = ["AWS_", "GOOGLE_", "AZURE_"];
        let wanted = of_a_store.iter().any(|prefix| name.starts_with(prefix));
        (wanted && !value.is_empty()).then_some((name, value))
    });
    all.collect()
}

/// Directories given on the command line; they win over environment and file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directories {
    pub(crate) policies: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
}

/// The settings in force: built-in defaults, then `gateway.toml` if there is one, then the
/// environment (`TOLLGATE_LISTEN`, `TOLLGATE_ADMIN_LISTEN`, `TOLLGATE_DATA`,
/// `TOLLGATE_POLICIES`), then the command line.
///
/// # Errors
/// Every mistake found.
pub(crate) fn load(given: &Directories, vars: &dyn Vars) -> Result<Settings, Vec<Mistake>> {
    let policies = policies_dir(given, vars);
    let file = policies.join("gateway.toml");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(vec![Mistake {
                file: file.display().to_string(),
                line: 1,
                column: 1,
                message: format!("the file cannot be read: {error}"),
            }]);
        }
    };
    read::settings(&file.display().to_string(), &text, given, vars)
}

/// Where the policies are: flag, environment, default.
pub(crate) fn policies_dir(given: &Directories, vars: &dyn Vars) -> PathBuf {
    given
        .policies
        .clone()
        .or_else(|| vars.var("TOLLGATE_POLICIES").map(PathBuf::from))
        .unwrap_or_else(|| Path::new(DEFAULT_POLICIES).to_owned())
}
