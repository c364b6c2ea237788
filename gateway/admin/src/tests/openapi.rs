//! The description of the API against the paths there are and what they answer.

use std::collections::BTreeSet;

use serde_json::Map;

use super::*;
use crate::openapi::DOCUMENT;
use crate::server::paths;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("JSON")
}

/// A path with something in its places.
fn filled(path: &str) -> String {
    path.replace("{tenant}", "acme")
        .replace("{file}", "console.js")
}

fn members(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

/// Follows `$ref`, which always points into the document.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(to) => {
            let at = to.strip_prefix('#').expect("a local reference");
            let found = document
                .pointer(at)
                .unwrap_or_else(|| panic!("nothing at {to}"));
            resolved(document, found)
        }
        None => value,
    }
}

/// What is wrong with `value`, by the part of JSON Schema that the document uses.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    let mut found = Vec::new();
    for (word, says) in members(schema) {
        match word.as_str() {
            "type" => {
                let is = kind(value);
                let allowed = says
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![says.clone()]);
                if !allowed.iter().any(|kind| kind == is) {
                    found.push(format!("{at} is {is}, not {says}"));
                }
            }
            "const" if says != value => found.push(format!("{at} is {value}, not {says}")),
            "enum" if !says.as_array().expect("a list").contains(value) => {
                found.push(format!("{at}: {value} is not listed"));
            }
            "required" if value.is_object() => {
                for name in says.as_array().expect("a list") {
                    if value.get(name.as_str().expect("a name")).is_none() {
                        found.push(format!("{at} lacks {name}"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}/{name}");
                    match (says.get(name), &schema["additionalProperties"]) {
                        (Some(schema), _) => found.extend(faults(document, schema, inner, &at)),
                        (None, Value::Bool(false)) => found.push(format!("{at} is not described")),
                        (None, Value::Object(_)) => {
                            let schema = &schema["additionalProperties"];
                            found.extend(faults(document, schema, inner, &at));
                        }
                        _ => {}
                    }
                }
            }
            "items" => {
                for (place, inner) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(faults(document, says, inner, &format!("{at}/{place}")));
                }
            }
            "oneOf" => {
                let fits = |schema: &&Value| faults(document, schema, value, at).is_empty();
                let fitting = says.as_array().expect("a list").iter().filter(fits).count();
                if fitting != 1 {
                    found.push(format!("{at} fits {fitting} of the forms: {value}"));
                }
            }
            _ => {}
        }
    }
    found
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[tokio::test]
async fn the_document_names_every_path_and_method_and_no_other() {
    let document = document();
    let described: BTreeSet<(String, String)> = members(&document["paths"])
        .iter()
        .flat_map(|(path, of)| {
            members(of)
                .keys()
                .map(|method| (path.clone(), method.clone()))
        })
        .collect();
    let admin = admin(vec![]);
    let mut there = BTreeSet::new();
    for path in paths() {
        for method in METHODS {
            let asked = request(
                method.to_uppercase().parse().expect("a method"),
                &filled(path),
                Some(&format!("Bearer {OPERATOR}")),
                "",
            );
            if send(&admin, asked).await.0 != StatusCode::METHOD_NOT_ALLOWED {
                there.insert((path.to_owned(), method.to_owned()));
            }
        }
    }
    assert_eq!(described, there);
}

/// State of the gateway, who asks, method, path, query or body, and the status of the answer.
type Exchange = (
    State,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u16,
);

#[derive(Clone, Copy)]
enum State {
    Good,
    /// The ledger cannot be written.
    Unready,
    /// The file of credentials cannot be read.
    Locked,
}
use State::{Good, Locked, Unready};

const MINT: &str = r#"{"tenant":"acme","agent":"bot","task":"t-1"}"#;
const MINT_MORE: &str = r#"{"tenant":"acme","agent":"bot","task":"t-1","ttl":1}"#;
const MINT_LATE: &str = r#"{"tenant":"acme","agent":"bot","task":"finished"}"#;
const MINT_DOTS: &str = r#"{"tenant":"acme","agent":"bot","task":".."}"#;
const MINT_NOBODY: &str = r#"{"tenant":"no","agent":"bot","task":"t-1"}"#;
const REVOKE: &str = r#"{"kind":"tenant","tenant":"globex"}"#;
const COMPLETE: &str = r#"{"tenant":"globex","task":"t"}"#;
const CALL: &str = r#"{"method":"GET","path":"/x"}"#;

/// `TOKEN` stands for a live token, `LONG` for more than a request may hold.
#[rustfmt::skip]
const EXCHANGES: &[Exchange] = &[
    (Good, OPERATOR, "post", "/v1/tokens", MINT, 201),
    (Good, OPERATOR, "post", "/v1/tokens", MINT_MORE, 400),
    (Good, OPERATOR, "post", "/v1/tokens", MINT_LATE, 409),
    (Good, OPERATOR, "post", "/v1/tokens", MINT_DOTS, 422),
    (Good, OPERATOR, "post", "/v1/tokens", MINT_NOBODY, 404),
    (Good, OPERATOR, "post", "/v1/tokens", "LONG", 413),
    (Good, AUDITOR, "post", "/v1/tokens", MINT, 403),
    (Good, "nobody", "post", "/v1/tokens", MINT, 401),
    (Locked, OPERATOR, "post", "/v1/tokens", MINT, 503),
    (Good, OPERATOR, "post", "/v1/tokens/revoke", REVOKE, 200),
    (Good, OPERATOR, "post", "/v1/tokens/introspect", r#"{"token":"TOKEN"}"#, 200),
    (Good, OPERATOR, "post", "/v1/tokens/introspect", r#"{"token":"x"}"#, 200),
    (Good, OPERATOR, "post", "/v1/tasks/complete", COMPLETE, 200),
    (Good, OPERATOR, "post", "/v1/introspect", "token=TOKEN", 200),
    (Good, OPERATOR, "post", "/v1/introspect", "", 400),
    (Good, OPERATOR, "post", "/v1/introspect", "LONG", 413),
    (Good, OPERATOR, "post", "/v1/revoke", "token=TOKEN", 200),
    (Good, OPERATOR, "get", "/v1/budgets/{tenant}", "?task=t", 200),
    (Good, OPERATOR, "get", "/v1/budgets/{tenant}", "?tsk=t", 400),
    (Good, OPERATOR, "get", "/v1/budgets/{tenant}", "?task=..", 422),
    (Good, OPERATOR, "get", "/v1/live", "", 200),
    (Good, OPERATOR, "get", "/v1/live", "?tenant=acme", 200),
    (Good, OPERATOR, "get", "/v1/live", "?tenant=no", 404),
    (Good, OPERATOR, "get", "/v1/live", "?task=t", 400),
    (Good, OPERATOR, "get", "/v1/calls", "", 200),
    (Good, AUDITOR, "get", "/v1/calls", "?tenant=acme", 200),
    (Good, AUDITOR, "get", "/v1/calls", "?tenant=globex", 403),
    (Good, OPERATOR, "get", "/v1/calls", "?tenant=no", 404),
    (Good, OPERATOR, "get", "/v1/calls", "?task=t", 400),
    (Good, OPERATOR, "get", "/v1/events", "", 200),
    (Good, MINTER, "get", "/v1/events", "", 403),
    (Good, OPERATOR, "get", "/v1/events", "?tenant=no", 404),
    (Good, MINTER, "get", "/v1/self", "", 200),
    (Good, OPERATOR, "post", "/v1/explain", CALL, 200),
    (Good, AUDITOR, "get", "/v1/audit/key", "", 200),
    (Good, OPERATOR, "post", "/v1/audit/purge", "{}", 200),
    (Good, OPERATOR, "post", "/v1/audit/purge", r#"{"tenant":"acme","dry_run":true}"#, 200),
    (Good, OPERATOR, "post", "/v1/audit/purge", r#"{"before":"2026-01-01"}"#, 400),
    (Good, AUDITOR, "post", "/v1/audit/purge", r#"{"tenant":"acme"}"#, 403),
    (Good, OPERATOR, "post", "/v1/audit/purge", r#"{"tenant":"no"}"#, 404),
    (Good, OPERATOR, "post", "/v1/audit/purge", r#"{"tenant":".."}"#, 422),
    (Good, OPERATOR, "get", "/v1/log", "", 200),
    (Good, AUDITOR, "get", "/v1/log", "", 403),
    (Good, OPERATOR, "put", "/v1/log", r#"{"level":"debug"}"#, 200),
    (Good, OPERATOR, "put", "/v1/log", r#"{"level":"debug","for_seconds":600}"#, 200),
    (Good, OPERATOR, "put", "/v1/log", r#"{"level":"sk-canary-level"}"#, 422),
    (Good, OPERATOR, "put", "/v1/log", r#"{"level":"debug","for_seconds":0}"#, 422),
    (Good, OPERATOR, "put", "/v1/log", r#"{"level":"debug","for_seconds":604801}"#, 422),
    (Good, OPERATOR, "put", "/v1/log", r#"{"levels":"debug"}"#, 400),
    (Good, AUDITOR, "put", "/v1/log", r#"{"level":"debug"}"#, 403),
    (Good, OPERATOR, "get", "/v1/tenants", "", 200),
    (Good, OPERATOR, "get", "/v1/tenants/{tenant}", "", 200),
    (Good, OPERATOR, "get", "/v1/reports/cost", "?by=tenant", 200),
    (Good, OPERATOR, "get", "/v1/reports/cost", "?by=tenant&top=1", 200),
    (Good, OPERATOR, "get", "/v1/reports/cost", "?by=reason&refusals=true", 200),
    (Good, OPERATOR, "get", "/v1/reports/cost", "?colour=red", 400),
    (Good, OPERATOR, "get", "/v1/reports/cost", "?by=colour", 422),
    (Good, "", "get", "/livez", "", 200),
    (Good, "", "get", "/readyz", "", 200),
    (Unready, "", "get", "/readyz", "", 503),
    (Locked, "", "get", "/readyz", "", 200),
    (Good, "", "get", "/metrics", "", 200),
    (Good, METRICS, "get", "/metrics", "", 200),
    (Good, "tga_unknown", "get", "/metrics", "", 401),
    (Locked, METRICS, "get", "/metrics", "", 503),
    (Good, "", "get", "/openapi.json", "", 200),
    (Good, "", "get", "/console", "", 200),
    (Good, "", "get", "/console/{file}", "", 200),
];

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let document = document();
    let good = admin(vec![]);
    let unready = admin(vec!["ledger"]);
    let locked = admin_with(vec![], Known::locked(), Arc::new(Book::default()));
    let bound = json!({"tenant": "acme", "agent": "bot", "task": "t",
        "certificate_sha256": "A".repeat(43)});
    let (_, minted) = post(&good, "/v1/tokens", &bound).await;
    let token = minted["token"].as_str().expect("a token");
    let mut tried = BTreeSet::new();
    for &(state, who, method, path, given, status) in EXCHANGES {
        let admin = match state {
            Good => &good,
            Unready => &unready,
            Locked => &locked,
        };
        let operation = &document["paths"][path][method];
        let given = given
            .replace("TOKEN", token)
            .replace("LONG", &"x".repeat(70_000));
        let (query, body) = match method {
            "get" => (given.as_str(), String::new()),
            _ => ("", given),
        };
        let target = format!("{}{query}", filled(path));
        let verb = method.to_uppercase().parse().expect("a method");
        let bearer = format!("Bearer {who}");
        let shown = (!who.is_empty()).then_some(bearer.as_str());
        let mut asked = request(verb, &target, shown, body);
        let kinds = operation["requestBody"]["content"].as_object();
        if let Some(kind) = kinds.and_then(|kinds| kinds.keys().next()) {
            let kind = kind.parse().expect("a value");
            asked.headers_mut().insert("content-type", kind);
        }
        let answer = router(Arc::clone(admin)).oneshot(asked).await;
        let answer = answer.expect("an answer");
        let what = format!("{method} {target} {status}");
        assert_eq!(answer.status().as_u16(), status, "{what}");
        let described = resolved(&document, &operation["responses"][status.to_string()]);
        assert!(described.is_object(), "{what} is not described");
        fits(&document, described, answer, &what).await;
        tried.insert((path, method));
    }
    for (path, of) in members(&document["paths"]) {
        for method in members(of).keys() {
            assert!(
                tried.contains(&(path, method)),
                "{method} {path} is not tried"
            );
        }
    }
}

/// Whether an answer has a body of the kind and form that is described, or none.
async fn fits(document: &Value, described: &Value, answer: axum::response::Response, what: &str) {
    let kind = answer.headers().get("content-type").cloned();
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let Some(content) = described["content"].as_object() else {
        assert!(body.is_empty(), "{what} has a body");
        return;
    };
    let (expected, schema) = content.iter().next().expect("a kind");
    let kind = kind.expect("a kind of content");
    let kind = kind.to_str().expect("text");
    assert!(kind.starts_with(expected.as_str()), "{what}: {kind}");
    let text = String::from_utf8(body.to_vec()).expect("text");
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    let faults = faults(document, &schema["schema"], &value, "");
    assert!(faults.is_empty(), "{what}: {faults:#?}\n{value:#}");
}

#[test]
fn the_document_is_whole() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut names = BTreeSet::new();
    for (path, of) in members(&document["paths"]) {
        for (method, operation) in members(of) {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(names.insert(id), "{id} stands twice");
            // Some are open, and show more with a credential.
            let ajar = operation["security"][0] == json!({});
            let open = ajar || operation["security"] == json!([]);
            assert_eq!(open, !path.starts_with("/v1/"), "{method} {path}");
            let responses = members(&operation["responses"]);
            if !open {
                for status in ["401", "403", "503"] {
                    assert!(responses.contains_key(status), "{method} {path} {status}");
                }
            }
            let in_path: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
            let given = operation["parameters"].as_array().into_iter().flatten();
            let given: Vec<&str> = given
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            assert_eq!(given, in_path, "{method} {path}");
        }
    }
    references(&document, &document);
}

fn references(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            if members.contains_key("$ref") {
                resolved(document, value);
            }
            members
                .values()
                .for_each(|inner| references(document, inner));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(document, inner)),
        _ => {}
    }
}
