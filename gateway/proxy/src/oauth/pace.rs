//! How fast one agent may exchange and renew tokens.
//!
//! Every token given out is a row on the registry's table, in memory and on disk, for more than an
//! hour. Without a pace, one agent that renews in a loop would fill both for every tenant. Judged
//! only for agents that have proven who they are, so that nobody uses up another's pace. A
//! generic cell rate, counted by this process alone. Worst case: an agent at full pace has some
//! 80,000 rows, about 20 MB; the tokens it has stay good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::ids::{AgentId, TenantId};

/// Tokens that an agent gets at once: a thousand pods of it that start together.
const BURST: u32 = 1_000;

/// The time in which one more comes in: 20 a second, for 3,600 pods that renew every 180 s.
const EVERY: Duration = Duration::from_millis(50);

/// Agents that are remembered before those at rest are looked for.
const REMEMBERED: usize = 4_096;

/// When each agent will be at rest: whole bursts are then open to it again.
#[derive(Debug, Default)]
pub(super) struct ExchangePace(Mutex<HashMap<(TenantId, AgentId), Instant>>);

impl ExchangePace {
    /// Takes one token's worth.
    ///
    /// # Errors
    /// How long to wait; nothing is taken then.
    pub(super) fn take(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= REMEMBERED {
            agents.retain(|_, at_rest| *at_rest > now);
        }
        let at_rest = agents.entry((tenant.clone(), agent.clone())).or_insert(now);
        let next = (*at_rest).max(now) + EVERY;
        let over = (next - now).saturating_sub(EVERY * BURST);
        if over.is_zero() {
            *at_rest = next;
            Ok(())
        } else {
            Err(over)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &ExchangePace, agent: &str, now: Instant) -> Result<(), Duration> {
        let tenant = "acme".parse().expect("a tenant");
        pace.take(&tenant, &agent.parse().expect("an agent"), now)
    }

    #[test]
    fn an_agent_gets_a_burst_and_then_its_pace_and_others_do_not_notice() {
        let (pace, start) = (ExchangePace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(taken(&pace, "bot", start), Ok(()));
        }
        assert_eq!(taken(&pace, "bot", start), Err(EVERY));
        assert_eq!(taken(&pace, "other", start), Ok(()));
        let soon = start + EVERY / 2;
        assert_eq!(taken(&pace, "bot", soon), Err(EVERY / 2));
        let later = start + EVERY;
        assert_eq!(taken(&pace, "bot", later), Ok(()));
        assert_eq!(taken(&pace, "bot", later), Err(EVERY));
    }

    #[test]
    fn after_a_pause_there_is_one_burst_and_no_more() {
        let (pace, start) = (ExchangePace::default(), Instant::now());
        assert_eq!(taken(&pace, "bot", start), Ok(()));
        let much_later = start + Duration::from_secs(86_400);
        for _ in 0..BURST {
            assert_eq!(taken(&pace, "bot", much_later), Ok(()));
        }
        assert_eq!(taken(&pace, "bot", much_later), Err(EVERY));
    }

    #[test]
    fn agents_at_rest_are_forgotten() {
        let (pace, start) = (ExchangePace::default(), Instant::now());
        for n in 0..REMEMBERED {
            assert_eq!(taken(&pace, &format!("bot-{n}"), start), Ok(()));
        }
        assert_eq!(taken(&pace, "bot", start + EVERY), Ok(()));
        assert_eq!(pace.0.lock().expect("a lock").len(), 1);
    }
}
