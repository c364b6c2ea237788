//! The counts that are agreed on, and how others compare with them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::callgrind::Count;

/// By how many hundredths a count may be above the baseline: what moves when code beside it
/// changes and the compiler lays things out anew.
const TOLERANCE_PERCENT: u64 = 3;
/// The same for small counts, in instructions.
const TOLERANCE_INSTRUCTIONS: u64 = 100;

/// Counts by the names of decisions, and what they depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    rustc: String,
    architecture: String,
    decision: BTreeMap<String, Counted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    instructions: u64,
    allocations: u64,
}

/// How counts compare with the baseline.
pub(crate) struct Comparison {
    pub(crate) text: String,
    /// Whether nothing has become dearer by more than the tolerance.
    pub(crate) holds: bool,
}

fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.toml"))
}

impl Baseline {
    /// Counts of this program.
    pub(crate) fn of(counts: impl Iterator<Item = (String, Count)>) -> Self {
        let counted = |count: Count| Counted {
            instructions: count.instructions,
            allocations: count.allocations,
        };
        Self {
            rustc: env!("TOLLGATE_COST_RUSTC").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            decision: counts.map(|(name, count)| (name, counted(count))).collect(),
        }
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path()).context("reading the baseline")?;
        toml::from_str(&text).context("the baseline is not what `renew` writes")
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let text = toml::to_string(self)?;
        std::fs::write(path(), text).context("writing the baseline")
    }

    /// Compares these counts with those agreed on.
    pub(crate) fn against(&self, agreed: &Self) -> Comparison {
        let comparable = (&self.rustc, &self.architecture) == (&agreed.rustc, &agreed.architecture);
        let mut text = format!(
            "{:<20} {:>12} {:>12} {:>8} {:>12} {:>9}\n",
            "decision", "instructions", "baseline", "%", "allocations", "baseline"
        );
        let mut dearer = Vec::new();
        for (name, now) in &self.decision {
            let before = agreed.decision.get(name);
            if !before.is_some_and(|before| now.is_within(*before)) {
                dearer.push(name.as_str());
            }
            row(&mut text, name, *now, before.copied());
        }
        let gone = agreed
            .decision
            .keys()
            .filter(|name| !self.decision.contains_key(*name));
        dearer.extend(gone.map(String::as_str));
        let verdict = match (comparable, dearer.as_slice()) {
            (false, _) => format!(
                "not comparable: the baseline is of {} on {}, this is {} on {}",
                agreed.rustc, agreed.architecture, self.rustc, self.architecture
            ),
            (true, []) => "nothing has become dearer".to_owned(),
            (true, dearer) => format!(
                "dearer, or not in the baseline: {}. If that is worth it: make renew-cost",
                dearer.join(", ")
            ),
        };
        text.push_str(&verdict);
        text.push('\n');
        Comparison {
            text,
            holds: !comparable || dearer.is_empty(),
        }
    }
}

impl Counted {
    fn is_within(self, before: Self) -> bool {
        let percent = before.instructions.saturating_mul(TOLERANCE_PERCENT) / 100;
        let tolerance = percent.max(TOLERANCE_INSTRUCTIONS);
        self.instructions <= before.instructions.saturating_add(tolerance)
            && self.allocations <= before.allocations
    }
}

fn row(text: &mut String, name: &str, now: Counted, before: Option<Counted>) {
    let (baseline, change, allocations) = before.map_or_else(
        || ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        |before| {
            let difference = i128::from(now.instructions) - i128::from(before.instructions);
            let tenths = difference.saturating_mul(1_000) / i128::from(before.instructions.max(1));
            let sign = if tenths < 0 { '-' } else { '+' };
            let tenths = tenths.unsigned_abs();
            (
                before.instructions.to_string(),
                format!("{sign}{}.{}", tenths / 10, tenths % 10),
                before.allocations.to_string(),
            )
        },
    );
    // Writing to a String cannot fail.
    let _written = writeln!(
        text,
        "{name:<20} {:>12} {baseline:>12} {change:>8} {:>12} {allocations:>9}",
        now.instructions, now.allocations
    );
}
