//! Shows that the promises about money, records, revocation and upgrades hold: under load, under faults,
//! and under `kill -9`.
//!
//! Each scenario runs a gateway as a process of its own before a mock provider in this one, and
//! compares three accounts that know nothing of each other: what the mock billed, what the gateway
//! recorded, and what its counters hold. Each prints a table and ends with one JSON object; a
//! promise that does not hold is exit code 1. Everything stays on loopback and is bounded in
//! number.

pub(crate) mod caller;
pub(crate) mod chance;
mod crash;
pub(crate) mod crowd;
mod drift;
pub(crate) mod estate;
mod fleet;
mod money;
mod overload;
mod overshoot;
mod records;
mod revoke;
pub(crate) mod rig;
mod tenants;
mod upgrade;

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value};

pub use crash::{CrashConfig, crash};
pub use drift::{DriftConfig, drift};
pub use fleet::{FleetConfig, fleet, in_a_namespace};
pub use overload::{OverloadConfig, overload};
pub use overshoot::{OvershootConfig, overshoot};
pub use records::{RecordsConfig, records};
pub use revoke::{REVOKE_BOUNDS, RevokeConfig, What, revoke};
pub use tenants::{TenantsConfig, tenants};
pub use upgrade::{UPGRADE_BOUNDS, UpgradeConfig, upgrade};

/// What every scenario needs.
#[derive(Debug, Clone)]
pub struct Common {
    /// The gateway's program.
    pub gateway: PathBuf,
    /// Where chance begins: the same number gives the same calls.
    pub seed: u64,
    /// File for what the gateway says on stderr.
    pub gateway_log: Option<PathBuf>,
}

/// What a scenario found: figures in order, and whether every promise held.
#[derive(Debug, Default)]
pub struct Findings {
    rows: Vec<(String, String, Value)>,
    broken: Vec<String>,
}

impl Findings {
    /// A figure.
    fn note(&mut self, name: &str, meaning: &str, value: impl Into<Value>) {
        self.rows
            .push((name.to_owned(), meaning.to_owned(), value.into()));
    }

    /// A figure that has to be zero.
    fn must_be_zero(&mut self, name: &str, meaning: &str, value: i128) {
        if value != 0 {
            self.broken.push(format!("{name} is {value}, not 0"));
        }
        self.note(name, meaning, number(value));
    }

    /// Something that has to hold.
    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// Whether every promise held.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.broken.is_empty()
    }

    /// A figure that is a whole number; 0 if there is none of that name.
    #[must_use]
    pub fn figure(&self, name: &str) -> i64 {
        let row = self.rows.iter().find(|row| row.0 == name);
        row.and_then(|row| row.2.as_i64()).unwrap_or(0)
    }

    /// As a table, with what did not hold below.
    #[must_use]
    pub fn table(&self) -> String {
        let width = |column: fn(&(String, String, Value)) -> usize| {
            self.rows.iter().map(column).max().unwrap_or(0)
        };
        let (names, values) = (width(|row| row.0.len()), width(|row| shown(&row.2).len()));
        let mut table = String::new();
        for (name, meaning, value) in &self.rows {
            // Writing to a String cannot fail.
            let _written = writeln!(table, "{name:names$}  {:>values$}  {meaning}", shown(value));
        }
        for broken in &self.broken {
            let _written = writeln!(table, "NOT HELD: {broken}");
        }
        table
    }

    /// As one object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, _, value)| (name.clone(), value.clone()))
            .collect();
        object.insert("held".to_owned(), self.hold().into());
        Value::Object(object)
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A count or an amount of pico-US-dollars, as a number where JSON readers take it exactly.
fn number(value: i128) -> Value {
    const EXACT: i128 = 1 << 53;
    match i64::try_from(value) {
        Ok(small) if value.abs() < EXACT => small.into(),
        _ => value.to_string().into(),
    }
}
