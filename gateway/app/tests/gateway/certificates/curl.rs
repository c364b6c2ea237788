//! The same with curl, over both protocols.

use std::process::Command;

use super::{ACME_BOT, Bench, CHAT};
use crate::harness::{chat, key, text};

#[tokio::test]
async fn curl_with_a_certificate_needs_no_token() {
    let bench = Bench::new().await;
    let pair = bench.pair(&[ACME_BOT]);
    let certificate = bench.file("agent.crt", &pair.0);
    let private_key = bench.file("agent.key", &pair.1);
    let port = bench.world.gateway.address.port();
    for (version, protocol) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "30", version])
            .args(["--write-out", "\n%{http_code} %{http_version}"])
            .arg("--cacert")
            .arg(bench.directory.path().join("ca.pem"))
            .arg("--cert")
            .arg(&certificate)
            .arg("--key")
            .arg(&private_key)
            .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
            .args(["--header", "content-type: application/json"])
            .args(["--data", &chat().to_string()])
            .arg(format!("https://localhost:{port}{CHAT}"));
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(said.ends_with(&format!("\n200 {protocol}")), "{said}{why}");
        let seen = bench.world.calls().pop().unwrap();
        let expected = format!("Bearer {}", key("acme", "openai"));
        assert_eq!(seen.header("authorization"), Some(expected));
    }
    for record in bench.world.gateway.site.records_when("acme", 2).await {
        assert_eq!(text(&record, "gen_ai.agent.id"), "support-bot");
    }
}
