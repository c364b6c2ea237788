//! Cases 44, 45, 48: the secret goes to the place that proves itself, and nowhere else.

use tollgate_testkit::authority::{Authority, Flaw};
use tollgate_testkit::recorder::Recorder;

use crate::harness::{Ask, Dialect, Plan, Refused, Site, World, chat, key};

const CHAT: &str = "/openai/v1/chat/completions";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A gateway whose OpenAI is the recorder, by TLS under `host`.
async fn behind_tls(
    recorder: &Recorder,
    authority: &Authority,
    host: &str,
) -> crate::harness::Gateway {
    let site = Site::new();
    site.write_policy("authority.pem", &authority.pem());
    let mut plan = Plan::at(recorder.address());
    let openai = plan.provider("openai");
    openai.url = format!("https://{host}:{}", recorder.address().port());
    openai.more = "prices = \"openai\"\nca_file = \"authority.pem\"\n".to_owned();
    plan.write(&site);
    site.serve().await
}

#[tokio::test]
async fn case_44_a_certificate_that_does_not_hold_keeps_the_request_here() {
    let authority = Authority::new();
    let stranger = Authority::new();
    for (what, tls) in [
        (
            "self-signed",
            authority.server("localhost", Flaw::SelfSigned, &["http/1.1"]),
        ),
        (
            "expired",
            authority.server("localhost", Flaw::Expired, &["http/1.1"]),
        ),
        (
            "not yet valid",
            authority.server("localhost", Flaw::Premature, &["h2", "http/1.1"]),
        ),
        (
            "another name",
            authority.server("api.openai.example", Flaw::None, &["http/1.1"]),
        ),
        (
            "another wildcard",
            authority.server("*.localhost", Flaw::None, &["h2"]),
        ),
        (
            "another authority",
            stranger.server("localhost", Flaw::None, &["http/1.1"]),
        ),
    ] {
        let recorder = Recorder::start_tls(OK, tls).await;
        let gateway = behind_tls(&recorder, &authority, "localhost").await;
        let token = gateway.mint("acme", "a1", "t1").await;
        let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
        let answer = ask.send(gateway.address).await;
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        let code = answer.header("x-tollgate-error").unwrap().to_owned();
        Refused::bad_gateway(Box::leak(code.into_boxed_str())).check(&answer, Dialect::OpenAi);
        assert_eq!(recorder.handshakes(), 0, "{what}");
        assert_eq!(
            recorder.bytes(),
            b"",
            "{what}: not a byte of the request was sent"
        );
        let id = answer.header("x-tollgate-request-id").unwrap();
        let record = gateway.site.record("acme", id).await;
        assert_eq!(
            record["tollgate.cost_usd"], "0",
            "nothing was sent: {record:#}"
        );
        assert!(!gateway.log().contains("sk-canary"), "{what}");
    }
}

#[tokio::test]
async fn a_certificate_that_holds_lets_the_request_through() {
    let authority = Authority::new();
    let tls = authority.server("localhost", Flaw::None, &["http/1.1"]);
    let recorder = Recorder::start_tls(OK, tls).await;
    let gateway = behind_tls(&recorder, &authority, "localhost").await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let answer = Ask::new("GET", "/openai/v1/models")
        .bearer(&token)
        .send(gateway.address)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = String::from_utf8(recorder.bytes()).unwrap();
    assert!(
        sent.contains(&format!("Bearer {}", key("acme", "openai"))),
        "{sent}"
    );
    assert!(sent.to_lowercase().contains("host: localhost:"), "{sent}");
}

#[tokio::test]
async fn case_45_a_redirect_is_returned_and_not_followed() {
    let evil = Recorder::start(OK).await;
    let evil_at = evil.address();
    for status in [301, 302, 303, 307, 308] {
        for location in [
            format!("http://{evil_at}/steal"),
            format!("//{evil_at}/steal"),
            format!("https://{evil_at}/steal"),
            "http://169.254.169.254/latest/meta-data".to_owned(),
            "/v1/elsewhere".to_owned(),
        ] {
            let answer = format!(
                "HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 5\r\n\r\nmoved"
            );
            let upstream = Recorder::start(answer).await;
            let site = Site::new();
            Plan::at(upstream.address()).write(&site);
            let gateway = site.serve().await;
            let token = gateway.mint("acme", "a1", "t1").await;
            let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
            let answer = ask.send(gateway.address).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("location"), Some(location.as_str()));
            assert_eq!(answer.text(), "moved");
            let sent = String::from_utf8(upstream.bytes()).unwrap();
            assert_eq!(
                sent.matches("sk-canary").count(),
                1,
                "the key went once: {sent}"
            );
        }
    }
    assert_eq!(evil.connections(), 0, "nobody followed");
}

#[tokio::test]
async fn case_48_one_request_names_one_authority() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let upstream = world.mock.addr();
    let models = "/openai/v1/models";
    let bearer = format!("authorization: Bearer {token}\r\n");
    for request in [
        format!("GET http://evil.example{models} HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
        format!("GET http://tollgate:81{models} HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
        format!("GET https://tollgate:444{models} HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
        format!("GET http://{upstream}/v1/models HTTP/1.1\r\nhost: {upstream}\r\n{bearer}\r\n"),
        format!("GET http://user@tollgate{models} HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
        format!("GET ftp://tollgate{models} HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
        format!("GET file:///etc/passwd HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
        format!("CONNECT {upstream} HTTP/1.1\r\nhost: {upstream}\r\n{bearer}\r\n"),
        format!("CONNECT evil.example:443 HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
        format!("OPTIONS * HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n"),
    ] {
        let answer = world.send_raw(&request).await.expect("an answer");
        assert!(
            matches!(answer.status, 400 | 403 | 405 | 421),
            "{request}: {answer:?}"
        );
        assert!(answer.header("x-tollgate-error").is_some(), "{answer:?}");
    }
    world.assert_no_contact();
    // The form itself is legal where both say the same.
    let same = format!("GET http://tollgate{models} HTTP/1.1\r\nhost: tollgate\r\n{bearer}\r\n");
    let answer = world.send_raw(&same).await.expect("an answer");
    assert!(matches!(answer.status, 200 | 400), "{answer:?}");
}
