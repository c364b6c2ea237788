//! Large bodies: identical at the other end, within a stated bound of memory.

use serde_json::json;
use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, World, outcome};

const MIB: usize = 1 << 20;

/// What the gateway may take beside the bodies it inspects: binary, price catalogue, stores and
/// buffers of a debug build.
const BASE: u64 = 112 << 20;

/// Bytes that repeat nowhere near: a body with a missing or doubled part has another hash.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u8::try_from(state >> 56).unwrap()
        })
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test]
async fn a_json_body_of_16_mib_arrives_byte_for_byte() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let text: String = noise(16 * MIB)
        .iter()
        .map(|b| char::from(b'a' + b % 26))
        .collect();
    // Unusual spacing and order, and the handle as text: all of it stays.
    let body = format!(
        "{{\"max_tokens\" :16,\n\t\"messages\":[{{\"content\":\"{text} $CRED{{openai_key}}\",\"role\":\"user\"}}],\"model\":\"gpt-4o-mini\"}}"
    );
    let ask = Ask::new("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .body(body.clone());
    let answer = world.send(&ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    assert_eq!(seen.body_len, body.len() as u64);
    assert_eq!(seen.body_sha256, sha256(body.as_bytes()));
    // The body and what it grew through, beside the base.
    let bound = BASE + 3 * 16 * MIB as u64;
    let peak = world.gateway.peak_memory();
    assert!(
        peak < bound,
        "{peak} bytes resident at most, {bound} allowed"
    );
}

#[tokio::test]
async fn an_upload_of_64_mib_streams_through_byte_for_byte_in_little_memory() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let body = noise(64 * MIB);
    for chunked in [false, true] {
        let framing = if chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {}", body.len())
        };
        let head = format!(
            "POST /openai/v1/files HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-type: application/octet-stream\r\n{framing}\r\n\r\n"
        );
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(head).await;
        for part in body.chunks(100_003) {
            if chunked {
                raw.send(format!("{:x}\r\n", part.len())).await;
            }
            raw.send(part).await;
            if chunked {
                raw.send("\r\n").await;
            }
        }
        if chunked {
            raw.send("0\r\n\r\n").await;
        }
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = world.calls().pop().unwrap();
        assert_eq!(seen.body_len, body.len() as u64);
        assert_eq!(seen.body_sha256, sha256(&body), "chunked: {chunked}");
        let record = world.record_of("acme", &answer).await;
        assert_eq!(outcome(&record), "completed", "{record:#}");
    }
    let peak = world.gateway.peak_memory();
    let bound = BASE + (16 << 20);
    assert!(
        peak < bound,
        "{peak} bytes resident at most, {bound} allowed: uploads stream"
    );
}

#[tokio::test]
async fn many_large_bodies_at_once_stay_within_the_memory_set_for_them() {
    let world = World::planned(|plan| {
        plan.gateway
            .push_str("[limits]\nbody_memory_mib = 32\ninspected_body_mib = 8\n");
    })
    .await;
    let token = world.token("acme").await;
    let body = json!({"model": "gpt-4o-mini", "max_tokens": 1,
        "messages": [{"role": "user", "content": "x".repeat(6 * MIB)}]});
    let bytes = Ask::new("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .json(&body)
        .bytes();
    let calls = (0..24).map(|_| {
        let (bytes, address) = (bytes.clone(), world.gateway.address);
        tokio::spawn(async move {
            let mut raw = Raw::connect(address).await;
            raw.send(bytes).await;
            raw.answer().await.map(|answer| answer.status)
        })
    });
    let mut served = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Some(200) => served += 1,
            Some(status) => assert_eq!(status, 503, "no room is said as such"),
            None => panic!("no answer"),
        }
    }
    assert!(served >= 4, "what fits is served: {served}");
    let peak = world.gateway.peak_memory();
    let bound = BASE + 3 * (32 << 20);
    assert!(
        peak < bound,
        "{peak} bytes resident at most, {bound} allowed"
    );
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_ends_is_relayed() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let head = format!(
        "POST /openai/v1/files?mock=early,status-413 HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        50 * MIB
    );
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(head).await;
    raw.send(vec![b'x'; MIB]).await;
    let answer = raw
        .answer()
        .await
        .expect("an answer though most of the body is still here");
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.header("x-tollgate-error"),
        None,
        "the provider's own"
    );
    let record = world.record_of("acme", &answer).await;
    assert_eq!(record["http.response.status_code"], 413, "{record:#}");
}
