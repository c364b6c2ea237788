//! One limit on pace, as one replica knows it.
//!
//! A rate: calls or tokens that Redis has let through already and that were not used yet; below
//! zero, what was used beyond. Calls at once: places that Redis keeps for this replica.

use std::time::Duration;

use tollgate_core::rate::{Counted, Limit, RateKey, Size};

use super::{A_WHILE, Terms};

/// Parts of one call or token, as the script counts them: a rate per minute is that many of them
/// per microsecond.
const PARTS: i128 = 60_000_000;
/// As for money: the part of a bucket that all slices may hold.
const SHARE: u64 = 8;
/// The most that is asked for at once. Lua's doubles are exact to the part up to 150 million
/// calls or tokens; beyond that they round to a few parts.
const MOST: u64 = 1 << 40;

pub(super) struct Bucket {
    pub(super) key: RateKey,
    pub(super) size: Size,
    /// Let through and not used, or used beyond.
    pub(super) left: i64,
    /// Let through under another limit, and to be given back.
    pub(super) outdated: i64,
    /// What the bucket in Redis lacks for being full, as told last.
    pub(super) missing: i128,
    /// Calls under way.
    pub(super) under_way: u32,
    /// Places held in Redis, here and by others.
    pub(super) places: u32,
    pub(super) others: u32,
    recent: (u64, u64),
}

/// How much of a bucket one call takes.
pub(super) const fn count(counted: Counted, tokens: u64) -> u64 {
    match counted {
        Counted::Requests | Counted::Concurrent => 1,
        Counted::Tokens => tokens,
    }
}

impl Bucket {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            key: limit.key,
            size: limit.size,
            left: 0,
            outdated: 0,
            missing: 0,
            under_way: 0,
            places: 0,
            others: 0,
            recent: (0, 0),
        }
    }

    /// When a limit changes, what the old one let through is not used under the new one.
    pub(super) fn resize(&mut self, size: Size) {
        if self.size != size {
            self.outdated = self.outdated.saturating_add(self.left.max(0));
            self.left = self.left.min(0);
            self.size = size;
        }
    }

    /// What a call takes of a rate, whatever it asks for.
    pub(super) fn taken(&self, count: u64) -> u64 {
        match self.size {
            Size::Rate(rate) => count.min(rate.most_taken()).min(MOST),
            Size::AtOnce(_) => count,
        }
    }

    pub(super) fn fits(&self, count: u64) -> bool {
        match self.size {
            Size::Rate(_) => count == 0 || self.left >= signed(self.taken(count)),
            Size::AtOnce(most) => self.under_way < self.places.min(most.get()),
        }
    }

    /// How long such a call waits by what Redis said last; `None` if it may go, once asked for.
    pub(super) fn wait(&self, count: u64) -> Option<Duration> {
        match self.size {
            Size::Rate(rate) => {
                let burst = i128::from(rate.burst.get().min(MOST));
                let needed = i128::from(self.taken(count)).min(burst);
                let lacking = self
                    .missing
                    .saturating_sub(i128::from(self.left).saturating_mul(PARTS))
                    .saturating_add(needed.saturating_sub(burst).saturating_mul(PARTS));
                let rate = i128::from(rate.per_minute.get());
                let micros = lacking.max(0).saturating_add(rate - 1).checked_div(rate)?;
                let micros = u64::try_from(micros).unwrap_or(u64::MAX);
                (micros > 0).then(|| Duration::from_micros(micros))
            }
            Size::AtOnce(most) => {
                let full = self.under_way.saturating_add(self.others) >= most.get();
                full.then_some(A_WHILE)
            }
        }
    }

    pub(super) fn take(&mut self, count: u64) -> u64 {
        self.under_way = self.under_way.saturating_add(1);
        let taken = self.taken(count);
        if let Size::Rate(_) = self.size {
            self.left = self.left.saturating_sub(signed(taken));
            self.recent.0 = self.recent.0.saturating_add(taken);
        }
        taken
    }

    pub(super) fn give_back(&mut self, taken: u64, used: Option<u64>) {
        self.under_way = self.under_way.saturating_sub(1);
        if let (Size::Rate(rate), Some(used)) = (self.size, used) {
            let used = used.min(rate.most_taken().max(taken)).min(MOST);
            let back = signed(taken).saturating_sub(signed(used));
            self.left = self.left.saturating_add(back);
        }
    }

    /// What is kept beyond what calls need.
    pub(super) fn slice(&self, terms: &Terms) -> u64 {
        let members = u64::from(terms.members.max(1));
        let parts = SHARE.saturating_mul(members);
        match self.size {
            _ if !terms.leases => 0,
            Size::Rate(rate) => {
                let most = rate.burst.get().checked_div(parts).unwrap_or(0);
                self.recent.0.max(self.recent.1).min(most).min(MOST)
            }
            Size::AtOnce(limit) => {
                let most = u64::from(limit.get()).checked_div(parts).unwrap_or(0);
                u64::from(self.under_way).min(most)
            }
        }
    }

    pub(super) const fn tick(&mut self) {
        self.recent = (0, self.recent.0);
    }

    /// What it would let through now.
    pub(super) fn room(&self) -> i64 {
        match self.size {
            Size::AtOnce(most) => i64::from(most.get())
                .saturating_sub(self.under_way.into())
                .saturating_sub(self.others.into()),
            Size::Rate(rate) => {
                let full = i128::from(rate.burst.get()).saturating_mul(PARTS);
                let whole = full.saturating_sub(self.missing).div_euclid(PARTS);
                let whole = i64::try_from(whole).unwrap_or(i64::MAX);
                whole.saturating_add(self.left)
            }
        }
    }
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
