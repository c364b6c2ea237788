//! Reads what the object store holds, and compares it with what the provider saw.
//!
//! Knows of the gateway's records what its documentation says: one JSON object a line, the hash of
//! the line before, and the tenant as the first part of the path.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Told;
use crate::mock::SeenRequest;
use crate::proof::Findings;
use crate::proof::money::{pico, usd};
use crate::proof::rig::Rig;
use crate::store::{ObjectStore, collect};

/// The hash that stands for the line before the first.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Compares store, provider, callers and counters.
pub(super) fn judge(
    found: &mut Findings,
    rig: &Rig,
    store: &ObjectStore,
    tenants: &[String],
    told: &Told,
) -> anyhow::Result<()> {
    let mut books = Books::default();
    let mut keys = Vec::new();
    collect(store.dir(), store.dir(), &mut keys)?;
    for (key, _) in &keys {
        books.read(store.dir(), key)?;
    }
    let seen = rig.mock.seen();
    found.note(
        "calls_at_provider",
        "calls that the provider saw",
        seen.len(),
    );
    found.note("objects", "objects in the object store", keys.len());
    books.judge_calls(found, &seen)?;
    books.judge_refusals(found, told)?;
    books.judge_chains(found);
    found.must_be_zero(
        "unverified_partitions",
        "partitions that `audit verify` does not pass",
        unverified(rig, store)?,
    );
    found.must_be_zero(
        "ledger_difference_pico_usd",
        "the gateway's own report less the sum of the records",
        reported(rig, tenants)? - books.sum,
    );
    found.must(!store.was_overwritten(), || {
        "an object was overwritten".to_owned()
    });
    found.note("settled_usd", "what all records cost", usd(books.sum));
    Ok(())
}

/// What the gateway's own report says that was spent.
fn reported(rig: &Rig, tenants: &[String]) -> anyhow::Result<i128> {
    let mut sum = 0;
    for tenant in tenants {
        let output = rig
            .tollgate(&["report", "--tenant", tenant, "--by", "tenant", "--json"])
            .output()?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let cost = report.pointer("/total/cost_usd").and_then(Value::as_str);
        sum += pico(cost.context("the report has no total")?)?;
    }
    Ok(sum)
}

/// How many partitions of the store are not verified.
fn unverified(rig: &Rig, store: &ObjectStore) -> anyhow::Result<i128> {
    let key = rig.path("data/keys/audit.pub");
    let mut verify = rig.tollgate(&["audit", "verify", "--json", "--records"]);
    let output = verify.arg(store.dir()).arg("--key").arg(key).output()?;
    let said: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("audit verify: {}", String::from_utf8_lossy(&output.stderr)))?;
    let partitions = said.get("partitions").and_then(Value::as_array);
    let partitions = partitions.context("audit verify names no partitions")?;
    let bad = partitions
        .iter()
        .filter(|partition| {
            let findings = partition.get("findings").and_then(Value::as_array);
            findings.is_none_or(|findings| !findings.is_empty())
        })
        .count();
    if partitions.is_empty() || (bad == 0) != output.status.success() {
        bail!("audit verify contradicts itself: {said}");
    }
    Ok(i128::try_from(bad)?)
}

#[derive(Default)]
struct Recorded {
    records: u64,
    exact_tokens: Option<(u64, u64)>,
}

struct Line {
    seq: u64,
    prev_hash: String,
    hash: String,
}

#[derive(Default)]
struct Books {
    by_label: HashMap<String, Recorded>,
    refused: HashSet<String>,
    /// By partition and replica.
    chains: BTreeMap<(String, String), Vec<Line>>,
    calls: u64,
    interrupted: u64,
    sum: i128,
    misplaced: i128,
}

impl Books {
    /// Takes an object of the store.
    fn read(&mut self, root: &Path, key: &str) -> anyhow::Result<()> {
        let parts: Vec<&str> = key.split('/').collect();
        let (partition, date) = match &*parts {
            ["audit", _, "checkpoints", _] => return Ok(()),
            ["audit", partition, date, _] => (*partition, date.strip_prefix("date=")),
            ["audit", partition, _, _, _, _, _] => (*partition, None),
            _ => {
                self.misplaced += 1;
                return Ok(());
            }
        };
        let date = match (date, &*parts) {
            (Some(date), _) => date.to_owned(),
            (None, [_, _, year, month, day, ..]) => format!("{year}-{month}-{day}"),
            _ => String::new(),
        };
        let mut at_home = true;
        for line in BufReader::new(fs::File::open(root.join(key))?).split(b'\n') {
            let line = line?;
            let record: Value = serde_json::from_slice(&line)
                .with_context(|| format!("{key} holds a line that is no JSON"))?;
            at_home &= self.take(&record, &line, partition, &date)?;
        }
        self.misplaced += i128::from(!at_home);
        Ok(())
    }

    /// Takes a line; whether it belongs where it lies.
    fn take(
        &mut self,
        record: &Value,
        line: &[u8],
        partition: &str,
        date: &str,
    ) -> anyhow::Result<bool> {
        let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let hash: String = Sha256::digest(line)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let seq = record.get("tollgate.seq").and_then(Value::as_u64);
        let chain = (
            partition.to_owned(),
            field("tollgate.replica.id").to_owned(),
        );
        self.chains.entry(chain).or_default().push(Line {
            seq: seq.context("a line without number")?,
            prev_hash: field("tollgate.prev_hash").to_owned(),
            hash,
        });
        let is_event = record.get("tollgate.event").is_some();
        let at_home = partition.starts_with('_') || field("tenant.id") == partition;
        let on_its_day = field("tollgate.started_at").starts_with(date);
        if !is_event && !partition.starts_with('_') {
            self.take_call(record)?;
        }
        Ok(at_home && on_its_day)
    }

    fn take_call(&mut self, record: &Value) -> anyhow::Result<()> {
        let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let outcome = field("tollgate.outcome");
        self.calls += 1;
        if matches!(outcome, "refused" | "failed") {
            self.refused.insert(field("tollgate.record.id").to_owned());
            return Ok(());
        }
        self.sum += pico(field("tollgate.cost_usd"))?;
        self.interrupted += u64::from(outcome == "interrupted");
        let entry = self.by_label.entry(super::super::crash::label(record)?);
        let entry = entry.or_default();
        entry.records += 1;
        if field("tollgate.usage.source") == "exact" {
            entry.exact_tokens = super::super::crash::tokens(record);
        }
        Ok(())
    }

    /// What the provider saw, against the records.
    fn judge_calls(&self, found: &mut Findings, seen: &[SeenRequest]) -> anyhow::Result<()> {
        let (mut lost, mut token_difference) = (0, 0);
        for call in seen {
            let label = call.header("x-user-id").context("a call without label")?;
            let Some(recorded) = self.by_label.get(&label) else {
                lost += 1;
                continue;
            };
            if let (Some((input, output)), Some(billed)) = (recorded.exact_tokens, call.billed) {
                let difference = input.abs_diff(billed.input) + output.abs_diff(billed.output);
                token_difference += i128::from(difference);
            }
        }
        found.note("records", "records of calls in it", self.calls);
        found.note("interrupted", "of them, cut by a kill", self.interrupted);
        found.must_be_zero(
            "lost_records",
            "calls at the provider without a record",
            lost,
        );
        let twice = self.by_label.values().filter(|call| call.records > 1);
        found.must_be_zero(
            "double_counted",
            "calls with more than one record",
            i128::try_from(twice.count())?,
        );
        found.must_be_zero(
            "token_difference",
            "tokens that exact records count and the provider did not bill, or the other way",
            token_difference,
        );
        Ok(())
    }

    /// What the callers were told, against the records.
    fn judge_refusals(&self, found: &mut Findings, told: &Told) -> anyhow::Result<()> {
        let refused = told.refused();
        let unrecorded = refused.iter().filter(|id| !self.refused.contains(*id));
        found.note(
            "refused",
            "calls that were told they are refused",
            refused.len(),
        );
        found.must_be_zero(
            "lost_refusals",
            "of these, without a record",
            i128::try_from(unrecorded.count())?,
        );
        Ok(())
    }

    /// Numbers that are missing or double, lines that do not name the one before, and whatever lies
    /// in a foreign place.
    fn judge_chains(&mut self, found: &mut Findings) {
        let (mut gaps, mut breaks) = (0, 0);
        for lines in self.chains.values_mut() {
            lines.sort_unstable_by_key(|line| line.seq);
            let (mut seq, mut hash) = (0, NO_HASH);
            for line in lines {
                gaps += i128::from(line.seq != seq + 1);
                breaks += i128::from(line.prev_hash != hash);
                (seq, hash) = (line.seq, line.hash.as_str());
            }
        }
        found.must_be_zero(
            "sequence_gaps",
            "numbers missing or double in a chain",
            gaps,
        );
        found.must_be_zero(
            "broken_hashes",
            "lines that do not name the one before",
            breaks,
        );
        found.must_be_zero(
            "misplaced_objects",
            "objects in a foreign place, or with a foreign record",
            self.misplaced,
        );
    }
}
