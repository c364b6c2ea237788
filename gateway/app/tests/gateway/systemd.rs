//! The units for systemd: they are well formed and tight, and the gateway runs as they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tollgate_testkit::wait::until_true;

use crate::harness::{Plan, Site};

const UNITS: [&str; 2] = ["tollgate.service", "tollgate@.service"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(deploy())
        .output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; run `make test-tools` first"))
}

/// The settings of a unit's `[Service]`, each with all of its values.
fn service(unit: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(deploy().join(unit)).unwrap();
    let lines = text.lines().skip_while(|line| *line != "[Service]").skip(1);
    let mut settings = BTreeMap::<String, Vec<String>>::new();
    for line in lines.take_while(|line| !line.starts_with('[')) {
        if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            settings
                .entry(name.to_owned())
                .or_default()
                .push(value.to_owned());
        }
    }
    settings
}

/// System calls that a filter names, its groups taken apart.
fn calls(filter: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for word in filter.split_whitespace() {
        if !word.starts_with('@') {
            all.insert(word.to_owned());
            continue;
        }
        let listed = run("systemd-analyze", &["syscall-filter", word]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let words = listed.lines().skip(1).map(str::trim);
        for word in words.filter(|word| !word.is_empty() && !word.starts_with('#')) {
            all.extend(calls(word));
        }
    }
    all
}

#[test]
fn the_units_are_well_formed_and_tight() {
    for unit in UNITS {
        let path = format!("./{unit}");
        let verified = run("systemd-analyze", &["verify", "--man=no", &path]);
        let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
        // The binary is not installed here.
        let complaints: Vec<&str> = complaints
            .lines()
            .filter(|line| line.contains("tollgate") && !line.contains("is not executable"))
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        let judged = run(
            "systemd-analyze",
            &["security", "--offline=true", "--threshold=20", &path],
        );
        let said = String::from_utf8_lossy(&judged.stdout).into_owned();
        assert!(judged.status.success(), "more exposed than 2.0: {said}");
        assert!(said.contains("Overall exposure level"), "{said}");
    }
    let users = fs::read_to_string(deploy().join("tollgate.sysusers")).unwrap();
    let directories = fs::read_to_string(deploy().join("tollgate.tmpfiles")).unwrap();
    for unit in UNITS {
        let service = service(unit);
        assert!(users.contains(&format!("u {} ", service["User"][0])));
        let environment = service["Environment"][0].split_whitespace();
        for (name, value) in environment.filter_map(|pair| pair.split_once('=')) {
            match name {
                "TOLLGATE_POLICIES" => assert!(directories.contains(&format!("d {value} "))),
                "TOLLGATE_DATA" => {
                    assert_eq!(value, format!("/var/lib/{}", service["StateDirectory"][0]))
                }
                _ => panic!("{name} is not known"),
            }
        }
    }
    // Each variable of the example is one that the program names.
    let help = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let example = fs::read_to_string(deploy().join("tollgate.env")).unwrap();
    let named = example
        .lines()
        .filter_map(|line| line.strip_prefix("#TOLLGATE_"));
    let named: Vec<&str> = named.filter_map(|rest| rest.split('=').next()).collect();
    assert!(named.len() >= 3);
    for name in named {
        assert!(help.contains(&format!("TOLLGATE_{name}")), "{name}");
    }
}

/// What `ExecStart` runs, as it would, with the unit's directories below another root; under a
/// tracer that writes down what it asks of the kernel.
#[tokio::test(flavor = "multi_thread")]
async fn it_starts_says_so_and_ends_with_no_system_call_that_the_unit_denies() {
    let site = Site::new();
    Plan::at("127.0.0.1:1".parse().unwrap()).write(&site);
    let service = service("tollgate.service");
    let [filter, denied, more] = &service["SystemCallFilter"][..] else {
        panic!("three lines of filters");
    };
    let mut allowed = calls(filter);
    for denied in calls(denied.strip_prefix('~').unwrap()) {
        allowed.remove(&denied);
    }
    allowed.extend(calls(more));
    // Those of a shell and of SQLite that runs as root, which the unit's user never makes.
    allowed.extend(["fchown"].map(str::to_owned));

    let socket = site.root().join("notify");
    let heard = UnixDatagram::bind(&socket).unwrap();
    heard
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let trace = site.root().join("trace");
    let program = service["ExecStart"][0].split(' ').collect::<Vec<_>>();
    assert_eq!(program[0], "/usr/bin/tollgate");
    let mut child = Command::new("strace")
        .args(["-D", "-f", "-qq", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_tollgate"))
        .args(&program[1..])
        .env_clear()
        .env("TOLLGATE_POLICIES", site.policies())
        .env("TOLLGATE_DATA", site.data())
        .env("NOTIFY_SOCKET", &socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("strace: {error}; run `make test-tools` first"));
    let next = || {
        let mut message = [0; 256];
        let length = heard.recv(&mut message).expect("it says something");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let ready = tokio::task::block_in_place(next);
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let stopping = tokio::task::block_in_place(next);
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let ended = || fs::read_to_string(&trace).is_ok_and(|text| text.contains("exit_group"));
    until_true("the tracer has written", ended).await;
    let text = fs::read_to_string(&trace).unwrap();
    let mut made = BTreeSet::new();
    for line in text.lines() {
        let (_process, line) = line.split_once(' ').unwrap_or_default();
        let name: String = line
            .trim_start()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        if line.trim_start()[name.len()..].starts_with('(') {
            made.insert(name);
        }
        assert!(
            !line.contains("PROT_WRITE|PROT_EXEC"),
            "MemoryDenyWriteExecute: {line}"
        );
        if let Some((_, family)) = line.split_once("socket(AF_") {
            let family = family.split(',').next().unwrap();
            assert!(
                ["INET", "INET6", "UNIX"].contains(&family),
                "RestrictAddressFamilies: {line}"
            );
        }
    }
    assert!(made.len() > 30 && made.contains("epoll_wait"), "{made:?}");
    let denied: Vec<_> = made.difference(&allowed).collect();
    assert!(denied.is_empty(), "SystemCallFilter denies {denied:?}");
}
