//! Redis as a fleet meets it: a cluster of three primaries, or one primary that sentinels watch,
//! each with a replica, started, killed, stopped in their tracks and started again.
//!
//! Ports are fixed, since all of it runs in a network namespace of its own. Nothing is written to
//! disk but what servers need to know of one another, so that a server that was killed comes back
//! empty.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::children::Running;

const SERVERS: u16 = 7_001;
const SENTINELS: u16 = 8_001;
/// How long a server or a whole cluster may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The forms that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Cluster,
    Sentinel,
}

impl Form {
    pub(super) const ALL: [Self; 2] = [Self::Cluster, Self::Sentinel];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
        }
    }
}

/// The servers.
pub(super) struct Servers {
    form: Form,
    dir: PathBuf,
    running: Vec<(u16, Option<Running>)>,
    _sentinels: Vec<Running>,
}

impl Servers {
    pub(super) fn start(form: Form, dir: &Path) -> anyhow::Result<Self> {
        let count = match form {
            Form::Cluster => 6,
            // A primary and two replicas: one can be lost, and another still has every change.
            Form::Sentinel => 3,
        };
        let mut servers = Self {
            form,
            dir: dir.to_owned(),
            running: (0..count).map(|n| (SERVERS + n, None)).collect(),
            _sentinels: Vec::new(),
        };
        for place in 0..servers.running.len() {
            servers.restart(place)?;
        }
        match form {
            Form::Cluster => servers.meet()?,
            Form::Sentinel => servers.watch()?,
        }
        Ok(servers)
    }

    /// The lines of `[fleet]` that lead here.
    pub(super) fn settings(&self) -> String {
        let (first, count) = match self.form {
            Form::Cluster => (SERVERS, 6),
            Form::Sentinel => (SENTINELS, 3),
        };
        let nodes = (first..first + count).map(|port| format!("\"127.0.0.1:{port}\""));
        let nodes: Vec<_> = nodes.collect();
        let master = match self.form {
            Form::Cluster => "",
            Form::Sentinel => "master = \"tollgate\"\n",
        };
        format!(
            "redis = \"{}\"\nnodes = [{}]\n{master}wait_replicas = 1\n",
            self.form.name(),
            nodes.join(", ")
        )
    }

    /// The ports that gateways speak to.
    pub(super) const fn ports() -> &'static str {
        "7001:8010"
    }

    fn meet(&self) -> anyhow::Result<()> {
        let nodes = self
            .running
            .iter()
            .map(|(port, _)| format!("127.0.0.1:{port}"));
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]).args(nodes).args([
            "--cluster-replicas",
            "1",
            "--cluster-yes",
        ]);
        let output = command.output().context("starting redis-cli")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "no cluster: {said}");
        until("the cluster is up", || {
            self.running.iter().all(|(port, _)| {
                let info = ask(*port, &["CLUSTER", "INFO"]);
                info.is_ok_and(|info| info.contains("cluster_state:ok"))
            }) && self.primaries().len() == 3
                && self.replicas_in_step()
        })
    }

    fn watch(&mut self) -> anyhow::Result<()> {
        for (port, _) in &self.running[1..] {
            ask(*port, &["REPLICAOF", "127.0.0.1", &SERVERS.to_string()])?;
        }
        until("the replicas are in step", || self.replicas_in_step())?;
        for n in 0..3 {
            let file = self.dir.join(format!("sentinel-{n}.conf"));
            let text = format!(
                "port {}\nbind 127.0.0.1\nsentinel monitor tollgate 127.0.0.1 {SERVERS} 2\n\
                 sentinel down-after-milliseconds tollgate 1000\n\
                 sentinel failover-timeout tollgate 4000\n",
                SENTINELS + n
            );
            fs::write(&file, text)?;
            let mut command = Command::new("redis-sentinel");
            command
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            self._sentinels
                .push(Running::start("redis-sentinel", &mut command)?);
        }
        until("the sentinels know one another", || {
            let known = ask(SENTINELS, &["SENTINEL", "SENTINELS", "tollgate"]);
            let replicas = ask(SENTINELS, &["SENTINEL", "REPLICAS", "tollgate"]);
            known.is_ok_and(|known| known.starts_with("*2"))
                && replicas.is_ok_and(|replicas| replicas.starts_with("*2"))
        })
    }

    fn replicas_in_step(&self) -> bool {
        self.running.iter().all(|(port, _)| {
            let role = ask(*port, &["ROLE"]).unwrap_or_default();
            role.contains("master") || role.contains("connected")
        })
    }

    /// The places of those that take changes now.
    pub(super) fn primaries(&self) -> Vec<usize> {
        let roles = self.running.iter().enumerate();
        roles
            .filter(|(_, (port, running))| {
                running.is_some() && ask(*port, &["ROLE"]).is_ok_and(|role| role.contains("master"))
            })
            .map(|(place, _)| place)
            .collect()
    }

    /// The places of those that are down.
    pub(super) fn down(&self) -> Vec<usize> {
        let all = self.running.iter().enumerate();
        all.filter(|(_, (_, running))| running.is_none())
            .map(|(place, _)| place)
            .collect()
    }

    pub(super) fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        let (_, running) = self.running.get_mut(place).context("no such server")?;
        let mut running = running.take().context("it does not run")?;
        running.end("KILL")
    }

    /// Starts a server, empty.
    pub(super) fn restart(&mut self, place: usize) -> anyhow::Result<()> {
        let (port, running) = self.running.get_mut(place).context("no such server")?;
        let dir = self.dir.join(format!("redis-{port}"));
        fs::create_dir_all(&dir)?;
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .args(["--repl-diskless-sync-delay", "0", "--dir"])
            .arg(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if self.form == Form::Cluster {
            command
                .args(["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"])
                .args(["--cluster-require-full-coverage", "no"]);
        }
        *running = Some(Running::start("redis-server", &mut command)?);
        let port = *port;
        until("redis-server is up", || ask(port, &["PING"]).is_ok())
    }

    /// Stops every primary in its tracks, or lets it go on.
    pub(super) fn freeze(&self, frozen: bool) -> anyhow::Result<()> {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        for (_, running) in &self.running {
            if let Some(running) = running {
                let sent = Command::new("kill")
                    .args([signal, &running.pid().to_string()])
                    .status()?;
                ensure!(sent.success(), "a server took no signal");
            }
        }
        Ok(())
    }
}

fn until(what: &str, mut look: impl FnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !look() {
        ensure!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Sends one command and returns the raw answer.
fn ask(port: u16, words: &[&str]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes())?;
    let mut answer = vec![0; 64 << 10];
    let read = stream.read(&mut answer)?;
    ensure!(read > 0, "no answer");
    answer.truncate(read);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
