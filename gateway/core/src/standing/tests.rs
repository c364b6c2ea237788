use proptest::prelude::*;

use super::*;
use crate::policy::parse::{PolicyFile, parse};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn usd(text: &str) -> PicoUsd {
    text.parse().expect("money")
}

fn tenant(more: &str) -> Tenant {
    let file = PolicyFile {
        path: "tenants/acme.toml".to_owned(),
        text: format!(
            "[tenant]\nid = \"acme\"\n[caps]\ndaily_usd = \"10\"\ntask_usd = \"1\"\n\
             [agents.bot]\nmonthly_usd = \"5\"\n[agents.other]\ndaily_usd = \"4\"\n\
             [models.\"gpt-5*\"]\ndaily_usd = \"2\"\n{more}"
        ),
    };
    let policy = parse(&[file]).expect("a policy");
    Tenant::clone(&policy.tenants["acme"])
}

#[test]
fn the_time_at_which_a_limit_is_reached_is_where_the_pace_leads() {
    let (now, midnight) = (at("2026-11-23T22:00:00Z"), at("2026-11-24T00:00:00Z"));
    let ahead =
        |limit, settled, pace, end| Reach::ahead(usd(limit), usd(settled), usd(pace), end, now);
    let end = Some(midnight);
    assert_eq!(ahead("10", "10", "1", end), Reach::Reached);
    assert_eq!(
        ahead("0", "0", "0", end),
        Reach::Reached,
        "a cap of zero blocks"
    );
    assert_eq!(
        ahead("10", "9", "1", end),
        Reach::At(at("2026-11-23T23:00:00Z"))
    );
    assert_eq!(
        ahead("10", "8", "1", end),
        Reach::NotBeforeReset,
        "just then"
    );
    assert_eq!(ahead("10", "8", "1", None), Reach::At(midnight));
    assert_eq!(ahead("10", "8", "0", end), Reach::Never);
    assert_eq!(ahead("10", "8", "-1", None), Reach::Never);
    let crawl = "0.000000000001";
    assert_eq!(ahead("99999999", "8", crawl, end), Reach::NotBeforeReset);
    assert_eq!(
        ahead("99999999", "8", crawl, None),
        Reach::Never,
        "no calendar has it"
    );
    // A third of an hour is not a whole number of microseconds of the last digit: rounded up.
    let Reach::At(then) = ahead("1", "0", "3.000000000001", end) else {
        panic!("it is reached");
    };
    assert_eq!(then, at("2026-11-23T22:20:00Z"));
}

#[test]
fn a_standing_says_all_that_is_known_of_a_cap() {
    let key = "acme/agent=bot/day:2026-11-23".parse().expect("a key");
    let balance = Balance {
        settled: usd("2.5"),
        reserved: usd("1"),
    };
    let pace = Pace {
        five_minutes: usd("5"),
        hour: usd("0.1"),
    };
    let standing = Standing::new(key, usd("5"), balance, pace, at("2026-11-23T12:00:00Z"));
    let expected = serde_json::json!({
        "key": "acme/agent=bot/day:2026-11-23",
        "limit_usd": "5", "settled_usd": "2.5", "reserved_usd": "1", "remaining_usd": "1.5",
        "resets_at": "2026-11-24T00:00:00.000000Z",
        "burn": {
            "last_5_minutes": {"usd_per_hour": "5", "reaches_limit": "at",
                "reaches_limit_at": "2026-11-23T12:30:00.000000Z"},
            "last_hour": {"usd_per_hour": "0.1", "reaches_limit": "not_before_reset",
                "reaches_limit_at": null},
        },
    });
    assert_eq!(serde_json::to_value(standing).expect("JSON"), expected);
}

#[test]
fn an_agent_sees_its_own_counters_and_a_reader_all_of_them() {
    let seen = |tenant: &Tenant, agent: &str| -> Vec<String> {
        let task: TaskId = "t-1".parse().expect("a task");
        let view = View::of(tenant, &agent.parse().expect("an agent"), &task);
        let other: TaskId = "t-2".parse().expect("a task");
        caps_in_force(tenant, [&task, &other], at("2026-11-23T12:00:00Z"))
            .into_iter()
            .filter(|cap| view.shows(&cap.key.scope))
            .map(|cap| cap.key.to_string())
            .collect()
    };
    let own = ["acme/agent=bot/month:2026-11", "acme/task=t-1/total"];
    let all = [
        "acme/tenant/day:2026-11-23",
        "acme/agent=bot/month:2026-11",
        "acme/agent=other/day:2026-11-23",
        "acme/model=gpt-5*/day:2026-11-23",
        "acme/task=t-1/total",
        "acme/task=t-2/total",
    ];
    let nobody_reads = tenant("");
    assert_eq!(
        seen(&nobody_reads, "bot"),
        own,
        "an empty list lets nobody read"
    );
    let finance_reads = tenant("[usage]\nreaders = [\"finance-*\"]\n");
    assert_eq!(seen(&finance_reads, "bot"), own);
    assert_eq!(seen(&finance_reads, "finance-1"), all);
}

proptest! {
    /// At the time named the limit is reached at that pace, and a microsecond before it is not.
    #[test]
    fn a_limit_is_reached_at_the_time_named_and_not_before(
        left in 1_i128..1_000_000_000_000_000, pace in 1_i128..1_000_000_000_000_000,
    ) {
        let now = at("2026-11-23T12:00:00Z");
        let reach = Reach::ahead(PicoUsd::new(left), PicoUsd::ZERO, PicoUsd::new(pace), None, now);
        if let Reach::At(then) = reach {
            let micros = i128::from(then.as_micros() - now.as_micros());
            prop_assert!(micros * pace >= left * 3_600_000_000);
            prop_assert!((micros - 1) * pace < left * 3_600_000_000);
        } else {
            prop_assert_eq!(reach, Reach::Never);
        }
    }
}
