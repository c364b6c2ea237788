//! Cases 46 and 47: what an upstream's head says to whoever trusts its origin stays here.

use tollgate_testkit::recorder::Recorder;

use crate::harness::{Ask, Plan, Site, World};

/// What comes of an upstream's head with these lines.
async fn passed(status: &str, lines: &[&str]) -> Vec<(String, String)> {
    let head = lines.join("\r\n");
    let upstream = Recorder::start(format!(
        "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: 2\r\n\r\n{{}}"
    ))
    .await;
    let site = Site::new();
    Plan::at(upstream.address()).write(&site);
    let gateway = site.serve().await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    let answer = ask.send(gateway.address).await;
    assert_eq!(answer.status.to_string(), status.split(' ').next().unwrap());
    assert_eq!(upstream.connections(), 1, "asked once");
    answer.headers
}

fn has(headers: &[(String, String)], name: &str, value: &str) -> bool {
    headers
        .iter()
        .any(|(field, is)| field == name && is == value)
}

#[tokio::test]
async fn case_46_a_challenge_is_the_clients_to_read_and_a_proxys_is_stripped() {
    for status in ["401 Unauthorized", "407 Proxy Authentication Required"] {
        let headers = passed(
            status,
            &[
                "www-authenticate: Bearer realm=\"https://evil.example/token\"",
                "proxy-authenticate: Basic realm=\"p\"",
                "proxy-authentication-info: x",
            ],
        )
        .await;
        let challenge = "Bearer realm=\"https://evil.example/token\"";
        assert!(has(&headers, "www-authenticate", challenge), "{headers:?}");
        assert!(
            !headers.iter().any(|(name, _)| name.starts_with("proxy-")),
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn case_47_nothing_that_binds_the_client_to_the_upstream_comes_through() {
    let headers = passed(
        "200 OK",
        &[
            "set-cookie: session=sk-canary-cookie; Path=/",
            "Set-Cookie: b=2",
            "alt-svc: h3=\":443\"; ma=86400",
            "nel: {\"report_to\":\"x\"}",
            "report-to: {}",
            "reporting-endpoints: a=\"https://evil.example\"",
            "refresh: 0; url=https://evil.example/",
            "clear-site-data: \"*\"",
            "strict-transport-security: max-age=1",
            "link: <https://evil.example/>; rel=preload",
            "link: </a?preload>; rel=\"next\", </b>; rel=last",
            "link: </c>; rel=next, <https://evil.example/>; REL=\"Prefetch stylesheet\"",
            "x-ratelimit-remaining: 7",
        ],
    )
    .await;
    for (name, value) in &headers {
        let kept = [
            "content-length",
            "x-ratelimit-remaining",
            "link",
            "date",
            "x-tollgate-request-id",
        ];
        assert!(kept.contains(&name.as_str()), "{name}: {value}");
        assert!(
            name != "link" || value == "</a?preload>; rel=\"next\", </b>; rel=last",
            "{value}"
        );
    }
    assert!(has(&headers, "x-ratelimit-remaining", "7"));
    assert!(
        headers.iter().any(|(name, _)| name == "link"),
        "pages are still found"
    );
}

#[tokio::test]
async fn case_47_streams_and_models_are_no_exception() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let ask = Ask::new("POST", "/openai/v1/chat/completions?mock=extra-headers").bearer(&token);
    let mut body = crate::harness::chat();
    for stream in [false, true] {
        body["stream"] = stream.into();
        let answer = world.send(&ask.clone().json(&body)).await;
        assert_eq!(answer.status, 200);
        for name in [
            "set-cookie",
            "alt-svc",
            "nel",
            "report-to",
            "refresh",
            "link",
        ] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
}
