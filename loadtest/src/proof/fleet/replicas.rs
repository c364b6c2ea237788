//! Three gateways behind haproxy, with keys and policies in common and a data directory each.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::Common;
use super::super::caller::{Call, Caller};
use super::super::rig::{PROVIDERS, TENANT_TOML, collect};
use crate::children::Running;
use crate::mock::Mock;

pub(super) const REPLICAS: usize = 3;
const LISTEN: u16 = 9_001;
const ADMIN: u16 = 9_101;
const BALANCER: u16 = 9_000;
/// The group of the replica that is cut off: packets of its processes are told apart by it.
pub(super) const CUT_GROUP: u32 = 54_321;
/// The replica that is cut off.
pub(super) const CUT: usize = 2;

/// The gateways and what is before and behind them.
pub(super) struct Replicas {
    common: Common,
    directory: TempDir,
    running: Vec<Option<Running>>,
    _balancer: Option<Running>,
    pub(super) mock: Mock,
}

impl Replicas {
    /// Writes policies of these tenants; starts nothing but the mock.
    pub(super) async fn new(common: &Common) -> anyhow::Result<Self> {
        Ok(Self {
            common: common.clone(),
            directory: tempfile::Builder::new()
                .prefix("tollgate-fleet-")
                .tempdir()?,
            running: (0..REPLICAS).map(|_| None).collect(),
            _balancer: None,
            mock: Mock::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where agents connect.
    pub(super) fn addr() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, BALANCER))
    }

    pub(super) fn write_policies(
        &self,
        tenants: &[(String, String)],
        fleet: &str,
    ) -> anyhow::Result<()> {
        let policies = self.path("policies");
        fs::create_dir_all(policies.join("providers"))?;
        fs::create_dir_all(policies.join("tenants"))?;
        self.settings(fleet)?;
        for (name, text) in PROVIDERS {
            let text = text.replace("{MOCK}", &self.mock.addr().to_string());
            fs::write(policies.join(format!("providers/{name}.toml")), text)?;
        }
        for (id, daily) in tenants {
            let text = TENANT_TOML
                .replace("{ID}", id)
                .replace("{DAILY}", daily)
                .replace("{UNREPORTED}", "estimate");
            fs::write(policies.join(format!("tenants/{id}.toml")), text)?;
            for name in ["openai_key", "anthropic_key"] {
                self.set_secret(id, name)?;
            }
        }
        Ok(())
    }

    /// Writes `gateway.toml`.
    pub(super) fn settings(&self, fleet: &str) -> anyhow::Result<()> {
        let shared = self.path("shared");
        let text = format!(
            "unready_seconds = 1\ndrain_seconds = 20\n\n[fleet]\n{fleet}shared_dir = \"{}\"\n",
            shared.display()
        );
        Ok(fs::write(self.path("policies/gateway.toml"), text)?)
    }

    fn set_secret(&self, tenant: &str, name: &str) -> anyhow::Result<()> {
        let file = self.path("secret");
        fs::write(&file, format!("sk-canary-{tenant}-{name}-0123456789abcdef"))?;
        let mut set = self.tollgate(0, &["secret", "set", "--tenant", tenant, "--name", name]);
        let output = set.stdin(fs::File::open(&file)?).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "secret set: {said}");
        Ok(())
    }

    fn tollgate(&self, replica: usize, arguments: &[&str]) -> Command {
        // A group of its own, so that what it sends can be told apart.
        let mut command = if replica == CUT {
            let mut command = Command::new("setpriv");
            command
                .args(["--regid", &CUT_GROUP.to_string(), "--clear-groups", "--"])
                .arg(&self.common.gateway);
            command
        } else {
            Command::new(&self.common.gateway)
        };
        let at = |base: u16| format!("127.0.0.1:{}", base + u16::try_from(replica).unwrap_or(0));
        command
            .args(arguments)
            .env("TOLLGATE_POLICIES", self.path("policies"))
            .env("TOLLGATE_DATA", self.data(replica))
            .env("TOLLGATE_LISTEN", at(LISTEN))
            .env("TOLLGATE_ADMIN_LISTEN", at(ADMIN));
        command
    }

    fn data(&self, replica: usize) -> PathBuf {
        self.path(&format!("data-{replica}"))
    }

    pub(super) fn start(&mut self, replica: usize) -> anyhow::Result<()> {
        let mut serve = self.tollgate(replica, &["serve"]);
        let (running, _ready) = Running::start_ready("a gateway", serve.stderr(self.log()?))
            .context("(--gateway-log FILE shows what it said)")?;
        self.running[replica] = Some(running);
        Ok(())
    }

    /// Where programs say what goes wrong.
    fn log(&self) -> anyhow::Result<Stdio> {
        Ok(match &self.common.gateway_log {
            Some(path) => Stdio::from(fs::File::options().create(true).append(true).open(path)?),
            None => Stdio::null(),
        })
    }

    pub(super) fn kill(&mut self, replica: usize) -> anyhow::Result<()> {
        let running = self.running.get_mut(replica).and_then(Option::take);
        running.context("it does not run")?.end("KILL")
    }

    /// Ends all of them in peace.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        for running in &mut self.running {
            if let Some(mut running) = running.take() {
                running.end("TERM")?;
            }
        }
        Ok(())
    }

    /// Starts haproxy in front of them. Calls that were taken are never sent a second time.
    pub(super) fn balance(&mut self) -> anyhow::Result<()> {
        let mut text = format!(
            "global\n  maxconn 8000\ndefaults\n  mode http\n  timeout connect 2s\n  \
             timeout client 120s\n  timeout server 120s\n  retries 3\n  option redispatch\n  \
             retry-on conn-failure\nfrontend agents\n  bind 127.0.0.1:{BALANCER}\n  \
             default_backend gateways\nbackend gateways\n  balance roundrobin\n  \
             option httpchk GET /readyz\n"
        );
        for replica in 0..u16::try_from(REPLICAS)? {
            let line = format!(
                "  server r{replica} 127.0.0.1:{} check inter 500ms fall 2 rise 1 port {}\n",
                LISTEN + replica,
                ADMIN + replica
            );
            text.push_str(&line);
        }
        let file = self.path("haproxy.cfg");
        fs::write(&file, text)?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&file);
        command.stdout(Stdio::null()).stderr(self.log()?);
        self._balancer = Some(Running::start("haproxy", &mut command)?);
        Ok(())
    }

    /// Waits until every replica that runs takes calls.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        for replica in 0..REPLICAS {
            if self.running[replica].is_none() {
                continue;
            }
            let mut tries = 0;
            while !self.is_ready(replica).await {
                tries += 1;
                ensure!(tries < 1_200, "replica {replica} does not get ready");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Waits until the balancer has found them.
    pub(super) async fn balanced(&self) -> anyhow::Result<()> {
        let call = Call::get("/");
        for _ in 0..200 {
            let answer = Caller::default().text(Self::addr(), &call).await;
            // Without a token that is a refusal, but not the balancer's.
            if answer.is_ok_and(|(status, _)| status != 503) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the balancer finds no replica")
    }

    async fn is_ready(&self, replica: usize) -> bool {
        let call = Call::get("/readyz");
        let answer = Caller::default().text(admin(replica), &call).await;
        answer.is_ok_and(|(status, _)| status.is_success())
    }

    /// A metric of all replicas that run, added up.
    pub(super) async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let mut sum = 0;
        for (replica, running) in self.running.iter().enumerate() {
            if running.is_none() {
                continue;
            }
            let call = Call::get("/metrics");
            let answer = Caller::default().text(admin(replica), &call).await;
            let (_, text) = answer.with_context(|| format!("metrics of replica {replica}"))?;
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.with_context(|| format!("there is no metric {name}"))?;
            sum += value.trim().parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Task tokens, good for five minutes, by tenant; from whichever replica answers.
    pub(super) async fn tokens(
        &self,
        tenants: &[String],
    ) -> anyhow::Result<HashMap<String, String>> {
        let mut tokens = HashMap::new();
        for tenant in tenants {
            let asked =
                json!({"tenant": tenant, "agent": "agent", "task": "proof", "ttl_seconds": 300});
            let mut minted = None;
            for attempt in 0..200 {
                let replica = attempt % REPLICAS;
                if self.running[replica].is_some()
                    && let Ok(answer) = self.admin(replica, "/v1/tokens", &asked).await
                {
                    minted = answer
                        .get("token")
                        .and_then(Value::as_str)
                        .map(str::to_owned);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokens.insert(tenant.clone(), minted.context("no token was minted")?);
        }
        Ok(tokens)
    }

    async fn admin(&self, replica: usize, path: &str, body: &Value) -> anyhow::Result<Value> {
        let token = fs::read_to_string(self.path("shared/keys/admin.token"))?;
        let call = Call {
            method: "POST",
            path: path.to_owned(),
            token: token.trim().to_owned(),
            label: "proof".to_owned(),
            body: body.to_string(),
            hangs_up: false,
        };
        let (status, text) = Caller::default().text(admin(replica), &call).await?;
        ensure!(status.is_success(), "POST {path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Shows every record of a call of every tenant, from all replicas, to `look`.
    pub(super) fn each_record(
        &self,
        mut look: impl FnMut(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for replica in 0..REPLICAS {
            let audit = self.data(replica).join("audit");
            for tenant in directories(&audit)? {
                let mut files = Vec::new();
                collect(&tenant, &mut files)?;
                for file in files {
                    for line in BufReader::new(fs::File::open(&file)?).lines() {
                        let record: Value = serde_json::from_str(&line?)
                            .with_context(|| format!("{} holds no record", file.display()))?;
                        if record.get("tollgate.event").is_none() {
                            look(&record)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The partitions of tenants.
fn directories(audit: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(audit)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !name.starts_with('_') {
            found.push(path);
        }
    }
    Ok(found)
}

fn admin(replica: usize) -> SocketAddr {
    let port = ADMIN + u16::try_from(replica).unwrap_or(0);
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
