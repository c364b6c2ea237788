//! Several gateways over one Redis, seen from outside: one cap, one table of tokens, and no call
//! without either.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tollgate_loadtest::mock::Mock;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::redis::Server;
use tollgate_testkit::wait::{eventually, within};

use crate::harness::{Ask, Dialect, Gateway, Plan, Refused, Site, chat, start_mock};

const CHAT: &str = "/openai/v1/chat/completions";

/// Gateways with keys, policies and counters in common, before one provider.
struct Fleet {
    gateways: Vec<Gateway>,
    mock: Mock,
    redis: Server,
    _shared: TempDir,
}

impl Fleet {
    async fn of(count: usize, settings: &str, change: impl Fn(&mut Plan)) -> Self {
        let fleet = Self::starting(count, settings, change).await;
        for gateway in &fleet.gateways {
            eventually("the gateway is ready", async || {
                gateway.admin_get("/readyz").await.0 == 200
            })
            .await;
        }
        fleet
    }

    async fn starting(count: usize, settings: &str, change: impl Fn(&mut Plan)) -> Self {
        let (mock, redis) = (start_mock().await, Server::start(&[]));
        let shared = tempfile::tempdir().unwrap();
        let mut gateways = Vec::new();
        for _ in 0..count {
            let site = site(&mock, redis.port(), &shared, settings, &change);
            gateways.push(site.serve().await);
        }
        Self {
            gateways,
            mock,
            redis,
            _shared: shared,
        }
    }
}

/// The files of one replica.
fn site(
    mock: &Mock,
    redis: u16,
    shared: &TempDir,
    settings: &str,
    change: impl Fn(&mut Plan),
) -> std::sync::Arc<Site> {
    let mut plan = Plan::at(mock.addr());
    plan.gateway = format!(
        "[fleet]\nredis = \"single\"\nnodes = [\"127.0.0.1:{redis}\"]\nshared_dir = \"{}\"\n{settings}",
        shared.path().display()
    );
    change(&mut plan);
    let site = Site::new();
    // The harness looks for keys where a gateway without a fleet has them.
    std::fs::create_dir_all(shared.path().join("keys")).unwrap();
    std::fs::create_dir_all(site.data()).unwrap();
    symlink(shared.path().join("keys"), site.data().join("keys")).unwrap();
    plan.write(&site);
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn case_75_of_200_parallel_calls_over_three_replicas_as_many_go_out_as_the_cap_has_room_for()
{
    let fleet = Fleet::of(3, "max_wait_ms = 5000\n", |plan| {
        plan.tenant("acme").caps = "daily_usd = \"0.057\"\n".to_owned();
    })
    .await;
    let token = fleet.gateways[0].mint("acme", "a1", "t1").await;
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let (ask, address) = (ask.clone(), fleet.gateways[n % 3].address);
            tokio::spawn(async move { ask.send(address).await.status })
        })
        .collect();
    let mut served = 0;
    for call in calls {
        let status = call.await.unwrap();
        assert!(matches!(status, 200 | 429), "{status}");
        served += usize::from(status == 200);
    }
    assert!(served <= 57, "{served}");
    // What one replica held and another could have used is given back, and used.
    eventually("the cap is used to its end", async || {
        for gateway in &fleet.gateways {
            served += usize::from(ask.send(gateway.address).await.status == 200);
        }
        served == 57
    })
    .await;
    assert_eq!(fleet.mock.seen().len(), 57, "what the provider saw");
}

#[tokio::test]
async fn case_31_what_one_replica_revokes_ends_calls_and_streams_on_all_others() {
    let fleet = Fleet::of(2, "", |_| {}).await;
    let [one, two] = fleet.gateways.as_slice() else {
        panic!("two gateways");
    };
    let token = one.mint("acme", "a1", "t1").await;
    let mut body = chat();
    body["stream"] = json!(true);
    let ask = Ask::new("POST", &format!("{CHAT}?mock=hold-after-3,chunks-20"));
    let mut raw = Raw::connect(two.address).await;
    raw.send(ask.bearer(&token).json(&body).bytes()).await;
    assert_eq!(
        raw.head().await.expect("a head").0,
        200,
        "good on the other replica at once"
    );
    let models = Ask::new("GET", "/openai/v1/models").bearer(&token);
    assert_eq!(models.send(two.address).await.status, 200);

    let task = json!({"kind": "task", "tenant": "acme", "task": "t1"});
    let mut revoked = Instant::now();
    // On a busy machine Redis may be late; then it is said so, and asked once more.
    eventually("the revocation is taken", async || {
        revoked = Instant::now();
        one.admin_post("/v1/tokens/revoke", &task).await.0 == 200
    })
    .await;
    let said = Instant::now();
    let answer = loop {
        let answer = models.send(two.address).await;
        // On a busy machine Redis may be late, and then nobody is let in: that is no news of it.
        if answer.status == 401 {
            break answer;
        }
        assert!(
            answer.status != 200 || said.elapsed() < Duration::from_secs(1),
            "{:?}",
            said.elapsed()
        );
        assert!(
            said.elapsed() < Duration::from_secs(20),
            "{}",
            answer.text()
        );
    };
    Refused::UNAUTHENTICATED.check(&answer, Dialect::OpenAi);
    within("the stream ends", raw.rest()).await;
    assert!(
        revoked.elapsed() < Duration::from_secs(5),
        "{:?}",
        revoked.elapsed()
    );
}

#[tokio::test]
async fn case_84_without_redis_calls_are_refused_in_time_and_taken_again_without_a_restart() {
    let fleet = Fleet::of(1, "leases = false\n", |plan| {
        plan.tenant("acme").caps = "daily_usd = \"1\"\n".to_owned();
    })
    .await;
    let gateway = &fleet.gateways[0];
    let token = gateway.mint("acme", "a1", "t1").await;
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    assert_eq!(ask.send(gateway.address).await.status, 200);
    fleet.redis.freeze();
    let started = Instant::now();
    let refused = ask.send(gateway.address).await;
    // The bound is 250 ms; a busy machine takes its own time.
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("2"));
    eventually("it is not ready", async || {
        gateway.admin_get("/readyz").await.0 == 503
    })
    .await;
    let asked = gateway.site.cli(&["health"], "");
    let told = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert_eq!(asked.status.code(), Some(1), "{told}");
    assert_eq!(told, "not ready: shared_store\n");
    let seen = fleet.mock.seen().len();
    assert_eq!(ask.send(gateway.address).await.status, 503);
    assert_eq!(
        fleet.mock.seen().len(),
        seen,
        "nothing reached the provider"
    );
    fleet.redis.thaw();
    eventually("calls are taken again", async || {
        ask.send(gateway.address).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn case_92_a_replica_that_finds_no_redis_starts_refuses_and_waits_for_it() {
    let (mock, mut redis) = (start_mock().await, Server::start(&[]));
    let shared = tempfile::tempdir().unwrap();
    let site = site(&mock, redis.port(), &shared, "", |_| {});
    let mut gateway = site.serve().await;
    eventually("it is ready", async || {
        gateway.admin_get("/readyz").await.0 == 200
    })
    .await;
    let token = gateway.mint("acme", "a1", "t1").await;
    gateway.kill();
    redis.kill();
    let gateway = site.serve().await;
    let (status, why) = gateway.admin_get("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("shared_store"), "{why}");
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    let answer = ask.send(gateway.address).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(mock.connections(), 0, "nothing reached the provider");
    redis.restart();
    eventually("it is ready", async || {
        gateway.admin_get("/readyz").await.0 == 200
    })
    .await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let answer = Ask::new("GET", "/github/user")
        .bearer(&token)
        .send(gateway.address)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_fleet_that_waits_for_a_replica_names_it_and_goes_on_once_it_is_forgotten() {
    let mut fleet = Fleet::of(2, "lease_seconds = 5\n", |_| {}).await;
    let listed = |gateway: &Gateway| -> Vec<serde_json::Value> {
        let text = gateway.site.cli_ok(&["fleet", "list", "--json"], "");
        serde_json::from_str(&text).unwrap()
    };
    let both = listed(&fleet.gateways[0]);
    assert_eq!(both.len(), 2);
    assert!(both[0]["policy"].is_string());
    assert_eq!(both[0]["policy"], both[1]["policy"], "the same files");
    let mut gone = fleet.gateways.pop().unwrap();
    gone.kill();
    // Killed, and at once Redis forgets: nobody knows what it had claimed.
    fleet.redis.ask(&["FLUSHALL"]);
    let gateway = &fleet.gateways[0];
    let mut waited_for = String::new();
    eventually("it is named", async || {
        // The one that lives is waited for, too, until it has said what it knows.
        let waits = |member: &serde_json::Value| {
            member["waited_for"] == true && member["silent_seconds"].is_null()
        };
        let found = listed(gateway).into_iter().find(waits);
        waited_for = found.map_or_else(String::new, |member| {
            member["replica"].as_str().unwrap().to_owned()
        });
        !waited_for.is_empty() && listed(gateway).len() == 2
    })
    .await;
    assert_eq!(gateway.admin_get("/readyz").await.0, 503);
    let nobody = gateway.site.cli(&["fleet", "forget", "nobody"], "");
    assert_eq!(nobody.status.code(), Some(1));
    gateway.site.cli_ok(&["fleet", "forget", &waited_for], "");
    eventually("the fleet goes on", async || {
        gateway.admin_get("/readyz").await.0 == 200
    })
    .await;
    assert_eq!(listed(gateway).len(), 1);
}

#[tokio::test]
async fn limits_are_those_of_the_tenant_however_many_replicas_serve_it() {
    let fleet = Fleet::of(2, "max_wait_ms = 5000\n", |plan| {
        plan.tenant("acme").limits = "requests_per_minute = 10\nburst = 10\n".to_owned();
    })
    .await;
    let token = fleet.gateways[0].mint("acme", "a1", "t1").await;
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    let mut served = 0;
    for n in 0..30 {
        let answer = ask.send(fleet.gateways[n % 2].address).await;
        served += usize::from(answer.status == 200);
    }
    // Ten at once, and one more for each six seconds that this has taken.
    assert!((9..=12).contains(&served), "{served}");
}
