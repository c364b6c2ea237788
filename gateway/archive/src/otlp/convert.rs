//! One line of a partition -> one log record.
//!
//! Every member of the line becomes an attribute under its own name, but for what OTLP has a place
//! for, counts that the conventions have names for, and amounts, which are there as decimal text
//! and in whole pico-dollars. The line itself is not sent: it is evidence only with its chain.
//! Worst case: a line that is no JSON object becomes nothing.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tollgate_core::money::PicoUsd;
use tollgate_core::time::Timestamp;

use super::proto::{AnyValue, ArrayValue, KeyValue, KeyValueList, LogRecord, Value};
use super::semconv::{TENANT_ID, usage};

/// `SeverityNumber` of OTLP, with its usual text.
const INFO: (i32, &str) = (9, "INFO");
const WARN: (i32, &str) = (13, "WARN");
const ERROR: (i32, &str) = (17, "ERROR");

const REPLICA: &str = "tollgate.replica.id";
const USAGE: &str = "tollgate.usage";
const TRACE_ID: &str = "tollgate.trace.id";
const SPAN_ID: &str = "tollgate.trace.span.id";
/// How names of amounts in a line end, and how those of their whole numbers do.
const USD: &str = "_usd";
const PICO_USD: &str = "_pico_usd";

/// A log record and the replica that wrote its line.
pub(super) struct Converted {
    pub(super) replica: String,
    pub(super) record: LogRecord,
}

/// `of_tenant`: whether the partition is a tenant's, which the resource says then.
pub(super) fn convert(line: &[u8], of_tenant: bool, now: Timestamp) -> Option<Converted> {
    let line: BTreeMap<String, Json> = serde_json::from_slice(line).ok()?;
    let text = |name: &str| line.get(name).and_then(Json::as_str);
    let time = text("tollgate.ended_at").or_else(|| text("tollgate.started_at"));
    let time = time.and_then(|time| time.parse().ok()).unwrap_or(now);
    let (severity_number, severity_text) = severity(&line);
    let event_name = match text("tollgate.event") {
        Some(event) => format!("tollgate.{event}"),
        None => "tollgate.call".to_owned(),
    };
    let replica = text(REPLICA).unwrap_or_default().to_owned();
    let trace_id = text(TRACE_ID).and_then(from_hex::<16>);
    let span_id = text(SPAN_ID).and_then(from_hex::<8>);
    let mut attributes = Vec::with_capacity(line.len().saturating_add(8));
    for (name, value) in line {
        match (&*name, value) {
            (TENANT_ID, _) if of_tenant => {}
            (REPLICA | TRACE_ID | SPAN_ID, _) => {}
            (USAGE, Json::Object(counts)) => add_usage(&mut attributes, counts),
            (_, value) => add(&mut attributes, name, value),
        }
    }
    let record = LogRecord {
        time_unix_nano: nanos(time),
        observed_time_unix_nano: nanos(now),
        severity_number,
        severity_text: severity_text.to_owned(),
        attributes,
        trace_id: trace_id.unwrap_or_default(),
        span_id: span_id.unwrap_or_default(),
        event_name,
    };
    Some(Converted { replica, record })
}

fn severity(line: &BTreeMap<String, Json>) -> (i32, &'static str) {
    match line.get("tollgate.outcome").and_then(Json::as_str) {
        Some("refused" | "denied" | "revoked") => WARN,
        Some("failed" | "upstream_failed" | "interrupted") => ERROR,
        Some(_) => INFO,
        // Who could not be authenticated has no outcome, only the reason.
        None if line.contains_key("error.type") => WARN,
        None => INFO,
    }
}

fn add(attributes: &mut Vec<KeyValue>, name: String, value: Json) {
    if let (Some(stem), Json::String(amount)) = (name.strip_suffix(USD), &value) {
        let pico = amount.parse::<PicoUsd>().ok();
        let pico = pico.and_then(|amount| i64::try_from(amount.as_pico()).ok());
        if let Some(pico) = pico {
            attributes.push(KeyValue::new(format!("{stem}{PICO_USD}"), Value::Int(pico)));
        }
    }
    if let Some(value) = any(value) {
        attributes.push(KeyValue::new(name, value));
    }
}

fn add_usage(attributes: &mut Vec<KeyValue>, counts: serde_json::Map<String, Json>) {
    let mut named: BTreeMap<&'static str, i64> = BTreeMap::new();
    for (count, value) in counts {
        match (usage(&count), value.as_i64()) {
            (Some(name), Some(value)) => {
                let sum = named.entry(name).or_default();
                *sum = sum.saturating_add(value);
            }
            _ => add(attributes, format!("{USAGE}.{count}"), value),
        }
    }
    let named = named.into_iter();
    attributes.extend(named.map(|(name, sum)| KeyValue::new(name, Value::Int(sum))));
}

/// Null is nothing; a number beyond 64 bits, or a fraction, which records have none of, is text.
fn any(value: Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Text(number.to_string()),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(values) => Value::Array(ArrayValue {
            values: values
                .into_iter()
                .map(|value| AnyValue { value: any(value) })
                .collect(),
        }),
        Json::Object(members) => Value::Map(KeyValueList {
            values: members
                .into_iter()
                .filter_map(|(name, value)| Some(KeyValue::new(name, any(value)?)))
                .collect(),
        }),
    })
}

/// Times before 1970 are none that records have.
pub(super) fn nanos(time: Timestamp) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or_default();
    micros.saturating_mul(1_000)
}

fn from_hex<const BYTES: usize>(text: &str) -> Option<Vec<u8>> {
    if text.len() != BYTES * 2 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..BYTES).map(|byte| digits(byte * 2)).collect()
}

#[cfg(test)]
mod tests;
