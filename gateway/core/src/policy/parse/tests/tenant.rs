//! Caps, limits and clamp, of the tenant and of its parts.

use super::*;
use crate::policy::{Clamp, ObjectLock, Retention, Tenant};
use crate::rate::RateLimit;

fn tenant(text: &str) -> Arc<Tenant> {
    let text = format!("[tenant]\nid = \"acme\"\n{text}");
    let files = [openai(), file("policies/tenants/acme.toml", &text)];
    let policy = parse(&files).expect("a policy");
    Arc::clone(&policy.tenants["acme"])
}

fn rate(limit: Option<RateLimit>) -> Option<(u64, u64)> {
    limit.map(|limit| (limit.per_minute.get(), limit.burst.get()))
}

#[test]
fn limits_are_read_for_the_tenant_its_agents_and_its_models() {
    let acme = tenant(
        r#"
[limits]
requests_per_minute = 601
tokens_per_minute = 90_000
token_burst = 30_000
concurrent_requests = 8
[agents.bot]
tokens_per_minute = 5
[models."gpt-5*"]
daily_usd = "3"
requests_per_minute = 7
burst = 9
[models."meta-llama/Llama-3"]
concurrent_requests = 1
"#,
    );
    assert_eq!(rate(acme.limits.requests), Some((601, 61)), "a tenth");
    assert_eq!(rate(acme.limits.tokens), Some((90_000, 30_000)));
    assert_eq!(acme.limits.concurrent.map(|most| most.get()), Some(8));
    let bot = acme.agents["bot"];
    assert_eq!(rate(bot.limits.tokens), Some((5, 1)), "at least one");
    assert_eq!((bot.limits.requests, bot.caps.daily), (None, None));
    let models: Vec<String> = acme.models.iter().map(|(p, _)| p.to_string()).collect();
    assert_eq!(models, ["gpt-5*", "meta-llama/Llama-3"]);
    let (_, gpt) = &acme.models[0];
    assert_eq!(gpt.caps.daily, usd("3"));
    assert_eq!(rate(gpt.limits.requests), Some((7, 9)));
    let plain = tenant("");
    assert_eq!(plain.limits, crate::rate::Limits::default());
    assert!(plain.models.is_empty());
}

#[test]
fn an_agent_is_locked_out_by_its_own_table_alone() {
    let acme = tenant(
        "[agents.bot]\nenabled = false\ndaily_usd = \"1\"\n[agents.cat]\nenabled = true\n[agents.dog]\n",
    );
    let disabled: Vec<&str> = acme.disabled_agents.iter().map(|id| id.as_str()).collect();
    assert_eq!(disabled, ["bot"]);
    assert_eq!(
        acme.agents["bot"].caps.daily,
        usd("1"),
        "and keeps its limits"
    );
    let said = tenant_mistakes("[tenant]\nid = \"acme\"\n[agents.bot]\nenabled = \"no\"\n");
    assert!(
        said.contains("4:11: `enabled` must be true or false"),
        "{said}"
    );
}

#[test]
fn clamp_is_off_unless_its_table_is_there() {
    assert_eq!(tenant("").clamp, None);
    let affordable = Clamp {
        max_output_tokens: None,
    };
    assert_eq!(tenant("[clamp]\n").clamp, Some(affordable));
    let ceiling = Clamp {
        max_output_tokens: Some(4_096),
    };
    let clamp = tenant("[clamp]\nmax_output_tokens = 4096\n").clamp;
    assert_eq!(clamp, Some(ceiling));
}

#[test]
fn shares_are_sorted_once_each_and_may_be_none() {
    let shares = |text: &str| tenant(&format!("[caps]\n{text}")).notify_percent.clone();
    assert_eq!(shares(""), [50, 80, 100]);
    assert_eq!(shares("notify_percent = [90, 10, 90]\n"), [10, 90]);
    assert!(shares("notify_percent = []\n").is_empty());
}

#[test]
fn limits_that_make_no_sense_are_mistakes() {
    let said = tenant_mistakes(
        r#"[tenant]
id = "acme"
[limits]
tokens_per_minute = 0
token_burst = 5
concurrent_requests = 0
[agents.bot]
burst = 3
[models."gpt*5"]
daily_usd = "1"
[models.gpt-5]
per_minute = 1
[clamp]
max_output_tokens = 0
"#,
    );
    for expected in [
        "4:21: `tokens_per_minute` must be a whole number from 1 to 1000000000, not 0",
        "6:23: `concurrent_requests` must be a whole number from 1 to 1000000, not 0",
        "8:9: `burst` says how many may come at once under `requests_per_minute`, which is missing",
        "`gpt*5` cannot be used here: a name pattern is a name",
        "has no key `per_minute`",
        "14:21: `max_output_tokens` must be a whole number from 1 to 10000000, not 0",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(said.lines().count(), 6, "{said}");
}

#[test]
fn records_are_kept_for_good_unless_a_time_is_stated_and_locked_only_with_one() {
    let plain = tenant("");
    assert_eq!(plain.records, Retention::default());
    assert!(plain.usage_readers.is_empty());
    let kept = tenant(
        "[records]\nretention_days = 400\nlock = \"compliance\"\n[usage]\nreaders = [\"finance-*\"]\n",
    );
    assert_eq!(kept.records.days, Some(400));
    assert_eq!(kept.records.lock, Some(ObjectLock::Compliance));
    assert_eq!(kept.usage_readers.len(), 1);
    let text = "[tenant]\nid = \"acme\"\n[records]\nlock = \"governance\"\n";
    let files = [openai(), file("policies/tenants/acme.toml", text)];
    let mistakes = parse(&files).expect_err("no time");
    assert!(
        mistakes[0].message.contains("retention_days"),
        "{mistakes:?}"
    );
}
