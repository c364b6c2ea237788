//! The forms that Redis comes in, and how one logs in there.

use tollgate_core::budget::{Account, Reserved};
use tollgate_core::money::PicoUsd;
use tollgate_core::registry::{Liveness, Registered};
use tollgate_testkit::authority::Authority;
use tollgate_testkit::contract::{caller, daily, record_id};

use super::*;

/// What a call and a token need of Redis, from beginning to end, for several tenants.
async fn works(replica: &Replica) {
    for (n, tenant) in (0..).zip(["acme", "globex", "initech", "umbrella", "hooli", "stark"]) {
        let budgets = [daily(tenant, Some(100))];
        let store = replica.fleet().budgets();
        let taken = store
            .reserve(
                record_id(n),
                &Account::from(&budgets),
                PicoUsd::new(60),
                now(),
            )
            .await;
        let Reserved::Held(hold) = taken.expect("up") else {
            panic!("there is room");
        };
        let taken = store
            .reserve(
                record_id(100 + n),
                &Account::from(&budgets),
                PicoUsd::new(60),
                now(),
            )
            .await;
        assert!(matches!(taken.expect("up"), Reserved::Exhausted { .. }));
        store.settle(&hold, PicoUsd::new(10));
        let token = caller(tenant, "bot", "task", "tok");
        let registry = &replica.fleet().registry;
        assert_eq!(
            registry.register(&token, None).await.expect("up"),
            Registered::Live
        );
        assert_eq!(registry.look_up(&token).await.expect("up"), Liveness::Live);
    }
    replica.fleet().flush().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_works_over_a_cluster() {
    let servers = Server::cluster(3);
    let mut config = redis(servers[0].port(), "cluster");
    config.topology = Topology::Cluster;
    let replica = Replica::join("r1", config, true).await;
    works(&replica).await;
    let used = servers
        .iter()
        .filter(|server| !server.ask(&["DBSIZE"]).starts_with(":0"));
    assert!(used.count() > 1, "tenants are spread");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_flushed_primary_of_a_cluster_is_found_out() {
    let servers = Server::cluster(3);
    let mut config = redis(servers[0].port(), "part");
    config.topology = Topology::Cluster;
    let replica = Replica::join("r1", config, false).await;
    works(&replica).await;
    for server in &servers {
        server.ask(&["FLUSHALL"]);
        // Whatever was lost there is put together again, and nothing is given twice.
        let budgets = [daily("acme", Some(100))];
        let mut tries = 0;
        let held = loop {
            let store = replica.fleet().budgets();
            tries += 1;
            match store
                .reserve(
                    record_id(900 + tries),
                    &Account::from(&budgets),
                    PicoUsd::new(91),
                    now(),
                )
                .await
            {
                Ok(Reserved::Held(_)) => break true,
                Ok(Reserved::Exhausted { .. }) => break false,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        assert!(!held, "10 of 100 are spent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_logs_in_as_the_user_that_the_documentation_describes() {
    let server = Server::start(&[]);
    let rule = "on >sk-canary-redis-password ~users:* +@read +@write +@scripting +@connection +wait +info +cluster +time";
    let words: Vec<&str> = ["ACL", "SETUSER", "tollgate"]
        .into_iter()
        .chain(rule.split(' '))
        .collect();
    assert_eq!(server.ask(&words), "+OK\r\n");
    server.ask(&["ACL", "SETUSER", "default", "off"]);
    let mut config = redis(server.port(), "users");
    config.username = Some("tollgate".to_owned());
    config.password = Some(tollgate_core::secret::Secret::new(
        b"sk-canary-redis-password".to_vec(),
    ));
    let replica = Replica::join("r1", config.clone(), true).await;
    works(&replica).await;
    config.password = Some(tollgate_core::secret::Secret::new(
        b"sk-canary-wrong".to_vec(),
    ));
    let dir = tempfile::tempdir().expect("a directory");
    let stranger = Replica::start_at("r2", config, true, dir);
    until_true("it says why", || stranger.fleet().state().fault.is_some()).await;
    let fault = stranger.fleet().state().fault.expect("a fault");
    assert!(!fault.contains("canary"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_speaks_tls_and_believes_the_authority_it_is_told() {
    let authority = Authority::new();
    let (certificate, key) = authority.pair("localhost");
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let (certificate, key) = (file("tls.crt", &certificate), file("tls.key", &key));
    let authorities = file("ca.crt", &authority.pem());
    let port = tollgate_testkit::redis::free_port();
    let _server = Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authorities,
        "--tls-auth-clients",
        "no",
    ]);
    let mut config = redis(port, "tls");
    config.nodes = vec![("localhost".to_owned(), port)];
    config.tls = true;
    config.ca_file = Some(authorities.into());
    let replica = Replica::join("r1", config.clone(), true).await;
    works(&replica).await;
    config.ca_file = Some(file("other.crt", &Authority::new().pem()).into());
    let stranger = Replica::start_at(
        "r2",
        config,
        true,
        tempfile::tempdir().expect("a directory"),
    );
    until_true("it says why", || stranger.fleet().state().fault.is_some()).await;
    assert!(!stranger.fleet().is_usable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_of_redis_that_is_put_forward_or_back_gives_one_burst_and_takes_none() {
    use tollgate_core::budget::Scope;
    use tollgate_core::rate::{Counted, Limit, Paced, RateKey, RateLimit, Size};
    let server = Server::start(&[]);
    let replica = Replica::join("r1", redis(server.port(), "clock"), false).await;
    let limit = Limit {
        key: RateKey {
            tenant: name("acme"),
            scope: Scope::Tenant,
            counted: Counted::Requests,
        },
        size: Size::Rate(RateLimit {
            per_minute: 600.try_into().expect("not zero"),
            burst: 20.try_into().expect("not zero"),
        }),
    };
    let mut next = 0;
    let mut admitted = async |calls: u32| {
        let mut admitted = 0;
        for _ in 0..calls {
            next += 1;
            let limits = std::slice::from_ref(&limit);
            let paced = replica
                .fleet()
                .rates()
                .admit(record_id(next), limits, 0)
                .await;
            admitted += u32::from(matches!(paced.expect("up"), Paced::Go(_)));
        }
        admitted
    };
    assert!(admitted(40).await >= 20);
    let key = "clock:{acme}:pace:tenant/requests_per_minute";
    // As if a day had passed at once: the bucket is full, and no fuller.
    server.ask(&["HSET", key, "at", "1000000"]);
    let after = admitted(60).await;
    assert!((20..40).contains(&after), "{after}");
    // As if it had been tomorrow: what flows in goes on from now, not from tomorrow on.
    server.ask(&["HSET", key, "at", "4000000000000000"]);
    assert!(admitted(1).await <= 1);
    tollgate_testkit::wait::eventually("it flows again", async || admitted(1).await == 1).await;
}
