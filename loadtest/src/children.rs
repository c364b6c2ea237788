//! Programs run beside this one: started, watched through `/proc`, ended with their owner.
//!
//! It knows Linux' `/proc` and nothing of what the programs do. Worst case: a program that ignores
//! SIGTERM is killed after ten seconds.

use std::borrow::Cow;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// How long a program may take to say that it is ready. Under valgrind everything takes long.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a program may take to end when asked to.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Clock ticks of `/proc/PID/stat` per second: `USER_HZ`, fixed at 100 for programs on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    name: Cow<'static, str>,
    child: Child,
}

impl Running {
    pub(crate) fn start(
        name: impl Into<Cow<'static, str>>,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name, child })
    }

    /// Starts a program that prints one line of JSON when it is ready.
    pub(crate) fn start_ready(
        name: impl Into<Cow<'static, str>>,
        command: &mut Command,
    ) -> anyhow::Result<(Self, Value)> {
        let mut running = Self::start(name, command.stdout(Stdio::piped()))?;
        let name = running.name.clone();
        let stdout = running
            .child
            .stdout
            .take()
            .with_context(|| format!("{name} has no stdout"))?;
        let (said, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let mut stdout = BufReader::new(stdout);
            let read = stdout.read_line(&mut line);
            let _ = said.send(read.map(|_| line));
            // Read on, so that the program never blocks on a full pipe.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = ready
            .recv_timeout(START_PATIENCE)
            .with_context(|| format!("{name} did not get ready"))??;
        let value = serde_json::from_str(&line)
            .with_context(|| format!("{name} said {line:?} instead of JSON"))?;
        Ok((running, value))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the program and its live children so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let gone = || format!("{} (process {}) is gone", self.name, self.pid());
        let mut sum = Cpu::of(self.pid()).with_context(gone)?;
        // A child may end at any time.
        for cpu in descendants(self.pid()).into_iter().flat_map(Cpu::of) {
            sum.user += cpu.user;
            sum.system += cpu.system;
        }
        Ok(sum)
    }

    /// Resident memory of the program and its live children in KiB, and its peak.
    pub(crate) fn memory_kib(&self) -> Option<(u64, u64)> {
        let (mut now, mut peak) = memory_kib(self.pid())?;
        for (more, more_peak) in descendants(self.pid()).into_iter().filter_map(memory_kib) {
            now += more;
            peak += more_peak;
        }
        Some((now, peak))
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Asks the program to end, or, if it is a tracer, the program it traces, and waits until it has.
    pub(crate) fn end_traced(&mut self, signal: &str) -> anyhow::Result<()> {
        let traced = children_of(self.pid());
        for pid in if traced.is_empty() {
            vec![self.pid()]
        } else {
            traced
        } {
            send_signal(pid, signal)?;
        }
        self.wait()
    }

    /// Sends a signal and waits until the program has ended.
    pub(crate) fn end(&mut self, signal: &str) -> anyhow::Result<()> {
        send_signal(self.pid(), signal)?;
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // A tracer that is ended first leaves behind what it traces.
        for child in children_of(self.pid()) {
            let _gone = send_signal(child, "TERM");
        }
        if send_signal(self.pid(), "TERM").is_err() {
            return;
        }
        let deadline = Instant::now() + END_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send_signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    let sent = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(pid.to_string())
        .status()?;
    if sent.success() {
        Ok(())
    } else {
        bail!("process {pid} took no {signal}")
    }
}

/// CPU time in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

impl Cpu {
    /// That of this program itself.
    pub(crate) fn own() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    /// CPU time of one process so far, in steps of a hundredth of a second.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field, the name in parentheses, may hold anything; the rest is numbers.
        let rest = stat
            .rsplit_once(')')
            .context("unreadable /proc/PID/stat")?
            .1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let micros = |index: usize| -> anyhow::Result<u64> {
            let ticks: u64 = fields.get(index).context("short /proc/PID/stat")?.parse()?;
            Ok(ticks * 1_000_000 / TICKS_PER_SECOND)
        };
        // utime and stime are fields 14 and 15 (proc(5)), counted from 1; `rest` starts at field 3.
        Ok(Self {
            user: micros(11)?,
            system: micros(12)?,
        })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    pub(crate) fn total(self) -> u64 {
        self.user + self.system
    }
}

/// Lets this program, and those it starts, open as many files as the system allows: a thousand callers and as many
/// connections of the mock need more than a shell gives.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Where it is not allowed the limit stays, and a caller too many says so.
    let _unchanged = setrlimit(Resource::Nofile, raised);
}

fn memory_kib(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children_of(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children_of(*pid));
        next += 1;
    }
    found
}

fn children_of(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}
