//! `[records]` of a tenant: how long its records are kept, and how firmly.

use crate::policy::reader::{self, Section};
use crate::policy::{ObjectLock, Retention};

/// A hundred years: beyond it, leaving the setting out says what is meant.
const MAX_DAYS: u64 = 36_500;

const LOCKS: &[(&str, ObjectLock)] = &[
    ("compliance", ObjectLock::Compliance),
    ("governance", ObjectLock::Governance),
];

pub(super) fn read(root: &Section<'_>) -> Retention {
    let retention = root.table("records", |section| {
        let days = section
            .optional("retention_days", reader::integer(1..=MAX_DAYS))
            .and_then(|days| u32::try_from(days).ok());
        let lock = section.optional("lock", reader::one_of(LOCKS));
        if lock.is_some() && !section.has("retention_days") {
            section.mistake(
                section.at("lock"),
                "`lock` holds objects for `retention_days`, which is missing",
            );
        }
        Retention { days, lock }
    });
    retention.unwrap_or_default()
}
