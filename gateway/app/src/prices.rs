//! `tollgate prices`: what things cost, what a new catalogue would change, and what old calls
//! would have cost.

pub(crate) mod book;
mod rerate;
mod review;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use tollgate_core::price::{Change, Listed, PriceBook};
use tollgate_core::time::Timestamp;

use crate::config::Settings;
use crate::{clock, output};
use book::PriceFiles;
use review::Objection;

#[derive(Debug, Subcommand)]
pub(crate) enum PricesCommand {
    /// Print the prices in force
    Show(Show),
    /// Print what a new catalogue would change
    Diff(Diff),
    /// Put a new catalogue in force; a running gateway takes it within about a second
    Update(Update),
    /// Print what recorded calls cost under the prices in force, beside what was charged;
    /// changes no record
    Rerate(rerate::Rerate),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Only this provider of the catalogue, such as openai
    #[arg(long)]
    provider: Option<String>,
    /// Only models whose name contains this
    #[arg(long)]
    model: Option<String>,
    /// At this UTC time instead of now; prices depend on the date and some on the time of day
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A catalogue in the shape of genai-prices' data.json
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// A catalogue in the shape of genai-prices' data.json
    #[arg(required_unless_present = "built_in")]
    file: Option<PathBuf>,
    /// Go back to the catalogue this program was built with
    #[arg(long, conflicts_with_all = ["file", "force"])]
    built_in: bool,
    /// Also if a price in use vanishes or moves more than fivefold
    #[arg(long)]
    force: bool,
}

impl PricesCommand {
    /// Does it.
    ///
    /// # Errors
    /// If files cannot be read or used, or an update is refused.
    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<()> {
        let files = PriceFiles::of(settings);
        match self {
            Self::Show(asked) => asked.run(&files.load()?),
            Self::Diff(asked) => asked.run(settings, &files),
            Self::Update(asked) => asked.run(settings, &files),
            Self::Rerate(asked) => asked.run(settings, &files.load()?),
        }
    }
}

impl Show {
    fn run(&self, book: &PriceBook) -> anyhow::Result<()> {
        let mut listed = book.list(self.at.unwrap_or_else(clock::now));
        listed.retain(|listed| {
            let provider = self.provider.as_ref();
            let model = self.model.as_ref();
            provider.is_none_or(|name| listed.provider == *name)
                && model.is_none_or(|part| listed.model.contains(part.as_str()))
        });
        if self.json {
            return output::json(&json!({ "version": book.version(), "models": listed }));
        }
        output::say(&format!(
            "Prices {}: US dollars per million tokens (mtok) or characters (mchars), per thousand\n\
             searches, requests or pages (k…), per hour of audio.",
            book.version()
        ));
        output::data(&shown(&listed))
    }
}

/// One line per model and kind of terms.
fn shown(listed: &[Listed]) -> String {
    let heading = ["PROVIDER", "MODEL", "TERMS", "PRICES"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for model in listed {
        let mut row = |terms: String, prices: &[tollgate_core::price::ListedPrice]| {
            let prices: Vec<String> = prices
                .iter()
                .map(|price| {
                    let mut text = format!("{} {}", price.unit, price.usd);
                    for (start, usd) in &price.tiers {
                        text.push_str(&format!(" (over {start} tokens {usd})"));
                    }
                    text
                })
                .collect();
            let prices = if prices.is_empty() {
                "no price".to_owned()
            } else {
                prices.join(", ")
            };
            rows.push(vec![
                model.provider.clone(),
                model.model.clone(),
                terms,
                prices,
            ]);
        };
        row("-".to_owned(), &model.prices);
        for variant in &model.variants {
            let terms: Vec<String> = variant
                .when
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            row(terms.join(" "), &variant.prices);
        }
    }
    output::table(&rows)
}

impl Diff {
    fn run(&self, settings: &Settings, files: &PriceFiles) -> anyhow::Result<()> {
        let (before, after) = (files.load()?, files.with_catalogue(&read(&self.file)?)?);
        let now = clock::now();
        let changes = before.changes(&after, now);
        let objections = review::objections(settings, &before, &after, now)?;
        if self.json {
            return output::json(&json!({
                "before": before.version(),
                "after": after.version(),
                "changes": changes,
                "refused_for": objections,
            }));
        }
        output::data(&table_of(&changes))?;
        for objection in &objections {
            output::say(&format!("in use: {objection}"));
        }
        Ok(())
    }
}

fn table_of(changes: &[Change]) -> String {
    let heading = ["PROVIDER", "MODEL", "UNIT", "BEFORE", "AFTER", ""];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let or_none = |price: &Option<String>| price.clone().unwrap_or_else(|| "none".to_owned());
    for change in changes {
        let remark = match (change.vanished(), change.suspicious) {
            (true, _) => "vanishes",
            (_, true) => "more than fivefold",
            _ => "",
        };
        rows.push(vec![
            change.provider.clone(),
            change.model.clone(),
            change.unit.clone(),
            or_none(&change.before),
            or_none(&change.after),
            remark.to_owned(),
        ]);
    }
    output::table(&rows)
}

impl Update {
    fn run(&self, settings: &Settings, files: &PriceFiles) -> anyhow::Result<()> {
        let Some(file) = &self.file else {
            files.uninstall()?;
            output::say("the built-in catalogue is in force");
            return Ok(());
        };
        let text = read(file)?;
        let (before, after) = (files.load()?, files.with_catalogue(&text)?);
        let objections = review::objections(settings, &before, &after, clock::now())?;
        if !objections.is_empty() && !self.force {
            let lines: Vec<String> = objections.iter().map(Objection::to_string).collect();
            bail!(
                "nothing is changed: prices in use would move too far\n{}\nIf that is right, use --force.",
                lines.join("\n")
            );
        }
        let path = files.install(&text)?;
        output::say(&format!(
            "prices {} are in force, from {}",
            after.version(),
            path.display()
        ));
        Ok(())
    }
}

fn read(file: &std::path::Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}
