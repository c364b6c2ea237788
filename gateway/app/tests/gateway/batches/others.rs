//! Batches of messages, and responses made in the background.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_messages_is_bounded_by_its_own_calls() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let call = |id: &str| {
        json!({"custom_id": id, "params": {
            "model": "claude-sonnet-4-6", "max_tokens": 400,
            "metadata": {"user_id": "mock-usage-1200-80"},
            "messages": [{"role": "user", "content": "Say something."}],
        }})
    };
    let batches = "/anthropic/v1/messages/batches";
    let started = acme
        .send(Ask::new("POST", batches).json(&json!({"requests": [call("a"), call("b")]})))
        .await;
    let batch = id(&started);
    let bound = settled(&world.gateway, "acme").await;
    assert!(bound > PicoUsd::ZERO);
    let state = acme.send(get(&format!("{batches}/{batch}"))).await;
    assert_eq!(text(&body(&state), "processing_status"), "ended");
    for _ in 0..2 {
        let results = acme.send(get(&format!("{batches}/{batch}/results"))).await;
        assert_eq!(results.text().lines().count(), 2);
        // 1,200 in at half of $3 and 80 out at half of $15 per million, twice.
        assert_eq!(settled(&world.gateway, "acme").await, usd("0.0048"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_response_is_corrected_when_it_has_ended() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let started = acme
        .send(Ask::new("POST", "/openai/v1/responses").json(&json!({
            "model": "gpt-4.1", "input": "Say something.", "background": true,
            "max_output_tokens": 500,
        })))
        .await;
    let response = id(&started);
    let bound = settled(&world.gateway, "acme").await;
    let path = format!("/openai/v1/responses/{response}");
    let state = acme.send(get(&path)).await;
    assert_eq!(text(&body(&state), "status"), "in_progress");
    assert_eq!(settled(&world.gateway, "acme").await, bound);
    for _ in 0..2 {
        let state = acme.send(get(&path)).await;
        assert_eq!(text(&body(&state), "status"), "completed");
        // 100 in at $2 and 20 out at $8 per million.
        assert_eq!(settled(&world.gateway, "acme").await, usd("0.00036"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_response_that_is_streamed_to_its_end_needs_no_correction() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let ask = Ask::new("POST", "/openai/v1/responses").json(&json!({
        "model": "gpt-4.1", "input": "Say something.", "background": true, "stream": true,
        "max_output_tokens": 500, "user": "mock-usage-1000-100",
    }));
    let streamed = acme.send(ask).await;
    assert_eq!(streamed.status, 200);
    let created = streamed
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .and_then(|data| serde_json::from_str::<Value>(data).ok())
        .expect("the first event");
    let record = world.record_of("acme", &streamed).await;
    assert_eq!(cost(&record), USED, "at the price of calls made at once");
    assert_eq!(text(&record, "tollgate.usage.source"), "exact");
    let path = format!("/openai/v1/responses/{}", text(&created["response"], "id"));
    for _ in 0..2 {
        let state = acme.send(get(&path)).await;
        assert_eq!(cost(&world.record_of("acme", &state).await), "0");
    }
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));
}
