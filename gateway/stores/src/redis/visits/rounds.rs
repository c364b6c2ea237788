//! What is told without anybody waiting for it: twice a second, at the end, and in a new epoch.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Till, Visits, lock};
use crate::redis::link::LinkError;
use crate::redis::purse::{Reply, Waiter};

/// How many tenants are restored at the same time.
const RESTORED_AT_ONCE: usize = 32;
/// How often what nobody waits for is told.
const ROUND: Duration = Duration::from_millis(500);

impl Visits {
    /// Says everything again, in an epoch that nobody takes from yet.
    pub(in crate::redis) async fn restore(&self, epoch: &Arc<str>) -> Result<(), LinkError> {
        let Some(this) = self.this.upgrade() else {
            return Ok(());
        };
        for some in self.all().chunks(RESTORED_AT_ONCE) {
            let mut under_way = tokio::task::JoinSet::new();
            for till in some {
                let (this, till, epoch) = (this.clone(), till.clone(), epoch.clone());
                under_way.spawn(async move { this.restore_one(&till, &epoch).await });
            }
            while let Some(done) = under_way.join_next().await {
                done.map_err(|_panicked| LinkError::Foreign)??;
            }
        }
        Ok(())
    }

    async fn restore_one(&self, till: &Arc<Till>, epoch: &str) -> Result<(), LinkError> {
        lock(&till.purse).forgotten();
        let mut from = 0;
        loop {
            let plan = lock(&till.purse).restore(from, (self.clock)());
            let Some(plan) = plan else { break };
            let values = self.say(&till.tenant, epoch, &plan, "restore").await?;
            if values.first().is_some_and(|word| word == "late") {
                let last = values.get(1).and_then(|text| text.parse().ok());
                lock(&till.purse).go_on_after(last.unwrap_or(0));
                continue;
            }
            from = from.saturating_add(plan.counters);
            let rest = values.get(1..).unwrap_or_default();
            let reply = Reply::parse(rest, plan.counters).ok_or(LinkError::Foreign)?;
            lock(&till.purse).arrived(plan, &reply, &self.terms());
        }
        lock(&till.purse).forgotten();
        self.touch(till);
        Ok(())
    }

    /// Tells, twice a second, what nobody waits for.
    pub(in crate::redis) async fn rounds(self: Arc<Self>) {
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut second = false;
        loop {
            round.tick().await;
            second = !second;
            let listed = std::mem::take(&mut *lock(&self.touched));
            for till in listed {
                till.listed.store(false, Ordering::Relaxed);
                let stale = {
                    let mut purse = lock(&till.purse);
                    if second {
                        purse.tick();
                    }
                    purse.is_stale()
                };
                if stale {
                    self.touch(&till);
                    if self.has_epoch() {
                        self.run(&till);
                    }
                }
            }
        }
    }

    /// Returns once Redis knows everything that was settled so far.
    pub(in crate::redis) async fn flush(&self, bound: Duration) {
        let told = self.all().into_iter().map(|till| {
            let (reply, told) = oneshot::channel();
            lock(&till.purse).wait(Waiter::Flush { reply });
            self.run(&till);
            told
        });
        let told: Vec<_> = told.collect();
        // Whoever is not told in time is told at the next start.
        let _late = tokio::time::timeout(bound, async {
            for one in told {
                drop(one.await);
            }
        })
        .await;
    }
}
