//! What this machine is, and what this process takes of it.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::children::Cpu;

/// A clock tick of `/proc/stat`: `USER_HZ` is fixed at 100 for programs on Linux.
const MILLIS_PER_TICK: u64 = 10;

/// The machine in some words.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) processors: usize,
    pub(super) model: String,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
}

impl Machine {
    /// This one. What cannot be read is left empty.
    pub(super) fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model: field(&read("/proc/cpuinfo"), "model name"),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }

    pub(super) fn words(&self) -> String {
        let Self {
            processors,
            model,
            memory_gib,
            kernel,
        } = self;
        format!("{processors} processors ({model}), {memory_gib} GiB, Linux {kernel}")
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "processors": self.processors, "model": self.model, "memory_gib": self.memory_gib, "kernel": self.kernel,
        })
    }
}

/// Processor time that all of the machine has spent so far, with anything; none if it cannot be read.
pub(super) fn machine_time() -> Duration {
    // Ticks of user, nice, system, idle, iowait, irq, softirq, steal: proc(5). Guests are in user already.
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8);
    let busy = ticks
        .enumerate()
        .filter(|(place, _)| !matches!(place, 3 | 4));
    let busy: u64 = busy
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(busy * MILLIS_PER_TICK)
}

/// Processor time that this process has taken so far; none if it cannot be read.
pub(super) fn cpu_time() -> Duration {
    let cpu = Cpu::of(std::process::id()).unwrap_or_default();
    Duration::from_micros(cpu.total())
}
