//! What is said of limits on a visit: what calls need, and what goes back.

use tollgate_core::rate::Size;

use super::{MOST_STALE, Plan, SpokenOfBucket};
use crate::redis::purse::bucket::{count, signed};
use crate::redis::purse::{Purse, Terms, Waiter};

impl Purse {
    pub(super) fn speak_of_pace(&mut self, plan: &mut Plan, terms: &Terms) {
        // Per bucket: how much all need, and the most that one needs.
        let mut needs: Vec<(usize, u64, u64)> = Vec::new();
        let mut need = |place: usize, wanted: u64| match needs
            .iter_mut()
            .find(|(known, ..)| *known == place)
        {
            Some((_, sum, most)) => {
                *sum = sum.saturating_add(wanted);
                *most = wanted.max(*most);
            }
            None => needs.push((place, wanted, wanted)),
        };
        for waiter in &plan.aboard {
            match waiter {
                Waiter::Call { wanted, .. } => {
                    for limit in &wanted.limits {
                        let place = self.open_bucket(limit);
                        let count = count(limit.key.counted, wanted.tokens);
                        need(place, self.buckets[place].taken(count));
                    }
                }
                Waiter::Left { limits, .. } => {
                    for limit in limits {
                        need(self.open_bucket(limit), 0);
                    }
                }
                Waiter::Look { .. } | Waiter::Flush { .. } => {}
            }
        }
        let mut stale: Vec<usize> = self
            .stale_buckets
            .iter()
            .copied()
            .take(MOST_STALE)
            .collect();
        stale.retain(|place| !needs.iter().any(|(known, ..)| known == place));
        for (place, needed, most) in needs {
            self.speak_of_bucket(plan, place, needed, most, terms, true);
        }
        for place in stale {
            self.speak_of_bucket(plan, place, 0, 0, terms, false);
        }
    }

    fn speak_of_bucket(
        &mut self,
        plan: &mut Plan,
        place: usize,
        needed: u64,
        most: u64,
        terms: &Terms,
        asked: bool,
    ) {
        let bucket = &mut self.buckets[place];
        let slice = bucket.slice(terms);
        let key = format!("pace:{}/{}", bucket.key.scope, bucket.key.counted.as_str());
        let (args, back) = match bucket.size {
            Size::Rate(rate) => {
                let burst = rate.burst.get();
                let keep = if needed == 0 { signed(slice) } else { 0 };
                // A call larger than the bucket needs it full, with what is held here.
                let back = if most > burst || bucket.left < 0 {
                    bucket.left
                } else if needed == 0 {
                    bucket.left.saturating_sub(keep).max(0)
                } else {
                    0
                };
                bucket.left = bucket.left.saturating_sub(back);
                let back = back.saturating_add(std::mem::take(&mut bucket.outdated));
                let target =
                    signed(needed).saturating_add(if needed > 0 { signed(slice) } else { 0 });
                let wish = target.saturating_sub(bucket.left).max(0);
                if !asked && back == 0 {
                    if bucket.left == 0 {
                        self.stale_buckets.remove(&place);
                    }
                    return;
                }
                let single = if most > burst { most } else { 0 };
                let args = [
                    "rate".to_owned(),
                    rate.per_minute.to_string(),
                    burst.to_string(),
                    back.to_string(),
                    wish.to_string(),
                    single.to_string(),
                ];
                (args, back)
            }
            Size::AtOnce(limit) => {
                let wish = u64::from(bucket.under_way)
                    .saturating_add(needed)
                    .saturating_add(slice);
                bucket.places = bucket.places.min(u32::try_from(wish).unwrap_or(u32::MAX));
                let args = [
                    "places".to_owned(),
                    limit.to_string(),
                    bucket.under_way.to_string(),
                    wish.to_string(),
                    terms.lease.as_millis().to_string(),
                    "0".to_owned(),
                ];
                (args, 0)
            }
        };
        plan.keys.push(key);
        plan.args.extend(args);
        plan.buckets.push(SpokenOfBucket { place, back });
    }
}
