//! Whole calls over real sockets: one settlement and one record each, however they end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tollgate_core::identity::{Mint, TokenRequest, new_private_key};
use tollgate_core::money::PicoUsd;
use tollgate_core::record::{Ending, UsageSource};
use tollgate_core::registry::Liveness;
use tollgate_testkit::raw::{Answer, Raw, request};
use tollgate_testkit::recorder::Recorder;
use tollgate_testkit::wait::until;

use super::*;
use crate::fakes::{Asked, Fakes, gateway, noon, snapshot_with};

mod clamp;

const ACME: &str = r#"
[tenant]
id = "acme"

[[allow]]
provider = "openai"

[credentials]
key = { provider = "openai", default = true }
"#;
const CHAT: &str = "POST /openai/v1/chat/completions";
const STREAMED: &[u8] = br#"{"model":"gpt-4.1","max_tokens":9,"stream":true,"messages":[]}"#;
const PLAIN: &[u8] = br#"{"model":"gpt-4.1","max_tokens":9,"messages":[]}"#;

/// A gateway before one upstream that gives the same answer to every request.
struct World {
    upstream: Recorder,
    fakes: Arc<Fakes>,
    address: SocketAddr,
    token: String,
}

impl World {
    async fn start(answer: &str) -> Self {
        Self::of_tenant(ACME, answer).await
    }

    async fn of_tenant(tenant: &str, answer: &str) -> Self {
        Self::of_provider("", tenant, answer).await
    }

    async fn of_provider(settings: &str, tenant: &str, answer: &str) -> Self {
        let upstream = Recorder::start(answer).await;
        let mint = Mint::from_pem(&new_private_key(&[7; 32]), "issuer", "tollgate").unwrap();
        let wanted = TokenRequest {
            tenant: "acme".parse().unwrap(),
            agent: "bot".parse().unwrap(),
            task: "t-1".parse().unwrap(),
            lifetime: Duration::from_secs(300),
            certificate: None,
        };
        let issued = mint.issue(wanted, noon(), "jti-1".parse().unwrap());
        let (gw, fakes) = gateway(snapshot_with(
            settings,
            upstream.address(),
            tenant,
            mint.keys(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, client)) = listener.accept().await {
                let gw = Arc::clone(&gw);
                let service = service_fn(move |request| {
                    let (gw, info) = (Arc::clone(&gw), ConnInfo::in_clear(client));
                    let arrival = Arrival::of(&gw.tracker);
                    async move { Ok::<_, Infallible>(gw.handle(request, info, arrival).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            upstream,
            fakes,
            address,
            token: issued.unwrap().0,
        }
    }

    async fn send(&self, line: &str, more: &[(&str, &str)], body: &[u8]) -> Raw {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("host", "tollgate"), ("authorization", &bearer)];
        headers.extend_from_slice(more);
        let mut client = Raw::connect(self.address).await;
        client.send(request(line, &headers, body)).await;
        client
    }

    async fn call(&self, line: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        let method = line.split(' ').next().unwrap();
        let mut client = self.send(line, more, body).await;
        client.answer_to(method).await.unwrap()
    }

    fn sent(&self) -> String {
        String::from_utf8(self.upstream.bytes()).unwrap()
    }

    /// The ending of the one call made, once it has come; it was written down before contact,
    /// settled once and concluded once.
    async fn ending(&self) -> Ending {
        let mut asked = Vec::new();
        until("the call to be concluded", || {
            asked.extend(self.fakes.asked());
            asked
                .iter()
                .any(|asked| matches!(asked, Asked::Conclude(..)))
                .then_some(())
        })
        .await;
        asked.extend(self.fakes.asked());
        let mut written = asked
            .iter()
            .filter(|asked| !matches!(asked, Asked::Take(_) | Asked::Fetch(..)));
        let story: Vec<&Asked> = written.by_ref().collect();
        let [
            Asked::Reserve(..),
            Asked::Intend(intent),
            Asked::Settle(settled, amount),
            Asked::Conclude(concluded, ending),
        ] = &story[..]
        else {
            panic!("reserved, intended, settled, concluded: {story:?}");
        };
        assert_eq!((*settled, *concluded), (intent.hold.id, intent.hold.id));
        assert_eq!(*amount, ending.cost);
        (**ending).clone()
    }
}

fn answer(head: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}")
}

const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":10}}\n\n\
    data: [DONE]\n\n";

#[tokio::test]
async fn usage_the_client_did_not_ask_for_is_counted_and_taken_out() {
    let world = World::start(&answer("200 OK\r\ncontent-type: text/event-stream", STREAM)).await;
    let got = world.call(CHAT, &[], STREAMED).await;
    assert_eq!(got.status, 200);
    assert!(got.whole && !got.text().contains("usage"), "{got:?}");
    assert!(got.text().ends_with("data: [DONE]\n\n"), "{got:?}");
    assert_eq!(got.header("content-length"), None, "it has become shorter");
    assert!(world.sent().contains("\"include_usage\":true"));
    let ending = world.ending().await;
    assert_eq!(ending.cost, "0.0001".parse().unwrap());
    assert_eq!(ending.usage_source, UsageSource::Exact);
    assert_eq!(ending.outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_stream_is_left_as_it_is_where_the_provider_refuses_the_question() {
    let as_is = "usage_in_streams = \"as_is\"";
    let head = "200 OK\r\ncontent-type: text/event-stream";
    let world = World::of_provider(as_is, ACME, &answer(head, STREAM)).await;
    let got = world.call(CHAT, &[], STREAMED).await;
    assert_eq!(got.text(), STREAM);
    assert!(!world.sent().contains("include_usage"));
    let ending = world.ending().await;
    assert_eq!(ending.cost, "0.0001".parse().unwrap());
    assert_eq!(ending.usage_source, UsageSource::Exact);
}

#[tokio::test]
async fn the_secret_arrives_though_its_header_is_nominated_and_the_token_does_not() {
    let world = World::start(&answer("200 OK", "{}")).await;
    let nominated = [("connection", "authorization, x-gone"), ("x-gone", "1")];
    let more = [&nominated[..], &[("x-api-key", &world.token)]].concat();
    assert_eq!(world.call(CHAT, &more, PLAIN).await.status, 200);
    let sent = world.sent().to_ascii_lowercase();
    assert!(sent.contains("authorization: bearer sk-canary-fake\r\n"));
    assert_eq!(sent.matches("authorization").count(), 1, "{sent}");
    assert!(!sent.contains("eyj") && !sent.contains("x-gone"), "{sent}");
    assert!(world.ending().await.cost > PicoUsd::ZERO);
}

#[tokio::test]
async fn answers_without_a_body_and_answers_that_are_no_success_cost_nothing() {
    let not_modified = "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n";
    let no_content = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let error = answer("429 Too Many Requests\r\nretry-after: 3", "{\"usage\":{}}");
    for (answer, line, status) in [
        (not_modified, "GET /openai/v1/models", 304),
        (no_content, "GET /openai/v1/models", 204),
        (&error, CHAT, 429),
    ] {
        let world = World::start(answer).await;
        let body = if line == CHAT { PLAIN } else { b"" };
        let got = world.call(line, &[], body).await;
        assert_eq!(got.status, status);
        let ending = world.ending().await;
        assert_eq!(ending.cost, PicoUsd::ZERO, "{status}");
        assert_eq!(ending.outcome, Outcome::Completed, "{status}");
        assert_eq!(ending.status, Some(status));
    }
}

#[tokio::test]
async fn what_an_upstream_says_in_the_gateways_name_is_dropped() {
    let spoof = "200 OK\r\nx-tollgate-request-id: spoof\r\nx-tollgate-error: spoof";
    let world = World::start(&answer(spoof, "[]")).await;
    let got = world.call("GET /openai/v1/models", &[], b"").await;
    assert_eq!(got.header("x-tollgate-error"), None);
    let id = got.header("x-tollgate-request-id").unwrap();
    assert!(id.parse::<RecordId>().is_ok(), "{id}");
}

#[tokio::test]
async fn a_compressed_answer_is_withheld_and_billed_if_it_was_a_success() {
    for (head, is_billed) in [
        ("200 OK\r\ncontent-encoding: gzip", true),
        ("503 No\r\ncontent-encoding: br", false),
    ] {
        let world = World::start(&answer(head, "sk-canary")).await;
        let got = world.call(CHAT, &[], PLAIN).await;
        assert_eq!(got.status, 502);
        assert_eq!(got.header("x-tollgate-error"), Some("answer_withheld"));
        assert!(!got.text().contains("sk-canary"));
        let ending = world.ending().await;
        assert_eq!(ending.cost > PicoUsd::ZERO, is_billed, "{head}");
        assert_eq!(ending.code.as_deref(), Some("answer_withheld"));
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_costs_nothing_and_leaves_one_record() {
    let mut world = World::start("").await;
    world.upstream = Recorder::start("").await;
    let got = world.call(CHAT, &[], PLAIN).await;
    assert_eq!(got.status, 502);
    assert_eq!(got.header("x-tollgate-error"), Some("upstream_unreachable"));
    let ending = world.ending().await;
    assert_eq!(ending.cost, PicoUsd::ZERO);
    assert_eq!(ending.outcome, Outcome::UpstreamFailed);
}

#[tokio::test]
async fn a_caller_revoked_while_waiting_for_the_answer_waits_no_longer() {
    let world = World::start("").await;
    let mut client = world.send(CHAT, &[], PLAIN).await;
    until("the upstream to be asked", || {
        (!world.upstream.bytes().is_empty()).then_some(())
    })
    .await;
    world.fakes.answers().liveness = Some(Liveness::Revoked);
    let got = client.answer().await.unwrap();
    assert_eq!(got.status, 401);
    let ending = world.ending().await;
    assert_eq!(ending.outcome, Outcome::Revoked);
    assert!(ending.cost > PicoUsd::ZERO, "it may have been answered");
}

#[tokio::test]
async fn a_stream_whose_token_is_revoked_is_cut_and_billed_for_what_it_gave() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let world = World::start(&format!("{head}{begun}")).await;
    let mut client = world.send(CHAT, &[], STREAMED).await;
    client.read_until(b"hi").await;
    world.fakes.answers().liveness = Some(Liveness::Revoked);
    let rest = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it must not look whole");
    let ending = world.ending().await;
    assert_eq!(ending.outcome, Outcome::Revoked);
    assert_eq!(ending.usage_source, UsageSource::Estimated);
    assert!(ending.cost > PicoUsd::ZERO);
}

#[tokio::test]
async fn a_call_dropped_while_waiting_for_the_answer_is_charged_an_estimate() {
    let world = World::start("").await;
    let client = world.send(CHAT, &[], PLAIN).await;
    until("the upstream to be asked", || {
        (!world.upstream.bytes().is_empty()).then_some(())
    })
    .await;
    // The service behind this test has no way to let the call run on without its client.
    drop(client);
    let ending = world.ending().await;
    assert_eq!(ending.outcome, Outcome::Interrupted);
    assert!(ending.cost > PicoUsd::ZERO);
}

#[tokio::test]
async fn a_stranger_is_answered_before_his_body_has_come() {
    let world = World::start(&answer("200 OK", "{}")).await;
    let mut client = Raw::connect(world.address).await;
    client
        .send(format!(
            "{CHAT} HTTP/1.1\r\nhost: tollgate\r\ncontent-length: 99\r\n\r\n{{"
        ))
        .await;
    let got = client.answer().await.unwrap();
    assert_eq!(got.status, 401);
    assert_eq!(got.json()["error"]["code"], "invalid_api_key");
    assert!(client.answer().await.is_none(), "and then hung up on");
    let asked = world.fakes.asked();
    assert!(matches!(&asked[..], [Asked::TurnAway(_)]), "{asked:?}");
}

#[tokio::test]
async fn a_refused_call_contacts_nobody_and_leaves_one_record() {
    let world = World::start(&answer("200 OK", "{}")).await;
    for (line, more, body, status) in [
        (CHAT, &[][..], &b"{}"[..], 400),
        ("GET /openai/v1/nowhere", &[], b"", 403),
        (CHAT, &[("x-api-key", "$CRED{other}")], PLAIN, 403),
        (CHAT, &[("content-encoding", "gzip")], PLAIN, 400),
    ] {
        let got = world.call(line, more, body).await;
        assert_eq!(got.status, status, "{}", got.text());
        let asked = world.fakes.asked();
        let [Asked::Refuse(record)] = &asked[..] else {
            panic!("one record and nothing else: {asked:?}");
        };
        assert_eq!(record.ending.status, Some(status));
        let id = record.subject.id.to_string();
        assert_eq!(got.header("x-tollgate-request-id"), Some(&*id));
    }
    world.fakes.answers().intent_fails = true;
    assert_eq!(world.call(CHAT, &[], PLAIN).await.status, 503);
    let asked = world.fakes.asked();
    let end = &asked[asked.len() - 2..];
    assert!(
        matches!(end, [Asked::Settle(_, PicoUsd::ZERO), Asked::Refuse(_)]),
        "{asked:?}"
    );
    assert_eq!(world.upstream.connections(), 0);
}
