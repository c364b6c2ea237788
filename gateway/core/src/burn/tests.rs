use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const USD: i128 = 1_000_000_000_000;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn usd(dollars: i128) -> PicoUsd {
    PicoUsd::new(dollars * USD)
}

fn key(text: &str) -> BudgetKey {
    text.parse().expect(text)
}

fn paces(burns: &Burns, tenant: &str, now: u64) -> BTreeMap<String, Pace> {
    let of = burns.of(&tenant.parse().expect("a tenant"), at(now));
    of.into_iter()
        .map(|(scope, pace)| (scope.to_string(), pace))
        .collect()
}

#[test]
fn a_rate_is_what_was_settled_over_the_time_that_it_was_settled_in() {
    let mut burn = Burn::default();
    // A dollar every ten seconds for two hours.
    for step in 0..720 {
        burn.add(at(step * 10), usd(1));
    }
    // At the end of a step all of its time and money count.
    let full = burn.pace(at(7_199) + Duration::from_micros(999_999));
    let rounded = |pace: PicoUsd| (pace.as_pico() + USD / 2) / USD;
    assert_eq!((rounded(full.five_minutes), rounded(full.hour)), (360, 360));
    // Five minutes later the fine rate is gone, the hour's is not.
    let later = burn.pace(at(7_500));
    assert_eq!(later.five_minutes, PicoUsd::ZERO);
    assert!(later.hour > usd(320) && later.hour < usd(340), "{later:?}");
    assert!(!burn.is_at_rest(at(10_739)));
    assert!(burn.is_at_rest(at(10_800)));
    assert_eq!(burn.pace(at(10_800)), Pace::default());
}

#[test]
fn after_a_start_the_rate_is_over_the_time_watched_and_never_less_than_a_minute() {
    let mut burn = Burn::default();
    burn.add(at(1), usd(1));
    assert_eq!(burn.pace(at(2)).five_minutes, usd(60));
    assert_eq!(burn.pace(at(60)).five_minutes, usd(60));
    assert_eq!(burn.pace(at(120)).five_minutes, usd(30));
    assert_eq!(burn.pace(at(120)).hour, usd(30));
}

#[test]
fn what_is_given_back_slows_the_rate_and_may_turn_it() {
    let mut burn = Burn::default();
    burn.add(at(0), usd(3));
    burn.add(at(100), usd(-2));
    assert_eq!(burn.pace(at(120)).hour, usd(30));
    burn.add(at(110), usd(-2));
    assert_eq!(burn.pace(at(120)).hour, usd(-30));
}

#[test]
fn a_scope_with_several_windows_is_charged_once_also_over_midnight() {
    let mut burns = Burns::default();
    for day in ["2026-11-30", "2026-12-01"] {
        let month = &day[..7];
        let keys = [
            key("acme/task=t/total"),
            key(&format!("acme/tenant/month:{month}")),
            key(&format!("acme/tenant/day:{day}")),
            key(&format!("acme/agent=bot/day:{day}")),
        ];
        burns.settled(&keys, usd(1), at(100));
    }
    burns.settled(&[key("globex/tenant/day:2026-12-01")], usd(9), at(100));
    let paces = paces(&burns, "acme", 120);
    let names: Vec<&str> = paces.keys().map(String::as_str).collect();
    assert_eq!(names, ["agent=bot", "task=t", "tenant"]);
    assert!(paces.values().all(|pace| pace.hour == usd(60)), "{paces:?}");
}

#[test]
fn scopes_at_rest_are_forgotten_and_make_room_for_new_tasks() {
    let mut burns = Burns::default();
    for task in 0..=MOST_TASKS {
        let keys = [
            key(&format!("acme/task=t{task}/total")),
            key("acme/tenant/day:2026-11-23"),
        ];
        burns.settled(&keys, PicoUsd::new(1), at(0));
    }
    assert_eq!(paces(&burns, "acme", 1).len(), MOST_TASKS + 1);
    burns.settled(&[key("globex/task=late/total")], usd(1), at(3_599));
    assert_eq!(paces(&burns, "globex", 3_600).len(), 0, "there was no room");
    burns.settled(&[key("globex/task=late/total")], usd(1), at(3_660));
    assert_eq!(paces(&burns, "globex", 3_661).len(), 1);
    assert_eq!(paces(&burns, "acme", 3_661).len(), 0);
    assert_eq!(burns.tenants.len(), 1);
}

#[test]
fn tasks_are_named_in_the_order_of_their_pace() {
    let mut burns = Burns::default();
    for (task, cost) in [("slow", 1), ("fast", 3), ("back", -1)] {
        burns.settled(&[key(&format!("acme/task={task}/total"))], usd(cost), at(0));
    }
    burns.settled(&[key("acme/tenant/day:2026-11-23")], usd(9), at(0));
    let paces = burns.of(&"acme".parse().expect("a tenant"), at(1));
    let names: Vec<String> = tasks(&paces).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["fast", "slow", "back"]);
}

/// Moments and amounts, in any order.
fn flows() -> impl Strategy<Value = Vec<(u64, i64)>> {
    vec(
        (0_u64..20_000, -2_000_000_000_000_i64..5_000_000_000_000),
        0..200,
    )
}

proptest! {
    /// Against a list of everything: what counts is exactly what was settled in the steps that
    /// are not over, whatever the order of moments, and the memory is bounded.
    #[test]
    fn what_counts_is_what_was_settled_in_the_last_steps(flows in flows(), wait in 0_u64..4_000) {
        let mut burn = Burn::default();
        let mut kept: Vec<(u64, i128)> = Vec::new();
        let mut latest = 0;
        for (moment, pico) in flows {
            burn.add(at(moment), PicoUsd::new(pico.into()));
            // A moment before the last counts as the last, in steps.
            kept.push((moment, pico.into()));
            latest = latest.max(moment);
        }
        let now = latest + wait;
        for (step, steps, pace) in [
            (10, 30, burn.pace(at(now)).five_minutes),
            (60, 60, burn.pace(at(now)).hour),
        ] {
            let first = (now / step).saturating_sub(steps - 1);
            let mut running = 0;
            let spent: i128 = kept
                .iter()
                .map(|(moment, pico)| {
                    running = running.max(moment / step);
                    if running >= first { *pico } else { 0 }
                })
                .sum();
            let over = (now - first * step).max(60);
            prop_assert_eq!(pace.as_pico(), spent * 3_600 / i128::from(over));
        }
        prop_assert!(burn.fine.sums.len() <= 30 && burn.coarse.sums.len() <= 60);
        prop_assert!(burn.is_at_rest(at(now + 3_660)));
    }

    /// A clock that steps back moves money to a later step, and loses none.
    #[test]
    fn moments_that_step_back_lose_no_money(steps in vec(0_u64..120, 1..50)) {
        let mut burn = Burn::default();
        for back in &steps {
            burn.add(at(120 - back), usd(1));
        }
        let spent = i128::try_from(steps.len()).expect("few");
        prop_assert_eq!(burn.pace(at(120)).hour, usd(spent * 30));
    }
}
