//! Spans of calls, from the client's `traceparent` to the collector and to the upstream.

use http::HeaderValue;
use serde_json::{Value, json};
use tollgate_loadtest::mock::SeenRequest;
use tollgate_testkit::wait::{eventually, until_true};

use super::Collecting;
use super::gateways::{KEY, PROMPT, assert_nothing_else, world};
use crate::harness::{Ask, chat, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const STATE: &str = "vendor=opaque,other=1";

/// The values of a header that reached the upstream.
fn sent(seen: &SeenRequest, name: &str) -> Vec<String> {
    let named = seen.headers.iter().filter(|(field, _)| field == name);
    named
        .map(|(_, value)| HeaderValue::to_str(value).unwrap().to_owned())
        .collect()
}

/// The two spans of the call with this record: the gateway's and the upstream's.
fn of_call(spans: &[Value], id: &str) -> Vec<Value> {
    let of = |span: &&Value| span["attributes"]["tollgate.record.id"] == id;
    let mut found: Vec<Value> = spans.iter().filter(of).cloned().collect();
    found.sort_by_key(|span| span["span_kind"].as_u64());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_stand_in_the_clients_trace_and_the_upstream_is_told_the_gateways_own() {
    for protocol in ["grpc", "http"] {
        let collecting = Collecting::start(protocol);
        let settings = collecting.settings_of_traces();
        let mut world = world(&format!(
            "{settings}headers_file = \"otel.headers\"\n[traces.attributes]\n\"deployment.environment.name\" = \"test\"\n"
        ))
        .await;
        let token = world.token("acme").await;
        let mut body = chat();
        body["messages"][0]["content"] = PROMPT.into();
        let ask = Ask::new("POST", "/openai/v1/chat/completions").json(&body);
        let plain = ask.clone().bearer(&token);
        let sampled = format!("00-{TRACE}-{PARENT}-01");
        let in_trace = plain.clone().header("tracestate", STATE);
        let mut ids = Vec::new();
        for ask in [
            in_trace.clone().header("traceparent", &sampled),
            in_trace
                .clone()
                .header("traceparent", &sampled.replace("-01", "-00")),
            in_trace.header("traceparent", &format!("00-{TRACE}-{PARENT}")),
            plain.clone(),
        ] {
            let answer = world.send(&ask).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            ids.push(answer.header("x-tollgate-request-id").unwrap().to_owned());
        }
        let refused = world
            .send(
                &Ask::new("DELETE", "/openai/v1/files")
                    .bearer(&token)
                    .header("traceparent", &sampled),
            )
            .await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        ids.push(refused.header("x-tollgate-request-id").unwrap().to_owned());
        assert_eq!(world.send(&ask).await.status, 401);
        world.gateway.terminate();
        assert_eq!(world.gateway.exit_code().await, Some(0));

        until_true("the spans have arrived", || {
            collecting.said().spans.len() >= 7
        })
        .await;
        let spans = collecting.said().spans.clone();
        let told: Vec<_> = world
            .calls()
            .iter()
            .map(|seen| sent(seen, "traceparent"))
            .collect();
        let states: Vec<_> = world
            .calls()
            .iter()
            .map(|seen| sent(seen, "tracestate"))
            .collect();
        assert_eq!(
            states,
            [
                vec![STATE.to_owned()],
                vec![STATE.to_owned()],
                vec![],
                vec![]
            ]
        );

        // In the client's trace, and told on.
        let [served, attempt] = &of_call(&spans, &ids[0])[..] else {
            panic!("two spans: {spans:#?}");
        };
        for (span, at, value) in [
            (served, "/trace", json!(TRACE)),
            (served, "/parent", json!(PARENT)),
            (served, "/name", json!("chat")),
            (served, "/span_kind", json!(2)),
            (served, "/flags", json!(0x301)),
            (served, "/resource/service.name", json!("tollgate")),
            (
                served,
                "/resource/deployment.environment.name",
                json!("test"),
            ),
            (served, "/attributes/tenant.id", json!("acme")),
            (attempt, "/trace", json!(TRACE)),
            (attempt, "/parent", served["span"].clone()),
            (attempt, "/name", json!("chat gpt-4o-mini")),
            (attempt, "/span_kind", json!(3)),
            (attempt, "/status", json!(0)),
            (attempt, "/key", json!(KEY)),
            (attempt, "/attributes/gen_ai.provider.name", json!("openai")),
            (
                attempt,
                "/attributes/tollgate.cost_pico_usd",
                json!(13_500_000),
            ),
            (attempt, "/attributes/server.address", json!("127.0.0.1")),
        ] {
            assert_eq!(span.pointer(at), Some(&value), "{at}: {span:#}");
        }
        let own = text(attempt, "span").to_owned();
        assert_eq!(told[0], [format!("00-{TRACE}-{own}-01")]);

        // Not sampled: nothing is kept, and the upstream is told so.
        assert_eq!(of_call(&spans, &ids[1]), [] as [Value; 0]);
        assert!(told[1][0].starts_with(&format!("00-{TRACE}-")) && told[1][0].ends_with("-00"));
        assert!(!told[1][0].contains(PARENT));

        // No parent, or none that is one: a trace begins.
        for call in [2, 3] {
            let [served, attempt] = &of_call(&spans, &ids[call])[..] else {
                panic!("two spans: {spans:#?}");
            };
            let (trace, own) = (text(attempt, "trace"), text(attempt, "span"));
            assert_ne!(trace, TRACE);
            assert_eq!((text(served, "trace"), text(served, "parent")), (trace, ""));
            assert_eq!(told[call], [format!("00-{trace}-{own}-03")]);
        }

        let [refused] = &of_call(&spans, &ids[4])[..] else {
            panic!("one span: {spans:#?}");
        };
        assert_eq!(refused["attributes"]["error.type"], "not_allowed");
        assert_eq!(spans.len(), 7, "a stranger has none");

        // The record names the span that is kept.
        let record = world.gateway.site.record("acme", &ids[0]).await;
        assert_eq!(record["tollgate.trace.id"], TRACE);
        assert_eq!(record["tollgate.trace.span.id"], served["span"]);
        assert_nothing_else(&collecting, &world.gateway.site);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_nobody_takes_cost_no_call_and_no_time_at_the_end() {
    let settings = "[insecure]\nplain_http_otlp = true\n[traces]\nendpoint = \"http://127.0.0.1:1\"\nprotocol = \"grpc\"\n";
    let mut world = world(settings).await;
    let ask = Ask::new("POST", "/openai/v1/chat/completions").json(&chat());
    let ask = ask.bearer(&world.token("acme").await);
    let gateway = &world.gateway;
    assert_eq!(world.send(&ask).await.status, 200);
    eventually("it has been tried", async || {
        gateway.metric("tollgate_span_export_failures_total").await >= 1
    })
    .await;
    assert_eq!(world.send(&ask).await.status, 200);
    assert_eq!(gateway.admin_get("/readyz").await.0, 200);
    assert_eq!(gateway.metric("tollgate_spans_exported_total").await, 0);
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let log = world.gateway.log();
    assert!(log.contains("the collector does not take spans"), "{log}");
}
