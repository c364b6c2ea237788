//! Counts instructions and allocations of a part of a gateway's life, by valgrind's callgrind.
//!
//! The gateway runs without being counted until it is asked for, so that its start and its first
//! calls take seconds and not minutes. What it does of itself, such as looking for changed files,
//! is either counted once more while nobody calls, and subtracted, or left out with the threads that do
//! it. It knows valgrind's tools and nothing of what the gateway does. Worst case: one look at the files
//! more in one of the two spans.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// How long valgrind may take to write down what it has counted.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long what is written behind a call may come after it.
const BEHIND: Duration = Duration::from_millis(200);

/// The name under which instructions of SHA-256 are counted.
pub(crate) const HASHING: &str = "sha256";

/// What waits for sockets, by its name in the system's library.
const WAITING: &str = "epoll_wait";

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// In all: of callgrind, user instructions.
    pub(crate) total: u64,
    /// Of callgrind, instructions of hashing and calls of allocation functions by kind.
    pub(crate) by_name: BTreeMap<String, u64>,
    /// Whether sockets were waited for.
    pub(crate) waits_for_sockets: bool,
}

impl Counted {
    /// Calls of allocation functions of all kinds.
    fn allocations(&self) -> u64 {
        let kinds = self.by_name.iter().filter(|(name, _)| *name != HASHING);
        kinds.map(|(_, calls)| calls).sum()
    }
}

/// What was counted of each thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads(Vec<Counted>);

impl Threads {
    /// User instructions of all of them.
    pub(crate) fn instructions(&self) -> u64 {
        self.0.iter().map(|thread| thread.total).sum()
    }

    /// User instructions of all of them, less those of a time without anything to do.
    pub(crate) fn instructions_beyond(&self, idle: &Self) -> u64 {
        self.instructions().saturating_sub(idle.instructions())
    }

    /// Instructions and allocations of those that wait for sockets, which are those that serve calls.
    /// The others look after something at intervals, or write down what has gathered in the meantime:
    /// how often they do so for a call depends on how long it takes.
    pub(crate) fn serving(&self) -> [u64; 2] {
        let serving = self.0.iter().filter(|thread| thread.waits_for_sockets);
        serving.fold([0, 0], |[instructions, allocations], thread| {
            [
                instructions + thread.total,
                allocations + thread.allocations(),
            ]
        })
    }
}

/// Where what is counted goes.
#[derive(Debug)]
pub(crate) struct Counter {
    out: PathBuf,
    dumps: u32,
}

impl Counter {
    /// One that writes beside `out`; None where valgrind is not installed.
    pub(crate) fn new(out: PathBuf) -> Option<Self> {
        let tools = ["valgrind", "callgrind_control"];
        let there = tools.iter().all(|tool| is_installed(tool));
        there.then_some(Self { out, dumps: 0 })
    }

    /// What the gateway is started under.
    pub(crate) fn tracer(&self) -> Vec<String> {
        vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            "--quiet".to_owned(),
            "--instr-atstart=no".to_owned(),
            "--compress-strings=no".to_owned(),
            "--separate-threads=yes".to_owned(),
            // Or one thread may starve the others for minutes on a busy machine.
            "--fair-sched=try".to_owned(),
            format!("--callgrind-out-file={}", self.out.display()),
        ]
    }

    /// What `work` takes and what the process does anyway in that time, and how long that was.
    pub(crate) async fn count<T>(
        &mut self,
        pid: u32,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(Threads, Duration, T)> {
        control(pid, &["-i", "on"])?;
        let start = Instant::now();
        let done = work.await?;
        // What is written down behind a call belongs to it.
        tokio::time::sleep(BEHIND).await;
        let took = start.elapsed();
        let counted = self.dump(pid).await?;
        control(pid, &["-i", "off"])?;
        Ok((counted, took, done))
    }

    /// What so much time takes without anything to do.
    pub(crate) async fn idle(&mut self, pid: u32, time: Duration) -> anyhow::Result<Threads> {
        let rest = async {
            tokio::time::sleep(time.saturating_sub(BEHIND)).await;
            Ok(())
        };
        let (counted, _, ()) = self.count(pid, rest).await?;
        Ok(counted)
    }

    async fn dump(&mut self, pid: u32) -> anyhow::Result<Threads> {
        control(pid, &["-d"])?;
        self.dumps += 1;
        let start = Instant::now();
        loop {
            let threads = threads(&self.out, self.dumps)?;
            let mut whole = threads.iter().map(|path| is_whole(path));
            if !threads.is_empty() && whole.all(|whole| whole) {
                let counted = threads.iter().map(|path| read(path));
                return Ok(Threads(counted.collect::<Result<_, _>>()?));
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "callgrind wrote no {}.{}",
                self.out.display(),
                self.dumps
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The profiles of one dump, one of each thread: `out.DUMP-THREAD`.
fn threads(out: &Path, dump: u32) -> anyhow::Result<Vec<PathBuf>> {
    let name = out.file_name().context("callgrind writes to a file")?;
    let start = format!("{}.{dump}-", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(out.parent().context("callgrind writes to a directory")?)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&start) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a profile is written to its end, where the total stands.
fn is_whole(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().any(|line| line.starts_with("totals:"))
}

/// Totals, calls of allocation functions and instructions of hashing, from callgrind's own format.
///
/// A `calls=` line is followed by one that holds the cost of those calls; every other line that
/// starts with a position holds the cost of the function named last.
pub(crate) fn read(path: &Path) -> anyhow::Result<Counted> {
    let text = std::fs::read_to_string(path).context("callgrind wrote no result")?;
    let (mut total, mut counted) = (None, Counted::default());
    let (mut caller, mut callee, mut of_calls) = ("", "", false);
    for line in text.lines() {
        let number = |text: &str| {
            text.split_whitespace()
                .next()
                .unwrap_or_default()
                .parse::<u64>()
        };
        if let Some(instructions) = line.strip_prefix("totals:") {
            total = Some(number(instructions)?);
        } else if let Some(name) = line.strip_prefix("fn=") {
            caller = name;
            counted.waits_for_sockets |= name == WAITING;
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
    counted.total = total.context("callgrind's result has no total")?;
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

fn control(pid: u32, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("callgrind_control")
        .args(arguments)
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .output()
        .context("running callgrind_control")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("OK"),
        "callgrind_control {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn is_installed(program: &str) -> bool {
    let asked = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_whole_once_its_total_is_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "events: Ir\nfn=main\n1 5\n").unwrap();
        assert!(!is_whole(file.path()));
        std::fs::write(file.path(), "events: Ir\n1 5\ntotals: 4711\n").unwrap();
        assert!(is_whole(file.path()));
        assert_eq!(read(file.path()).unwrap().total, 4711);
    }

    #[test]
    fn allocations_inside_the_allocator_are_counted_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "fn=app\n1 5\ncfn=mi_malloc_aligned\ncalls=7 0\n1 70\n\
                    fn=mi_malloc_aligned\n1 5\ncfn=mi_malloc\ncalls=7 0\n1 70\n\
                    fn=sha2::sha256::compress256\n+3 40\n* 2\ncfn=work\ncalls=1 0\n1 99\ntotals: 1234\n";
        std::fs::write(file.path(), text).unwrap();
        let counted = read(file.path()).unwrap();
        assert_eq!(
            (
                counted.total,
                counted.by_name["malloc"],
                counted.by_name[HASHING]
            ),
            (1234, 7, 42)
        );
    }

    #[test]
    fn only_threads_that_wait_for_sockets_serve() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let wait = "fn=epoll_wait\n1 10\nfn=app\n1 5\ncfn=malloc\ncalls=3 0\n1 70\ntotals: 85\n";
        let look = "fn=look\n1 9\ncfn=malloc\ncalls=4 0\n1 70\ntotals: 79\n";
        let earlier = "totals: 1000\n";
        for (name, text) in [
            ("out.2-01", wait),
            ("out.2-02", look),
            ("out.1-01", earlier),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let found = threads(&out, 2).unwrap();
        let found = Threads(found.iter().map(|path| read(path).unwrap()).collect());
        assert_eq!((found.instructions(), found.serving()), (164, [85, 3]));
    }
}
