//! The columns a line has for SQL: their names, their types, and where in the line they stand.
//!
//! Amounts of money are decimals of twelve places, so that sums stay exact. A line that is not
//! the record of a call has nulls where a call would have figures; one that cannot be understood
//! has nothing but itself. Worst case: none.

use parquet::data_type::{ByteArray, FixedLenByteArray};
use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_core::money::PicoUsd;
use tollgate_core::time::Timestamp;
use tollgate_core::usage::Usage;

/// What a line says, as far as there are columns for it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Row {
    #[serde(rename = "tollgate.record.id")]
    record: Option<String>,
    #[serde(rename = "tollgate.event")]
    event: Option<String>,
    #[serde(rename = "tenant.id")]
    tenant: Option<String>,
    #[serde(rename = "gen_ai.agent.id")]
    agent: Option<String>,
    #[serde(rename = "tollgate.task.id")]
    task: Option<String>,
    #[serde(rename = "tollgate.token.id")]
    token: Option<String>,
    #[serde(rename = "gen_ai.provider.name")]
    provider: Option<String>,
    #[serde(rename = "gen_ai.operation.name")]
    operation: Option<String>,
    #[serde(rename = "gen_ai.request.model")]
    request_model: Option<String>,
    #[serde(rename = "gen_ai.response.model")]
    response_model: Option<String>,
    #[serde(rename = "http.request.method")]
    method: Option<String>,
    #[serde(rename = "url.path")]
    path: Option<String>,
    #[serde(rename = "server.address")]
    upstream: Option<String>,
    #[serde(rename = "tollgate.started_at")]
    started_at: Option<Timestamp>,
    #[serde(rename = "tollgate.ended_at")]
    ended_at: Option<Timestamp>,
    #[serde(rename = "tollgate.first_byte_us")]
    first_byte_us: Option<u64>,
    #[serde(rename = "tollgate.outcome")]
    outcome: Option<String>,
    #[serde(rename = "http.response.status_code")]
    status: Option<u16>,
    #[serde(rename = "error.type")]
    error: Option<String>,
    #[serde(rename = "tollgate.refusal.reason")]
    reason: Option<String>,
    #[serde(rename = "tollgate.refusal.limit")]
    limit: Option<String>,
    #[serde(rename = "tollgate.elevated")]
    elevated: bool,
    #[serde(rename = "tollgate.credential.name")]
    credential: Option<String>,
    #[serde(rename = "tollgate.credential.version")]
    credential_version: Option<u32>,
    #[serde(rename = "tollgate.usage.source")]
    usage_source: Option<String>,
    #[serde(rename = "tollgate.usage")]
    usage: Option<Used>,
    #[serde(rename = "tollgate.cost_usd")]
    cost: Option<PicoUsd>,
    #[serde(rename = "tollgate.cost.reserved_usd")]
    reserved: Option<PicoUsd>,
    #[serde(rename = "tollgate.cost.reported_usd")]
    reported: Option<PicoUsd>,
    #[serde(rename = "tollgate.cost.adjusts")]
    adjusts: Option<String>,
    #[serde(rename = "tollgate.price.version")]
    price_version: Option<String>,
    #[serde(rename = "tollgate.admin.name")]
    admin: Option<String>,
    #[serde(rename = "tollgate.admin.action")]
    admin_action: Option<String>,
    #[serde(rename = "client.address")]
    client: Option<String>,
    #[serde(rename = "tollgate.replica.id")]
    replica: Option<String>,
    #[serde(rename = "tollgate.seq")]
    seq: Option<u64>,
    #[serde(rename = "tollgate.prev_hash")]
    prev_hash: Option<String>,
}

/// The counts, and all of them as the line has them.
struct Used {
    counts: Usage,
    text: String,
}

impl<'de> Deserialize<'de> for Used {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Ok(Self {
            counts: serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?,
            text: raw.get().to_owned(),
        })
    }
}

/// Where a column's value comes from, which also gives its type.
#[derive(Clone, Copy)]
enum Source {
    Text(fn(&mut Row) -> Option<String>),
    Number(fn(&Row) -> Option<u64>),
    Time(fn(&Row) -> Option<Timestamp>),
    Money(fn(&Row) -> Option<PicoUsd>),
    Flag(fn(&Row) -> Option<bool>),
}

use Source::{Flag, Money, Number, Text, Time};

/// Every column but the line itself. Their order is that of the file.
const COLUMNS: &[(&str, Source)] = &[
    ("record_id", Text(|row| row.record.take())),
    ("event", Text(|row| row.event.take())),
    ("tenant", Text(|row| row.tenant.take())),
    ("agent", Text(|row| row.agent.take())),
    ("task", Text(|row| row.task.take())),
    ("token_id", Text(|row| row.token.take())),
    ("provider", Text(|row| row.provider.take())),
    ("operation", Text(|row| row.operation.take())),
    ("request_model", Text(|row| row.request_model.take())),
    ("response_model", Text(|row| row.response_model.take())),
    ("method", Text(|row| row.method.take())),
    ("path", Text(|row| row.path.take())),
    ("upstream", Text(|row| row.upstream.take())),
    ("started_at", Time(|row| row.started_at)),
    ("ended_at", Time(|row| row.ended_at)),
    ("first_byte_us", Number(|row| row.first_byte_us)),
    // Asks after the usage's source, which every call has, so it comes before that is taken.
    (
        "elevated",
        Flag(|row| row.usage_source.as_ref().map(|_a_call| row.elevated)),
    ),
    ("outcome", Text(|row| row.outcome.take())),
    ("status", Number(|row| row.status.map(u64::from))),
    ("error_type", Text(|row| row.error.take())),
    ("refusal_reason", Text(|row| row.reason.take())),
    ("refusal_limit", Text(|row| row.limit.take())),
    ("credential", Text(|row| row.credential.take())),
    (
        "credential_version",
        Number(|row| row.credential_version.map(u64::from)),
    ),
    ("usage_source", Text(|row| row.usage_source.take())),
    (
        "input_tokens",
        Number(|row| count(row, |usage| usage.input_tokens)),
    ),
    (
        "cached_input_tokens",
        Number(|row| count(row, |usage| usage.cached_input_tokens)),
    ),
    (
        "cache_write_tokens",
        Number(|row| count(row, |usage| usage.cache_write_tokens)),
    ),
    (
        "cache_write_1h_tokens",
        Number(|row| count(row, |usage| usage.cache_write_1h_tokens)),
    ),
    (
        "output_tokens",
        Number(|row| count(row, |usage| usage.output_tokens)),
    ),
    (
        "reasoning_tokens",
        Number(|row| count(row, |usage| usage.reasoning_tokens)),
    ),
    ("usage", Text(|row| row.usage.take().map(|used| used.text))),
    ("cost_usd", Money(|row| row.cost)),
    ("reserved_usd", Money(|row| row.reserved)),
    ("reported_usd", Money(|row| row.reported)),
    ("adjusts", Text(|row| row.adjusts.take())),
    ("price_version", Text(|row| row.price_version.take())),
    ("admin", Text(|row| row.admin.take())),
    ("admin_action", Text(|row| row.admin_action.take())),
    ("client", Text(|row| row.client.take())),
    ("replica", Text(|row| row.replica.take())),
    ("seq", Number(|row| row.seq)),
    ("prev_hash", Text(|row| row.prev_hash.take())),
];

/// The column that holds the record's exact bytes, behind all others.
pub(super) const LINE: &str = "line";

fn count(row: &Row, of: fn(&Usage) -> u64) -> Option<u64> {
    row.usage.as_ref().map(|used| of(&used.counts))
}

/// The columns in Parquet's own notation.
pub(super) fn schema() -> String {
    let mut schema = "message record {\n".to_owned();
    for (name, source) in COLUMNS {
        let (kind, meaning) = match source {
            Text(_) => ("BYTE_ARRAY", " (UTF8)"),
            Number(_) => ("INT64", ""),
            Time(_) => ("INT64", " (TIMESTAMP(MICROS,true))"),
            Money(_) => ("FIXED_LEN_BYTE_ARRAY (16)", " (DECIMAL(38,12))"),
            Flag(_) => ("BOOLEAN", ""),
        };
        schema.push_str(&format!("  OPTIONAL {kind} {name}{meaning};\n"));
    }
    schema.push_str(&format!("  REQUIRED BYTE_ARRAY {LINE} (UTF8);\n}}\n"));
    schema
}

/// One column's values of some rows. Nulls have no value, and a level of 0 instead of 1.
#[derive(PartialEq, Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    pub(super) levels: Vec<i16>,
}

/// The values of one column that are not null.
#[derive(PartialEq, Debug)]
pub(super) enum Values {
    Bytes(Vec<ByteArray>),
    Numbers(Vec<i64>),
    Money(Vec<FixedLenByteArray>),
    Flags(Vec<bool>),
}

impl Column {
    /// Columns without rows, in the order of the file, the line's last.
    pub(super) fn none() -> Vec<(&'static str, Self)> {
        let empty = |name, values| {
            let levels = Vec::new();
            (name, Self { values, levels })
        };
        let mut columns: Vec<_> = COLUMNS
            .iter()
            .map(|&(name, source)| match source {
                Text(_) => empty(name, Values::Bytes(Vec::new())),
                Number(_) | Time(_) => empty(name, Values::Numbers(Vec::new())),
                Money(_) => empty(name, Values::Money(Vec::new())),
                Flag(_) => empty(name, Values::Flags(Vec::new())),
            })
            .collect();
        columns.push(empty(LINE, Values::Bytes(Vec::new())));
        columns
    }
}

/// Rows of all columns.
pub(super) struct Rows {
    /// By name, in the order of the file.
    pub(super) columns: Vec<(&'static str, Column)>,
    /// How many.
    pub(super) count: usize,
    /// How long their lines are together.
    pub(super) bytes: usize,
}

impl Rows {
    /// None yet.
    pub(super) fn none() -> Self {
        Self {
            columns: Column::none(),
            count: 0,
            bytes: 0,
        }
    }

    /// Adds a line, without its newline.
    pub(super) fn add(&mut self, line: ByteArray) {
        self.count += 1;
        self.bytes += line.len();
        let mut row: Row = serde_json::from_slice(line.data()).unwrap_or_default();
        let mut columns = self.columns.iter_mut().map(|(_, column)| column);
        for ((_, source), column) in COLUMNS.iter().zip(columns.by_ref()) {
            let there = match (&mut column.values, source) {
                (Values::Bytes(values), Text(of)) => {
                    put(values, of(&mut row).map(|text| text.into_bytes().into()))
                }
                (Values::Numbers(values), Number(of)) => {
                    put(values, of(&row).and_then(|number| number.try_into().ok()))
                }
                (Values::Numbers(values), Time(of)) => {
                    put(values, of(&row).map(Timestamp::as_micros))
                }
                (Values::Money(values), Money(of)) => put(values, of(&row).map(decimal)),
                (Values::Flags(values), Flag(of)) => put(values, of(&row)),
                _ => false,
            };
            column.levels.push(i16::from(there));
        }
        // What is left is the line's own; it is never null, so it has no levels.
        if let Some(Values::Bytes(lines)) = columns.next().map(|column| &mut column.values) {
            lines.push(line);
        }
    }
}

fn put<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let there = value.is_some();
    values.extend(value);
    there
}

/// Pico-dollars as Parquet wants a decimal: the unscaled number, most significant byte first.
fn decimal(amount: PicoUsd) -> FixedLenByteArray {
    amount.as_pico().to_be_bytes().to_vec().into()
}
