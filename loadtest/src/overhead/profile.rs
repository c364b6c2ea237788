//! Counts that do not wobble: instructions, allocations and system calls per call.
//!
//! Each is the difference of two runs with different numbers of calls, so that start-up, drain and
//! background work cancel out. Tools that are lacking leave a reason instead of a figure.
//! Instruction counts come from valgrind, which counts `rep movsb` per byte, so large copies weigh too
//! much, and has no SHA instructions, so that hashing runs in software there: its share is told apart.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::Config;
use super::answer::Expected;
use super::client;
use super::figures::{PerCall, Profile, rounded};
use super::target::{Entry, Prepared, until_answered};
use super::tollgate::Variant;
use crate::callgrind::{self, Counted, HASHING};

/// Few connections: the counts are about calls, not about concurrency.
const CONNECTIONS: usize = 8;
/// Calls of the shorter and the longer run.
const CALLS: [u64; 2] = [1_000, 4_000];

/// A gateway that is profiled.
struct Profiled<'a> {
    config: &'a Config,
    runtime: &'a tokio::runtime::Runtime,
    dir: &'a Path,
    prepared: Prepared,
    expected: Expected,
}

/// What a gateway in one of its ways does for a plain call.
pub(super) fn measure(
    variant: Variant,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
    mock: SocketAddr,
    plain_bytes: usize,
) -> anyhow::Result<Profile> {
    let mut profiled = Profiled {
        config,
        runtime,
        dir,
        prepared: Entry::Tollgate(variant).prepare(config, dir, mock)?,
        expected: Expected::Bytes(plain_bytes),
    };
    let (instructions, allocations) = instructions_and_allocations(&mut profiled);
    Ok(Profile {
        user_instructions_per_call: instructions,
        allocations_per_call: allocations,
        syscalls_per_call: syscalls(&mut profiled),
    })
}

fn instructions_and_allocations(profiled: &mut Profiled<'_>) -> (PerCall, PerCall) {
    const TOOL: &str = "valgrind --tool=callgrind";
    if !is_installed("valgrind") {
        let reason = "valgrind is not installed";
        return (
            PerCall::lacking(TOOL, reason),
            PerCall::lacking(TOOL, reason),
        );
    }
    let counted = differ(|calls| {
        let out = profiled.dir.join(format!("callgrind.{calls}"));
        let tracer = [
            "valgrind",
            "--tool=callgrind",
            "--quiet",
            "--compress-strings=no",
        ];
        let mut tracer: Vec<String> = tracer.map(String::from).into();
        tracer.push(format!("--callgrind-out-file={}", out.display()));
        profiled.trace(&tracer, calls)?;
        callgrind::read(&out)
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
fn syscalls(profiled: &mut Profiled<'_>) -> PerCall {
    const TOOL: &str = "strace -c -f";
    if !is_installed("strace") {
        return PerCall::lacking(TOOL, "strace is not installed");
    }
    let counted = differ(|calls| {
        let out = profiled.dir.join(format!("strace.{calls}"));
        let tracer = ["strace", "-f", "-c", "-o", &out.display().to_string()].map(String::from);
        profiled.trace(&tracer, calls)?;
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

impl Profiled<'_> {
    /// Runs the gateway under a tracer for a number of calls and ends it, so that the tracer reports.
    fn trace(&mut self, tracer: &[String], calls: u64) -> anyhow::Result<()> {
        let tollgate = self.prepared.tollgate.as_mut().context("no gateway")?;
        let name = tracer.first().map_or("data", String::as_str);
        // What an earlier gateway left behind would be worked off here, and counted.
        tollgate.prepare_traced(&format!("{name}-{calls}"))?;
        let (mut running, addr) = tollgate.start(tracer)?;
        let token = self.prepared.token("profile")?;
        let aim = self
            .prepared
            .aim(addr, &token, false, self.config, self.expected);
        until_answered(self.runtime, &mut running, &aim)?;
        let tally = Rc::default();
        let load = client::load(&aim, CONNECTIONS, Some(calls), &tally);
        self.runtime.block_on(load)?;
        running.end_traced("TERM")
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
        ..Counted::default()
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
}
