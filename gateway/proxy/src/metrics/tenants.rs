//! Figures of each tenant, and which of them are shown under its own name.
//!
//! Each tenant of the policy counts for itself, in whole numbers that only grow: on a call's path
//! that is a look-up in a table nobody changes and a few additions. When metrics are read, what has
//! been counted since the last time goes to the tenant's own series if it has a place, and to
//! [`OTHERS`] if not. So no series ever goes back, and the rates of all series add up to the rate
//! of the whole, whoever has a place.
//!
//! There are so many places as the settings say. While there are enough, every tenant has one.
//! Otherwise those that have spent most since the start take what is free, and one takes another's
//! only after it has spent twice as much: so whoever has a place keeps it, unless it is far behind.
//! Worst case: the first sample of a series that is new tells nothing of the time before it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use tollgate_core::ids::TenantId;
use tollgate_core::record::Ending;

use super::calls::OUTCOMES;
use super::codes::{self, CODES};

/// Stands for all tenants without a place. No tenant is called so: an id begins with a letter or
/// a digit.
pub const OTHERS: &str = "_other";

const SPEND: usize = 0;
const TOKENS: usize = 1;
const CALLS: usize = 3;
const REFUSALS: usize = CALLS + OUTCOMES.len();
const FIGURES: usize = REFUSALS + CODES.len();

/// What one tenant has done since the start, and does now.
pub(crate) struct TenantFigures {
    counts: [AtomicU64; FIGURES],
    in_flight: AtomicI64,
    streams: AtomicI64,
}

impl Default for TenantFigures {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            in_flight: AtomicI64::new(0),
            streams: AtomicI64::new(0),
        }
    }
}

impl TenantFigures {
    fn add(&self, figure: usize, count: u64) {
        if let Some(counter) = self.counts.get(figure) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn count(&self, figure: usize) -> u64 {
        let counter = self.counts.get(figure);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// A call that reached its upstream has ended.
    pub(crate) fn ended(&self, ending: &Ending, nano_usd: u64) {
        let outcome = OUTCOMES.iter().position(|known| *known == ending.outcome);
        if let Some(place) = outcome {
            self.add(CALLS + place, 1);
        }
        self.add(SPEND, nano_usd);
        if let Some(usage) = &ending.usage {
            self.add(TOKENS, usage.input_tokens);
            self.add(TOKENS + 1, usage.output_tokens);
        }
    }

    /// The gateway itself has answered.
    pub(crate) fn refused(&self, code: &str) {
        self.add(REFUSALS + codes::place(code), 1);
    }
}

/// Something of a tenant's that is under way until this is dropped.
pub(crate) struct UnderWay {
    figures: Arc<TenantFigures>,
    which: fn(&TenantFigures) -> &AtomicI64,
    all: prometheus::IntGauge,
}

impl UnderWay {
    /// A call, from its reservation to its settlement.
    pub(crate) fn call(figures: Arc<TenantFigures>, all: &prometheus::IntGauge) -> Self {
        Self::begin(figures, |figures| &figures.in_flight, all)
    }

    /// A stream, from its head to its end.
    pub(crate) fn stream(figures: Arc<TenantFigures>, all: &prometheus::IntGauge) -> Self {
        Self::begin(figures, |figures| &figures.streams, all)
    }

    fn begin(
        figures: Arc<TenantFigures>,
        which: fn(&TenantFigures) -> &AtomicI64,
        all: &prometheus::IntGauge,
    ) -> Self {
        which(&figures).fetch_add(1, Ordering::Relaxed);
        all.inc();
        Self {
            figures,
            which,
            all: all.clone(),
        }
    }

    pub(crate) fn figures(&self) -> &Arc<TenantFigures> {
        &self.figures
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        (self.which)(&self.figures).fetch_sub(1, Ordering::Relaxed);
        self.all.dec();
    }
}

/// Every tenant's figures.
pub struct Tenants {
    known: ArcSwap<HashMap<TenantId, Arc<TenantFigures>, foldhash::fast::RandomState>>,
    /// Counted by those that no policy has named yet: for the instant in which one is put in force.
    unknown: Arc<TenantFigures>,
    shown: Mutex<Shown>,
}

struct Shown {
    places: usize,
    holders: HashSet<TenantId>,
    /// Up to where each tenant's figures have been shown.
    upto: HashMap<TenantId, [u64; FIGURES]>,
    upto_unknown: [u64; FIGURES],
    spend: IntCounterVec,
    tokens: IntCounterVec,
    calls: IntCounterVec,
    refusals: IntCounterVec,
    in_flight: IntGaugeVec,
    streams: IntGaugeVec,
}

impl Tenants {
    /// Nobody yet. The series go to `registry`, which is not shown to everybody.
    pub(crate) fn register(registry: &Registry, places: usize) -> Result<Self, prometheus::Error> {
        Ok(Self {
            known: ArcSwap::default(),
            unknown: Arc::default(),
            shown: Mutex::new(Shown::register(registry, places)?),
        })
    }

    /// These are in the policy now. Whoever was in an earlier one keeps its figures.
    pub fn know<'t>(&self, tenants: impl IntoIterator<Item = &'t TenantId>) {
        let _one_at_a_time = self.lock();
        let mut known = HashMap::clone(&self.known.load());
        for tenant in tenants {
            known.entry(tenant.clone()).or_default();
        }
        self.known.store(Arc::new(known));
    }

    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<TenantFigures> {
        let known = self.known.load();
        Arc::clone(known.get(tenant).unwrap_or(&self.unknown))
    }

    pub(crate) fn of_some(&self, tenant: Option<&TenantId>) -> Arc<TenantFigures> {
        tenant.map_or_else(|| Arc::clone(&self.unknown), |tenant| self.of(tenant))
    }

    /// Brings the series up to date; who has a place.
    pub fn show(&self) -> Vec<TenantId> {
        let mut shown = self.lock();
        let known = self.known.load_full();
        let new = shown.seat(&known);
        let mut others = [0_u64; FIGURES];
        let (mut calls, mut streams) = (0, 0);
        let everybody = known.iter().map(|(id, figures)| (Some(id), figures));
        for (id, figures) in everybody.chain([(None, &self.unknown)]) {
            let counted: [u64; FIGURES] = std::array::from_fn(|figure| figures.count(figure));
            let before = shown.advance(id, counted);
            let own = id.filter(|id| shown.holders.contains(*id));
            let now = [&figures.in_flight, &figures.streams].map(|n| n.load(Ordering::Relaxed));
            match own {
                Some(id) => shown.set_now(id.as_str(), now),
                None => (calls, streams) = (calls + now[0], streams + now[1]),
            }
            let grown = std::array::from_fn(|n| counted[n].saturating_sub(before[n]));
            match own {
                // Of one whose series begins here, nobody could tell the growth.
                Some(id) if !new.contains(id) => shown.grow(id.as_str(), &grown),
                _ => (0..FIGURES).for_each(|n| others[n] += grown[n]),
            }
        }
        shown.set_now(OTHERS, [calls, streams]);
        shown.grow(OTHERS, &others);
        shown.holders.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn register(registry: &Registry, places: usize) -> Result<Self, prometheus::Error> {
        fn kept<C: Collector + Clone + 'static>(
            registry: &Registry,
            collector: prometheus::Result<C>,
        ) -> prometheus::Result<C> {
            let collector = collector?;
            registry.register(Box::new(collector.clone()))?;
            Ok(collector)
        }
        let counter = |name: &str, help: &str, labels: &[&str]| {
            kept(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| {
            kept(
                registry,
                IntGaugeVec::new(Opts::new(name, help), &["tenant"]),
            )
        };
        let shown = Self {
            places,
            holders: HashSet::new(),
            upto: HashMap::new(),
            upto_unknown: [0; FIGURES],
            spend: counter(
                "tollgate_tenant_spend_nano_usd_total",
                "Settled cost by tenant, in 10^-9 US dollars.",
                &["tenant"],
            )?,
            tokens: counter(
                "tollgate_tenant_tokens_total",
                "Tokens by tenant: input, cached ones among them, and output.",
                &["tenant", "type"],
            )?,
            calls: counter(
                "tollgate_tenant_calls_total",
                "Calls that reached an upstream, by tenant and outcome.",
                &["tenant", "outcome"],
            )?,
            refusals: counter(
                "tollgate_tenant_refusals_total",
                "Answers the gateway itself gave to callers of a tenant, by code.",
                &["tenant", "code"],
            )?,
            in_flight: gauge(
                "tollgate_tenant_calls_in_flight",
                "Calls by tenant, from reservation to settlement.",
            )?,
            streams: gauge(
                "tollgate_tenant_open_streams",
                "Streams by tenant whose answer is being relayed.",
            )?,
        };
        shown.begin(OTHERS);
        Ok(shown)
    }

    /// Gives away places; who has a new one.
    fn seat(
        &mut self,
        known: &HashMap<TenantId, Arc<TenantFigures>, foldhash::fast::RandomState>,
    ) -> HashSet<TenantId> {
        let spent = |id: &TenantId| known.get(id).map_or(0, |figures| figures.count(SPEND));
        let mut waiting: Vec<&TenantId> = known
            .keys()
            .filter(|id| !self.holders.contains(*id))
            .collect();
        if known.len() > self.places {
            let idle = |id: &TenantId| known.get(id).is_none_or(|figures| figures.is_idle());
            waiting.retain(|id| !idle(id));
        }
        waiting.sort_by_cached_key(|id| (std::cmp::Reverse(spent(id)), (*id).clone()));
        let mut new = HashSet::new();
        for id in waiting {
            if self.holders.len() >= self.places {
                let last = self.holders.iter().min_by_key(|holder| spent(holder));
                let Some(last) = last.cloned() else { break };
                if spent(id) == 0 || spent(id) / 2 < spent(&last) {
                    break;
                }
                self.end(&last);
                new.remove(&last);
            }
            self.begin(id.as_str());
            self.holders.insert(id.clone());
            new.insert(id.clone());
        }
        new
    }

    /// Takes note that figures have been shown up to here; up to where they were before.
    fn advance(&mut self, id: Option<&TenantId>, to: [u64; FIGURES]) -> [u64; FIGURES] {
        match id {
            None => std::mem::replace(&mut self.upto_unknown, to),
            Some(id) => self.upto.insert(id.clone(), to).unwrap_or([0; FIGURES]),
        }
    }

    /// Series at 0.
    fn begin(&self, tenant: &str) {
        let at_zero = |counters: &IntCounterVec, label: &str| {
            counters.with_label_values(&[tenant, label]).inc_by(0);
        };
        self.spend.with_label_values(&[tenant]).inc_by(0);
        for kind in ["input", "output"] {
            at_zero(&self.tokens, kind);
        }
        for outcome in OUTCOMES {
            at_zero(&self.calls, outcome.as_str());
        }
        for code in codes::FROM_THE_START {
            at_zero(&self.refusals, code);
        }
    }

    fn end(&mut self, tenant: &TenantId) {
        self.holders.remove(tenant);
        let tenant = tenant.as_str();
        // What was never shown cannot be taken away, which is no matter.
        drop(self.spend.remove_label_values(&[tenant]));
        drop(self.in_flight.remove_label_values(&[tenant]));
        drop(self.streams.remove_label_values(&[tenant]));
        for kind in ["input", "output"] {
            drop(self.tokens.remove_label_values(&[tenant, kind]));
        }
        for outcome in OUTCOMES {
            drop(self.calls.remove_label_values(&[tenant, outcome.as_str()]));
        }
        for code in CODES {
            drop(self.refusals.remove_label_values(&[tenant, code]));
        }
    }

    fn grow(&self, tenant: &str, by: &[u64; FIGURES]) {
        let grow = |counters: &IntCounterVec, label: &str, by: u64| {
            if by > 0 {
                counters.with_label_values(&[tenant, label]).inc_by(by);
            }
        };
        self.spend.with_label_values(&[tenant]).inc_by(by[SPEND]);
        grow(&self.tokens, "input", by[TOKENS]);
        grow(&self.tokens, "output", by[TOKENS + 1]);
        for (outcome, by) in OUTCOMES.iter().zip(&by[CALLS..]) {
            grow(&self.calls, outcome.as_str(), *by);
        }
        for (code, by) in CODES.iter().zip(&by[REFUSALS..]) {
            grow(&self.refusals, code, *by);
        }
    }

    fn set_now(&self, tenant: &str, [calls, streams]: [i64; 2]) {
        self.in_flight.with_label_values(&[tenant]).set(calls);
        self.streams.with_label_values(&[tenant]).set(streams);
    }
}

impl TenantFigures {
    fn is_idle(&self) -> bool {
        (0..FIGURES).all(|figure| self.count(figure) == 0)
    }
}

#[cfg(test)]
mod tests;
