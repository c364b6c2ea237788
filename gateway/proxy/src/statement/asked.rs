//! The query of a request for a statement: what to group by, and of which time.
//!
//! Whose figures are wanted cannot be asked: parameters that name a tenant or an agent are
//! refused like all that are not known, so that nobody takes them to have been heeded. Where
//! tokens may stand in a query, they are passed over.

use std::time::Duration;

use tollgate_core::identity::is_token;
use tollgate_core::ids::TenantId;
use tollgate_core::report::Dimension;
use tollgate_core::standing::View;
use tollgate_core::time::{Timestamp, Window};

use super::readings::Question;
use super::refusal::Unstated;

/// The most time that one statement is of: the longest month.
const MOST_DAYS: u64 = 31;

const DAY: Duration = Duration::from_secs(86_400);

/// The most dimensions to group by.
const MOST_DIMENSIONS: usize = 3;

/// A query that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    by: Option<Vec<Dimension>>,
    from: Timestamp,
    to: Option<Timestamp>,
}

/// Reads a query; without one it is about today.
pub(super) fn read(query: &str, now: Timestamp) -> Result<Asked, Unstated> {
    let (mut by, mut from, mut to) = (None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = match name {
            "key" if is_token(value) => continue,
            "by" => by.replace(dimensions(value)?).is_some(),
            "from" => from.replace(moment(value, Duration::ZERO)?).is_some(),
            "to" => to.replace(moment(value, DAY)?).is_some(),
            _ => {
                return Err(Unstated::Malformed(
                    "only `by`, `from` and `to` can be asked",
                ));
            }
        };
        if known {
            return Err(Unstated::Malformed("a parameter stands twice"));
        }
    }
    let last = to.unwrap_or(now);
    // The last moment that counts is the one before.
    let today = midnight(last.minus(Duration::from_micros(1)));
    let from = from.unwrap_or(today);
    if from >= last && to.is_some() {
        return Err(Unstated::Malformed("`from` must lie before `to`"));
    }
    let longest = DAY.saturating_mul(u32::try_from(MOST_DAYS).unwrap_or(u32::MAX));
    if last.since(from) > longest {
        return Err(Unstated::Malformed("a statement is of 31 days at most"));
    }
    Ok(Asked { by, from, to })
}

impl Asked {
    /// The question to the records of `tenant`, of what is in view.
    pub(super) fn about(self, tenant: &TenantId, view: &View) -> Question {
        let (agent, usual) = match view {
            View::Tenant => (None, vec![Dimension::Agent, Dimension::Model]),
            View::Agent(agent, _) => (Some(agent.clone()), vec![Dimension::Model]),
        };
        Question {
            tenant: tenant.clone(),
            agent,
            by: self.by.unwrap_or(usual),
            from: self.from,
            to: self.to,
        }
    }
}

fn dimensions(value: &str) -> Result<Vec<Dimension>, Unstated> {
    let wrong = Unstated::Malformed(
        "`by` is up to three of agent, task, model, provider, outcome, day and month, with commas between",
    );
    let value = value.replace("%2C", ",").replace("%2c", ",");
    let by: Result<Vec<Dimension>, _> = value.split(',').map(str::parse).collect();
    match by {
        Ok(by) if by.len() <= MOST_DIMENSIONS => Ok(by),
        _ => Err(wrong),
    }
}

/// A UTC date or time; a date stands for its first moment and `whole` of it.
fn moment(value: &str, whole: Duration) -> Result<Timestamp, Unstated> {
    let value = value.replace("%3A", ":").replace("%3a", ":");
    if let Ok(time) = value.parse() {
        return Ok(time);
    }
    let date: Result<Timestamp, _> = format!("{value}T00:00:00Z").parse();
    let date = date.map_err(|_no_date| {
        Unstated::Malformed(
            "a time is a UTC date or time, such as 2026-11-23 or 2026-11-23T08:00:00Z",
        )
    })?;
    Ok(date.plus(whole))
}

fn midnight(at: Timestamp) -> Timestamp {
    let end = Window::day(at).resets_at();
    end.map_or(at, |end| end.minus(DAY))
}
