//! Cases 65 and 68: an answer that cannot be searched for the secret does not reach the agent.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use tollgate_testkit::canary::sightings;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::recorder::Recorder;

use crate::harness::{Ask, Dialect, Gateway, Plan, Refused, Site, World, chat, key, text};

const SECRET: &str = "sk-canary-packed-4f1c9e7ab2";

fn packed(encoder: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    encoder(format!("{{\"echo\":\"{SECRET}\"}}").into_bytes())
}

fn gzip(bytes: Vec<u8>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes).expect("packed");
    encoder.finish().expect("packed")
}

fn zlib(bytes: Vec<u8>) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes).expect("packed");
    encoder.finish().expect("packed")
}

fn deflate(bytes: Vec<u8>) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes).expect("packed");
    encoder.finish().expect("packed")
}

async fn answered_with(head: &str, body: &[u8]) -> (Gateway, Recorder) {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    let upstream = Recorder::start(answer).await;
    let mut plan = Plan::at(upstream.address());
    plan.tenant("acme").secret("github_token", SECRET);
    let site = Site::new();
    plan.write(&site);
    (site.serve().await, upstream)
}

#[tokio::test]
async fn case_65_an_answer_in_any_encoding_but_identity_is_withheld() {
    let bodies = [
        ("gzip", packed(gzip)),
        ("x-gzip", packed(gzip)),
        ("deflate", packed(zlib)),
        ("deflate", packed(deflate)),
        ("gzip, gzip", packed(|bytes| gzip(gzip(bytes)))),
        ("identity, gzip", packed(gzip)),
        ("gzip", packed(gzip)[..20].to_vec()),
        // A bomb: a megabyte of nothing and the secret behind it.
        (
            "gzip",
            packed(|bytes| gzip([vec![b' '; 1 << 20], bytes].concat())),
        ),
        // Not what they say: encodings that are never undone need not be right.
        ("br", packed(|bytes| bytes)),
        ("zstd", packed(|bytes| bytes)),
        ("x-unknown", packed(|bytes| bytes)),
        ("", packed(|bytes| bytes)),
    ];
    for (encoding, body) in bodies {
        let head = format!("content-type: application/json\r\ncontent-encoding: {encoding}\r\n");
        let (gateway, upstream) = answered_with(&head, &body).await;
        let token = gateway.mint("acme", "a1", "t1").await;
        let ask = Ask::new("GET", "/github/user")
            .bearer(&token)
            .header("accept-encoding", "gzip, br, zstd, deflate");
        let answer = ask.send(gateway.address).await;
        Refused::bad_gateway("answer_withheld").check(&answer, Dialect::Problem);
        let sent = String::from_utf8_lossy(&upstream.bytes()).to_lowercase();
        assert!(sent.contains("accept-encoding: identity\r\n"), "{sent}");
        assert!(!sent.contains("zstd"), "{sent}");
    }
}

#[tokio::test]
async fn case_65_an_answer_in_a_character_set_that_nobody_can_search_is_withheld() {
    let body: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let head = "content-type: text/plain; charset=utf-16le\r\n";
    let (gateway, upstream) = answered_with(head, &body).await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let ask = Ask::new("GET", "/github/user")
        .bearer(&token)
        .header("accept-charset", "utf-16le");
    let answer = ask.send(gateway.address).await;
    Refused::bad_gateway("answer_withheld").check(&answer, Dialect::Problem);
    let sent = String::from_utf8_lossy(&upstream.bytes()).to_lowercase();
    assert!(!sent.contains("accept-charset"), "{sent}");
}

#[tokio::test]
async fn case_65_an_answer_that_hides_its_encoding_is_cut_before_it_says_anything() {
    for (kind, body) in [
        ("content-type: application/json\r\n", packed(gzip)),
        ("content-type: text/event-stream\r\n", packed(zlib)),
        ("", packed(gzip)),
    ] {
        let (gateway, _upstream) = answered_with(kind, &body).await;
        let token = gateway.mint("acme", "a1", "t1").await;
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(Ask::new("GET", "/github/user").bearer(&token).bytes())
            .await;
        let got = raw.rest().await;
        let head = got.windows(4).position(|end| end == b"\r\n\r\n");
        let behind = head.map_or(0, |at| got.len() - at - 4);
        assert_eq!(behind, 0, "{kind}: {:?}", String::from_utf8_lossy(&got));
        let record = gateway.site.records_when("acme", 1).await.remove(0);
        assert_eq!(text(&record, "tollgate.outcome"), "upstream_failed");
    }
}

#[tokio::test]
async fn case_65_an_archive_that_says_what_it_is_passes() {
    let body = gzip(b"an archive of somebody's".to_vec());
    let (gateway, _upstream) = answered_with("content-type: application/gzip\r\n", &body).await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    let answer = ask.send(gateway.address).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &*body));
}

#[tokio::test]
async fn case_68_a_part_of_an_answer_cannot_be_asked_for() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (line, value) in [
        ("range", "bytes=0-3"),
        ("Range", "bytes=4-7,9-"),
        ("range", "items=1-2"),
    ] {
        let ask = Ask::new("POST", "/openai/v1/chat/completions?mock=echo-headers")
            .bearer(&token)
            .header(line, value)
            .json(&chat());
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let all = format!("{:?} {}", answer.headers, answer.text());
        assert!(sightings(&all, &key("acme", "openai")).is_empty(), "{all}");
        let seen = world.calls().pop().expect("a call");
        assert!(seen.header_values("range").is_empty(), "{seen:?}");
    }
}
