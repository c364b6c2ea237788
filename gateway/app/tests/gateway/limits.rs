//! Limits on pace hold whatever changes about a call, say when to come back, and are given back
//! on every way a call can end.

use serde_json::json;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, Dialect, Refused, TenantPlan, World, chat, text};

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";
const TOKENS: Refused = Refused {
    openai: "tokens",
    ..Refused::RATE_LIMITED
};

async fn world(limits: &str, more: &str) -> World {
    World::planned(|plan| {
        plan.tenant("acme").limits = limits.to_owned();
        plan.tenant("acme").more = more.to_owned();
    })
    .await
}

#[tokio::test]
async fn a_refusal_says_which_limit_and_when_to_come_back() {
    let world = world(
        "requests_per_minute = 2\nburst = 1\n",
        "[models.\"gpt-4o*\"]\ntokens_per_minute = 60\ntoken_burst = 5\n",
    )
    .await;
    let token = world.token("acme").await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    let answer = world.send(&ask).await;
    assert_eq!(answer.status, 200, "larger than its bucket, which is full");
    let free = world.send(&Ask::new("GET", MODELS).bearer(&token)).await;
    let record = Refused::RATE_LIMITED
        .check_recorded(&world.gateway, &free, Dialect::OpenAi, "acme")
        .await;
    assert_eq!(
        text(&record, "tollgate.refusal.limit"),
        "acme/tenant/requests_per_minute"
    );
    assert_eq!(
        text(&record, "tollgate.refusal.reason"),
        "requests_per_minute"
    );
    let header = |name: &str| free.header(name).expect(name).parse::<u64>().unwrap();
    assert!((1..=30).contains(&header("retry-after")));
    assert!((1..=30_000).contains(&header("retry-after-ms")));
    assert_eq!(free.header("x-should-retry"), None, "it may come back");
    assert!(free.text().contains("acme/tenant/requests_per_minute"));
    assert_eq!(world.calls().len(), 1);
}

#[tokio::test]
async fn tokens_are_counted_by_model_and_agent_and_corrected_by_the_real_count() {
    let world = world(
        "",
        "[agents.a1]\ntokens_per_minute = 1\ntoken_burst = 1000\n",
    )
    .await;
    let token = world.token("acme").await;
    let mut body = chat();
    body["max_tokens"] = json!(900);
    let send = async |words: &str, token: &str| {
        let ask = Ask::new("POST", &format!("{CHAT}?mock={words}"));
        world.send(&ask.bearer(token).json(&body)).await
    };
    // 900 and some are taken and 30 used; of what the provider refuses, nothing is.
    assert_eq!(send("usage-10-20", &token).await.status, 200);
    eventually("what was not used comes back", async || {
        send("status-500", &token).await.status == 500
    })
    .await;
    eventually("what was not done comes back", async || {
        send("usage-10-900", &token).await.status == 200
    })
    .await;
    let refused = send("usage-10-20", &token).await;
    let record = TOKENS
        .check_recorded(&world.gateway, &refused, Dialect::OpenAi, "acme")
        .await;
    assert_eq!(
        text(&record, "tollgate.refusal.limit"),
        "acme/agent=a1/tokens_per_minute"
    );
    let other = world.gateway.mint("acme", "a2", "t1").await;
    assert_eq!(send("usage-10-20", &other).await.status, 200);
    let free = Ask::new("GET", MODELS).bearer(&token);
    assert_eq!(world.send(&free).await.status, 200, "takes no tokens");
}

#[tokio::test]
async fn case_83_whatever_a_caller_changes_it_is_one_bucket() {
    let world = world("requests_per_minute = 1\nburst = 4\n", "").await;
    let mut served = 0;
    for n in 0..12 {
        let (agent, task) = (format!("agent-{n}"), format!("task-{n}"));
        let token = world.gateway.mint("acme", &agent, &task).await;
        let ask = Ask::new("GET", MODELS)
            .bearer(&token)
            .header("x-forwarded-for", &format!("10.0.0.{n}"))
            .header("x-tenant-id", &format!("tenant-{n}"))
            .header("user-agent", &format!("agent/{n}"));
        match world.send(&ask).await.status {
            200 => served += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(served, 4);
    let other = world.token("globex").await;
    let ask = Ask::new("GET", MODELS).bearer(&other);
    assert_eq!(world.send(&ask).await.status, 200, "another tenant");
}

#[tokio::test]
async fn case_83_an_agent_with_a_limit_cannot_starve_its_tenant() {
    let world = world(
        "requests_per_minute = 1\nburst = 5\n",
        "[agents.greedy]\nrequests_per_minute = 1\nburst = 2\n",
    )
    .await;
    let served = async |agent: &str| {
        let token = world.gateway.mint("acme", agent, "t1").await;
        let mut served = 0;
        for _ in 0..20 {
            let ask = Ask::new("GET", MODELS).bearer(&token);
            served += usize::from(world.send(&ask).await.status == 200);
        }
        served
    };
    assert_eq!(served("greedy").await, 2);
    assert_eq!(served("modest").await, 3, "all that is left");
}

/// Calls that hold a place end in every way there is; each time the place is free again.
#[tokio::test]
async fn a_place_is_freed_once_however_a_call_ends() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.limits = "concurrent_requests = 1\n".to_owned();
        acme.caps = "daily_usd = \"0.01\"\n".to_owned();
        acme.credential("missing", "{ provider = \"openai\" }");
    })
    .await;
    let token = world.token("acme").await;
    let ask = |words: &str| {
        Ask::new("POST", &format!("{CHAT}?mock={words}"))
            .bearer(&token)
            .json(&chat())
    };
    let free = async |after: &str| {
        eventually(&format!("the place is free after {after}"), async || {
            world.send(&ask("usage-1-1")).await.status == 200
        })
        .await;
        // And there is one only: while a stream waits, another call does.
        let mut body = chat();
        body["stream"] = json!(true);
        world.mock.close_gate();
        let before = world.calls().len();
        let held = Ask::new("POST", &format!("{CHAT}?mock=hold-after-1"))
            .bearer(&token)
            .json(&body);
        let mut raw = Raw::connect(world.gateway.address).await;
        eventually("the stream has its place", async || {
            raw = Raw::connect(world.gateway.address).await;
            raw.send(held.bytes()).await;
            tokio::time::timeout(std::time::Duration::from_millis(200), raw.answer())
                .await
                .is_err()
        })
        .await;
        world.mock.wait_for(before + 1).await;
        let second = world.send(&ask("usage-1-1")).await;
        let record = Refused::RATE_LIMITED
            .check_recorded(&world.gateway, &second, Dialect::OpenAi, "acme")
            .await;
        let limit = text(&record, "tollgate.refusal.limit");
        assert_eq!(limit, "acme/tenant/concurrent_requests", "after {after}");
        (raw, world.mock.release())
    };

    // Whoever had the place before may still be on the way out.
    let status = async |ask: Ask| loop {
        let status = world.send(&ask).await.status;
        if status != 429 {
            return status;
        }
    };
    assert_eq!(status(ask("status-500")).await, 500);
    let (client, ()) = free("an error of the provider").await;
    drop(client);
    free("a client that left").await;
    assert_eq!(status(ask("hangup")).await, 502);
    free("a provider that left").await;
    let unsealed = Ask::new("POST", CHAT)
        .token(&token)
        .header("authorization", "Bearer $CRED{missing}")
        .json(&chat());
    assert!(status(unsealed).await >= 500);
    free("a secret that is missing").await;
    let mut dear = chat();
    dear["max_tokens"] = json!(1_000_000);
    let dear = Ask::new("POST", CHAT).bearer(&token).json(&dear);
    Refused::NO_HEADROOM.check(&world.send(&dear).await, Dialect::OpenAi);
    free("a refusal").await;
}

#[tokio::test]
async fn a_limit_that_a_reload_changes_neither_forgets_nor_sticks() {
    let world = world("requests_per_minute = 1\nburst = 2\n", "").await;
    let token = world.token("acme").await;
    let status = async || {
        let ask = Ask::new("GET", MODELS).bearer(&token);
        world.send(&ask).await.status
    };
    let reload = |limits: &str| {
        let mut acme = TenantPlan::new("acme");
        acme.limits = limits.to_owned();
        let site = &world.gateway.site;
        site.write_policy("tenants/acme.toml", &acme.text("acme"));
    };
    assert_eq!(
        (status().await, status().await, status().await),
        (200, 200, 429)
    );
    reload("requests_per_minute = 1\nburst = 4\n");
    eventually("there is room for two more", async || status().await == 200).await;
    assert_eq!((status().await, status().await), (200, 429), "and no more");
    reload("concurrent_requests = 1\n");
    eventually("the rate is gone", async || status().await == 200).await;
    for _ in 0..10 {
        assert_eq!(status().await, 200);
    }
}
