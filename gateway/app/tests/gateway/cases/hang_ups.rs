//! Case 77: whoever hangs up, what was produced is paid for, and nothing stays reserved.

use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::until_true;

use super::ways::{WAYS, counted, forms_of, is_free, reserved, settled, source, usd};
use crate::harness::{Called, World, outcome};

/// All counters say what the records do, and nothing is reserved any more.
async fn assert_balanced(world: &World, calls: &[Called]) {
    let spent = calls.iter().map(settled);
    let spent = spent.fold(PicoUsd::ZERO, PicoUsd::saturating_add);
    // Calls that cross midnight are paid in two days, and all of them in one month but once.
    let budgets = world.gateway.budgets("acme").await;
    let total = |field: &str| usd(&budgets[1], field);
    assert_eq!(
        (total("settled_usd"), total("reserved_usd")),
        (spent, PicoUsd::ZERO),
        "{budgets:?}"
    );
}

#[tokio::test]
async fn case_77_a_client_that_leaves_after_the_first_byte_pays_what_the_provider_bills() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let ways: Vec<_> = WAYS.iter().filter(|way| way.can_stream()).collect();
    let mut ids = Vec::new();
    let mut open = Vec::new();
    world.mock.forget();
    for (count, way) in ways.iter().enumerate() {
        let ask = way
            .ask("chunks-8,chunk-delay-2,hold-after-1", true)
            .bearer(&token);
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(ask.bytes()).await;
        let (status, headers) = raw.head().await.expect("a head");
        assert_eq!(status, 200, "{}", way.path);
        raw.read_until(b"\r\n").await;
        let id = headers
            .into_iter()
            .find(|(name, _)| name == "x-tollgate-request-id");
        ids.push(id.expect("an id").1);
        open.push(raw);
        world.mock.wait_for(count + 1).await;
    }
    drop(open);
    world.mock.release();
    let mut calls = Vec::new();
    for ((way, id), seen) in ways.iter().zip(&ids).zip(world.calls()) {
        let record = world.gateway.site.record("acme", id).await;
        assert_eq!(outcome(&record), "client_gone", "{} {record:#}", way.path);
        let call = Called::unanswered(record, seen.billed);
        assert_eq!(source(&call), "exact", "{call:?}");
        assert_eq!(Some(counted(&call.record)), call.billed, "{call:?}");
        assert_eq!(settled(&call) == PicoUsd::ZERO, is_free(way), "{call:?}");
        assert!(settled(&call) <= reserved(&call), "{call:?}");
        calls.push(call);
    }
    assert_balanced(&world, &calls).await;
}

#[tokio::test]
async fn case_77_what_a_provider_sent_before_it_broke_off_is_estimated_and_never_free() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let forms: Vec<_> = forms_of(WAYS)
        .flat_map(|(way, streamed)| {
            // After the first byte of a plain answer, the first event of a stream, or before.
            let words = ["hangup-after-1", "hangup"];
            words.map(|words| (way, streamed, words))
        })
        .collect();
    let asks = forms.iter().map(|(way, streamed, words)| {
        way.ask(&format!("chunks-8,{words}"), *streamed)
            .bearer(&token)
    });
    let calls = world.make(asks).await;
    for ((way, streamed, words), call) in forms.iter().zip(&calls) {
        let name = format!("{} {streamed} {words}: {call:?}", way.path);
        assert_eq!(outcome(&call.record), "upstream_failed", "{name}");
        assert_ne!(source(call), "none", "{name}");
        assert_eq!(settled(call) == PicoUsd::ZERO, is_free(way), "{name}");
        assert!(settled(call) <= reserved(call), "{name}");
        if *words == "hangup" {
            assert_eq!(call.answer.status, 502, "{name}");
        } else {
            assert!(!call.answer.whole, "the cut is visible: {name}");
        }
        // Characters to be spoken are known from the request.
        let is_known = call.billed.is_none_or(|bill| bill == counted(&call.record));
        assert!(source(call) == "estimated" || is_known, "{name}");
    }
    assert_balanced(&world, &calls).await;
}

#[tokio::test]
async fn case_77_a_provider_that_goes_on_for_ever_is_left_when_the_drain_is_over() {
    let world = World::of_all_providers(|plan| {
        plan.gateway.push_str("[deadlines]\nhang_up_seconds = 0\n");
    })
    .await;
    let token = world.token("acme").await;
    let ways: Vec<_> = WAYS.iter().filter(|way| way.can_stream()).collect();
    for way in &ways {
        let ask = way.ask("chunks-8,stall-after-1", true).bearer(&token);
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(ask.bytes()).await;
        raw.head().await.expect("a head");
        raw.read_until(b"\r\n").await;
    }
    let records = world.gateway.site.records_when("acme", ways.len()).await;
    let calls: Vec<_> = records
        .into_iter()
        .map(|record| Called::unanswered(record, None))
        .collect();
    for call in &calls {
        assert_eq!(outcome(&call.record), "client_gone", "{call:?}");
        assert_eq!(source(call), "estimated", "{call:?}");
        assert!(settled(call) <= reserved(call), "{call:?}");
    }
    let free = calls
        .iter()
        .filter(|call| settled(call) == PicoUsd::ZERO)
        .count();
    assert_eq!(free, ways.iter().filter(|way| is_free(way)).count());
    assert_balanced(&world, &calls).await;
    until_true("the provider is left", || {
        world
            .calls()
            .iter()
            .all(|seen| seen.outcome == tollgate_loadtest::mock::Outcome::Broken)
    })
    .await;
}
