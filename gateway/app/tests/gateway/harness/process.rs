//! Starting, ending and killing the gateway's process, and its command line.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_testkit::forge::Forge;
use tollgate_testkit::raw::{Raw, request};
use tollgate_testkit::wait::{eventually, until, until_true};

use super::scan::{Secrets, Tokens, metrics};

/// The binary under test.
const TOLLGATE: &str = env!("CARGO_BIN_EXE_tollgate");

/// All that the gateway and the libraries below it can say.
const EVERYTHING: &str = "trace,tollgate=trace";

/// A policies directory and a data directory, which outlive the processes that serve them.
pub(crate) struct Site {
    directory: TempDir,
    /// What may show nowhere.
    pub(crate) secrets: Secrets,
}

impl Site {
    /// Empty directories.
    pub(crate) fn new() -> Arc<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tollgate-test-")
            .tempdir()
            .unwrap();
        fs::create_dir_all(directory.path().join("policies/providers")).unwrap();
        fs::create_dir_all(directory.path().join("policies/tenants")).unwrap();
        fs::create_dir_all(directory.path().join("policies/issuers")).unwrap();
        Arc::new(Self {
            directory,
            secrets: Secrets::default(),
        })
    }

    /// The directory that holds both.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Where the policies are.
    pub(crate) fn policies(&self) -> PathBuf {
        self.root().join("policies")
    }

    /// Where the data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Writes a policy file so that nobody can read half of it.
    pub(crate) fn write_policy(&self, path: &str, text: &str) {
        let whole = self.policies().join(path);
        let half = self.root().join("half-written");
        fs::write(&half, text).unwrap();
        fs::rename(half, whole).unwrap();
    }

    /// Runs a command of the binary to its end.
    pub(crate) fn cli(&self, arguments: &[&str], input: &str) -> Output {
        self.cli_with(arguments, &[], input)
    }

    /// As [`Site::cli`], with more variables in its environment.
    pub(crate) fn cli_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
        input: &str,
    ) -> Output {
        let mut child = self
            .command(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input closes the pipe: that is no failure here.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        self.secrets.learn(arguments, input);
        let tokens = match arguments {
            ["token", "mint" | "exchange", ..] => Tokens::Asked,
            _ => Tokens::Never,
        };
        for (name, text) in [("output", &output.stdout), ("errors", &output.stderr)] {
            let what = format!("the {name} of tollgate {arguments:?}");
            self.secrets.check(&what, text, tokens);
        }
        output
    }

    /// As [`Site::cli`], for commands that must succeed. Returns what they printed.
    pub(crate) fn cli_ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.cli(arguments, input);
        assert!(
            output.status.success(),
            "tollgate {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts a secret into the vault, through the command line.
    pub(crate) fn secret(&self, verb: &str, tenant: &str, name: &str, value: &str) {
        self.cli_ok(&["secret", verb, "--tenant", tenant, "--name", name], value);
    }

    /// Starts serving, and returns once the gateway says that it is ready.
    pub(crate) async fn serve(self: &Arc<Self>) -> Gateway {
        self.serve_logging(EVERYTHING).await
    }

    /// As [`Site::serve`], taking over from the gateway that runs.
    pub(crate) async fn upgrade(self: &Arc<Self>) -> Gateway {
        self.serve_by(self.command(&["serve", "--upgrade"]), EVERYTHING)
            .await
    }

    /// As [`Site::serve`], with this much in the log.
    pub(crate) async fn serve_logging(self: &Arc<Self>, level: &str) -> Gateway {
        self.serve_by(self.command(&["serve"]), level).await
    }

    /// As [`Site::serve`], with these variables in its environment.
    pub(crate) async fn serve_with(self: &Arc<Self>, variables: &[(&str, &str)]) -> Gateway {
        let mut command = self.command(&["serve"]);
        command.envs(variables.iter().copied());
        self.serve_by(command, "info").await
    }

    /// As [`Site::serve`], on a disk that [`Gateway::fill_disk`] fills.
    pub(crate) async fn serve_on_small_disk(self: &Arc<Self>) -> Gateway {
        let mut command = self.command_of("sh");
        // Whoever writes beyond a limit on files is told so only if it is deaf to the signal.
        command.args(["-c", "trap '' XFSZ; exec \"$0\" serve", TOLLGATE]);
        self.serve_by(command, EVERYTHING).await
    }

    async fn serve_by(self: &Arc<Self>, mut command: Command, level: &str) -> Gateway {
        let mut child = command
            .env("TOLLGATE_LOG", level)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let listening = std::thread::spawn({
            let log = Arc::clone(&log);
            move || keep(stderr, &log)
        });
        let (said, ready) = mpsc::channel();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let hearing = std::thread::spawn(move || {
            let mut line = String::new();
            drop(stdout.read_line(&mut line));
            drop(said.send(line.clone()));
            let mut all = line.into_bytes();
            drop(stdout.read_to_end(&mut all));
            all
        });
        let line = until("the gateway is ready", || ready.try_recv().ok()).await;
        let Ok(addresses) = serde_json::from_str::<Value>(&line) else {
            drop(child.kill());
            drop(child.wait());
            panic!(
                "the gateway did not start: {line:?}\n{}",
                log.lock().unwrap()
            );
        };
        let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        let admin_token = fs::read_to_string(self.data().join("keys/admin.token")).unwrap();
        Gateway {
            address: address("listening"),
            admin: address("admin"),
            admin_token: admin_token.trim().to_owned(),
            site: Arc::clone(self),
            log,
            readers: Some((listening, hearing)),
            child,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_of(TOLLGATE);
        command.args(arguments);
        command
    }

    fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_remove("TOLLGATE_ADMIN_TOKEN")
            .env_remove("TOLLGATE_LISTEN")
            .env_remove("TOLLGATE_ADMIN_LISTEN")
            .env("TOLLGATE_POLICIES", self.policies())
            .env("TOLLGATE_DATA", self.data())
            .current_dir(self.root());
        command
    }
}

fn keep(stderr: impl Read, log: &Mutex<String>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
        log.lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

/// A serving process. Killed when dropped.
pub(crate) struct Gateway {
    /// Where agents call.
    pub(crate) address: SocketAddr,
    /// Where operators call.
    pub(crate) admin: SocketAddr,
    /// The files it serves.
    pub(crate) site: Arc<Site>,
    admin_token: String,
    log: Arc<Mutex<String>>,
    /// Those who read its errors and its output to their ends.
    readers: Option<(JoinHandle<()>, JoinHandle<Vec<u8>>)>,
    child: Child,
}

impl Gateway {
    /// A task token, through the admin API.
    pub(crate) async fn mint(&self, tenant: &str, agent: &str, task: &str) -> String {
        let asked = json!({"tenant": tenant, "agent": agent, "task": task});
        let (status, minted) = self.admin_post("/v1/tokens", &asked).await;
        assert!(matches!(status, 200 | 201), "{status}: {minted}");
        minted["token"].as_str().expect("a token").to_owned()
    }

    /// Revokes what `what` says, through the admin API.
    pub(crate) async fn revoke(&self, what: &Value) {
        let (status, said) = self.admin_post("/v1/tokens/revoke", what).await;
        assert_eq!(status, 200, "{said}");
    }

    /// Posts JSON to the admin API as the operator.
    pub(crate) async fn admin_post(&self, path: &str, body: &Value) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.admin_token);
        let headers = [
            ("host", "admin"),
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let mut raw = Raw::connect(self.admin).await;
        raw.send(request(
            &format!("POST {path}"),
            &headers,
            body.to_string().as_bytes(),
        ))
        .await;
        let answer = raw.answer().await.expect("an answer of the admin API");
        let tokens = match path {
            "/v1/tokens" => Tokens::Asked,
            _ => Tokens::Never,
        };
        self.site.secrets.check(path, &answer.body, tokens);
        (answer.status, answer.json())
    }

    /// A tenant's counters, through the admin API.
    pub(crate) async fn budgets(&self, tenant: &str) -> Vec<Value> {
        let bearer = format!("Bearer {}", self.admin_token);
        let headers = [("host", "admin"), ("authorization", bearer.as_str())];
        let mut raw = Raw::connect(self.admin).await;
        raw.send(request(&format!("GET /v1/budgets/{tenant}"), &headers, b""))
            .await;
        let answer = raw.answer().await.expect("an answer of the admin API");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["budgets"]
            .as_array()
            .expect("counters")
            .clone()
    }

    /// Gets something from the admin listener without a token: its status and text.
    pub(crate) async fn admin_get(&self, path: &str) -> (u16, String) {
        let mut raw = Raw::connect(self.admin).await;
        raw.send(request(&format!("GET {path}"), &[("host", "admin")], b""))
            .await;
        let answer = raw.answer().await.expect("an answer of the admin API");
        self.site.secrets.check(path, &answer.body, Tokens::Never);
        (answer.status, answer.text())
    }

    /// A figure of the gateway's metrics, which must be there.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = self.admin_get("/metrics").await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("{name} is not among the metrics"));
        value.parse().unwrap()
    }

    /// Waits until the gateway has noticed that every client is gone. A mock that is released before
    /// that may answer a client which, to the gateway, is still there.
    pub(crate) async fn left_alone(&self) {
        eventually("the gateway sees that its clients are gone", async || {
            let metrics = self.admin_get("/metrics").await.1;
            metrics.contains("\ntollgate_client_connections 0\n")
        })
        .await;
    }

    /// Gets JSON from the admin API as the operator.
    pub(crate) async fn admin_read(&self, path: &str) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.admin_token);
        let headers = [("host", "admin"), ("authorization", bearer.as_str())];
        let mut raw = Raw::connect(self.admin).await;
        raw.send(request(&format!("GET {path}"), &headers, b""))
            .await;
        let answer = raw.answer().await.expect("an answer of the admin API");
        self.site.secrets.check(path, &answer.body, Tokens::Never);
        (answer.status, answer.json())
    }

    /// The gateway's own signing key, for tokens that only their claims make wrong.
    pub(crate) fn forge(&self) -> Forge {
        Forge::ed25519(&self.signing_key())
    }

    /// The gateway's own signing key, as PEM.
    pub(crate) fn signing_key(&self) -> String {
        fs::read_to_string(self.site.data().join("keys/issuer.pem")).unwrap()
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.map(|name| name.unwrap().trim().to_owned()).collect()
    }

    /// The most memory it has ever had resident, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// From here on its files take not one byte more, as on a full disk.
    pub(crate) fn fill_disk(&self) {
        self.limit_files(Some(0));
    }

    /// Its files take whatever comes again.
    pub(crate) fn empty_disk(&self) {
        self.limit_files(None);
    }

    /// The hard limit stays, so that anybody may undo it.
    fn limit_files(&self, bytes: Option<u64>) {
        let process = Pid::from_child(&self.child);
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit {
            current: bytes.or(maximum),
            maximum,
        };
        prlimit(Some(process), Resource::Fsize, limit).unwrap();
    }

    /// Ends it without warning, as a crash does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn terminate(&self) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.child.id())])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for it to end by itself; its exit code.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        until_true("the process ends", || {
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
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let metrics = match self.child.try_wait() {
            Ok(None) => metrics(self.admin),
            _ => Vec::new(),
        };
        drop(self.child.kill());
        drop(self.child.wait());
        let mut printed = Vec::new();
        if let Some((listening, hearing)) = self.readers.take() {
            drop(listening.join());
            printed = hearing.join().unwrap_or_default();
        }
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- last lines of the gateway's log");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
            return;
        }
        let secrets = &self.site.secrets;
        secrets.check("the log", self.log().as_bytes(), Tokens::Never);
        secrets.check("the metrics", &metrics, Tokens::Never);
        secrets.check("standard output", &printed, Tokens::Never);
        secrets.check_files(&self.site.data());
    }
}
