//! `loadtest load`, run as its users do, against the mock and against servers that misbehave.
//!
//! Nothing here asks how fast anything is: only what the load generator says of what it saw, and
//! that a wait which is certain is in its figures.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "the helpers of a test fail the test, and settings stand beside what is expected"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tollgate_loadtest::mock::{Mock, MockConfig};

async fn mock() -> Mock {
    Mock::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn command(target: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["load", target, "--json"]);
    command
        .args(words)
        .stdin(Stdio::null())
        .env_remove("LOADTEST_KEY");
    command
}

/// Runs it beside the mock, which needs the runtime meanwhile.
async fn output(target: &str, words: &[&str]) -> Output {
    let mut command = command(target, words);
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap()
}

fn told(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with('{'), "{output:?}");
    serde_json::from_str(&text).unwrap()
}

/// The only step of a load.
async fn load(target: &str, words: &[&str]) -> Value {
    told(&output(target, words).await)["steps"][0].clone()
}

/// A server that gives this answer to the first request on each connection, and then hangs up.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut read = Vec::new();
            // A call ends with its body's last bracket. What is not read would break the answer.
            let mut packet = [0; 4096];
            while !read.ends_with(b"]}") {
                let bytes = stream.read(&mut packet).unwrap();
                read.extend_from_slice(&packet[..bytes]);
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{addr}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_load_is_answered_and_told_without_its_keys() {
    let mock = mock().await;
    let dir = tempfile::tempdir().unwrap();
    let (page, keys) = (dir.path().join("page.html"), dir.path().join("keys"));
    std::fs::write(&keys, "sk-canary-file-1\n\nsk-canary-file-2\n").unwrap();
    let words = [
        "--rate",
        "400",
        "--calls",
        "60",
        "--dialect",
        "chat,responses,messages",
        "--stream-share",
        "0.5",
        "--key",
        "sk-canary-argument",
        "--keys",
        keys.to_str().unwrap(),
        "--header",
        "x-more: sk-canary-header",
        "--prompt-bytes",
        "100,1000-2000",
        "--html",
        page.to_str().unwrap(),
    ];
    let output = output(&mock.url(), &words).await;
    assert!(output.status.success(), "{output:?}");
    let told = told(&output);
    let step = &told["steps"][0];
    assert_eq!(
        (&step["calls"], &step["right"], &step["failed"]),
        (&json!(60), &json!(60), &json!(0))
    );
    assert_eq!(step["statuses"], json!({"200": 60}));
    assert_eq!(
        step["usage"],
        json!({"answers": 60, "input_tokens": 600, "output_tokens": 1200})
    );
    let calls: Vec<&Value> = step["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["calls"])
        .collect();
    assert_eq!(calls, [20, 20, 20], "keys come in turn");
    let streams = step["streams"].as_u64().unwrap();
    let gaps = step["latency"]["between_events"]["count"].as_u64().unwrap();
    assert!((1..60).contains(&streams), "{streams}");
    assert_eq!(step["events"].as_u64().unwrap(), gaps + streams);
    let page = std::fs::read_to_string(page).unwrap();
    for text in [
        &page,
        &*String::from_utf8_lossy(&output.stdout),
        &*String::from_utf8_lossy(&output.stderr),
    ] {
        assert!(!text.contains("canary"), "{text}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    let rest = page
        .replace("http://www.w3.org/2000/svg", "")
        .replace(&mock.url(), "");
    for foreign in ["http://", "https://", "<script", "url(", "@import", " src="] {
        assert!(!rest.contains(foreign), "the page reaches out: {foreign}");
    }
    let sent = mock.seen();
    let with_key = |header: &str, start: &str| {
        let keys = sent.iter().filter_map(|request| request.header(header));
        keys.filter(|key| key.starts_with(start)).count()
    };
    assert_eq!(
        with_key("authorization", "Bearer sk-canary-") + with_key("x-api-key", "sk-canary-"),
        60
    );
    assert!(with_key("x-api-key", "sk-canary-") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_by_their_kind() {
    let mock = mock().await;
    for (words, streams, timeout, kind) in [
        ("status-429", "0", "60", "status"),
        ("hangup", "0", "60", "no_answer"),
        ("hangup-after-10", "0", "60", "broken_body"),
        ("hangup-after-2", "1", "60", "broken_body"),
        ("error-after-2", "1", "60", "error_event"),
        ("stall", "0", "0.2", "timeout"),
        ("stall-after-1", "1", "0.2", "timeout"),
    ] {
        let header = format!("x-mock: {words}");
        let words = [
            "--calls",
            "3",
            "--connections",
            "3",
            "--timeout",
            timeout,
            "--stream-share",
            streams,
            "--header",
            &header,
        ];
        let output = output(&mock.url(), &words).await;
        assert_eq!(output.status.code(), Some(1), "nothing was answered");
        let step = &told(&output)["steps"][0];

        assert_eq!(step["failures"], json!({kind: 3}), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_says_of_a_refusal_and_a_stream_without_its_end_are_told() {
    let refusing = server(
        "HTTP/1.1 402 Payment Required\r\nx-tollgate-error: budget_exhausted\r\ncontent-length: 2\r\n\
         connection: close\r\n\r\n{}",
    );
    let step = load(&refusing, &["--calls", "5", "--connections", "1"]).await;
    assert_eq!(step["tollgate_errors"], json!({"budget_exhausted": 5}));
    assert_eq!(step["statuses"], json!({"402": 5}));
    assert_eq!(
        (
            &step["latency"]["refusal"]["count"],
            &step["latency"]["answer"]["count"]
        ),
        (&json!(5), &json!(0))
    );
    let cut = server(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 10\r\nconnection: close\r\n\r\ndata: {}\n\n",
    );
    let step = load(
        &cut,
        &["--calls", "2", "--connections", "1", "--stream-share", "1"],
    )
    .await;
    assert_eq!(step["failures"], json!({"wrong_end": 2}));
    let plain = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
    let step = load(
        &plain,
        &["--calls", "2", "--connections", "1", "--stream-share", "1"],
    )
    .await;
    assert_eq!(
        step["failures"],
        json!({"wrong_end": 2}),
        "an answer that is no stream"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_a_failure_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let step = load(&target, &["--rate", "100", "--calls", "4"]).await;
    assert_eq!(step["failures"], json!({"connect": 4}));
}

/// Twenty calls, 10 ms apart, on one connection, each of which the target holds for 100 ms: the
/// k-th is answered no sooner than 100 + 90 k ms after it was due. A load generator that counts from
/// when a call is sent would see 100 ms for all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_a_connection_is_charged_with_its_wait() {
    let mock = mock().await;
    let words = [
        "--rate",
        "100",
        "--calls",
        "20",
        "--connections",
        "1",
        "--threads",
        "1",
        "--header",
        "x-mock: delay-100",
    ];
    let step = load(&mock.url(), &words).await;
    assert_eq!((&step["calls"], &step["right"]), (&json!(20), &json!(20)));
    let millis = |name: &str| step["latency"]["answer"][name].as_f64().unwrap();
    assert!(millis("p50_ms") >= 890.0, "{step}");
    assert!(millis("max_ms") >= 1790.0, "{step}");
    assert!(
        step["waited_for_a_connection"].as_u64().unwrap() > 0,
        "{step}"
    );
    assert_eq!(mock.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_were_never_sent_count_with_what_they_have_waited() {
    let mock = mock().await;
    let words = [
        "--rate",
        "40",
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "--connections",
        "1",
        "--timeout",
        "4",
        "--header",
        "x-mock: stall",
    ];
    let step = load(&mock.url(), &words).await;
    assert_eq!(step["calls"], 40);
    assert_eq!(step["failures"], json!({"timeout": 1, "unsent": 39}));
    assert_eq!(step["latency"]["answer"]["count"], 40);
    // The tenth of forty was due 250 ms after the start, and waited until the end.
    assert!(
        step["latency"]["answer"]["p50_ms"].as_f64().unwrap() >= 490.0,
        "{step}"
    );
    assert_eq!(mock.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rate_is_a_step_of_its_own_and_no_prompt_is_sent_twice() {
    let mock = mock().await;
    let output = output(
        &mock.url(),
        &["--rate", "20,40,60", "--seconds", "0.5", "--warm-up", "0"],
    )
    .await;
    let told = told(&output);
    let calls: Vec<&Value> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["calls"])
        .collect();
    assert_eq!(calls, [10, 20, 30]);
    let bodies: std::collections::BTreeSet<_> = mock
        .seen()
        .iter()
        .map(|seen| seen.body_sha256.clone())
        .collect();
    assert_eq!(bodies.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_makes_the_calls_it_was_told_to_on_its_connections() {
    let mock = mock().await;
    let step = load(&mock.url(), &["--calls", "200", "--connections", "4"]).await;
    assert_eq!((&step["calls"], &step["right"]), (&json!(200), &json!(200)));
    assert_eq!(
        step["connections_opened"].as_u64().unwrap(),
        mock.connections()
    );
    assert!(mock.connections() <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bar_for_p99_decides_about_the_exit_code() {
    let mock = mock().await;
    for (bar, code) in [("10", 1), ("60000", 0)] {
        let words = [
            "--calls",
            "8",
            "--connections",
            "4",
            "--header",
            "x-mock: delay-50",
            "--p99-ms",
            bar,
        ];
        let output = output(&mock.url(), &words).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_load_still_tells_what_it_saw() {
    let mock = mock().await;
    let mut command = command(
        &mock.url(),
        &["--rate", "50", "--seconds", "600", "--warm-up", "0"],
    );
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    mock.wait_for(5).await;
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = told(&output);
    assert_eq!(told["interrupted"], true);
    let count = |name: &str| told["steps"][0][name].as_u64().unwrap();
    assert!(count("calls") + count("cut") >= 5, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_this_machine_is_not_loaded_without_leave() {
    // An address for documentation (RFC 5737).
    let output = output("http://192.0.2.1/v1", &["--calls", "1"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--i-may-load-this-host"), "{said}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_targets_that_are_trusted_only() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let mut config = MockConfig::new("127.0.0.1:0".parse().unwrap());
    config.tls = Some(Arc::new(tls));
    let mock = Mock::start_with(config).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, certified.cert.pem()).unwrap();
    let words = ["--calls", "4", "--connections", "2"];
    let step = load(
        &mock.url(),
        &[&words[..], &["--ca", ca.to_str().unwrap()]].concat(),
    )
    .await;
    assert_eq!(step["right"], 4);
    let step = load(&mock.url(), &words).await;
    assert_eq!(step["failures"], json!({"connect": 4}));
    assert_eq!(mock.seen().len(), 4);
}
