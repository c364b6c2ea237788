//! Changes to the table of task tokens, each inside its writer's transaction.
//!
//! Decides nothing about signatures or times but one: a credential issued before its agent or
//! tenant was revoked earns no token. Worst case: one row per revoked agent is kept for good.

use rusqlite::{OptionalExtension, Transaction, params};
use tollgate_core::identity::Caller;
use tollgate_core::ids::TenantId;
use tollgate_core::registry::{Registered, Revocation};
use tollgate_core::time::Timestamp;

use super::{Db, DbError};

/// When agents, and with an empty name whole tenants, were last revoked.
pub(super) const CUT_OFFS: &str = "
CREATE TABLE cut_offs (
    tenant TEXT NOT NULL, agent TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent)) WITHOUT ROWID;
";

pub(super) fn register(
    transaction: &Transaction<'_>,
    caller: &Caller,
    rests_on: Option<Timestamp>,
) -> Result<Registered, DbError> {
    let (tenant, task) = (caller.tenant.as_str(), caller.task.as_str());
    let finished = transaction
        .query_row(
            "SELECT 1 FROM finished_tasks WHERE tenant = ?1 AND task = ?2",
            [tenant, task],
            |_| Ok(()),
        )
        .optional()?;
    if finished.is_some() {
        return Ok(Registered::TaskComplete);
    }
    if let Some(issued_at) = rests_on {
        let cut_off = transaction
            .query_row(
                "SELECT 1 FROM cut_offs WHERE tenant = ?1 AND agent IN ('', ?2) AND at >= ?3",
                params![tenant, caller.agent.as_str(), issued_at.as_micros()],
                |_| Ok(()),
            )
            .optional()?;
        if cut_off.is_some() {
            return Ok(Registered::Revoked);
        }
    }
    // An id that is already on the table is not taken over: that would undo a revocation.
    let added = transaction.execute(
        "INSERT OR IGNORE INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
        params![
            tenant,
            caller.token.as_str(),
            caller.agent.as_str(),
            task,
            caller.issued_at.as_micros(),
            caller.expires_at.as_micros()
        ],
    )?;
    Ok(if added == 1 {
        Registered::Live
    } else {
        Registered::IdTaken
    })
}

pub(super) fn revoke(
    transaction: &Transaction<'_>,
    what: &Revocation,
    now: Timestamp,
) -> Result<usize, DbError> {
    let (column, tenant, name) = match what {
        Revocation::Token { tenant, token } => ("token", tenant, token.as_str()),
        Revocation::Task { tenant, task } => {
            transaction.execute(
                "INSERT OR IGNORE INTO finished_tasks VALUES (?1, ?2, ?3)",
                params![tenant.as_str(), task.as_str(), now.as_micros()],
            )?;
            ("task", tenant, task.as_str())
        }
        Revocation::Agent { tenant, agent } => {
            cut_off(transaction, tenant, agent.as_str(), now)?;
            ("agent", tenant, agent.as_str())
        }
        Revocation::Tenant { tenant } => {
            cut_off(transaction, tenant, "", now)?;
            ("tenant", tenant, tenant.as_str())
        }
    };
    let condition = format!("tenant = ?1 AND {column} = ?2 AND revoked = 0");
    let live = transaction.query_row(
        &format!("SELECT count(*) FROM tokens WHERE {condition} AND expires_at > ?3"),
        params![tenant.as_str(), name, now.as_micros()],
        |row| row.get::<_, i64>(0),
    )?;
    transaction.execute(
        &format!("UPDATE tokens SET revoked = 1 WHERE {condition}"),
        [tenant.as_str(), name],
    )?;
    usize::try_from(live).map_err(|_negative| DbError::Malformed("count"))
}

impl Db {
    /// Every task that is over, and when agents and tenants were last revoked.
    pub(crate) fn ends(&self) -> Result<Vec<(Revocation, Timestamp)>, DbError> {
        let mut ends = Vec::new();
        let mut read = |sql: &str, of: &dyn Fn(TenantId, &str) -> Option<Revocation>| {
            let mut statement = self.connection().prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let tenant: String = row.get(0)?;
                let name: String = row.get(1)?;
                let tenant = tenant.parse().map_err(|_e| DbError::Malformed("tenant"))?;
                let what = of(tenant, &name).ok_or(DbError::Malformed("name"))?;
                ends.push((what, Timestamp::from_micros(row.get(2)?)));
            }
            Ok::<_, DbError>(())
        };
        read(
            "SELECT tenant, task, at FROM finished_tasks",
            &|tenant, task| {
                let task = task.parse().ok()?;
                Some(Revocation::Task { tenant, task })
            },
        )?;
        read(
            "SELECT tenant, agent, at FROM cut_offs",
            &|tenant, agent| {
                Some(match agent {
                    "" => Revocation::Tenant { tenant },
                    agent => Revocation::Agent {
                        tenant,
                        agent: agent.parse().ok()?,
                    },
                })
            },
        )?;
        Ok(ends)
    }
}

/// Keeps that what was issued before `now` to this agent, or with `""` to any, is worth nothing.
fn cut_off(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    agent: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    transaction.execute(
        "INSERT INTO cut_offs VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET at = max(at, excluded.at)",
        params![tenant.as_str(), agent, now.as_micros()],
    )?;
    Ok(())
}
