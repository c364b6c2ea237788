//! The only place that asks what time it is. Everything else is told.

use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_core::time::Timestamp;

/// The time by the system's clock. A clock before 1970 counts as 1970, where every token is from
/// the future and none is believed.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
