//! What recorded calls would have cost under other prices. Reads records and changes none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Policy;
use tollgate_core::price::{PriceBook, Rerated};
use tollgate_core::record::Record;

use super::book::PriceFiles;
use crate::config::Settings;
use crate::report::{Asked, Texts};
use crate::{output, tenant};

#[derive(Debug, Args)]
pub(crate) struct Rerate {
    /// Only this tenant; otherwise all
    #[arg(long)]
    tenant: Option<String>,
    /// Only calls since this UTC date or time, such as 2026-11-23 or 2026-11-23T08:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only calls before this UTC date or time; a date counts whole
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Under this catalogue, in the shape of genai-prices' data.json, instead of the one in force
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the calls of one tenant to one model come to.
#[derive(Debug, Default, Serialize)]
struct Row {
    /// Calls that could be priced again.
    calls: u64,
    /// What they were charged.
    recorded_usd: PicoUsd,
    /// What they cost under the prices asked for.
    rerated_usd: PicoUsd,
    /// The second less the first.
    difference_usd: PicoUsd,
    /// Calls that stay as they are, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    kept: BTreeMap<&'static str, u64>,
}

type Rows = BTreeMap<(String, String), Row>;

impl Rerate {
    pub(super) fn run(&self, settings: &Settings, in_force: &PriceBook) -> anyhow::Result<()> {
        let other = match &self.catalogue {
            Some(file) => {
                let text = super::read(file)?;
                Some(PriceFiles::of(settings).with_catalogue(&text)?)
            }
            None => None,
        };
        let book = other.as_ref().unwrap_or(in_force);
        let policy = tenant::policy(settings)?;
        let asked = Asked::from_texts(&Texts {
            tenant: self.tenant.as_deref(),
            from: self.from.as_deref(),
            to: self.to.as_deref(),
            ..Texts::default()
        })?;
        let mut rows = Rows::new();
        let shelf = LocalShelf::new(&settings.data_dir);
        asked.scope(&shelf)?.records(&shelf, &mut |record| {
            add(&mut rows, book, &policy, &record);
        })?;
        if self.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|((tenant, model), row)| {
                    let mut line = json!(row);
                    line["tenant"] = tenant.as_str().into();
                    line["model"] = model.as_str().into();
                    line
                })
                .collect();
            return output::json(&json!({ "prices": book.version(), "rows": rows }));
        }
        output::data(&table(&rows))
    }
}

fn add(rows: &mut Rows, book: &PriceBook, policy: &Policy, record: &Record) {
    let model = record.subject.request_model.as_ref();
    let key = (
        record.subject.tenant.to_string(),
        model.map_or_else(|| "-".to_owned(), ToString::to_string),
    );
    // The catalogue's name for what the client called by a name of its own.
    let provider = record.subject.provider.as_ref();
    let provider = provider.and_then(|name| policy.providers.get(name));
    let alias = provider.and_then(|provider| provider.aliases.get(model?));
    let row = rows.entry(key).or_default();
    match book.rerate(record, alias) {
        Rerated::Cost(cost) => {
            row.calls += 1;
            row.recorded_usd = row.recorded_usd.saturating_add(record.ending.cost);
            row.rerated_usd = row.rerated_usd.saturating_add(cost);
            row.difference_usd = row.rerated_usd.saturating_sub(row.recorded_usd);
        }
        Rerated::Kept(reason) => *row.kept.entry(reason).or_default() += 1,
    }
}

fn table(rows: &Rows) -> String {
    let heading = [
        "TENANT",
        "MODEL",
        "CALLS",
        "RECORDED USD",
        "RERATED USD",
        "DIFFERENCE USD",
        "NOT RERATED",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut total = Row::default();
    for ((tenant, model), row) in rows {
        let kept: Vec<String> = row
            .kept
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        lines.push(line(tenant, model, row, kept.join(", ")));
        total.calls += row.calls;
        total.recorded_usd = total.recorded_usd.saturating_add(row.recorded_usd);
        total.rerated_usd = total.rerated_usd.saturating_add(row.rerated_usd);
    }
    total.difference_usd = total.rerated_usd.saturating_sub(total.recorded_usd);
    lines.push(line("TOTAL", "", &total, String::new()));
    output::table(&lines)
}

fn line(tenant: &str, model: &str, row: &Row, kept: String) -> Vec<String> {
    vec![
        tenant.to_owned(),
        model.to_owned(),
        row.calls.to_string(),
        row.recorded_usd.to_string(),
        row.rerated_usd.to_string(),
        row.difference_usd.to_string(),
        kept,
    ]
}
