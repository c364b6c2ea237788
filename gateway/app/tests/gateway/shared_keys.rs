//! One physical key behind several tenants: their money and records stay their own, and what the
//! provider keeps for its account is nobody's.

use serde_json::{Value, json};
use tollgate_testkit::raw::Answer;

use crate::harness::{Ask, Dialect, Plan, Refused, World, chat, cost};

const CHAT: &str = "/openai/v1/chat/completions";
const RESPONSES: &str = "/openai/v1/responses";
const SHARED: &str = "sk-canary-shared-71aa02";

fn share(plan: &mut Plan) {
    for (id, tenant) in &mut plan.tenants {
        tenant.credentials = format!(
            "{id}_key = {{ provider = \"openai\", default = true, platform_key = \"openai_shared\" }}\n"
        );
        tenant.secrets.clear();
    }
    let openai = plan.provider("openai");
    openai.endpoint("GET", "/v1/responses/*", "response_status", "");
    openai.endpoint("POST", "/v1/batches", "batch", "");
    openai.endpoint("GET", "/v1/batches/*", "batch_status", "");
    openai.endpoint("GET", "/v1/files/*/content", "batch_output", "");
    let account_wide = "price_per_call_usd = \"0\"\naccount_wide = true\n";
    openai.endpoint("GET", "/v1/files/*", "tool", account_wide);
}

async fn shared() -> World {
    let world = World::planned(share).await;
    let arguments = ["secret", "set", "--platform", "--name", "openai_shared"];
    world.gateway.site.cli_ok(&arguments, SHARED);
    world
}

async fn send(world: &World, tenant: &str, ask: Ask) -> Answer {
    let token = world.token(tenant).await;
    world.send(&ask.bearer(&token)).await
}

async fn assert_shared_account(world: &World, ask: Ask) {
    let before = world.calls().len();
    let shown = format!("{ask:?}");
    let answer = send(world, "acme", ask).await;
    assert_eq!(answer.status, 403, "{shown}: {}", answer.text());
    let refused = Refused::NOT_ALLOWED;
    let record = refused
        .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "acme")
        .await;
    assert_eq!(record["tollgate.refusal.reason"], "shared_account");
    assert_eq!(world.calls().len(), before, "nobody was contacted");
}

#[tokio::test]
async fn tenants_that_share_a_key_keep_caps_and_records_of_their_own() {
    let world = World::planned(|plan| {
        share(plan);
        plan.tenant("globex").caps = "daily_usd = \"0\"\n".to_owned();
    })
    .await;
    let site = &world.gateway.site;
    site.cli_ok(
        &["secret", "set", "--platform", "--name", "openai_shared"],
        SHARED,
    );
    let answer = send(&world, "acme", Ask::new("POST", CHAT).json(&chat())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let bearer = format!("Bearer {SHARED}");
    assert_eq!(world.only_call().header_values("authorization"), [bearer]);
    let record = world.record_of("acme", &answer).await;
    assert_eq!(record["tollgate.credential.name"], "acme_key", "{record:#}");
    assert_eq!(record["tenant.id"], "acme");
    assert_ne!(cost(&record), "0");
    let refused = send(&world, "globex", Ask::new("POST", CHAT).json(&chat())).await;
    Refused::CAP_REACHED.check(&refused, Dialect::OpenAi);
    assert_eq!(world.calls().len(), 1);
}

#[tokio::test]
async fn without_the_platforms_key_nobody_is_served() {
    let world = World::planned(share).await;
    let answer = send(&world, "acme", Ask::new("POST", CHAT).json(&chat())).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let code = answer.header("x-tollgate-error");
    assert_eq!(code, Some("credential_unavailable"));
    world.assert_no_contact();
}

#[tokio::test]
async fn a_repeated_requests_name_is_each_tenants_own() {
    let world = shared().await;
    let asked = || {
        Ask::new("POST", CHAT)
            .header("idempotency-key", "retry-1")
            .header("x-client-request-id", "retry-1")
            .header("openai-project", "proj_other")
            .json(&chat())
    };
    for tenant in ["acme", "acme", "globex"] {
        let answer = send(&world, tenant, asked()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let calls = world.calls();
    for name in ["idempotency-key", "x-client-request-id"] {
        let values: Vec<_> = calls.iter().map(|seen| seen.header_values(name)).collect();
        assert_eq!(values[0], values[1], "the same tenant's retry is a retry");
        assert_ne!(values[0], values[2], "another tenant's is not");
        assert!(values.iter().all(|of| of.len() == 1 && of[0] != "retry-1"));
    }
    assert!(
        calls
            .iter()
            .all(|seen| seen.header_values("openai-project").is_empty())
    );
}

#[tokio::test]
async fn on_a_key_of_its_own_a_tenants_headers_go_through_as_they_are() {
    let world = World::new().await;
    let ask = Ask::new("POST", CHAT)
        .header("idempotency-key", "retry-1")
        .header("openai-project", "proj_own")
        .json(&chat());
    assert_eq!(send(&world, "acme", ask).await.status, 200);
    let seen = world.only_call();
    assert_eq!(seen.header_values("idempotency-key"), ["retry-1"]);
    assert_eq!(seen.header_values("openai-project"), ["proj_own"]);
}

#[tokio::test]
async fn endpoints_that_show_or_change_what_the_account_keeps_are_refused() {
    let world = shared().await;
    for (method, path) in [
        ("GET", "/openai/v1/responses/resp_1"),
        ("POST", "/openai/v1/batches"),
        ("GET", "/openai/v1/batches/batch_1"),
        ("GET", "/openai/v1/files/file_1/content"),
        ("GET", "/openai/v1/files/file_1"),
    ] {
        let ask = Ask::new(method, path);
        let ask = match method {
            "POST" => ask.json(&json!({"input_file_id": "file_1", "endpoint": "/v1/responses"})),
            _ => ask,
        };
        assert_shared_account(&world, ask).await;
    }
    world.assert_no_contact();
    let models = send(&world, "acme", Ask::new("GET", "/openai/v1/models")).await;
    assert_eq!(models.status, 200, "{}", models.text());
}

#[tokio::test]
async fn bodies_that_refer_to_what_the_account_keeps_are_refused() {
    let world = shared().await;
    let response = |field: &str, value: Value| {
        let mut body = json!({"model": "gpt-4.1-mini", "input": "x", "max_output_tokens": 9});
        body[field] = value;
        Ask::new("POST", RESPONSES).json(&body)
    };
    for (field, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("conversation", json!({"id": "conv_1"})),
        ("prompt", json!({"id": "pmpt_1"})),
        ("input", json!([{"type": "item_reference", "id": "msg_1"}])),
        ("input", json!([{"id": "msg_1"}])),
        (
            "input",
            json!([{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]),
        ),
        (
            "tools",
            json!([{"type": "file_search", "vector_store_ids": ["vs_1"]}]),
        ),
        ("background", json!(true)),
    ] {
        assert_shared_account(&world, response(field, value)).await;
    }
    let mut body = chat();
    body["messages"] =
        json!([{"role": "user", "content": [{"type": "file", "file": {"file_id": "file_1"}}]}]);
    assert_shared_account(&world, Ask::new("POST", CHAT).json(&body)).await;
    world.assert_no_contact();

    let mut body = chat();
    body["user"] = json!("previous_response_id");
    let answer = send(&world, "acme", Ask::new("POST", CHAT).json(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
