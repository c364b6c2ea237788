//! One counter of money, as one replica knows it.

use std::time::Instant;

use tollgate_core::budget::{Balance, BudgetKey};
use tollgate_core::money::PicoUsd;
use tollgate_core::time::Timestamp;

use super::Terms;

/// All slices together are at most this part of what is left of a cap.
const SHARE: i128 = 8;

pub(super) struct Counter {
    pub(super) key: BudgetKey,
    /// The cost of calls that ended here.
    pub(super) settled: PicoUsd,
    /// What calls under way here have taken.
    pub(super) reserved: PicoUsd,
    /// What may be used here, at least as Redis knows it.
    pub(super) claim: PicoUsd,
    /// The cap when last asked.
    pub(super) limit: Option<PicoUsd>,
    /// What all others claim, and what of that is settled, as told last.
    pub(super) others: PicoUsd,
    pub(super) others_settled: PicoUsd,
    /// The claim and what was settled, as Redis has confirmed it.
    pub(super) told: Option<(PicoUsd, PicoUsd)>,
    pub(super) touched_at: Timestamp,
    /// Whether it is on the list of what is claimed here.
    pub(super) listed: bool,
    /// What was taken in this second and in the one before.
    recent: (PicoUsd, PicoUsd),
    /// Until when no more is claimed than is used.
    pub(super) exact_until: Option<Instant>,
    /// When others were last asked to give back what they do not use.
    pub(super) recalled_at: Option<Instant>,
}

impl Counter {
    pub(super) fn new(key: BudgetKey, now: Timestamp) -> Self {
        Self {
            key,
            settled: PicoUsd::ZERO,
            reserved: PicoUsd::ZERO,
            claim: PicoUsd::ZERO,
            limit: None,
            others: PicoUsd::ZERO,
            others_settled: PicoUsd::ZERO,
            told: None,
            touched_at: now,
            listed: false,
            recent: (PicoUsd::ZERO, PicoUsd::ZERO),
            exact_until: None,
            recalled_at: None,
        }
    }

    /// What is spent or reserved here.
    pub(super) const fn used(&self) -> PicoUsd {
        self.settled.saturating_add(self.reserved)
    }

    pub(super) fn fits(&self, amount: PicoUsd) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        self.used().saturating_add(amount) <= self.claim.min(limit)
    }

    pub(super) fn take(&mut self, amount: PicoUsd, now: Timestamp) {
        self.reserved = self.reserved.saturating_add(amount);
        self.recent.0 = self.recent.0.saturating_add(amount);
        self.touched_at = self.touched_at.max(now);
    }

    pub(super) fn settle(&mut self, reserved: PicoUsd, actual: PicoUsd) {
        self.reserved = self.reserved.saturating_sub(reserved);
        self.settled = self.settled.saturating_add(actual);
    }

    /// What it holds in the whole fleet. What others claim counts as reserved, slices included.
    pub(super) fn balance(&self) -> Balance {
        let held_by_others = self.others.saturating_sub(self.others_settled);
        Balance {
            settled: self.settled.saturating_add(self.others_settled),
            reserved: self.reserved.saturating_add(held_by_others),
        }
    }

    /// What is claimed beyond what calls need: as much as was taken in a second of late, and never
    /// more than this replica's part of an eighth of what is left. So slices shrink as the cap
    /// nears, and all of them together keep at most that eighth from a replica that could use it.
    pub(super) fn slice(&self, needed: PicoUsd, terms: &Terms) -> PicoUsd {
        let exact = self.exact_until.is_some_and(|until| terms.now < until);
        let Some(limit) = self.limit else {
            return PicoUsd::ZERO;
        };
        if !terms.leases || exact {
            return PicoUsd::ZERO;
        }
        let left = limit
            .saturating_sub(self.others)
            .saturating_sub(self.used())
            .saturating_sub(needed)
            .as_pico();
        let parts = SHARE.saturating_mul(i128::from(terms.members.max(1)));
        let most = left.checked_div(parts).unwrap_or(0).max(0);
        let asked = self.recent.0.max(self.recent.1).saturating_add(needed);
        asked.min(PicoUsd::new(most))
    }

    pub(super) const fn tick(&mut self) {
        self.recent = (PicoUsd::ZERO, self.recent.0);
    }
}
