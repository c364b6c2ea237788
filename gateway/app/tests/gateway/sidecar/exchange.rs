//! The sidecar before the real exchange: a service account's token in, task tokens out.

use serde_json::json;
use tollgate_testkit::wait::{eventually, until_true};

use super::process::Sidecar;
use super::{CHAT, HANDLE, ask};
use crate::harness::{Ask, chat, key, outcome, text};
use crate::sdk::{python, run_at};
use crate::token_exchange::{Cluster, claims, now};

fn url(cluster: &Cluster) -> String {
    format!("http://{}", cluster.world.gateway.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_sdk_works_with_nothing_but_its_service_account() {
    let cluster = Cluster::new().await;
    let sidecar = Sidecar::ready(&url(&cluster), &cluster.token("acme", "bot"), &[]).await;
    run_at(&sidecar.url(), python("openai_python.py", "stream"), HANDLE).await;
    let bearer = format!("Bearer {}", key("acme", "openai"));
    for call in cluster.world.calls() {
        assert_eq!(call.header_values("authorization"), [bearer.as_str()]);
    }
    for record in cluster.world.gateway.site.records_when("acme", 2).await {
        assert_eq!(outcome(&record), "completed", "{record:#}");
        assert_eq!(text(&record, "tollgate.task.id"), "bot-7d9f", "{record:#}");
    }
}

/// A revoked token is replaced by another exchange; a revoked agent needs a credential that was
/// issued since.
#[tokio::test(flavor = "multi_thread")]
async fn case_31_a_revoked_agent_comes_back_with_a_newer_service_account_token_only() {
    let cluster = Cluster::new().await;
    let old = cluster.token("acme", "bot");
    let sidecar = Sidecar::ready(&url(&cluster), &old, &[]).await;
    let call: Ask = ask(&sidecar, "POST", CHAT).json(&chat());
    assert_eq!(call.send(sidecar.address).await.status, 200);
    let what = json!({"kind": "agent", "tenant": "acme", "agent": "bot"});
    cluster.world.gateway.revoke(&what).await;
    assert_eq!(call.send(sidecar.address).await.status, 401);
    until_true("it says so", || {
        sidecar.log().contains("it may have been revoked")
    })
    .await;
    assert_eq!(call.send(sidecar.address).await.status, 401);
    let mut newer = claims("acme", "bot");
    newer["iat"] = json!(now() + 1);
    sidecar.rotate(&cluster.key.sign(&newer));
    eventually("calls go through again", async || {
        call.send(sidecar.address).await.status == 200
    })
    .await;
}
