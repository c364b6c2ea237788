//! A new process takes over while calls are under way: none fails, none is recorded twice or not at
//! all, caps and revocations hold over both processes, and whatever goes wrong leaves a gateway that
//! serves.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::{eventually, until_true, within};

use crate::harness::{Ask, Dialect, Gateway, Refused, Site, World, chat, cost, outcome, text};

const CHAT: &str = "/openai/v1/chat/completions";

/// An open stream whose provider waits, and the id of its record.
async fn open_stream(gateway: &Gateway, token: &str) -> (Raw, String) {
    let mut body = chat();
    body["stream"] = json!(true);
    let target = format!("{CHAT}?mock=hold-after-3,chunks-20");
    let ask = Ask::new("POST", &target).bearer(token).json(&body);
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(ask.bytes()).await;
    let (status, headers) = raw.head().await.expect("a head");
    assert_eq!(status, 200);
    raw.read_until(b"\n\n").await;
    let id = headers
        .into_iter()
        .find(|(name, _)| name == "x-tollgate-request-id");
    (raw, id.expect("an id").1)
}

async fn ends_whole(raw: &mut Raw) {
    let rest = within("the stream ends", raw.read_until(b"0\r\n\r\n")).await;
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("data: [DONE]"), "the stream came whole");
}

fn models(token: &str) -> Ask {
    Ask::new("GET", "/openai/v1/models").bearer(token)
}

/// Ends a gateway in order and lets an auditor look at what is left.
async fn ends_and_verifies(mut gateway: Gateway, site: &Arc<Site>) {
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0), "{}", gateway.log());
    drop(gateway);
    site.cli_ok(&["audit", "verify"], "");
}

/// The settled and the reserved money of a tenant today.
async fn today(gateway: &Gateway, tenant: &str) -> [PicoUsd; 2] {
    let budgets = gateway.budgets(tenant).await;
    ["settled_usd", "reserved_usd"].map(|name| text(&budgets[0], name).parse().expect("money"))
}

/// What was reserved for a call, and what it cost.
fn money(record: &Value) -> [PicoUsd; 2] {
    let reserved = text(record, "tollgate.cost.reserved_usd").parse();
    [
        reserved.expect("money"),
        cost(record).parse().expect("money"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_the_old_process_ends_whole_and_is_recorded_once_by_the_new_one() {
    let World { mut gateway, mock } = World::new().await;
    let site = Arc::clone(&gateway.site);
    let token = gateway.mint("acme", "a1", "t1").await;
    let (mut stream, id) = open_stream(&gateway, &token).await;
    let new = site.upgrade().await;
    assert_eq!(new.address, gateway.address);
    assert_eq!(new.admin, gateway.admin);
    assert_eq!(new.admin_get("/readyz").await.0, 200);
    let [settled, reserved] = today(&new, "acme").await;
    assert_eq!(settled, PicoUsd::ZERO);
    assert!(reserved > PicoUsd::ZERO, "the stream is held for");
    let answer = models(&token).send(new.address).await;
    assert_eq!(answer.status, 200, "the token is known to both");

    mock.release();
    ends_whole(&mut stream).await;
    drop(stream);
    assert_eq!(gateway.exit_code().await, Some(0), "the old one ends");
    let record = site.record("acme", &id).await;
    assert_eq!(outcome(&record), "completed", "{record:#}");
    assert_eq!(record["tollgate.usage.source"], "exact", "{record:#}");
    let [_, cost] = money(&record);
    eventually("what it cost is settled, once", async || {
        today(&new, "acme").await == [cost, PicoUsd::ZERO]
    })
    .await;
    ends_and_verifies(new, &site).await;
    assert_eq!(site.records("acme").len(), 2, "one record per call");
}

/// Calls again and again, half of them on connections that are kept, until told to stop; how many.
async fn call_on(
    address: std::net::SocketAddr,
    ask: Ask,
    kept: bool,
    over: Arc<AtomicBool>,
) -> usize {
    let mut calls = 0;
    let mut raw = Raw::connect(address).await;
    while !over.load(Ordering::Relaxed) {
        let answer = ask.send_on(&mut raw).await;
        assert_eq!(answer.status, 200, "call {calls}: {}", answer.text());
        calls += 1;
        if !kept || answer.header("connection") == Some("close") {
            raw = Raw::connect(address).await;
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_arrive_during_a_hand_over_all_succeed_and_are_all_recorded() {
    let World { mut gateway, mock } = World::new().await;
    let site = Arc::clone(&gateway.site);
    let token = gateway.mint("acme", "a1", "t1").await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let (ask, over) = (ask.clone(), Arc::clone(&over));
            tokio::spawn(call_on(gateway.address, ask, n % 2 == 0, over))
        })
        .collect();
    // There are calls before, during and after it.
    until_true("calls are made", || mock.seen().len() > 20).await;
    let new = site.upgrade().await;
    let then = mock.seen().len();
    until_true("calls are made", || mock.seen().len() > then + 20).await;
    over.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.expect("no call fails");
    }
    assert_eq!(gateway.exit_code().await, Some(0));
    assert_eq!(mock.seen().len(), calls, "each call went out once");
    ends_and_verifies(new, &site).await;
    let records = site.records("acme");
    assert_eq!(records.len(), calls);
    assert!(records.iter().all(|record| outcome(record) == "completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_calls_of_the_old_process_nearly_use_up_is_kept_by_the_new_one() {
    // What one call reserves is read from a tenant that can afford it.
    let probe = World::new().await;
    let token = probe.token("acme").await;
    probe.mock.release();
    let mut body = chat();
    body["stream"] = json!(true);
    let stream = Ask::new("POST", &format!("{CHAT}?mock=hold-after-3")).json(&body);
    let answer = probe.send(&stream.clone().bearer(&token)).await;
    let [worst, _] = money(&probe.record_of("acme", &answer).await);

    let cap = PicoUsd::new(worst.as_pico() * 5 / 2);
    let World { gateway, mock } = World::planned(|plan| {
        plan.tenant("acme").caps = format!("daily_usd = \"{cap}\"\n");
    })
    .await;
    let site = Arc::clone(&gateway.site);
    let token = gateway.mint("acme", "a1", "t1").await;
    let (mut first, _) = open_stream(&gateway, &token).await;
    let (mut second, _) = open_stream(&gateway, &token).await;
    let new = site.upgrade().await;
    let refused = stream.clone().bearer(&token).send(new.address).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(
        refused.header("x-tollgate-error"),
        Some("request_exceeds_headroom")
    );
    mock.release();
    ends_whole(&mut first).await;
    ends_whole(&mut second).await;
    eventually("there is room again", async || {
        stream.clone().bearer(&token).send(new.address).await.status == 200
    })
    .await;
    assert_eq!(mock.seen().len(), 3, "what was refused has reached nobody");
    ends_and_verifies(new, &site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_the_new_process_ends_ends_its_streams_in_the_old_one() {
    let World { mut gateway, mock } = World::new().await;
    let site = Arc::clone(&gateway.site);
    let token = gateway.mint("acme", "a1", "t1").await;
    let bystander = gateway.mint("acme", "a1", "t2").await;
    let (mut stream, id) = open_stream(&gateway, &token).await;
    let (mut other, _) = open_stream(&gateway, &bystander).await;
    let new = site.upgrade().await;
    let revoked = Instant::now();
    let what = json!({"kind": "task", "tenant": "acme", "task": "t1"});
    new.revoke(&what).await;
    Refused::UNAUTHENTICATED.check(&models(&token).send(new.address).await, Dialect::OpenAi);
    within("the stream ends", stream.rest()).await;
    assert!(
        revoked.elapsed() < Duration::from_secs(5),
        "{:?}",
        revoked.elapsed()
    );
    let record = site.record("acme", &id).await;
    assert_eq!(outcome(&record), "revoked", "{record:#}");
    mock.release();
    ends_whole(&mut other).await;
    drop(other);
    assert_eq!(gateway.exit_code().await, Some(0));
    ends_and_verifies(new, &site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_with_a_bad_policy_ends_and_the_old_one_notices_nothing() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let token = world.token("acme").await;
    let mut kept = Raw::connect(world.gateway.address).await;
    site.write_policy("tenants/acme.toml", "nonsense = true\n");
    let output = site.cli(&["serve", "--upgrade"], "");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("tenants/acme.toml"), "it says why: {said}");
    let answer = models(&token).send_on(&mut kept).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), None, "nobody is sent away");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_gateway_runs_an_upgrade_is_a_start() {
    let mut world = World::new().await;
    let site = Arc::clone(&world.gateway.site);
    world.gateway.kill();
    let new = site.upgrade().await;
    let token = new.mint("acme", "a1", "t1").await;
    assert_eq!(models(&token).send(new.address).await.status, 200);
}

/// Somebody who speaks the hand-over by hand.
struct Talk(UnixStream);

impl Talk {
    fn with(site: &Site) -> Self {
        let stream = UnixStream::connect(site.data().join("handover.sock"));
        let stream = stream.expect("the gateway can be asked");
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).expect("set");
        Self(stream)
    }

    fn say(&mut self, what: &Value) {
        let text = what.to_string();
        let length = u32::try_from(text.len()).expect("short");
        self.0.write_all(&length.to_be_bytes()).expect("sent");
        self.0.write_all(text.as_bytes()).expect("sent");
    }

    fn hear(&mut self) -> Value {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("an answer");
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut text).expect("all of it");
        serde_json::from_slice(&text).expect("JSON")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_another_version_is_refused_and_told_so() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let mut talk = Talk::with(&world.gateway.site);
    talk.say(&json!({"handover": 4711, "what_we_do_not_know": true}));
    let said = talk.hear();
    let reason = said["refused"].as_str().expect("a refusal");
    assert!(reason.contains("4711"), "{reason}");
    // Nor does one that says nothing keep the next one out.
    let _silent = Talk::with(&world.gateway.site);
    assert_eq!(world.send(&models(&token)).await.status, 200);
    let new = world.gateway.site.upgrade().await;
    assert_eq!(models(&token).send(new.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_is_gone_before_the_barrier_leaves_the_old_process_as_it_was() {
    let world = World::new().await;
    let site = Arc::clone(&world.gateway.site);
    let token = world.token("acme").await;
    let (mut stream, id) = open_stream(&world.gateway, &token).await;
    let mut talk = Talk::with(&site);
    talk.say(&json!({"handover": 1}));
    assert!(talk.hear()["offer"].is_object());
    talk.say(&json!("take"));
    drop(talk);
    until_true("it goes on", || {
        world.gateway.log().contains("this gateway goes on")
    })
    .await;
    assert_eq!(world.send(&models(&token)).await.status, 200);
    world.mock.release();
    ends_whole(&mut stream).await;
    assert_eq!(outcome(&site.record("acme", &id).await), "completed");
    let World { gateway, .. } = world;
    ends_and_verifies(gateway, &site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_is_gone_with_the_stores_in_its_hands_leaves_the_old_process_serving() {
    let world = World::new().await;
    let site = Arc::clone(&world.gateway.site);
    let token = world.token("acme").await;
    let (mut stream, id) = open_stream(&world.gateway, &token).await;
    let mut talk = Talk::with(&site);
    talk.say(&json!({"handover": 1}));
    talk.hear();
    talk.say(&json!("take"));
    assert!(talk.hear()["released"].is_object());
    drop(talk);
    // The stores are opened again, what was open is still held, and what ends is settled.
    assert_eq!(world.send(&models(&token)).await.status, 200);
    assert!(today(&world.gateway, "acme").await[1] > PicoUsd::ZERO);
    world.mock.release();
    ends_whole(&mut stream).await;
    drop(stream);
    let record = site.record("acme", &id).await;
    assert_eq!(outcome(&record), "completed", "{record:#}");
    let [_, cost] = money(&record);
    eventually("what it cost is settled, once", async || {
        today(&world.gateway, "acme").await == [cost, PicoUsd::ZERO]
    })
    .await;
    // And the next one may try.
    let World { mut gateway, .. } = world;
    let new = site.upgrade().await;
    assert_eq!(models(&token).send(new.address).await.status, 200);
    assert_eq!(gateway.exit_code().await, Some(0), "{}", gateway.log());
    ends_and_verifies(new, &site).await;
    assert_eq!(site.records("acme").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_finishes_its_calls_the_old_process_leaves_them_interrupted_once() {
    let World { mut gateway, mock } = World::new().await;
    let site = Arc::clone(&gateway.site);
    let token = gateway.mint("acme", "a1", "t1").await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(open_stream(&gateway, &token).await);
    }
    let new = site.upgrade().await;
    gateway.kill();
    let mut sum = PicoUsd::ZERO;
    for (_, id) in &streams {
        let record = site.record("acme", id).await;
        assert_eq!(outcome(&record), "interrupted", "{record:#}");
        assert_eq!(record["tollgate.usage.source"], "interrupted");
        let [reserved, cost] = money(&record);
        assert_eq!(cost, reserved);
        sum = sum.saturating_add(cost);
    }
    eventually("all is settled", async || {
        today(&new, "acme").await == [sum, PicoUsd::ZERO]
    })
    .await;
    assert_eq!(models(&token).send(new.address).await.status, 200);
    mock.release();
    ends_and_verifies(new, &site).await;
    assert_eq!(site.records("acme").len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_old_process_finishes_its_calls_the_new_one_loses_no_record() {
    let World { mut gateway, mock } = World::new().await;
    let site = Arc::clone(&gateway.site);
    let token = gateway.mint("acme", "a1", "t1").await;
    let (stream, id) = open_stream(&gateway, &token).await;
    let mut new = site.upgrade().await;
    let own = models(&token).send(new.address).await;
    assert_eq!(own.status, 200);
    new.kill();
    // Nobody could tell it of a revocation any more.
    assert_eq!(gateway.exit_code().await, Some(0));
    mock.release();
    drop(stream);
    let again = site.serve().await;
    let record = site.record("acme", &id).await;
    assert_eq!(outcome(&record), "interrupted", "{record:#}");
    let [reserved, _] = money(&record);
    assert_eq!(today(&again, "acme").await, [reserved, PicoUsd::ZERO]);
    ends_and_verifies(again, &site).await;
    assert_eq!(site.records("acme").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_upgrade_waits_for_the_calls_of_the_one_before_the_last() {
    let World { mut gateway, mock } = World::new().await;
    let site = Arc::clone(&gateway.site);
    let token = gateway.mint("acme", "a1", "t1").await;
    let (mut stream, _) = open_stream(&gateway, &token).await;
    let mut second = site.upgrade().await;
    let output = site.cli(&["serve", "--upgrade"], "");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("calls under way"), "it says why: {said}");
    mock.release();
    ends_whole(&mut stream).await;
    drop(stream);
    assert_eq!(gateway.exit_code().await, Some(0));
    let third = site.upgrade().await;
    assert_eq!(second.exit_code().await, Some(0));
    assert_eq!(models(&token).send(third.address).await.status, 200);
    ends_and_verifies(third, &site).await;
}
