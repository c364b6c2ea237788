//! Random calls, deferred work, restarts, crashes and clocks that jump, against the simplest model
//! of money there is: a counter is the sum of its records, and never passes its cap.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tollgate_core::budget::{Account, Balance, BudgetKey, Scope};
use tollgate_core::call::Terms;
use tollgate_core::deferred::{Charge, DeferredCharges as _, Kind, Known, RemoteId};
use tollgate_core::record::Ending;
use tollgate_core::time::Window;

use super::*;

/// Who calls. The agents of a tenant share its cap.
const CALLERS: [(&str, &str); 3] = [("acme", "bot"), ("acme", "cat"), ("globex", "bot")];
const TENANT_CAP: i128 = 1_000;
const AGENT_CAP: i128 = 600;

#[derive(Clone, Debug)]
enum Step {
    /// A call is admitted; `defers` if its usage is stated by a later one.
    Begin {
        who: usize,
        amount: i128,
        defers: bool,
    },
    End {
        pick: prop::sample::Index,
        percent: i128,
    },
    /// A call fetches results; those of nothing that is known, if nothing is.
    Fetch {
        pick: prop::sample::Index,
        percent: i128,
    },
    /// What is on the disk must be what is in memory.
    Flush,
    Restart,
    Kill,
    /// The clock is put to so many days from the beginning.
    Clock(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let pick = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0..CALLERS.len(), 0_i128..400, any::<bool>())
            .prop_map(|(who, amount, defers)| Step::Begin { who, amount, defers }),
        5 => (pick(), 0_i128..=100).prop_map(|(pick, percent)| Step::End { pick, percent }),
        3 => (pick(), 0_i128..=100).prop_map(|(pick, percent)| Step::Fetch { pick, percent }),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
        2 => Just(Step::Kill),
        1 => prop_oneof![Just(0), Just(40)].prop_map(Step::Clock),
    ]
}

struct Model {
    dir: tempfile::TempDir,
    /// `None` only while it is being opened again.
    stores: Option<Embedded>,
    now: Timestamp,
    next: u32,
    /// The counters of every call that was admitted.
    begun: BTreeMap<RecordId, Vec<BudgetKey>>,
    open: Vec<(Hold, bool)>,
    work: Vec<(usize, RemoteId)>,
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self {
            stores: Some(super::open(dir.path())),
            dir,
            now: now(),
            next: 0,
            begun: BTreeMap::new(),
            open: Vec::new(),
            work: Vec::new(),
        }
    }

    fn stores(&self) -> &Embedded {
        self.stores.as_ref().expect("open")
    }

    async fn play(&mut self, step: &Step) {
        match step {
            Step::Begin {
                who,
                amount,
                defers,
            } => {
                let Some(hold) = self.begin(*who, *amount).await else {
                    return;
                };
                if *defers {
                    self.defer(*who, &hold);
                }
                self.open.push((hold, *defers));
            }
            Step::End { pick, percent } if !self.open.is_empty() => {
                let (hold, defers) = self.open.swap_remove(pick.index(self.open.len()));
                let amount = hold.amount.as_pico();
                let cost = if defers {
                    amount
                } else {
                    amount * percent / 100
                };
                super::end(self.stores(), &hold, cost);
            }
            Step::Fetch { pick, percent } if !self.work.is_empty() => {
                let (who, id) = self.work[pick.index(self.work.len())].clone();
                self.fetch(who, &id, *percent).await;
            }
            Step::End { .. } | Step::Fetch { .. } => {}
            Step::Flush => {
                self.stores().flush().expect("the disk takes it");
                self.counters_are_the_sums_of_their_records().await;
            }
            Step::Restart => {
                let stores = self.stores.take().expect("open");
                stores.close().expect("the disk takes it");
                self.open_again().await;
            }
            Step::Kill => {
                self.stores = None;
                self.open_again().await;
            }
            Step::Clock(days) => {
                self.now = now().plus(Duration::from_secs(days * 86_400));
            }
        }
    }

    fn budgets(&self, who: usize) -> [Budget; 3] {
        let (tenant, agent) = CALLERS[who];
        let key = |scope, window| BudgetKey::new(name(tenant), scope, window);
        let day = Window::day(self.now);
        [
            (Scope::Tenant, Window::month(self.now), None),
            (Scope::Tenant, day, Some(TENANT_CAP)),
            (Scope::Agent(name(agent)), day, Some(AGENT_CAP)),
        ]
        .map(|(scope, window, limit)| Budget {
            key: key(scope, window),
            limit: limit.map(PicoUsd::new),
        })
    }

    async fn begin(&mut self, who: usize, amount: i128) -> Option<Hold> {
        let (tenant, agent) = CALLERS[who];
        self.next += 1;
        let id = record_id(self.next);
        let budgets = self.budgets(who);
        let stores = self.stores();
        let amount = PicoUsd::new(amount);
        let reserved = stores
            .budgets
            .reserve(id, &Account::from(&budgets[..]), amount, self.now)
            .await;
        let Reserved::Held(hold) = reserved.expect("in memory") else {
            return None;
        };
        let mut subject = subject(id, tenant, agent);
        subject.started_at = self.now;
        let intent = Intent {
            subject: &subject,
            hold: &hold,
        };
        let kept = stores.records.intend(intent).await;
        kept.expect("the disk takes it");
        self.begun.insert(id, hold.keys.to_vec());
        Some(hold)
    }

    fn defer(&mut self, who: usize, hold: &Hold) {
        let id = format!("batch_{}", self.next);
        let (tenant, _) = CALLERS[who];
        let id = RemoteId::new(&name(tenant), &name("openai"), Kind::Batch, &id);
        let id = id.expect("an id");
        let charge = Known::Charge(Charge {
            record: hold.id,
            keys: hold.keys.to_vec(),
            amount: hold.amount,
            catalogue: None,
            model: None,
            aliases: Vec::new(),
            lines: 0,
            terms: Terms::default(),
            at: self.now,
        });
        let kept = self.stores().deferred.remember(&id, &charge, self.now);
        kept.expect("the disk takes it");
        self.work.push((who, id));
    }

    async fn fetch(&mut self, who: usize, id: &RemoteId, percent: i128) {
        let Some(hold) = self.begin(who, 0).await else {
            return;
        };
        let stores = self.stores();
        let Some(Known::Charge(charge)) = stores.deferred.recall(id, self.now) else {
            super::end(stores, &hold, 0);
            return;
        };
        let amount = charge.amount.as_pico();
        let cost = PicoUsd::new(amount * percent / 100 - amount);
        let ending = Ending {
            cost,
            adjusts: Some(charge.record),
            ..Ending::new(self.now, Outcome::Completed)
        };
        assert!(stores.deferred.correct(id, hold.id, &ending));
        assert!(!stores.deferred.correct(id, hold.id, &ending), "once");
        stores.budgets.settle(&hold, PicoUsd::ZERO);
        stores.budgets.correct(&charge.keys, cost, self.now);
    }

    async fn open_again(&mut self) {
        self.open.clear();
        let config = config(self.dir.path());
        let stores = Embedded::open(&config, self.now).expect("it opens");
        self.stores = Some(stores);
        let kept = self.counters_are_the_sums_of_their_records().await;
        let begun: BTreeSet<_> = self.begun.keys().copied().collect();
        assert_eq!(kept, begun, "one record for each call");
    }

    async fn balance(&self, key: &BudgetKey) -> Balance {
        let balance = self.stores().budgets.balance(key).await;
        balance.expect("in memory")
    }

    /// Returns the calls that have a record.
    async fn counters_are_the_sums_of_their_records(&self) -> BTreeSet<RecordId> {
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        let (mut kept, mut adjusted) = (BTreeSet::new(), BTreeSet::new());
        for tenant in ["acme", "globex"] {
            for record in read_back(self.dir.path(), tenant) {
                let id = record.subject.id;
                assert!(kept.insert(id), "{id} twice");
                let charged = record.ending.adjusts.unwrap_or(id);
                if let Some(of) = record.ending.adjusts {
                    assert!(adjusted.insert(of), "{of} corrected twice");
                }
                for key in &self.begun[&charged] {
                    assert_eq!(key.tenant.as_str(), tenant);
                    *sums.entry(key.to_string()).or_default() += record.ending.cost.as_pico();
                }
            }
        }
        for key in self.begun.values().flatten() {
            let sum = sums.get(&key.to_string()).copied().unwrap_or_default();
            assert_eq!(self.balance(key).await.settled.as_pico(), sum, "{key}");
        }
        kept
    }

    async fn no_cap_is_passed(&self) {
        for who in 0..CALLERS.len() {
            for Budget { key, limit } in self.budgets(who) {
                let Balance { settled, reserved } = self.balance(&key).await;
                assert!(reserved >= PicoUsd::ZERO, "{key}");
                if let Some(limit) = limit {
                    assert!(settled.saturating_add(reserved) <= limit, "{key}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_counter_is_the_sum_of_its_records_and_never_passes_its_cap(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            let mut model = Model::new();
            for step in &steps {
                model.play(step).await;
                model.no_cap_is_passed().await;
            }
            model.play(&Step::Restart).await;
            for who in 0..CALLERS.len() {
                for budget in model.budgets(who) {
                    let reserved = model.balance(&budget.key).await.reserved;
                    assert_eq!(reserved, PicoUsd::ZERO, "{}", budget.key);
                }
            }
        });
    }
}
