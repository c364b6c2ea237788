//! One connection to Redis or Valkey, whatever form that takes, and a bound on every wait.
//!
//! Everything is sent as a script, so that a decision is one round trip and happens at once. Knows
//! what servers answer when they fail over, load, or are full; does not know what scripts decide.
//! Worst case: a call waits for [`RedisConfig::max_wait`] and is told that the store is away.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, ServerErrorKind,
    TlsCertificates, TlsMode, Value,
};
use tollgate_core::secret::Secret;

/// How often a cluster's client goes to another node before it gives up. The bound on the whole
/// wait usually ends it before.
const CLUSTER_RETRIES: u32 = 4;

/// Where the shared state lies.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// In which form.
    pub topology: Topology,
    /// `HOST:PORT` of the servers, the sentinels or some nodes of the cluster.
    pub nodes: Vec<(String, u16)>,
    /// The database; clusters have only 0.
    pub database: u32,
    /// Who logs in; `None` is Redis' `default` user.
    pub username: Option<String>,
    /// With what.
    pub password: Option<Secret>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// PEM file of the authorities that sign the servers' certificates; else the system's.
    pub ca_file: Option<PathBuf>,
    /// How many replicas must have a change before it counts. A failover then loses none.
    pub replicas: u32,
    /// How long a call waits for an answer.
    pub max_wait: Duration,
    /// What the names of all keys begin with.
    pub prefix: String,
}

/// The forms Redis comes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Topology {
    /// One server.
    Single,
    /// A primary that sentinels know under this name.
    Sentinel(String),
    /// A cluster.
    Cluster,
}

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The settings cannot be used.
    #[error("the settings for Redis cannot be used")]
    Config(#[source] RedisError),
    /// The file of authorities cannot be read.
    #[error("{} cannot be read", .0.display())]
    Authorities(PathBuf, #[source] std::io::Error),
    /// There is no connection; it is being made anew beside the calls.
    #[error("Redis cannot be reached")]
    Away,
    /// No answer came in time. What was asked may have been done.
    #[error("Redis did not answer within {0:?}")]
    Slow(Duration),
    /// Redis said no.
    #[error("Redis answered with an error")]
    Answer(#[source] RedisError),
    /// It was done, and too few replicas have it: a failover may lose it.
    #[error("{got} of {wanted} replicas have the change")]
    Unsafe {
        /// How many have it.
        got: u32,
        /// How many must.
        wanted: u32,
    },
    /// Redis would throw counters away when its memory is full.
    #[error(
        "Redis is set to maxmemory-policy {0}: counters could be evicted, so it must be noeviction"
    )]
    Evicts(String),
    /// Redis has forgotten something meanwhile.
    #[error("the shared store has forgotten something")]
    Forgotten,
    /// What must be remembered cannot be written down here.
    #[error("the data directory takes nothing")]
    Disk(#[source] std::io::Error),
    /// The answer is none that the script gives.
    #[error("the answer of a script is not understood")]
    Foreign,
}

/// A script, and the digest that servers know it by.
pub(super) struct Script {
    source: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    pub(super) const fn new(source: &'static str) -> Self {
        Self {
            source,
            digest: OnceLock::new(),
        }
    }

    fn digest(&self) -> &str {
        let digest = || redis::Script::new(self.source).get_hash().to_owned();
        self.digest.get_or_init(digest)
    }

    fn command(&self, by_digest: bool, keys: &[String], args: &[String]) -> Cmd {
        let mut command = if by_digest {
            let mut command = redis::cmd("EVALSHA");
            command.arg(self.digest());
            command
        } else {
            let mut command = redis::cmd("EVAL");
            command.arg(self.source);
            command
        };
        command.arg(keys.len());
        for key in keys {
            command.arg(key);
        }
        for arg in args {
            command.arg(arg);
        }
        command
    }
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

enum Source {
    Single(Box<Client>),
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

/// The connection, made anew by [`mend`](Self::mend) whenever it is lost.
pub(super) struct Link {
    source: Source,
    config: RedisConfig,
    connection: Mutex<Option<Connection>>,
}

impl Link {
    /// Connects to nothing yet.
    pub(super) fn new(config: RedisConfig) -> Result<Arc<Self>, LinkError> {
        let source = source(&config)?;
        Ok(Arc::new(Self {
            source,
            config,
            connection: Mutex::new(None),
        }))
    }

    pub(super) const fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// The name of a key whose slot is that of `tag`.
    pub(super) fn key(&self, tag: &str, rest: &str) -> String {
        format!("{}:{{{tag}}}:{rest}", self.config.prefix)
    }

    /// Makes a connection if there is none. For the task that looks after it; calls never wait for
    /// a connection.
    /// Says whether it is new.
    pub(super) async fn mend(&self, bound: Duration) -> Result<bool, LinkError> {
        if self.connection().is_some() {
            return Ok(false);
        }
        let made = tokio::time::timeout(bound, self.connect()).await;
        let made = made.map_err(|_elapsed| LinkError::Slow(bound))??;
        self.connection().replace(made);
        Ok(true)
    }

    /// Lets go of the connection: what lies behind it answers no more, or not as it should.
    pub(super) fn give_up(&self) {
        self.connection().take();
    }

    /// Runs `script`; with `kept`, returns only once enough replicas have what it changed.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
        kept: bool,
    ) -> Result<Vec<Value>, LinkError> {
        let bound = self.config.max_wait;
        self.run_within(bound, script, keys, args, kept).await
    }

    /// As [`run`](Self::run), for what may wait longer or shorter than a call.
    pub(super) async fn run_within(
        &self,
        bound: Duration,
        script: &Script,
        keys: &[String],
        args: &[String],
        kept: bool,
    ) -> Result<Vec<Value>, LinkError> {
        let connection = self.connection().clone().ok_or(LinkError::Away)?;
        let asked = self.ask(connection, script, keys, args, kept, bound);
        let answer = tokio::time::timeout(bound, asked).await;
        let answer = answer.map_err(|_elapsed| LinkError::Slow(bound))?;
        if let Err(LinkError::Answer(error)) = &answer
            && must_reconnect(error)
        {
            self.give_up();
        }
        answer
    }

    async fn ask(
        &self,
        connection: Connection,
        script: &Script,
        keys: &[String],
        args: &[String],
        kept: bool,
        bound: Duration,
    ) -> Result<Vec<Value>, LinkError> {
        let wanted = if kept { self.config.replicas } else { 0 };
        let mut by_digest = true;
        loop {
            let mut pipeline = Pipeline::with_capacity(2);
            pipeline.add_command(script.command(by_digest, keys, args));
            if wanted > 0 {
                let mut wait = redis::cmd("WAIT");
                wait.arg(wanted)
                    .arg(u64::try_from(bound.as_millis()).unwrap_or(u64::MAX));
                pipeline.add_command(wait);
            }
            let slot = keys.first().map_or("", String::as_str);
            let answers = send(connection.clone(), pipeline, slot).await;
            let answers = answers.and_then(|answers| {
                answers
                    .into_iter()
                    .map(Value::extract_error)
                    .collect::<Result<Vec<_>, _>>()
            });
            let mut answers = match answers {
                Ok(answers) => answers.into_iter(),
                // A server that has not seen it yet, such as one that has just been promoted.
                Err(error) if by_digest && is_unknown_script(&error) => {
                    by_digest = false;
                    continue;
                }
                Err(error) => return Err(LinkError::Answer(error)),
            };
            let answer = answers.next().ok_or(LinkError::Foreign)?;
            if wanted > 0 {
                let got = match answers.next() {
                    Some(Value::Int(got)) => u32::try_from(got).unwrap_or(0),
                    _ => 0,
                };
                if got < wanted {
                    return Err(LinkError::Unsafe { got, wanted });
                }
            }
            return match answer {
                Value::Array(values) => Ok(values),
                Value::Nil => Ok(Vec::new()),
                other => Ok(vec![other]),
            };
        }
    }

    async fn connect(&self) -> Result<Connection, LinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let connection = match &self.source {
            Source::Single(client) => client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map(Connection::One),
            Source::Sentinel(client) => {
                let mut client = client.lock().await;
                let made = client.get_async_connection_with_config(&config).await;
                made.map(Connection::One)
            }
            Source::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        };
        connection.map_err(LinkError::Answer)
    }

    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(
    connection: Connection,
    pipeline: Pipeline,
    slot: &str,
) -> Result<Vec<Value>, RedisError> {
    let count = pipeline.len();
    match connection {
        Connection::One(mut one) => one.req_packed_commands(&pipeline, 0, count).await,
        Connection::Cluster(mut cluster) => {
            // WAIT has no key: it must go where the script goes, on the same connection.
            let route = Route::with_key(slot, SlotAddr::Master);
            let node = SingleNodeRoutingInfo::SpecificNode(route);
            cluster.route_pipeline(pipeline, 0, count, node).await
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the server behind the connection is not, or no longer, the one that takes changes.
fn must_reconnect(error: &RedisError) -> bool {
    let turned_away = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
        ) | ErrorKind::ClusterConnectionNotFound
    );
    turned_away || error.is_connection_dropped() || error.is_io_error()
}

fn source(config: &RedisConfig) -> Result<Source, LinkError> {
    let certificates = match &config.ca_file {
        None => None,
        Some(file) => {
            let pem = std::fs::read(file);
            let pem = pem.map_err(|error| LinkError::Authorities(file.clone(), error))?;
            Some(TlsCertificates {
                client_tls: None,
                root_cert: Some(pem),
            })
        }
    };
    let made = match &config.topology {
        Topology::Single => {
            single(config, certificates).map(|client| Source::Single(Box::new(client)))
        }
        Topology::Sentinel(name) => sentinel(config, name, certificates)
            .map(|client| Source::Sentinel(Box::new(tokio::sync::Mutex::new(client)))),
        Topology::Cluster => {
            cluster(config, certificates).map(|client| Source::Cluster(Box::new(client)))
        }
    };
    made.map_err(LinkError::Config)
}

/// The servers to begin with, and how to log in there.
fn nodes(config: &RedisConfig) -> Result<Vec<ConnectionInfo>, RedisError> {
    let mut login = RedisConnectionInfo::default()
        .set_db(config.database.into())
        .set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &config.username {
        login = login.set_username(username);
    }
    if let Some(password) = password(config)? {
        login = login.set_password(password);
    }
    let node = |address: ConnectionAddr| {
        let info = address.into_connection_info()?;
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        Ok(info.set_redis_settings(login.clone()).set_tcp_settings(tcp))
    };
    addresses(config).into_iter().map(node).collect()
}

fn addresses(config: &RedisConfig) -> Vec<ConnectionAddr> {
    let address = |(host, port): &(String, u16)| {
        if config.tls {
            ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        }
    };
    config.nodes.iter().map(address).collect()
}

fn password(config: &RedisConfig) -> Result<Option<&str>, RedisError> {
    let text = config
        .password
        .as_ref()
        .map(|password| str::from_utf8(password.expose()));
    text.transpose().map_err(|_not_text| {
        RedisError::from((ErrorKind::InvalidClientConfig, "the password is not UTF-8"))
    })
}

fn single(
    config: &RedisConfig,
    certificates: Option<TlsCertificates>,
) -> Result<Client, RedisError> {
    let none = (ErrorKind::InvalidClientConfig, "there is no server");
    let node = nodes(config)?.into_iter().next().ok_or(none)?;
    match certificates {
        Some(certificates) => Client::build_with_tls(node, certificates),
        None => Client::open(node),
    }
}

fn sentinel(
    config: &RedisConfig,
    name: &str,
    certificates: Option<TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let mut builder =
        SentinelClientBuilder::new(addresses(config), name, SentinelServerType::Master)?
            .set_client_to_redis_db(config.database.into());
    if config.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(username) = &config.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = password(config)? {
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build()
}

fn cluster(
    config: &RedisConfig,
    certificates: Option<TlsCertificates>,
) -> Result<ClusterClient, RedisError> {
    let mut builder = ClusterClient::builder(nodes(config)?)
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(10)
        .max_retry_wait(100)
        .connection_timeout(config.max_wait)
        .response_timeout(config.max_wait)
        .overall_response_timeout(None);
    if config.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()
}
