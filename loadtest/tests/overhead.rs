//! A run of `loadtest overhead` ends with one object, whatever of its targets is not there.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// A directory of peers: nginx as this repository has it, the mock in the guise of a gateway that
/// writes answers anew, and one whose program is nowhere.
fn peers() -> tempfile::TempDir {
    let peers = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::create_dir_all(peers.path().join(name)).unwrap();
        fs::write(peers.path().join(name).join("peer.toml"), text).unwrap();
    };
    let nginx = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/nginx");
    write(
        "nginx",
        &fs::read_to_string(nginx.join("peer.toml")).unwrap(),
    );
    fs::copy(
        nginx.join("nginx.conf"),
        peers.path().join("nginx/nginx.conf"),
    )
    .unwrap();
    write(
        "near",
        &format!(
            "about = \"the mock again\"\nlicence = \"Apache-2.0\"\nget = \"here\"\nvariable = \"NEAR_LOADTEST\"\n\
             programs = [\"{LOADTEST}\"]\narguments = [\"mock\", \"--bench\", \"--events\", \"8\"]\n\
             version = [\"echo\", \"near 1.0\"]\nready = \"line\"\nconnections = 2\nprocessors = 1\n\
             [call]\npath = \"/v1/chat/completions\"\nrewrites = true\n"
        ),
    );
    write(
        "absent",
        "about = \"nothing\"\nlicence = \"none\"\nget = \"nowhere\"\nvariable = \"NO_SUCH_PEER\"\n\
         programs = [\"no-such-peer\"]\narguments = []\n[call]\npath = \"/\"\n",
    );
    peers
}

fn overhead(peers: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(LOADTEST);
    command.arg("overhead").arg("--peers").arg(peers);
    command.args(["--rounds", "1", "--seconds", "0.1", "--events", "8"]);
    command.args(["--connections", "4", "--stream-connections", "2"]);
    command.args(["--no-profile", "--json"]).args(arguments);
    command.output().unwrap()
}

fn median(summary: &Value, place: &str) -> f64 {
    let spread = summary.pointer(place).unwrap_or(&Value::Null);
    let median = spread.get("median").and_then(Value::as_f64);
    assert!(median.is_some(), "{place} is {spread}");
    median.unwrap()
}

#[test]
fn a_run_without_a_gateway_ends_with_the_object() {
    let peers = peers();
    let targets = [
        "--targets",
        "nginx,near,absent",
        "--full",
        "--open-streams",
        "8",
    ];
    let output = overhead(peers.path(), &targets);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, samples) = lines.split_last().unwrap();

    for mode in ["plain", "stream", "one", "events"] {
        let of_mode = |target: &str| {
            samples
                .iter()
                .any(|sample| sample["target"] == target && sample["mode"] == mode)
        };
        assert!(
            of_mode("direct") && of_mode("near"),
            "{mode} in {samples:?}"
        );
    }
    assert_eq!(summary["cpu_ratio_to_nginx"], Value::Null);
    assert_eq!(summary["within_bar"], Value::Null);
    let absent = summary["not_measured"]["absent"].as_str().unwrap();
    assert!(
        absent.starts_with("no program `no-such-peer` found"),
        "{absent}"
    );
    assert_eq!(summary["programs"]["near"]["version"], "near 1.0");
    assert!(median(summary, "/targets/near_plain/rps") > 0.0);
    assert!(median(summary, "/targets/near_stream/rps") > 0.0);
    for delay in [
        "half_of_saturation",
        "one_connection",
        "first_event",
        "event_delay",
    ] {
        median(summary, &format!("/added/near/{delay}/p99_ms"));
    }
    assert!(median(summary, "/footprints/near/start_ms") > 0.0);
    let nginx_is_there = summary["not_measured"]["nginx"].is_null();
    assert_eq!(
        nginx_is_there,
        summary["targets"]["nginx_plain"].is_object()
    );
}

#[test]
fn a_target_that_there_is_not_is_refused_with_those_there_are() {
    let peers = peers();
    let output = overhead(peers.path(), &["--targets", "near,far"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no target \"far\""), "{said}");
    assert!(
        said.contains("nginx, tollgate-bare, tollgate, tollgate-redis, absent, near"),
        "{said}"
    );
}
