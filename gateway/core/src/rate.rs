//! How fast a tenant, an agent or a model may be used: calls and tokens per minute, calls at once.
//!
//! A call is admitted by all of its limits or takes from none, so that being refused by one never
//! uses up another. Tokens are taken by estimate and corrected by the real count. The store does
//! the taking; this module says from which buckets and how much.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use async_trait::async_trait;

use crate::budget::{Scope, StoreError};
use crate::ids::{RecordId, TenantId};

/// The limits of one scope; absent means unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Calls per minute.
    pub requests: Option<RateLimit>,
    /// Tokens per minute, in and out together.
    pub tokens: Option<RateLimit>,
    /// Calls that may be under way at the same time.
    pub concurrent: Option<NonZeroU32>,
}

/// A rate: `per_minute` sustained, `burst` at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    /// Calls or tokens per minute in the long run.
    pub per_minute: NonZeroU64,
    /// Calls or tokens that may come at once after a pause.
    pub burst: NonZeroU64,
}

impl RateLimit {
    /// The most that one call takes from the bucket, whatever it asks for or uses: what a full
    /// bucket holds and what flows into it in an hour. So one absurd bound locks nobody out for
    /// longer than that.
    #[must_use]
    pub const fn most_taken(self) -> u64 {
        let hour = self.per_minute.get().saturating_mul(60);
        self.burst.get().saturating_add(hour)
    }
}

/// What a bucket counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Counted {
    /// Calls per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Calls under way.
    Concurrent,
}

impl Counted {
    /// Its name in policies, records and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Tokens => "tokens_per_minute",
            Self::Concurrent => "concurrent_requests",
        }
    }
}

/// One bucket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RateKey {
    /// The tenant.
    pub tenant: TenantId,
    /// Which part of it. Tasks have no rates.
    pub scope: Scope,
    /// What is counted.
    pub counted: Counted,
}

/// `acme/tenant/requests_per_minute`, `acme/agent=bot/tokens_per_minute`.
impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant,
            scope,
            counted,
        } = self;
        write!(f, "{tenant}/{scope}/{}", counted.as_str())
    }
}

/// One limit that a call must keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Whose and of what.
    pub key: RateKey,
    /// How much.
    pub size: Size,
}

/// How much a bucket lets through. When it changes, what was taken stays taken and flows back at
/// the new rate, and calls under way stay counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// So much per minute.
    Rate(RateLimit),
    /// So many at once.
    AtOnce(NonZeroU32),
}

/// What a call was admitted with, to be given back once it is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pass {
    /// The call's record; giving back the same id twice changes nothing.
    pub id: RecordId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Tokens asked for. A bucket gave no more of them than [`RateLimit::most_taken`].
    pub tokens: u64,
}

/// The answer of the buckets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Paced {
    /// The call may go now.
    Go(Pass),
    /// The call may go now, and there is nothing to give back: it has no limits.
    Free,
    /// Nothing was taken: this limit lets it go after so much time, if nothing else comes before.
    Wait {
        /// The limit with the longest wait.
        key: RateKey,
        /// How long.
        retry_after: Duration,
    },
}

/// Where rates are counted.
#[async_trait]
pub trait RateStore: Send + Sync {
    /// Takes one call and `tokens` tokens from every limit or from none. The limits are those of
    /// one tenant, each named once. Idempotent by `id` until it is released.
    ///
    /// A call with more tokens than a bucket can ever hold is admitted by a full bucket, which then
    /// owes them: later calls wait until the debt is paid. A call without tokens never waits for
    /// tokens.
    async fn admit(&self, id: RecordId, limits: &[Limit], tokens: u64)
    -> Result<Paced, StoreError>;

    /// Ends a call: frees its place and replaces the tokens taken by those really used (`None`
    /// leaves the estimate), which may leave a debt. Idempotent by the pass's id. Does not wait.
    fn release(&self, pass: &Pass, tokens: Option<u64>);

    /// What each of these limits would let through at once now: calls or tokens, rounded down, or
    /// places. Below zero is a debt. Takes nothing.
    async fn left(&self, limits: &[Limit]) -> Result<Vec<i64>, StoreError>;
}
