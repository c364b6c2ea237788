//! Bytes there and back, usage and cost, for each kind of answer.

use serde_json::{Value, json};
use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, World, body_text, chat, cost, key, message, outcome, text};

const CHAT: &str = "/openai/v1/chat/completions";

/// Sends `ask` through the gateway and straight to the provider; both answers must be the same.
async fn assert_same_answer(world: &World, through: &Ask, straight: &Ask) {
    let answer = world.send(through).await;
    let direct = straight.send(world.mock.addr()).await;
    assert_eq!(answer.status, direct.status);
    // Only the provider's running number differs between two calls.
    let plain = |text: String| {
        let mut text = text;
        while let Some(at) = text.find("mock0000") {
            text.replace_range(at..at + 16, "ID");
        }
        text
    };
    assert_eq!(plain(answer.text()), plain(direct.text()));
    for name in [
        "content-type",
        "x-request-id",
        "openai-version",
        "request-id",
    ] {
        let (ours, theirs) = (answer.header(name), direct.header(name));
        assert_eq!(
            ours.is_some(),
            theirs.is_some(),
            "{name}: {answer:?} {direct:?}"
        );
    }
}

#[tokio::test]
async fn answers_come_back_byte_for_byte() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let with = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    let asked_for = with(
        with(chat(), "stream", json!(true)),
        "stream_options",
        json!({"include_usage": true}),
    );
    for (path, body) in [
        ("/openai/v1/chat/completions", chat()),
        ("/openai/v1/chat/completions", asked_for),
        (
            "/openai/v1/responses",
            json!({"model": "gpt-4o-mini", "input": "x", "max_output_tokens": 50}),
        ),
        (
            "/openai/v1/responses",
            json!({"model": "gpt-4o-mini", "input": "x", "max_output_tokens": 50, "stream": true}),
        ),
        (
            "/openai/v1/embeddings",
            json!({"model": "text-embedding-3-small", "input": "x"}),
        ),
        ("/anthropic/v1/messages", message()),
        (
            "/anthropic/v1/messages",
            with(message(), "stream", json!(true)),
        ),
        (
            "/openai/v1/chat/completions",
            with(chat(), "user", json!("mock-status-429 mock-retry-after-7")),
        ),
        (
            "/openai/v1/chat/completions",
            with(chat(), "user", json!("mock-status-500")),
        ),
        (
            "/openai/v1/chat/completions",
            with(chat(), "user", json!("mock-frame-bytes-1")),
        ),
    ] {
        let straight = path
            .replacen("/openai", "", 1)
            .replacen("/anthropic", "", 1);
        let through = Ask::new("POST", path).bearer(&token).json(&body);
        assert_same_answer(&world, &through, &Ask::new("POST", &straight).json(&body)).await;
        let calls = world.calls();
        let [.., ours, direct] = &calls[..] else {
            panic!("two calls")
        };
        assert_eq!(ours.body_sha256, direct.body_sha256, "{path} {body}");
    }
    for path in ["/openai/v1/models", "/anthropic/v1/models"] {
        let direct = Ask::new("GET", "/v1/models").header("anthropic-version", "2023-06-01");
        let direct = if path.starts_with("/openai") {
            Ask::new("GET", "/v1/models")
        } else {
            direct
        };
        let through = Ask::new("GET", path).header("anthropic-version", "2023-06-01");
        let through = if path.starts_with("/openai") {
            Ask::new("GET", path)
        } else {
            through
        };
        assert_same_answer(&world, &through.bearer(&token), &direct).await;
    }
}

#[tokio::test]
async fn a_stream_whose_usage_was_not_asked_for_looks_as_if_nobody_had_asked() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for options in [Value::Null, json!({"include_usage": false})] {
        let mut body = chat();
        body["stream"] = json!(true);
        if !options.is_null() {
            body["stream_options"] = options.clone();
        }
        let through = Ask::new("POST", CHAT).bearer(&token).json(&body);
        let answer = world.send(&through).await;
        assert!(
            !answer.text().contains("prompt_tokens"),
            "{}",
            answer.text()
        );
        assert!(
            answer.text().ends_with("data: [DONE]\n\n"),
            "{}",
            answer.text()
        );
        let seen = world.calls().pop().unwrap();
        let sent: Value = serde_json::from_str(&body_text(&seen)).unwrap();
        assert_eq!(
            sent["stream_options"]["include_usage"], true,
            "asked on its behalf"
        );
        let record = world.record_of("acme", &answer).await;
        assert_eq!(
            text(&record, "tollgate.usage.source"),
            "exact",
            "{record:#}"
        );
        assert_eq!(cost(&record), "0.0000135");
    }
}

#[tokio::test]
async fn usage_and_cost_are_exact_for_every_dialect_plain_and_streaming() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let gpt = json!({"model": "gpt-4o-mini", "max_tokens": 4000, "messages": [{"role": "user", "content": "x"}]});
    let claude = json!({"model": "claude-sonnet-4-5", "max_tokens": 4000, "messages": [{"role": "user", "content": "x"}]});
    let answers = json!({"model": "gpt-4o-mini", "max_output_tokens": 4000, "input": "x"});
    // gpt-4o-mini: 0.15 and 0.60 USD per million, cached 0.075. claude-sonnet-4-5: 3 and 15,
    // cache read 0.30, cache write 3.75.
    for (path, body, words, input, output, usd) in [
        (CHAT, &gpt, "mock-usage-1000-500", 1000, 500, "0.00045"),
        (
            CHAT,
            &gpt,
            "mock-usage-1000-500 mock-cached-400",
            1000,
            500,
            "0.00042",
        ),
        (
            CHAT,
            &gpt,
            "mock-usage-7-3 mock-reasoning-2",
            7,
            3,
            "0.00000285",
        ),
        (
            "/openai/v1/responses",
            &answers,
            "mock-usage-1000-500",
            1000,
            500,
            "0.00045",
        ),
        (
            "/anthropic/v1/messages",
            &claude,
            "mock-usage-1000-500",
            1000,
            500,
            "0.0105",
        ),
        (
            "/anthropic/v1/messages",
            &claude,
            "mock-usage-1000-500 mock-cached-200 mock-cache-write-100",
            1300,
            500,
            "0.010935",
        ),
    ] {
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = json!(stream);
            if path.contains("anthropic") {
                body["metadata"] = json!({"user_id": words});
            } else {
                body["user"] = json!(words);
            }
            let ask = Ask::new("POST", path).bearer(&token).json(&body);
            let answer = world.send(&ask).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let record = world.record_of("acme", &answer).await;
            assert_eq!(outcome(&record), "completed", "{record:#}");
            assert_eq!(
                text(&record, "tollgate.usage.source"),
                "exact",
                "{path} {words} {record:#}"
            );
            let usage = &record["tollgate.usage"];
            assert_eq!(
                usage["input_tokens"], input,
                "{path} {words} {stream} {record:#}"
            );
            assert_eq!(
                usage["output_tokens"], output,
                "{path} {words} {stream} {record:#}"
            );
            assert_eq!(cost(&record), usd, "{path} {words} {stream} {record:#}");
            assert!(record["tollgate.price.version"].is_string(), "{record:#}");
            assert_eq!(record["tollgate.schema"], "tollgate.record/1");
        }
    }
}

#[tokio::test]
async fn a_record_says_who_called_what_with_which_credential() {
    let world = World::new().await;
    let token = world
        .gateway
        .mint("acme", "support-bot", "ticket-4711")
        .await;
    let ask = Ask::new("POST", "/anthropic/v1/messages")
        .header("x-api-key", &token)
        .json(&message());
    let answer = world.send(&ask).await;
    let record = world.record_of("acme", &answer).await;
    let model = "claude-sonnet-4-5";
    for (field, expected) in [
        ("tenant.id", "acme"),
        ("gen_ai.agent.id", "support-bot"),
        ("tollgate.task.id", "ticket-4711"),
        ("gen_ai.provider.name", "anthropic"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", model),
        ("gen_ai.response.model", model),
        ("tollgate.credential.name", "anthropic_key"),
        ("http.request.method", "POST"),
        ("url.path", "/anthropic/v1/messages"),
        ("tollgate.outcome", "completed"),
    ] {
        assert_eq!(text(&record, field), expected, "{record:#}");
    }
    assert_eq!(record["tollgate.credential.version"], 1);
    assert_eq!(record["tollgate.seq"].as_u64(), Some(1), "{record:#}");
    let kept = record.to_string();
    assert!(!kept.contains("Say something"), "no prompt is kept: {kept}");
    assert!(
        !kept.contains(&key("acme", "anthropic")),
        "nor a secret: {kept}"
    );
    assert_eq!(
        text(&record, "server.address"),
        world.mock.addr().to_string()
    );
}

#[tokio::test]
async fn a_tenants_records_form_a_chain_without_gaps() {
    let world = World::new().await;
    for tenant in ["acme", "globex"] {
        let token = world.token(tenant).await;
        for ask in [
            Ask::new("POST", CHAT).bearer(&token).json(&chat()),
            Ask::new("GET", "/openai/v1/nowhere").bearer(&token),
            Ask::new("GET", "/openai/v1/models").bearer(&token),
        ] {
            world.send(&ask).await;
        }
    }
    for tenant in ["acme", "globex"] {
        let records = world.gateway.site.records_when(tenant, 3).await;
        let sequence: Vec<_> = records
            .iter()
            .map(|r| r["tollgate.seq"].as_u64().unwrap())
            .collect();
        assert_eq!(sequence, [1, 2, 3]);
        assert!(
            records.iter().all(|record| record["tenant.id"] == tenant),
            "one tenant, one place"
        );
        let links: Vec<_> = records
            .iter()
            .map(|r| r["tollgate.prev_hash"].clone())
            .collect();
        assert!(links[1] != links[2] && links[1].is_string(), "{links:?}");
    }
}

#[tokio::test]
async fn events_are_passed_on_as_they_come() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (path, mut body) in [(CHAT, chat()), ("/anthropic/v1/messages", message())] {
        body["stream"] = json!(true);
        let ask = Ask::new("POST", &format!("{path}?mock=chunks-20,hold-after-3"))
            .bearer(&token)
            .json(&body);
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(ask.bytes()).await;
        let (status, _) = raw.head().await.expect("a head");
        assert_eq!(status, 200);
        // Three events stand at the client while the provider still waits for leave to go on.
        for _ in 0..3 {
            raw.read_until(b"\n\n").await;
        }
        world.mock.release();
        raw.read_until(b"0\r\n\r\n").await;
        world.mock.close_gate();
    }
}
