//! A gateway with its tenants before a mock: started, killed, asked for its books.
//!
//! The gateway is driven by its command line and its admin API only, and its records are read from
//! the disk as an auditor would.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Common;
use super::caller::{Call, Caller};
use super::money::pico;
use crate::children::{Running, raise_file_limit};
use crate::mock::Mock;

/// Tenants that can pay for everything.
const ROOMY: &str = "1000000";

/// A tenant and its caps.
pub(super) struct Tenant {
    pub(super) id: String,
    /// US dollars per day.
    pub(super) daily_usd: String,
    /// What is charged where the provider does not say what was used.
    pub(super) unreported: &'static str,
}

impl Tenant {
    /// One whose cap is never reached.
    pub(super) fn roomy(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            daily_usd: ROOMY.to_owned(),
            unreported: "estimate",
        }
    }
}

/// One counter of a tenant, in pico-US-dollars.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    pub(super) settled: i128,
    pub(super) reserved: i128,
}

/// The whole set-up; everything ends and goes with it.
pub(super) struct Rig {
    common: Common,
    environment: Vec<(&'static str, &'static str)>,
    directory: TempDir,
    running: Option<Running>,
    /// Where agents connect.
    pub(super) addr: SocketAddr,
    /// Where operators connect.
    pub(super) admin: SocketAddr,
    /// The provider.
    pub(super) mock: Mock,
}

impl Rig {
    /// Writes policies and secrets and starts the gateway.
    pub(super) async fn start(common: &Common, tenants: &[Tenant]) -> anyhow::Result<Self> {
        Self::start_with(common, tenants, "", &[]).await
    }

    /// The same with settings and environment variables of its own.
    pub(super) async fn start_with(
        common: &Common,
        tenants: &[Tenant],
        settings: &str,
        environment: &[(&'static str, &'static str)],
    ) -> anyhow::Result<Self> {
        raise_file_limit();
        let directory = tempfile::Builder::new()
            .prefix("tollgate-proof-")
            .tempdir()?;
        let unset = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut rig = Self {
            common: common.clone(),
            environment: environment.to_vec(),
            directory,
            running: None,
            addr: unset,
            admin: unset,
            mock: Mock::start(unset).await?,
        };
        rig.write_policies(tenants, settings)?;
        rig.restart()?;
        Ok(rig)
    }

    /// A place in the rig's own directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_policies(&self, tenants: &[Tenant], settings: &str) -> anyhow::Result<()> {
        let policies = self.path("policies");
        fs::create_dir_all(policies.join("providers"))?;
        fs::create_dir_all(policies.join("tenants"))?;
        let settings = format!("{GATEWAY_TOML}{settings}");
        fs::write(policies.join("gateway.toml"), settings)?;
        for (name, text) in PROVIDERS {
            let text = text.replace("{MOCK}", &self.mock.addr().to_string());
            fs::write(policies.join(format!("providers/{name}.toml")), text)?;
        }
        for Tenant {
            id,
            daily_usd,
            unreported,
        } in tenants
        {
            let text = TENANT_TOML
                .replace("{ID}", id)
                .replace("{DAILY}", daily_usd)
                .replace("{UNREPORTED}", unreported);
            fs::write(policies.join(format!("tenants/{id}.toml")), text)?;
            for name in ["openai_key", "anthropic_key"] {
                self.set_secret(id, name)?;
            }
        }
        Ok(())
    }

    fn set_secret(&self, tenant: &str, name: &str) -> anyhow::Result<()> {
        let file = self.path("secret");
        fs::write(&file, format!("sk-canary-{tenant}-{name}-0123456789abcdef"))?;
        let mut set = self.tollgate(&["secret", "set", "--tenant", tenant, "--name", name]);
        let output = set.stdin(fs::File::open(&file)?).output()?;
        ensure!(
            output.status.success(),
            "secret set: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// A command of the gateway's program, on this gateway's files.
    pub(super) fn tollgate(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.common.gateway);
        command
            .args(arguments)
            .envs(self.environment.iter().copied())
            .env("TOLLGATE_POLICIES", self.path("policies"))
            .env("TOLLGATE_DATA", self.path("data"));
        command
    }

    /// Starts the gateway, again on its old data.
    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        let serve = self.tollgate(&["serve"]);
        self.running = Some(self.begin(serve)?);
        Ok(())
    }

    /// Ends the gateway in peace and starts it again at the same addresses.
    pub(super) fn restart_in_place(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        let mut serve = self.tollgate(&["serve"]);
        serve
            .env("TOLLGATE_LISTEN", self.addr.to_string())
            .env("TOLLGATE_ADMIN_LISTEN", self.admin.to_string());
        self.running = Some(self.begin(serve)?);
        Ok(())
    }

    /// Starts a gateway that takes over from the one that runs, which is returned: it ends by itself.
    pub(super) fn upgrade(&mut self) -> anyhow::Result<Running> {
        let serve = self.tollgate(&["serve", "--upgrade"]);
        let new = self.begin(serve)?;
        let old = self.running.replace(new);
        old.context("the gateway does not run")
    }

    fn begin(&mut self, mut serve: Command) -> anyhow::Result<Running> {
        let log = match &self.common.gateway_log {
            Some(path) => Stdio::from(fs::File::options().create(true).append(true).open(path)?),
            None => Stdio::null(),
        };
        let (running, ready) = Running::start_ready("the gateway", serve.stderr(log))
            .context("(--gateway-log FILE shows what it said)")?;
        let address = |name: &str| -> anyhow::Result<SocketAddr> {
            let text = ready.get(name).and_then(Value::as_str);
            Ok(text.context("no address in the ready line")?.parse()?)
        };
        self.addr = address("listening")?;
        self.admin = address("admin")?;
        Ok(running)
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the gateway does not run")?;
        running.end("KILL")
    }

    /// Ends the gateway in peace, so that all of its records are on the disk.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the gateway does not run")?;
        running.end("TERM")
    }

    /// A metric without labels, or with exactly these.
    pub(super) async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let call = Call::get("/metrics");
        let (_, text) = Caller::default().text(self.admin, &call).await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.with_context(|| format!("there is no metric {name}"))?;
        // Gauges of whole numbers.
        Ok(value.trim().parse()?)
    }

    /// A task token, good for five minutes.
    pub(super) async fn mint(&self, tenant: &str, agent: &str) -> anyhow::Result<String> {
        Ok(self.mint_for(tenant, agent, "proof").await?.0)
    }

    /// A task token, good for five minutes, and its id.
    pub(super) async fn mint_for(
        &self,
        tenant: &str,
        agent: &str,
        task: &str,
    ) -> anyhow::Result<(String, String)> {
        let asked = json!({"tenant": tenant, "agent": agent, "task": task, "ttl_seconds": 300});
        let minted = self.admin("POST", "/v1/tokens", &asked.to_string()).await?;
        let field = |name: &str| minted.get(name).and_then(Value::as_str).map(str::to_owned);
        let token = field("token").zip(field("jti"));
        token.context("no token was minted")
    }

    /// Takes tokens out of use; how many that were.
    pub(super) async fn revoke(&self, what: &Value) -> anyhow::Result<u64> {
        let path = "/v1/tokens/revoke";
        let answer = self.admin("POST", path, &what.to_string()).await?;
        let revoked = answer.get("revoked").and_then(Value::as_u64);
        revoked.context("the admin API does not say how many")
    }

    /// A tenant's counters.
    pub(super) async fn counters(&self, tenant: &str) -> anyhow::Result<Vec<Counter>> {
        let path = format!("/v1/budgets/{tenant}");
        let answer = self.admin("GET", &path, "").await?;
        let budgets = answer.get("budgets").and_then(Value::as_array);
        let counter = |budget: &Value| -> anyhow::Result<Counter> {
            let amount = |name: &str| budget.get(name).and_then(Value::as_str).map(pico);
            Ok(Counter {
                settled: amount("settled_usd").context("no settled_usd")??,
                reserved: amount("reserved_usd").context("no reserved_usd")??,
            })
        };
        budgets
            .context("the admin API shows no budgets")?
            .iter()
            .map(counter)
            .collect()
    }

    /// Waits until nothing is reserved any more: every call has been settled.
    pub(super) async fn settled(&self, tenant: &str) -> anyhow::Result<Vec<Counter>> {
        for _ in 0..1_200 {
            let counters = self.counters(tenant).await?;
            if counters.iter().all(|counter| counter.reserved == 0) {
                return Ok(counters);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What is still reserved now is leaked, which the caller reports.
        self.counters(tenant).await
    }

    async fn admin(&self, method: &'static str, path: &str, body: &str) -> anyhow::Result<Value> {
        let call = Call {
            method,
            path: path.to_owned(),
            token: fs::read_to_string(self.path("data/keys/admin.token"))?
                .trim()
                .to_owned(),
            label: "proof".to_owned(),
            body: body.to_owned(),
            hangs_up: false,
        };
        let (status, text) = Caller::default().text(self.admin, &call).await?;
        ensure!(status.is_success(), "{method} {path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The rows of the gateway's own report.
    pub(super) fn report(&self, by: &str) -> anyhow::Result<Value> {
        let output = self.tollgate(&["report", "--by", by, "--json"]).output()?;
        ensure!(
            output.status.success(),
            "report: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Shows every record of a call of `tenant` to `look`.
    pub(super) fn each_record(
        &self,
        tenant: &str,
        mut look: impl FnMut(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut files = Vec::new();
        collect(&self.path("data/audit").join(tenant), &mut files)?;
        for file in files {
            for line in BufReader::new(fs::File::open(&file)?).lines() {
                let record: Value = serde_json::from_str(&line?)
                    .with_context(|| format!("{} holds no record", file.display()))?;
                if record.get("tollgate.event").is_none() {
                    look(&record)?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            // What is signed about records is none.
            if !path.ends_with("checkpoints") {
                collect(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

const GATEWAY_TOML: &str = "listen = \"127.0.0.1:0\"
admin_listen = \"127.0.0.1:0\"
";

pub(super) const PROVIDERS: [(&str, &str); 3] = [
    (
        "openai",
        "[provider]
name = \"openai\"
upstream = \"http://{MOCK}\"
dialect = \"openai\"
prices = \"openai\"
insecure = true

[[endpoint]]
method = \"POST\"
path = \"/v1/chat/completions\"
operation = \"chat_completions\"

[[endpoint]]
method = \"POST\"
path = \"/v1/embeddings\"
operation = \"embeddings\"
",
    ),
    (
        "anthropic",
        "[provider]
name = \"anthropic\"
upstream = \"http://{MOCK}\"
dialect = \"anthropic\"
prices = \"anthropic\"
insecure = true

[[endpoint]]
method = \"POST\"
path = \"/v1/messages\"
operation = \"messages\"
",
    ),
    (
        "tool",
        "[provider]
name = \"tool\"
upstream = \"http://{MOCK}\"
dialect = \"http\"
keyless = true

[[endpoint]]
method = \"POST\"
path = \"/tool\"
operation = \"tool\"
price_per_call_usd = \"0.000123456789\"
",
    ),
];

pub(super) const TENANT_TOML: &str = "[tenant]
id = \"{ID}\"

[caps]
daily_usd = \"{DAILY}\"
monthly_usd = \"1000000\"
unreported_usage = \"{UNREPORTED}\"

[[allow]]
provider = \"openai\"

[[allow]]
provider = \"anthropic\"

[[allow]]
provider = \"tool\"

[credentials]
openai_key = { provider = \"openai\", default = true }
anthropic_key = { provider = \"anthropic\", default = true }
";
