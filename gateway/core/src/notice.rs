//! Soft thresholds: shares of a cap whose passing somebody should know of before it is reached.
//!
//! Decides which shares have been passed; a book remembers which were told, so that each is told
//! once per cap, window and limit. Knows nothing of how notices travel. At worst a notice comes a
//! moment late: thresholds warn, caps refuse.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::budget::{Balance, BudgetKey, StoreError};
use crate::ids::{RecordId, TenantId};
use crate::money::PicoUsd;
use crate::time::Timestamp;

/// What tells a notice from the record of a call, which stands beside it.
pub const EVENT: &str = "cap_share_reached";

/// A share of a cap has been spent. Kept in the tenant's partition, and sent as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// Its own id.
    #[serde(rename = "tollgate.record.id")]
    pub id: RecordId,
    /// Always [`EVENT`].
    #[serde(rename = "tollgate.event")]
    pub event: String,
    /// When it was noticed.
    #[serde(rename = "tollgate.started_at")]
    pub at: Timestamp,
    /// Whose cap.
    #[serde(rename = "tenant.id")]
    pub tenant: TenantId,
    /// Which cap: `acme/agent=bot/day:2026-11-23`.
    #[serde(rename = "tollgate.cap.key")]
    pub key: BudgetKey,
    /// The share, in percent of the limit.
    #[serde(rename = "tollgate.cap.share_percent")]
    pub percent: u8,
    /// The limit.
    #[serde(rename = "tollgate.cap.limit_usd")]
    pub limit: PicoUsd,
    /// The cost of finished calls.
    #[serde(rename = "tollgate.cap.spent_usd")]
    pub spent: PicoUsd,
    /// What calls in flight have reserved.
    #[serde(rename = "tollgate.cap.reserved_usd")]
    pub reserved: PicoUsd,
    /// When the window ends, if it does.
    #[serde(
        rename = "tollgate.cap.resets_at",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub resets_at: Option<Timestamp>,
}

impl Notice {
    /// A notice of this moment.
    #[must_use]
    pub fn new(
        id: RecordId,
        at: Timestamp,
        key: BudgetKey,
        percent: u8,
        limit: PicoUsd,
        balance: Balance,
    ) -> Self {
        Self {
            id,
            event: EVENT.to_owned(),
            at,
            tenant: key.tenant.clone(),
            resets_at: key.window.resets_at(),
            key,
            percent,
            limit,
            spent: balance.settled,
            reserved: balance.reserved,
        }
    }
}

/// The shares of `limit`, in percent, that `spent` has passed. A cap of zero blocks from the
/// start, so that there is nothing to warn of.
pub fn passed(spent: PicoUsd, limit: PicoUsd, shares: &[u8]) -> impl Iterator<Item = u8> + use<'_> {
    shares.iter().copied().filter(move |share| {
        let mark = limit.as_pico().saturating_mul(i128::from(*share));
        limit > PicoUsd::ZERO && spent.as_pico().saturating_mul(100) >= mark
    })
}

/// Remembers what has been noticed, and what of it is still to be sent.
#[async_trait]
pub trait NoticeBook: Send + Sync {
    /// Keeps a notice, unless its share of this cap, window and limit has been noticed before.
    /// Says whether it is new.
    async fn keep(&self, notice: &Notice) -> Result<bool, StoreError>;

    /// Notices that are still to be sent, the oldest first; a bounded number at a time.
    async fn unsent(&self) -> Result<Vec<Notice>, StoreError>;

    /// A notice needs no more sending: it has arrived, or there is nobody to take it.
    async fn sent(&self, id: RecordId) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_passed_when_it_is_reached_exactly() {
        let shares = [50, 80, 100];
        let seen = |spent, limit| -> Vec<u8> {
            passed(PicoUsd::new(spent), PicoUsd::new(limit), &shares).collect()
        };
        assert!(seen(499, 1_000).is_empty());
        assert_eq!(seen(500, 1_000), [50]);
        assert_eq!(seen(999, 1_000), [50, 80]);
        assert_eq!(seen(1_000, 1_000), shares);
        assert!(seen(0, 0).is_empty(), "a cap of zero blocks from the start");
        assert_eq!(seen(i128::MAX, i128::MAX), shares, "no sum overflows");
    }

    #[test]
    fn a_notice_reads_back_and_is_told_from_a_call() {
        let key: BudgetKey = "acme/agent=bot/day:2026-11-23".parse().expect("a key");
        let id = "019ab3c0000070008000000000000001".parse().expect("an id");
        let at = "2026-11-23T12:00:00Z".parse().expect("a time");
        let balance = Balance {
            settled: PicoUsd::new(80),
            reserved: PicoUsd::new(5),
        };
        let notice = Notice::new(id, at, key, 80, PicoUsd::new(100), balance);
        let json = serde_json::to_string(&notice).expect("JSON");
        assert_eq!(serde_json::from_str::<Notice>(&json).ok(), Some(notice));
        assert!(
            json.contains(r#""tollgate.event":"cap_share_reached""#),
            "{json}"
        );
        assert!(serde_json::from_str::<crate::record::Record>(&json).is_err());
    }
}
