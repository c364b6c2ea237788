//! Anthropic: usage and cost reports of the admin API, and the console's tables of them.
//!
//! Source: Admin API reference, "Get Messages Usage Report" and "Get Cost Report" (amounts are in
//! cents); columns of published exports of the console. Requests are not counted. What was written
//! to a cache and read from one is input as well, as in our records.

use jiff::civil::Date;
use serde_json::Value;

use super::{Export, ExportFault, Stated, What, check, in_dollars, text, tokens, whole};
use crate::reconcile::csv::Table;

pub(super) fn result(result: &Value, day: Date, at: &str) -> Result<Stated, ExportFault> {
    let named = |name: &str| result[name].as_str().map(str::to_owned);
    if !result["amount"].is_null() {
        return Ok(Stated {
            key: None,
            day,
            model: named("model"),
            what: What::Cost,
            // In the lowest unit of the currency, which is cents.
            counts: in_dollars(&text(&result["amount"]), &text(&result["currency"]), 2, at)?,
        });
    }
    if result["uncached_input_tokens"].is_null() {
        return Err(ExportFault::Shape(
            at.to_owned(),
            "`uncached_input_tokens` of a usage report, or `amount` of a cost report",
        ));
    }
    let number = |value: &Value, name: &str| whole(&text(value), name, at);
    let written = &result["cache_creation"];
    let cached = number(
        &result["cache_read_input_tokens"],
        "cache_read_input_tokens",
    )?;
    let parts = [
        number(&result["uncached_input_tokens"], "uncached_input_tokens")?,
        number(
            &written["ephemeral_5m_input_tokens"],
            "ephemeral_5m_input_tokens",
        )?,
        number(
            &written["ephemeral_1h_input_tokens"],
            "ephemeral_1h_input_tokens",
        )?,
        cached,
    ];
    Ok(tokens(
        named("api_key_id"),
        day,
        named("model"),
        parts,
        number(&result["output_tokens"], "output_tokens")?,
    ))
}

pub(super) fn table(table: &Table, export: &mut Export) -> Result<(), ExportFault> {
    let is_cost = table.has("cost_usd");
    let needed: &[&'static str] = if is_cost {
        &["usage_date_utc", "cost_usd"]
    } else {
        &[
            "usage_date_utc",
            "model_version",
            "usage_input_tokens_no_cache",
            "usage_output_tokens",
        ]
    };
    check(table, needed)?;
    for (line, row) in &table.rows {
        let at = format!("line {line}");
        let cell = |name: &str| table.cell(row, name);
        let date = cell("usage_date_utc");
        let day: Date =
            date.get(..10)
                .unwrap_or(date)
                .parse()
                .map_err(|_no_date: jiff::Error| {
                    ExportFault::Value(at.clone(), date.to_owned(), "a date")
                })?;
        export.days.insert(day);
        let named = |name: &str| Some(cell(name).to_owned()).filter(|name| !name.is_empty());
        if is_cost {
            export.stated.push(Stated {
                key: None,
                day,
                model: named("model"),
                what: What::Cost,
                counts: in_dollars(cell("cost_usd"), "usd", 0, &at)?,
            });
            continue;
        }
        let number = |name: &str| whole(cell(name), name, &at);
        let parts = [
            number("usage_input_tokens_no_cache")?,
            number("usage_input_tokens_cache_write_5m")?,
            number("usage_input_tokens_cache_write_1h")?,
            number("usage_input_tokens_cache_read")?,
        ];
        let output = number("usage_output_tokens")?;
        let (key, model) = (named("api_key"), named("model_version"));
        export.stated.push(tokens(key, day, model, parts, output));
    }
    Ok(())
}
