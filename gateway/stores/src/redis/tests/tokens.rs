//! One table of tokens for several replicas.

use tollgate_core::registry::{Liveness, Registered, Revocation};
use tollgate_testkit::contract::caller;
use tollgate_testkit::wait::eventually;

use super::fleet::{alone, pair, put_together_after};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_one_replica_is_known_to_all_and_a_revocation_ends_it_everywhere() {
    let redis = redis(SERVER.port(), "tokens");
    let [one, two] = pair(&redis, true).await;
    let (first, second) = (&one.fleet().registry, &two.fleet().registry);
    let token = caller("acme", "bot", "task", "tok");
    let said = first.register(&token, None).await.expect("up");
    assert_eq!(said, Registered::Live);
    assert_eq!(second.liveness(&token).expect("fresh"), Liveness::Unknown);
    assert_eq!(second.look_up(&token).await.expect("up"), Liveness::Live);
    assert_eq!(second.liveness(&token).expect("fresh"), Liveness::Live);
    let foreign = caller("acme", "other", "task", "tok");
    assert_eq!(
        second.look_up(&foreign).await.expect("up"),
        Liveness::Unknown
    );
    let what = Revocation::Agent {
        tenant: name("acme"),
        agent: name("bot"),
    };
    assert_eq!(first.revoke(&what, now()).await.expect("up"), 1);
    // Minted right after it, elsewhere: the news of the revocation has yet to arrive there.
    let later = caller("acme", "bot", "task", "later");
    assert_eq!(
        second.register(&later, None).await.expect("up"),
        Registered::Live
    );
    eventually("the other replica knows", async || {
        second.liveness(&token).expect("fresh") == Liveness::Revoked
    })
    .await;
    for registry in [first, second] {
        assert_eq!(registry.look_up(&later).await.expect("up"), Liveness::Live);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_stays_revoked_when_redis_forgets() {
    let server = alone();
    let redis = redis(server.port(), "forgets");
    let [one, two] = pair(&redis, true).await;
    let (first, second) = (&one.fleet().registry, &two.fleet().registry);
    let live = caller("acme", "bot", "going-on", "live");
    let ended = caller("acme", "bot", "over", "ended");
    for token in [&live, &ended] {
        assert_eq!(
            first.register(token, None).await.expect("up"),
            Registered::Live
        );
        assert_eq!(second.look_up(token).await.expect("up"), Liveness::Live);
    }
    let what = Revocation::Task {
        tenant: name("acme"),
        task: name("over"),
    };
    assert_eq!(first.revoke(&what, now()).await.expect("up"), 1);
    let epoch = one.fleet().state().epoch;
    server.ask(&["FLUSHALL"]);
    put_together_after(&epoch, &[&one, &two]).await;
    assert_eq!(second.look_up(&live).await.expect("up"), Liveness::Live);
    for registry in [first, second] {
        let liveness = registry.look_up(&ended).await.expect("up");
        assert_ne!(liveness, Liveness::Live);
    }
    let again = caller("acme", "bot", "over", "again");
    let said = second.register(&again, None).await.expect("up");
    assert_eq!(said, Registered::TaskComplete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_word_from_redis_for_a_second_nobody_is_let_in() {
    let server = alone();
    let replica = Replica::join("r1", redis(server.port(), "stale"), true).await;
    let registry = &replica.fleet().registry;
    let token = caller("acme", "bot", "task", "tok");
    assert_eq!(
        registry.register(&token, None).await.expect("up"),
        Registered::Live
    );
    server.freeze();
    until_true("it says so", || registry.liveness(&token).is_err()).await;
    server.thaw();
    until_true("it lets in again", || {
        registry
            .liveness(&token)
            .is_ok_and(|liveness| liveness == Liveness::Live)
    })
    .await;
}
