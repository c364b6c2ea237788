//! Requests of an operator, and what is answered to those that cannot be served.

use super::*;
use crate::server::{AdminListener, serve};

#[tokio::test]
async fn a_minted_token_is_live_until_it_is_revoked() {
    let admin = admin(vec![]);
    let asked = json!({"tenant": "acme", "agent": "bot", "task": "t-1", "ttl_seconds": 60});
    let (status, minted) = post(&admin, "/v1/tokens", &asked).await;
    assert_eq!(status, StatusCode::CREATED, "{minted}");
    let token = minted["token"].as_str().expect("a token");
    let caller = verify(token, &admin.keys, now()).expect("a good token");
    assert_eq!(minted["jti"], caller.token.as_str());
    assert_eq!(minted["expires_at"], "2026-11-23T10:01:00.000000Z");
    assert_eq!(caller.expires_at, now().plus(Duration::from_secs(60)));

    let shown = json!({ "token": token });
    let (_, told) = post(&admin, "/v1/tokens/introspect", &shown).await;
    let expected = json!({
        "active": true, "token_type": "Bearer", "sub": "bot", "tenant": "acme", "task": "t-1",
        "jti": minted["jti"], "iat": now().as_seconds(), "exp": now().as_seconds() + 60,
    });
    assert_eq!(told, expected);

    let what = json!({"kind": "token", "tenant": "acme", "token": minted["jti"]});
    let (status, revoked) = post(&admin, "/v1/tokens/revoke", &what).await;
    assert_eq!((status, revoked), (StatusCode::OK, json!({"revoked": 1})));
    let (_, told) = post(&admin, "/v1/tokens/introspect", &shown).await;
    assert_eq!(told, json!({"active": false, "reason": "token_revoked"}));
}

#[tokio::test]
async fn a_token_can_be_bound_to_a_certificate() {
    let admin = admin(Vec::new());
    let digest = "A".repeat(43);
    let mut asked = json!({"tenant": "acme", "agent": "bot", "task": "t-1"});
    asked["certificate_sha256"] = json!(digest);
    let (status, minted) = post(&admin, "/v1/tokens", &asked).await;
    assert_eq!(status, 201, "{minted}");
    let shown = json!({"token": minted["token"]});
    let (_, told) = post(&admin, "/v1/tokens/introspect", &shown).await;
    assert_eq!(told["cnf"], json!({"x5t#S256": digest}), "{told}");
    for wrong in ["", "AAAA", &"=".repeat(43), &"0".repeat(64)] {
        asked["certificate_sha256"] = json!(wrong);
        let (status, problem) = post(&admin, "/v1/tokens", &asked).await;
        assert_eq!(status, 422, "{problem}");
    }
}

#[tokio::test]
async fn tokens_that_cannot_be_minted_are_told_apart() {
    let admin = admin(vec![]);
    for (tenant, agent, task, ttl, status, code) in [
        ("acme", "bot", "t", 0, 422, "invalid_value"),
        ("acme", "bot", "t", 301, 422, "invalid_value"),
        ("acme", "b/t", "t", 300, 422, "invalid_value"),
        ("Acme", "bot", "t", 300, 422, "invalid_value"),
        ("nobody", "bot", "t", 300, 404, "tenant_unknown"),
        ("closed", "bot", "t", 300, 403, "tenant_disabled"),
        ("acme", "bot", "finished", 300, 409, "task_complete"),
    ] {
        let body = json!({"tenant": tenant, "agent": agent, "task": task, "ttl_seconds": ttl});
        let (answered, problem) = post(&admin, "/v1/tokens", &body).await;
        assert_eq!(answered.as_u16(), status, "{body}: {problem}");
        assert_eq!(problem["code"], code, "{body}");
        assert_eq!(problem["status"], status, "{body}");
    }
}

#[tokio::test]
async fn requests_of_another_form_are_refused() {
    let admin = admin(vec![]);
    let more = json!({"tenant": "acme", "agent": "bot", "task": "t", "admin": true});
    let both = json!({"kind": "tenant", "tenant": "acme", "task": "t"});
    for (path, body, status, code) in [
        (
            "/v1/tokens",
            json!({"tenant": "acme"}),
            400,
            "malformed_request",
        ),
        ("/v1/tokens", json!("text"), 400, "malformed_request"),
        ("/v1/tokens", more, 400, "malformed_request"),
        ("/v1/tokens/revoke", both, 400, "malformed_request"),
        (
            "/v1/tokens/revoke",
            json!({"kind": "everything"}),
            400,
            "malformed_request",
        ),
        ("/v1/nothing", json!({}), 404, "not_found"),
        ("/v1/reports/cost", json!({}), 405, "method_not_allowed"),
    ] {
        let (answered, problem) = post(&admin, path, &body).await;
        assert_eq!(answered.as_u16(), status, "{path} {body}: {problem}");
        assert_eq!(problem["code"], code, "{path} {body}");
    }
}

#[tokio::test]
async fn only_the_operator_token_opens_v1() {
    let admin = admin(vec![]);
    for bearer in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer operator-token-for-test"),
        Some("Bearer operator-token-for-tests2"),
        Some("Basic operator-token-for-tests"),
        Some("operator-token-for-tests"),
    ] {
        for path in [
            "/v1/tokens",
            "/v1/tokens/revoke",
            "/v1/budgets/acme",
            "/nothing",
        ] {
            let (status, problem) = send(&admin, request(Method::POST, path, bearer, "{}")).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{bearer:?} {path}");
            assert_eq!(problem["code"], "admin_credential_required");
        }
    }
    let mut twice = request(
        Method::GET,
        "/v1/budgets/acme",
        Some(&format!("Bearer {OPERATOR}")),
        "",
    );
    twice
        .headers_mut()
        .append("authorization", "Bearer other".parse().expect("a value"));
    assert_eq!(
        send(&admin, twice).await.0,
        StatusCode::UNAUTHORIZED,
        "two are ambiguous"
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let admin = admin(vec![]);
    let (status, problem) = post(&admin, "/v1/tokens/introspect", &json!("x".repeat(70_000))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{problem}");
    assert_eq!(problem["code"], "body_too_large");
}

#[tokio::test]
async fn an_answer_never_repeats_what_was_sent() {
    let admin = admin(vec![]);
    let (_, problem) = post(&admin, "/v1/tokens", &json!({"sk-canary-field": 1})).await;
    assert!(!problem.to_string().contains("canary"), "{problem}");
}

#[tokio::test]
async fn balances_stand_beside_their_caps() {
    let admin = admin(vec![]);
    let (status, told) = get(&admin, "/v1/budgets/acme?task=t-1").await;
    assert_eq!(status, StatusCode::OK);
    let lines = told["budgets"].as_array().expect("lines");
    let seen: Vec<(&str, Option<&str>, Option<&str>)> = lines
        .iter()
        .map(|line| {
            let text = |field: &str| line[field].as_str();
            (
                text("key").unwrap_or(""),
                text("limit_usd"),
                text("left_usd"),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("acme/tenant/day:2026-11-23", Some("5"), Some("3.75")),
            ("acme/tenant/month:2026-11", None, None),
            ("acme/agent=bot/day:2026-11-23", Some("1"), Some("0")),
            ("acme/model=gpt-5*/month:2026-11", Some("3"), Some("1.75")),
            ("acme/task=t-1/total", Some("2"), Some("0.75")),
        ]
    );
    assert_eq!(lines[0]["resets_at"], "2026-11-24T00:00:00.000000Z");
    assert_eq!(
        get(&admin, "/v1/budgets/nobody").await.0,
        StatusCode::NOT_FOUND
    );
    let (status, _) = get(&admin, "/v1/budgets/acme?tsk=1").await;
    assert_eq!(
        status,
        StatusCode::BAD_REQUEST,
        "unknown parameters are refused"
    );
}

#[tokio::test]
async fn reports_are_asked_for_by_query() {
    let admin = admin(vec![]);
    let (status, report) = get(&admin, "/v1/reports/cost?tenant=acme&by=model").await;
    assert_eq!(
        (status, report),
        (StatusCode::OK, json!({"by": "model", "tenant": "acme"}))
    );
    let (status, problem) = get(&admin, "/v1/reports/cost?by=colour").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["detail"], "cannot group by colour");
    let asked = request(
        Method::GET,
        "/v1/reports/cost?by=day&format=csv",
        Some(&format!("Bearer {OPERATOR}")),
        "",
    );
    let answer = router(Arc::clone(&admin)).oneshot(asked).await;
    let headers = answer.expect("an answer").headers().clone();
    assert_eq!(
        headers["content-type"],
        "text/csv; charset=utf-8; header=present"
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(
        get(&admin, "/v1/reports/cost?top=x").await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn probes_and_metrics_need_no_token() {
    let anybody = |path: &str| request(Method::GET, path, None, "");
    let lacking = admin(vec!["policy", "ledger"]);
    assert_eq!(send(&lacking, anybody("/livez")).await.0, StatusCode::OK);
    let (status, told) = send(&lacking, anybody("/readyz")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told["missing"], json!(["policy", "ledger"]));
    let ready = admin(vec![]);
    assert_eq!(send(&ready, anybody("/readyz")).await.0, StatusCode::OK);
    let (_, text) = send(&ready, anybody("/metrics")).await;
    assert!(text.to_string().contains("tollgate_test_total 1"), "{text}");
}

#[tokio::test]
async fn figures_of_single_tenants_are_for_those_with_a_credential_for_them() {
    const SEEN: &str = "tollgate_test_of_acme_total";
    let reads = [OPERATOR, METRICS, AUDITOR, "no-such-token", ""];
    for (open, expected) in [
        (
            Open::Totals,
            [
                (200, true),
                (200, true),
                (200, false),
                (401, false),
                (200, false),
            ],
        ),
        (
            Open::All,
            [
                (200, true),
                (200, true),
                (200, true),
                (401, false),
                (200, true),
            ],
        ),
        (
            Open::Nothing,
            [
                (200, true),
                (200, true),
                (403, false),
                (401, false),
                (401, false),
            ],
        ),
    ] {
        let mut admin = Arc::into_inner(admin(vec![])).expect("nobody else has it");
        admin.exposition.open = open;
        let admin = Arc::new(admin);
        for (token, expected) in reads.into_iter().zip(expected) {
            let bearer = format!("Bearer {token}");
            let shown = (!token.is_empty()).then_some(bearer.as_str());
            let (status, text) = send(&admin, request(Method::GET, "/metrics", shown, "")).await;
            let got = (status.as_u16(), text.to_string().contains(SEEN));
            assert_eq!(got, expected, "{open:?} {token}: {text}");
        }
        let bearer = format!("Bearer {METRICS}");
        let other = request(Method::GET, "/v1/tenants", Some(&bearer), "");
        let (status, _) = send(&admin, other).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "metrics, and nothing else");
    }
}

#[tokio::test]
async fn the_listener_answers_and_ends_when_told() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = AdminListener::bind("127.0.0.1:0".parse().expect("address")).expect("bound");
    let address = listener.address();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(serve(listener, admin(vec![]), stopped));
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = vec![0; 15];
    stream.read_exact(&mut answer).await.expect("answered");
    assert_eq!(answer, b"HTTP/1.1 200 OK");
    stop.send(true).expect("still serving");
    stream.read_to_end(&mut answer).await.expect("closed");
    serving.await.expect("no panic").expect("ended");
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "the port is free"
    );
}

#[tokio::test]
async fn explanations_are_asked_for_with_an_identity_or_without() {
    let admin = admin(vec![]);
    let call = |identity: Value| json!({"method": "GET", "path": "/x/y", "identity": identity});
    for (identity, who) in [
        (
            json!({"tenant": "acme", "agent": "bot", "task": "t"}),
            "acme",
        ),
        (json!({"token": "eyJ"}), "holder"),
        (Value::Null, "shown"),
    ] {
        let (status, told) = post(&admin, "/v1/explain", &call(identity)).await;
        assert_eq!(
            (status, &told),
            (StatusCode::OK, &json!({"who": who, "hints": true}))
        );
    }
    for wrong in [
        call(json!({"tenant": "acme"})),
        call(json!({"token": "sk-canary-t", "tenant": "acme"})),
        json!({"method": "sk-canary m", "path": "/x"}),
        json!({"method": "GET"}),
    ] {
        let (status, told) = post(&admin, "/v1/explain", &wrong).await;
        assert!(status.is_client_error(), "{status}: {told}");
        assert!(!told.to_string().contains("sk-canary"), "{told}");
    }
    let long = "x".repeat(1 << 20);
    let long = json!({"method": "GET", "path": "/x/y", "body": long});
    let (status, _) = post(&admin, "/v1/explain", &long).await;
    assert_eq!(
        status,
        StatusCode::OK,
        "calls may have bodies of their size"
    );
}

#[tokio::test]
async fn live_figures_say_how_caps_stand_and_where_the_pace_leads() {
    let admin = admin(vec![]);
    let (status, told) = get(&admin, "/v1/live?tenant=acme").await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!(told["watched_since"], "2026-11-23T09:50:00.000000Z");
    assert_eq!(told["calls_in_flight"], 3);
    let of = &told["tenants"][0];
    let keys: Vec<&str> = of["caps"]
        .as_array()
        .expect("caps")
        .iter()
        .filter_map(|cap| cap["key"].as_str())
        .collect();
    let expected = [
        "acme/tenant/day:2026-11-23",
        "acme/agent=bot/day:2026-11-23",
        "acme/model=gpt-5*/month:2026-11",
        "acme/task=t-1/total",
        "acme/task=t-2/total",
    ];
    assert_eq!(keys, expected);
    let day = &of["caps"][0];
    assert_eq!(day["remaining_usd"], "3.75");
    let at = json!({"usd_per_hour": "1", "reaches_limit": "at",
        "reaches_limit_at": "2026-11-23T14:00:00.000000Z"});
    assert_eq!(day["burn"]["last_5_minutes"], at);
    assert_eq!(day["burn"]["last_hour"]["reaches_limit"], "never");
    let agent = &of["caps"][1]["burn"]["last_hour"];
    assert_eq!(agent["reaches_limit"], "reached", "a dollar of one");
    let limits = json!([{"key": "acme/tenant/concurrent_requests", "limit": 9, "left": 7}]);
    assert_eq!(of["limits"], limits);
    let (_, all) = get(&admin, "/v1/live").await;
    let tenants: Vec<&Value> = all["tenants"]
        .as_array()
        .expect("tenants")
        .iter()
        .map(|of| &of["tenant"])
        .collect();
    assert_eq!(tenants, ["acme", "closed", "globex"], "the fastest first");
}
