//! The stores of a gateway whose successor takes over its directory while its calls go on.
//!
//! ```text
//! old  Switch: here ──────────► away ── Told: how calls end ──►┐
//! new                  take_over ── Inherited ◄────────────────┘
//! ```
//! Until it turns, a [`Switch`] passes every call on to the stores of its own process. Away, it
//! admits nothing, and what ends is told to the successor, whose [`Inherited`] settles and records
//! it as if the call had been its own. An ending carries the cost, and what was held is known from
//! the journal, so nothing else has to be told of money. Does not know how anything is carried
//! across. Worst case: what was told and did not arrive; then the call ends as `interrupted`, at
//! its reservation, as after a crash.

mod inherited;
mod switch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_core::budget::BudgetKey;
use tollgate_core::deferred::{Known, RemoteId};
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::record::{Ending, Record, Stranger};
use tollgate_core::time::Timestamp;

use super::{Budgets, Deferred, Rates, Records, Registry};

pub use inherited::{Inherited, Settled};
pub use switch::Switch;

/// The stores that a call uses.
#[derive(Clone)]
pub struct Ledgers {
    pub(super) budgets: Arc<Budgets>,
    pub(super) rates: Arc<Rates>,
    pub(super) registry: Arc<Registry>,
    pub(super) records: Arc<Records>,
    pub(super) deferred: Arc<Deferred>,
}

/// What a gateway that has let go of its stores tells its successor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// A call has ended.
    Concluded(RecordId, Ending),
    /// A call has ended that states what work has used which was charged in advance.
    Corrected {
        /// The call's record.
        record: RecordId,
        /// How it ended.
        ending: Ending,
        /// What the charge is kept under.
        of: RemoteId,
        /// The counters it was charged to.
        keys: Vec<BudgetKey>,
    },
    /// A call has left its place, and used so many tokens if anybody knows.
    Left {
        /// The call's record.
        id: RecordId,
        /// Its tenant.
        tenant: TenantId,
        /// The tokens asked for.
        asked: u64,
        /// The tokens used.
        used: Option<u64>,
    },
    /// A call was refused.
    Refused(Box<Record>),
    /// Somebody unknown was turned away.
    TurnedAway(Stranger),
    /// Something is known of deferred work.
    Remembered(RemoteId, Known, Timestamp),
}

#[cfg(test)]
mod tests;
