//! The sidecar's process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tollgate_testkit::wait::{until, until_true};

use crate::harness::Ask;

/// A sidecar that runs. Killed when dropped.
pub(super) struct Sidecar {
    /// Where SDKs connect.
    pub(super) address: SocketAddr,
    child: Child,
    said: Arc<Mutex<String>>,
    ready: Arc<Mutex<String>>,
    directory: TempDir,
}

pub(super) fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(arguments)
        .env_remove("TOLLGATE_GATEWAY")
        .env("TOLLGATE_LOG", "trace");
    command
}

impl Sidecar {
    /// Starts one with this credential, at a port of the system's choice, and waits until it
    /// listens; it may still lack a token.
    pub(super) async fn start(gateway: &str, credential: &str, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, credential).unwrap();
        let mut command = tollgate(&["sidecar", "--listen", "127.0.0.1:0", "--gateway", gateway]);
        if !more.contains(&"--token-file") {
            command.arg("--subject-token-file").arg(&file);
        }
        let mut child = command
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, ready) = (Arc::default(), Arc::default());
        keep(child.stderr.take().unwrap(), &said);
        keep(child.stdout.take().unwrap(), &ready);
        let address = until("the sidecar listens", || {
            let said = said.lock().unwrap();
            let mut lines = said.lines().filter_map(|l| serde_json::from_str(l).ok());
            lines.find_map(|line: Value| line["listening"].as_str()?.parse().ok())
        })
        .await;
        Self {
            address,
            child,
            said,
            ready,
            directory,
        }
    }

    /// As [`Sidecar::start`], and waits until it has a token and has said so.
    pub(super) async fn ready(gateway: &str, credential: &str, more: &[&str]) -> Self {
        let sidecar = Self::start(gateway, credential, more).await;
        until_true("the sidecar is ready", || !sidecar.announced().is_empty()).await;
        let line: Value = serde_json::from_str(&sidecar.announced()).unwrap();
        assert_eq!(line["listening"], sidecar.address.to_string());
        assert_eq!(sidecar.probe().status.code(), Some(0));
        sidecar
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts another credential in the place of the first, as kubelet does.
    pub(super) fn rotate(&self, credential: &str) {
        let half = self.directory.path().join("half");
        std::fs::write(&half, credential).unwrap();
        std::fs::rename(half, self.credential()).unwrap();
    }

    pub(super) fn credential(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// What it has printed.
    pub(super) fn announced(&self) -> String {
        self.ready.lock().unwrap().clone()
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(super) fn probe(&self) -> Output {
        tollgate(&["sidecar", "--probe", "--listen", &self.address.to_string()])
            .output()
            .unwrap()
    }

    /// Its arguments and environment, as everybody on the machine may see them.
    pub(super) fn shown(&self) -> String {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let read = |name: &str| std::fs::read(process.join(name)).unwrap();
        let shown = [read("cmdline"), read("environ")].concat();
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// The most memory it has ever had resident, in bytes.
    pub(super) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Everything that it has in memory that can be read and written.
    pub(super) fn memory(&self) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let maps = std::fs::read_to_string(process.join("maps")).unwrap();
        let memory = std::fs::File::open(process.join("mem")).unwrap();
        let mut all = Vec::new();
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
            if !rights.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            let mut piece = vec![0; 1 << 20];
            let mut at = from;
            while at < to {
                let wanted = usize::try_from((to - at).min(1 << 20)).unwrap();
                // Pages that were never touched, or are gone by now, hold nothing.
                if let Ok(read @ 1..) = memory.read_at(&mut piece[..wanted], at) {
                    if piece[..read].iter().any(|&byte| byte != 0) {
                        all.extend_from_slice(&piece[..read]);
                    }
                    at += read as u64;
                } else {
                    at += wanted as u64;
                }
            }
        }
        all
    }

    pub(super) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub(super) async fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        until_true("the sidecar ends", || {
            match self.child.try_wait().unwrap() {
                Some(status) => {
                    code = status.code();
                    true
                }
                None => false,
            }
        })
        .await;
        code
    }

    /// What a request that its own paths answer says.
    pub(super) async fn own(&self, path: &str) -> (u16, Value) {
        let ask = Ask::new("GET", path).host(&self.address.to_string());
        let answer = ask.send(self.address).await;
        (answer.status, answer.json())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- last lines of the sidecar's log");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn keep(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

/// A file that is there, for commands that only have to be read.
pub(super) fn any_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")
}
