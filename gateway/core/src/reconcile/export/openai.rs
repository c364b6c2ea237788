//! OpenAI: usage and costs of the organization API, and the dashboard's tables of them.
//!
//! Source: API reference, "Usage" and "Costs"; columns of published exports of the dashboard, which
//! have the names of the API's members. Costs are told by project and line, never by key.

use jiff::civil::Date;
use serde_json::Value;

use super::{Export, ExportFault, Stated, What, check, in_dollars, text, whole};
use crate::reconcile::Counts;
use crate::reconcile::amounts::count;
use crate::reconcile::csv::Table;
use crate::time::Timestamp;

pub(super) fn result(result: &Value, day: Date, at: &str) -> Result<Stated, ExportFault> {
    let named = |name: &str| result[name].as_str().map(str::to_owned);
    if result["amount"].is_object() {
        let amount = &result["amount"];
        return Ok(Stated {
            key: None,
            day,
            model: named("line_item").and_then(|item| model_of(&item)),
            what: What::Cost,
            counts: in_dollars(&text(&amount["value"]), &text(&amount["currency"]), 0, at)?,
        });
    }
    if result["input_tokens"].is_null() {
        return Err(ExportFault::Shape(
            at.to_owned(),
            "`input_tokens` of a usage result, or `amount` of a costs result",
        ));
    }
    let number = |name: &str| whole(&text(&result[name]), name, at);
    Ok(Stated {
        key: named("api_key_id"),
        day,
        model: named("model"),
        what: What::Usage,
        counts: Counts {
            requests: number("num_model_requests")?,
            input_tokens: number("input_tokens")?,
            cached_tokens: number("input_cached_tokens")?,
            output_tokens: number("output_tokens")?,
            ..Counts::default()
        },
    })
}

pub(super) fn table(table: &Table, export: &mut Export) -> Result<(), ExportFault> {
    let is_cost = table.has("amount_value");
    let needed: &[&'static str] = if is_cost {
        &["start_time", "amount_value", "amount_currency"]
    } else {
        &[
            "start_time",
            "model",
            "input_tokens",
            "output_tokens",
            "num_model_requests",
        ]
    };
    check(table, needed)?;
    for (line, row) in &table.rows {
        let at = format!("line {line}");
        let cell = |name: &str| table.cell(row, name);
        let start = count(cell("start_time")).and_then(|seconds| i64::try_from(seconds).ok());
        let start = start.ok_or_else(|| {
            ExportFault::Value(
                at.clone(),
                cell("start_time").to_owned(),
                "a time in seconds",
            )
        })?;
        let day = Timestamp::from_seconds(start).date();
        export.days.insert(day);
        let named = |name: &str| Some(cell(name).to_owned()).filter(|name| !name.is_empty());
        // A day on which nothing was used is a line without values.
        let stated = if is_cost {
            if cell("amount_value").is_empty() {
                continue;
            }
            Stated {
                key: None,
                day,
                model: named("line_item").and_then(|item| model_of(&item)),
                what: What::Cost,
                counts: in_dollars(cell("amount_value"), cell("amount_currency"), 0, &at)?,
            }
        } else {
            if cell("num_model_requests").is_empty() {
                continue;
            }
            let number = |name: &str| whole(cell(name), name, &at);
            Stated {
                key: named("api_key_id"),
                day,
                model: named("model"),
                what: What::Usage,
                counts: Counts {
                    requests: number("num_model_requests")?,
                    input_tokens: number("input_tokens")?,
                    cached_tokens: number("input_cached_tokens")?,
                    output_tokens: number("output_tokens")?,
                    ..Counts::default()
                },
            }
        };
        export.stated.push(stated);
    }
    Ok(())
}

/// The model of a line of OpenAI's costs: `gpt-4o-mini-2024-07-18, input`. Lines of other services
/// have no comma, and no model.
fn model_of(line_item: &str) -> Option<String> {
    let (model, _) = line_item.split_once(',')?;
    Some(model.trim().to_owned())
}
