//! `tollgate prices`: shown, compared, changed under a running gateway, and applied to old calls.

use serde_json::{Value, json};
use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, World, chat, cost, text};

const CHAT: &str = "/openai/v1/chat/completions";

/// A catalogue in which the model of the tests costs this much per million tokens.
fn catalogue(input: &str, output: &str) -> String {
    json!({"providers": [{"id": "openai", "name": "OpenAI", "models": [{
        "id": "gpt-4o-mini", "match": {"starts_with": "gpt-4o-mini"},
        "prices": {"input_mtok": input, "output_mtok": output},
    }]}]})
    .to_string()
}

/// Makes a call of 10 tokens in and 20 out; its record.
async fn call(world: &World) -> Value {
    let token = world.token("acme").await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    let answer = world.send(&ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.record_of("acme", &answer).await
}

fn write(world: &World, name: &str, text: &str) -> String {
    let path = world.gateway.site.root().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_catalogue_takes_effect_in_a_running_gateway_and_every_record_names_its_prices() {
    let world = World::new().await;
    let site = world.gateway.site.clone();
    let before = call(&world).await;
    assert_eq!(
        cost(&before),
        "0.0000135",
        "10 at 0.15 and 20 at 0.60 per million"
    );

    let file = write(&world, "new.json", &catalogue("0.3", "1.2"));
    let diff = site.cli_ok(&["prices", "diff", &file, "--json"], "");
    let diff: Value = serde_json::from_str(&diff).unwrap();
    let moved = diff["changes"].as_array().unwrap().iter().find(|change| {
        change["provider"] == "openai"
            && change["model"] == "gpt-4o-mini"
            && change["unit"] == "input_mtok"
    });
    let moved = moved.expect("the price that moved");
    assert_eq!(
        (&moved["before"], &moved["after"]),
        (&json!("0.15"), &json!("0.3"))
    );

    // Every other model vanishes, but none of them is in use.
    site.cli_ok(&["prices", "update", &file], "");
    let mut after = before.clone();
    eventually("a call at the new prices", async || {
        after = call(&world).await;
        cost(&after) == "0.000027"
    })
    .await;
    let version = |record: &Value| text(record, "tollgate.price.version").to_owned();
    assert_ne!(version(&before), version(&after));
    let shown = site.cli_ok(&["prices", "show", "--json"], "");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["version"], version(&after));
    let (_, metrics) = world.gateway.admin_get("/metrics").await;
    assert!(
        metrics.contains("tollgate_price_reloads_total{result=\"adopted\"} 1"),
        "{metrics}"
    );

    site.cli_ok(&["prices", "update", "--built-in"], "");
    eventually("a call at the built-in prices", async || {
        version(&call(&world).await) == version(&before)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_in_use_that_vanishes_or_moves_too_far_is_refused_unless_forced() {
    let world = World::new().await;
    let site = world.gateway.site.clone();
    call(&world).await;
    for (text, reason) in [
        (
            catalogue("0.8", "0.6"),
            "10000 input tokens cost 0.0015 USD and would cost 0.008 USD",
        ),
        (
            catalogue("0.15", "0.1"),
            "10000 output tokens cost 0.006 USD and would cost 0.001 USD",
        ),
        (
            catalogue("0.15", "0.6").replace("gpt-4o-mini", "another"),
            "openai gpt-4o-mini: has no price any more",
        ),
    ] {
        let file = write(&world, "new.json", &text);
        let refused = site.cli(&["prices", "update", &file], "");
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(reason), "{said}");
        assert!(!site.data().join("prices/current").exists());
    }
    let broken = write(&world, "broken.json", "{\"providers\": [");
    assert_eq!(
        site.cli(&["prices", "update", &broken, "--force"], "")
            .status
            .code(),
        Some(1)
    );
    assert!(!site.data().join("prices/current").exists());
    let file = write(&world, "new.json", &catalogue("0.8", "0.6"));
    site.cli_ok(&["prices", "update", &file, "--force"], "");
    assert!(site.data().join("prices/current").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_operators_file_keeps_the_last_good_prices() {
    let world = World::planned(|plan| {
        plan.gateway = "prices_file = \"mine.json\"\n".to_owned();
        plan.files.insert(
            "mine.json".to_owned(),
            r#"{"format": 1, "overrides": []}"#.to_owned(),
        );
    })
    .await;
    let site = world.gateway.site.clone();
    site.write_policy(
        "mine.json",
        r#"{"format": 1, "overrides": [{"provider": "openai"}]}"#,
    );
    eventually("the mistake is counted", async || {
        let (_, metrics) = world.gateway.admin_get("/metrics").await;
        metrics.contains("tollgate_price_reloads_total{result=\"kept\"} 1")
            && metrics.contains("tollgate_prices_in_step 0")
    })
    .await;
    assert_eq!(cost(&call(&world).await), "0.0000135");
    let mine = r#"{"format": 1, "overrides": [{"provider": "openai", "model": "gpt-4o-mini",
        "prices": {"input_mtok": "0.1", "output_mtok": "0.2"}, "why": "our contract"}]}"#;
    site.write_policy("mine.json", mine);
    eventually("the mended file is in force", async || {
        cost(&call(&world).await) == "0.000005"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_calls_are_priced_again_and_their_records_stay_as_they_are() {
    let world = World::new().await;
    let site = world.gateway.site.clone();
    call(&world).await;
    let token = world.token("acme").await;
    let tool = Ask::new("GET", "/github/user").bearer(&token);
    assert_eq!(world.send(&tool).await.status, 200);
    let before = site.records_when("acme", 2).await;

    let same = site.cli_ok(&["prices", "rerate", "--json"], "");
    let same: Value = serde_json::from_str(&same).unwrap();
    let row = |rows: &Value, model: &str| {
        let rows = rows["rows"].as_array().unwrap().clone();
        rows.into_iter()
            .find(|row| row["model"] == model)
            .expect("a row")
    };
    assert_eq!(row(&same, "gpt-4o-mini")["difference_usd"], "0");
    let file = write(&world, "new.json", &catalogue("0.3", "1.2"));
    let other = site.cli_ok(&["prices", "rerate", "--catalogue", &file, "--json"], "");
    let other: Value = serde_json::from_str(&other).unwrap();
    let chat = row(&other, "gpt-4o-mini");
    assert_eq!(chat["recorded_usd"], "0.0000135");
    assert_eq!(chat["rerated_usd"], "0.000027");
    assert_eq!(chat["difference_usd"], "0.0000135");
    assert_eq!(row(&other, "-")["kept"]["not priced by usage"], 1);
    let table = site.cli_ok(&["prices", "rerate", "--catalogue", &file], "");
    assert!(
        table.lines().last().unwrap().starts_with("TOTAL"),
        "{table}"
    );
    assert_eq!(site.records("acme"), before);
}
