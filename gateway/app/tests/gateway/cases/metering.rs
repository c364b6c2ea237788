//! Cases 79, 80: a call is priced by what it is, whatever it is called.

use serde_json::json;
use tollgate_core::money::PicoUsd;

use crate::harness::{Ask, World, chat, text};

const CHAT: &str = "/openai/v1/chat/completions";

#[tokio::test]
async fn case_79_a_model_is_priced_under_any_of_its_names_or_refused() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let gpt_4o_mini: PicoUsd = "0.0000135".parse().unwrap();
    for model in [
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
        "GPT-4o-mini",
        "gpt-4O-MINI",
        " gpt-4o-mini",
        "openai/gpt-4o-mini",
        "ft:gpt-4o-mini-2024-07-18:acme::abc123",
        "gpt-4o-mini:free",
        "gpt-4o-mini ",
        "gpt-999-unknown",
        "free",
        "",
        "*",
        "gpt-4o-mini\u{200b}",
        "../gpt-4o-mini",
    ] {
        let mut body = chat();
        body["model"] = json!(model);
        let before = world.calls().len();
        let answer = world
            .send(&Ask::new("POST", CHAT).bearer(&token).json(&body))
            .await;
        if answer.status == 200 {
            let record = world.record_of("acme", &answer).await;
            let cost: PicoUsd = text(&record, "tollgate.cost_usd").parse().unwrap();
            assert!(
                cost >= gpt_4o_mini,
                "{model:?} is not cheaper under another name: {record:#}"
            );
            let reserved: PicoUsd = text(&record, "tollgate.cost.reserved_usd").parse().unwrap();
            assert!(reserved >= cost, "{model:?}: {record:#}");
        } else {
            assert!(
                matches!(answer.status, 400 | 403),
                "{model:?}: {}",
                answer.text()
            );
            assert_eq!(
                world.calls().len(),
                before,
                "{model:?}: nothing reached the provider"
            );
        }
    }
    let twice = chat()
        .to_string()
        .replacen('{', "{\"model\":\"gpt-4o\",", 1);
    let answer = world
        .send(&Ask::new("POST", CHAT).bearer(&token).body(twice))
        .await;
    assert_eq!(
        answer.header("x-tollgate-error"),
        Some("duplicate_field"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn case_79_an_allow_list_is_not_passed_by_another_spelling() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.grants.clear();
        acme.allow("openai", "models = [\"gpt-4o-mini\"]\n");
    })
    .await;
    let token = world.token("acme").await;
    for model in [
        "gpt-4o",
        "GPT-4O",
        "gpt-4o-mini-2024-07-18",
        "gpt-4o-mini ",
        " gpt-4o-mini",
        "gpt-4o-mini.",
        "openai/gpt-4o",
        "ft:gpt-4o:x::y",
        "GPT-4o-mini",
        "gpt-4o-mini/../gpt-4o",
        "gpt-4o-mini,gpt-4o",
    ] {
        let mut body = chat();
        body["model"] = json!(model);
        // A mention elsewhere does not count.
        body["metadata"] = json!({"model": "gpt-4o-mini"});
        let ask = Ask::new("POST", &format!("{CHAT}?model=gpt-4o-mini"))
            .bearer(&token)
            .header("x-model", "gpt-4o-mini")
            .json(&body);
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 403, "{model:?}: {}", answer.text());
        let record = world.record_of("acme", &answer).await;
        assert_eq!(
            text(&record, "tollgate.refusal.reason"),
            "model",
            "{model:?}: {record:#}"
        );
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_80_a_model_call_is_metered_or_refused_whatever_route_it_takes() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for target in [
        "/github/v1/chat/completions",
        "/openai/v2/chat/completions",
        "/openai/chat/completions",
        "/openai/v1/completions",
        "/openai/v1/engines/gpt-4o/completions",
        "/openai/v1/realtime",
        "/openai/v1/chat/completions/x",
        "/anthropic/v1/chat/completions",
        "/openai/v1/messages",
        "/anthropic/v1/complete",
        "/openai/v1/batches",
        "/openai/v1/audio/speech",
        "/openai/V1/chat/completions",
        "/openai/v1/Chat/Completions",
        "/openai/openai/deployments/x/chat/completions",
        "/v1/chat/completions",
    ] {
        let answer = world
            .send(&Ask::new("POST", target).bearer(&token).json(&chat()))
            .await;
        assert!(
            matches!(answer.status, 400 | 403),
            "{target}: {} {}",
            answer.status,
            answer.text()
        );
    }
    for service in [
        "x-service",
        "x-provider",
        "x-operation",
        "x-tool",
        "x-stainless-helper-method",
    ] {
        let ask = Ask::new("POST", CHAT)
            .bearer(&token)
            .header(service, "tool")
            .json(&chat());
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let record = world.record_of("acme", &answer).await;
        assert_eq!(
            text(&record, "tollgate.usage.source"),
            "exact",
            "{service}: {record:#}"
        );
    }
    let upgrade = Ask::new("GET", "/openai/v1/realtime?model=gpt-4o-realtime-preview")
        .bearer(&token)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(world.send(&upgrade).await.status, 403);
}

#[tokio::test]
async fn case_80_a_provider_that_serves_models_cannot_be_declared_a_tool_around_them() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let mut plan = crate::harness::Plan::at(world.mock.addr());
    plan.provider("openai")
        .endpoint("POST", "/v1/**", "tool", "price_per_call_usd = \"0\"\n");
    let openai = plan.provider("openai").text("openai");
    site.write_policy("providers/openai.toml", &openai);
    let output = site.cli(&["check"], "");
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
