//! Runs this program under valgrind and reads the counts that it writes.
//!
//! callgrind writes what it has counted each time before [`measured`] is called and each time
//! after: every second file is about one decision. It does not know what is decided.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::operations::Named;

/// How often each decision is made for one count, so that what it does now and then is in it.
const TIMES: u64 = 10;

/// What one decision costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) instructions: u64,
    pub(crate) allocations: u64,
}

/// Makes the decisions, those that are counted among them: what runs under valgrind.
pub(crate) fn run(decisions: &[Named]) -> anyhow::Result<()> {
    for Named { name, decide } in decisions {
        // Once unmeasured: what is prepared at the first call is not a call's cost.
        decide().with_context(|| format!("{name} is refused"))?;
        measured(decide.as_ref())?;
    }
    Ok(())
}

#[inline(never)]
fn measured(decide: &dyn Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for _ in 0..TIMES {
        decide()?;
    }
    Ok(())
}

/// Runs this program again, as `command`, under callgrind; the counts of each decision in turn.
pub(crate) fn count(command: &str, decisions: usize) -> anyhow::Result<Vec<Count>> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("out");
    let measured = "tollgate_cost::callgrind::measured";
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(format!("--dump-before={measured}"))
        .arg(format!("--dump-after={measured}"))
        .arg(std::env::current_exe()?)
        .arg(command)
        .status()
        .context("valgrind is needed: apt-get install valgrind")?;
    ensure!(status.success(), "valgrind ended with {status}");
    (1..=decisions)
        .map(|nth| read(&out.with_extension(nth.saturating_mul(2).to_string())))
        .collect()
}

fn read(path: &Path) -> anyhow::Result<Count> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .context("callgrind writes a total")?;
    let each = |total: u64| total.checked_div(TIMES).unwrap_or(0);
    Ok(Count {
        instructions: each(total.trim().parse()?),
        allocations: each(allocations(&text)?),
    })
}

/// How often memory was asked for. Of a call callgrind writes a line with the name of what is
/// called and then one with how often.
fn allocations(text: &str) -> anyhow::Result<u64> {
    let mut sum = 0_u64;
    let mut of_allocator = false;
    for line in text.lines() {
        if let Some(called) = line.strip_prefix("cfn=") {
            of_allocator = matches!(called, "malloc" | "calloc" | "realloc");
        } else if let Some(calls) = line.strip_prefix("calls=")
            && of_allocator
        {
            let times = calls.split(' ').next().unwrap_or_default();
            sum = sum.saturating_add(times.parse::<u64>()?);
        }
    }
    Ok(sum)
}
