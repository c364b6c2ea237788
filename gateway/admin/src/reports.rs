//! What has been spent on what, from the records.
//!
//! Only reads the question; where records lie and how they are folded is the reporter's affair.
//! A report is read from disk, so it runs off the listener's thread. Worst case: a report over
//! years of one tenant takes until the listener's deadline and is given up.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use tollgate_core::admin_log::About;
use tollgate_core::budget::StoreError;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;

/// A question about costs, as it stands in the query string.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostQuestion {
    /// One tenant, or all of them.
    pub tenant: Option<String>,
    /// What to group by, separated by commas.
    pub by: Option<String>,
    /// The first moment that counts: a UTC date or time.
    pub from: Option<String>,
    /// The first moment that no longer counts.
    pub to: Option<String>,
    /// Only the dearest so many rows.
    pub top: Option<usize>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum NoReport {
    /// The question has a value that cannot be used.
    #[error("{0}")]
    Question(String),
    /// The records could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers questions about costs.
pub trait CostReports: Send + Sync {
    /// The report as JSON. Blocks on the disk.
    ///
    /// # Errors
    /// If the question cannot be understood or the records not be read.
    fn cost(&self, question: &CostQuestion) -> Result<Value, NoReport>;
}

impl From<NoReport> for Problem {
    fn from(reason: NoReport) -> Self {
        match reason {
            NoReport::Question(detail) => Self::invalid(detail),
            NoReport::Store(failed) => failed.into(),
        }
    }
}

pub(crate) async fn cost(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    question: Result<Query<CostQuestion>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(question) = question.map_err(|wrong| Problem::malformed(wrong.body_text()))?;
    // What names no tenant is a question about all of them.
    let tenant = question.tenant.as_deref().and_then(|id| id.parse().ok());
    let about = tenant.map_or_else(About::default, About::tenant);
    let deed = asker.begin(&admin, Action::ReadReport, about).await?;
    Ok(deed.close(report(&admin, question).await))
}

async fn report(admin: &Admin, question: CostQuestion) -> Result<Json<Value>, Problem> {
    let reports = Arc::clone(&admin.reports);
    let report = tokio::task::spawn_blocking(move || reports.cost(&question)).await;
    let report = report.map_err(|_panicked| Problem::internal())?;
    Ok(Json(report?))
}
