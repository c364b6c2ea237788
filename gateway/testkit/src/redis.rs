//! Redis servers for one test: started at ports of their own, in directories of their own, and
//! gone with it.
//!
//! Knows the server's command line and nothing of what a gateway keeps there. Ports are looked for
//! anew when another process was faster. At worst a test fails because there is no `redis-server`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How often a port is chosen anew.
const TRIES: u32 = 20;
/// How long a server may take to answer.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// A running server.
pub struct Server {
    port: u16,
    child: Option<Child>,
    args: Vec<String>,
    dir: TempDir,
}

impl Server {
    /// A server that keeps everything in memory, with `args` beyond the usual.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for _ in 0..TRIES {
            let port = free_port();
            if let Some(child) = spawn(port, &args, &dir) {
                return Self {
                    port,
                    child: Some(child),
                    args,
                    dir,
                };
            }
        }
        panic!("redis-server does not start");
    }

    /// Servers that are a cluster: each has a part of the slots, and none a replica.
    #[must_use]
    pub fn cluster(count: u16) -> Vec<Self> {
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..count {
            let bus = free_port().to_string();
            let args = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            servers.push(Self::start(&args));
            buses.push(bus);
        }
        let part = SLOTS.div_ceil(count);
        for (n, server) in (0..).zip(&servers) {
            let (first, last) = (n * part, (n * part + part - 1).min(SLOTS - 1));
            server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            let (first, last) = (first.to_string(), last.to_string());
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        for (server, bus) in servers.iter().zip(&buses) {
            let port = server.port.to_string();
            servers[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
        }
        let started = Instant::now();
        let up = |server: &Self| {
            server
                .ask(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok")
        };
        while !servers.iter().all(up) {
            assert!(
                started.elapsed() < STARTS_WITHIN * 3,
                "no cluster comes about"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        servers
    }

    /// Where it listens, on this machine.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Sends one command and returns the raw answer.
    pub fn ask(&self, words: &[&str]) -> String {
        ask(self.port, words).expect("redis answers")
    }

    /// Ends it as a crash would: what is in memory is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a process to kill");
            child.wait().expect("it ends");
        }
    }

    /// Starts it again at the same port.
    pub fn restart(&mut self) {
        let started = Instant::now();
        while started.elapsed() < STARTS_WITHIN {
            if let Some(child) = spawn(self.port, &self.args, &self.dir) {
                self.child = Some(child);
                return;
            }
        }
        panic!("redis-server does not start again");
    }

    /// Stops it in its tracks: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be stopped, or gone.
            let _gone = child.kill();
            let _ended = child.wait();
        }
    }
}

/// A port that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn spawn(port: u16, args: &[String], dir: &TempDir) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir.path())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("redis-server is installed");
    let started = Instant::now();
    while started.elapsed() < STARTS_WITHIN {
        if ask(port, &["PING"]).is_ok() {
            // Whoever answered is this one, unless this one has found the port taken.
            return match child.try_wait().expect("a process") {
                None => Some(child),
                Some(_ended) => None,
            };
        }
        if child.try_wait().expect("a process").is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(child.kill());
    drop(child.wait());
    None
}

/// Sends one command to the server at `port` and returns the raw answer.
///
/// # Errors
/// If nobody answers there.
pub fn ask(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes())?;
    let mut answer = vec![0; 64 << 10];
    let read = stream.read(&mut answer)?;
    answer.truncate(read);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
