//! A whole gateway in front of a collector: what it writes arrives, whatever happens to either.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::json;
use tollgate_testkit::authority::Authority;
use tollgate_testkit::wait::{eventually, until_true};

use super::Collecting;
use crate::harness::{Ask, Gateway, Plan, Site, Tokens, World, chat, start_mock, text};

/// Segments are sealed soon, so that tests need not wait for a minute.
const SOON: &str = "[records]\nsegment_seconds = 1\n";
/// What the collector is to get with each request, and nobody else to see.
pub(super) const KEY: &str = "sk-canary-otlp-4d1b";
pub(super) const PROMPT: &str = "the harvest is stored beneath the old mill";

/// The usual set-up with these lines of `gateway.toml`, and a file of headers.
pub(super) async fn world(gateway: &str) -> World {
    let mock = start_mock().await;
    let mut plan = Plan::at(mock.addr());
    gateway.clone_into(&mut plan.gateway);
    let site = Site::new();
    site.secrets.watch(KEY);
    plan.write(&site);
    headers(&site, &format!("# for the collector\nX-Api-Key: {KEY}\n"));
    let gateway = site.serve().await;
    World { gateway, mock }
}

fn headers(site: &Site, text: &str) {
    let file = site.policies().join("otel.headers");
    fs::write(&file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Makes calls of a tenant, each of which must succeed.
async fn calls(world: &World, tenant: &str, count: usize) {
    let token = world.token(tenant).await;
    let mut body = chat();
    body["messages"][0]["content"] = PROMPT.into();
    let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(&token);
    let ask = ask.json(&body);
    for _ in 0..count {
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Every line of every partition, as the collector is to know it.
fn written(site: &Site) -> BTreeSet<(String, String)> {
    let mut written = BTreeSet::new();
    for partition in ["acme", "globex", "_gateway", "_operator"] {
        for line in site.lines(partition) {
            let id = text(&line, "tollgate.record.id").to_owned();
            assert!(written.insert((partition.to_owned(), id)), "an id is one's");
        }
    }
    written
}

/// Waits until a request has failed, and the log says why.
async fn failed_since(gateway: &Gateway, why: &str) {
    eventually("a request has failed", async || {
        gateway.metric("tollgate_otlp_failures_total").await >= 1
    })
    .await;
    until_true("the log says why", || gateway.log().contains(why)).await;
}

const LAG: &str = "tollgate_outbox_oldest_seconds{destination=\"collector\"}";
const WAITING: &str = "tollgate_outbox_parcels{destination=\"collector\"}";

#[tokio::test(flavor = "multi_thread")]
async fn every_line_arrives_under_its_tenant_before_the_process_ends_and_nothing_else_does() {
    for protocol in ["grpc", "http"] {
        let collecting = Collecting::start(protocol);
        let settings = collecting.settings();
        let mut world = world(&format!("{settings}headers_file = \"otel.headers\"\n")).await;
        calls(&world, "acme", 3).await;
        calls(&world, "globex", 2).await;
        let stranger = Ask::new("POST", "/openai/v1/chat/completions").json(&chat());
        assert_eq!(world.send(&stranger).await.status, 401);
        world.gateway.terminate();
        assert_eq!(world.gateway.exit_code().await, Some(0));

        let site = &world.gateway.site;
        let arrived = collecting.by_record();
        assert_eq!(
            arrived.keys().cloned().collect::<BTreeSet<_>>(),
            written(site)
        );
        let count = |partition: &str| {
            let of = arrived.keys().filter(|(of, _)| of == partition);
            of.count()
        };
        assert_eq!(
            (count("acme"), count("globex"), count("_gateway")),
            (3, 2, 1)
        );
        assert!(count("_operator") >= 2, "tokens were minted");
        for (at, value) in [
            ("/event", json!("tollgate.call")),
            ("/severity", json!("INFO")),
            ("/schema", json!("https://opentelemetry.io/schemas/1.41.1")),
            ("/scope/2", json!("https://opentelemetry.io/schemas/1.41.1")),
            ("/scope/0", json!("tollgate")),
            ("/body", json!(false)),
            ("/key", json!(KEY)),
            ("/resource/tenant.id", json!("acme")),
            ("/resource/service.name", json!("tollgate")),
            ("/attributes/gen_ai.agent.id", json!("a1")),
            ("/attributes/gen_ai.operation.name", json!("chat")),
            ("/attributes/gen_ai.provider.name", json!("openai")),
            ("/attributes/gen_ai.request.model", json!("gpt-4o-mini")),
            ("/attributes/tollgate.cost_usd", json!("0.0000135")),
            ("/attributes/tollgate.cost_pico_usd", json!(13_500_000)),
        ] {
            let calls = arrived.iter().filter(|((of, _), _)| of == "acme");
            for (_, call) in calls {
                assert_eq!(call.pointer(at), Some(&value), "{at}: {call:#}");
            }
        }
        let replica = text(&site.lines("acme")[0], "tollgate.replica.id").to_owned();
        for ((partition, _), record) in &arrived {
            assert_eq!(record["resource"]["service.instance.id"], replica);
            let stranger = partition == "_gateway";
            assert_eq!(stranger, record["severity"] == "WARN", "{record:#}");
        }
        assert_nothing_else(&collecting, site);
    }
}

/// Fails if a prompt, an answer or a secret stands in the bytes of any request.
pub(super) fn assert_nothing_else(collecting: &Collecting, site: &Site) {
    for request in &collecting.said().requests {
        let raw = STANDARD.decode(text(request, "raw")).unwrap();
        site.secrets.check("a request", &raw, Tokens::Never);
        let raw = String::from_utf8_lossy(&raw).into_owned();
        for said in [PROMPT, "messages", "choices"] {
            assert!(!raw.contains(said), "{said}: {raw}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_while_it_exports_no_record_is_missing() {
    for protocol in ["grpc", "http"] {
        let collecting = Collecting::start(protocol);
        // Each record an object of its own: many parcels.
        let layout = format!("{SOON}layout = \"objects\"\n");
        let mut world = world(&format!("{}{layout}", collecting.settings())).await;
        for _ in 0..3 {
            calls(&world, "acme", 12).await;
            calls(&world, "globex", 8).await;
            world.gateway.kill();
            let site = Arc::clone(&world.gateway.site);
            world.gateway = site.serve().await;
        }
        let site = Arc::clone(&world.gateway.site);
        for (tenant, count) in [("acme", 36), ("globex", 24)] {
            site.records_when(tenant, count).await;
        }
        world.gateway.terminate();
        assert_eq!(world.gateway.exit_code().await, Some(0));
        // Twice is possible, and tells by its id.
        assert_eq!(collecting.records(), written(&site));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_costs_lag_and_nothing_else() {
    for protocol in ["grpc", "http"] {
        let mut collecting = Collecting::start(protocol);
        collecting.make("down");
        let world = world(&format!("{}{SOON}", collecting.settings())).await;
        let gateway = &world.gateway;
        calls(&world, "acme", 3).await;
        eventually("it is behind, and has tried", async || {
            gateway.metric(LAG).await >= 2
                && gateway.metric("tollgate_otlp_failures_total").await >= 2
        })
        .await;
        calls(&world, "globex", 2).await;
        assert_eq!(gateway.admin_get("/readyz").await.0, 200);
        assert!(gateway.metric(WAITING).await > 0);
        assert_eq!(gateway.metric("tollgate_otlp_records_total").await, 0);
        collecting.make("up");
        until_true("everything has arrived", || {
            let records = collecting.records();
            let of = |tenant: &str| records.iter().filter(|(of, _)| of == tenant).count();
            (of("acme"), of("globex")) == (3, 2)
        })
        .await;
        eventually("nothing waits", async || gateway.metric(WAITING).await == 0).await;
        assert!(gateway.metric("tollgate_otlp_records_total").await >= 5);
        assert_eq!(gateway.metric("tollgate_otlp_rejected_total").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_keeps_nothing_longer_than_its_time() {
    let collecting = Collecting::start("grpc");
    collecting.signal(Signal::STOP);
    let settings = format!("{}timeout_seconds = 1\n", collecting.settings());
    let world = world(&format!("{settings}{SOON}")).await;
    calls(&world, "acme", 2).await;
    failed_since(&world.gateway, "no answer within 1000 ms").await;
    calls(&world, "acme", 1).await;
    collecting.signal(Signal::CONT);
    until_true("everything has arrived", || {
        let records = collecting.records();
        records.iter().filter(|(of, _)| of == "acme").count() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_asks_for_a_pause_gets_it() {
    for protocol in ["grpc", "http"] {
        let mut collecting = Collecting::start(protocol);
        collecting.make("busy");
        let world = world(&format!("{}{SOON}", collecting.settings())).await;
        calls(&world, "acme", 2).await;
        until_true("it has been asked twice", || {
            collecting.said().busy.len() >= 2
        })
        .await;
        let paused = {
            let busy = &collecting.said().busy;
            busy[1] - busy[0]
        };
        // Of itself it would have come back after 0.625 s at most.
        assert!(paused > 0.95, "{protocol}: after {paused} s");
        calls(&world, "acme", 1).await;
        collecting.make("take");
        until_true("everything has arrived", || {
            let records = collecting.records();
            records.iter().filter(|(of, _)| of == "acme").count() == 3
        })
        .await;
        assert_eq!(
            world.gateway.metric("tollgate_otlp_rejected_total").await,
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_stops_in_time_though_the_collector_takes_nothing_and_hands_over_later() {
    let mut collecting = Collecting::start("http");
    collecting.make("down");
    let mut world = world(&collecting.settings()).await;
    calls(&world, "acme", 2).await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    assert_eq!(collecting.records(), BTreeSet::new());
    collecting.make("up");
    let site = Arc::clone(&world.gateway.site);
    let before = written(&site);
    world.gateway = site.serve().await;
    until_true("what was left has arrived", || {
        collecting.records().is_superset(&before)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_collector_whose_authority_is_known_gets_anything() {
    for protocol in ["grpc", "http"] {
        let authority = Authority::new();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let (certificate, key) = authority.pair("localhost");
        for (name, text) in [
            ("tls.crt", certificate),
            ("tls.key", key),
            ("ca.crt", authority.pem()),
            ("other.crt", Authority::new().pem()),
        ] {
            fs::write(file(name), text).unwrap();
        }
        let (certificate, key) = (file("tls.crt"), file("tls.key"));
        let collecting = Collecting::start_with(protocol, Some([&certificate, &key]));
        let settings = |authority: &str| {
            let ca = file(authority).display().to_string();
            format!(
                "[records.otlp]\nendpoint = \"https://localhost:{}\"\nprotocol = \"{protocol}\"\nca_file = \"{ca}\"\n{SOON}",
                collecting.port
            )
        };
        let mut world = world(&settings("other.crt")).await;
        calls(&world, "acme", 1).await;
        failed_since(&world.gateway, "its certificate is not trusted").await;
        world.gateway.terminate();
        assert_eq!(world.gateway.exit_code().await, Some(0));
        assert_eq!(collecting.records(), BTreeSet::new());

        let site = Arc::clone(&world.gateway.site);
        let before = written(&site);
        let listen = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
        site.write_policy("gateway.toml", &format!("{listen}{}", settings("ca.crt")));
        world.gateway = site.serve().await;
        until_true("what was left has arrived", || {
            collecting.records().is_superset(&before)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_gets_everything_and_the_first_one_nothing_twice() {
    let first = Collecting::start("http");
    let mut world = world(&first.settings()).await;
    calls(&world, "acme", 2).await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let site = Arc::clone(&world.gateway.site);
    let before = written(&site);
    let second = Collecting::start("grpc");
    let listen = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    site.write_policy("gateway.toml", &format!("{listen}{}", second.settings()));
    world.gateway = site.serve().await;
    until_true("the other one has everything", || {
        second.records().is_superset(&before)
    })
    .await;
    let came = first.said().records.len();
    assert_eq!(came, before.len(), "each once, and none of it again");
}
