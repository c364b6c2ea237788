//! The set: a temporary directory with policies, vaults and a gateway that serves them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_core::secret::Secret;
use tollgate_core::vault::SecretName;
use tollgate_stores::vault::AgeVault;

use crate::clock;
use crate::data_dir::DataDir;
use crate::operator::Operator;

/// How long the gateway may take to end before it is killed; above its `drain_seconds`.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// The gateway's log, in the directory of everything.
const LOG: &str = "gateway.log";

const GATEWAY: &str = r#"listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
drain_seconds = 3
"#;

const OPENAI: &str = r#"[provider]
name = "openai"
upstream = "http://MOCK"
dialect = "openai"
prices = "openai"
insecure = true      # the mock speaks plain HTTP; never for a real provider

[[endpoint]]
method = "POST"
path = "/v1/chat/completions"
operation = "chat_completions"

[[endpoint]]
method = "POST"
path = "/v1/responses"
operation = "responses"

[[endpoint]]
method = "POST"
path = "/v1/embeddings"
operation = "embeddings"

[[endpoint]]
method = "GET"
path = "/v1/models"
operation = "free"
"#;

const ANTHROPIC: &str = r#"[provider]
name = "anthropic"
upstream = "http://MOCK"
dialect = "anthropic"
prices = "anthropic"
place = { header = "x-api-key" }
insecure = true      # the mock speaks plain HTTP; never for a real provider

[[endpoint]]
method = "POST"
path = "/v1/messages"
operation = "messages"

[[endpoint]]
method = "POST"
path = "/v1/messages/count_tokens"
operation = "free"
"#;

const GEMINI: &str = r#"[provider]
name = "gemini"
upstream = "http://MOCK"
dialect = "gemini"
prices = "google"
place = { header = "x-goog-api-key" }
insecure = true      # the mock speaks plain HTTP; never for a real provider

[[endpoint]]
method = "POST"
path = "/v1beta/models/{model}:generateContent"
operation = "generate_content"

[[endpoint]]
method = "POST"
path = "/v1beta/models/{model}:streamGenerateContent"
operation = "generate_content"
"#;

const ACME: &str = r#"[tenant]
id = "acme"

[caps]
daily_usd = "5.00"
monthly_usd = "100.00"

[[allow]]
provider = "openai"

[[allow]]
provider = "anthropic"

[[allow]]
provider = "gemini"

[credentials]
openai_key = { provider = "openai", default = true }
anthropic_key = { provider = "anthropic", default = true }
gemini_key = { provider = "gemini", default = true }
"#;

const GLOBEX: &str = r#"[tenant]
id = "globex"

[caps]
daily_usd = "0.0005"

[[allow]]
provider = "openai"
models = ["gpt-4o-mini"]

[credentials]
openai_key = { provider = "openai", default = true }
"#;

/// Made-up keys: tenant, name, value.
const SECRETS: [(&str, &str, &str); 4] = [
    ("acme", "openai_key", "sk-canary-acme-openai-51b2f0c7d4"),
    (
        "acme",
        "anthropic_key",
        "sk-canary-acme-anthropic-9a8e33d1f6",
    ),
    ("acme", "gemini_key", "sk-canary-acme-gemini-3f7d80a2c5"),
    ("globex", "openai_key", "sk-canary-globex-openai-c07744e2ab"),
];

/// A running gateway and its files.
pub(super) struct Stage {
    /// Where agents call.
    pub(super) gateway: SocketAddr,
    /// Where operators call.
    pub(super) admin: SocketAddr,
    operator: Operator,
    child: Gateway,
    /// Dropped last, when nobody uses its files any more.
    directory: TempDir,
}

impl Stage {
    /// Writes policies, stores keys, starts the gateway and waits until it is ready.
    ///
    /// # Errors
    /// If any of it fails; then nothing is left behind.
    pub(super) fn set(mock: SocketAddr) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tollgate-quickstart-")
            .tempdir()?;
        let root = directory.path();
        let policies = [
            ("gateway.toml", GATEWAY),
            ("providers/openai.toml", OPENAI),
            ("providers/anthropic.toml", ANTHROPIC),
            ("providers/gemini.toml", GEMINI),
            ("tenants/acme.toml", ACME),
            ("tenants/globex.toml", GLOBEX),
        ];
        for (name, text) in policies {
            let path = root.join("policies").join(name);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            fs::write(path, text.replace("MOCK", &mock.to_string()))?;
        }
        let data = DataDir::prepare(&root.join("data"))?;
        let vault = AgeVault::open(data.path())?;
        for (tenant, name, value) in SECRETS {
            let secret = Secret::new(value.into());
            let name = SecretName::of_tenant(tenant.parse()?, name.parse()?);
            vault.set(&name, &secret, clock::now())?;
        }
        let (child, ready) = Gateway::start(root)?;
        let address = |name: &str| -> anyhow::Result<SocketAddr> {
            let text = ready[name]
                .as_str()
                .context("the gateway did not say where it is")?;
            Ok(text.parse()?)
        };
        let admin = address("admin")?;
        Ok(Self {
            gateway: address("listening")?,
            admin,
            operator: Operator::at(admin, data.admin_token()?),
            child,
            directory,
        })
    }

    /// The directory of everything.
    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// The notices of caps that fill up which the gateway has given so far, as its log has them.
    pub(super) fn notices(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.root().join(LOG)).unwrap_or_default();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["percent"].is_u64())
            .collect()
    }

    /// A task token.
    ///
    /// # Errors
    /// If the gateway gives none.
    pub(super) fn mint(&self, tenant: &str, agent: &str, task: &str) -> anyhow::Result<String> {
        let asked = json!({ "tenant": tenant, "agent": agent, "task": task });
        let minted = self.operator.post("/v1/tokens", &asked)?;
        let token = minted["token"].as_str();
        Ok(token
            .context("the gateway answered without a token")?
            .to_owned())
    }

    /// Ends the gateway and removes the directory.
    ///
    /// # Errors
    /// If something is left behind.
    pub(super) fn strike(self) -> anyhow::Result<()> {
        drop(self.child);
        let path = self.directory.path().to_owned();
        let removed = self.directory.close();
        removed.with_context(|| format!("{} is left behind", path.display()))
    }
}

/// The child process. Dropping it ends it in order, or else kills it.
struct Gateway {
    child: Child,
    /// Its standard input: when this is closed, the gateway ends.
    _leash: Option<ChildStdin>,
}

impl Gateway {
    /// Starts this same program on the directory, and waits for its line.
    fn start(root: &Path) -> anyhow::Result<(Self, Value)> {
        let log_path = root.join(LOG);
        let log = fs::File::create(&log_path)?;
        let program = std::env::current_exe().context("this program cannot find itself")?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--leashed", "--policies"])
            .arg(root.join("policies"))
            .arg("--data")
            .arg(root.join("data"))
            // The operator's own settings are for the operator's own gateway.
            .env_remove("TOLLGATE_LISTEN")
            .env_remove("TOLLGATE_ADMIN_LISTEN")
            .env_remove("TOLLGATE_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for this process, which ends the gateway when its own work is done.
            .process_group(0);
        let mut child = command.spawn().context("the gateway cannot be started")?;
        let leash = child.stdin.take();
        let stdout = child.stdout.take();
        let started = Self {
            child,
            _leash: leash,
        };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match serde_json::from_str(&line) {
            Ok(ready) => Ok((started, ready)),
            Err(_no_line) => {
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                bail!("the gateway did not start:\n{log}")
            }
        }
    }

    fn ends_by(&mut self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A gateway that has ended already takes no signal; that is all right.
        let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !self.ends_by(Instant::now() + END_DEADLINE) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
