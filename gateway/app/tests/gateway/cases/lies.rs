//! Case 78: what a provider says of its usage is believed only where it can be true.

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;

use super::ways::{WAYS, counted, forms_of, is_free, reserved, settled, source, usd};
use crate::harness::{World, body_text, outcome};

const LIES: [&str; 8] = [
    "no-usage",
    "usage-negative",
    "usage-nan",
    "usage-huge",
    "usage-text",
    "usage-fraction",
    "usage-null",
    "usage-misplaced",
];

#[tokio::test]
async fn case_78_no_lie_makes_a_call_free_or_dearer_than_reserved() {
    let world = World::of_all_providers(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"1000\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let forms: Vec<_> = forms_of(WAYS)
        .flat_map(|(way, streamed)| LIES.map(|lie| (way, streamed, lie)))
        .collect();
    let asks = forms
        .iter()
        .map(|(way, streamed, lie)| way.ask(lie, *streamed).bearer(&token));
    let calls = world.make(asks).await;
    let mut wrong = Vec::new();
    let mut spent = PicoUsd::ZERO;
    for ((way, streamed, lie), call) in forms.iter().zip(&calls) {
        let heard = call.billed.is_some_and(|bill| bill.audio_ms > 0);
        let is_truth = Some(counted(&call.record)) == call.billed
            // Half a second of sound is no lie.
            || (heard && *lie == "usage-fraction");
        // OpenRouter's own word for what it charged is its bill, and kept beside what is settled.
        let stated = &call.record["tollgate.cost.reported_usd"];
        let is_stated =
            way.path.starts_with("/openrouter/") && *stated == settled(call).to_string();
        let is_right = call.answer.status == 200
            && outcome(&call.record) == "completed"
            && (settled(call) > PicoUsd::ZERO || is_free(way))
            && (settled(call) <= reserved(call) || is_stated)
            && (source(call) == "estimated" || (source(call) == "exact" && is_truth));
        if !is_right {
            wrong.push(format!(
                "{} {streamed} {lie}: {} {} {} {:?} {:?}",
                way.path,
                source(call),
                settled(call),
                reserved(call),
                call.record["tollgate.usage"],
                call.billed
            ));
        }
        spent = spent.saturating_add(settled(call));
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    let month = &world.gateway.budgets("acme").await[1];
    assert_eq!(usd(month, "settled_usd"), spent);
    assert_eq!(usd(month, "reserved_usd"), PicoUsd::ZERO);
}

/// Those of OpenAI's relatives that must be asked for the usage of a stream.
#[tokio::test]
async fn case_78_a_stream_that_is_to_state_no_usage_states_it_to_the_gateway_alone() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let mut asked = 0;
    for way in WAYS.iter().filter(|way| way.can_stream()) {
        if !way.path.contains("/completions") {
            continue;
        }
        let mut answers = Vec::new();
        for options in [json!({"include_usage": false}), Value::Null, json!({})] {
            let mut body = way.body();
            body["stream_options"] = options;
            let ask = way.ask_with(body, "", true).bearer(&token);
            let call = world.make([ask]).await.remove(0);
            assert_eq!(call.answer.status, 200, "{call:?}");
            assert_eq!(source(&call), "exact", "{call:?}");
            assert_eq!(Some(counted(&call.record)), call.billed, "{call:?}");
            let sent: Value = serde_json::from_str(&body_text(&world.only_call())).unwrap();
            let was_asked = sent["stream_options"]["include_usage"] == true;
            let is_mistral = way.path.starts_with("/mistral/");
            assert_eq!(was_asked, !is_mistral, "{sent}");
            asked += usize::from(was_asked);
            let text = call.answer.text();
            let is_alone =
                |line: &&str| line.contains("\"choices\":[],") && line.contains("_tokens\"");
            let unasked: Vec<&str> = text.lines().filter(is_alone).collect();
            assert!(unasked.is_empty(), "{unasked:?}");
            assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
            answers.push(text.lines().count());
        }
        assert!(
            answers.iter().all(|lines| *lines == answers[0]),
            "{answers:?}"
        );
    }
    assert!(asked >= 20, "{asked}");
}
