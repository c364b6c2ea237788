//! One visit to Redis: what is said, and what the answer changes.
//!
//! Everybody who waits travels together, and whatever Redis has not been told yet goes along. A
//! claim that is to become smaller counts as smaller from the moment this is said; one that is to
//! become larger, only once Redis has said so. So an answer that is lost costs nothing but room.

mod pace;

use std::sync::Arc;
use std::time::Instant;

use tollgate_core::admission::Taken;
use tollgate_core::budget::{Budget, BudgetKey, StoreError};
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::Size;
use tollgate_core::time::Timestamp;

use super::{GRACE, IDLE, Purse, RECALL, RECALL_EVERY, Terms, Verdict, Waiter};
use crate::redis::amount;

/// Counters and buckets in one visit, beyond those that somebody waits for.
const MOST_STALE: usize = 100;

/// What is said on a visit.
pub(in crate::redis) struct Plan {
    pub(in crate::redis) visit: u64,
    pub(in crate::redis) answered: u64,
    /// The rests of the keys, counters first.
    pub(in crate::redis) keys: Vec<String>,
    pub(in crate::redis) counters: usize,
    pub(in crate::redis) args: Vec<String>,
    /// Counters of which nothing was claimed here before.
    pub(in crate::redis) unlisted: Vec<BudgetKey>,
    spoken: Vec<Spoken>,
    buckets: Vec<SpokenOfBucket>,
    aboard: Vec<Waiter>,
}

struct Spoken {
    place: usize,
    settled: PicoUsd,
}

struct SpokenOfBucket {
    place: usize,
    /// Given back, or, below zero, owed.
    back: i64,
}

impl Plan {
    const fn new(visit: u64, answered: u64, aboard: Vec<Waiter>) -> Self {
        Self {
            visit,
            answered,
            keys: Vec::new(),
            counters: 0,
            args: Vec::new(),
            unlisted: Vec::new(),
            spoken: Vec::new(),
            buckets: Vec::new(),
            aboard,
        }
    }
}

/// What Redis answers to a plan, taken apart.
pub(in crate::redis) struct Reply {
    /// Per counter: the claim, what others claim, what they have settled.
    counters: Vec<[PicoUsd; 3]>,
    /// Per bucket: what was granted or is held; what is missing or others hold.
    buckets: Vec<[i128; 2]>,
}

impl Reply {
    /// `None` if this does not answer a plan with so many counters.
    pub(in crate::redis) fn parse(values: &[String], counters: usize) -> Option<Self> {
        let (money, pace) = values.split_at_checked(counters.checked_mul(3)?)?;
        let money = money.chunks_exact(3).map(|three| {
            let [claim, others, settled] = three else {
                return None;
            };
            Some([
                amount::read(claim)?,
                amount::read(others)?,
                amount::read(settled)?,
            ])
        });
        let pace = pace.chunks(2).map(|two| match two {
            [first, second] => Some([first.parse().ok()?, second.parse().ok()?]),
            _ => None,
        });
        Some(Self {
            counters: money.collect::<Option<_>>()?,
            buckets: pace.collect::<Option<_>>()?,
        })
    }
}

impl Purse {
    /// What is to be said now; `None` if there is nothing, for nobody.
    pub(in crate::redis) fn plan(&mut self, terms: &Terms, at: Timestamp) -> Option<Plan> {
        self.too_much = false;
        let aboard = self.board(terms);
        if aboard.is_empty() && !self.is_stale() {
            return None;
        }
        self.visit = self.visit.saturating_add(1);
        let mut plan = Plan::new(self.visit, self.answered, aboard);
        self.speak_of_money(&mut plan, terms, at);
        plan.counters = plan.keys.len();
        self.speak_of_pace(&mut plan, terms);
        (!plan.keys.is_empty() || !plan.aboard.is_empty()).then_some(plan)
    }

    /// Everything Redis must know again after it has forgotten, from the `from`th counter on.
    pub(in crate::redis) fn restore(&mut self, from: usize, at: Timestamp) -> Option<Plan> {
        let places: Vec<usize> = (from..self.counters.len()).take(MOST_STALE).collect();
        if places.is_empty() {
            return None;
        }
        self.visit = self.visit.saturating_add(1);
        let mut plan = Plan::new(self.visit, self.answered, Vec::new());
        for place in places {
            let counter = &self.counters[place];
            let wish = counter.claim.max(counter.used());
            self.speak_of(&mut plan, place, wish, PicoUsd::ZERO, at);
        }
        plan.counters = plan.keys.len();
        Some(plan)
    }

    /// Redis has forgotten what it was told, and the numbers of visits with it.
    pub(in crate::redis) fn forgotten(&mut self) {
        self.answered = 0;
        for (place, counter) in self.counters.iter_mut().enumerate() {
            counter.told = None;
            self.stale.insert(place);
        }
        let held = self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, bucket)| bucket.under_way > 0);
        self.stale_buckets.extend(held.map(|(place, _)| place));
    }

    /// Redis knows of later visits than this one: one of them was of this very replica, before its
    /// clock was put back.
    pub(in crate::redis) fn go_on_after(&mut self, visit: u64) {
        self.visit = self.visit.max(visit);
    }

    fn board(&mut self, terms: &Terms) -> Vec<Waiter> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let still = waiting.filter(|waiter| !waiter.has_left());
        let (aboard, later): (Vec<_>, Vec<_>) = still.partition(|waiter| waiter.is_due(terms.now));
        self.waiting = later.into();
        aboard
    }

    fn speak_of_money(&mut self, plan: &mut Plan, terms: &Terms, at: Timestamp) {
        // Per counter: how much all need, and the least that one needs.
        let mut needs: Vec<(usize, PicoUsd, PicoUsd)> = Vec::new();
        let mut need = |place: usize, amount: PicoUsd| match needs
            .iter_mut()
            .find(|(known, ..)| *known == place)
        {
            Some((_, sum, least)) => {
                *sum = sum.saturating_add(amount);
                *least = amount.min(*least);
            }
            None => needs.push((place, amount, amount)),
        };
        for waiter in &plan.aboard {
            match waiter {
                Waiter::Call { wanted, .. } => {
                    for Budget { key, limit } in wanted.account.iter() {
                        let place = self.open(key, at);
                        self.counters[place].limit = *limit;
                        if limit.is_some() {
                            need(place, wanted.amount.max(PicoUsd::ZERO));
                        }
                    }
                }
                Waiter::Look { key, .. } => need(self.open(key, at), PicoUsd::ZERO),
                Waiter::Left { .. } | Waiter::Flush { .. } => {}
            }
        }
        for (place, needed, least) in &needs {
            let wish = self.wish(*place, *needed, terms);
            self.speak_of(plan, *place, wish, *least, at);
        }
        let stale: Vec<usize> = self.stale.iter().copied().collect();
        for place in stale {
            if plan.spoken.len() >= needs.len().saturating_add(MOST_STALE) {
                break;
            }
            let wish = self.wish(place, PicoUsd::ZERO, terms);
            let counter = &self.counters[place];
            if counter.told == Some((wish, counter.settled)) {
                // A slice is looked at again, to be given back when it is not used.
                if wish == counter.used() {
                    self.stale.remove(&place);
                }
            } else if !needs.iter().any(|(known, ..)| *known == place) {
                self.speak_of(plan, place, wish, PicoUsd::ZERO, at);
            }
        }
    }

    fn wish(&self, place: usize, needed: PicoUsd, terms: &Terms) -> PicoUsd {
        let counter = &self.counters[place];
        let slice = counter.slice(needed, terms);
        counter.used().saturating_add(needed).saturating_add(slice)
    }

    fn speak_of(
        &mut self,
        plan: &mut Plan,
        place: usize,
        wish: PicoUsd,
        least: PicoUsd,
        at: Timestamp,
    ) {
        let counter = &mut self.counters[place];
        counter.claim = counter.claim.min(wish);
        let lifetime = match counter.key.window.resets_at() {
            Some(end) => end.since(at).saturating_add(GRACE),
            None => IDLE,
        };
        if !counter.listed {
            counter.listed = true;
            plan.unlisted.push(counter.key.clone());
        }
        let limit = counter.limit.map(amount::written).unwrap_or_default();
        let told = counter.told.map(|(claim, _)| amount::written(claim));
        plan.keys.push(format!(
            "money:{}/{}",
            counter.key.scope, counter.key.window
        ));
        plan.args.extend([
            limit,
            amount::written(counter.used()),
            amount::written(wish),
            amount::written(counter.settled),
            lifetime.as_millis().to_string(),
            told.unwrap_or_default(),
            amount::written(counter.used().saturating_add(least)),
        ]);
        plan.spoken.push(Spoken {
            place,
            settled: counter.settled,
        });
    }

    /// Brings home what was answered, and lets go whoever can.
    pub(in crate::redis) fn arrived(&mut self, plan: Plan, reply: &Reply, terms: &Terms) {
        self.answered = plan.visit;
        for (spoken, [claim, others, others_settled]) in plan.spoken.iter().zip(&reply.counters) {
            let counter = &mut self.counters[spoken.place];
            counter.claim = *claim;
            counter.others = *others;
            counter.others_settled = *others_settled;
            counter.told = Some((*claim, spoken.settled));
        }
        for (spoken, [first, second]) in plan.buckets.iter().zip(&reply.buckets) {
            let bucket = &mut self.buckets[spoken.place];
            match bucket.size {
                Size::Rate(_) => {
                    let granted = i64::try_from(*first).unwrap_or(0);
                    bucket.left = bucket.left.saturating_add(granted);
                    bucket.missing = *second;
                    if bucket.left == 0 {
                        self.stale_buckets.remove(&spoken.place);
                    } else {
                        self.stale_buckets.insert(spoken.place);
                    }
                }
                Size::AtOnce(_) => {
                    bucket.places = u32::try_from(*first).unwrap_or(0);
                    bucket.others = u32::try_from(*second).unwrap_or(u32::MAX);
                    // As long as calls are under way, Redis hears of it before their places lapse.
                    if bucket.places == 0 {
                        self.stale_buckets.remove(&spoken.place);
                    } else {
                        self.stale_buckets.insert(spoken.place);
                    }
                }
            }
        }
        for waiter in plan.aboard {
            self.alight(waiter, terms);
        }
    }

    fn alight(&mut self, waiter: Waiter, terms: &Terms) {
        // Whoever asked may have left; what was only looked at is then told nobody.
        match waiter {
            Waiter::Call {
                wanted,
                reply,
                recalled,
                ..
            } => {
                if reply.is_closed() {
                    return;
                }
                match self.judge(&wanted.demand(), true) {
                    Verdict::Taken(taken) => {
                        if let Err(Ok(Taken::All(hold, _))) = reply.send(Ok(taken)) {
                            self.settle(hold.id, PicoUsd::ZERO);
                            self.release(hold.id, Some(0));
                        }
                    }
                    Verdict::Refused(taken) => {
                        // What was claimed for it goes back at once.
                        self.too_much = true;
                        if !recalled && self.asks_others(&taken, terms) {
                            self.waiting.push_back(Waiter::Call {
                                wanted,
                                reply,
                                recalled: true,
                                not_before: Some(terms.now + RECALL),
                            });
                            return;
                        }
                        drop(reply.send(Ok(taken)));
                    }
                    Verdict::Lacking => self.waiting.push_back(Waiter::Call {
                        wanted,
                        reply,
                        recalled,
                        not_before: None,
                    }),
                }
            }
            Waiter::Look { key, reply } => drop(reply.send(Ok(self.seen(&key)))),
            Waiter::Left { limits, reply } => {
                let one = |limit| self.buckets[self.bucket_places[limit]].room();
                let keys = limits.iter().map(|limit| &limit.key);
                drop(reply.send(Ok(keys.map(one).collect())));
            }
            Waiter::Flush { reply } => {
                if self.is_told() {
                    // Whoever flushes may have given up.
                    let _left = reply.send(());
                } else {
                    self.waiting.push_back(Waiter::Flush { reply });
                }
            }
        }
    }

    fn is_told(&self) -> bool {
        let told = |place: &usize| {
            let counter = &self.counters[*place];
            counter.told == Some((counter.claim, counter.settled))
        };
        let even = |place: &usize| {
            let bucket = &self.buckets[*place];
            matches!(bucket.size, Size::AtOnce(_)) || bucket.left >= 0
        };
        self.stale.iter().all(told) && self.stale_buckets.iter().all(even)
    }

    /// Whether a cap that is exhausted might have room once others have given back what they hold
    /// and do not use; notes that they are to be asked.
    fn asks_others(&mut self, refused: &Taken, terms: &Terms) -> bool {
        let Taken::Exhausted { key, .. } = refused else {
            return false;
        };
        let Some(place) = self.places.get(key) else {
            return false;
        };
        let counter = &mut self.counters[*place];
        let lately = counter
            .recalled_at
            .is_some_and(|at| terms.now.saturating_duration_since(at) < RECALL_EVERY);
        if lately || counter.others <= counter.others_settled {
            return false;
        }
        counter.recalled_at = Some(terms.now);
        self.recalls.push(key.clone());
        true
    }

    /// No answer came, or none that helps: who waited is told so. What was owed stays owed; what
    /// was given back is given back again only if nothing was `sent`.
    pub(in crate::redis) fn failed(&mut self, plan: Plan, sent: bool, error: &Arc<StoreError>) {
        // Whether it was done is not known.
        for spoken in plan.spoken.iter().filter(|_| sent) {
            self.counters[spoken.place].told = None;
            self.stale.insert(spoken.place);
        }
        for SpokenOfBucket { place, back } in &plan.buckets {
            if *back < 0 || !sent {
                let bucket = &mut self.buckets[*place];
                bucket.left = bucket.left.saturating_add(*back);
                self.stale_buckets.insert(*place);
            }
        }
        for waiter in plan.aboard {
            waiter.fail(error);
        }
    }

    /// Nothing was done: who waited waits for the next visit.
    pub(in crate::redis) fn put_off(&mut self, plan: Plan) {
        for SpokenOfBucket { place, back } in &plan.buckets {
            let bucket = &mut self.buckets[*place];
            bucket.left = bucket.left.saturating_add(*back);
        }
        for waiter in plan.aboard.into_iter().rev() {
            self.waiting.push_front(waiter);
        }
    }
}

impl Waiter {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match self {
            Self::Call { not_before, .. } => not_before.is_none_or(|time| time <= now),
            _ => true,
        }
    }

    fn has_left(&self) -> bool {
        match self {
            Self::Call { reply, .. } => reply.is_closed(),
            Self::Look { reply, .. } => reply.is_closed(),
            Self::Left { reply, .. } => reply.is_closed(),
            Self::Flush { reply } => reply.is_closed(),
        }
    }

    fn fail(self, error: &Arc<StoreError>) {
        match self {
            Self::Call { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Look { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Left { reply, .. } => drop(reply.send(Err(error.clone()))),
            // Dropped: whoever flushes asks again or gives up.
            Self::Flush { .. } => {}
        }
    }
}
