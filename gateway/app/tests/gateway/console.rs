//! The console, in a real browser: what it shows and does, and what is on record of it.
//!
//! The script `tests/sdk/console.mjs` drives Debian's Chromium; here stands what it is to find.

use tollgate_testkit::raw::{Raw, request};
use tollgate_testkit::wait::{until, until_true};

use crate::harness::World;
use crate::sdk::{node, run_at};

#[tokio::test(flavor = "multi_thread")]
async fn a_console_shows_what_happens_and_ends_what_it_is_told_to() {
    let mut world = World::planned(|plan| {
        plan.tenant("globex").caps = "daily_usd = \"0.004\"\nmonthly_usd = \"1\"\n".to_owned();
        plan.tenant("globex").limits = "requests_per_minute = 600\n".to_owned();
    })
    .await;
    let gateway = &world.gateway;
    let added = |name: &str, role: &[&str]| {
        let asked = [&["admin", "add", "--name", name, "--role"], role].concat();
        gateway.site.cli_ok(&asked, "").trim_end().to_owned()
    };
    let operator = added("olga", &["operator"]);
    let mut walk = node("console.mjs", "walk");
    let poor = gateway.mint("globex", "a1", "t1").await;
    walk.env("CONSOLE_URL", format!("http://{}", gateway.admin))
        .env("OPERATOR", &operator)
        .env("AUDITOR", added("alice", &["auditor", "--tenant", "acme"]))
        .env("MINTER", added("mia", &["minter", "--tenant", "acme"]))
        .env(
            "STREAMED",
            gateway.mint("acme", "a1", "streamed-task").await,
        )
        .env("QUICK", gateway.mint("acme", "a1", "quick-task").await)
        .env("POOR", &poor)
        .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"))
        .env("TOLLGATE_DATA", gateway.site.data());
    run_at(&format!("http://{}", gateway.address), walk, &poor).await;

    // What was looked at all the time is on record once for each who looked.
    let actions = |partition: &str| -> Vec<String> {
        let lines = gateway.site.lines(partition).into_iter();
        let action =
            |line: serde_json::Value| line["tollgate.admin.action"].as_str().map(str::to_owned);
        lines.filter_map(action).collect()
    };
    for (partition, looks) in [("_operator", 1), ("acme", 1)] {
        let done = until("what was done last is on record", || {
            let done = actions(partition);
            done.iter()
                .any(|action| action == "events.follow")
                .then_some(done)
        })
        .await;
        let times = |what: &str| done.iter().filter(|action| *action == what).count();
        assert_eq!(times("events.follow"), looks, "{done:?}");
        assert_eq!(times("live.read"), 0, "{done:?}");
    }

    // Somebody who follows keeps nobody from stopping the gateway.
    let bearer = format!("Bearer {operator}");
    let headers = [("host", "admin"), ("authorization", bearer.as_str())];
    let mut follower = Raw::connect(gateway.admin).await;
    follower
        .send(request("GET /v1/events", &headers, b""))
        .await;
    until_true("the follower is on record", || {
        let done = actions("_operator");
        done.iter()
            .filter(|action| *action == "events.follow")
            .count()
            == 2
    })
    .await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
}
