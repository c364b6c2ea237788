//! What one replica holds of one tenant's money and pace, and what it says to Redis about it.
//!
//! Redis knows per counter and replica one number that matters, the *claim*: what the replica has
//! settled, reserved, and may reserve without asking. All claims together never pass the cap, and
//! this replica never uses more than its claim, so no order of messages, lost answer or crash can
//! make the sum pass it. A call takes from all its counters and limits or from none, here, under
//! the tenant's lock; a *visit* to Redis only makes claims larger or smaller.
//!
//! Knows no socket and no clock. Worst case: a replica that is gone leaves its claim behind, of
//! which at most a slice (see [`Counter::slice`]) was not money that calls had reserved.

mod bucket;
mod counter;
mod visit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tollgate_core::admission::{Demand, Taken};
use tollgate_core::budget::{Account, Balance, BudgetKey, Counters, Hold, Reserved, StoreError};
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::{Counted, Limit, Pass, RateKey};
use tollgate_core::time::{Timestamp, Window};

use bucket::{Bucket, count};
use counter::Counter;

pub(super) use visit::{Plan, Reply};

/// How long a caller waits that finds too many calls under way. When one of them ends is unknown.
const A_WHILE: Duration = Duration::from_secs(1);
/// How long others get to give back what they hold and do not use, before a call is refused.
const RECALL: Duration = Duration::from_millis(150);
/// How often others are asked for that.
const RECALL_EVERY: Duration = Duration::from_secs(1);
/// How long a counter that others are short of is kept exact.
const EXACT_FOR: Duration = Duration::from_secs(10);
/// A window's counter is forgotten this long after the window has ended: calls that began in it
/// have ended by then.
pub(super) const GRACE: Duration = Duration::from_secs(2 * 86_400);
/// A counter without end is forgotten when nothing has been taken from it for this long.
pub(super) const IDLE: Duration = Duration::from_secs(90 * 86_400);

/// How the fleet stands, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How many replicas share the counters.
    pub(super) members: u32,
    /// Whether more is taken from Redis than the calls that wait need.
    pub(super) leases: bool,
    /// How long a place is held for a replica that is not heard of.
    pub(super) lease: Duration,
    pub(super) now: Instant,
}

/// A [`Demand`], kept while its call waits.
pub(super) struct Wanted {
    id: RecordId,
    account: Account,
    amount: PicoUsd,
    limits: Vec<Limit>,
    tokens: u64,
    now: Timestamp,
}

impl Wanted {
    fn new(demand: &Demand<'_>) -> Self {
        Self {
            id: demand.id,
            account: demand.account.clone(),
            amount: demand.amount,
            limits: demand.limits.to_vec(),
            tokens: demand.tokens,
            now: demand.now,
        }
    }

    fn demand(&self) -> Demand<'_> {
        Demand {
            id: self.id,
            account: &self.account,
            amount: self.amount,
            limits: &self.limits,
            tokens: self.tokens,
            now: self.now,
        }
    }
}

/// Somebody who waits for a visit.
pub(super) enum Waiter {
    /// To go.
    Call {
        wanted: Wanted,
        reply: oneshot::Sender<Result<Taken, Arc<StoreError>>>,
        /// Others have been asked to give back what they do not use.
        recalled: bool,
        not_before: Option<Instant>,
    },
    /// To see what a counter holds.
    Look {
        key: BudgetKey,
        reply: oneshot::Sender<Result<Balance, Arc<StoreError>>>,
    },
    /// To see what limits would let through.
    Left {
        limits: Vec<Limit>,
        reply: oneshot::Sender<Result<Vec<i64>, Arc<StoreError>>>,
    },
    /// For everything that was settled so far to be in Redis.
    Flush { reply: oneshot::Sender<()> },
}

struct Part {
    counters: Counters,
    places: Places,
    amount: PicoUsd,
}

/// Where the counters of one call are: of tenant, agent and task, by day and month, and one to
/// spare.
type Places = SmallVec<[usize; 6]>;
/// Where the buckets of one call are, and how much of each.
type Counts = SmallVec<[(usize, u64); 4]>;

/// One tenant's money and pace on this replica.
pub(super) struct Purse {
    tenant: TenantId,
    counters: Vec<Counter>,
    places: HashMap<BudgetKey, usize>,
    buckets: Vec<Bucket>,
    bucket_places: HashMap<RateKey, usize>,
    holds: HashMap<RecordId, Part>,
    passes: HashMap<RecordId, Counts>,
    waiting: VecDeque<Waiter>,
    /// Counters and buckets whose state Redis has not been told.
    stale: HashSet<usize>,
    stale_buckets: HashSet<usize>,
    /// Whether something was claimed for a call that did not go.
    too_much: bool,
    /// Caps of which others hold more than they use, perhaps.
    recalls: Vec<BudgetKey>,
    visit: u64,
    answered: u64,
    pruned: Option<Window>,
}

/// Whether a call can go by what is here.
enum Verdict {
    Taken(Taken),
    /// Not by what was learned from Redis last.
    Refused(Taken),
    /// Perhaps, after a visit.
    Lacking,
}

impl Purse {
    /// Nothing is held. Visits are numbered from `first` on, which must be larger than whatever
    /// was used before under the same name.
    pub(super) fn new(tenant: TenantId, first: u64) -> Self {
        Self {
            tenant,
            counters: Vec::new(),
            places: HashMap::default(),
            buckets: Vec::new(),
            bucket_places: HashMap::default(),
            holds: HashMap::default(),
            passes: HashMap::default(),
            waiting: VecDeque::new(),
            stale: HashSet::default(),
            stale_buckets: HashSet::default(),
            too_much: false,
            recalls: Vec::new(),
            visit: first,
            answered: 0,
            pruned: None,
        }
    }

    /// What was settled by this replica before it started, of a counter on the list of claims.
    pub(super) fn load(&mut self, key: &BudgetKey, settled: PicoUsd, now: Timestamp) {
        let place = self.open(key, now);
        let counter = &mut self.counters[place];
        counter.settled = settled;
        counter.claim = settled;
        counter.listed = true;
        self.stale.insert(place);
    }

    /// Takes what is wanted if nothing needs to be asked, and otherwise lets it wait. Without
    /// leases everything is asked.
    pub(super) fn take(
        &mut self,
        demand: &Demand<'_>,
        terms: &Terms,
    ) -> Result<Taken, oneshot::Receiver<Result<Taken, Arc<StoreError>>>> {
        self.prune(demand.now);
        let unlimited = demand.account.iter().all(|budget| budget.limit.is_none());
        let free = unlimited && demand.limits.is_empty();
        if (terms.leases || free || self.holds.contains_key(&demand.id))
            && self.waiting.is_empty()
            && let Verdict::Taken(taken) = self.judge(demand, false)
        {
            return Ok(taken);
        }
        let (reply, answer) = oneshot::channel();
        self.waiting.push_back(Waiter::Call {
            wanted: Wanted::new(demand),
            reply,
            recalled: false,
            not_before: None,
        });
        Err(answer)
    }

    /// Lets somebody wait for the next visit.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiting.push_back(waiter);
    }

    /// Takes what is wanted, if it is there. What Redis said last counts as the state of affairs
    /// only if it has `just` been said.
    fn judge(&mut self, demand: &Demand<'_>, just: bool) -> Verdict {
        let Demand { id, tokens, .. } = *demand;
        if let Some(part) = self.holds.get(&id) {
            let pass = self.passes.contains_key(&id);
            let pass = pass.then(|| self.pass(id, tokens));
            return Verdict::Taken(Taken::All(part.hold(id), pass));
        }
        let places = match self.afford(demand, just) {
            Ok(places) => places,
            Err(verdict) => return verdict,
        };
        let counts = match self.keep_pace(demand, just) {
            Ok(counts) => counts,
            Err(verdict) => return verdict,
        };
        let hold = self.put(demand, places);
        if demand.limits.is_empty() {
            return Verdict::Taken(Taken::All(hold, None));
        }
        let mut taken = Counts::with_capacity(counts.len());
        for (place, count) in counts {
            self.stale_buckets.insert(place);
            taken.push((place, self.buckets[place].take(count)));
        }
        self.passes.insert(id, taken);
        Verdict::Taken(Taken::All(hold, Some(self.pass(id, tokens))))
    }

    /// The counters to take from, if each of them has room.
    fn afford(&mut self, demand: &Demand<'_>, just: bool) -> Result<Places, Verdict> {
        let amount = demand.amount.max(PicoUsd::ZERO);
        let mut places = Places::with_capacity(demand.account.len());
        let mut fits = true;
        for budget in demand.account.iter() {
            let place = self.open(&budget.key, demand.now);
            let counter = &mut self.counters[place];
            counter.limit = budget.limit;
            fits &= amount == PicoUsd::ZERO || counter.fits(amount);
            places.push(place);
        }
        if fits {
            return Ok(places);
        }
        let seen = places.iter().map(|place| self.counters[*place].balance());
        let counters = demand.account.iter().zip(seen);
        Err(match Reserved::refusal(counters, amount) {
            Some(Reserved::Exhausted {
                key,
                limit,
                balance,
            }) if just => Verdict::Refused(Taken::Exhausted {
                key,
                limit,
                balance,
            }),
            _ => Verdict::Lacking,
        })
    }

    /// The buckets to take from, and how much, if each of them lets it go.
    fn keep_pace(&mut self, demand: &Demand<'_>, just: bool) -> Result<Counts, Verdict> {
        let mut counts = Counts::with_capacity(demand.limits.len());
        let mut longest: Option<(&RateKey, Duration)> = None;
        let mut lacking = false;
        for limit in demand.limits {
            let count = count(limit.key.counted, demand.tokens);
            let place = self.open_bucket(limit);
            let bucket = &self.buckets[place];
            counts.push((place, count));
            if bucket.fits(count) {
                continue;
            }
            match bucket.wait(count).filter(|_| just) {
                Some(wait) if longest.is_none_or(|(_, before)| wait > before) => {
                    longest = Some((&limit.key, wait));
                }
                Some(_) => {}
                None => lacking = true,
            }
        }
        match longest {
            Some((key, retry_after)) => Err(Verdict::Refused(Taken::Wait {
                key: key.clone(),
                retry_after,
            })),
            None if lacking => Err(Verdict::Lacking),
            None => Ok(counts),
        }
    }

    /// Takes what is demanded from each of these counters.
    fn put(&mut self, demand: &Demand<'_>, places: Places) -> Hold {
        let amount = demand.amount.max(PicoUsd::ZERO);
        for place in &places {
            self.counters[*place].take(amount, demand.now);
            self.stale.insert(*place);
        }
        let part = Part {
            counters: demand.account.counters().clone(),
            places,
            amount,
        };
        let hold = part.hold(demand.id);
        self.holds.insert(demand.id, part);
        hold
    }

    /// Replaces a hold by what the call cost.
    pub(super) fn settle(&mut self, id: RecordId, actual: PicoUsd) {
        let Some(Part { places, amount, .. }) = self.holds.remove(&id) else {
            return;
        };
        for place in places {
            self.counters[place].settle(amount, actual);
            self.stale.insert(place);
        }
    }

    /// Changes what was settled.
    pub(super) fn correct(&mut self, keys: &[BudgetKey], by: PicoUsd, now: Timestamp) {
        for key in keys {
            let place = self.open(key, now);
            let counter = &mut self.counters[place];
            counter.settled = counter.settled.saturating_add(by);
            self.stale.insert(place);
        }
    }

    /// Ends a call's stay in its limits.
    pub(super) fn release(&mut self, id: RecordId, tokens: Option<u64>) {
        for (place, taken) in self.passes.remove(&id).into_iter().flatten() {
            let bucket = &mut self.buckets[place];
            let used = tokens.filter(|_| bucket.key.counted == Counted::Tokens);
            bucket.give_back(taken, used);
            self.stale_buckets.insert(place);
        }
    }

    /// Others are short of this: for a while nothing of it is kept that calls do not need.
    pub(super) fn recall(&mut self, key: &BudgetKey, now: Instant) {
        if let Some(place) = self.places.get(key) {
            self.counters[*place].exact_until = Some(now + EXACT_FOR);
            self.stale.insert(*place);
        }
    }

    /// Whether Redis has something to be told that can wait for a moment.
    pub(super) fn is_stale(&self) -> bool {
        !self.stale.is_empty() || !self.stale_buckets.is_empty()
    }

    /// Whether nothing is held, settled lately or waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.holds.is_empty() && self.passes.is_empty() && self.waiting.is_empty()
    }

    /// A second has passed: what was asked for in it is what slices are cut after.
    pub(super) fn tick(&mut self) {
        for place in &self.stale {
            self.counters[*place].tick();
        }
        for place in &self.stale_buckets {
            self.buckets[*place].tick();
        }
    }

    /// What others are to give back, if they can; asked for once.
    pub(super) fn recalls(&mut self) -> Vec<BudgetKey> {
        std::mem::take(&mut self.recalls)
    }

    /// When somebody who waits for others is to be tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let times = self.waiting.iter().filter_map(|waiter| match waiter {
            Waiter::Call { not_before, .. } => *not_before,
            _ => None,
        });
        times.min()
    }

    /// Whether somebody waits who can be tried now, or something is to be given back at once.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        self.too_much || self.waiting.iter().any(|waiter| waiter.is_due(now))
    }

    /// What a counter holds, by what Redis said last.
    fn seen(&self, key: &BudgetKey) -> Balance {
        let place = self.places.get(key);
        place.map_or_else(Balance::default, |place| self.counters[*place].balance())
    }

    fn pass(&self, id: RecordId, tokens: u64) -> Pass {
        Pass {
            id,
            tenant: self.tenant.clone(),
            tokens,
        }
    }

    fn open(&mut self, key: &BudgetKey, now: Timestamp) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let place = self.counters.len();
        self.counters.push(Counter::new(key.clone(), now));
        self.places.insert(key.clone(), place);
        place
    }

    fn open_bucket(&mut self, limit: &Limit) -> usize {
        if let Some(place) = self.bucket_places.get(&limit.key) {
            self.buckets[*place].resize(limit.size);
            return *place;
        }
        let place = self.buckets.len();
        self.buckets.push(Bucket::new(limit.clone()));
        self.bucket_places.insert(limit.key.clone(), place);
        place
    }

    /// Once a day, forgets the counters of windows that are long over. Visits and holds name
    /// places, so it waits until there are none.
    fn prune(&mut self, now: Timestamp) {
        let today = Window::day(now);
        if self.pruned == Some(today) || !self.is_idle() || self.is_stale() {
            return;
        }
        self.pruned = Some(today);
        let over = |counter: &Counter| match counter.key.window.resets_at() {
            Some(end) => end.plus(GRACE) < now,
            None => counter.touched_at.plus(IDLE) < now,
        };
        self.counters.retain(|counter| !over(counter));
        self.places = self
            .counters
            .iter()
            .enumerate()
            .map(|(place, counter)| (counter.key.clone(), place))
            .collect();
        self.buckets.clear();
        self.bucket_places.clear();
    }
}

impl Part {
    fn hold(&self, id: RecordId) -> Hold {
        Hold {
            id,
            keys: self.counters.clone(),
            amount: self.amount,
        }
    }
}

#[cfg(test)]
mod tests;
