//! Cases 82 and 85: what a provider does not bill is free, each attempt is paid for once, and by
//! whom the token says.

use serde_json::json;
use tollgate_core::money::PicoUsd;

use super::ways::{WAYS, forms_of, is_free, reserved, settled, source, usd};
use crate::harness::{World, outcome, text};

#[tokio::test]
async fn case_82_an_error_of_the_provider_is_free_in_every_language_and_frees_what_was_reserved() {
    // Were one of the errors kept reserved or billed, there were no room for so many.
    let world = World::of_all_providers(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"2\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let words = ["status-429,retry-after-7", "status-400", "status-529"];
    let asks = forms_of(WAYS)
        .flat_map(|(way, streamed)| words.map(|words| way.ask(words, streamed).bearer(&token)));
    let calls = world.make(asks).await;
    for call in &calls {
        let status = call.answer.status;
        assert!(matches!(status, 400 | 429 | 529), "{call:?}");
        assert_eq!(
            call.answer.header("x-tollgate-error"),
            None,
            "the provider's own: {call:?}"
        );
        let wait = call.answer.header("retry-after");
        assert_eq!(wait, (status == 429).then_some("7"), "{call:?}");
        assert_eq!(
            (settled(call), source(call)),
            (PicoUsd::ZERO, "none"),
            "{call:?}"
        );
        assert_eq!(call.billed, None, "{call:?}");
    }
    let month = &world.gateway.budgets("acme").await[1];
    assert_eq!(usd(month, "settled_usd"), PicoUsd::ZERO);
    assert_eq!(usd(month, "reserved_usd"), PicoUsd::ZERO);
}

#[tokio::test]
async fn case_82_the_same_idempotency_key_twice_is_two_attempts_each_paid_for_once() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let asks: Vec<_> = WAYS
        .iter()
        .map(|way| {
            way.ask("", false)
                .bearer(&token)
                .header("idempotency-key", "same-every-time")
        })
        .collect();
    let twice = asks.iter().flat_map(|ask| [ask.clone(), ask.clone()]);
    let calls = world.make(twice).await;
    let mut spent = PicoUsd::ZERO;
    for (way, pair) in WAYS.iter().zip(calls.chunks(2)) {
        let [first, second] = pair else {
            panic!("a pair")
        };
        assert_eq!(settled(first), settled(second), "{first:?} {second:?}");
        assert_eq!(settled(first) == PicoUsd::ZERO, is_free(way), "{first:?}");
        let ids = [first, second].map(|call| text(&call.record, "tollgate.record.id").to_owned());
        assert_ne!(ids[0], ids[1]);
        spent = spent
            .saturating_add(settled(first))
            .saturating_add(settled(second));
    }
    assert_eq!(world.gateway.site.records("acme").len(), calls.len());
    let month = &world.gateway.budgets("acme").await[1];
    assert_eq!(usd(month, "settled_usd"), spent);
}

/// A failed stream is a success to HTTP: what it stated before is billed, what it did not is not
/// taken for nothing.
#[tokio::test]
async fn case_82_an_error_inside_a_stream_is_paid_as_far_as_it_went() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let ways: Vec<_> = WAYS.iter().filter(|way| way.can_stream()).collect();
    let asks = ways
        .iter()
        .map(|way| way.ask("error-after-1", true).bearer(&token));
    for (way, call) in ways.iter().zip(world.make(asks).await) {
        assert_eq!(
            (call.answer.status, outcome(&call.record)),
            (200, "completed"),
            "{call:?}"
        );
        assert_eq!(settled(&call) == PicoUsd::ZERO, is_free(way), "{call:?}");
        assert!(settled(&call) <= reserved(&call), "{call:?}");
        assert_eq!(source(&call), "estimated", "{call:?}");
    }
}

#[tokio::test]
async fn case_85_tenant_agent_and_task_are_the_tokens_whatever_a_call_says_of_itself() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.gateway.mint("acme", "teller", "task-7").await;
    let asks = WAYS.iter().map(|way| {
        let mut body = way.body();
        for field in ["tenant", "agent", "task", "user"] {
            body[field] = json!("globex");
        }
        // Bedrock's and Google's calls take no fields they do not know.
        let body = if way.path.starts_with("/bedrock/") {
            way.body()
        } else {
            body
        };
        way.ask_with(body, "", false)
            .bearer(&token)
            .header("x-tenant-id", "globex")
            .header("x-agent-id", "other")
            .header("x-task-id", "other")
            .header("openai-organization", "globex")
            .header("openai-project", "globex")
            .header("x-goog-user-project", "globex")
            .header("baggage", "tenant.id=globex,gen_ai.agent.id=other")
    });
    for call in world.make(asks).await {
        assert_eq!(call.answer.status, 200, "{call:?}");
        assert_eq!(text(&call.record, "tenant.id"), "acme", "{call:?}");
        assert_eq!(text(&call.record, "gen_ai.agent.id"), "teller", "{call:?}");
        assert_eq!(text(&call.record, "tollgate.task.id"), "task-7", "{call:?}");
    }
    assert!(world.gateway.site.records("globex").is_empty());
    let theirs = &world.gateway.budgets("globex").await[1];
    assert_eq!(usd(theirs, "settled_usd"), PicoUsd::ZERO);
}
