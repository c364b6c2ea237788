//! How fast one agent may ask for what costs the gateway itself something: tokens, statements.
//!
//! Judged only for agents that have proven who they are, so that nobody uses up another's pace. A
//! generic cell rate, counted by this process alone. Worst case: every agent there is at its full
//! pace at the same time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::ids::{AgentId, TenantId};

/// Agents that are remembered before those at rest are looked for.
const REMEMBERED: usize = 4_096;

/// The pace of each agent.
#[derive(Debug)]
pub(crate) struct AgentPace {
    /// So many at once, after a rest.
    burst: u32,
    /// The time in which one more comes in.
    every: Duration,
    /// When each agent will be at rest: whole bursts are then open to it again.
    agents: Mutex<HashMap<(TenantId, AgentId), Instant>>,
}

impl AgentPace {
    /// `burst` at once, and one more in each `every`.
    pub(crate) fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            agents: Mutex::default(),
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait; nothing is taken then.
    pub(crate) fn take(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= REMEMBERED {
            agents.retain(|_, at_rest| *at_rest > now);
        }
        let at_rest = agents.entry((tenant.clone(), agent.clone())).or_insert(now);
        let next = (*at_rest).max(now) + self.every;
        let over = (next - now).saturating_sub(self.every * self.burst);
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

    const BURST: u32 = 1_000;
    const EVERY: Duration = Duration::from_millis(50);

    fn taken(pace: &AgentPace, agent: &str, now: Instant) -> Result<(), Duration> {
        let tenant = "acme".parse().expect("a tenant");
        pace.take(&tenant, &agent.parse().expect("an agent"), now)
    }

    #[test]
    fn an_agent_gets_a_burst_and_then_its_pace_and_others_do_not_notice() {
        let (pace, start) = (AgentPace::new(BURST, EVERY), Instant::now());
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
        let (pace, start) = (AgentPace::new(BURST, EVERY), Instant::now());
        assert_eq!(taken(&pace, "bot", start), Ok(()));
        let much_later = start + Duration::from_secs(86_400);
        for _ in 0..BURST {
            assert_eq!(taken(&pace, "bot", much_later), Ok(()));
        }
        assert_eq!(taken(&pace, "bot", much_later), Err(EVERY));
    }

    #[test]
    fn agents_at_rest_are_forgotten() {
        let (pace, start) = (AgentPace::new(BURST, EVERY), Instant::now());
        for n in 0..REMEMBERED {
            assert_eq!(taken(&pace, &format!("bot-{n}"), start), Ok(()));
        }
        assert_eq!(taken(&pace, "bot", start + EVERY), Ok(()));
        assert_eq!(pace.agents.lock().expect("a lock").len(), 1);
    }
}
