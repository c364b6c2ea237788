//! Mistakes about the collector, which no gateway starts with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use crate::harness::{Plan, Site};

/// A site whose settings are these, and what starting it says.
fn refused(settings: &str, code: i32) -> (Arc<Site>, String) {
    let site = Site::new();
    Plan::at("127.0.0.1:1".parse().unwrap()).write(&site);
    let listen = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    site.write_policy("gateway.toml", &format!("{listen}{settings}"));
    let said = start(&site, code);
    (site, said)
}

fn start(site: &Site, code: i32) -> String {
    let output = site.cli(&["serve"], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "it never said that it is ready");
    said
}

const TABLE: &str = "[records.otlp]\nprotocol = \"grpc\"\n";

#[test]
fn records_leave_in_clear_text_only_if_the_settings_say_so() {
    for endpoint in ["http://collector:4317", "http://127.0.0.1:4317"] {
        let (site, said) = refused(&format!("{TABLE}endpoint = \"{endpoint}\"\n"), 1);
        let expected = "gateway.toml:5:12: what is sent could be read on the way: give an https:// URL, or set `plain_http_otlp = true` in [insecure]";
        assert!(said.contains(expected), "{said}");
        let checked = site.cli(&["check"], "");
        assert!(!checked.status.success());
        let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.contains(expected), "{checked}");
    }
}

#[test]
fn no_gateway_starts_with_headers_or_authorities_that_it_cannot_use() {
    let table = format!("{TABLE}endpoint = \"https://127.0.0.1:1\"\n");
    let (site, said) = refused(&format!("{table}headers_file = \"otel.headers\"\n"), 1);
    assert!(said.contains("otel.headers:1:1: cannot be read"), "{said}");
    let file = site.policies().join("otel.headers");
    for (text, mode, expected) in [
        (
            "x-api-key: sk-canary-otlp-1\n",
            0o644,
            "otel.headers:1:1: others than its owner can read it; allow it to its owner alone (0600)",
        ),
        (
            "x-a: b\nconnection: sk-canary-otlp-2\n",
            0o600,
            "otel.headers:2:1: `connection` is not for whoever writes this file",
        ),
    ] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let said = start(&site, 1);
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("sk-canary"), "{said}");
    }
    let (site, said) = refused(&format!("{table}ca_file = \"ca.pem\"\n"), 1);
    assert!(said.contains("ca.pem"), "{said}");
    site.write_policy("ca.pem", "no certificate\n");
    let said = start(&site, 1);
    assert!(
        said.contains("the collector's authorities cannot be used"),
        "{said}"
    );
}
