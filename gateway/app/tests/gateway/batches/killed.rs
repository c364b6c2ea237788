//! `kill -9` between any two steps of a batch.

use std::sync::Arc;

use tollgate_loadtest::mock::Mock;

use super::*;
use crate::harness::{Site, start_mock};

/// A mock, and a gateway on a directory that outlives it.
async fn mortal() -> (Mock, Arc<Site>) {
    let mock = start_mock().await;
    let site = Site::new();
    let mut plan = Plan::at(mock.addr());
    deferred_endpoints(&mut plan);
    plan.write(&site);
    (mock, site)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_a_batch_is_corrected_once_and_exactly() {
    let (_mock, site) = mortal().await;
    let mut gateway = site.serve().await;
    let file = {
        let acme = Client::new(&gateway, "acme").await;
        id(&acme.send(upload(&input("gpt-4.1"), "batch")).await)
    };
    gateway.kill();

    let mut gateway = site.serve().await;
    let batch = {
        let acme = Client::new(&gateway, "acme").await;
        id(&acme.send(start(&file)).await)
    };
    gateway.kill();

    let mut gateway = site.serve().await;
    let output = {
        let acme = Client::new(&gateway, "acme").await;
        acme.output_of(&batch).await
    };
    gateway.kill();

    // The kill comes right after the fetch, whose correction may or may not have been written.
    let mut gateway = site.serve().await;
    let bound = settled(&gateway, "acme").await;
    assert!(bound > usd(USED));
    {
        let acme = Client::new(&gateway, "acme").await;
        assert_eq!(acme.send(content(&output)).await.status, 200);
    }
    gateway.kill();

    for fetches in 0..3_usize {
        let mut gateway = site.serve().await;
        let acme = Client::new(&gateway, "acme").await;
        assert_eq!(acme.send(content(&output)).await.status, 200);
        assert_eq!(settled(&gateway, "acme").await, usd(USED), "{fetches}");
        let records = site.records_when("acme", 5 + fetches).await;
        assert_eq!(sum(&records), usd(USED), "{records:#?}");
        gateway.kill();
    }
}
