//! A gateway with any number of tenants before a quick mock, each a process of its own.
//!
//! Keys lie in mounted files, as a platform's orchestrator leaves them. The gateway may be given
//! part of the processors for itself, so that the load does not take from what is measured.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Common;
use super::caller::{Call, Caller};
use super::crowd::Shot;
use crate::children::Running;

/// The provider: this program once more, with prepared answers.
pub(crate) struct Provider {
    _running: Running,
    pub(crate) addr: SocketAddr,
}

impl Provider {
    /// One that takes `pause` for each answer.
    pub(crate) fn start(pause: Duration) -> anyhow::Result<Self> {
        Self::start_with(&["--answer-pause-ms", &pause.as_millis().to_string()])
    }

    /// One whose prepared answers are told by arguments of `loadtest mock`.
    pub(crate) fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["mock", "--bench"]).args(arguments);
        let (running, ready) = Running::start_ready("the mock", &mut command)?;
        Ok(Self {
            _running: running,
            addr: address(&ready, "listening")?,
        })
    }
}

/// Directories of a gateway with its tenants `t00000`, `t00001` …
pub(crate) struct Estate {
    common: Common,
    directory: TempDir,
}

/// A gateway that serves an estate.
pub(crate) struct Serving {
    pub(crate) running: Running,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    admin_token: String,
    /// From its start to its ready line.
    pub(crate) took: Duration,
}

impl Estate {
    /// Writes the policies of so many tenants, and `settings` beside the addresses.
    pub(crate) fn write(
        common: &Common,
        provider: &Provider,
        tenants: usize,
        settings: &str,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tollgate-estate-")
            .tempdir()?;
        let estate = Self {
            common: common.clone(),
            directory,
        };
        let policies = estate.path("policies");
        for part in ["providers", "tenants"] {
            fs::create_dir_all(policies.join(part))?;
        }
        let vault = estate.path("secrets");
        fs::write(
            policies.join("gateway.toml"),
            format!(
                "{ADDRESSES}{settings}\n[vault]\nbackend = \"mounted\"\ndirectory = \"{}\"\n",
                vault.display()
            ),
        )?;
        let text = PROVIDER.replace("{MOCK}", &provider.addr.to_string());
        fs::write(policies.join("providers/openai.toml"), text)?;
        for number in 0..tenants {
            let id = tenant(number);
            estate.write_tenant(number, "1000000")?;
            fs::create_dir_all(vault.join(&id))?;
            let key = format!("sk-canary-{id}-0123456789abcdef0123456789abcdef");
            fs::write(vault.join(&id).join("openai_key"), key)?;
        }
        Ok(estate)
    }

    /// Writes one tenant's file, with this cap.
    pub(crate) fn write_tenant(&self, number: usize, daily_usd: &str) -> anyhow::Result<()> {
        let id = tenant(number);
        let text = TENANT.replace("{ID}", &id).replace("{DAILY}", daily_usd);
        let half = self.path("half-written");
        fs::write(&half, text)?;
        fs::rename(half, self.path(&format!("policies/tenants/{id}.toml")))?;
        Ok(())
    }

    /// Writes any file of it, before a gateway reads it.
    pub(crate) fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Where one of its files is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a gateway, on what the last one has left.
    pub(crate) fn serve(&self) -> anyhow::Result<Serving> {
        self.serve_under(&[])
    }

    /// The same under a `tracer`, if one is given.
    pub(crate) fn serve_under(&self, tracer: &[String]) -> anyhow::Result<Serving> {
        let log = match &self.common.gateway_log {
            Some(path) => Stdio::from(fs::File::options().create(true).append(true).open(path)?),
            None => Stdio::null(),
        };
        let mut command = match tracer.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.common.gateway);
                command
            }
            None => Command::new(&self.common.gateway),
        };
        command
            .arg("serve")
            .env("TOLLGATE_POLICIES", self.path("policies"))
            .env("TOLLGATE_DATA", self.path("data"))
            .stderr(log);
        let start = Instant::now();
        let (running, ready) = Running::start_ready("the gateway", &mut command)
            .context("(--gateway-log FILE shows what it said)")?;
        let took = start.elapsed();
        let admin_token = fs::read_to_string(self.path("data/keys/admin.token"))?;
        Ok(Serving {
            running,
            addr: address(&ready, "listening")?,
            admin: address(&ready, "admin")?,
            admin_token: admin_token.trim().to_owned(),
            took,
        })
    }
}

impl Serving {
    /// The request for a task token.
    pub(crate) fn mint_request(&self, tenant_number: usize, task: &str) -> Call {
        let asked = json!({
            "tenant": tenant(tenant_number), "agent": "bot", "task": task, "ttl_seconds": 300,
        });
        Call {
            method: "POST",
            path: "/v1/tokens".to_owned(),
            token: self.admin_token.clone(),
            label: "estate".to_owned(),
            body: asked.to_string(),
            hangs_up: false,
        }
    }

    /// A task token, and a call with it.
    pub(crate) async fn mint(&self, tenant_number: usize, task: &str) -> anyhow::Result<Shot> {
        let call = self.mint_request(tenant_number, task);
        let (status, text) = Caller::default().text(self.admin, &call).await?;
        anyhow::ensure!(status.is_success(), "mint: {status} {text}");
        shot(&serde_json::from_str(&text)?, tenant_number)
    }

    /// The sum of a metric over those of its labels that hold `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> anyhow::Result<u64> {
        let call = Call::get("/metrics");
        let (_, text) = Caller::default().text(self.admin, &call).await?;
        let values = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(values.sum())
    }
}

/// A call of `of` with a token that was minted.
pub(crate) fn shot(minted: &Value, of: usize) -> anyhow::Result<Shot> {
    let token = minted.get("token").and_then(Value::as_str);
    let token = token.context("no token was minted")?;
    let content = "All is well. ".repeat(140);
    let body = json!({
        "model": "gpt-4o-mini", "max_tokens": 100,
        "messages": [{"role": "user", "content": content}],
    })
    .to_string();
    let request = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    Ok(Shot {
        request: Bytes::from(request),
        of,
    })
}

pub(crate) fn tenant(number: usize) -> String {
    format!("t{number:05}")
}

fn address(ready: &Value, name: &str) -> anyhow::Result<SocketAddr> {
    let text = ready.get(name).and_then(Value::as_str);
    Ok(text.context("no address in the ready line")?.parse()?)
}

/// The processors, one half for the gateway and the other for everything else.
pub(crate) struct Halves {
    all: CpuSet,
    gateway: CpuSet,
    load: CpuSet,
}

impl Halves {
    /// None if there is one processor only.
    pub(crate) fn of_machine() -> anyhow::Result<Option<Self>> {
        let all = sched_getaffinity(None)?;
        let mut places = (0..CpuSet::MAX_CPU).filter(|place| all.is_set(*place));
        let count = usize::try_from(all.count())?;
        if count < 2 {
            return Ok(None);
        }
        let (mut gateway, mut load) = (CpuSet::new(), CpuSet::new());
        for place in places.by_ref().take(count / 2) {
            gateway.set(place);
        }
        places.for_each(|place| load.set(place));
        Ok(Some(Self { all, gateway, load }))
    }

    /// Does something whose processes keep to the gateway's half.
    pub(crate) fn for_gateway<T>(&self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        sched_setaffinity(None, &self.gateway)?;
        let started = start();
        sched_setaffinity(None, &self.load)?;
        Ok(started)
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        // Should it fail, the next measurement has half a machine.
        let _unchanged = sched_setaffinity(None, &self.all);
    }
}

const ADDRESSES: &str = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";

pub(crate) const PROVIDER: &str = "[provider]
name = \"openai\"
upstream = \"http://{MOCK}\"
dialect = \"openai\"
prices = \"openai\"
insecure = true

[[endpoint]]
method = \"POST\"
path = \"/v1/chat/completions\"
operation = \"chat_completions\"
";

pub(crate) const TENANT: &str = "[tenant]
id = \"{ID}\"

[caps]
daily_usd = \"{DAILY}\"
monthly_usd = \"1000000\"
task_usd = \"1000000\"

[limits]
requests_per_minute = 10000000
burst = 10000000

[[allow]]
provider = \"openai\"
models = [\"gpt-4o*\"]

[credentials]
openai_key = { provider = \"openai\", default = true }

[agents.bot]
daily_usd = \"1000000\"
monthly_usd = \"1000000\"
requests_per_minute = 10000000
";
