//! The gateway in the three ways it is measured, driven through its command line only.
//!
//! With everything on its policy has a task token, allowed models, a rate limit, caps by day, month and
//! task, a credential from the vault, records; all limits are too high to be reached. State lies in the
//! embedded stores, or in a Redis of its own. Bare, there is nothing to check, to count or to price:
//! the endpoint is a free one. What cannot be turned off stays: the task token, the credential put in
//! place of it, the record, the log line.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::target::{listening, until_listening};
use crate::children::{Cpu, Running};

const TENANT: &str = "acme";
const SECRET: &str = "sk-canary-0123456789abcdef0123456789abcdef0123456789abcdef";

/// How the gateway is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Bare,
    Embedded,
    Redis,
}

impl Variant {
    pub(super) const ALL: [Self; 3] = [Self::Bare, Self::Embedded, Self::Redis];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "tollgate-bare",
            Self::Embedded => "tollgate",
            Self::Redis => "tollgate-redis",
        }
    }

    pub(super) const fn about(self) -> &'static str {
        match self {
            Self::Bare => {
                "nothing to check, to count or to price; a task token, a record and a log line all the same"
            }
            Self::Embedded => "everything on, embedded stores",
            Self::Redis => "everything on, a Redis of its own on the same machine, leases",
        }
    }
}

/// Which program, and where it says what.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// File for its stderr.
    pub(super) log: Option<PathBuf>,
}

/// A gateway that is ready to be started: its policies, its vault, its Redis.
#[derive(Debug)]
pub(super) struct Tollgate {
    program: Program,
    variant: Variant,
    dir: PathBuf,
    mock: SocketAddr,
    /// Name of its data directory.
    data: String,
    redis: Option<(Running, SocketAddr)>,
    /// Whether it is to run under a tracer.
    traced: bool,
}

impl Tollgate {
    /// Writes the policies and puts the secret into the vault; starts a Redis if there is to be one.
    pub(super) fn prepare(
        program: &Program,
        variant: Variant,
        dir: &Path,
        mock: SocketAddr,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("policies/providers"))?;
        fs::create_dir_all(dir.join("policies/tenants"))?;
        let redis = match variant {
            Variant::Redis => Some(redis(dir)?),
            Variant::Bare | Variant::Embedded => None,
        };
        let mut tollgate = Self {
            program: program.clone(),
            variant,
            dir: dir.to_owned(),
            mock,
            data: String::new(),
            redis,
            traced: false,
        };
        tollgate.renew_data("data")?;
        Ok(tollgate)
    }

    /// Lets the next gateway run under a tracer, with data of its own.
    pub(super) fn prepare_traced(&mut self, name: &str) -> anyhow::Result<()> {
        self.traced = true;
        self.renew_data(name)
    }

    /// Lets the next gateway start with data of its own: nothing in it but the secret.
    fn renew_data(&mut self, name: &str) -> anyhow::Result<()> {
        name.clone_into(&mut self.data);
        let policies = self.dir.join("policies");
        let (operation, tenant) = match self.variant {
            Variant::Bare => ("free", BARE_TENANT_TOML),
            Variant::Embedded | Variant::Redis => ("chat_completions", TENANT_TOML),
        };
        fs::write(policies.join("gateway.toml"), self.gateway_toml()?)?;
        let provider = provider_toml(self.mock, operation);
        fs::write(policies.join("providers/openai.toml"), provider)?;
        fs::write(policies.join("tenants/acme.toml"), tenant)?;
        self.set_secret()
    }

    fn gateway_toml(&self) -> anyhow::Result<String> {
        let limits = if self.traced { TRACED_TOML } else { "" };
        let Some((_, redis)) = &self.redis else {
            return Ok(format!("{GATEWAY_TOML}{limits}"));
        };
        let shared = self.dir.join(format!("{}-shared", self.data));
        fs::create_dir_all(&shared)?;
        // Under a tracer or on a busy machine a round trip takes longer than any call should wait for it.
        Ok(format!(
            "{GATEWAY_TOML}{limits}\n[fleet]\nredis = \"single\"\nnodes = [\"{redis}\"]\nprefix = \"{}\"\nshared_dir = \"{}\"\n\
             max_wait_ms = 10000\n",
            self.data,
            shared.display()
        ))
    }

    fn set_secret(&self) -> anyhow::Result<()> {
        let secret = self.dir.join("secret");
        fs::write(&secret, SECRET)?;
        let mut set = self.command(&["secret", "set", "--tenant", TENANT, "--name", "openai_key"]);
        let output = set
            .stdin(fs::File::open(&secret)?)
            .output()
            .context("running the gateway's program")?;
        ensure!(
            output.status.success(),
            "secret set: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Starts the gateway, under a `tracer` if one is given.
    pub(super) fn start(&self, tracer: &[String]) -> anyhow::Result<(Running, SocketAddr)> {
        let mut command = match tracer.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.program.path);
                command
            }
            None => Command::new(&self.program.path),
        };
        self.environment(command.arg("serve"));
        let log = match &self.program.log {
            Some(path) => Stdio::from(fs::File::options().create(true).append(true).open(path)?),
            None => Stdio::null(),
        };
        let (running, ready) = Running::start_ready(self.variant.name(), command.stderr(log))
            .context("(--gateway-log FILE shows what it said)")?;
        Ok((running, listening(&ready)?))
    }

    /// A fresh task token from the running gateway.
    pub(super) fn mint(&self, task: &str) -> anyhow::Result<String> {
        let arguments = [
            "token", "mint", "--tenant", TENANT, "--agent", "bench", "--task", task, "--ttl", "300",
        ];
        let output = self.command(&arguments).output()?;
        ensure!(
            output.status.success(),
            "token mint: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// What its Redis has used, if it has one.
    pub(super) fn store_cpu(&self) -> anyhow::Result<Option<Cpu>> {
        self.redis
            .as_ref()
            .map(|(redis, _)| redis.cpu())
            .transpose()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program.path);
        self.environment(command.args(arguments));
        command
    }

    fn environment(&self, command: &mut Command) {
        command
            .env("TOLLGATE_POLICIES", self.dir.join("policies"))
            .env("TOLLGATE_DATA", self.dir.join(&self.data));
    }
}

/// A Redis that writes nothing to the disk.
fn redis(dir: &Path) -> anyhow::Result<(Running, SocketAddr)> {
    // Redis cannot tell a port it chose itself, so one is found and freed for it.
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &addr.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir)
        .stdout(Stdio::null());
    let mut running = Running::start("redis-server", &mut command)?;
    until_listening(&mut running, addr)?;
    Ok((running, addr))
}

/// One thread for calls, as nginx and haproxy have.
const GATEWAY_TOML: &str =
    "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nthreads = 1\n";

/// Under a tracer tasks wait as they do on a machine with far too much to do, and calls would be refused.
const TRACED_TOML: &str = "\n[limits]\nlag_ms = 60000\n";

fn provider_toml(mock: SocketAddr, operation: &str) -> String {
    format!(
        "[provider]
name = \"openai\"
upstream = \"http://{mock}\"
dialect = \"openai\"
prices = \"openai\"
insecure = true
place = {{ header = \"authorization\", prefix = \"Bearer \" }}

[[endpoint]]
method = \"POST\"
path = \"/v1/chat/completions\"
operation = \"{operation}\"
"
    )
}

const TENANT_TOML: &str = "[tenant]
id = \"acme\"

[caps]
daily_usd = \"1000000\"
monthly_usd = \"1000000\"
task_usd = \"1000000\"

[limits]
requests_per_minute = 1000000
burst = 1000000

[[allow]]
provider = \"openai\"
models = [\"gpt-4o*\"]

[credentials]
openai_key = { provider = \"openai\", default = true }

[agents.bench]
daily_usd = \"1000000\"
monthly_usd = \"1000000\"
requests_per_minute = 1000000
";

const BARE_TENANT_TOML: &str = "[tenant]
id = \"acme\"

[[allow]]
provider = \"openai\"

[credentials]
openai_key = { provider = \"openai\", default = true }

[agents.bench]
";
