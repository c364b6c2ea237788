//! What changes while it runs: tokens end, secrets rotate, policies are reloaded, the process drains.

use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::{eventually, until_true, within};

use crate::harness::{Ask, Dialect, Plan, Refused, World, chat, message, outcome};

const CHAT: &str = "/openai/v1/chat/completions";

/// An open stream whose provider waits, and the id of its record.
async fn open_stream(world: &World, path: &str, token: &str) -> (Raw, String) {
    let mut body = if path.contains("anthropic") {
        message()
    } else {
        chat()
    };
    body["stream"] = json!(true);
    let ask = Ask::new("POST", &format!("{path}?mock=hold-after-3,chunks-20"))
        .bearer(token)
        .json(&body);
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(ask.bytes()).await;
    let (status, headers) = raw.head().await.expect("a head");
    assert_eq!(status, 200);
    raw.read_until(b"\n\n").await;
    let id = headers
        .into_iter()
        .find(|(name, _)| name == "x-tollgate-request-id")
        .unwrap()
        .1;
    (raw, id)
}

/// Each kind of revocation ends open streams within 5 s and refuses the next call within 1 s.
#[tokio::test]
async fn a_revoked_token_ends_its_open_stream_and_its_next_call() {
    let world = World::new().await;
    for (number, (what, path)) in [
        ("token", CHAT),
        ("task", CHAT),
        ("agent", "/anthropic/v1/messages"),
        ("tenant", CHAT),
    ]
    .into_iter()
    .enumerate()
    {
        let (agent, task) = (format!("a{number}"), format!("t{number}"));
        let token = world.gateway.mint("acme", &agent, &task).await;
        let bystander = world.gateway.mint("globex", &agent, &task).await;
        let (mut raw, id) = open_stream(&world, path, &token).await;
        let (mut other, _) = open_stream(&world, path, &bystander).await;
        // Before revocation an idle connection is open, too, and must not outlive it usefully.
        let mut kept = Raw::connect(world.gateway.address).await;
        let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
        assert_eq!(ask.send_on(&mut kept).await.status, 200);

        let jti = tollgate_testkit::forge::open(&token).1["jti"].clone();
        let what = match what {
            "token" => json!({"kind": "token", "tenant": "acme", "token": jti}),
            "task" => json!({"kind": "task", "tenant": "acme", "task": task}),
            "agent" => json!({"kind": "agent", "tenant": "acme", "agent": agent}),
            _ => json!({"kind": "tenant", "tenant": "acme"}),
        };
        let revoked = Instant::now();
        world.gateway.revoke(&what).await;
        let answer = ask.send_on(&mut kept).await;
        assert!(
            revoked.elapsed() < Duration::from_secs(1),
            "{what}: {:?}",
            revoked.elapsed()
        );
        Refused::UNAUTHENTICATED.check(&answer, Dialect::OpenAi);
        within("the stream ends", raw.rest()).await;
        assert!(
            revoked.elapsed() < Duration::from_secs(5),
            "{what}: {:?}",
            revoked.elapsed()
        );
        let record = world.gateway.site.record("acme", &id).await;
        assert_eq!(outcome(&record), "revoked", "{what}: {record:#}");
        assert_ne!(
            record["tollgate.cost_usd"], "0",
            "what was produced is billed: {record:#}"
        );

        world.mock.release();
        other.read_until(b"0\r\n\r\n").await;
        world.mock.close_gate();
    }
    // A new token of the same agent is good; a completed task gets none.
    let fresh = world.gateway.mint("acme", "a2", "t2").await;
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&fresh);
    assert_eq!(world.send(&ask).await.status, 200);
    let asked = json!({"tenant": "acme", "agent": "a1", "task": "t1"});
    let (status, said) = world.gateway.admin_post("/v1/tokens", &asked).await;
    assert!(
        matches!(status, 403 | 409 | 422),
        "the task is over: {status} {said}"
    );
}

#[tokio::test]
async fn a_token_minted_and_revoked_on_the_command_line_does_the_same() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let mint = [
        "token", "mint", "--tenant", "acme", "--agent", "a1", "--task", "t1",
    ];
    let token = site.cli_ok(&mint, "").trim().to_owned();
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
    assert_eq!(world.send(&ask).await.status, 200);
    site.cli_ok(&["token", "revoke", "--token", "-"], &token);
    assert_eq!(world.send(&ask).await.status, 401);
    let too_long = [&mint[..], &["--ttl", "301"]].concat();
    assert_ne!(
        site.cli(&too_long, "").status.code(),
        Some(0),
        "300 s at most"
    );
}

#[tokio::test]
async fn a_token_that_runs_out_opens_nothing_more_but_lets_its_stream_finish() {
    let world = World::new().await;
    let asked = json!({"tenant": "acme", "agent": "a1", "task": "t1", "ttl_seconds": 2});
    let (_, minted) = world.gateway.admin_post("/v1/tokens", &asked).await;
    let token = minted["token"].as_str().expect("a token").to_owned();
    let (mut raw, id) = open_stream(&world, CHAT, &token).await;
    let started = Instant::now();
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
    eventually("calls are refused", async || {
        world.send(&ask).await.status == 401
    })
    .await;
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "2 s and some skew"
    );
    world.mock.release();
    let rest = raw.read_until(b"0\r\n\r\n").await;
    assert!(
        String::from_utf8_lossy(&rest).contains("data: [DONE]"),
        "the stream came whole"
    );
    let record = world.gateway.site.record("acme", &id).await;
    assert_eq!(outcome(&record), "completed", "{record:#}");
}

#[tokio::test]
async fn case_19_a_rotated_secret_is_used_and_a_revoked_one_is_not_within_a_second() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let site = &world.gateway.site;
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
    let last_key = |world: &World| {
        world
            .calls()
            .pop()
            .unwrap()
            .header("authorization")
            .unwrap()
    };
    assert_eq!(world.send(&ask).await.status, 200);

    site.secret("rotate", "acme", "openai_key", "sk-canary-rotated-2");
    let rotated = Instant::now();
    loop {
        let asked = Instant::now();
        assert_eq!(
            world.send(&ask).await.status,
            200,
            "there is a key at every moment"
        );
        let key = last_key(&world);
        if key == "Bearer sk-canary-rotated-2" {
            break;
        }
        assert_eq!(
            key,
            format!("Bearer {}", crate::harness::key("acme", "openai")),
            "never a mix"
        );
        assert!(
            asked - rotated < Duration::from_secs(1),
            "the old one is gone after a second"
        );
    }
    let answer = world.send(&ask).await;
    let record = world.record_of("acme", &answer).await;
    assert_eq!(record["tollgate.credential.version"], 2, "{record:#}");

    site.cli_ok(
        &[
            "secret",
            "revoke",
            "--tenant",
            "acme",
            "--name",
            "openai_key",
        ],
        "",
    );
    let revoked = Instant::now();
    let seen = loop {
        let seen = world.calls().len();
        let asked = Instant::now();
        let answer = world.send(&ask).await;
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert_eq!(
                answer.header("x-tollgate-error"),
                Some("credential_unavailable")
            );
            break seen;
        }
        assert!(
            asked - revoked < Duration::from_secs(1),
            "unusable within a second"
        );
    };
    assert_eq!(world.calls().len(), seen, "and nothing goes out without it");
    let other = world.token("globex").await;
    let answer = world
        .send(&Ask::new("GET", "/openai/v1/models").bearer(&other))
        .await;
    assert_eq!(answer.status, 200, "the other tenant's is untouched");
}

#[tokio::test]
async fn policies_are_reloaded_and_a_bad_file_leaves_the_last_good_ones() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let site = &world.gateway.site;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    assert_eq!(world.send(&ask).await.status, 200);

    let mut plan = Plan::at(world.mock.addr());
    let acme = plan.tenant("acme");
    acme.grants.clear();
    acme.allow("openai", "models = [\"gpt-4o\"]\n");
    let narrower = acme.text("acme");
    site.write_policy("tenants/acme.toml", &narrower);
    eventually("the narrower policy is in force", async || {
        world.send(&ask).await.status == 403
    })
    .await;

    // A mistake, a half-written file, a file that is no TOML: the narrower policy stays.
    for broken in [
        narrower.replace("models", "modles"),
        narrower[..narrower.len() / 2].to_owned(),
        "\u{0}\u{1}".to_owned(),
    ] {
        let kept = reloads_kept(&world).await;
        site.write_policy("tenants/acme.toml", &broken);
        eventually("the failure is counted", async || {
            reloads_kept(&world).await > kept
        })
        .await;
        assert_eq!(
            world.send(&ask).await.status,
            403,
            "the last good policy is in force"
        );
    }
    assert!(
        world.gateway.log().contains("tenants/acme.toml"),
        "the log names the file"
    );

    site.write_policy("tenants/acme.toml", &TenantText::roomy());
    eventually("the repaired policy is in force", async || {
        world.send(&ask).await.status == 200
    })
    .await;
}

struct TenantText;

impl TenantText {
    fn roomy() -> String {
        crate::harness::TenantPlan::new("acme").text("acme")
    }
}

/// How many reloads have kept the last good policies, as `/metrics` tells it.
async fn reloads_kept(world: &World) -> u64 {
    let (status, metrics) = world.gateway.admin_get("/metrics").await;
    assert_eq!(status, 200);
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tollgate_policy_reloads_total{result=\"kept\"} "));
    line.expect("the metric is there").parse().expect("a count")
}

#[tokio::test]
async fn a_disabled_tenant_is_locked_out_by_a_reload() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
    assert_eq!(world.send(&ask).await.status, 200);
    let disabled =
        TenantText::roomy().replacen("id = \"acme\"", "id = \"acme\"\nenabled = false", 1);
    world
        .gateway
        .site
        .write_policy("tenants/acme.toml", &disabled);
    eventually("the tenant is locked out", async || {
        world.send(&ask).await.status != 200
    })
    .await;
    Refused::UNAUTHENTICATED.check(&world.send(&ask).await, Dialect::OpenAi);
}

#[tokio::test]
async fn sigterm_lets_streams_finish_and_then_ends_with_success() {
    let mut world = World::new().await;
    let token = world.token("acme").await;
    let (mut raw, id) = open_stream(&world, CHAT, &token).await;
    assert_eq!(world.gateway.admin_get("/readyz").await.0, 200);
    world.gateway.terminate();
    // It takes no new connections, while the old stream waits for its provider.
    let address = world.gateway.address;
    until_true("no new connections are taken", || {
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err()
    })
    .await;
    world.mock.release();
    let rest = raw.read_until(b"0\r\n\r\n").await;
    assert!(
        String::from_utf8_lossy(&rest).contains("data: [DONE]"),
        "the stream came whole"
    );
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let record = world.gateway.site.record("acme", &id).await;
    assert_eq!(outcome(&record), "completed", "{record:#}");
}

#[tokio::test]
async fn told_to_end_it_takes_calls_until_balancers_have_had_time_to_notice() {
    let mut world = World::planned(|plan| plan.gateway.push_str("unready_seconds = 600\n")).await;
    let ask = Ask::new("POST", CHAT).bearer(&world.token("acme").await);
    let ask = ask.json(&chat());
    world.gateway.terminate();
    eventually("it says that it is not ready", async || {
        world.gateway.admin_get("/readyz").await.0 == 503
    })
    .await;
    assert_eq!(world.send(&ask).await.status, 200);
    // Whoever knows that nobody sends calls any more need not wait.
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    assert_eq!(world.gateway.site.records("acme").len(), 1);
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let mut world = World::new().await;
    let started = Instant::now();
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn two_gateways_do_not_share_a_data_directory() {
    let world = World::new().await;
    let output = world.gateway.site.cli(&["serve"], "");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("data"), "it says why: {said}");
    let token = world.token("acme").await;
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
    assert_eq!(world.send(&ask).await.status, 200, "and the first goes on");
}

#[tokio::test]
async fn calls_are_made_by_as_many_threads_as_the_settings_say() {
    let world = World::planned(|plan| plan.gateway.push_str("threads = 3\n")).await;
    let mut threads = world.gateway.threads();
    threads.retain(|name| name.starts_with("tollgate-call"));
    threads.sort();
    assert_eq!(
        threads,
        ["tollgate-call-0", "tollgate-call-1", "tollgate-call-2"]
    );
    let token = world.token("acme").await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    // Each on a connection of its own, which any of the threads may accept.
    for _ in 0..12 {
        assert_eq!(world.send(&ask).await.status, 200);
    }
    until_true("every call has a record", || {
        world.gateway.site.records("acme").len() == 12
    })
    .await;
}
