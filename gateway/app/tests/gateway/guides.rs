//! The guides in `docs/guides`: their commands run here, one after the other, as a reader would type them.
//!
//! Each guide gets a directory, a loopback address of its own in place of 127.0.0.1, so that its ports are
//! those that it names, a mock provider there, and a shell. All but the first begin where the first one's
//! gateway runs. What a guide shows as output is what came out; what it does not run says why.

mod page;

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tollgate_loadtest::mock::Mock;

use page::{Block, blocks, matches};

/// How many blocks of which guide are not run.
const NOT_RUN: [(&str, usize); 2] = [("first-call.md", 1), ("sdks.md", 2)];

/// What stands before and after the output of a command.
const RULE: char = '\u{1e}';

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn guide(name: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join("docs/guides").join(name)).unwrap();
    blocks(name, &text)
}

/// The file that a guide shows under this name.
pub(crate) fn block(name: &str, file: &str) -> String {
    let found = guide(name).into_iter().find_map(|block| match block {
        Block::File(path, text) if path == file => Some(text),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{name} shows no {file}"))
}

/// Up to the mark, of the first guide: a gateway that runs, a token, and how to call.
fn beginning() -> Vec<Block> {
    let blocks = guide("first-call.md").into_iter();
    blocks
        .take_while(|block| !matches!(block, Block::Mark))
        .collect()
}

/// One shell script of all blocks, and what each command is expected to say.
fn script(blocks: &[Block]) -> (String, Vec<(String, String)>) {
    let mut script = "exec 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n".to_owned();
    let mut expected = Vec::new();
    for block in blocks {
        match block {
            Block::Script(lines) => write!(script, "set -e\n{lines}set +e\n").unwrap(),
            Block::File(path, text) => {
                let home = path.replace("~/", "$HOME/");
                write!(
                    script,
                    "mkdir -p \"$(dirname \"{home}\")\"\ncat > \"{home}\" <<'END OF FILE'\n{text}END OF FILE\n"
                )
                .unwrap();
            }
            Block::Command(command, output) => {
                let typed = repeated(command, output);
                write!(script, "printf '{RULE}'\n{typed}printf '{RULE}'\n").unwrap();
                expected.push((command.clone(), output.clone()));
            }
            Block::Runs(..) | Block::NotRun | Block::Mark => {}
        }
    }
    writeln!(script, "printf '{RULE}end'").unwrap();
    (script, expected)
}

/// What reads records is repeated until it says what is expected: they follow a call, on a busy machine late.
fn repeated(command: &str, output: &str) -> String {
    let reads = ["tollgate report", "tollgate audit", "cat data/audit"];
    if !reads.iter().any(|start| command.starts_with(start)) {
        return command.to_owned();
    }
    let quoted = |piece: &str| format!("'{}'", piece.replace('\'', "'\\''"));
    let pieces: Vec<String> = output.trim_end().split('…').map(quoted).collect();
    let pattern = pieces.join("*");
    format!(
        "for try in $(seq 50); do said=$({}); case \"$said\" in {pattern}) break;; esac; sleep 0.1; done\n\
         printf '%s\\n' \"$said\"\n",
        command.trim_end()
    )
}

/// A loopback address that nobody else uses: of this process, and of this guide in it.
fn address(number: u8) -> Ipv4Addr {
    let [high, low] = u16::try_from(std::process::id() % 65_536)
        .unwrap()
        .to_be_bytes();
    Ipv4Addr::new(127, 64 + high % 128, low, number)
}

async fn run(name: &str, number: u8) {
    let own = address(number).to_string();
    let mut all = match name {
        "first-call.md" => Vec::new(),
        _ => beginning(),
    };
    all.extend(guide(name));
    let (text, expected) = script(&all);
    let _mock = Mock::start((address(number), 8999).into()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root(), directory.path().join("tollgate")).unwrap();
    let file = directory.path().join("guide.sh");
    fs::write(&file, text.replace("127.0.0.1", &own)).unwrap();
    let mut command = shell(directory.path(), &own);
    command.arg(&file);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace(&own, "127.0.0.1");
    let log = fs::read_to_string(directory.path().join("site/gateway.log")).unwrap_or_default();
    let context = || format!("{name}:\n{said}\n--- its gateway\n{log}");
    let outputs: Vec<&str> = said.split(RULE).skip(1).step_by(2).collect();
    for ((command, pattern), output) in expected.iter().zip(&outputs) {
        assert!(
            matches(pattern, output),
            "{name}: $ {command}says\n{output}\ninstead of\n{pattern}\n{}",
            context()
        );
    }
    assert!(
        said.contains(&format!("{RULE}end")),
        "it broke off: {}",
        context()
    );
}

/// Bash in this directory, with the programs that the guides name and nothing of this process's settings.
fn shell(directory: &Path, own: &str) -> Command {
    let tollgate = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let sdk = root().join("target/sdk");
    let path = [
        tollgate.parent().unwrap().display().to_string(),
        sdk.join("python/bin").display().to_string(),
        std::env::var("PATH").unwrap(),
    ];
    // Ends everything that it has started, should it hang.
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", "120", "bash"])
        .env_clear()
        .env("PATH", path.join(":"))
        .env("NODE_PATH", sdk.join("node/node_modules"))
        .env("HOME", directory.join("home"))
        .env("LC_ALL", "C.UTF-8")
        .env("TOLLGATE_LISTEN", format!("{own}:8080"))
        .env("TOLLGATE_ADMIN_LISTEN", format!("{own}:9090"))
        .current_dir(directory);
    command
}

#[tokio::test]
async fn first_call() {
    run("first-call.md", 1).await;
}

#[tokio::test]
async fn sdks() {
    run("sdks.md", 2).await;
}

#[tokio::test]
async fn add_a_tenant() {
    run("add-a-tenant.md", 3).await;
}

#[tokio::test]
async fn rotate_a_key() {
    run("rotate-a-key.md", 4).await;
}

#[tokio::test]
async fn cap_was_hit() {
    run("cap-was-hit.md", 5).await;
}

#[tokio::test]
async fn tenants_bill() {
    run("tenants-bill.md", 6).await;
}

#[tokio::test]
async fn redis_is_down() {
    run("redis-is-down.md", 7).await;
}

#[tokio::test]
async fn upgrade() {
    run("upgrade.md", 8).await;
}

#[tokio::test]
async fn isolate_a_tenant() {
    run("isolate-a-tenant.md", 9).await;
}

#[tokio::test]
async fn from_litellm() {
    run("from-litellm.md", 10).await;
}

/// What a framework's script shows between its marks, as far to the left as it goes.
fn shown(script: &str) -> String {
    let path = root().join("gateway/app/tests/sdk/frameworks").join(script);
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().skip_while(|line| !line.ends_with("- guide"));
    let lines: Vec<&str> = lines
        .skip(1)
        .take_while(|line| !line.ends_with("- end"))
        .collect();
    let indent = lines[0].len() - lines[0].trim_start().len();
    lines.iter().fold(String::new(), |text, line| {
        text + line.get(indent..).unwrap_or_default() + "\n"
    })
}

#[test]
fn each_framework_is_shown_with_the_lines_that_run_and_whatever_is_not_run_is_listed() {
    let mut frameworks = 0;
    let mut not_run = Vec::new();
    let mut names: Vec<String> = fs::read_dir(root().join("docs/guides"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        let mut left_out = 0;
        for block in guide(name) {
            match block {
                Block::Runs(script, lines) => {
                    assert_eq!(lines, shown(&script), "{name} and {script}");
                    frameworks += 1;
                }
                Block::NotRun => left_out += 1,
                _ => {}
            }
        }
        if left_out > 0 {
            not_run.push((name.as_str(), left_out));
        }
    }
    assert_eq!(frameworks, 5);
    assert_eq!(not_run, NOT_RUN);
}

#[test]
fn every_file_that_the_security_model_names_as_proof_is_there() {
    let text = fs::read_to_string(root().join("docs/guides/security-model.md")).unwrap();
    let isolation = fs::read_to_string(root().join("docs/guides/isolate-a-tenant.md")).unwrap();
    let words = text.split('`').chain(isolation.split('`'));
    let proofs: Vec<&str> = words.filter(|word| word.ends_with(".rs")).collect();
    assert!(proofs.len() > 20, "{proofs:?}");
    for proof in proofs {
        let path = root().join("gateway/app/tests/gateway").join(proof);
        assert!(path.exists(), "{} is named as proof", path.display());
    }
}
