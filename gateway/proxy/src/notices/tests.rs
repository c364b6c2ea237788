use tollgate_core::identity::KeySet;

use super::*;
use crate::fakes::snapshot;

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
