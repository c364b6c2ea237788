use super::*;
use proptest::prelude::*;
use tollgate_testkit::contract::{daily, name, now, record_id};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Two counters of one tenant, the second narrower.
fn both() -> [Budget; 2] {
    let agent = Budget {
        key: name("acme/agent=bot/day:2026-11-18"),
        limit: Some(PicoUsd::new(300)),
    };
    [daily("acme", Some(500)), agent]
}

fn sums(purse: &Purse) -> Vec<(i128, i128)> {
    let balances = both().map(|budget| purse.balance(&budget.key));
    balances
        .map(|b| (b.settled.as_pico(), b.reserved.as_pico()))
        .to_vec()
}

proptest! {
    #[test]
    fn counters_never_pass_their_limit_nor_go_below_zero(
        steps in prop::collection::vec((0_u32..20, 0_i128..120, 0_i128..120, any::<bool>()), 0..200),
    ) {
        let mut purse = Purse::default();
        for (id, amount, cost, settle) in steps {
            if settle {
                // A cost is at most what was reserved for it.
                let reserved = purse.holds.get(&record_id(id)).map(|taken| taken.amount);
                let cost = PicoUsd::new(cost).min(reserved.unwrap_or(PicoUsd::ZERO));
                purse.settle(record_id(id), cost);
            } else {
                purse.reserve(record_id(id), &Account::from(&both()), PicoUsd::new(amount), now());
            }
            for ((settled, reserved), limit) in sums(&purse).into_iter().zip([500, 300]) {
                prop_assert!(settled >= 0 && reserved >= 0);
                prop_assert!(settled + reserved <= limit);
            }
        }
    }

    #[test]
    fn the_order_of_settles_is_irrelevant(
        costs in prop::collection::vec(0_i128..10, 1..30),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let settle_in = |order: &[usize]| {
            let mut purse = Purse::default();
            for n in 0..costs.len() {
                let id = record_id(u32::try_from(n).expect("small"));
                purse.reserve(id, &Account::from(&both()), PicoUsd::new(10), now());
            }
            for n in order {
                let id = record_id(u32::try_from(*n).expect("small"));
                purse.settle(id, PicoUsd::new(costs[*n]));
            }
            sums(&purse)
        };
        let forward: Vec<usize> = (0..costs.len()).collect();
        let mut other = forward.clone();
        other.rotate_left(shuffle.index(costs.len()));
        other.reverse();
        prop_assert_eq!(settle_in(&forward), settle_in(&other));
    }
}

#[test]
fn old_windows_are_forgotten_and_held_ones_are_not() {
    let mut purse = Purse::default();
    let long_ago = at("2026-11-18T12:00:00Z");
    let task = Budget {
        key: name("acme/task=t/total"),
        limit: None,
    };
    let budgets = [daily("acme", None), task.clone()];
    purse.prune(long_ago);
    purse.reserve(
        record_id(1),
        &Account::from(&budgets),
        PicoUsd::new(5),
        long_ago,
    );
    for day in ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"] {
        purse.prune(at(day));
        assert_eq!(purse.places.len(), 2, "the hold is still out");
    }
    purse.settle(record_id(1), PicoUsd::new(3));
    purse.prune(at("2026-11-27T00:00:00Z"));
    assert_eq!(purse.balance(&budgets[0].key), Balance::default());
    assert_eq!(purse.balance(&task.key).settled, PicoUsd::new(3));
    purse.prune(at("2027-03-01T00:00:00Z"));
    assert_eq!(purse.places.len(), 1, "seen to be over for the first time");
    purse.prune(at("2027-03-02T00:00:00Z"));
    assert!(purse.places.is_empty());
    // Their places are used again, from zero.
    purse.reserve(
        record_id(2),
        &Account::from(&both()),
        PicoUsd::new(7),
        at("2027-03-02T00:00:00Z"),
    );
    assert_eq!(sums(&purse), [(0, 7), (0, 7)]);
    assert_eq!(purse.counters.len(), 2);
}

#[test]
fn a_clock_that_runs_ahead_and_is_put_back_gives_no_money_twice() {
    let mut purse = Purse::default();
    let noon = at("2026-11-18T12:00:00Z");
    let budget = daily("acme", Some(10));
    for now in [noon, at("2031-01-01T00:00:00Z"), noon] {
        purse.prune(now);
        purse.reserve(
            record_id(1),
            &Account::from(std::slice::from_ref(&budget)),
            PicoUsd::new(8),
            now,
        );
        purse.settle(record_id(1), PicoUsd::new(8));
        assert_eq!(purse.balance(&budget.key).settled, PicoUsd::new(8), "{now}");
    }
}

#[tokio::test]
async fn budgets_of_two_tenants_cannot_be_mixed() {
    let budgets = Budgets::default();
    let mixed = Account::from(&[daily("acme", None), daily("globex", None)]);
    let answer = budgets.reserve(record_id(1), &mixed, PicoUsd::new(1), now());
    assert!(answer.await.is_err());
}
