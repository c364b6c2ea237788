//! Tenants with `[clamp]` get shorter answers in place of refusals, and never beyond their caps.

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Answer;
use tollgate_testkit::wait::{eventually, until_true};

use crate::harness::{Ask, Dialect, Refused, World, body_text, chat, cost, message, text};

const CHAT: &str = "/openai/v1/chat/completions";
const MESSAGES: &str = "/anthropic/v1/messages";

fn usd(text: &str) -> PicoUsd {
    text.parse().expect("an amount")
}

async fn world(caps: &str, clamp: &str) -> World {
    World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.caps = caps.to_owned();
        acme.more = clamp.to_owned();
    })
    .await
}

fn told(answer: &Answer) -> Option<u64> {
    let told = answer.header("x-tollgate-max-output-tokens")?;
    Some(told.parse().unwrap())
}

#[tokio::test]
async fn a_bound_that_is_missing_or_too_high_is_lowered_and_the_client_is_told() {
    let world = world("daily_usd = \"10\"\n", "[clamp]\nmax_output_tokens = 40\n").await;
    let token = world.token("acme").await;
    let mut open = chat();
    open.as_object_mut().unwrap().remove("max_tokens");
    let mut streamed = chat();
    streamed["stream"] = json!(true);
    for (path, body) in [
        (CHAT, chat()),
        (CHAT, open),
        (CHAT, streamed),
        (MESSAGES, message()),
    ] {
        world.mock.forget();
        let ask = Ask::new("POST", path).bearer(&token).json(&body);
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(told(&answer), Some(40), "{body}");
        let sent: Value = serde_json::from_str(&body_text(&world.only_call())).unwrap();
        let bounds = ["max_tokens", "max_completion_tokens"];
        let bounds: Vec<u64> = bounds.iter().filter_map(|n| sent[n].as_u64()).collect();
        assert_eq!(bounds, [40], "{sent}");
        let record = world.record_of("acme", &answer).await;
        let notes = record["tollgate.notes"].as_array().expect("notes");
        assert!(notes.contains(&json!("output_clamped")), "{notes:?}");
    }
    world.mock.forget();
    let mut short = chat();
    short["max_tokens"] = json!(40);
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&short);
    let answer = world.send(&ask).await;
    assert_eq!((answer.status, told(&answer)), (200, None));
    assert_eq!(body_text(&world.only_call()), short.to_string());
}

#[tokio::test]
async fn a_clamped_tenant_is_served_until_not_one_token_fits_and_never_beyond_its_cap() {
    let cap = "0.0003";
    let caps = format!("daily_usd = \"{cap}\"\n");
    let mut body = chat();
    body["max_tokens"] = json!(16_000);

    let strict = world(&caps, "").await;
    let token = strict.token("acme").await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&body);
    Refused::NO_HEADROOM.check(&strict.send(&ask).await, Dialect::OpenAi);
    strict.assert_no_contact();

    let world = world(&caps, "[clamp]\n").await;
    let token = world.token("acme").await;
    let ask = Ask::new("POST", &format!("{CHAT}?mock=usage-10-20"))
        .bearer(&token)
        .json(&body);
    let mut bounds = Vec::new();
    let last = loop {
        let answer = world.send(&ask).await;
        if answer.status != 200 {
            break answer;
        }
        bounds.push(told(&answer).expect("a bound"));
    };
    Refused::NO_HEADROOM.check(&last, Dialect::OpenAi);
    assert!(bounds.len() > 15, "served as long as it lasts: {bounds:?}");
    assert!(bounds.is_sorted_by(|a, b| a >= b), "{bounds:?}");
    let records = world
        .gateway
        .site
        .records_when("acme", bounds.len() + 1)
        .await;
    let costs = records.iter().map(|record| usd(&cost(record)));
    let spent = costs.fold(PicoUsd::ZERO, PicoUsd::saturating_add);
    assert!(spent <= usd(cap), "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clamped_calls_at_once_share_what_is_left_without_overshoot() {
    let cap = "0.01";
    let world = world(
        &format!("daily_usd = \"{cap}\"\n"),
        "[clamp]\nmax_output_tokens = 3000\n",
    )
    .await;
    let token = world.token("acme").await;
    let mut body = chat();
    body.as_object_mut().unwrap().remove("max_tokens");
    // None is answered before all have been let go or refused.
    let ask = Ask::new("POST", &format!("{CHAT}?mock=hold"))
        .bearer(&token)
        .json(&body);
    let calls: Vec<_> = (0..60)
        .map(|_| {
            let (ask, address) = (ask.clone(), world.gateway.address);
            tokio::spawn(async move { ask.send(address).await })
        })
        .collect();
    let today = async || {
        let budgets = world.gateway.budgets("acme").await;
        ["settled_usd", "reserved_usd"].map(|name| usd(text(&budgets[0], name)))
    };
    eventually("what is left is shared", async || {
        let [_, reserved] = today().await;
        assert!(reserved <= usd(cap), "{reserved}");
        reserved > usd("0.0099")
    })
    .await;
    let site = &world.gateway.site;
    let refused = || 60 - world.calls().len();
    until_true("every other call is refused", || {
        site.records("acme").len() == refused()
    })
    .await;
    world.mock.release();
    let mut bounds = Vec::new();
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status {
            200 => bounds.push(told(&answer).expect("a bound")),
            _ => Refused::NO_HEADROOM.check(&answer, Dialect::OpenAi),
        }
    }
    assert!(bounds.len() >= 6, "{bounds:?}");
    assert!(bounds.iter().any(|bound| *bound < 3_000), "{bounds:?}");
    let records = site.records_when("acme", 60).await;
    let costs = records.iter().map(|record| usd(&cost(record)));
    let spent = costs.fold(PicoUsd::ZERO, PicoUsd::saturating_add);
    assert_eq!(today().await, [spent, PicoUsd::ZERO]);
}
