//! Policy, prices and keys now in force, behind one atomic swap.
//!
//! A call takes one [`Snapshot`] when it arrives and sees nothing else until it ends, so a reload
//! in between can never mix two policies in one decision.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tollgate_core::policy::Policy;
use tollgate_core::price::PriceBook;

use crate::authenticate::Keys;

/// One consistent view.
pub struct Snapshot {
    /// What is allowed.
    pub policy: Arc<Policy>,
    /// What it costs.
    pub prices: Arc<PriceBook>,
    /// Whose tokens are believed.
    pub keys: Arc<Keys>,
}

/// The current view.
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    /// Starts with a first view.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// The view for one call.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts other prices in force for calls that arrive from now on.
    pub fn replace_prices(&self, prices: Arc<PriceBook>) {
        self.0.rcu(|now| Snapshot {
            policy: Arc::clone(&now.policy),
            prices: Arc::clone(&prices),
            keys: Arc::clone(&now.keys),
        });
    }

    /// Puts another policy in force for calls that arrive from now on.
    pub fn replace_policy(&self, policy: Arc<Policy>) {
        self.0.rcu(|now| Snapshot {
            policy: Arc::clone(&policy),
            prices: Arc::clone(&now.prices),
            keys: Arc::clone(&now.keys),
        });
    }
}
