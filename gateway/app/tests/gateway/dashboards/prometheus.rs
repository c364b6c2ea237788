//! A Prometheus of one test's own, and what it answers.
//!
//! At worst a test fails because there is no `prometheus`.

use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tollgate_testkit::raw::{Raw, request};
use tollgate_testkit::redis::free_port;

/// How often a port is chosen anew.
const TRIES: u32 = 10;
/// How long it may take to answer.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A running server, and its directory.
pub(super) struct Prometheus {
    address: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Prometheus {
    /// Starts it with these settings, as they stand in `prometheus.yml`.
    pub(super) async fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("prometheus.yml"), settings).expect("the settings");
        for _ in 0..TRIES {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let mut child = spawn(dir.path(), address);
            let started = Instant::now();
            while started.elapsed() < STARTS_WITHIN && matches!(child.try_wait(), Ok(None)) {
                if tokio::net::TcpStream::connect(address).await.is_ok()
                    && get(address, "/-/ready").await.0 == 200
                {
                    return Self {
                        address,
                        child,
                        dir,
                    };
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(child.kill());
            drop(child.wait());
        }
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("prometheus does not start: {log}");
    }

    /// What an expression gives now, as its series' values.
    ///
    /// # Errors
    /// What it says against the expression.
    pub(super) async fn query(&self, expression: &str) -> Result<Vec<f64>, String> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            write!(encoded, "%{byte:02X}").expect("a string takes it");
        }
        let (status, answer) = get(self.address, &format!("/api/v1/query?query={encoded}")).await;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        if status != 200 {
            return Err(answer["error"].to_string());
        }
        let result = answer["data"]["result"].as_array().cloned();
        let value = |series: Value| {
            series["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok())
        };
        Ok(result
            .unwrap_or_default()
            .into_iter()
            .filter_map(value)
            .collect())
    }

    /// Every rule: its name, its health, and what went wrong with it last.
    pub(super) async fn rules(&self) -> Vec<(String, String, String)> {
        let (_, answer) = get(self.address, "/api/v1/rules").await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let groups = answer["data"]["groups"].as_array().cloned();
        let groups = groups.unwrap_or_default().into_iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        let text = |rule: &Value, field: &str| rule[field].as_str().unwrap_or_default().to_owned();
        rules
            .map(|rule| {
                (
                    text(&rule, "name"),
                    text(&rule, "health"),
                    text(&rule, "lastError"),
                )
            })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- the log of prometheus\n{log}");
        }
    }
}

fn spawn(dir: &Path, address: SocketAddr) -> Child {
    let log = File::create(dir.join("log")).expect("a log");
    Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            dir.join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=warn")
        .current_dir(dir)
        .env("GOMAXPROCS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("prometheus is installed")
}

/// Status and text of a page.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut raw = Raw::connect(address).await;
    let host = address.to_string();
    let headers = [("host", host.as_str()), ("connection", "close")];
    raw.send(request(&format!("GET {path}"), &headers, b""))
        .await;
    let answer = raw.answer().await.expect("an answer of prometheus");
    (answer.status, answer.text())
}
