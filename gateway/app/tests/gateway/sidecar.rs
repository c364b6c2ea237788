//! `tollgate sidecar` in front of a real gateway: unmodified SDKs, a token that renews itself, and
//! what neither a web page nor a reader of its memory gets.

mod exchange;
mod front;
mod process;

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tollgate_testkit::canary::sightings;
use tollgate_testkit::raw::{Raw, request};
use tollgate_testkit::wait::{eventually, until_true, within};

use crate::harness::{Ask, World, chat, key, outcome};
use crate::sdk::{node, python, run_at};
use front::{Front, Reply};
use process::{Sidecar, any_file, tollgate};

const CHAT: &str = "/openai/v1/chat/completions";
const HANDLE: &str = "$CRED{openai_key}";
/// What stands where kubelet puts the service account's token.
const SUBJECT: &str = "sk-canary-subject.token.1";

/// A gateway, what exchanges tokens before it, and a sidecar that is ready.
async fn relayed() -> (World, Front, Sidecar) {
    let world = World::new().await;
    let token = world.token("acme").await;
    let front = Front::before(world.gateway.address, Reply::Token(token, 300)).await;
    let sidecar = Sidecar::ready(&front.url(), SUBJECT, &["--task", "nightly"]).await;
    (world, front, sidecar)
}

fn ask(sidecar: &Sidecar, method: &str, target: &str) -> Ask {
    Ask::new(method, target)
        .host(&sidecar.address.to_string())
        .bearer(HANDLE)
}

async fn openai_sdk_works(command: std::process::Command, calls: usize) {
    let (world, front, sidecar) = relayed().await;
    run_at(&sidecar.url(), command, HANDLE).await;
    let seen = world.calls();
    assert_eq!(seen.len(), calls);
    let bearer = format!("Bearer {}", key("acme", "openai"));
    for call in &seen {
        assert_eq!(call.header_values("authorization"), [bearer.as_str()]);
        assert_eq!(call.header("x-tollgate-token"), None);
    }
    for record in world.gateway.site.records_when("acme", calls).await {
        assert_eq!(outcome(&record), "completed", "{record:#}");
    }
    let exchange = &front.asked()[0];
    assert_eq!(exchange["subject_token"], SUBJECT);
    assert_eq!(exchange["task"], "nightly");
    assert_eq!(
        exchange["subject_token_type"],
        "urn:ietf:params:oauth:token-type:jwt"
    );
}

#[tokio::test]
async fn openai_python_works_with_a_handle_for_a_key() {
    openai_sdk_works(python("openai_python.py", "sync"), 2).await;
}

#[tokio::test]
async fn openai_python_streams_with_a_handle_for_a_key() {
    openai_sdk_works(python("openai_python.py", "stream"), 2).await;
}

#[tokio::test]
async fn openai_node_works_with_a_handle_for_a_key() {
    openai_sdk_works(node("openai_node.mjs", "plain"), 5).await;
}

#[tokio::test]
async fn openai_node_streams_with_a_handle_for_a_key() {
    openai_sdk_works(node("openai_node.mjs", "stream"), 2).await;
}

#[tokio::test]
async fn a_token_that_lives_two_seconds_is_renewed_before_it_ends() {
    let world = World::new().await;
    let first = world.token("acme").await;
    let front = Front::before(world.gateway.address, Reply::Token(first.clone(), 2)).await;
    let sidecar = Sidecar::ready(&front.url(), SUBJECT, &[]).await;
    let call = ask(&sidecar, "GET", "/openai/v1/models");
    let second = world.token("acme").await;
    front.replies(Reply::Token(second.clone(), 2));
    eventually("the second token is in use", async || {
        assert_eq!(
            call.send(sidecar.address).await.status,
            200,
            "at no time is it refused"
        );
        front.used().contains(&second)
    })
    .await;
    let asked = front.asked();
    assert_eq!(asked[0]["subject_token"], SUBJECT);
    assert_eq!(
        asked[1]["subject_token"], first,
        "renewed by the one in use"
    );
    assert_eq!(
        asked[1]["subject_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    assert!(!asked[1].contains_key("task"), "for the same task only");
}

#[tokio::test]
async fn a_credential_that_was_replaced_on_disk_is_picked_up() {
    let world = World::new().await;
    let front = Front::before(world.gateway.address, Reply::Refusal(401, "invalid_grant")).await;
    let sidecar = Sidecar::start(&front.url(), SUBJECT, &[]).await;
    until_true("it was refused", || !front.asked().is_empty()).await;
    sidecar.rotate("sk-canary-subject.token.2\n");
    front.replies(Reply::Token(world.token("acme").await, 300));
    until_true("it is ready", || !sidecar.announced().is_empty()).await;
    let asked = front.asked();
    assert_eq!(
        asked.last().unwrap()["subject_token"],
        "sk-canary-subject.token.2"
    );
}

#[tokio::test]
async fn a_token_file_starts_from_a_task_token() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let front = Front::before(world.gateway.address, Reply::Token(token.clone(), 300)).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("task.token");
    std::fs::write(&file, &token).unwrap();
    let more = ["--token-file", file.to_str().unwrap()];
    let sidecar = Sidecar::ready(&front.url(), "unused", &more).await;
    let call = ask(&sidecar, "GET", "/openai/v1/models");
    assert_eq!(call.send(sidecar.address).await.status, 200);
    let asked = front.asked();
    assert_eq!(asked[0]["subject_token"], token);
    assert_eq!(
        asked[0]["subject_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
}

/// A refusal is said clearly, asked about with pauses, and ends when an operator ends it.
#[tokio::test]
async fn case_31_a_revoked_agent_is_told_so_and_comes_back_when_it_is_let_in() {
    let (world, front, sidecar) = relayed().await;
    let what = json!({"kind": "agent", "tenant": "acme", "agent": "a1"});
    world.gateway.revoke(&what).await;
    front.replies(Reply::Refusal(401, "invalid_grant"));
    let call = ask(&sidecar, "GET", "/openai/v1/models");
    let answer = call.send(sidecar.address).await;
    assert_eq!(answer.status, 401, "the gateway's own words pass");
    until_true("it says so", || {
        sidecar.log().contains("it may have been revoked")
    })
    .await;
    let log = sidecar.log();
    assert!(log.contains("invalid_grant"), "{log}");
    assert!(front.asked().len() < 10, "it does not spin");
    front.replies(Reply::Token(world.token("acme").await, 300));
    eventually("calls go through again", async || {
        call.send(sidecar.address).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn without_a_token_calls_wait_and_are_answered_503() {
    let world = World::new().await;
    let front = Front::before(world.gateway.address, Reply::Refusal(401, "invalid_grant")).await;
    let sidecar = Sidecar::start(&front.url(), SUBJECT, &[]).await;
    let answer = ask(&sidecar, "POST", CHAT)
        .json(&chat())
        .send(sidecar.address)
        .await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-error"), Some("token_unavailable"));
    assert!(answer.header("retry-after").is_some());
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "server_error");
    assert_eq!(error["code"], "token_unavailable");
    assert!(error["message"].as_str().unwrap().contains("invalid_grant"));
    assert_eq!(sidecar.own("/__tollgate/readyz").await.0, 503);
    assert_eq!(sidecar.own("/__tollgate/livez").await.0, 200);
    assert_eq!(sidecar.probe().status.code(), Some(1));
    assert_eq!(sidecar.announced(), "", "it is not ready");
    world.assert_no_contact();

    // A call that waits is served as soon as there is a token.
    let call = ask(&sidecar, "GET", "/openai/v1/models");
    front.replies(Reply::Token(world.token("acme").await, 300));
    eventually("calls go through", async || {
        call.send(sidecar.address).await.status == 200
    })
    .await;
    assert_eq!(sidecar.own("/__tollgate/readyz").await.0, 200);
}

#[tokio::test]
async fn a_gateway_that_is_away_is_502_and_no_crash() {
    let (world, front, sidecar) = relayed().await;
    drop((world, front));
    let call = ask(&sidecar, "GET", "/openai/v1/models");
    eventually("it is away", async || {
        let answer = call.send(sidecar.address).await;
        answer.header("x-tollgate-error") == Some("gateway_unreachable") && answer.status == 502
    })
    .await;
}

#[tokio::test]
async fn an_upload_of_64_mib_goes_through_byte_for_byte_in_little_memory() {
    let (world, _front, sidecar) = relayed().await;
    let body: Vec<u8> = (0..64 << 20_u32)
        .map(|n: u32| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    let call = ask(&sidecar, "POST", "/openai/v1/files")
        .header("content-type", "application/octet-stream")
        .body(body.clone());
    let before = sidecar.peak_memory();
    let answer = within("an answer", call.send(sidecar.address)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    assert_eq!(seen.body_len, 64 << 20);
    let digest = Sha256::digest(&body);
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(seen.body_sha256, sha256);
    let grown = sidecar.peak_memory() - before;
    assert!(grown < 24 << 20, "{grown} bytes more than idle");
}

#[tokio::test]
async fn an_agent_that_hangs_up_mid_stream_ends_the_gateways_call() {
    let (world, _front, sidecar) = relayed().await;
    let mut body = chat();
    body["stream"] = json!(true);
    let target = format!("{CHAT}?mock=chunks-30,hold-after-5");
    let call = ask(&sidecar, "POST", &target).json(&body);
    let mut raw = Raw::connect(sidecar.address).await;
    raw.send(call.bytes()).await;
    let (status, _) = raw.head().await.expect("a head");
    assert_eq!(status, 200);
    // Events come as the provider gives them: these five, while the sixth is held.
    for _ in 0..5 {
        within("an event", raw.read_until(b"\n\n")).await;
    }
    drop(raw);
    world.gateway.left_alone().await;
    world.mock.release();
    let records = world.gateway.site.records_when("acme", 1).await;
    assert_eq!(outcome(&records[0]), "client_gone", "{:#}", records[0]);
}

#[tokio::test]
async fn an_agent_that_hangs_up_before_the_answer_ends_the_gateways_call() {
    let (world, _front, sidecar) = relayed().await;
    let target = format!("{CHAT}?mock=usage-100-50,hold");
    let call = ask(&sidecar, "POST", &target).json(&chat());
    let mut raw = Raw::connect(sidecar.address).await;
    raw.send(call.bytes()).await;
    world.mock.wait_for(1).await;
    drop(raw);
    world.gateway.left_alone().await;
    world.mock.release();
    let records = world.gateway.site.records_when("acme", 1).await;
    assert_eq!(outcome(&records[0]), "client_gone", "{:#}", records[0]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_agent_too() {
    let (_world, _front, sidecar) = relayed().await;
    let mut body = chat();
    body["stream"] = json!(true);
    let target = format!("{CHAT}?mock=chunks-30,hangup-after-5");
    let answer = ask(&sidecar, "POST", &target)
        .json(&body)
        .send(sidecar.address)
        .await;
    assert_eq!(answer.status, 200);
    assert!(!answer.whole, "no end is made up: {}", answer.text());
}

#[tokio::test]
async fn an_agent_that_waits_to_be_told_to_go_on_is_told() {
    let (world, _front, sidecar) = relayed().await;
    let call = ask(&sidecar, "POST", CHAT)
        .header("expect", "100-continue")
        .json(&chat());
    let bytes = call.bytes();
    let head = tollgate_testkit::raw::find(&bytes, b"\r\n\r\n").unwrap() + 4;
    let mut raw = Raw::connect(sidecar.address).await;
    raw.send(&bytes[..head]).await;
    let told = within("100 Continue", raw.read_until(b"\r\n\r\n")).await;
    assert!(told.starts_with(b"HTTP/1.1 100"));
    raw.send(&bytes[head..]).await;
    let answer = raw.answer().await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.calls().len(), 1);
}

#[tokio::test]
async fn an_agents_own_token_is_replaced_and_all_else_arrives_as_it_was() {
    let (world, front, sidecar) = relayed().await;
    let strange = world.token("globex").await;
    let call = ask(&sidecar, "GET", "/openai/v1/models?x=%2F..%2f%41&y=+%20")
        .header("x-tollgate-token", &strange)
        .header("x-tollgate-token", "another")
        .header("x-stainless-lang", "caf\u{e9}");
    let answer = call.send(sidecar.address).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!front.used().contains(&strange));
    let seen = world.only_call();
    assert!(
        seen.path_and_query.ends_with("?x=%2F..%2f%41&y=+%20"),
        "{}",
        seen.path_and_query
    );
    assert_eq!(seen.header("x-stainless-lang").as_deref(), Some("café"));
    let bearer = format!("Bearer {}", key("acme", "openai"));
    assert_eq!(seen.header_values("authorization"), [bearer]);
}

#[tokio::test]
async fn a_web_page_cannot_call_through_the_sidecar() {
    let (world, front, sidecar) = relayed().await;
    let before = front.used().len();
    let own = sidecar.address.to_string();
    for (host, extra) in [
        ("attacker.example", None),
        ("localhost.attacker.example:8080", None),
        ("10.0.0.1:8080", None),
        (own.as_str(), Some(("origin", "https://attacker.example"))),
        (own.as_str(), Some(("origin", "null"))),
        (own.as_str(), Some(("sec-fetch-site", "cross-site"))),
        (own.as_str(), Some(("host", "attacker.example"))),
    ] {
        let mut call = Ask::new("POST", CHAT)
            .bearer(HANDLE)
            .json(&chat())
            .host(host);
        if let Some((name, value)) = extra {
            call = call.header(name, value);
        }
        let answer = call.send(sidecar.address).await;
        assert_eq!(answer.status, 403, "{host} {extra:?}: {}", answer.text());
        assert_eq!(answer.header("x-tollgate-error"), Some("not_allowed"));
    }
    // It is no proxy either.
    for line in [
        "GET http://attacker.example/x",
        "CONNECT attacker.example:443",
    ] {
        let mut raw = Raw::connect(sidecar.address).await;
        raw.send(request(line, &[("host", &own)], b"")).await;
        let answer = raw.answer().await.expect("an answer");
        assert!(
            matches!(answer.status, 400 | 403),
            "{line}: {}",
            answer.status
        );
    }
    assert_eq!(front.used().len(), before, "nothing reached the gateway");
    world.assert_no_contact();
}

#[tokio::test]
async fn told_to_stop_it_lets_streams_finish_and_takes_no_more() {
    let (world, _front, mut sidecar) = relayed().await;
    let mut body = chat();
    body["stream"] = json!(true);
    let target = format!("{CHAT}?mock=chunks-8,hold-after-3");
    let mut raw = Raw::connect(sidecar.address).await;
    raw.send(ask(&sidecar, "POST", &target).json(&body).bytes())
        .await;
    raw.head().await.expect("a head");
    sidecar.terminate();
    until_true("it takes no more", || {
        std::net::TcpStream::connect_timeout(&sidecar.address, Duration::from_secs(1)).is_err()
    })
    .await;
    world.mock.release();
    let rest = raw.read_until(b"0\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&rest).contains("data: [DONE]"));
    assert_eq!(sidecar.exit_code().await, Some(0));
}

/// The one thing that it holds is its own token; no provider key is there to be found, and not
/// even its token is anywhere but in memory.
#[tokio::test]
async fn case_36_neither_keys_nor_tokens_are_where_others_read() {
    let (world, front, sidecar) = relayed().await;
    let call = ask(&sidecar, "POST", &format!("{CHAT}?mock=echo-headers")).json(&chat());
    for _ in 0..5 {
        assert_eq!(call.send(sidecar.address).await.status, 200);
    }
    let token = front.used()[0].clone();
    let shown = [sidecar.log(), sidecar.announced(), sidecar.shown()].concat();
    assert!(!shown.is_empty());
    for secret in [token.as_str(), SUBJECT, &key("acme", "openai")] {
        let found = sightings(&shown, secret);
        assert!(found.is_empty(), "{secret}: {found:?}");
    }
    let memory = sidecar.memory();
    let holds = |secret: &str| tollgate_testkit::raw::find(&memory, secret.as_bytes()).is_some();
    assert!(holds(&token), "the scan finds what is there");
    for provider in ["openai", "anthropic", "github"] {
        assert!(!holds(&key("acme", provider)), "a key of {provider}");
    }
    assert_eq!(world.calls().len(), 5);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    let file = any_file();
    let file = file.to_str().unwrap();
    for (line, wrong) in [
        (&["sidecar"][..], "TOLLGATE_GATEWAY"),
        (
            &["sidecar", "--gateway", "tollgate.example"],
            "https://HOST",
        ),
        (
            &[
                "sidecar",
                "--gateway",
                "http://127.0.0.1:9",
                "--listen",
                "0.0.0.0:0",
            ],
            "--insecure-beyond-loopback",
        ),
        (
            &["sidecar", "--gateway", "http://127.0.0.1:9", "--ca", file],
            "https://",
        ),
    ] {
        let output = tollgate(line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line:?}: {said}");
        assert!(said.contains(wrong), "{line:?}: {said}");
    }
    // A file without a certificate in it is no authority.
    let line = ["sidecar", "--gateway", "https://127.0.0.1:9", "--ca", file];
    let output = tollgate(&[&line[..], &["--listen", "127.0.0.1:0"]].concat())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}
