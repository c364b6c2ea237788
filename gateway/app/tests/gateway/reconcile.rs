//! `tollgate reconcile`: the mock's own account of what it billed against the gateway's records.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_core::time::Timestamp;

use crate::harness::{Ask, Site, World, chat, cost, key, message, text};

/// What a provider has billed under one key: requests, tokens in, cached, out.
type Account = BTreeMap<String, [u64; 4]>;

/// The mock's account of one provider's answers, by the key that came with them.
fn account(world: &World, keys: &[(&str, String)], path: &str) -> Account {
    let mut account = Account::new();
    for seen in world.calls() {
        let Some(billed) = seen
            .billed
            .filter(|_| seen.path_and_query.starts_with(path))
        else {
            continue;
        };
        let (id, _) = keys
            .iter()
            .find(|(_, secret)| seen.mentions(secret))
            .expect("a known key");
        let line = account.entry((*id).to_owned()).or_default();
        for (sum, count) in line
            .iter_mut()
            .zip([1, billed.input, billed.cached, billed.output])
        {
            *sum += count;
        }
    }
    account
}

fn today(record: &Value) -> String {
    text(record, "tollgate.started_at")[..10].to_owned()
}

/// A page of OpenAI's usage API for one day.
fn usage_page(day: &str, account: &Account) -> Value {
    let start: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
    let results = account
        .iter()
        .map(|(id, [requests, input, cached, output])| {
            json!({"object": "organization.usage.completions.result", "api_key_id": id,
            "model": "gpt-4o-mini-2024-07-18", "num_model_requests": requests,
            "input_tokens": input, "input_cached_tokens": cached, "output_tokens": output})
        });
    let bucket = json!({"object": "bucket", "start_time": start.as_seconds(),
        "end_time": start.as_seconds() + 86_400, "results": results.collect::<Vec<_>>()});
    json!({"object": "page", "data": [bucket], "has_more": false, "next_page": null})
}

fn write(site: &Site, name: &str, text: &str) -> String {
    let path: PathBuf = site.root().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Reconciles these files of OpenAI; the exit code, and what was found.
fn reconcile(site: &Site, files: &[&str], more: &[&str]) -> (Option<i32>, Value) {
    let mut asked = vec!["reconcile", "--provider", "openai", "--json"];
    for file in files {
        asked.extend(["--file", file]);
    }
    asked.extend([
        "--key",
        "key_a=acme/openai_key",
        "--key",
        "key_g=globex/openai_key",
    ]);
    asked.extend(more);
    let output = site.cli(&asked, "");
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code(), found)
}

fn findings(found: &Value) -> Vec<&str> {
    let places = found["places"].as_array().unwrap().iter();
    let findings = places.flat_map(|place| place["findings"].as_array().unwrap());
    findings.map(|finding| text(finding, "kind")).collect()
}

async fn used() -> (World, Vec<Value>) {
    let world = World::new().await;
    for (tenant, calls) in [("acme", 3), ("globex", 2)] {
        let token = world.token(tenant).await;
        for _ in 0..calls {
            let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(&token);
            assert_eq!(world.send(&ask.json(&chat())).await.status, 200);
        }
    }
    let mut records = world.gateway.site.records_when("acme", 3).await;
    records.extend(world.gateway.site.records_when("globex", 2).await);
    (world, records)
}

#[tokio::test]
async fn the_providers_account_and_ours_agree_and_what_one_lacks_is_named() {
    let (mut world, records) = used().await;
    let keys = [
        ("key_a", key("acme", "openai")),
        ("key_g", key("globex", "openai")),
    ];
    let account = account(&world, &keys, "/v1/chat");
    let day = today(&records[0]);
    let site = world.gateway.site.clone();
    let usage = write(&site, "usage.json", &usage_page(&day, &account).to_string());
    let (code, found) = reconcile(&site, &[&usage], &[]);
    assert_eq!(code, Some(0), "{found:#}");
    assert_eq!(found["places"].as_array().unwrap().len(), 2, "{found:#}");
    assert_eq!(findings(&found), Vec::<&str>::new());

    // Somebody else uses the key.
    let mut outside = account.clone();
    outside.get_mut("key_a").unwrap()[1] += 1_000;
    let usage = write(
        &site,
        "outside.json",
        &usage_page(&day, &outside).to_string(),
    );
    let (code, found) = reconcile(&site, &[&usage], &[]);
    assert_eq!(
        (code, findings(&found)),
        (Some(1), vec!["provider_only", "other_name"])
    );
    let said = text(&found["places"][0]["findings"][0], "text");
    assert!(said.starts_with("1000 input tokens"), "{said}");
    let (code, _) = reconcile(&site, &[&usage], &["--tolerance-tokens", "1000"]);
    assert_eq!(code, Some(0));

    // The export has no line for a key of ours.
    let mut missing = account.clone();
    missing.remove("key_g");
    let usage = write(
        &site,
        "missing.json",
        &usage_page(&day, &missing).to_string(),
    );
    let (code, found) = reconcile(&site, &[&usage], &[]);
    assert_eq!((code, findings(&found)), (Some(1), vec!["ours_only"]));
    assert_eq!(found["unused"], json!(["key_g"]));

    // A record is lost.
    world.gateway.kill();
    let lost = text(&records[0], "tollgate.record.id");
    forget(&site.data().join("audit/acme"), lost);
    let whole = site.root().join("usage.json");
    let (code, found) = reconcile(&site, &[whole.to_str().unwrap()], &[]);
    assert_eq!(code, Some(1));
    assert_eq!(findings(&found)[0], "provider_only");
    let said = text(&found["places"][0]["findings"][0], "text");
    assert!(said.starts_with("1 requests"), "{said}");
}

/// Removes a line from the records, as nobody should.
fn forget(directory: &std::path::Path, id: &str) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            forget(&path, id);
        } else if let Ok(lines) = fs::read_to_string(&path)
            && lines.contains(id)
        {
            let kept = lines.lines().filter(|line| !line.contains(id));
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            fs::remove_file(&path).unwrap();
            fs::write(&path, kept).unwrap();
        }
    }
}

#[tokio::test]
async fn costs_agree_to_the_cent_and_a_price_that_differs_is_named() {
    let (world, records) = used().await;
    let keys = [
        ("key_a", key("acme", "openai")),
        ("key_g", key("globex", "openai")),
    ];
    let account = account(&world, &keys, "/v1/chat");
    let day = today(&records[0]);
    let site = &world.gateway.site;
    let usage = write(site, "usage.json", &usage_page(&day, &account).to_string());
    let spent = records
        .iter()
        .map(|record| -> PicoUsd { cost(record).parse().unwrap() });
    let spent = spent.fold(PicoUsd::ZERO, PicoUsd::saturating_add);
    let start: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
    let costs = |value: &str| {
        format!(
            "start_time,end_time,amount_value,amount_currency,line_item,project_id\n\
             {start},{end},{value},usd,\"gpt-4o-mini-2024-07-18, input\",proj_1\n",
            start = start.as_seconds(),
            end = start.as_seconds() + 86_400
        )
    };
    let right = write(site, "costs.csv", &costs(&spent.to_string()));
    let (code, found) = reconcile(site, &[&usage, &right], &["--tolerance-usd", "0"]);
    assert_eq!(code, Some(0), "{found:#}");
    let dear = write(site, "dear.csv", &costs("0.5"));
    let (code, found) = reconcile(site, &[&usage, &dear], &[]);
    assert_eq!(code, Some(1), "{found:#}");
    assert_eq!(findings(&found)[0], "price");
    let table = site.cli(
        &[
            "reconcile",
            "--provider",
            "openai",
            "--file",
            &usage,
            "--file",
            &dear,
            "--key",
            "key_a=acme/openai_key",
            "--key",
            "key_g=globex/openai_key",
        ],
        "",
    );
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("NOT EXPLAINED") && table.contains("price: tokens agree"),
        "{table}"
    );
}

#[tokio::test]
async fn the_console_of_anthropic_names_keys_and_counts_caches_apart() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let ask = Ask::new("POST", "/anthropic/v1/messages").bearer(&token);
    assert_eq!(world.send(&ask.json(&message())).await.status, 200);
    let site = &world.gateway.site;
    let records = site.records_when("acme", 1).await;
    let keys = [("Production, EU", key("acme", "anthropic"))];
    let account = account(&world, &keys, "/v1/messages");
    let [_, input, cached, output] = account["Production, EU"];
    let csv = format!(
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,\
         usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,\
         usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,\
         web_search_count,inference_geo,speed\n\
         {},claude-sonnet-4-5-20250929,\"Production, EU\",Default,standard,≤ 200k,{},0,0,{cached},{output},0,global,\n",
        today(&records[0]),
        input - cached,
    );
    let file = write(site, "usage.csv", &csv);
    let toml = "[keys]\n\"Production, EU\" = [\"acme/anthropic_key\", \"globex/anthropic_key\"]\n";
    let keys = write(site, "keys.toml", toml);
    let asked = [
        "reconcile",
        "--provider",
        "anthropic",
        "--file",
        &file,
        "--keys",
        &keys,
    ];
    let told = site.cli(&asked, "");
    let table = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(told.status.code(), Some(0), "{table}");
    assert!(table.contains("1 places agree"), "{table}");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_its_place() {
    let site = Site::new();
    site.write_policy("gateway.toml", "");
    let mut files: Vec<(String, &str)> = Vec::new();
    for (name, text, said) in [
        (
            "a.json",
            "{\"data\": [{}]}",
            "data[0]: there should be `start_time`",
        ),
        (
            "b.json",
            "{\"data\": [{\"start_time\": 1, \"results\": [{}]}]}",
            "data[0].results[0]",
        ),
        (
            "c.csv",
            "start_time,model\n1,x\n",
            "input_tokens is missing",
        ),
        (
            "d.csv",
            "start_time,model,input_tokens,output_tokens,num_model_requests\n0,m,1.5,1,1\n",
            "line 2, input_tokens: \"1.5\" is not a whole number",
        ),
        (
            "e.csv",
            "start_time,amount_value,amount_currency\n0,1,eur\n",
            "line 2: \"eur\"",
        ),
    ] {
        files.push((write(&site, name, text), said));
    }
    for (file, said) in &files {
        let asked = [
            "reconcile",
            "--provider",
            "openai",
            "--file",
            file,
            "--key",
            "k=acme/c",
        ];
        let told = site.cli(&asked, "");
        let error = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status.code(), Some(2), "{file}: {error}");
        assert!(
            error.contains(said) && error.contains(file.as_str()),
            "{file}: {error}"
        );
    }
    let wrong = [
        "reconcile",
        "--provider",
        "openai",
        "--file",
        "x",
        "--key",
        "k",
    ];
    assert_eq!(site.cli(&wrong, "").status.code(), Some(2));
}
