//! What is kept of those who look into tenants' affairs or change them: who, what, whose, and how
//! it ended.
//!
//! An operator's actions stand in the operators' own partition, those of a tenant's auditors and
//! minters in that tenant's. Who may do what is decided before. Worst case: a crash in the midst
//! of an action leaves a line that says `interrupted`, and nobody can tell whether it took effect.

use async_trait::async_trait;
use serde::Serialize;

use crate::audit::Partition;
use crate::budget::StoreError;
use crate::ids::{AdminName, AgentId, RecordId, TaskId, TenantId, TokenId};
use crate::time::Timestamp;

/// What tells such a line from the record of a call, which may stand beside it.
pub const EVENT: &str = "admin_action";

/// Somebody is about to do something, or was kept from it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AdminAction {
    /// Its own id.
    #[serde(rename = "tollgate.record.id")]
    pub id: RecordId,
    /// Always [`EVENT`].
    #[serde(rename = "tollgate.event")]
    pub event: String,
    /// When it was asked for.
    #[serde(rename = "tollgate.started_at")]
    pub at: Timestamp,
    /// Who.
    #[serde(rename = "tollgate.admin.name")]
    pub name: AdminName,
    /// In which role: `operator`, `auditor` or `minter`.
    #[serde(rename = "tollgate.admin.role")]
    pub role: String,
    /// What: `token.mint`, `budget.read` and so on.
    #[serde(rename = "tollgate.admin.action")]
    pub action: String,
    /// Whose affairs.
    #[serde(flatten)]
    pub about: About,
    /// From which address, as far as it is known.
    #[serde(rename = "client.address", skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Whose partition the line stands in.
    #[serde(skip)]
    pub partition: Partition,
}

/// Whose affairs an action is about, as closely as is known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct About {
    /// The tenant; every tenant, or an unknown one, is `*`.
    #[serde(rename = "tenant.id", serialize_with = "or_star")]
    pub tenant: Option<TenantId>,
    /// The agent.
    #[serde(rename = "gen_ai.agent.id", skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The task.
    #[serde(rename = "tollgate.task.id", skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The token's id, never the token.
    #[serde(rename = "tollgate.token.id", skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
}

impl About {
    /// A tenant as a whole.
    #[must_use]
    pub fn tenant(tenant: TenantId) -> Self {
        Self {
            tenant: Some(tenant),
            ..Self::default()
        }
    }
}

/// How an action ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Ended {
    /// When.
    #[serde(rename = "tollgate.ended_at")]
    pub at: Timestamp,
    /// In which way.
    #[serde(rename = "tollgate.outcome")]
    pub outcome: Outcome,
    /// The status of the answer, if there is one.
    #[serde(
        rename = "http.response.status_code",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<u16>,
    /// The code of what stood in its way.
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// In which way an action ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// The role does not reach so far; nothing was done.
    Denied,
    /// It was allowed and could not be done.
    Failed,
    /// The client left or the gateway stopped in the midst of it.
    Interrupted,
}

/// Keeps what is done through the admin API.
#[async_trait]
pub trait AdminLog: Send + Sync {
    /// Keeps that somebody is about to do something. When this returns, killing the process no
    /// longer loses it.
    ///
    /// # Errors
    /// If it cannot be written. Then nothing may be done.
    async fn begin(&self, action: &AdminAction) -> Result<(), StoreError>;

    /// Keeps how it ended, before anybody is answered. If the disk takes nothing more by then,
    /// it is tried again until the process ends; the next one then says `interrupted`.
    fn end(&self, id: RecordId, ended: &Ended);
}

fn or_star<S: serde::Serializer>(tenant: &Option<TenantId>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(tenant.as_ref().map_or("*", TenantId::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_one_line_that_names_everybody_and_is_told_from_a_call() {
        let action = AdminAction {
            id: "019ab3c0000070008000000000000001".parse().expect("an id"),
            event: EVENT.to_owned(),
            at: "2026-11-23T12:00:00Z".parse().expect("a time"),
            name: "alice".parse().expect("a name"),
            role: "minter".to_owned(),
            action: "token.mint".to_owned(),
            about: About {
                agent: "bot".parse().ok(),
                ..About::tenant("acme".parse().expect("a tenant"))
            },
            client: Some("127.0.0.1".to_owned()),
            partition: Partition::Operators,
        };
        let json = serde_json::to_string(&action).expect("JSON");
        assert!(
            json.contains(
                r#""tollgate.admin.action":"token.mint","tenant.id":"acme","gen_ai.agent.id":"bot","#
            ),
            "{json}"
        );
        assert!(serde_json::from_str::<crate::record::Record>(&json).is_err());
        let all = serde_json::to_string(&About::default()).expect("JSON");
        assert_eq!(all, r#"{"tenant.id":"*"}"#);
    }
}
