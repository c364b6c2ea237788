//! Caps hold at any concurrency, are settled exactly, and concern nobody else.

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::{eventually, until_true};

use crate::harness::{Ask, Dialect, Refused, TenantPlan, World, chat, cost, outcome, text};

const CHAT: &str = "/openai/v1/chat/completions";
const PARALLEL: usize = 200;

fn usd(text: &str) -> PicoUsd {
    text.parse().expect("an amount")
}

/// The settled and the reserved money of a tenant today.
async fn today(world: &World, tenant: &str) -> (String, String) {
    let budgets = world.gateway.budgets(tenant).await;
    let field = |name: &str| text(&budgets[0], name).to_owned();
    (field("settled_usd"), field("reserved_usd"))
}

/// Makes `ask` that many times at once; the statuses.
async fn all_at_once(world: &World, ask: &Ask) -> Vec<u16> {
    let calls: Vec<_> = (0..PARALLEL)
        .map(|_| {
            let (ask, address) = (ask.clone(), world.gateway.address);
            tokio::spawn(async move { ask.send(address).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_parallel_calls_with_room_for_57_exactly_57_go_out() {
    let world = World::planned(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"0.057\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let statuses = all_at_once(&world, &Ask::new("GET", "/github/user").bearer(&token)).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 57);
    assert_eq!(
        statuses.iter().filter(|status| **status == 429).count(),
        PARALLEL - 57
    );
    assert_eq!(world.calls().len(), 57, "what the provider saw");
    let records = world.gateway.site.records_when("acme", PARALLEL).await;
    assert_eq!(records.len(), PARALLEL);
    assert_eq!(
        today(&world, "acme").await,
        ("0.057".to_owned(), "0".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn case_75_of_200_parallel_streams_only_as_many_as_the_worst_case_allows_are_in_flight() {
    let mut body = chat();
    body["stream"] = json!(true);
    // What one call reserves is read from a tenant that can afford it.
    let probe = World::new().await;
    let token = probe.token("acme").await;
    let ask = |token: &str| {
        Ask::new("POST", &format!("{CHAT}?mock=hold-after-2"))
            .bearer(token)
            .json(&body)
    };
    probe.mock.release();
    let answer = probe.send(&ask(&token)).await;
    let record = probe.record_of("acme", &answer).await;
    let worst = usd(text(&record, "tollgate.cost.reserved_usd"));

    let room = 31_i128;
    let cap = PicoUsd::new(worst.as_pico() * room + worst.as_pico() / 2);
    let world = World::planned(|plan| {
        plan.tenant("acme").caps = format!("monthly_usd = \"{cap}\"\n");
    })
    .await;
    let token = world.token("acme").await;
    let calls: Vec<_> = (0..PARALLEL)
        .map(|_| {
            let (ask, address) = (ask(&token), world.gateway.address);
            tokio::spawn(async move { ask.send(address).await })
        })
        .collect();
    let room = usize::try_from(room).unwrap();
    world.mock.wait_for(room).await;
    // All others are refused while these are held: only then is it known that no more will come.
    let site = &world.gateway.site;
    until_true("every other call is refused", || {
        site.records("acme").len() == PARALLEL - room
    })
    .await;
    assert_eq!(world.calls().len(), room);
    let other = world.token("globex").await;
    let answer = world
        .send(&Ask::new("POST", CHAT).bearer(&other).json(&chat()))
        .await;
    assert_eq!(
        answer.status,
        200,
        "the other tenant goes on: {}",
        answer.text()
    );

    world.mock.release();
    let mut served = 0;
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status {
            200 => served += 1,
            _ => Refused::NO_HEADROOM.check(&answer, Dialect::OpenAi),
        }
    }
    assert_eq!(served, room);
    let records = site.records_when("acme", PARALLEL).await;
    let spent = sum(&records);
    until_true("everything is settled", || {
        site.records("acme").len() == PARALLEL
    })
    .await;
    assert_eq!(
        today(&world, "acme").await,
        (spent.to_string(), "0".to_owned())
    );
    assert_eq!(spent, PicoUsd::new(usd("0.0000135").as_pico() * 31));
}

fn sum(records: &[Value]) -> PicoUsd {
    let costs = records.iter().map(|record| usd(&cost(record)));
    costs.fold(PicoUsd::ZERO, PicoUsd::saturating_add)
}

#[tokio::test]
async fn agents_and_tasks_have_caps_of_their_own_inside_their_tenants() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.caps = "daily_usd = \"1\"\ntask_usd = \"0.003\"\n".to_owned();
        acme.more = "[agents.small]\ndaily_usd = \"0.002\"\n".to_owned();
    })
    .await;
    let allowed = async |agent: &str, task: &str| {
        let token = world.gateway.mint("acme", agent, task).await;
        let ask = Ask::new("GET", "/github/user").bearer(&token);
        let mut served = 0;
        while world.send(&ask).await.status == 200 {
            served += 1;
        }
        served
    };
    assert_eq!(allowed("small", "t1").await, 2, "the agent's cap binds");
    assert_eq!(
        allowed("large", "t1").await,
        1,
        "the task has 0.001 left, whoever works on it"
    );
    assert_eq!(allowed("large", "t2").await, 3, "another task starts anew");
    assert_eq!(
        allowed("small", "t3").await,
        0,
        "the agent's cap goes on over tasks"
    );
}

#[tokio::test]
async fn a_cap_of_zero_blocks_and_none_is_unlimited() {
    let world = World::planned(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"0\"\n".to_owned();
        plan.tenant("globex").caps.clear();
    })
    .await;
    let blocked = world.token("acme").await;
    let free = world.token("globex").await;
    let mut body = chat();
    body["max_tokens"] = json!(16_000);
    let ask = Ask::new("POST", CHAT).json(&body);
    let answer = world.send(&ask.clone().bearer(&blocked)).await;
    Refused::CAP_REACHED.check(&answer, Dialect::OpenAi);
    world.assert_no_contact();
    assert_eq!(world.send(&ask.bearer(&free)).await.status, 200);
    let free_call = Ask::new("GET", "/openai/v1/models").bearer(&blocked);
    let status = world.send(&free_call).await.status;
    assert!(
        matches!(status, 200 | 429),
        "a free call may be made or not: {status}"
    );
}

/// The bound on output may stand in any of the fields that mean it, and counts per choice.
#[tokio::test]
async fn every_field_that_bounds_the_output_is_reserved_for() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let messages = json!([{"role": "user", "content": "x"}]);
    let reserved = async |body: Value| {
        let answer = world
            .send(&Ask::new("POST", CHAT).bearer(&token).json(&body))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        usd(text(
            &world.record_of("acme", &answer).await,
            "tollgate.cost.reserved_usd",
        ))
    };
    let with = |fields: Value| {
        let mut body = json!({"model": "gpt-4o-mini", "messages": messages});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let output = |tokens: i128| PicoUsd::new(tokens * 600_000);
    for (fields, at_least) in [
        (json!({"max_tokens": 1000}), output(1000)),
        (json!({"max_completion_tokens": 1000}), output(1000)),
        (
            json!({"max_tokens": 1, "max_completion_tokens": 1000}),
            output(1000),
        ),
        (
            json!({"max_tokens": 1000, "max_completion_tokens": 1}),
            output(1000),
        ),
        (json!({"max_tokens": 1000, "n": 50}), output(50_000)),
        (json!({}), output(1000)),
    ] {
        let amount = reserved(with(fields.clone())).await;
        assert!(amount >= at_least, "{fields}: {amount} < {at_least}");
    }
}

/// One connection is shared by calls of both tenants; only the poor one is refused, each time.
#[tokio::test]
async fn a_tenant_at_its_cap_is_refused_while_another_goes_on_on_the_same_connection() {
    let world = World::planned(|plan| {
        plan.tenant("globex").caps = "monthly_usd = \"0\"\n".to_owned();
    })
    .await;
    let rich = world.token("acme").await;
    let poor = world.token("globex").await;
    let mut raw = Raw::connect(world.gateway.address).await;
    for _ in 0..20 {
        let ask = |token: &str| Ask::new("POST", CHAT).bearer(token).json(&chat());
        assert_eq!(ask(&rich).send_on(&mut raw).await.status, 200);
        assert_eq!(ask(&poor).send_on(&mut raw).await.status, 429);
    }
    assert_eq!(world.calls().len(), 20);
    let records = world.gateway.site.records_when("acme", 20).await;
    assert!(records.iter().all(|record| outcome(record) == "completed"));
}

/// What an SDK's user would do: read the bound that fits from the error and ask again with it.
#[tokio::test]
async fn the_bound_that_a_refusal_names_fits_all_caps() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.caps = "daily_usd = \"0.02\"\nmonthly_usd = \"0.009\"\n".to_owned();
        acme.more = "[agents.a1]\ndaily_usd = \"0.005\"\nmonthly_usd = \"1\"\n\
                     [models.\"gpt-4o*\"]\ndaily_usd = \"0.003\"\n"
            .to_owned();
    })
    .await;
    let token = world.token("acme").await;
    for pretty in [false, true] {
        for asked in [None, Some(16_000)] {
            let mut body = chat();
            body["max_tokens"] = json!(asked);
            let send = async |body: &Value| {
                let text = if pretty {
                    serde_json::to_string_pretty(body).unwrap()
                } else {
                    body.to_string()
                };
                let ask = Ask::new("POST", CHAT).bearer(&token).body(text);
                world.send(&ask).await
            };
            if asked.is_none() {
                body.as_object_mut().unwrap().remove("max_tokens");
            }
            let refused = send(&body).await;
            Refused::NO_HEADROOM.check(&refused, Dialect::OpenAi);
            let error = &refused.json()["error"];
            let cap = text(&error["tollgate"], "cap").to_owned();
            assert!(cap.starts_with("acme/model=gpt-4o*/day:"), "{error}");
            let fits = &error["tollgate"]["largest_output_tokens_that_fit"];
            assert!(fits.as_u64().is_some_and(|fits| fits > 1_000), "{error}");
            body["max_completion_tokens"] = fits.clone();
            body["max_tokens"] = fits.clone();
            let answer = send(&body).await;
            assert_eq!(answer.status, 200, "{fits}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_model_has_caps_of_its_own_inside_its_tenants() {
    let world = World::planned(|plan| {
        plan.tenant("acme").more = "[models.\"gpt-4o-mini*\"]\nmonthly_usd = \"0.00012\"\n\
             [models.\"text-embedding-3-small\"]\ndaily_usd = \"0\"\n"
            .to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let send = async |path: &str, body: &Value| {
        let ask = Ask::new("POST", path).bearer(&token).json(body);
        world.send(&ask).await
    };
    let mut served = 0;
    let refused = loop {
        let answer = send(CHAT, &chat()).await;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
    };
    assert!(served > 1, "{served}");
    let record = Refused::NO_HEADROOM
        .check_recorded(&world.gateway, &refused, Dialect::OpenAi, "acme")
        .await;
    let limit = text(&record, "tollgate.refusal.limit");
    assert!(
        limit.starts_with("acme/model=gpt-4o-mini*/month:"),
        "{limit}"
    );
    let mut other = chat();
    other["model"] = json!("gpt-4.1");
    assert_eq!(send(CHAT, &other).await.status, 200);
    // What has no output has no bound that would fit.
    let embedding = json!({"model": "text-embedding-3-small", "input": "x"});
    let refused = send("/openai/v1/embeddings", &embedding).await;
    Refused::CAP_REACHED.check(&refused, Dialect::OpenAi);
    assert_eq!(refused.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn calls_without_an_output_bound_are_told_that_none_would_fit() {
    let world = World::planned(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"0.0000001\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let embedding = json!({"model": "text-embedding-3-small", "input": "x".repeat(400)});
    for (ask, dialect) in [
        (
            Ask::new("POST", "/openai/v1/embeddings").json(&embedding),
            Dialect::OpenAi,
        ),
        (Ask::new("GET", "/github/user"), Dialect::Problem),
    ] {
        let refused = world.send(&ask.bearer(&token)).await;
        Refused::NO_HEADROOM.check(&refused, dialect);
        let body = refused.json();
        let facts = match dialect {
            Dialect::Problem => &body["tollgate"],
            _ => &body["error"]["tollgate"],
        };
        assert_eq!(facts["largest_output_tokens_that_fit"], Value::Null);
        assert_eq!(facts["limit_usd"], "0.0000001", "{body}");
        assert!(refused.header("retry-after").is_some());
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_85_what_an_agent_has_spent_stays_when_the_agent_goes() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.caps = "daily_usd = \"0.005\"\n".to_owned();
        acme.more = "[agents.gone]\ndaily_usd = \"0.004\"\n".to_owned();
    })
    .await;
    let served = async |agent: &str| {
        let token = world.gateway.mint("acme", agent, "t1").await;
        let ask = Ask::new("GET", "/github/user")
            .bearer(&token)
            .header("x-tenant-id", "globex")
            .header("x-agent-id", "other");
        let mut served = 0;
        while world.send(&ask).await.status == 200 {
            served += 1;
        }
        served
    };
    assert_eq!(served("gone").await, 4);
    let before = today(&world, "acme").await;
    assert_eq!(before, ("0.004".to_owned(), "0".to_owned()));
    let mut acme = TenantPlan::new("acme");
    acme.caps = "daily_usd = \"0.005\"\nmonthly_usd = \"9\"\n".to_owned();
    let site = &world.gateway.site;
    site.write_policy("tenants/acme.toml", &acme.text("acme"));
    eventually("the policy without the agent is in force", async || {
        let budgets = world.gateway.budgets("acme").await;
        budgets.iter().any(|budget| budget["limit_usd"] == "9")
    })
    .await;
    assert_eq!(today(&world, "acme").await, before, "past spend stays");
    assert_eq!(served("gone").await, 1, "its name frees no money");
    assert_eq!(served("other").await, 0);
    let records = site.records_when("acme", 8).await;
    let paid = records.iter().filter(|record| cost(record) != "0");
    let agents: Vec<&str> = paid.map(|record| text(record, "gen_ai.agent.id")).collect();
    assert_eq!(agents, ["gone"; 5], "as the token says, never a header");
}

#[tokio::test]
async fn case_82_what_the_provider_does_not_bill_is_free_and_each_retry_is_a_call() {
    let world = World::planned(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"0.0001\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let send = async |words: &str| {
        let ask = Ask::new("POST", &format!("{CHAT}?mock={words}"))
            .bearer(&token)
            .header("idempotency-key", "same-every-time")
            .json(&chat());
        world.send(&ask).await.status
    };
    // Were a failure kept reserved or billed, there were no room for so many.
    for words in ["status-429", "status-500", "status-503", "status-400"] {
        for _ in 0..5 {
            let status = send(words).await.to_string();
            assert!(words.ends_with(&status), "{words}: {status}");
        }
    }
    assert_eq!(
        today(&world, "acme").await,
        ("0".to_owned(), "0".to_owned())
    );
    assert_eq!(send("usage-10-20").await, 200);
    assert_eq!(send("usage-10-20").await, 200);
    let records = world.gateway.site.records_when("acme", 22).await;
    let spent = sum(&records);
    assert_eq!(spent, PicoUsd::new(usd("0.0000135").as_pico() * 2));
    assert_eq!(
        today(&world, "acme").await,
        (spent.to_string(), "0".to_owned())
    );
}
