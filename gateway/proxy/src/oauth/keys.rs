//! The key sets of issuers, fetched when needed and not more often.
//!
//! One fetch at a time for each source, however many tokens wait for it. A key id that is not in
//! the set leads to one fetch per [`ASK_AGAIN`], so that made-up ids cause no storm: those in
//! between are judged by the set at hand. A set is fetched anew beside the calls before it is
//! [`OLD`], and before it is used once it is; while the issuer cannot be reached, the last one is
//! used up to [`KEEP`].
//!
//! Worst case: a key that the issuer has withdrawn is believed for [`OLD`], or for [`KEEP`] if the
//! issuer cannot be reached; somebody who sends made-up key ids delays a new key by [`ASK_AGAIN`].

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::identity::Jwks;
use tollgate_core::policy::issuer::KeySource;
use tollgate_core::policy::{Issuer, Policy};

use super::fetch::{self, KeysError, Print};
use super::refusal::Ungranted;
use crate::gateway::Gateway;

/// The age from which a set is fetched anew before it is used.
pub(super) const OLD: Duration = Duration::from_secs(300);
/// The age from which a set that is used is fetched anew beside.
pub(super) const AGING: Duration = Duration::from_secs(240);
/// The age up to which a set is used if no newer one can be had.
pub(super) const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// The time between two fetches for the sake of key ids that are not in the set.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The time between two fetches of a source that has failed, while there is a set to use.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(30);
/// The same while there is none.
pub(super) const TRY_FIRST: Duration = Duration::from_secs(2);

/// Every issuer's keys.
#[derive(Debug, Default)]
pub(super) struct IssuerKeys(Mutex<HashMap<KeySource, Arc<Slot>>>);

/// One source's keys.
#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    /// Held while fetching.
    fetching: tokio::sync::Mutex<()>,
}

/// What is known of a source.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The last good set, and when it was fetched.
    pub(super) keys: Option<(Arc<Jwks>, Instant)>,
    /// When the last fetch ended.
    pub(super) tried_at: Option<Instant>,
    /// When the last fetch ended that an unknown key id caused.
    pub(super) asked_at: Option<Instant>,
    /// The state of the file that was read, if it is one.
    pub(super) print: Option<Print>,
    /// Whether the last fetch brought a set.
    pub(super) read_well: bool,
}

/// What to do for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Judge it by the set at hand.
    Use,
    /// The same, and fetch beside.
    UseAndFetch,
    /// Fetch first. True if an unknown key id is the reason.
    Fetch(bool),
    /// There is no set, and it is too early to ask again.
    GiveUp,
}

impl State {
    /// Whether the set at hand, which `has_key` or not, will do at `now`.
    pub(super) fn next(&self, has_key: bool, now: Instant) -> Next {
        let within = |since: Option<Instant>, pause| {
            since.is_some_and(|since| now.saturating_duration_since(since) < pause)
        };
        let Some((_, fetched_at)) = self.keys.as_ref().filter(|keys| is_kept(keys, now)) else {
            return if within(self.tried_at, TRY_FIRST) {
                Next::GiveUp
            } else {
                Next::Fetch(false)
            };
        };
        if !has_key && !within(self.asked_at, ASK_AGAIN) {
            return Next::Fetch(true);
        }
        let age = now.saturating_duration_since(*fetched_at);
        if age < AGING || within(self.tried_at, TRY_AGAIN) {
            Next::Use
        } else if age < OLD {
            Next::UseAndFetch
        } else {
            Next::Fetch(false)
        }
    }
}

fn is_kept((_, fetched_at): &(Arc<Jwks>, Instant), now: Instant) -> bool {
    now.saturating_duration_since(*fetched_at) < KEEP
}

/// The keys of `issuer` by which to judge a token; `has_key` says whether a set has its key.
pub(super) async fn current(
    gw: &Arc<Gateway>,
    policy: &Policy,
    issuer: &Arc<Issuer>,
    has_key: impl Fn(&Jwks) -> bool,
) -> Result<Arc<Jwks>, Ungranted> {
    let slot = gw.token_exchanges.keys.slot(policy, &issuer.keys);
    if let KeySource::File(file) = &issuer.keys {
        slot.follow(gw, issuer, file).await;
        return slot.usable().ok_or(Ungranted::Keys(KeysError::Pausing));
    }
    match slot.next(&has_key) {
        Next::Use => {}
        // One that is under way will do.
        Next::UseAndFetch if slot.fetching.try_lock().is_err() => {}
        Next::UseAndFetch => {
            let (slot, gw, issuer) = (Arc::clone(&slot), Arc::clone(gw), Arc::clone(issuer));
            let beside = gw.tracker.clone();
            beside.detach(async move {
                // A failure is logged, and the set at hand stays.
                let _fetched = slot.fetch(&gw, &issuer, |_| true).await;
            });
        }
        Next::Fetch(_) => slot.fetch(gw, issuer, &has_key).await?,
        Next::GiveUp => return Err(Ungranted::Keys(KeysError::Pausing)),
    }
    slot.usable().ok_or(Ungranted::Keys(KeysError::Pausing))
}

impl IssuerKeys {
    /// The slot of a source. Sources that the policy no longer names are forgotten on the way.
    fn slot(&self, policy: &Policy, source: &KeySource) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(source) {
            return Arc::clone(slot);
        }
        let issuers = policy.issuers.values();
        slots.retain(|known, _| issuers.clone().any(|issuer| issuer.keys == *known));
        Arc::clone(slots.entry(source.clone()).or_default())
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, has_key: impl Fn(&Jwks) -> bool) -> Next {
        let state = self.state();
        let has_key = state.keys.as_ref().is_some_and(|(keys, _)| has_key(keys));
        state.next(has_key, Instant::now())
    }

    fn usable(&self) -> Option<Arc<Jwks>> {
        let now = Instant::now();
        let state = self.state();
        let keys = state.keys.as_ref().filter(|keys| is_kept(keys, now));
        keys.map(|(keys, _)| Arc::clone(keys))
    }

    /// Fetches, unless somebody else has done so meanwhile. A failure counts only if there is no
    /// set to go on with.
    async fn fetch(
        &self,
        gw: &Gateway,
        issuer: &Issuer,
        has_key: impl Fn(&Jwks) -> bool,
    ) -> Result<(), Ungranted> {
        let _alone = self.fetching.lock().await;
        let unknown_key = match self.next(has_key) {
            Next::Use => return Ok(()),
            Next::GiveUp => return Err(Ungranted::Keys(KeysError::Pausing)),
            Next::UseAndFetch => false,
            Next::Fetch(unknown_key) => unknown_key,
        };
        let KeySource::Url {
            at,
            bearer_token_file,
        } = &issuer.keys
        else {
            return Ok(());
        };
        let fetched = fetch::from_url(gw, at, bearer_token_file.as_deref()).await;
        self.take(gw, issuer, fetched, None, unknown_key)
    }

    /// Reads a file that has changed.
    async fn follow(&self, gw: &Gateway, issuer: &Issuer, file: &Path) {
        let _alone = self.fetching.lock().await;
        let print = fetch::print(file).await;
        let now = Instant::now();
        {
            let mut state = self.state();
            let unchanged = print == state.print && state.tried_at.is_some();
            if unchanged && state.read_well {
                if let Some((_, fetched_at)) = &mut state.keys {
                    *fetched_at = now;
                }
                return;
            }
            let pausing = state
                .tried_at
                .is_some_and(|tried_at| now.saturating_duration_since(tried_at) < TRY_FIRST);
            if unchanged && pausing {
                return;
            }
        }
        let read = fetch::from_file(file).await;
        // What is wrong with it is logged.
        let _taken = self.take(gw, issuer, read, print, false);
    }

    /// Keeps what a fetch brought, in one step: whoever comes before it waits for the fetch, and
    /// whoever comes after it is judged by what it brought.
    fn take(
        &self,
        gw: &Gateway,
        issuer: &Issuer,
        fetched: Result<Jwks, KeysError>,
        print: Option<Print>,
        unknown_key: bool,
    ) -> Result<(), Ungranted> {
        gw.metrics.fetched_keys(fetched.is_ok());
        let now = Instant::now();
        let mut state = self.state();
        state.tried_at = Some(now);
        if unknown_key {
            state.asked_at = Some(now);
        }
        state.print = print;
        state.read_well = fetched.is_ok();
        match fetched {
            Ok(keys) => {
                let usable = keys.usable();
                tracing::info!(issuer = %issuer.name, keys = usable, "issuer keys read");
                state.keys = Some((Arc::new(keys), now));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(issuer = %issuer.name, %error, "issuer keys cannot be read");
                match state.keys.as_ref().filter(|keys| is_kept(keys, now)) {
                    Some(_) => Ok(()),
                    None => Err(Ungranted::Keys(error)),
                }
            }
        }
    }
}
