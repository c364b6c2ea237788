//! Whose sealed tokens are whose, for how long, and how many are kept.

use tollgate_core::policy::Upstream;

use super::*;
use crate::fakes;

fn caller_of(tenant: &str, task: &str) -> Caller {
    Caller {
        tenant: tenant.parse().unwrap(),
        task: task.parse().unwrap(),
        ..Caller::clone(&fakes::caller())
    }
}

fn provider() -> Provider {
    Provider {
        name: "github".parse().unwrap(),
        upstream: Upstream {
            tls: true,
            host: "api.example".to_owned(),
            port: 443,
            base_path: String::new(),
            ca_file: None,
            http2: true,
            insecure_plain_http: false,
        },
        address: "api.example:443".into(),
        dialect: tollgate_core::policy::Dialect::Http,
        prices: None,
        place: Some(Place::Basic),
        endpoints: tollgate_core::policy::Endpoints::default(),
        aliases: std::collections::BTreeMap::new(),
        asks_for_usage: true,
    }
}

fn keep(store: &SealedTokens, caller: &Caller, number: usize, life: Duration) -> HandleName {
    let name = new_name().unwrap();
    let secret = Secret::new(format!("sk-canary-{number}").into_bytes());
    store.keep(caller, &name, secret, life, &[(&provider(), &Place::Basic)]);
    name
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn names_are_long_and_never_the_same() {
    let names = [new_name().unwrap(), new_name().unwrap()];
    assert_ne!(names[0], names[1]);
    assert_eq!(names[0].as_str().len(), SEALED_PREFIX.len() + 32);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_its_tasks_until_it_expires() {
    let store = SealedTokens::default();
    let mine = caller_of("acme", "t1");
    let name = keep(&store, &mine, 1, HOUR);
    let github = provider().name;
    assert_eq!(store.credentials(&mine, &github)[0].name, name);
    assert_eq!(
        store.fetch(&mine, &name).unwrap().secret.expose(),
        b"sk-canary-1"
    );
    for other in [caller_of("acme", "t2"), caller_of("globex", "t1")] {
        assert!(store.fetch(&other, &name).is_none());
        assert!(store.credentials(&other, &github).is_empty());
    }
    let elsewhere: ProviderName = "gitlab".parse().unwrap();
    assert!(store.credentials(&mine, &elsewhere).is_empty());
    tokio::time::advance(HOUR).await;
    assert!(store.fetch(&mine, &name).is_none());
    assert!(store.credentials(&mine, &github).is_empty());
    assert!(store.tenants().is_empty(), "nothing is left");
}

#[test]
fn the_oldest_of_a_task_makes_room_and_no_other_tasks() {
    let store = SealedTokens::default();
    let (mine, others) = (caller_of("acme", "t1"), caller_of("acme", "t2"));
    let kept = keep(&store, &others, 0, HOUR);
    let names: Vec<_> = (0..MAX_OF_TASK + 3)
        .map(|number| keep(&store, &mine, number, HOUR))
        .collect();
    assert!(store.fetch(&mine, &names[2]).is_none());
    assert!(store.fetch(&mine, &names[3]).is_some());
    assert!(store.fetch(&others, &kept).is_some());
}

#[test]
fn a_tenants_tokens_are_bounded_and_another_tenants_stay() {
    let store = SealedTokens::default();
    let other = caller_of("globex", "t");
    let kept = keep(&store, &other, 0, HOUR);
    for number in 0..MAX_OF_TENANT + 10 {
        keep(
            &store,
            &caller_of("acme", &format!("t{number}")),
            number,
            HOUR,
        );
    }
    assert_eq!(
        store.tenants()[&caller_of("acme", "t").tenant].len(),
        MAX_OF_TENANT
    );
    assert!(store.fetch(&other, &kept).is_some());
}
