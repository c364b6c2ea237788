//! `loadtest growth` measures a real gateway at its least sizes and says what it found.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The gateway's program, which is built into the same directory.
fn gateway() -> PathBuf {
    let gateway = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("tollgate");
    assert!(
        gateway.exists(),
        "the gateway is not there; run `cargo build --package tollgate` first"
    );
    gateway
}

fn growth(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("growth").args(arguments).output().unwrap()
}

#[test]
fn least_sizes_are_measured_judged_and_drawn() {
    let plots = tempfile::tempdir().unwrap();
    let (gateway, directory) = (gateway(), plots.path().to_str().unwrap().to_owned());
    let output = growth(&[
        "--gateway",
        gateway.to_str().unwrap(),
        "--only",
        "streams,models",
        "--most",
        "10",
        "--seconds",
        "1",
        "--calls",
        "0",
        "--json",
        "--plots",
        &directory,
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = (text.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let measured: Vec<(&str, u64)> = (lines.iter())
        .filter_map(|line| Some((line["dimension"].as_str()?, line["size"].as_u64()?)))
        .collect();
    assert_eq!(measured, [("streams", 1), ("streams", 10), ("models", 10)]);
    for line in lines.iter().filter(|line| line["size"].is_u64()) {
        assert!(line["start_kib"].as_u64() > Some(0), "{line}");
        assert!(
            line["peak_kib"].as_u64() >= line["start_kib"].as_u64(),
            "{line}"
        );
        assert!(line["instructions"].is_null(), "{line}");
    }
    // Of one size there is nothing to say.
    let judged: Vec<(&str, &str)> = (lines.iter())
        .filter_map(|line| Some((line["dimension"].as_str()?, line["figure"].as_str()?)))
        .collect();
    assert_eq!(judged, [("streams", "peak_kib")]);
    assert_eq!(lines.last().unwrap()["held"], true);
    for dimension in ["streams", "models"] {
        assert!(said.contains(&format!("{dimension}: ")), "{said}");
        let plot = plots.path().join(format!("growth-{dimension}.svg"));
        assert!(std::fs::read_to_string(plot).unwrap().starts_with("<svg"));
    }
}

#[test]
fn an_unknown_dimension_is_refused_with_those_there_are() {
    let output = growth(&["--only", "height"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("`height` is none of tenants, tokens"),
        "{said}"
    );
}
