//! How much the running gateway says in its log, and changing that.
//!
//! Who changes it is on record like everything else. Knows no directive's form. Worst case: an
//! operator silences the log; the records of calls and of operators go on.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tollgate_core::admin_log::About;
use tollgate_core::time::Timestamp;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;
use crate::server::read;

/// How much is said now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLevel {
    /// A level, or directives of the form `target=level,…`.
    pub level: String,
    /// What the process was started with.
    pub started_with: String,
    /// When that is in force again by itself.
    pub until: Option<Timestamp>,
}

/// What is not a level or a list of directives, without its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotALevel(pub String);

/// What says how much is said.
pub trait LogLevels: Send + Sync {
    /// How much is said now.
    fn standing(&self) -> LogLevel;

    /// Says as much as `level` asks for from now on, for so long or until the process ends.
    ///
    /// # Errors
    /// If it is none. Then nothing has changed.
    fn set(&self, level: &str, lasts: Option<Duration>) -> Result<LogLevel, NotALevel>;
}

/// The longest that a change can be asked to last before it goes back: a week.
const MOST_SECONDS: u64 = 7 * 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    level: String,
    for_seconds: Option<u64>,
}

pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
) -> Result<Response, Problem> {
    let deed = asker.begin(&admin, Action::ReadLog, About::default());
    let deed = deed.await?;
    Ok(deed.close(Ok(Json(admin.log_levels.standing()))))
}

pub(crate) async fn set(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: Asked = read(body)?;
    let deed = asker.begin(&admin, Action::SetLog, About::default());
    let deed = deed.await?;
    Ok(deed.close(changed(&admin, &asked).map(IntoResponse::into_response)))
}

fn changed(admin: &Admin, asked: &Asked) -> Result<Json<LogLevel>, Problem> {
    let lasts = match asked.for_seconds {
        Some(seconds) if !(1..=MOST_SECONDS).contains(&seconds) => {
            let why = format!("`for_seconds` is from 1 to {MOST_SECONDS}");
            return Err(Problem::invalid(why));
        }
        seconds => seconds.map(Duration::from_secs),
    };
    let set = admin.log_levels.set(&asked.level, lasts);
    set.map(Json)
        .map_err(|NotALevel(why)| Problem::invalid(why))
}
