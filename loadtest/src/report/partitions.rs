//! Partitions of records that could have been: tenants of different size, working hours, weekends,
//! refusals, answers that broke off.
//!
//! The format is the documented one, chain included; nothing is shared with the gateway.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// 2026-10-01T00:00:00Z, a Thursday.
const START_SECONDS: u64 = 1_790_812_800;
const DAY: u64 = 86_400;

/// A segment is sealed at this length, in bytes.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Models, whose they are, and pico-US-dollars per token in and out.
const MODELS: [(&str, &str, &str, u64, u64); 8] = [
    (
        "gpt-5-mini",
        "openai",
        "api.openai.com:443",
        250_000,
        2_000_000,
    ),
    (
        "gpt-5",
        "openai",
        "api.openai.com:443",
        1_250_000,
        10_000_000,
    ),
    (
        "claude-sonnet-4-5",
        "anthropic",
        "api.anthropic.com:443",
        3_000_000,
        15_000_000,
    ),
    (
        "claude-haiku-4-5",
        "anthropic",
        "api.anthropic.com:443",
        1_000_000,
        5_000_000,
    ),
    (
        "gemini-2.5-flash",
        "gemini",
        "generativelanguage.googleapis.com:443",
        300_000,
        2_500_000,
    ),
    (
        "gpt-4o-mini",
        "openai",
        "api.openai.com:443",
        150_000,
        600_000,
    ),
    (
        "mistral-large-latest",
        "mistral",
        "api.mistral.ai:443",
        2_000_000,
        6_000_000,
    ),
    (
        "text-embedding-3-small",
        "openai",
        "api.openai.com:443",
        20_000,
        0,
    ),
];

const AGENTS: [&str; 8] = [
    "support-bot",
    "triage",
    "code-review",
    "research",
    "invoice-reader",
    "translator",
    "nightly-batch",
    "intern-bot",
];

/// Code, rule, status and, if a cap or limit refused, which.
const REFUSALS: [(&str, &str, u16, Option<&str>); 4] = [
    (
        "request_exceeds_headroom",
        "request_exceeds_headroom",
        429,
        Some("tenant/day:"),
    ),
    (
        "rate_limit_exceeded",
        "requests",
        429,
        Some("tenant/requests_per_minute"),
    ),
    ("not_allowed", "model", 403, None),
    ("credential_denied", "unknown", 403, None),
];

/// What to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) records: u64,
    pub(super) tenants: u64,
    pub(super) days: u64,
    pub(super) seed: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) records: u64,
    pub(super) bytes: u64,
    calls: u64,
    refusals: u64,
    input: u64,
    output: u64,
    pico: u128,
}

impl Written {
    /// Whether a report has these sums.
    pub(super) fn agrees(&self, report: &Value) -> bool {
        let total = &report["total"];
        let cost = total["cost_usd"].as_str().unwrap_or_default();
        total["calls"] == self.calls
            && total["refusals"] == self.refusals
            && total["input_tokens"] == self.input
            && total["output_tokens"] == self.output
            && cost == usd(self.pico)
    }

    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.calls += other.calls;
        self.refusals += other.refusals;
        self.input += other.input;
        self.output += other.output;
        self.pico += other.pico;
    }
}

impl Plan {
    /// Writes everything below `dir`, on as many threads as there are processors.
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<Written> {
        let next = AtomicU64::new(1);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let work = || {
                let mut written = Written::default();
                loop {
                    let tenant = next.fetch_add(1, Ordering::Relaxed);
                    if tenant > self.tenants {
                        return anyhow::Ok(written);
                    }
                    written.add(&Writer::of(self, dir, tenant).write()?);
                }
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut all = Written::default();
            for worker in workers {
                let written = worker
                    .join()
                    .map_err(|_panic| anyhow::anyhow!("a writer ended"))??;
                all.add(&written);
            }
            Ok(all)
        })
    }

    /// The tenth tenant has a tenth of the first one's records; all together as many as wanted.
    fn share(&self, tenant: u64) -> u64 {
        let weight = |tenant| 1_000_000 / tenant;
        let all: u64 = (1..=self.tenants).map(weight).sum();
        let up_to = |tenant| -> u64 {
            let sum: u64 = (1..=tenant).map(weight).sum();
            self.records * sum / all
        };
        up_to(tenant) - up_to(tenant - 1)
    }
}

/// Writes one tenant's partition.
struct Writer<'p> {
    plan: &'p Plan,
    dir: &'p Path,
    number: u64,
    tenant: String,
    chance: u64,
    seq: u64,
    hash: String,
    open: Option<(u64, u64, BufWriter<File>)>,
    written: Written,
}

impl<'p> Writer<'p> {
    fn of(plan: &'p Plan, dir: &'p Path, number: u64) -> Self {
        Self {
            plan,
            dir,
            number,
            tenant: format!("t-{number:02}"),
            chance: (plan.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1),
            seq: 0,
            hash: "0".repeat(64),
            open: None,
            written: Written::default(),
        }
    }

    fn write(mut self) -> anyhow::Result<Written> {
        let records = self.plan.share(self.number);
        let mut line = String::new();
        for place in 0..records {
            let second = self.second(place, records);
            self.line(place, second, &mut line);
            self.keep(second / DAY, &line)?;
        }
        if let Some((.., mut file)) = self.open.take() {
            file.flush()?;
        }
        Ok(self.written)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) % bound
    }

    /// When record number `place` began, in seconds from the first day. Ascending. Of the seven
    /// days from the first, the third and the fourth are a weekend, with less to do.
    fn second(&self, place: u64, of: u64) -> u64 {
        let weight = |day: u64| {
            if matches!(day % 7, 2 | 3) {
                3
            } else {
                10 + day / 4
            }
        };
        let all: u64 = (0..self.plan.days).map(weight).sum();
        // In thousandths of a day's weight, so that records lie within their day.
        let mut at = place * all * 1_000 / of.max(1);
        for day in 0..self.plan.days {
            let length = weight(day) * 1_000;
            if at < length {
                return day * DAY + at * DAY / length;
            }
            at -= length;
        }
        self.plan.days * DAY - 1
    }

    fn line(&mut self, place: u64, second: u64, line: &mut String) {
        self.seq += 1;
        let kind = self.below(1_000);
        // Each tenant prefers models and agents of its own.
        let model = (self.below(8).min(self.below(8)) + self.number) % 8;
        let agent = (self.below(8).min(self.below(8)) + self.number * 3) % 8;
        let (model, provider, host, per_input, per_output) = MODELS[place_of(model)];
        let agent = AGENTS[place_of(agent)];
        let (input, cached) = (200 + self.below(6_000), self.below(100));
        let cached = if cached < 30 { input / 2 } else { 0 };
        let output = if per_output == 0 {
            0
        } else {
            20 + self.below(900)
        };
        let pico = u128::from(input * per_input + output * per_output);
        let reserved = usd(pico * 3);
        let (id, token) = (self.below(1 << 60), self.below(1 << 60));
        let micros = self.below(1_000_000);
        let (tenant, seq, hash) = (&self.tenant, self.seq, &self.hash);
        let at = START_SECONDS + second;
        let (day, hour, minute, sec) = (date(at / DAY), at % DAY / 3_600, at % 3_600 / 60, at % 60);
        let task = place / 20;
        line.clear();
        let _written = write!(
            line,
            r#"{{"tollgate.schema":"tollgate.record/1","tollgate.replica.id":"r1","tollgate.seq":{seq},"tollgate.prev_hash":"{hash}","tollgate.record.id":"{:012x}7{:03x}8{id:015x}","tollgate.started_at":"{day}T{hour:02}:{minute:02}:{sec:02}.{micros:06}Z","tenant.id":"{tenant}","gen_ai.agent.id":"{agent}","tollgate.task.id":"{tenant}-task-{task:07}","tollgate.token.id":"{:012x}7{:03x}8{token:015x}","gen_ai.provider.name":"{provider}","gen_ai.operation.name":"chat","gen_ai.request.model":"{model}","http.request.method":"POST","url.path":"/{provider}/v1/chat/completions","server.address":"{host}","tollgate.credential.name":"{provider}_key","tollgate.credential.version":1,"tollgate.price.version":"genai-prices-0.2.3+5fc2d1f0","tollgate.price.provider":"{provider}","tollgate.cost.reserved_usd":"{reserved}","tollgate.ended_at":"{day}T{hour:02}:{minute:02}:{sec:02}.{micros:06}Z""#,
            at * 1_000,
            id & 0xfff,
            at * 1_000,
            token & 0xfff,
        );
        self.written.records += 1;
        let ending = if kind < 25 {
            self.written.refusals += 1;
            let (code, reason, status, limit) = REFUSALS[place_of(kind % 4)];
            let limit = limit.map_or_else(String::new, |limit| {
                let day = if limit.ends_with(':') { &day } else { "" };
                format!(r#","tollgate.refusal.limit":"{tenant}/{limit}{day}""#)
            });
            format!(
                r#","tollgate.outcome":"refused","http.response.status_code":{status},"error.type":"{code}","tollgate.refusal.reason":"{reason}"{limit},"tollgate.usage.source":"none","tollgate.cost_usd":"0"}}"#
            )
        } else {
            self.written.calls += 1;
            self.written.input += input;
            self.written.output += output;
            self.written.pico += pico;
            let (outcome, source) = match kind {
                25..40 => ("client_gone", "estimated"),
                _ => ("completed", "exact"),
            };
            let cached = match cached {
                0 => String::new(),
                cached => format!(r#","cached_input_tokens":{cached}"#),
            };
            let cost = usd(pico);
            format!(
                r#","tollgate.outcome":"{outcome}","http.response.status_code":200,"gen_ai.response.model":"{model}-2026-08-07","tollgate.usage.source":"{source}","tollgate.usage":{{"input_tokens":{input}{cached},"output_tokens":{output}}},"tollgate.cost_usd":"{cost}","tollgate.first_byte_us":{}}}"#,
                200_000 + micros
            )
        };
        line.push_str(&ending);
    }

    fn keep(&mut self, day: u64, line: &str) -> anyhow::Result<()> {
        self.hash.clear();
        for byte in Sha256::digest(line) {
            let _written = write!(self.hash, "{byte:02x}");
        }
        let length = line.len() as u64 + 1;
        let fits = |open: &(u64, u64, BufWriter<File>)| open.0 == day && open.1 < SEGMENT_BYTES;
        if !self.open.as_ref().is_some_and(fits) {
            if let Some((.., mut file)) = self.open.take() {
                file.flush()?;
            }
            let date = date(START_SECONDS / DAY + day);
            let dir = self.dir.join(format!("audit/{}/date={date}", self.tenant));
            fs::create_dir_all(&dir)?;
            let file = File::create(dir.join(format!("r1-{:012}.jsonl", self.seq)))?;
            self.open = Some((day, 0, BufWriter::with_capacity(1 << 20, file)));
        }
        if let Some((_, bytes, file)) = &mut self.open {
            file.write_all(line.as_bytes())?;
            file.write_all(b"\n")?;
            *bytes += length;
        }
        self.written.bytes += length;
        Ok(())
    }
}

/// A small number as a place in a list.
fn place_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// The date of a day counted from 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + later)
}

/// Decimal US dollars without trailing zeros.
fn usd(pico: u128) -> String {
    let (whole, part) = (pico / 1_000_000_000_000, pico % 1_000_000_000_000);
    if part == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{part:012}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_amounts_are_written_as_records_have_them() {
        assert_eq!(date(START_SECONDS / DAY), "2026-10-01");
        assert_eq!(date(START_SECONDS / DAY + 30), "2026-10-31");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(usd(1_500_000_000_000), "1.5");
        assert_eq!(usd(3), "0.000000000003");
        assert_eq!(usd(0), "0");
    }

    #[test]
    fn as_many_records_are_written_as_wanted_each_in_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let plan = Plan {
            records: 1_000,
            tenants: 3,
            days: 2,
            seed: 1,
        };
        let written = plan.write(dir.path()).expect("writable");
        assert_eq!(written.records, 1_000);
        assert_eq!(written.calls + written.refusals, 1_000);
        let mut lines = 0;
        for tenant in ["t-01", "t-02", "t-03"] {
            for day in ["2026-10-01", "2026-10-02"] {
                let dir = dir.path().join(format!("audit/{tenant}/date={day}"));
                for file in fs::read_dir(dir).expect("a day") {
                    let text = fs::read_to_string(file.expect("a file").path()).expect("text");
                    for line in text.lines() {
                        let record: Value = serde_json::from_str(line).expect("JSON");
                        assert_eq!(record["tenant.id"], tenant);
                        let at = record["tollgate.started_at"].as_str().expect("a time");
                        assert!(at.starts_with(day), "{at}");
                        lines += 1;
                    }
                }
            }
        }
        assert_eq!(lines, 1_000);
    }
}
