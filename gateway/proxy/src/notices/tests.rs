use std::sync::Mutex;

use async_trait::async_trait;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::KeySet;
use tollgate_core::refusal::Refusal;

use super::*;
use crate::fakes::{gateway, noon, snapshot};

const TENANT: &str = r#"
[tenant]
id = "acme"
[caps]
daily_usd = "10"
task_usd = "1"
[agents.bot]
monthly_usd = "5"
[models."gpt-5*"]
daily_usd = "2"
"#;

fn keys(now: &str) -> Vec<String> {
    let live = snapshot(TENANT, KeySet::new("tollgate"));
    let tenant = &live.policy.tenants["acme"];
    let task = "t-1".parse().unwrap();
    capped(tenant, [&task].into_iter(), now.parse().unwrap())
        .iter()
        .map(|budget| budget.key.to_string())
        .collect()
}

#[test]
fn every_cap_of_a_tenant_is_looked_at() {
    assert_eq!(
        keys("2026-11-23T12:00:00Z"),
        [
            "acme/tenant/day:2026-11-23",
            "acme/agent=bot/month:2026-11",
            "acme/model=gpt-5*/day:2026-11-23",
            "acme/task=t-1/total",
        ]
    );
}

#[test]
fn shortly_after_midnight_the_window_before_is_looked_at_too() {
    assert_eq!(
        keys("2026-12-01T00:10:00Z"),
        [
            "acme/tenant/day:2026-12-01",
            "acme/tenant/day:2026-11-30",
            "acme/agent=bot/month:2026-12",
            "acme/agent=bot/month:2026-11",
            "acme/model=gpt-5*/day:2026-12-01",
            "acme/model=gpt-5*/day:2026-11-30",
            "acme/task=t-1/total",
        ]
    );
}

/// A book that takes nothing the first few times.
struct Stubborn {
    refuses: Mutex<u8>,
    kept: Mutex<Vec<Notice>>,
}

#[async_trait]
impl NoticeBook for Stubborn {
    async fn keep(&self, notice: &Notice) -> Result<bool, StoreError> {
        let mut left = self.refuses.lock().unwrap();
        if let Some(fewer) = left.checked_sub(1) {
            *left = fewer;
            return Err(StoreError {
                operation: "keep",
                store: "fake",
                cause: "it is down".into(),
            });
        }
        self.kept.lock().unwrap().push(notice.clone());
        Ok(true)
    }

    async fn unsent(&self) -> Result<Vec<Notice>, StoreError> {
        Ok(Vec::new())
    }

    async fn sent(&self, _id: RecordId) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_cannot_be_kept_is_given_again_until_it_is() {
    let (gw, _stores) = gateway(snapshot(TENANT, KeySet::new("tollgate")));
    let key: BudgetKey = "acme/tenant/day:2026-11-23".parse().unwrap();
    let limit = PicoUsd::new(10);
    gw.caps.refused(&Refusal::CapReached {
        key: key.clone(),
        limit,
        balance: Balance {
            settled: limit,
            ..Balance::default()
        },
        resets_at: Some(noon()),
    });
    let book = Arc::new(Stubborn {
        refuses: Mutex::new(2),
        kept: Mutex::default(),
    });
    let watching = watch(gw, Arc::clone(&book) as Arc<dyn NoticeBook>, None);
    let _still_watching = tokio::time::timeout(Duration::from_secs(10), watching).await;
    let kept = book.kept.lock().unwrap();
    let shares: Vec<_> = kept.iter().map(|n| (&n.key, n.percent)).collect();
    assert_eq!(shares, [(&key, 100)]);
}

/// Whoever spends, and gets back, is followed by what was settled, and noticed for what was spent.
#[tokio::test(start_paused = true)]
async fn what_is_settled_is_seen_in_the_rates_a_moment_later() {
    let (gw, _stores) = gateway(snapshot(TENANT, KeySet::new("tollgate")));
    let key = |text: &str| -> BudgetKey { text.parse().unwrap() };
    let day = || {
        let keys = ["acme/tenant/day:2026-11-23", "acme/tenant/month:2026-11"];
        keys.map(key).into_iter().collect()
    };
    gw.caps.settled(day(), PicoUsd::new(120));
    gw.caps
        .settled(vec![key("acme/task=t-1/total")].into(), PicoUsd::new(-60));
    gw.caps.settled(day(), PicoUsd::ZERO);
    let marks = gw.caps.take();
    let spenders = marks.spenders();
    let tenant = "acme".parse().unwrap();
    assert_eq!(spenders.len(), 1);
    assert!(
        spenders[&tenant].is_empty(),
        "what is given back is no news of a cap"
    );
    let paces = gw.caps.paces(&tenant);
    let hours: Vec<(String, i128)> = paces
        .iter()
        .map(|(scope, pace)| (scope.to_string(), pace.hour.as_pico()))
        .collect();
    let expected = [("tenant", 7_200), ("task=t-1", -3_600)];
    assert_eq!(
        hours,
        expected.map(|(scope, hour)| (scope.to_owned(), hour))
    );
}
