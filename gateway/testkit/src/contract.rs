//! What every implementation of core's stores must do, as one suite to run against each of them.
//!
//! It sees the traits only. Every case uses tenants of its own, so all of them can run against one
//! store, and at the same time.

mod paces;
mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use tollgate_core::budget::{
    Account, Balance, Budget, BudgetKey, BudgetStore, Hold, Reserved, Scope,
};
use tollgate_core::identity::Caller;
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::RateStore;
use tollgate_core::record::{
    Ending, Intent, Outcome, Record, RecordLog, Stranger, Subject, UsageSource,
};
use tollgate_core::registry::TokenRegistry;
use tollgate_core::time::{Timestamp, Window};

pub use paces::*;
pub use tokens::*;

/// An implementation under test.
#[async_trait]
pub trait Stores: Send + Sync {
    /// Money.
    fn budgets(&self) -> Arc<dyn BudgetStore>;
    /// Request rates.
    fn rates(&self) -> Arc<dyn RateStore>;
    /// Task tokens.
    fn registry(&self) -> Arc<dyn TokenRegistry>;
    /// Records.
    fn records(&self) -> Arc<dyn RecordLog>;
    /// Waits until everything asked for so far has been done.
    async fn flush(&self);
    /// Reads the records of a tenant back.
    async fn read_back(&self, tenant: &TenantId) -> Vec<Record>;
}

/// A name of any kind from its text.
///
/// # Panics
/// If it is not one.
#[must_use]
pub fn name<T: std::str::FromStr>(text: &str) -> T {
    match text.parse() {
        Ok(name) => name,
        Err(_) => panic!("{text:?} is not a valid name"),
    }
}

/// The `n`th record id.
#[must_use]
pub fn record_id(n: u32) -> RecordId {
    name(&format!("019ab3c0000070008000{n:012x}"))
}

/// The time all cases are played at.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_000_000)
}

/// The daily budget of a tenant, and its limit in pico-US-dollars.
#[must_use]
pub fn daily(tenant: &str, limit: Option<i128>) -> Budget {
    Budget {
        key: name(&format!("{tenant}/tenant/day:2026-11-18")),
        limit: limit.map(PicoUsd::new),
    }
}

/// The subject of an ordinary call.
#[must_use]
pub fn subject(id: RecordId, tenant: &str, agent: &str) -> Subject {
    Subject {
        id,
        started_at: now(),
        tenant: name(tenant),
        agent: name(agent),
        task: name("task-1"),
        token: name("token-1"),
        certificate: None,
        provider: Some(name("openai")),
        operation: Some("chat".into()),
        request_model: Some(name("gpt-5-mini")),
        method: "POST".into(),
        path: "/openai/v1/chat/completions".into(),
        upstream: Some("api.openai.com:443".into()),
        credential: Some(name("openai_key")),
        credential_version: Some(1),
        price_provider: Some("openai".into()),
        price_version: Some("2026-11-01".into()),
        reserved: Some(PicoUsd::new(1000)),
        elevated: false,
        trace: None,
        span: None,
        untrusted: vec!["x-tenant-id: \"globex\" {\u{e9}}\n".into()],
        notes: Vec::new(),
    }
}

/// The ending of a call that went well and cost this many pico-US-dollars.
#[must_use]
pub fn completed(cost: i128) -> Ending {
    Ending {
        status: Some(200),
        response_model: Some("gpt-5-mini-2026".into()),
        usage_source: UsageSource::Exact,
        usage: Some(tollgate_core::usage::Usage {
            input_tokens: 12,
            output_tokens: 34,
            ..Default::default()
        }),
        cost: PicoUsd::new(cost),
        first_byte_us: Some(1500),
        ..Ending::new(now(), Outcome::Completed)
    }
}

/// The ending of a call that was refused.
#[must_use]
pub fn refused() -> Ending {
    Ending {
        outcome: Outcome::Refused,
        status: Some(429),
        code: Some("spend_limit_exceeded".into()),
        usage_source: UsageSource::None,
        usage: None,
        response_model: None,
        first_byte_us: None,
        ..completed(0)
    }
}

/// A caller with a token that lives five minutes.
#[must_use]
pub fn caller(tenant: &str, agent: &str, task: &str, token: &str) -> Caller {
    Caller {
        tenant: name(tenant),
        agent: name(agent),
        task: name(task),
        token: name(token),
        issued_at: now(),
        expires_at: now().plus(std::time::Duration::from_secs(300)),
        certificate: None,
    }
}

async fn hold(
    store: &dyn BudgetStore,
    id: RecordId,
    budgets: &[Budget],
    amount: i128,
) -> Option<Hold> {
    let account = Account::from(budgets);
    let reserved = store.reserve(id, &account, PicoUsd::new(amount), now());
    match reserved.await.expect("the store is up") {
        Reserved::Held(hold) => Some(hold),
        Reserved::Exhausted { .. } => None,
    }
}

async fn balance(store: &dyn BudgetStore, key: &BudgetKey) -> (i128, i128) {
    let Balance { settled, reserved } = store.balance(key).await.expect("the store is up");
    (settled.as_pico(), reserved.as_pico())
}

/// A reservation that does not fit everywhere takes nothing anywhere, and says what was full.
pub async fn a_reservation_takes_from_all_budgets_or_from_none(stores: &dyn Stores) {
    let store = stores.budgets();
    let wide = daily("all-or-none", Some(100));
    let narrow = Budget {
        key: name("all-or-none/agent=bot/month:2026-11"),
        limit: Some(PicoUsd::new(10)),
    };
    let counted = Budget {
        key: name("all-or-none/task=t/total"),
        limit: None,
    };
    let budgets = [wide.clone(), counted.clone(), narrow.clone()];
    let first = hold(&*store, record_id(1), &budgets, 8).await;
    assert!(first.is_some(), "8 fit under 10");
    let answer = store
        .reserve(
            record_id(2),
            &Account::from(&budgets),
            PicoUsd::new(3),
            now(),
        )
        .await
        .expect("the store is up");
    let full = Reserved::Exhausted {
        key: narrow.key.clone(),
        limit: PicoUsd::new(10),
        balance: Balance {
            settled: PicoUsd::ZERO,
            reserved: PicoUsd::new(8),
        },
    };
    assert_eq!(answer, full);
    for budget in &budgets {
        assert_eq!(
            balance(&*store, &budget.key).await,
            (0, 8),
            "{}",
            budget.key
        );
    }
    let exact = hold(&*store, record_id(3), &budgets, 2).await;
    assert!(exact.is_some(), "a cap can be reached exactly");
}

/// Of all caps without room the one with the least is named, wherever it stands: what fits into it
/// fits into all, and asking for that much succeeds.
pub async fn what_fits_the_cap_that_is_named_fits_all(stores: &dyn Stores) {
    let store = stores.budgets();
    let cap = |key: &str, limit| Budget {
        key: name(&format!("tightest/{key}")),
        limit: Some(PicoUsd::new(limit)),
    };
    let mut budgets = [
        cap("tenant/month:2026-11", 90),
        cap("tenant/day:2026-11-18", 50),
        cap("agent=bot/day:2026-11-18", 20),
        cap("model=gpt-5*/day:2026-11-18", 30),
        cap("task=t/total", 20),
    ];
    for n in 0..5 {
        let account = Account::from(&budgets);
        let answer = store.reserve(record_id(41), &account, PicoUsd::new(100), now());
        let Reserved::Exhausted { limit, balance, .. } = answer.await.expect("the store is up")
        else {
            panic!("100 are more than any cap");
        };
        let room = balance.room(limit);
        assert_eq!(room, PicoUsd::new(20), "{n}");
        budgets.rotate_left(1);
    }
    // Of several alike it is the first; a cap that has been passed has no room, but no less.
    let agent = [cap("agent=bot/day:2026-11-18", 20)];
    let spent = hold(&*store, record_id(42), &agent, 20)
        .await
        .expect("room");
    store.settle(&spent, PicoUsd::new(33));
    stores.flush().await;
    let task = [cap("task=t/total", 20)];
    assert!(hold(&*store, record_id(43), &task, 20).await.is_some());
    for _ in 0..5 {
        let account = Account::from(&budgets);
        let answer = store.reserve(record_id(44), &account, PicoUsd::new(1), now());
        let Reserved::Exhausted { key, .. } = answer.await.expect("the store is up") else {
            panic!("two caps are full");
        };
        let mut full = budgets.iter().filter(|budget| {
            let key = budget.key.to_string();
            key.contains("agent=") || key.contains("task=")
        });
        assert_eq!(Some(&key), full.next().map(|budget| &budget.key));
        budgets.rotate_left(1);
    }
    assert_eq!(balance(&*store, &budgets[0].key).await, (0, 0));
}

/// The cost replaces the hold, once, whatever it is and however often it is said.
pub async fn a_hold_is_settled_once_in_the_counters_it_was_taken_from(stores: &dyn Stores) {
    let store = stores.budgets();
    let budget = daily("settled-once", Some(100));
    let budgets = [budget.clone()];
    let one = hold(&*store, record_id(11), &budgets, 60)
        .await
        .expect("room");
    let again = hold(&*store, record_id(11), &budgets, 60).await;
    assert_eq!(again.as_ref(), Some(&one), "asking twice takes once");
    store.settle(&one, PicoUsd::new(25));
    store.settle(&one, PicoUsd::new(25));
    stores.flush().await;
    assert_eq!(balance(&*store, &budget.key).await, (25, 0));

    let two = hold(&*store, record_id(12), &budgets, 75)
        .await
        .expect("room");
    store.settle(&two, PicoUsd::new(90));
    stores.flush().await;
    assert_eq!(
        balance(&*store, &budget.key).await,
        (115, 0),
        "spent is spent"
    );
    assert_eq!(hold(&*store, record_id(13), &budgets, 1).await, None);
}

/// A cost goes to the window in which the call began, whenever it ends, and a new window begins
/// with nothing in it.
pub async fn a_call_is_paid_in_the_window_it_began_in(stores: &dyn Stores) {
    let store = stores.budgets();
    let at = |time: &str| name::<Timestamp>(time);
    let in_windows = |now: Timestamp| {
        [Window::day(now), Window::month(now)].map(|window| Budget {
            key: BudgetKey::new(name("windows"), Scope::Tenant, window),
            limit: Some(PicoUsd::new(10)),
        })
    };
    let reserve = async |n: u32, amount: i128, now: Timestamp| {
        let account = Account::from(&in_windows(now));
        let answer = store.reserve(record_id(n), &account, PicoUsd::new(amount), now);
        match answer.await.expect("the store is up") {
            Reserved::Held(hold) => Some(hold),
            Reserved::Exhausted { .. } => None,
        }
    };
    let before = at("2028-02-29T23:59:59.999999Z");
    let after = at("2028-03-01T00:00:00Z");
    let old = reserve(51, 8, before).await.expect("room");
    let new = reserve(52, 9, after).await.expect("a new day and month");
    store.settle(&old, PicoUsd::new(6));
    store.settle(&new, PicoUsd::new(2));
    stores.flush().await;
    for (now, settled) in [(before, 6), (after, 2)] {
        for budget in in_windows(now) {
            let held = balance(&*store, &budget.key).await;
            assert_eq!(held, (settled, 0), "{}", budget.key);
        }
    }
    // A clock that steps back finds what it left, and nothing is given twice.
    assert_eq!(reserve(53, 5, before).await, None);
    assert!(reserve(54, 4, before).await.is_some());
    assert_eq!(reserve(55, 9, after).await, None);
    assert!(reserve(56, 8, after).await.is_some());
}

/// Zero blocks what costs something, no limit blocks nothing, and what is free always goes.
pub async fn zero_blocks_and_absent_does_not(stores: &dyn Stores) {
    let store = stores.budgets();
    let zero = [daily("zero", Some(0))];
    assert_eq!(hold(&*store, record_id(21), &zero, 1).await, None);
    assert!(hold(&*store, record_id(22), &zero, 0).await.is_some());
    let none = [daily("no-limit", None)];
    assert!(
        hold(&*store, record_id(23), &none, i128::MAX / 4)
            .await
            .is_some()
    );
    assert!(hold(&*store, record_id(24), &[], 5).await.is_some());
}

/// 64 tasks race for one budget; the cap holds at every moment and the sum is right.
pub async fn a_cap_holds_when_64_tasks_race_for_it(stores: &dyn Stores) {
    let store = stores.budgets();
    let budget = daily("race", Some(1000));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (store, budget) = (store.clone(), budget.clone());
            tokio::spawn(async move {
                let mut spent = 0;
                for round in 0..50 {
                    let id = record_id(100_000 + task * 1000 + round);
                    let held = hold(&*store, id, std::slice::from_ref(&budget), 30).await;
                    let (settled, reserved) = balance(&*store, &budget.key).await;
                    assert!(settled + reserved <= 1000, "{settled} + {reserved}");
                    if let Some(held) = held {
                        tokio::task::yield_now().await;
                        let cost = i128::from(round % 4);
                        store.settle(&held, PicoUsd::new(cost));
                        spent += cost;
                    }
                }
                spent
            })
        })
        .collect();
    let mut spent = 0;
    for task in tasks {
        spent += task.await.expect("no task panics");
    }
    stores.flush().await;
    assert_eq!(balance(&*store, &budget.key).await, (spent, 0));
    assert!(spent > 0, "some of them got through");
}

/// One tenant at its cap changes nothing for another.
pub async fn tenants_pay_for_themselves(stores: &dyn Stores) {
    let store = stores.budgets();
    let poor = [daily("poor", Some(1))];
    let rich = [daily("rich", Some(1))];
    assert!(hold(&*store, record_id(31), &poor, 1).await.is_some());
    assert_eq!(hold(&*store, record_id(32), &poor, 1).await, None);
    assert!(hold(&*store, record_id(33), &rich, 1).await.is_some());
    assert_eq!(balance(&*store, &rich[0].key).await, (0, 1));
}

/// What was intended and concluded, or refused, is read back as it was put in, once.
pub async fn records_read_back_as_they_were_kept(stores: &dyn Stores) {
    let log = stores.records();
    let mut expected = Vec::new();
    for n in 0..20 {
        let mut record = Record {
            subject: subject(record_id(500 + n), "recorded", "bot"),
            ending: completed(i128::from(n)),
        };
        record.subject.elevated = n % 7 == 3;
        if n % 5 == 4 {
            record.ending = refused();
            log.refuse(&record);
        } else {
            let hold = Hold {
                id: record.subject.id,
                keys: vec![daily("recorded", None).key].into(),
                amount: PicoUsd::new(1000),
            };
            let intent = Intent {
                subject: &record.subject,
                hold: &hold,
            };
            log.intend(intent).await.expect("the store is up");
            log.conclude(record.subject.id, &record.ending);
        }
        expected.push(record);
    }
    let other = Record {
        subject: subject(record_id(600), "unrecorded", "bot"),
        ending: refused(),
    };
    log.refuse(&other);
    log.turn_away(&Stranger {
        id: record_id(601),
        at: now(),
        client: "127.0.0.1".into(),
        code: "invalid_api_key".into(),
        reason: "token_missing".into(),
        status: 401,
    });
    stores.flush().await;
    let mut kept = stores.read_back(&name("recorded")).await;
    kept.sort_by_key(|record| record.subject.id);
    assert_eq!(kept, expected);
    assert_eq!(stores.read_back(&name("unrecorded")).await, [other]);
}
