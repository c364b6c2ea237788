//! Counts the instructions of a part of a gateway's life, by valgrind's callgrind.
//!
//! The gateway runs without being counted until it is asked for, so that its start and its first
//! calls take seconds and not minutes. What it does of itself, such as looking for changed files,
//! is counted once more while nobody calls, and subtracted. It knows valgrind's tools and nothing of
//! what the gateway does. Worst case: one look at the files more in one of the two spans.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// How long valgrind may take to write down what it has counted.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long what is written behind a call may come after it.
const BEHIND: Duration = Duration::from_millis(200);

/// Where what is counted goes.
#[derive(Debug)]
pub(super) struct Counter {
    out: PathBuf,
    dumps: u32,
}

impl Counter {
    /// One that writes beside `out`; None where valgrind is not installed.
    pub(super) fn new(out: PathBuf) -> Option<Self> {
        let tools = ["valgrind", "callgrind_control"];
        let there = tools.iter().all(|tool| is_installed(tool));
        there.then_some(Self { out, dumps: 0 })
    }

    /// What the gateway is started under.
    pub(super) fn tracer(&self) -> Vec<String> {
        vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            "--quiet".to_owned(),
            "--instr-atstart=no".to_owned(),
            format!("--callgrind-out-file={}", self.out.display()),
        ]
    }

    /// Instructions of `work` and of what the process does anyway in that time, and how long it took.
    pub(super) async fn count<T>(
        &mut self,
        pid: u32,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(u64, Duration, T)> {
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

    /// Instructions of so much time without anything to do.
    pub(super) async fn idle(&mut self, pid: u32, time: Duration) -> anyhow::Result<u64> {
        let rest = async {
            tokio::time::sleep(time.saturating_sub(BEHIND)).await;
            Ok(())
        };
        let (counted, _, ()) = self.count(pid, rest).await?;
        Ok(counted)
    }

    async fn dump(&mut self, pid: u32) -> anyhow::Result<u64> {
        control(pid, &["-d"])?;
        self.dumps += 1;
        let mut path = self.out.clone().into_os_string();
        path.push(format!(".{}", self.dumps));
        let (path, start) = (PathBuf::from(path), Instant::now());
        loop {
            if let Some(total) = total(&path) {
                return Ok(total);
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "callgrind wrote no {}",
                path.display()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The total at the end of a profile; None as long as it is not written to its end.
fn total(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals:"))?;
    line.split_whitespace().next()?.parse().ok()
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
    fn total_is_read_once_it_is_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "events: Ir\nfn=(1) main\n1 5\n").unwrap();
        assert_eq!(total(file.path()), None);
        std::fs::write(file.path(), "events: Ir\n1 5\ntotals: 4711\n").unwrap();
        assert_eq!(total(file.path()), Some(4711));
    }
}
