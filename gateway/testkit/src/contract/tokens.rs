//! What every registry of task tokens must do.

use tollgate_core::identity::Caller;
use tollgate_core::ids::TenantId;
use tollgate_core::registry::{Liveness, Registered, Revocation};
use tollgate_core::time::Timestamp;

use super::{Stores, caller, name, now};

/// A token lives from its registration to its revocation, and only as what it was registered as.
pub async fn a_token_is_live_only_as_registered_and_until_revoked(stores: &dyn Stores) {
    let store = stores.registry();
    let live = |caller: &Caller| store.liveness(caller).expect("the store is up");
    let one = caller("reg-one", "bot", "task", "tok");
    assert_eq!(live(&one), Liveness::Unknown);
    assert_eq!(
        store.register(&one, None).await.expect("the store is up"),
        Registered::Live
    );
    assert_eq!(live(&one), Liveness::Live);
    for foreign in [
        caller("reg-other", "bot", "task", "tok"),
        caller("reg-one", "other", "task", "tok"),
        caller("reg-one", "bot", "other", "tok"),
    ] {
        assert_eq!(live(&foreign), Liveness::Unknown, "{foreign:?}");
    }
    let what = Revocation::Token {
        tenant: name("reg-one"),
        token: name("tok"),
    };
    let revoke = || store.revoke(&what, now());
    assert_eq!(revoke().await.expect("the store is up"), 1);
    assert_eq!(live(&one), Liveness::Revoked);
    assert_eq!(revoke().await.expect("the store is up"), 0, "only once");
    let again = store.register(&one, None).await.expect("the store is up");
    assert_eq!(
        again,
        Registered::IdTaken,
        "registering again does not undo a revocation"
    );
    assert_eq!(live(&one), Liveness::Revoked);
}

/// A task is over for good; an agent or a tenant is only emptied. Others see nothing of it.
pub async fn revocations_reach_what_they_name_and_nothing_else(stores: &dyn Stores) {
    let store = stores.registry();
    let tenant = || name::<TenantId>("reg-scopes");
    let one = caller("reg-scopes", "bot", "task-1", "tok-1");
    let two = caller("reg-scopes", "bot", "task-2", "tok-2");
    let three = caller("reg-scopes", "cat", "task-2", "tok-3");
    let other = caller("reg-bystander", "bot", "task-1", "tok-1");
    for caller in [&one, &two, &three, &other] {
        assert_eq!(
            store.register(caller, None).await.expect("the store is up"),
            Registered::Live
        );
    }
    let state = || [&one, &two, &three, &other].map(|c| store.liveness(c).expect("up"));
    use Liveness::{Live, Revoked};

    let task = Revocation::Task {
        tenant: tenant(),
        task: name("task-1"),
    };
    assert_eq!(store.revoke(&task, now()).await.expect("up"), 1);
    assert_eq!(state(), [Revoked, Live, Live, Live]);
    let late = caller("reg-scopes", "bot", "task-1", "tok-4");
    assert_eq!(
        store.register(&late, None).await.expect("up"),
        Registered::TaskComplete,
        "the task is over"
    );

    let agent = Revocation::Agent {
        tenant: tenant(),
        agent: name("bot"),
    };
    assert_eq!(store.revoke(&agent, now()).await.expect("up"), 1);
    assert_eq!(state(), [Revoked, Revoked, Live, Live]);
    let fresh = caller("reg-scopes", "bot", "task-2", "tok-5");
    assert_eq!(
        store.register(&fresh, None).await.expect("up"),
        Registered::Live
    );

    let all = Revocation::Tenant { tenant: tenant() };
    assert_eq!(store.revoke(&all, now()).await.expect("up"), 2);
    assert_eq!(state(), [Revoked, Revoked, Revoked, Live]);
    assert_eq!(store.liveness(&fresh).expect("up"), Revoked);
}

/// What was issued before its agent or tenant was revoked earns no token; what came later does.
pub async fn credentials_from_before_a_revocation_earn_no_token(stores: &dyn Stores) {
    let store = stores.registry();
    let tenant = || name::<TenantId>("reg-rests");
    let issued = |micros: i64| Some(Timestamp::from_micros(now().as_micros() + micros));
    let register = async |agent: &str, token: &str, rests_on| {
        let caller = caller("reg-rests", agent, "task", token);
        store.register(&caller, rests_on).await.expect("up")
    };
    assert_eq!(register("bot", "r-1", issued(-1)).await, Registered::Live);
    let agent = Revocation::Agent {
        tenant: tenant(),
        agent: name("bot"),
    };
    store.revoke(&agent, now()).await.expect("up");
    for before in [-1_000_000, -1, 0] {
        let registered = register("bot", "r-2", issued(before)).await;
        assert_eq!(registered, Registered::Revoked, "{before}");
    }
    assert_eq!(register("bot", "r-3", issued(1)).await, Registered::Live);
    assert_eq!(register("bot", "r-4", None).await, Registered::Live);
    assert_eq!(register("cat", "r-5", issued(-1)).await, Registered::Live);
    let all = Revocation::Tenant { tenant: tenant() };
    store.revoke(&all, now()).await.expect("up");
    assert_eq!(
        register("cat", "r-6", issued(-1)).await,
        Registered::Revoked
    );
    assert_eq!(register("cat", "r-7", issued(1)).await, Registered::Live);
}
