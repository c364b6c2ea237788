//! What has been spent on what, from the records.
//!
//! Only reads the question; where records lie and how they are folded is the reporter's affair.
//! A report is read from disk, so it runs off the listener's thread. Worst case: a report over
//! years of one tenant takes until the listener's deadline and is given up.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::Value;
use tollgate_core::budget::StoreError;

use crate::Admin;
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
    question: Result<Query<CostQuestion>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(question) = question.map_err(|wrong| Problem::malformed(wrong.body_text()))?;
    let reports = Arc::clone(&admin.reports);
    let report = tokio::task::spawn_blocking(move || reports.cost(&question)).await;
    let report = report.map_err(|_panicked| Problem::internal())?;
    Ok(Json(report?))
}
