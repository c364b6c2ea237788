//! `docker-compose.yml`, run: the same processes with the same settings, by the commands of
//! `docs/compose.md`, in namespaces of their own, which takes root. `tests/compose/engine.py` is the
//! engine; what it does not know, it refuses, so that nothing in the file goes untested.

mod dockerfile;

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use serde_json::Value;
use tempfile::TempDir;

/// The Python of `make sdk`, which has what reads YAML, checks schemas and calls like an agent.
const PYTHON: &str = "target/sdk/python/bin";

/// How long something that takes a moment is asked for again: Prometheus looks every 15 seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it is left alone in between.
const PAUSE: Duration = Duration::from_millis(100);

fn repository() -> PathBuf {
    let app = Path::new(env!("CARGO_MANIFEST_DIR"));
    app.join("../..").canonicalize().unwrap()
}

/// What a script of the engine came to.
struct Done {
    code: i64,
    stdout: String,
    stderr: String,
}

/// An engine with the file's networks, before anything is up.
struct Engine {
    child: Child,
    scripts: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _work: TempDir,
}

impl Engine {
    fn start() -> Self {
        assert!(geteuid().is_root(), "this needs root, for namespaces");
        let work = tempfile::tempdir().unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
        assert!(
            programs.join("loadtest").exists(),
            "the mock is not there; run `cargo build --package tollgate-loadtest` first"
        );
        let python = repository().join(PYTHON);
        assert!(python.exists(), "run `make sdk` first");
        let path = format!("{}:{}", python.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        let mut child = command
            .arg(python.join("python"))
            .args(["-B", "gateway/app/tests/compose/engine.py"])
            .args([&repository(), programs, work.path()])
            .current_dir(repository())
            .env_clear()
            .envs([
                ("PATH", path.as_str()),
                ("LANG", "C.UTF-8"),
                ("NO_PROXY", "*"),
            ])
            .env("HOME", work.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux");
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let scripts = child.stdin.take().unwrap();
        Self {
            child,
            scripts,
            answers,
            _work: work,
        }
    }

    /// Runs a script, with the variables that those before it have exported.
    fn run(&mut self, script: &str) -> Done {
        let script = format!(
            "if [ -e ~/exported ]; then . ~/exported; fi\n{script}\nexport -p >~/exported\n"
        );
        let line = serde_json::to_string(&script).unwrap();
        writeln!(self.scripts, "{line}").unwrap();
        let told = self.answers.next().expect("the engine ended").unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        Done {
            code: told["code"].as_i64().unwrap(),
            stdout: text("stdout"),
            stderr: text("stderr"),
        }
    }

    /// Runs a script until all of `expected` is in what it prints.
    fn shows(&mut self, script: &str, expected: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done = self.run(script);
            let lacking = expected.iter().find(|part| !done.stdout.contains(**part));
            if done.code == 0 && lacking.is_none() {
                return done.stdout;
            }
            assert!(
                done.code == 0 && Instant::now() < deadline,
                "{script}\nended with {}, without {lacking:?}:\n{}{}",
                done.code,
                done.stdout,
                done.stderr
            );
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The processes in it end with it: it is the first of their namespace.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The commands that a page tells its readers to run: what stands in blocks of `sh` and of `python`.
fn commands(page: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let mut blocks: Vec<String> = Vec::new();
    let mut language = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), language) {
            (Some(named), None) => {
                language = Some(named);
                blocks.push(String::new());
            }
            (Some(_), Some(named)) => {
                language = None;
                match named {
                    "python" => {
                        let code = blocks.pop().unwrap();
                        blocks.push(format!("python - <<'PYTHON'\n{code}PYTHON"));
                    }
                    "sh" => {}
                    _ => drop(blocks.pop()),
                }
            }
            (None, Some(_)) => {
                let block = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_compose_file_keeps_to_the_compose_specification() {
    let output = Command::new(repository().join(PYTHON).join("check-jsonschema"))
        .args([
            "--builtin-schema",
            "vendor.compose-spec",
            "docker-compose.yml",
        ])
        .current_dir(repository())
        .output()
        .expect("check-jsonschema, which `make sdk` installs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn what_the_compose_page_says_works_with_the_settings_of_the_compose_file() {
    let mut engine = Engine::start();
    engine.shows(
        "printf sk-canary-compose-own-0123456789 >~/openai-key.txt",
        &[],
    );
    // A part of each block, and what it shows.
    let expectations: &[(&str, &[&str])] = &[
        ("docker compose up --build", &[]),
        ("--agent support-bot", &["\"object\":\"chat.completion\""]),
        ("from openai import", &["Hello from the mock provider"]),
        (":8081/account", &["Bearer sk-demo-acme-openai-"]),
        (
            "--tenant globex",
            &["request_exceeds_headroom", "largest_output_tokens_that_fit"],
        ),
        (
            "tollgate report",
            &["acme", "globex", "support-bot", "gpt-4o-mini"],
        ),
        (
            "docker run",
            &[
                "\"object\":\"list\"",
                "no way to the provider",
                "no way to the admin listener",
            ],
        ),
        ("--profile fleet", &["ready\n", "SILENT"]),
        ("tollgate secret rotate", &[]),
        ("docker compose down", &[]),
    ];
    let blocks = commands("docs/compose.md");
    assert_eq!(blocks.len(), expectations.len(), "{blocks:#?}");
    for (block, (part, expected)) in blocks.iter().zip(expectations) {
        assert!(block.contains(part), "{part} is expected in {block}");
        if *part == "docker compose down" {
            beyond_the_page(&mut engine);
        }
        let shown = engine.shows(block, expected);
        if *part == "docker compose down" {
            let ended: Vec<&str> = shown.lines().collect();
            assert!(ended.len() >= 5, "{shown}");
            for process in ended {
                assert!(process.ends_with(" 0"), "ended in order: {shown}");
            }
        }
    }
}

/// What holds while all is up, whether or not the page tells how to see it.
fn beyond_the_page(engine: &mut Engine) {
    let query = |asked: &str| {
        format!(
            "curl --silent --get http://127.0.0.1:9090/api/v1/query --data-urlencode 'query={asked}'"
        )
    };
    let scraped = query("count({job=\"tollgate\", __name__=~\"tollgate_.+\"}) > 10");
    engine.shows(&scraped, &["\"value\":"]);
    let broken = query("up == 0");
    engine.shows(&broken, &["\"result\":[]"]);

    // Started again, it keeps what is there: the tenant's own key, and the password of Valkey.
    engine.shows(
        "docker compose --profile fleet up --detach\n\
         docker compose exec -T gateway tollgate health --json\n\
         docker compose exec -T gateway-2 tollgate health",
        &["\"status\": \"ready\"", "ready\n"],
    );
    let call = "OPENAI_API_KEY=$(docker compose exec -T gateway-2 tollgate token mint --tenant acme --agent a1 --task t1)\n\
                curl --silent $OPENAI_BASE_URL/models -H \"authorization: Bearer $OPENAI_API_KEY\"\n\
                curl --silent $OPENAI_BASE_URL/embeddings -H \"authorization: Bearer $OPENAI_API_KEY\" \
                -H content-type:application/json -d '{\"model\":\"text-embedding-3-small\",\"input\":\"hi\"}'\n\
                curl --silent http://127.0.0.1:8081/account";
    engine.shows(call, &["Bearer sk-canary-compose-own-"]);
}
