//! What has been spent on what, from the records.
//!
//! Only reads the question; where records lie and how they are folded is the reporter's affair.
//! A report is read from disk, so it runs off the listener's thread. Worst case: a report over
//! years of one tenant takes until the listener's deadline and is given up.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use serde_json::Value;
use tollgate_core::admin_log::About;
use tollgate_core::budget::StoreError;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;

/// A question about costs or refusals, as it stands in the query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostQuestion {
    /// One tenant, or all of them.
    pub tenant: Option<String>,
    /// What to group by, separated by commas.
    pub by: Option<String>,
    /// The first moment that counts: a UTC month, date or time.
    pub from: Option<String>,
    /// The first moment that no longer counts.
    pub to: Option<String>,
    /// Only the first so many rows.
    pub top: Option<usize>,
    /// In which order: `cost`, `calls`, ...
    pub sort: Option<String>,
    /// About refusals instead of costs.
    pub refusals: bool,
    /// What must hold of a record: `model=gpt-4o*`.
    pub conditions: Vec<String>,
    /// What the answer looks like: `json`, `csv`, ...
    pub format: Option<String>,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CostAnswer {
    /// As a value.
    Json(Value),
    /// As text of some kind.
    Text {
        /// Its media type.
        kind: &'static str,
        /// The text.
        text: String,
    },
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
    /// The report. Blocks on the disk.
    ///
    /// # Errors
    /// If the question cannot be understood or the records not be read.
    fn cost(&self, question: &CostQuestion) -> Result<CostAnswer, NoReport>;
}

impl From<NoReport> for Problem {
    fn from(reason: NoReport) -> Self {
        match reason {
            NoReport::Question(detail) => Self::invalid(detail),
            NoReport::Store(failed) => failed.into(),
        }
    }
}

impl CostQuestion {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut question = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            let place = match &*name {
                "tenant" => &mut question.tenant,
                "by" => &mut question.by,
                "from" => &mut question.from,
                "to" => &mut question.to,
                "sort" => &mut question.sort,
                "format" => &mut question.format,
                "where" => {
                    question.conditions.push(value);
                    continue;
                }
                "agent" | "task" | "model" | "provider" => {
                    question.conditions.push(format!("{name}={value}"));
                    continue;
                }
                "top" if question.top.is_none() => {
                    let top = value.parse();
                    let top = top.map_err(|_no_number| Problem::malformed("top is no number"))?;
                    question.top = Some(top);
                    continue;
                }
                "refusals" => {
                    let told = value.parse();
                    question.refusals =
                        told.map_err(|_neither| Problem::malformed("refusals is true or false"))?;
                    continue;
                }
                _ => {
                    return Err(Problem::malformed(
                        "there is an unknown parameter, or one twice",
                    ));
                }
            };
            if place.replace(value).is_some() {
                return Err(Problem::malformed("a parameter stands there twice"));
            }
        }
        Ok(question)
    }
}

pub(crate) async fn cost(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let question = CostQuestion::read(&query.unwrap_or_default())?;
    // What names no tenant is a question about all of them.
    let tenant = question.tenant.as_deref().and_then(|id| id.parse().ok());
    let about = tenant.map_or_else(About::default, About::tenant);
    let deed = asker.begin(&admin, Action::ReadReport, about).await?;
    Ok(deed.close(report(&admin, question).await))
}

async fn report(admin: &Admin, question: CostQuestion) -> Result<Response, Problem> {
    let reports = Arc::clone(&admin.reports);
    let report = tokio::task::spawn_blocking(move || reports.cost(&question)).await;
    let report = report.map_err(|_panicked| Problem::internal())?;
    Ok(match report? {
        CostAnswer::Json(value) => Json(value).into_response(),
        // The page has a policy of its own that allows its own style and nothing else.
        CostAnswer::Text { kind, text } => {
            let policy = "frame-ancestors 'none'; sandbox";
            let headers = [
                (CONTENT_TYPE, kind),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (CONTENT_SECURITY_POLICY, policy),
            ];
            (headers, text).into_response()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_from_the_query_string() {
        let query = "tenant=acme&by=day%2Cmodel&where=agent!%3Dx*&model=gpt-5&model=o3&top=5\
                     &refusals=true&format=csv&sort=calls&from=2026-11&to=2026-12";
        let question = CostQuestion::read(query).expect("understood");
        let text = |text: &str| Some(text.to_owned());
        let expected = CostQuestion {
            tenant: text("acme"),
            by: text("day,model"),
            from: text("2026-11"),
            to: text("2026-12"),
            top: Some(5),
            sort: text("calls"),
            refusals: true,
            conditions: ["agent!=x*", "model=gpt-5", "model=o3"]
                .map(str::to_owned)
                .to_vec(),
            format: text("csv"),
        };
        assert_eq!(question, expected);
        assert_eq!(
            CostQuestion::read("").expect("everything"),
            CostQuestion::default()
        );
        for wrong in [
            "tenant=acme&tenant=globex",
            "top=1&top=2",
            "top=x",
            "colour=red",
            "refusals=1",
        ] {
            let problem = CostQuestion::read(wrong).expect_err(wrong);
            assert_eq!(problem.code(), "malformed_request");
        }
    }
}
