//! `tollgate quickstart`: what it shows is true, and nothing of it stays.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tollgate_testkit::wait::until;

/// The program, with a temporary directory of its own to look into afterwards.
fn quickstart(temporary: &TempDir, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("quickstart")
        .args(arguments)
        .env("TMPDIR", temporary.path())
        .env("TOLLGATE_ADMIN_TOKEN", "tga_of_some_other_gateway")
        .env("TOLLGATE_DATA", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn what_is_left(temporary: &TempDir) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(temporary.path()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The address after `label` in the introduction.
fn address(shown: &str, label: &str) -> SocketAddr {
    let line = shown
        .lines()
        .find(|line| line.trim_start().starts_with(label))
        .unwrap();
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap();
    url.trim_start_matches("http://").parse().unwrap()
}

#[test]
fn the_demonstration_shows_the_whole_product_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = quickstart(&temporary, &["--once"])
        .wait_with_output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{shown}\n{said}");
    for expected in [
        "acme    200   the provider got  Bearer sk-canary-acme-openai-…",
        "globex  200   the provider got  Bearer sk-canary-globex-openai-…",
        "gpt-4o-mini, 8 events",
        "claude-haiku-4-5",
        "gemini-2.5-flash",
        "globex  429   refused, and nothing reached the provider:",
        "x-should-retry: false",
        "\"cap\": \"globex/tenant/day:",
        "acme    200   the same call: not concerned",
        "notice at 100 %   globex/tenant/day:",
        "export OPENAI_BASE_URL=http://127.0.0.1:",
        "export OPENAI_API_KEY=eyJ",
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:",
    ] {
        assert!(shown.contains(expected), "{expected:?} in:\n{shown}");
    }
    let report = shown
        .lines()
        .find(|line| line.contains("globex  intern-bot  "))
        .unwrap();
    let cells: Vec<&str> = report.split_whitespace().collect();
    assert_eq!(cells[3..8], ["5", "1", "60", "0", "640"], "{report}");
    assert_eq!(
        what_is_left(&temporary),
        [""; 0].map(std::path::PathBuf::from)
    );
    TcpStream::connect(address(&shown, "gateway")).expect_err("the gateway is gone");
}

#[tokio::test]
async fn ctrl_c_ends_it_cleanly_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = quickstart(&temporary, &[]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("Ctrl-C ends it") {
        assert_ne!(
            stdout.read_line(&mut shown).unwrap(),
            0,
            "it ended by itself:\n{shown}"
        );
    }
    let (gateway, admin) = (address(&shown, "gateway"), address(&shown, "admin"));
    TcpStream::connect(gateway).expect("the gateway stays up");
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -INT {}", child.id())])
        .status();
    assert!(sent.unwrap().success());
    let status = until("quickstart ends", || child.try_wait().unwrap()).await;
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(
        what_is_left(&temporary),
        [""; 0].map(std::path::PathBuf::from)
    );
    for address in [gateway, admin] {
        TcpStream::connect(address).expect_err("nothing listens any more");
    }
}

#[tokio::test]
async fn its_gateway_ends_even_if_it_is_killed() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = quickstart(&temporary, &[]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("Ctrl-C ends it") {
        assert_ne!(
            stdout.read_line(&mut shown).unwrap(),
            0,
            "it ended by itself:\n{shown}"
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let gateway = address(&shown, "gateway");
    until("its gateway is gone", || {
        TcpStream::connect(gateway).is_err().then_some(())
    })
    .await;
}
