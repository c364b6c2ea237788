//! The usual set-up: two tenants, three providers at one mock, a gateway between them.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use tollgate_loadtest::mock::{Mock, SeenRequest};
use tollgate_testkit::raw::{Answer, Raw};

use super::client::Ask;
use super::plan::Plan;
use super::process::{Gateway, Site};

/// A running gateway in front of a running mock.
pub(crate) struct World {
    /// The process.
    pub(crate) gateway: Gateway,
    /// The provider behind it.
    pub(crate) mock: Mock,
}

impl World {
    /// The usual set-up.
    pub(crate) async fn new() -> Self {
        Self::planned(|_| {}).await
    }

    /// The usual set-up with changes.
    pub(crate) async fn planned(change: impl FnOnce(&mut Plan)) -> Self {
        let mock = start_mock().await;
        let mut plan = Plan::at(mock.addr());
        change(&mut plan);
        let site = Site::new();
        plan.write(&site);
        let gateway = site.serve().await;
        Self { gateway, mock }
    }

    /// The usual set-up, on a disk that [`Gateway::fill_disk`] fills.
    pub(crate) async fn on_small_disk() -> Self {
        let mock = start_mock().await;
        let site = Site::new();
        Plan::at(mock.addr()).write(&site);
        let gateway = site.serve_on_small_disk().await;
        Self { gateway, mock }
    }

    /// A token of a tenant's usual agent for its usual task.
    pub(crate) async fn token(&self, tenant: &str) -> String {
        self.gateway.mint(tenant, "a1", "t1").await
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, ask: &Ask) -> Answer {
        ask.send(self.gateway.address).await
    }

    /// Sends bytes on a connection of its own; `None` if it ends without an answer.
    pub(crate) async fn send_raw(&self, request: &str) -> Option<Answer> {
        let mut raw = Raw::connect(self.gateway.address).await;
        raw.send(request).await;
        raw.answer().await
    }

    /// The record of an answer to `tenant`.
    pub(crate) async fn record_of(&self, tenant: &str, answer: &Answer) -> Value {
        let id = answer.header("x-tollgate-request-id").expect("an id");
        self.gateway.site.record(tenant, id).await
    }

    /// Every request that has reached the provider.
    pub(crate) fn calls(&self) -> Vec<SeenRequest> {
        self.mock.seen()
    }

    /// The one request that has reached the provider.
    #[track_caller]
    pub(crate) fn only_call(&self) -> SeenRequest {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:#?}");
        calls.remove(0)
    }

    /// Fails if anything has ever connected to the provider.
    #[track_caller]
    pub(crate) fn assert_no_contact(&self) {
        assert_eq!(self.mock.connections(), 0, "something reached the provider");
    }
}

/// A mock provider that speaks plain HTTP.
pub(crate) async fn start_mock() -> Mock {
    Mock::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap()
}

/// The key of a tenant for a provider in the usual set-up.
pub(crate) fn key(tenant: &str, provider: &str) -> String {
    format!("sk-canary-{tenant}-{provider}-4f1c9e7ab2")
}

/// The kept part of a request's body, as text.
pub(crate) fn body_text(seen: &SeenRequest) -> String {
    String::from_utf8(seen.body.to_vec()).unwrap()
}
