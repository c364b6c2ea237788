//! Cases 11, 12, 17, 18 and 73: keys that go into a named field of a JSON or form body, or into
//! the query, and everything that is refused there.

use serde_json::{Value, json};
use tollgate_loadtest::mock::SeenRequest;
use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, Dialect, Plan, ProviderPlan, Refused, World, body_text, key};

const JSON: &str = "/search/repos/acme/find";
const FORM: &str = "/mail/repos/acme/send";
const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// With everything that JSON or a form has to escape, and with what looks like a handle.
const SECRET: &str = "sk-canary-\"q\\b/&=+% $CRED{github_token}~z";
/// The same in a JSON text, and percent-encoded.
const IN_JSON: &str = r#"sk-canary-\"q\\b/&=+% $CRED{github_token}~z"#;
const IN_FORM: &str = "sk-canary-%22q%5Cb%2F%26%3D%2B%25%20%24CRED%7Bgithub_token%7D~z";

/// A tool with its key in a JSON field, one with its key in a form, and a model in whose requests
/// one credential goes into a field.
fn with_fields(plan: &mut Plan) {
    let url = plan.provider("github").url.clone();
    for (name, place) in [
        ("search", "{ json_field = \"/auth/api_key\" }"),
        ("mail", "{ form_field = \"api_key\" }"),
        ("lookup", "{ query = \"key\" }"),
    ] {
        let mut tool = ProviderPlan::github(&url);
        tool.more.push_str(&format!("place = {place}\n"));
        plan.providers.insert(name.to_owned(), tool);
        let acme = plan.tenant("acme");
        acme.allow(name, "");
        acme.credential(
            &format!("{name}_key"),
            &format!("{{ provider = \"{name}\", default = true }}"),
        );
        acme.secret(&format!("{name}_key"), SECRET);
    }
    let acme = plan.tenant("acme");
    acme.credential(
        "user_key",
        "{ provider = \"openai\", place = { json_field = \"/user\" } }",
    );
    acme.secret("user_key", SECRET);
}

async fn world() -> (World, String) {
    let world = World::planned(with_fields).await;
    let token = world.token("acme").await;
    (world, token)
}

fn ask(token: &str, to: &str, kind: &str, body: &str) -> Ask {
    Ask::new("POST", to)
        .token(token)
        .header("content-type", kind)
        .body(body)
}

/// Sends `ask`, which is let through, and returns what the provider got.
async fn passed(world: &World, ask: &Ask) -> SeenRequest {
    let before = world.calls().len();
    let answer = world.send(ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains("sk-canary"), "{}", answer.text());
    let mut calls = world.calls();
    assert_eq!(calls.len(), before + 1);
    let seen = calls.remove(before);
    assert_eq!(
        seen.header_values("content-length"),
        [seen.body.len().to_string()]
    );
    assert!(seen.header_values("authorization").is_empty());
    seen
}

async fn assert_refused(world: &World, refused: Refused, ask: &Ask, what: &str) -> Value {
    let answer = world.send(ask).await;
    assert_eq!(answer.status, refused.status, "{what}: {}", answer.text());
    let record = refused
        .check_recorded(&world.gateway, &answer, Dialect::Problem, "acme")
        .await;
    assert!(record["tollgate.credential.name"].is_null(), "{record:#}");
    answer.json()
}

#[tokio::test]
async fn case_17_a_secret_is_escaped_for_the_field_it_goes_into() {
    let (world, token) = world().await;
    for handle in [
        "$CRED{search_key}",
        "$CRED<search_key>",
        r"\u0024CRED\u007bsearch_key\u007D",
        r"$CRED\u003csearch_key\u003e",
        "sk-own",
    ] {
        let body = format!(
            "{{ \"q\":\"$CRED{{search_key}} \\u00e9\",\n \"auth\" : {{\"x\":1.0e0,\"api_key\": \"{handle}\" }},\"api_key\":\"$CRED{{search_key}}\"}}"
        );
        let seen = passed(&world, &ask(&token, JSON, "application/json", &body)).await;
        let expected = body.replace(
            &format!("\"api_key\": \"{handle}\""),
            &format!("\"api_key\": \"{IN_JSON}\""),
        );
        assert_eq!(body_text(&seen), expected, "only the value changes");
        let read: Value = serde_json::from_str(&body_text(&seen)).expect("still JSON");
        assert_eq!(read["auth"]["api_key"], SECRET);
    }
    for handle in [
        "$CRED{mail_key}",
        "%24CRED%7Bmail_key%7D",
        "CRED~mail_key~",
        "own+key",
    ] {
        let body = format!("to=%7E+x&api%5Fkey={handle}&&text=$CRED{{mail_key}}&b");
        let kind = format!("{FORM_TYPE}; charset=UTF-8");
        let seen = passed(&world, &ask(&token, FORM, &kind, &body)).await;
        let expected = body.replace(
            &format!("api%5Fkey={handle}&"),
            &format!("api%5Fkey={IN_FORM}&"),
        );
        assert_eq!(body_text(&seen), expected);
    }
}

/// A path is no place: the secret that would have to be escaped there never gets so far.
#[tokio::test]
async fn case_17_a_path_is_no_place_for_a_secret() {
    let site = crate::harness::Site::new();
    let mock = World::new().await.mock;
    let mut plan = Plan::at(mock.addr());
    let github = plan.provider("github");
    github.more.push_str("place = { path = \"/bot/*\" }\n");
    plan.write(&site);
    let output = site.cli(&["check"], "");
    assert_eq!(output.status.code(), Some(1), "such a policy is a mistake");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`path` is no place for a secret"), "{said}");
}

#[tokio::test]
async fn case_11_a_handle_split_over_chunks_of_a_declared_field_resolves() {
    let (world, token) = world().await;
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(format!(
        "POST {JSON} HTTP/1.1\r\nhost: t\r\nx-tollgate-token: {token}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    ))
    .await;
    for piece in [
        "{\"auth\":{\"api_k",
        "ey\":\"$CR",
        "ED{sear",
        "ch_key",
        "}\"}",
        "}",
    ] {
        raw.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
    }
    raw.send("0\r\n\r\n").await;
    let answer = raw.answer().await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    let expected = format!("{{\"auth\":{{\"api_key\":\"{IN_JSON}\"}}}}");
    assert_eq!(body_text(&seen), expected);
    assert_eq!(
        seen.header_values("content-length"),
        [expected.len().to_string()]
    );
}

#[tokio::test]
async fn case_11_a_handle_split_over_header_lines_is_refused() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for lines in [
        ["Bearer $CRED{git", "hub_token}"],
        ["Bearer $CRED{github_token", "}"],
        ["Bearer $CRED{git, hub_token}", "x"],
    ] {
        let mut ask = Ask::new("GET", "/github/user").token(&token);
        for line in lines {
            ask = ask.header("authorization", line);
        }
        assert_refused(&world, Refused::malformed("bad_handle"), &ask, lines[0]).await;
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_12_a_handle_in_the_field_and_elsewhere_is_refused() {
    let (world, token) = world().await;
    let body = r#"{"auth":{"api_key":"$CRED{search_key}"}}"#;
    let good = ask(&token, JSON, "application/json", body);
    let repeated = Refused::HANDLE_REPEATED;
    for (name, value) in [
        ("authorization", "Bearer $CRED{search_key}"),
        ("x-api-key", "$CRED{other}"),
    ] {
        let answer = world.send(&good.clone().header(name, value)).await;
        // A handle in a header is denied before the body is read.
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    let twice = r#"{"auth":{"api_key":"$CRED{search_key}$CRED{search_key}"}}"#;
    let twice = ask(&token, JSON, "application/json", twice);
    assert_refused(&world, repeated, &twice, "twice in one value").await;

    // Where the tenant has credentials for a header and for a field, one request names one.
    let chat =
        json!({"model": "gpt-4o-mini", "max_tokens": 8, "messages": [], "user": "$CRED{user_key}"});
    let chat = Ask::new("POST", "/openai/v1/chat/completions")
        .token(&token)
        .json(&chat);
    let both = chat
        .clone()
        .header("authorization", "Bearer $CRED{openai_key}");
    let answer = world.send(&both).await;
    repeated.check(&answer, Dialect::OpenAi);
    world.assert_no_contact();

    let seen = passed(&world, &chat).await;
    let read: Value = serde_json::from_str(&body_text(&seen)).expect("JSON");
    assert_eq!(
        read["user"], SECRET,
        "the body of a model call is a place as well"
    );
}

#[tokio::test]
async fn case_18_a_body_that_cannot_be_read_one_way_is_refused() {
    let (world, token) = world().await;
    let good = r#"{"auth":{"api_key":"$CRED{search_key}"}}"#;
    let form = "api_key=CRED~mail_key~";
    let multipart = "--x\r\ncontent-disposition: form-data; name=\"api_key\"\r\n\r\n$CRED{mail_key}\r\n--x--\r\n";
    let kind = "application/json";
    for (to, kind, body, code) in [
        (JSON, kind, "", "invalid_json"),
        (
            JSON,
            kind,
            "{\"auth\":{\"api_key\":\"$CRED{search_key}\"}",
            "invalid_json",
        ),
        (
            JSON,
            kind,
            "[{\"api_key\":\"$CRED{search_key}\"}]",
            "invalid_json",
        ),
        (
            JSON,
            kind,
            "{\"auth\":{\"api_key\":\"\\ud800\"}}",
            "invalid_json",
        ),
        (
            JSON,
            kind,
            "{\"auth\":{\"api_key\":\"$CRED{search_key}\"}}x",
            "invalid_json",
        ),
        (
            JSON,
            kind,
            r#"{"auth":{"api_key":"$CRED{search_key}","api_key":"x"}}"#,
            "duplicate_field",
        ),
        (
            JSON,
            kind,
            r#"{"auth":{"api_key":"$CRED{search_key}","\u0061pi_key":"x"}}"#,
            "duplicate_field",
        ),
        (
            JSON,
            kind,
            r#"{"auth":{},"auth":{"api_key":"$CRED{search_key}"}}"#,
            "duplicate_field",
        ),
        (
            JSON,
            kind,
            r#"{"api_key":"$CRED{search_key}"}"#,
            "bad_handle",
        ),
        (
            JSON,
            kind,
            r#"{"auth":[{"api_key":"$CRED{search_key}"}]}"#,
            "bad_handle",
        ),
        (
            JSON,
            kind,
            r#"{"auth":{"API_KEY":"$CRED{search_key}"}}"#,
            "bad_handle",
        ),
        (
            JSON,
            kind,
            r#"{"auth":{"api_key":["$CRED{search_key}"]}}"#,
            "bad_handle",
        ),
        (JSON, kind, r#"{"auth":{"api_key":null}}"#, "bad_handle"),
        (
            JSON,
            kind,
            r#"{"auth":{"api_key":"Bearer $CRED{search_key}"}}"#,
            "bad_handle",
        ),
        (
            JSON,
            kind,
            r#"{"auth":{"api_key":"$CRED{SEARCH}"}}"#,
            "bad_handle",
        ),
        (
            JSON,
            kind,
            r#"{"auth":{"api_key":"CRED~search_key~"}}"#,
            "bad_handle",
        ),
        (JSON, "text/plain", good, "invalid_content_type"),
        (
            JSON,
            "application/json; charset=utf-16",
            good,
            "invalid_content_type",
        ),
        (JSON, FORM_TYPE, form, "invalid_content_type"),
        (FORM, kind, good, "invalid_content_type"),
        (
            FORM,
            "multipart/form-data; boundary=x",
            multipart,
            "invalid_content_type",
        ),
        (
            FORM,
            FORM_TYPE,
            "api_key=CRED~mail_key~&api%5fkey=x",
            "duplicate_field",
        ),
        (FORM, FORM_TYPE, "to=x", "bad_handle"),
        (FORM, FORM_TYPE, "api_key", "bad_handle"),
        (FORM, FORM_TYPE, "API_KEY=CRED~mail_key~", "bad_handle"),
        (
            FORM,
            FORM_TYPE,
            "api_key=%2524CRED%257Bmail_key%257D",
            "bad_handle",
        ),
        (FORM, FORM_TYPE, "api_key=+CRED~mail_key~", "bad_handle"),
    ] {
        let told = assert_refused(
            &world,
            Refused::malformed(code),
            &ask(&token, to, kind, body),
            body,
        )
        .await;
        if code == "bad_handle" && body.contains("to=x") {
            assert!(
                told.to_string().contains("api_key"),
                "the field is named: {told}"
            );
        }
    }
    let denied = Refused::CREDENTIAL_DENIED;
    for body in [
        r#"{"auth":{"api_key":"$CRED{mail_key}"}}"#,
        r#"{"auth":{"api_key":"$CRED{unknown}"}}"#,
        r#"{"auth":{"api_key":"$CRED{github_token}"}}"#,
    ] {
        assert_refused(&world, denied, &ask(&token, JSON, kind, body), body).await;
    }
    let two_types = ask(&token, JSON, kind, good).header("content-type", kind);
    let refused = Refused::malformed("invalid_content_type");
    assert_refused(&world, refused, &two_types, "two types").await;
    let gzip = ask(&token, JSON, kind, good).header("content-encoding", "gzip");
    let refused = Refused::malformed("unsupported_content_encoding");
    assert_refused(&world, refused, &gzip, "compressed").await;
    world.assert_no_contact();
}

#[tokio::test]
async fn case_08_a_handle_in_a_body_without_declared_fields_stays_text() {
    let (world, token) = world().await;
    let body = r#"{"auth":{"api_key":"$CRED{search_key}"},"api_key":"$CRED{github_token}"}"#;
    let ask = Ask::new("POST", "/github/repos/acme/x")
        .token(&token)
        .header("content-type", "application/json")
        .body(body);
    let answer = world.send(&ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    assert_eq!(body_text(&seen), body);
    let bearer = format!("Bearer {}", key("acme", "github"));
    assert_eq!(seen.header_values("authorization"), [bearer]);
}

#[tokio::test]
async fn case_73_records_and_logs_hold_no_query_and_no_body() {
    let (world, token) = world().await;
    let target = "/lookup/user?b=2&key=CRED~lookup_key~";
    let answer = world.send(&Ask::new("GET", target).token(&token)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(world.only_call().path_and_query.contains(IN_FORM));
    let body = r#"{"auth":{"api_key":"$CRED{search_key}"}}"#;
    let posted = world
        .send(&ask(&token, JSON, "application/json", body))
        .await;
    for answer in [&answer, &posted] {
        let record = world.record_of("acme", answer).await;
        let text = record.to_string();
        assert!(
            !text.contains("canary") && !text.contains("q%5Cb"),
            "{text}"
        );
        let name = record["tollgate.credential.name"].as_str();
        assert!(
            matches!(name, Some("lookup_key" | "search_key")),
            "{record:#}"
        );
    }
    let logged = world.gateway.log();
    assert!(!logged.contains("canary"), "{logged}");
}
