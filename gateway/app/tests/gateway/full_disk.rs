//! A disk that takes nothing: no call leaves, what was under way is not lost, and once the disk
//! takes again, so do calls.

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::{eventually, within};

use crate::harness::{Ask, Dialect, Refused, World, chat, message, text};

fn amount(line: &Value, what: &str) -> PicoUsd {
    text(line, what).parse().expect("an amount")
}

#[tokio::test]
async fn case_86_calls_are_refused_while_the_journal_cannot_be_written_and_go_again_afterwards() {
    let world = World::on_small_disk().await;
    let token = world.token("acme").await;
    let calls = [
        (
            Dialect::OpenAi,
            Ask::new("POST", "/openai/v1/chat/completions").json(&chat()),
        ),
        (
            Dialect::Anthropic,
            Ask::new("POST", "/anthropic/v1/messages").json(&message()),
        ),
        (Dialect::Problem, Ask::new("GET", "/github/user")),
    ]
    .map(|(dialect, ask)| (dialect, ask.bearer(&token)));
    let mut under_way = Raw::connect(world.gateway.address).await;
    let (_, chat) = &calls[0];
    under_way
        .send(chat.clone().header("x-mock", "hold").bytes())
        .await;
    within("the call has arrived", world.mock.wait_for(1)).await;

    world.gateway.fill_disk();
    let mut refusals = Vec::new();
    for (dialect, ask) in &calls {
        let answer = world.send(ask).await;
        Refused::LEDGER_UNAVAILABLE.check(&answer, *dialect);
        assert_eq!(answer.header("retry-after"), Some("2"), "{answer:?}");
        refusals.push((*dialect, answer));
    }
    assert_eq!(world.calls().len(), 1, "only what had left before");
    let (ready, missing) = world.gateway.admin_get("/readyz").await;
    assert_eq!(ready, 503, "{missing}");
    assert!(missing.contains("ledger"), "{missing}");
    world.mock.release();
    let held = under_way.answer().await.expect("an answer");
    assert_eq!(held.status, 200, "what has left comes back");

    world.gateway.empty_disk();
    eventually("it is ready again", async || {
        world.gateway.admin_get("/readyz").await.0 == 200
    })
    .await;
    let answer = world.send(chat).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (dialect, answer) in &refusals {
        Refused::LEDGER_UNAVAILABLE
            .check_recorded(&world.gateway, answer, *dialect, "acme")
            .await;
    }
    let mut spent = PicoUsd::ZERO;
    for answer in [&held, &answer] {
        let record = world.record_of("acme", answer).await;
        assert_eq!(record["tollgate.usage.source"], "exact", "{record:#}");
        spent = spent.saturating_add(amount(&record, "tollgate.cost_usd"));
    }
    for counter in world.gateway.budgets("acme").await {
        assert_eq!(counter["reserved_usd"], json!("0"), "{counter}");
        assert_eq!(amount(&counter, "settled_usd"), spent, "{counter}");
    }
}
