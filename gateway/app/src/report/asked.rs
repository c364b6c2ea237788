//! A question about the records, from the texts of a command line or a query string.

use std::fmt::Display;
use std::time::Duration;

use tollgate_archive::records::{self, Scope, Unread};
use tollgate_archive::shelf::Shelf;
use tollgate_archive::tally::{self, Table};
use tollgate_core::audit::Partition;
use tollgate_core::ids::TenantId;
use tollgate_core::report::{Condition, Dimension, Filter, Order, Query, Topic};
use tollgate_core::time::{Timestamp, Window};

use super::Sort;

/// A question as it was put.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts<'t> {
    /// One tenant, or all of them.
    pub(crate) tenant: Option<&'t str>,
    /// What to group by, separated by commas.
    pub(crate) by: Option<&'t str>,
    /// The first moment that counts.
    pub(crate) from: Option<&'t str>,
    /// The first moment that no longer counts.
    pub(crate) to: Option<&'t str>,
    /// Only so many rows.
    pub(crate) top: Option<usize>,
    /// In which order.
    pub(crate) sort: Option<Sort>,
    /// About refusals instead of costs.
    pub(crate) refusals: bool,
    /// Such as `model=gpt-4o*`.
    pub(crate) conditions: Vec<String>,
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(super) tenant: Option<TenantId>,
    pub(super) query: Query,
    /// Whether the rows' groups were chosen, or are the usual ones.
    pub(super) chosen: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The question has a value that cannot be used.
    #[error("{0}")]
    Question(String),
    /// The records cannot be read.
    #[error("the records cannot be read")]
    Records(#[from] Unread),
}

impl Asked {
    /// Reads a question.
    ///
    /// # Errors
    /// [`Unanswered::Question`] with the first text that cannot be used.
    pub(crate) fn from_texts(texts: &Texts<'_>) -> Result<Self, Unanswered> {
        let tenant = texts.tenant.map(str::parse).transpose();
        let (topic, by, order) = if texts.refusals {
            let by = "tenant,agent,reason,limit";
            (Topic::Refusals, by, Order::Refusals)
        } else {
            (Topic::Costs, "tenant,model", Order::Cost)
        };
        let by = Dimension::list(texts.by.unwrap_or(by));
        let conditions = texts
            .conditions
            .iter()
            .map(|text| text.parse::<Condition>());
        let conditions: Result<Vec<_>, _> = conditions.collect();
        Ok(Self {
            tenant: tenant.map_err(|wrong| question(&wrong))?,
            query: Query {
                topic,
                by: by.map_err(|wrong| question(&wrong))?,
                filter: Filter::new(conditions.map_err(|wrong| question(&wrong))?),
                from: texts
                    .from
                    .map(|text| moment(text, Edge::Start))
                    .transpose()?,
                to: texts.to.map(|text| moment(text, Edge::End)).transpose()?,
                order: match texts.sort {
                    None => order,
                    Some(Sort::Cost) => Order::Cost,
                    Some(Sort::Calls) => Order::Calls,
                    Some(Sort::Refusals) => Order::Refusals,
                    Some(Sort::Asked) => Order::Asked,
                    Some(Sort::Tokens) => Order::Tokens,
                    Some(Sort::Name) => Order::Key,
                },
                top: texts.top,
            },
            chosen: texts.by.is_some(),
        })
    }

    /// The same with at most so many rows.
    pub(crate) fn at_most(mut self, rows: usize) -> Self {
        self.query.top = Some(self.query.top.unwrap_or(rows).min(rows));
        self
    }

    /// Whose records are to be read, and from when.
    ///
    /// # Errors
    /// If it cannot be seen whose there are.
    pub(crate) fn scope(&self, shelf: &dyn Shelf) -> Result<Scope, Unanswered> {
        let filter = &self.query.filter;
        let mut partitions = match &self.tenant {
            Some(tenant) => vec![Partition::Tenant(tenant.clone())],
            None => records::tenants(shelf)?,
        };
        partitions.retain(|partition| filter.takes_tenant(partition.as_str()));
        // Whoever could not prove to be anybody was refused, too.
        let everybody = self.tenant.is_none() && filter.takes_tenant("");
        if self.query.topic == Topic::Refusals && everybody {
            partitions.push(Partition::Gateway);
        }
        Ok(Scope {
            partitions,
            from: self.query.from,
            to: self.query.to,
        })
    }

    /// Reads the records of the tenants asked for. Blocks on the disk.
    ///
    /// # Errors
    /// [`Unanswered::Records`].
    pub(crate) fn table(&self, shelf: &dyn Shelf, threads: usize) -> Result<Table, Unanswered> {
        let scope = self.scope(shelf)?;
        let tables = tally::tables(shelf, &scope, std::slice::from_ref(&self.query), threads)?;
        let table = tables.into_iter().next();
        table.ok_or_else(|| Unanswered::Question("nothing is asked".to_owned()))
    }
}

fn question(wrong: &impl Display) -> Unanswered {
    Unanswered::Question(wrong.to_string())
}

/// Which end of a stretch of time a date stands for.
#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// A UTC time, or a UTC date or month: its first moment, or as an end, the moment after its last.
fn moment(text: &str, edge: Edge) -> Result<Timestamp, Unanswered> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let midnight = |date: &str| format!("{date}T00:00:00Z").parse::<Timestamp>();
    let (start, end) = if let Ok(day) = midnight(text) {
        (day, day.plus(Duration::from_secs(24 * 60 * 60)))
    } else if let Ok(first) = midnight(&format!("{text}-01")) {
        (first, Window::month(first).resets_at().unwrap_or(first))
    } else {
        return Err(Unanswered::Question(format!(
            "{text:?} is no UTC month, date or time, such as 2026-11, 2026-11-23 or \
             2026-11-23T08:00:00Z"
        )));
    };
    Ok(match edge {
        Edge::Start => start,
        Edge::End => end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: &str, to: &str) -> Result<Query, Unanswered> {
        let texts = Texts {
            by: Some("day, model"),
            from: Some(from),
            to: Some(to),
            ..Texts::default()
        };
        Asked::from_texts(&texts).map(|asked| asked.query)
    }

    #[test]
    fn a_date_or_month_counts_whole_at_either_end() {
        let query = asked("2026-11-23", "2026-11-23").expect("understood");
        assert_eq!(query.by, [Dimension::Day, Dimension::Model]);
        assert_eq!(query.from, "2026-11-23T00:00:00Z".parse().ok());
        assert_eq!(query.to, "2026-11-24T00:00:00Z".parse().ok());
        let query = asked("2026-11", "2026-12").expect("months");
        assert_eq!(query.from, "2026-11-01T00:00:00Z".parse().ok());
        assert_eq!(query.to, "2027-01-01T00:00:00Z".parse().ok());
        let query = asked("2026-11-23T08:00:00Z", "2026-11-23T09:00:00+01:00").expect("times");
        assert_eq!(query.from, query.to);
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        let wrong =
            |texts: &Texts<'_>| matches!(Asked::from_texts(texts), Err(Unanswered::Question(_)));
        assert!(matches!(
            asked("yesterday", "2026-11-23"),
            Err(Unanswered::Question(_))
        ));
        assert!(wrong(&Texts {
            by: Some("colour"),
            ..Texts::default()
        }));
        assert!(wrong(&Texts {
            tenant: Some("../b"),
            ..Texts::default()
        }));
        assert!(wrong(&Texts {
            conditions: vec!["colour=red".to_owned()],
            ..Texts::default()
        }));
    }
}
