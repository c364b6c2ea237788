//! Shares of caps, noticed once in the whole fleet: by whoever says so first in Redis.
//!
//! Worst case: a replica that is killed right after it has said so sends the notice when it comes
//! back.

use std::sync::Arc;

use async_trait::async_trait;
use tollgate_core::budget::StoreError;
use tollgate_core::ids::RecordId;
use tollgate_core::notice::{Notice, NoticeBook};

use super::link::{Link, Script};
use super::visits::texts;
use crate::embedded;

static NOTICE: Script = Script::new(
    "local owner = redis.call('GET', KEYS[1])
     if owner then return { owner } end
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
     return { ARGV[1] }",
);
/// As long as the database keeps them: 93 days.
const KEPT_MS: u64 = 93 * 86_400_000;

/// The notices of a fleet.
pub struct SharedNotices {
    pub(super) link: Arc<Link>,
    pub(super) member: String,
    pub(super) local: Arc<embedded::Notices>,
}

#[async_trait]
impl NoticeBook for SharedNotices {
    async fn keep(&self, notice: &Notice) -> Result<bool, StoreError> {
        let Notice {
            key,
            percent,
            limit,
            ..
        } = notice;
        let rest = format!("notice:{}/{}/{percent}/{limit}", key.scope, key.window);
        let keys = [self.link.key(notice.tenant.as_str(), &rest)];
        let args = [self.member.clone(), KEPT_MS.to_string()];
        let said = self
            .link
            .run(&NOTICE, &keys, &args, false)
            .await
            .and_then(texts);
        let owner = said.map_err(|cause| StoreError {
            operation: "keep a notice",
            store: "shared",
            cause: Box::new(cause),
        })?;
        if owner.first() != Some(&self.member) {
            return Ok(false);
        }
        self.local.keep(notice).await
    }

    async fn unsent(&self) -> Result<Vec<Notice>, StoreError> {
        self.local.unsent().await
    }

    async fn sent(&self, id: RecordId) -> Result<(), StoreError> {
        self.local.sent(id).await
    }
}
