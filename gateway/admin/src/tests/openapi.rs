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
                &path.replace("{tenant}", "acme"),
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

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let document = document();
    let ready = admin(vec![]);
    let unready = admin(vec!["ledger"]);
    let locked = admin_with(vec![], Known(false), Arc::new(Book::default()));
    let (_, minted) = post(
        &ready,
        "/v1/tokens",
        &json!({"tenant": "acme", "agent": "bot", "task": "t", "certificate_sha256": "A".repeat(43)}),
    )
    .await;
    let token = minted["token"].as_str().expect("a token");
    let mint = |task: &str, more: &str| {
        format!(r#"{{"tenant":"acme","agent":"bot","task":"{task}"{more}}}"#)
    };
    let long = "x".repeat(70_000);
    let form = format!("token={token}");
    let shown = format!(r#"{{"token":"{token}"}}"#);
    let mut told = BTreeSet::new();
    for (admin, who, method, path, body, status) in [
        (&ready, OPERATOR, "post", "/v1/tokens", mint("t-1", ""), 201),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/tokens",
            mint("t-1", ",\"ttl\":1"),
            400,
        ),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/tokens",
            mint("finished", ""),
            409,
        ),
        (&ready, OPERATOR, "post", "/v1/tokens", mint("..", ""), 422),
        (&ready, OPERATOR, "post", "/v1/tokens", long.clone(), 413),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/tokens",
            mint("t", "").replace("acme", "no"),
            404,
        ),
        (&ready, AUDITOR, "post", "/v1/tokens", mint("t", ""), 403),
        (&ready, "nobody", "post", "/v1/tokens", mint("t", ""), 401),
        (&locked, OPERATOR, "post", "/v1/tokens", mint("t", ""), 503),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/tokens/revoke",
            r#"{"kind":"tenant","tenant":"globex"}"#.to_owned(),
            200,
        ),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/tokens/introspect",
            shown.clone(),
            200,
        ),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/tokens/introspect",
            r#"{"token":"x"}"#.to_owned(),
            200,
        ),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/tasks/complete",
            r#"{"tenant":"globex","task":"t"}"#.to_owned(),
            200,
        ),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/introspect",
            form.clone(),
            200,
        ),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/introspect",
            String::new(),
            400,
        ),
        (&ready, OPERATOR, "post", "/v1/introspect", long, 413),
        (&ready, OPERATOR, "post", "/v1/revoke", form, 200),
        (
            &ready,
            OPERATOR,
            "get",
            "/v1/budgets/{tenant}",
            "?task=t".to_owned(),
            200,
        ),
        (
            &ready,
            OPERATOR,
            "get",
            "/v1/budgets/{tenant}",
            "?tsk=t".to_owned(),
            400,
        ),
        (
            &ready,
            OPERATOR,
            "post",
            "/v1/explain",
            r#"{"method":"GET","path":"/x"}"#.to_owned(),
            200,
        ),
        (&ready, OPERATOR, "get", "/v1/tenants", String::new(), 200),
        (
            &ready,
            OPERATOR,
            "get",
            "/v1/tenants/{tenant}",
            String::new(),
            200,
        ),
        (
            &ready,
            OPERATOR,
            "get",
            "/v1/reports/cost",
            "?by=colour".to_owned(),
            422,
        ),
        (&ready, "", "get", "/livez", String::new(), 200),
        (&ready, "", "get", "/readyz", String::new(), 200),
        (&unready, "", "get", "/readyz", String::new(), 503),
        (&locked, "", "get", "/readyz", String::new(), 200),
        (&ready, "", "get", "/metrics", String::new(), 200),
        (&ready, "", "get", "/openapi.json", String::new(), 200),
    ] {
        let operation = &document["paths"][path][method];
        let query = if method == "get" { body.as_str() } else { "" };
        let target = format!("{}{query}", path.replace("{tenant}", "acme"));
        let bearer = format!("Bearer {who}");
        let mut asked = request(
            method.to_uppercase().parse().expect("a method"),
            &target,
            Some(&bearer),
            body.clone(),
        );
        let kinds = operation["requestBody"]["content"].as_object();
        if let Some(kind) = kinds.and_then(|kinds| kinds.keys().next()) {
            let kind = kind.parse().expect("a value");
            asked.headers_mut().insert("content-type", kind);
        }
        let answer = router(Arc::clone(admin))
            .oneshot(asked)
            .await
            .expect("an answer");
        let what = format!("{method} {target} {status}");
        assert_eq!(answer.status().as_u16(), status, "{what}");
        let described = resolved(&document, &operation["responses"][status.to_string()]);
        assert!(described.is_object(), "{what} is not described");
        let kind = answer.headers().get("content-type").cloned();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let Some(content) = described["content"].as_object() else {
            assert!(body.is_empty(), "{what} has a body");
            continue;
        };
        let (expected, schema) = content.iter().next().expect("a kind");
        let kind = kind.expect("a kind of content");
        let kind = kind.to_str().expect("text");
        assert!(kind.starts_with(expected.as_str()), "{what}: {kind}");
        let text = String::from_utf8(body.to_vec()).expect("text");
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let faults = faults(&document, &schema["schema"], &value, "");
        assert!(faults.is_empty(), "{what}: {faults:#?}\n{value:#}");
        told.insert((path, method));
    }
    let all = members(&document["paths"]).iter();
    let all = all.flat_map(|(path, of)| members(of).keys().map(move |method| (path, method)));
    for (path, method) in all {
        let exempt = ["/v1/reports/cost", "/v1/revoke"].contains(&path.as_str());
        assert!(
            exempt || told.contains(&(path, method)),
            "{method} {path} is not tried"
        );
    }
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
            let open = operation["security"] == json!([]);
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
