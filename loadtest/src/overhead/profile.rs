//! Counts that do not wobble: instructions, allocations and system calls per call.
//!
//! Each is the difference of two runs with different numbers of calls, so that start-up, drain and
//! background work cancel out. Tools that are lacking leave a reason instead of a figure.
//! Instruction counts come from valgrind, which counts `rep movsb` per byte, so large copies weigh too
//! much, and has no SHA instructions, so that hashing runs in software there: its share is told apart.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::client::{self, Aim, Tally};
use super::figures::{PerCall, rounded};
use super::site::Site;
use super::{Config, Expected, Mode};

/// Few connections: the counts are about calls, not about concurrency.
const CONNECTIONS: usize = 8;
/// Calls of the shorter and the longer run.
const CALLS: [u64; 2] = [1_000, 4_000];

/// The name under which instructions of SHA-256 are counted.
const HASHING: &str = "sha256";

/// What a tracer saw in total.
#[derive(Debug, Default)]
struct Counted {
    total: u64,
    by_name: BTreeMap<String, u64>,
}

/// User instructions and allocations per call.
pub(super) fn instructions_and_allocations(
    site: &mut Site,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    expected: Expected,
) -> (PerCall, PerCall) {
    const TOOL: &str = "valgrind --tool=callgrind";
    if !is_installed("valgrind") {
        let reason = "valgrind is not installed";
        return (
            PerCall::lacking(TOOL, reason),
            PerCall::lacking(TOOL, reason),
        );
    }
    let counted = differ(|calls| {
        let out = site.path(&format!("callgrind.{calls}"));
        let tracer = [
            "valgrind",
            "--tool=callgrind",
            "--quiet",
            "--compress-strings=no",
        ];
        let mut tracer: Vec<String> = tracer.map(String::from).into();
        tracer.push(format!("--callgrind-out-file={}", out.display()));
        trace(site, config, runtime, &tracer, calls, expected)?;
        read_callgrind(&out)
    });
    match counted {
        Ok((instructions, mut counted)) => {
            let hashing = counted.remove(HASHING).unwrap_or(0.0);
            let allocations = counted;
            let sum = (!allocations.is_empty()).then(|| allocations.values().sum());
            let reason = sum
                .is_none()
                .then_some("no allocation function is visible in the binary");
            let instructions = PerCall {
                value: Some(rounded(instructions)),
                tool: TOOL,
                reason: None,
                detail: json!({"of_which_sha256_in_software": rounded(hashing)}),
            };
            let allocations = PerCall {
                value: sum.map(rounded),
                tool: TOOL,
                reason: reason.map(str::to_owned),
                detail: json!(allocations),
            };
            (instructions, allocations)
        }
        Err(error) => {
            let reason = format!("{error:#}");
            (
                PerCall::lacking(TOOL, &reason),
                PerCall::lacking(TOOL, reason),
            )
        }
    }
}

/// System calls per call, by name.
pub(super) fn syscalls(
    site: &mut Site,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    expected: Expected,
) -> PerCall {
    const TOOL: &str = "strace -c -f";
    if !is_installed("strace") {
        return PerCall::lacking(TOOL, "strace is not installed");
    }
    let counted = differ(|calls| {
        let out = site.path(&format!("strace.{calls}"));
        let tracer = ["strace", "-f", "-c", "-o", &out.display().to_string()].map(String::from);
        trace(site, config, runtime, &tracer, calls, expected)?;
        read_strace(&out)
    });
    match counted {
        Ok((value, detail)) => PerCall {
            value: Some(rounded(value)),
            tool: TOOL,
            reason: None,
            detail: json!(detail),
        },
        Err(error) => PerCall::lacking(TOOL, format!("{error:#}")),
    }
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let status = command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Per call: the difference of the two runs, in total and by name.
fn differ(
    mut count: impl FnMut(u64) -> anyhow::Result<Counted>,
) -> anyhow::Result<(f64, BTreeMap<String, f64>)> {
    let [few, many] = CALLS;
    let (short, long) = (count(few)?, count(many)?);
    let per_call = |long: u64, short: u64| {
        let difference = long.saturating_sub(short);
        ratio(difference, many - few)
    };
    let named = long.by_name.iter().map(|(name, count)| {
        let before = short.by_name.get(name).copied().unwrap_or(0);
        (name.clone(), per_call(*count, before))
    });
    // What happens less than once in two hundred calls is background.
    let named = named.filter(|(_, per_call)| *per_call >= 0.005).collect();
    Ok((per_call(long.total, short.total), named))
}

fn ratio(count: u64, calls: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let (count, calls) = (count as f64, calls as f64);
    count / calls
}

/// Runs the gateway under a tracer for a number of calls and ends it, so that the tracer reports.
fn trace(
    site: &mut Site,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    tracer: &[String],
    calls: u64,
    expected: Expected,
) -> anyhow::Result<()> {
    // What an earlier gateway left behind would be worked off here, and counted.
    site.renew_data(
        config,
        &format!("{}-{calls}", tracer.first().map_or("data", String::as_str)),
    )?;
    let mut gateway = site.gateway(config, tracer)?;
    let token = site.mint(config, "profile")?;
    let aim = Aim {
        addr: gateway.addr,
        request: config.request(gateway.addr, &token, Mode::Plain),
        expected,
    };
    runtime.block_on(client::load(
        &aim,
        CONNECTIONS,
        Some(calls),
        &Rc::new(Tally::default()),
    ))?;
    gateway.process.end_traced("TERM")
}

/// Totals, calls of allocation functions and instructions of hashing, from callgrind's own format.
///
/// A `calls=` line is followed by one that holds the cost of those calls; every other line that
/// starts with a position holds the cost of the function named last.
fn read_callgrind(path: &Path) -> anyhow::Result<Counted> {
    let text = std::fs::read_to_string(path).context("callgrind wrote no result")?;
    let mut counted = Counted::default();
    let (mut caller, mut callee, mut of_calls) = ("", "", false);
    for line in text.lines() {
        let number = |text: &str| {
            text.split_whitespace()
                .next()
                .unwrap_or_default()
                .parse::<u64>()
        };
        if let Some(total) = line.strip_prefix("totals:") {
            counted.total = number(total)?;
        } else if let Some(name) = line.strip_prefix("fn=") {
            caller = name;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            of_calls = true;
            if let (Some(kind), None) = (allocation(callee), allocation(caller)) {
                *counted.by_name.entry(kind.to_owned()).or_default() += number(calls)?;
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line
                .split_whitespace()
                .nth(1)
                .and_then(|cost| cost.parse::<u64>().ok());
            if !of_calls && caller.contains("sha256::compress") {
                *counted.by_name.entry(HASHING.to_owned()).or_default() += cost.unwrap_or(0);
            }
            of_calls = false;
        }
    }
    ensure!(counted.total > 0, "callgrind's result has no total");
    Ok(counted)
}

/// What kind of allocation a function is: mimalloc's and the system's entry points.
fn allocation(function: &str) -> Option<&'static str> {
    let name = function.split(['\'', '@']).next().unwrap_or(function);
    match name {
        "malloc" | "mi_malloc" | "mi_malloc_aligned" | "aligned_alloc" | "posix_memalign" => {
            Some("malloc")
        }
        "calloc" | "mi_zalloc" | "mi_zalloc_aligned" | "mi_calloc" => Some("calloc"),
        "realloc" | "mi_realloc" | "mi_realloc_aligned" => Some("realloc"),
        _ => None,
    }
}

/// The table `strace -c` prints: `% time, seconds, usecs/call, calls, [errors], syscall`.
fn read_strace(path: &Path) -> anyhow::Result<Counted> {
    let text = std::fs::read_to_string(path).context("strace wrote no result")?;
    let mut by_name = HashMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(calls), Some(name)) = (fields.get(3), fields.last()) else {
            continue;
        };
        if let Ok(calls) = calls.parse::<u64>()
            && *name != "total"
        {
            *by_name.entry((*name).to_owned()).or_insert(0) += calls;
        }
    }
    ensure!(!by_name.is_empty(), "strace saw nothing");
    Ok(Counted {
        total: by_name.values().sum(),
        by_name: by_name.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strace_table_is_read_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     60.00    0.000600           2       300        12 recvfrom\n \
                     40.00    0.000400           4       100           writev\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.001000           2       400        12 total\n";
        std::fs::write(file.path(), table).unwrap();
        let counted = read_strace(file.path()).unwrap();
        assert_eq!((counted.total, counted.by_name["recvfrom"]), (400, 300));
    }

    #[test]
    fn allocations_inside_the_allocator_are_counted_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "fn=app\n1 5\ncfn=mi_malloc_aligned\ncalls=7 0\n1 70\n\
                    fn=mi_malloc_aligned\n1 5\ncfn=mi_malloc\ncalls=7 0\n1 70\n\
                    fn=sha2::sha256::compress256\n+3 40\n* 2\ncfn=work\ncalls=1 0\n1 99\ntotals: 1234\n";
        std::fs::write(file.path(), text).unwrap();
        let counted = read_callgrind(file.path()).unwrap();
        assert_eq!(
            (
                counted.total,
                counted.by_name["malloc"],
                counted.by_name[HASHING]
            ),
            (1234, 7, 42)
        );
    }
}
