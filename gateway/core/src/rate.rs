//! Request rates: how many calls a tenant or an agent may start per minute.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::ids::{AgentId, TenantId};

/// A rate: `per_minute` sustained, `burst` at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    /// Calls per minute in the long run.
    pub per_minute: NonZeroU32,
    /// Calls that may come at once after a pause.
    pub burst: NonZeroU32,
}

/// Which bucket a call is counted in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RateKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The agent, for a limit of its own.
    pub agent: Option<AgentId>,
}

/// The answer of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paced {
    /// The call may go now.
    Go,
    /// Not before this much time has passed.
    Wait(Duration),
}

/// Where rates are counted.
pub trait RateStore: Send + Sync {
    /// Takes one call from the bucket `key`, which has the size and speed of `limit`. A bucket
    /// whose limit has changed since starts full.
    fn take(&self, key: &RateKey, limit: RateLimit) -> Paced;
}
