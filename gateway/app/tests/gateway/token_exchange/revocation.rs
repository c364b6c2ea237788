//! A revocation also ends what was issued before it elsewhere and could still be exchanged.

use serde_json::{Value, json};

use super::{Cluster, call, claims, now};

/// A token issued a moment after now: later than any revocation so far.
fn newer(cluster: &Cluster, namespace: &str) -> String {
    let mut claims = claims(namespace, "bot");
    claims["iat"] = json!(now() + 2);
    claims["nbf"] = json!(now() + 2);
    cluster.key.sign(&claims)
}

async fn older_tokens_are_refused_and_newer_good(what: Value) {
    let cluster = Cluster::new().await;
    let older = cluster.token("acme", "bot");
    let task_token = cluster.exchanged(&older).await;
    cluster.world.gateway.revoke(&what).await;
    assert_eq!(call(&cluster.world, &task_token).await.status, 401);
    let answer = cluster.exchange(&older).await;
    cluster.is_refused(&answer, "token_revoked").await;
    cluster.world.assert_no_contact();
    // Others see no difference, and what is issued from now on is good.
    cluster.exchanged(&cluster.token("globex", "bot")).await;
    let token = cluster.exchanged(&newer(&cluster, "acme")).await;
    assert_eq!(call(&cluster.world, &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_31_a_revoked_agents_older_tokens_are_not_exchanged() {
    let what = json!({"kind": "agent", "tenant": "acme", "agent": "bot"});
    older_tokens_are_refused_and_newer_good(what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_31_a_revoked_tenants_older_tokens_are_not_exchanged() {
    let what = json!({"kind": "tenant", "tenant": "acme"});
    older_tokens_are_refused_and_newer_good(what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_31_no_token_is_given_out_for_a_complete_task() {
    let cluster = Cluster::new().await;
    let what = json!({"kind": "task", "tenant": "acme", "task": "bot-7d9f"});
    cluster.world.gateway.revoke(&what).await;
    for token in [cluster.token("acme", "bot"), newer(&cluster, "acme")] {
        let answer = cluster.exchange(&token).await;
        cluster.is_refused(&answer, "task_complete").await;
    }
    cluster.world.assert_no_contact();
}
