//! Policies that change under load, for better and for worse.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, Plan, World, chat, key};

const CHAT: &str = "/openai/v1/chat/completions";

/// Callers that go on all the while.
const CALLERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn case_91_under_load_no_bad_half_written_or_removed_line_opens_anything() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (ask, over, address) = (ask.clone(), Arc::clone(&over), world.gateway.address);
            tokio::spawn(async move {
                let mut statuses = BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    statuses.insert(ask.send(address).await.status);
                }
                statuses
            })
        })
        .collect();
    let site = &world.gateway.site;
    let kept = "tollgate_policy_reloads_total{result=\"kept\"}";
    let good = Plan::at(world.mock.addr()).tenant("acme").text("acme");
    for broken in [
        good.replace("[caps]", "[cups]"),
        good[..good.len() * 2 / 3].to_owned() + "\n[credentials",
        String::new(),
    ] {
        let before = world.gateway.metric(kept).await;
        site.write_policy("tenants/acme.toml", &broken);
        eventually("the mistake is counted", async || {
            world.gateway.metric(kept).await > before
        })
        .await;
        assert_eq!(
            world.send(&ask).await.status,
            200,
            "the last good one holds"
        );
    }
    // A binding that is gone is gone, and no call goes out bare or with another key meanwhile.
    let mut plan = Plan::at(world.mock.addr());
    plan.tenant("acme").credentials = String::new();
    site.write_policy("tenants/acme.toml", &plan.tenant("acme").text("acme"));
    eventually("the binding is gone", async || {
        world.send(&ask).await.status == 403
    })
    .await;
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        let statuses = caller.await.unwrap();
        assert!(
            statuses.is_subset(&BTreeSet::from([200, 403])),
            "{statuses:?}"
        );
    }
    let bearer = format!("Bearer {}", key("acme", "openai"));
    for call in world.calls() {
        assert_eq!(call.header("authorization"), Some(bearer.clone()));
    }
}
