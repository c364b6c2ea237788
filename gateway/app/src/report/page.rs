//! The report as one page that needs nothing else: no network, no script, no font of its own.
//!
//! Gathers all figures in one reading, then writes HTML with charts as inline SVG. A strict content
//! policy stands in the page itself, so that even a name which got past the escaping could fetch
//! or run nothing. Worst case: more groups than [`MOST_ROWS`], which share one row.

mod bars;
mod chart;
mod html;
mod series;
mod words;

use std::collections::BTreeMap;

use tollgate_archive::records::Unread;
use tollgate_archive::shelf::Shelf;
use tollgate_archive::tally::{self, Table};
use tollgate_core::report::{Dimension, Order, Query, Report, Sums, Topic};
use tollgate_core::time::Timestamp;

use super::{Asked, Unanswered};
use series::{Bins, Trend};

/// Groups with a row of their own, unless another number is asked for. Browsers show that many
/// at once.
const MOST_ROWS: usize = 1_000;

/// Rows of the table of refusals.
const MOST_REFUSALS: usize = 200;

/// Bars of a chart.
const BARS: usize = 10;

/// Series of a chart that have a colour of their own.
const SERIES: usize = 6;

/// Everything a page shows.
#[derive(Debug)]
pub(crate) struct Page {
    /// Whose records; everybody's if it is nobody's in particular.
    tenant: Option<String>,
    /// The first and the last day or hour shown, as text.
    period: Option<(String, String)>,
    conditions: usize,
    generated_at: Timestamp,
    source: String,
    bins: Bins,
    spend: Trend,
    stacked_by: Dimension,
    tokens: Trend,
    prices: Report,
    tenants: Option<Report>,
    agents: Report,
    models: Report,
    rules: Report,
    rows: Report,
    refusals: Report,
}

impl Page {
    /// Reads the records and gathers the figures. Blocks.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub(crate) fn of(
        asked: &Asked,
        shelf: &dyn Shelf,
        source: String,
        now: Timestamp,
        threads: usize,
    ) -> Result<Self, Unanswered> {
        let scope = asked.scope(shelf)?;
        let bins = Bins::of(&scope, shelf, now)?;
        let ask = Questions::of(asked, bins.dimension);
        let tables = tally::tables(shelf, &scope, &ask.queries(), threads)?;
        Self::gather(asked, &ask, tables, bins, source, now)
            .map_err(|cause| Unanswered::Records(Unread::Temporary(cause)))
    }

    fn gather(
        asked: &Asked,
        ask: &Questions,
        tables: Vec<Table>,
        mut bins: Bins,
        source: String,
        now: Timestamp,
    ) -> std::io::Result<Self> {
        let mut tables = tables.into_iter();
        let mut next = || tables.next().ok_or(std::io::ErrorKind::UnexpectedEof);
        let mut report = || next()?.into_report();
        let rows = report()?;
        let largest = report()?;
        let prices = report()?;
        let tenants = report()?;
        let agents = report()?;
        let models = report()?;
        let rules = report()?;
        let refusals = report()?;
        let mut totals: BTreeMap<String, Sums> = BTreeMap::new();
        next()?.each(&mut |row| {
            totals.insert(row.key.to_string(), row.sums);
            Ok(())
        })?;
        bins.cover(&totals);
        let spend = Trend::of_cost(&bins, &largest, &next()?)?;
        let tokens = Trend::of_tokens(&bins, &totals);
        Ok(Self {
            tenant: asked.tenant.as_ref().map(ToString::to_string),
            period: bins.ends(),
            conditions: asked.query.filter.conditions().len(),
            generated_at: now,
            source,
            spend,
            stacked_by: ask.stack,
            tokens,
            bins,
            prices,
            tenants: asked.tenant.is_none().then_some(tenants),
            agents,
            models,
            rules,
            rows,
            refusals,
        })
    }
}

/// What has to be asked for a page.
struct Questions {
    base: Query,
    bin: Dimension,
    stack: Dimension,
    whole: bool,
}

impl Questions {
    fn of(asked: &Asked, bin: Dimension) -> Self {
        let mut base = asked.query.clone();
        let whole = asked.tenant.is_none();
        base.topic = Topic::Costs;
        if !asked.chosen {
            base.by = if whole {
                vec![Dimension::Tenant, Dimension::Agent, Dimension::Model]
            } else {
                vec![Dimension::Agent, Dimension::Model]
            };
        }
        let stack = base.by.iter().find(|dimension| !dimension.is_time());
        let stack = stack.copied().unwrap_or(Dimension::Model);
        Self {
            base,
            bin,
            stack,
            whole,
        }
    }

    /// In the order in which [`Page::gather`] takes the answers.
    fn queries(&self) -> Vec<Query> {
        let first = |by: &[Dimension], order, top| Query {
            by: by.to_vec(),
            order,
            top,
            ..self.base.clone()
        };
        let bars = |by: Dimension| first(&[by], Order::Cost, Some(BARS));
        let refused = |by: &[Dimension], top| Query {
            topic: Topic::Refusals,
            ..first(by, Order::Refusals, Some(top))
        };
        let agent: &[Dimension] = if self.whole {
            &[Dimension::Agent, Dimension::Tenant]
        } else {
            &[Dimension::Agent]
        };
        let refusal = [
            Dimension::Tenant,
            Dimension::Agent,
            Dimension::Code,
            Dimension::Reason,
            Dimension::Limit,
        ];
        let refusal = if self.whole {
            &refusal[..]
        } else {
            &refusal[1..]
        };
        vec![
            Query {
                top: Some(self.base.top.unwrap_or(MOST_ROWS)),
                ..self.base.clone()
            },
            first(&[self.stack], Order::Cost, Some(SERIES)),
            first(&[Dimension::Prices], Order::Calls, Some(BARS)),
            bars(Dimension::Tenant),
            first(agent, Order::Cost, Some(BARS)),
            bars(Dimension::Model),
            refused(&[Dimension::Reason, Dimension::Code], BARS),
            refused(refusal, MOST_REFUSALS),
            first(&[self.bin], Order::Key, None),
            first(&[self.bin, self.stack], Order::Key, None),
        ]
    }
}

#[cfg(test)]
mod tests;
