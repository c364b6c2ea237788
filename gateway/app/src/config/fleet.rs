//! `[fleet]`: what this gateway shares with other replicas, and in which Redis or Valkey.
//!
//! Keys and secrets of the fleet are not settings; they lie in `shared_dir`, which all replicas
//! see, and Redis' password in a file of its own.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tollgate_core::policy::reader::{self, Read, Section};
use tollgate_core::secret::Secret;
use tollgate_stores::redis::{RedisConfig, Topology};
use toml::de::DeValue;

use super::InsecureSettings;
use super::print::{escaped, quoted};
use super::read::path;

/// A gateway's part in a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FleetSettings {
    /// The form that Redis comes in.
    pub(crate) topology: Topology,
    /// `HOST:PORT` of the servers, sentinels or nodes.
    pub(crate) nodes: Vec<(String, u16)>,
    pub(crate) database: u32,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<PathBuf>,
    /// How many of Redis' replicas must have a change before it counts.
    pub(crate) wait_replicas: u32,
    /// How long a call waits for Redis.
    pub(crate) max_wait: Duration,
    /// What the names of all keys begin with.
    pub(crate) prefix: String,
    /// Whether slices are taken beforehand.
    pub(crate) leases: bool,
    /// After how long a replica that is not heard of counts as gone.
    pub(crate) lease: Duration,
    /// Where keys and secrets lie that all replicas have.
    pub(crate) shared_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    Sentinel,
    Cluster,
}

const FORMS: &[(&str, Form)] = &[
    ("single", Form::Single),
    ("sentinel", Form::Sentinel),
    ("cluster", Form::Cluster),
];
/// What a call may wait for Redis unless the settings say otherwise.
const USUAL_WAIT_MS: u64 = 250;
/// What replicas are given to be heard of again.
const USUAL_LEASE_SECONDS: u64 = 15;
const USUAL_PREFIX: &str = "tollgate";

impl FleetSettings {
    /// Reads `[fleet]`. What is wrong with it is noted.
    pub(super) fn read(
        section: &Section<'_>,
        dir: &Path,
        insecure: InsecureSettings,
    ) -> Option<Self> {
        let form = section.required("redis", reader::one_of(FORMS));
        let nodes = section.required("nodes", nodes);
        let master = section.optional("master", reader::text);
        let database = section.optional("database", reader::integer(0..=1_000));
        let username = section.optional("username", reader::text);
        let password_file = section.optional("password_file", path);
        let tls = section.optional("tls", reader::boolean).unwrap_or(false);
        let ca_file = section.optional("ca_file", path);
        let wait_replicas = section.optional("wait_replicas", reader::integer(0..=10));
        let max_wait = section.optional("max_wait_ms", reader::integer(10..=10_000));
        let prefix = section.optional("prefix", prefix);
        let leases = section.optional("leases", reader::boolean);
        let lease = section.optional("lease_seconds", reader::integer(5..=3_600));
        let shared_dir = section.required("shared_dir", path);
        let (form, nodes) = (form?, nodes?);
        if section.has("master") && form != Form::Sentinel {
            let why = "`master` goes with redis = \"sentinel\" only";
            section.mistake(section.at("master"), why);
        }
        if section.has("database") && form == Form::Cluster {
            let why = "a cluster has database 0 only";
            section.mistake(section.at("database"), why);
        }
        if section.has("ca_file") && !tls {
            section.mistake(section.at("ca_file"), "`ca_file` goes with tls = true");
        }
        if !tls && !insecure.plain_redis && !nodes.iter().all(|(host, _)| is_loopback(host)) {
            section.mistake(
                section.at("nodes"),
                "passwords and tokens could be read on the way: set `tls = true`, or `plain_redis = true` in [insecure]",
            );
        }
        let topology = match form {
            Form::Single => Topology::Single,
            Form::Cluster => Topology::Cluster,
            Form::Sentinel => Topology::Sentinel(master.or_else(|| {
                let why =
                    "redis = \"sentinel\" needs `master`, the name that the sentinels know it by";
                section.mistake(section.at("redis"), why);
                None
            })?),
        };
        let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
        Some(Self {
            topology,
            nodes,
            database: small(database).unwrap_or(0),
            username,
            password_file: password_file.map(|file| dir.join(file)),
            tls,
            ca_file: ca_file.map(|file| dir.join(file)),
            wait_replicas: small(wait_replicas).unwrap_or(0),
            max_wait: Duration::from_millis(max_wait.unwrap_or(USUAL_WAIT_MS)),
            prefix: prefix.unwrap_or_else(|| USUAL_PREFIX.to_owned()),
            leases: leases.unwrap_or(true),
            lease: Duration::from_secs(lease.unwrap_or(USUAL_LEASE_SECONDS)),
            shared_dir: dir.join(shared_dir?),
        })
    }

    /// How to reach Redis, with the password read from its file.
    ///
    /// # Errors
    /// If that file cannot be read.
    pub(crate) fn redis(&self) -> anyhow::Result<RedisConfig> {
        let password = self.password_file.as_deref().map(password);
        Ok(RedisConfig {
            topology: self.topology.clone(),
            nodes: self.nodes.clone(),
            database: self.database,
            username: self.username.clone(),
            password: password.transpose()?,
            tls: self.tls,
            ca_file: self.ca_file.clone(),
            replicas: self.wait_replicas,
            max_wait: self.max_wait,
            prefix: self.prefix.clone(),
        })
    }

    fn form(&self) -> &'static str {
        match self.topology {
            Topology::Single => "single",
            Topology::Sentinel(_) => "sentinel",
            Topology::Cluster => "cluster",
        }
    }
}

fn password(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).map(zeroize::Zeroizing::new);
    let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(Secret::new(text.trim().as_bytes().to_vec()))
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn nodes(value: &DeValue<'_>) -> Read<Vec<(String, u16)>> {
    let form = "expected an array of \"HOST:PORT\"";
    let DeValue::Array(items) = value else {
        return Err(form.to_owned());
    };
    let node = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    };
    let read: Option<Vec<_>> = items
        .iter()
        .map(|item| item.get_ref().as_str().and_then(node))
        .collect();
    read.filter(|nodes| !nodes.is_empty())
        .ok_or_else(|| form.to_owned())
}

fn prefix(value: &DeValue<'_>) -> Read<String> {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match value.as_str() {
        Some(text) if (1..=64).contains(&text.len()) && text.bytes().all(named) => {
            Ok(text.to_owned())
        }
        _ => Err("expected 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'".to_owned()),
    }
}

impl fmt::Display for FleetSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[fleet]\nredis = \"{}\"", self.form())?;
        let node = |(host, port): &(String, u16)| {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            escaped(&format!("{host}:{port}"))
        };
        let nodes: Vec<String> = self.nodes.iter().map(node).collect();
        writeln!(f, "nodes = [{}]", nodes.join(", "))?;
        if let Topology::Sentinel(master) = &self.topology {
            writeln!(f, "master = {}", escaped(master))?;
        }
        if self.topology != Topology::Cluster {
            writeln!(f, "database = {}", self.database)?;
        }
        if let Some(username) = &self.username {
            writeln!(f, "username = {}", escaped(username))?;
        }
        if let Some(file) = &self.password_file {
            writeln!(f, "password_file = {}", quoted(file))?;
        }
        writeln!(f, "tls = {}", self.tls)?;
        if let Some(file) = &self.ca_file {
            writeln!(f, "ca_file = {}", quoted(file))?;
        }
        writeln!(f, "wait_replicas = {}", self.wait_replicas)?;
        writeln!(f, "max_wait_ms = {}", self.max_wait.as_millis())?;
        writeln!(f, "prefix = {}", escaped(&self.prefix))?;
        writeln!(f, "leases = {}", self.leases)?;
        writeln!(f, "lease_seconds = {}", self.lease.as_secs())?;
        writeln!(f, "shared_dir = {}", quoted(&self.shared_dir))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::settings;

    #[test]
    fn a_fleet_reads_back_as_it_prints() {
        for text in [
            "[fleet]\nredis = \"single\"\nnodes = [\"127.0.0.1:6379\"]\nshared_dir = \"/keys\"",
            "[insecure]\nplain_redis = true\n[fleet]\nredis = \"sentinel\"\nnodes = [\"a:1\", \"[::1]:2\"]\nmaster = \"m\"\nshared_dir = \"/keys\"\nleases = false",
            "[fleet]\nredis = \"cluster\"\nnodes = [\"a:1\"]\ntls = true\nca_file = \"ca.pem\"\nusername = \"tollgate\"\npassword_file = \"password\"\nwait_replicas = 1\nmax_wait_ms = 100\nprefix = \"eu\"\nlease_seconds = 30\nshared_dir = \"/keys\"",
        ] {
            let read = settings(text, &[]).expect(text);
            let again = settings(&read.to_string(), &[]).expect(text);
            let files = |mut fleet: super::FleetSettings| {
                // Relative names are those beside the policies.
                fleet.ca_file = fleet
                    .ca_file
                    .map(|file| file.file_name().into_iter().collect());
                fleet.password_file = None;
                fleet
            };
            assert_eq!(again.fleet.map(files), read.fleet.map(files), "{text}");
        }
    }

    #[test]
    fn each_mistake_in_a_fleet_is_told() {
        let usual = "shared_dir = \"/keys\"\n";
        for (text, told) in [
            ("redis = \"single\"\nnodes = []", "HOST:PORT"),
            ("redis = \"single\"\nnodes = [\"a\"]", "HOST:PORT"),
            (
                "redis = \"single\"\nnodes = [\"10.0.0.1:1\"]",
                "plain_redis",
            ),
            (
                "redis = \"sentinel\"\nnodes = [\"127.0.0.1:1\"]",
                "`master`",
            ),
            (
                "redis = \"cluster\"\nnodes = [\"127.0.0.1:1\"]\nmaster = \"m\"",
                "`master`",
            ),
            (
                "redis = \"cluster\"\nnodes = [\"127.0.0.1:1\"]\ndatabase = 1",
                "database",
            ),
            (
                "redis = \"single\"\nnodes = [\"127.0.0.1:1\"]\nca_file = \"ca\"",
                "`ca_file`",
            ),
            (
                "redis = \"single\"\nnodes = [\"127.0.0.1:1\"]\nprefix = \"{x}\"",
                "expected 1 to 64",
            ),
            ("nodes = [\"127.0.0.1:1\"]", "redis"),
        ] {
            let error = settings(&format!("[fleet]\n{usual}{text}"), &[]).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
        let lacking = "[fleet]\nredis = \"single\"\nnodes = [\"127.0.0.1:1\"]";
        let error = settings(lacking, &[]).expect_err(lacking);
        assert!(error.contains("shared_dir"), "{error}");
    }
}
