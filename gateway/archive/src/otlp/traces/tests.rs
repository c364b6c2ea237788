use std::collections::BTreeMap;

use tollgate_core::policy::parse::upstream;
use tollgate_core::record::{Ending, Outcome};
use tollgate_core::trace::{CallTrace, Sampling, TraceParent};
use tollgate_testkit::contract;

use super::*;
use crate::otlp::Protocol;
use crate::otlp::proto::{AnyValue, Value};

const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn at(contacted: bool) -> CallTrace {
    let parent = TraceParent::read(PARENT);
    let id = |text: &str| contract::name(text);
    let new = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
    let at =
        Sampling::new(0, true).place(parent, new, id("1111111111111111"), id("2222222222222222"));
    CallTrace {
        contacted_at: contacted.then(contract::now),
        ..at
    }
}

fn call(contacted: bool, ending: Ending) -> CallSpans {
    CallSpans {
        at: at(contacted),
        subject: contract::subject(contract::record_id(1), "acme", "bot"),
        ending,
    }
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let all = span.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            Some(AnyValue {
                value: Some(Value::Text(text)),
            }) => text.clone(),
            Some(AnyValue {
                value: Some(Value::Int(number)),
            }) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (&*attribute.key, value)
    });
    all.collect()
}

#[test]
fn a_call_is_a_span_of_the_gateway_and_in_it_one_of_the_upstream() {
    let made = spans(&call(true, contract::completed(77)));
    let [served, attempt] = &made[..] else {
        panic!("two spans: {made:#?}");
    };
    assert_eq!(
        (&*served.name, served.kind, served.flags),
        ("chat", 2, 0x301)
    );
    assert_eq!(
        (&*attempt.name, attempt.kind, attempt.flags),
        ("chat gpt-5-mini", 3, 0x101)
    );
    assert_eq!(
        served.parent_span_id,
        [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
    );
    assert_eq!(attempt.parent_span_id, served.span_id);
    assert_eq!(attempt.trace_id, served.trace_id);
    assert_eq!(served.trace_id[..2], [0x4b, 0xf9]);
    assert!(served.status.is_none() && attempt.status.is_none());
    let said = attributes(attempt);
    for (name, value) in [
        ("tenant.id", "acme"),
        ("gen_ai.agent.id", "bot"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-5-mini"),
        ("gen_ai.response.model", "gpt-5-mini-2026"),
        ("gen_ai.usage.input_tokens", "12"),
        ("gen_ai.usage.output_tokens", "34"),
        ("server.address", "api.openai.com"),
        ("server.port", "443"),
        ("http.response.status_code", "200"),
        ("tollgate.cost_pico_usd", "77"),
        ("tollgate.first_byte_us", "1500"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!said.contains_key("error.type"));
}

#[test]
fn what_was_refused_has_no_span_of_the_upstream_and_nothing_of_the_clients_words() {
    let mut refused = call(false, contract::refused());
    refused.subject.method = "BREW\u{e9}".into();
    let made = spans(&refused);
    let [served] = &made[..] else {
        panic!("one span: {made:#?}");
    };
    let said = attributes(served);
    assert_eq!(said["error.type"], "spend_limit_exceeded");
    assert_eq!(said["http.request.method"], "_OTHER");
    assert!(
        served.status.is_none(),
        "a refusal is no failure of the gateway"
    );
    for (key, value) in said {
        for theirs in ["gpt-5-mini", "completions", "BREW", "globex"] {
            assert!(!value.contains(theirs), "{key}: {value}");
        }
    }
}

#[test]
fn a_failure_is_said_in_both() {
    for (outcome, status, code, kind) in [
        (
            Outcome::UpstreamFailed,
            502,
            Some("upstream_unreachable"),
            "upstream_unreachable",
        ),
        (Outcome::Completed, 503, None, "503"),
    ] {
        let ending = Ending {
            status: Some(status),
            code: code.map(str::to_owned),
            ..Ending::new(contract::now(), outcome)
        };
        for span in spans(&call(true, ending)) {
            assert_eq!(attributes(&span)["error.type"], kind);
            assert_eq!(span.status.map(|status| status.code), Some(2));
        }
    }
}

#[tokio::test]
async fn a_queue_that_is_full_or_nobodys_drops_and_counts() {
    let config = SpanExporterConfig {
        collector: Collector {
            server: upstream("http://127.0.0.1:1").unwrap(),
            protocol: Protocol::Http,
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
        },
        version: "1",
        replica: "r1".to_owned(),
        attributes: vec![("service.name".to_owned(), "edge".to_owned())],
        drain: Duration::ZERO,
    };
    let (exporter, queue) = SpanExporter::new(config).unwrap();
    let figures = exporter.figures();
    let named: Vec<&str> = exporter
        .resource
        .attributes
        .iter()
        .map(|it| &*it.key)
        .collect();
    assert_eq!(
        named,
        ["service.version", "service.instance.id", "service.name"]
    );
    for _ in 0..QUEUED_CALLS + 3 {
        queue.take(call(true, contract::completed(1)));
    }
    assert_eq!(figures.dropped(), 6);
    drop(exporter);
    queue.take(call(false, contract::refused()));
    assert_eq!(figures.dropped(), 7);
}
