//! Buckets as they stand, in a form that another process can go on with.
//!
//! Times are not carried: each bucket says what is missing now, and its new owner's clock goes on
//! from there. Worst case: what flows in between the taking and the putting is not counted, which
//! is for the caps.

use std::num::NonZeroU64;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use tollgate_core::budget::BudgetKey;
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::rate::{Counted, RateKey, RateLimit};
use tollgate_core::time::Window;

use super::flow::Flow;
use super::{Bucket, Rates, Taken};

/// What has been taken from buckets, and by which calls under way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RatesTaken {
    buckets: Vec<(Key, BucketTaken)>,
    passes: Vec<(TenantId, RecordId, TakenFrom)>,
}

/// How much one call took from which buckets.
type TakenFrom = Vec<(Key, u64)>;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct BucketTaken {
    under_way: u32,
    flow: Option<FlowTaken>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct FlowTaken {
    per_minute: NonZeroU64,
    burst: NonZeroU64,
    missing: u128,
}

/// The counter of money of the same scope, which has a form to be sent in, and what is counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Key(BudgetKey, String);

impl Key {
    fn of(key: &RateKey) -> Self {
        let budget = BudgetKey::new(key.tenant.clone(), key.scope.clone(), Window::Total);
        Self(budget, key.counted.as_str().to_owned())
    }

    fn read(self) -> Option<RateKey> {
        let all = [Counted::Requests, Counted::Tokens, Counted::Concurrent];
        let counted = all.into_iter().find(|counted| counted.as_str() == self.1)?;
        Some(RateKey {
            tenant: self.0.tenant.clone(),
            scope: self.0.scope.clone(),
            counted,
        })
    }
}

impl Rates {
    /// What has been taken by now.
    #[must_use]
    pub fn taken(&self) -> RatesTaken {
        let now = self.nanos();
        let mut taken = RatesTaken::default();
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        for (tenant, buckets) in &*tenants {
            let buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let used = buckets.places.keys();
            let used = used.filter_map(|key| Some((key, buckets.at(key)?)));
            let used = used.filter(|(_, bucket)| !bucket.is_as_new(now));
            taken.buckets.extend(used.map(|(key, bucket)| {
                let flow = bucket.flow.as_ref().map(|flow| {
                    let (RateLimit { per_minute, burst }, missing) = flow.taken(now);
                    FlowTaken {
                        per_minute,
                        burst,
                        missing,
                    }
                });
                let under_way = bucket.under_way;
                (Key::of(key), BucketTaken { under_way, flow })
            }));
            taken.passes.extend(buckets.passes.iter().map(|(id, from)| {
                let from = from.iter().filter_map(|Taken { place, count }| {
                    Some((Key::of(&buckets.buckets.get(*place)?.key), *count))
                });
                (tenant.clone(), *id, from.collect())
            }));
        }
        taken
    }

    /// Goes on with what has been taken elsewhere. Only before the first call.
    pub fn put(&self, taken: RatesTaken) {
        let now = self.nanos();
        for (key, BucketTaken { under_way, flow }) in taken.buckets {
            // What is counted under a name that is not known here is not counted here.
            let Some(key) = key.read() else {
                continue;
            };
            let flow = flow.map(|flow| {
                let FlowTaken {
                    per_minute, burst, ..
                } = flow;
                Flow::with(RateLimit { per_minute, burst }, flow.missing, now)
            });
            let buckets = self.buckets(&key.tenant);
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let place = buckets.open(&key);
            if let Some(bucket) = buckets.buckets.get_mut(place) {
                *bucket = Bucket {
                    key,
                    under_way,
                    flow,
                };
            }
        }
        for (tenant, id, from) in taken.passes {
            let buckets = self.buckets(&tenant);
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let from = from.into_iter().filter_map(|(key, count)| {
                let place = *buckets.places.get(&key.read()?)?;
                Some(Taken { place, count })
            });
            let from = from.collect();
            buckets.passes.insert(id, from);
        }
    }
}
