//! What becomes of each member of a line.

use serde_json::json;
use tollgate_core::record::{Outcome, UsageSource};
use tollgate_core::usage::Usage;
use tollgate_testkit::contract;

use super::*;
use crate::otlp::semconv::NAMES;

fn now() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().expect("a time")
}

fn record(line: &Json) -> LogRecord {
    let line = serde_json::to_vec(line).expect("JSON");
    convert(&line, true, now()).expect("a record").record
}

fn attribute(record: &LogRecord, name: &str) -> Option<Value> {
    let mut found = record.attributes.iter().filter(|it| it.key == name);
    let value = found.next()?.value.clone()?.value;
    assert!(found.next().is_none(), "{name} stands there once");
    value
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Text(text.to_owned()))
}

/// The record of a call with everything in it, as its line has it.
fn full() -> Json {
    let mut subject = contract::subject(contract::record_id(1), "acme", "bot");
    subject.provider = Some("openai".parse().expect("a provider"));
    subject.operation = Some("chat".into());
    subject.request_model = Some("gpt-4o".parse().expect("a model"));
    subject.upstream = Some("api.openai.com:443".into());
    subject.reserved = Some("0.5".parse().expect("an amount"));
    let mut ending = tollgate_core::record::Ending::new(now(), Outcome::Completed);
    ending.status = Some(200);
    ending.code = Some("x".to_owned());
    ending.response_model = Some("gpt-4o-2".to_owned());
    ending.usage_source = UsageSource::Exact;
    ending.cost = "0.000001500001".parse().expect("an amount");
    ending.usage = Some(Usage {
        input_tokens: 100,
        cached_input_tokens: 40,
        cache_write_tokens: 7,
        cache_write_1h_tokens: 5,
        output_tokens: 20,
        reasoning_tokens: 12,
        pages: 3,
        ..Usage::default()
    });
    let mut line = serde_json::to_value(&subject).expect("JSON");
    let members = line.as_object_mut().expect("an object");
    let ending = serde_json::to_value(&ending).expect("JSON");
    members.extend(ending.as_object().expect("an object").clone());
    members.insert("tollgate.replica.id".to_owned(), json!("r1"));
    line
}

#[test]
fn counts_have_the_names_of_the_conventions_and_amounts_are_whole_numbers_too() {
    let record = record(&full());
    for (name, count) in [
        ("gen_ai.usage.input_tokens", 100),
        ("gen_ai.usage.cache_read.input_tokens", 40),
        ("gen_ai.usage.cache_creation.input_tokens", 12),
        ("gen_ai.usage.output_tokens", 20),
        ("gen_ai.usage.reasoning.output_tokens", 12),
        ("tollgate.usage.pages", 3),
        ("tollgate.cost_pico_usd", 1_500_001),
        ("tollgate.cost.reserved_pico_usd", 500_000_000_000),
        ("http.response.status_code", 200),
    ] {
        assert_eq!(attribute(&record, name), Some(Value::Int(count)), "{name}");
    }
    assert_eq!(
        attribute(&record, "tollgate.cost_usd"),
        text("0.000001500001")
    );
    assert_eq!(
        attribute(&record, "gen_ai.response.model"),
        text("gpt-4o-2")
    );
    assert_eq!(attribute(&record, "tollgate.usage"), None);
    assert_eq!(
        attribute(&record, "tenant.id"),
        None,
        "the resource says it"
    );
    assert_eq!(record.event_name, "tollgate.call");
    assert_eq!(record.time_unix_nano, nanos(now()), "when it ended");
}

#[test]
fn records_are_written_under_the_names_that_the_conventions_have() {
    let record = record(&full());
    for name in NAMES.iter().filter(|name| **name != "client.address") {
        assert!(attribute(&record, name).is_some(), "{name}");
    }
}

#[test]
fn how_a_call_ended_says_how_serious_it_is() {
    for (line, severity) in [
        (json!({"tollgate.outcome": "completed"}), INFO),
        (json!({"tollgate.outcome": "client_gone"}), INFO),
        (
            json!({"tollgate.outcome": "refused", "error.type": "not_allowed"}),
            WARN,
        ),
        (
            json!({"tollgate.outcome": "denied", "tollgate.event": "admin_action"}),
            WARN,
        ),
        (json!({"tollgate.outcome": "revoked"}), WARN),
        (json!({"tollgate.outcome": "failed"}), ERROR),
        (json!({"tollgate.outcome": "upstream_failed"}), ERROR),
        (json!({"tollgate.outcome": "interrupted"}), ERROR),
        (json!({"error.type": "invalid_api_key"}), WARN),
        (json!({"tollgate.event": "permissions_changed"}), INFO),
    ] {
        let record = record(&line);
        assert_eq!(
            (record.severity_number, &*record.severity_text),
            severity,
            "{line}"
        );
    }
}

#[test]
fn trace_ids_stand_where_otlp_has_them_if_they_are_some() {
    let line = |trace: &str, span: &str| json!({"tollgate.trace.id": trace, "tollgate.trace.span.id": span});
    let good = record(&line(
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
    ));
    assert_eq!(good.trace_id.first(), Some(&0x4b));
    assert_eq!((good.trace_id.len(), good.span_id.len()), (16, 8));
    assert_eq!(good.attributes, []);
    let bad = record(&line("4bf92f3577b34da6a3ce929d0e0e473", "zz f067aa0ba902b"));
    assert_eq!((bad.trace_id, bad.span_id), (vec![], vec![]));
}

#[test]
fn whatever_else_a_line_holds_is_kept_in_its_shape() {
    let record = record(&json!({
        "tollgate.event": "permissions_changed", "a": null, "b": true, "c": -3,
        "d": 18_446_744_073_709_551_615_u64, "e": ["x", 1], "f": {"g": "h"},
        "tollgate.x_usd": "no amount",
    }));
    assert_eq!(record.event_name, "tollgate.permissions_changed");
    assert_eq!(attribute(&record, "a"), None);
    assert_eq!(attribute(&record, "b"), Some(Value::Bool(true)));
    assert_eq!(attribute(&record, "c"), Some(Value::Int(-3)));
    assert_eq!(attribute(&record, "d"), text("18446744073709551615"));
    assert_eq!(attribute(&record, "tollgate.x_usd"), text("no amount"));
    let values = [text("x"), Some(Value::Int(1))].map(|value| AnyValue { value });
    let array = Value::Array(ArrayValue {
        values: values.into(),
    });
    assert_eq!(attribute(&record, "e"), Some(array));
    let values = vec![KeyValue::text("g", "h")];
    assert_eq!(
        attribute(&record, "f"),
        Some(Value::Map(KeyValueList { values }))
    );
}

#[test]
fn outside_of_tenants_the_tenant_that_a_line_is_about_is_an_attribute() {
    let line = br#"{"tenant.id":"acme","tollgate.event":"admin_action"}"#;
    let converted = convert(line, false, now()).expect("a record");
    assert_eq!(attribute(&converted.record, "tenant.id"), text("acme"));
    assert!(convert(b"{\"a\":", true, now()).is_none());
    assert!(convert(b"[]", true, now()).is_none());
}
