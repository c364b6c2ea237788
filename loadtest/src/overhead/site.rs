//! The three things compared: the mock provider, nginx and the gateway, each a process of its own.
//!
//! The gateway gets a policy with everything on: a task token, allowed models, a rate limit, caps by
//! day, month and task, a credential from the vault, records. All limits are set too high to be reached.
//! It is driven through its command line only.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::Config;
use crate::children::Running;

const TENANT: &str = "acme";

/// A directory for everything, removed with its owner.
#[derive(Debug)]
pub(super) struct Site {
    directory: TempDir,
    /// Name of the gateway's data directory in it.
    data: String,
}

/// A gateway and where it listens.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) process: Running,
    pub(super) addr: SocketAddr,
}

impl Site {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder
            .prefix("tollgate-overhead-")
            .disable_cleanup(config.keep);
        let directory = match &config.dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        };
        Ok(Self {
            directory: directory.context("making a directory")?,
            data: "data".to_owned(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The mock, in a process of its own: this program, called again.
    pub(super) fn mock(&self, config: &Config) -> anyhow::Result<(Running, SocketAddr)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([
            "mock",
            "--bench",
            "--plain-bytes",
            &config.answer_bytes.to_string(),
        ]);
        command.args(["--events", &config.events.to_string()]);
        command.args([
            "--event-pause-ms",
            &config.event_pause.as_millis().to_string(),
        ]);
        let (process, ready) = Running::start_ready("the mock", &mut command)?;
        Ok((process, listening(&ready)?))
    }

    /// nginx as a plain reverse proxy: one worker, connections kept to both sides, no log.
    pub(super) fn nginx(
        &self,
        config: &Config,
        mock: SocketAddr,
    ) -> anyhow::Result<(Running, SocketAddr)> {
        let dir = self.path("nginx");
        fs::create_dir(&dir)?;
        // nginx cannot tell a port it chose itself, so one is found and freed for it.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = dir.join("nginx.conf");
        fs::write(&file, nginx_conf(&dir, addr, mock))?;
        let mut command = Command::new(&config.nginx);
        command
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Running::start("nginx", &mut command)?;
        wait_until_listening(addr)
            .context("nginx does not listen; is its configuration accepted?")?;
        Ok((process, addr))
    }

    /// Writes the policies and puts the secret into the vault.
    pub(super) fn write_policies(&self, config: &Config, mock: SocketAddr) -> anyhow::Result<()> {
        let policies = self.path("policies");
        fs::create_dir_all(policies.join("providers"))?;
        fs::create_dir_all(policies.join("tenants"))?;
        fs::write(policies.join("gateway.toml"), GATEWAY_TOML)?;
        fs::write(policies.join("providers/openai.toml"), provider_toml(mock))?;
        fs::write(policies.join("tenants/acme.toml"), TENANT_TOML)?;
        self.set_secret(config)
    }

    /// Lets the next gateway start with data of its own: nothing in it but the secret.
    pub(super) fn renew_data(&mut self, config: &Config, name: &str) -> anyhow::Result<()> {
        name.clone_into(&mut self.data);
        self.set_secret(config)
    }

    fn set_secret(&self, config: &Config) -> anyhow::Result<()> {
        let secret = self.path("secret");
        fs::write(
            &secret,
            "sk-canary-0123456789abcdef0123456789abcdef0123456789abcdef",
        )?;
        let mut set = self.tollgate(
            config,
            &["secret", "set", "--tenant", TENANT, "--name", "openai_key"],
        );
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
    pub(super) fn gateway(&self, config: &Config, tracer: &[String]) -> anyhow::Result<Gateway> {
        let mut command = match tracer.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&config.gateway);
                command
            }
            None => Command::new(&config.gateway),
        };
        self.environment(command.arg("serve"));
        let log = match &config.gateway_log {
            Some(path) => Stdio::from(fs::File::options().create(true).append(true).open(path)?),
            None => Stdio::null(),
        };
        let (process, ready) = Running::start_ready("the gateway", command.stderr(log))
            .context("(--gateway-log FILE shows what it said)")?;
        Ok(Gateway {
            process,
            addr: listening(&ready)?,
        })
    }

    /// A fresh task token from the running gateway.
    pub(super) fn mint(&self, config: &Config, task: &str) -> anyhow::Result<String> {
        let arguments = [
            "token", "mint", "--tenant", TENANT, "--agent", "bench", "--task", task, "--ttl", "300",
        ];
        let output = self.tollgate(config, &arguments).output()?;
        ensure!(
            output.status.success(),
            "token mint: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn tollgate(&self, config: &Config, arguments: &[&str]) -> Command {
        let mut command = Command::new(&config.gateway);
        self.environment(command.args(arguments));
        command
    }

    fn environment(&self, command: &mut Command) {
        command
            .env("TOLLGATE_POLICIES", self.path("policies"))
            .env("TOLLGATE_DATA", self.path(&self.data));
    }
}

fn listening(ready: &Value) -> anyhow::Result<SocketAddr> {
    let addr = ready
        .get("listening")
        .and_then(Value::as_str)
        .context("no address in the ready line")?;
    Ok(addr.parse()?)
}

fn wait_until_listening(addr: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..200 {
        if std::net::TcpStream::connect(addr).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    anyhow::bail!("nothing listens on {addr}")
}

fn nginx_conf(dir: &Path, addr: SocketAddr, mock: SocketAddr) -> String {
    let dir = dir.display();
    // Buffering is off, as it must be where answers stream; a 1 KB answer does not notice.
    // The path prefix is dropped just as the gateway drops it.
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    upstream mock {{
        server {mock};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {addr};
        location /openai/ {{
            proxy_pass http://mock/;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
        }}
    }}
}}
"
    )
}

const GATEWAY_TOML: &str = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";

fn provider_toml(mock: SocketAddr) -> String {
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
operation = \"chat_completions\"
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
