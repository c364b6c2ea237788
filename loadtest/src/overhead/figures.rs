//! What was measured, and what it comes to: medians, ratios, the table and the last line of JSON.
//!
//! Pure arithmetic on finished rounds. A missing figure is `null` with its reason, never zero.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Mode, Target};

/// One target measured once.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) round: usize,
    pub(super) target: Target,
    pub(super) mode: Mode,
    pub(super) calls: u64,
    pub(super) seconds: f64,
    pub(super) rps: f64,
    /// CPU of the target's processes per call; of the mock's for the direct way.
    pub(super) cpu_us: f64,
    pub(super) cpu_user_us: f64,
    pub(super) cpu_system_us: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Middle and ends of some values.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: rounded(f64::midpoint(lower, upper)),
            min: rounded(min),
            max: rounded(max),
        })
    }
}

/// What profiling found per call, or why it found nothing.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PerCall {
    pub(super) value: Option<f64>,
    pub(super) tool: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) detail: Value,
}

impl PerCall {
    pub(super) fn lacking(tool: &'static str, reason: impl Into<String>) -> Self {
        Self {
            value: None,
            tool,
            reason: Some(reason.into()),
            detail: Value::Null,
        }
    }
}

/// Everything one run found.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) samples: Vec<Sample>,
    pub(super) memory_kib: Option<(u64, u64)>,
    pub(super) user_instructions: PerCall,
    pub(super) allocations: PerCall,
    pub(super) syscalls: PerCall,
}

impl Figures {
    fn spread(&self, target: Target, mode: Mode, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(
            self.samples
                .iter()
                .filter(|s| s.target == target && s.mode == mode)
                .map(value),
        )
    }

    /// CPU of the gateway over nginx's: of the medians, and round by round.
    pub(super) fn ratio(&self, mode: Mode) -> (Option<f64>, Option<Spread>) {
        let median = |target| {
            self.spread(target, mode, |s| s.cpu_us)
                .map(|spread| spread.median)
        };
        let of_medians = median(Target::Tollgate)
            .zip(median(Target::Nginx))
            .map(|(ours, theirs)| ours / theirs);
        let of = |round, target| {
            let mut samples = self.samples.iter();
            samples
                .find(|s| s.round == round && s.mode == mode && s.target == target)
                .map(|s| s.cpu_us)
        };
        let rounds = self.samples.iter().map(|s| s.round + 1).max().unwrap_or(0);
        let pairs = (0..rounds)
            .filter_map(|round| Some(of(round, Target::Tollgate)? / of(round, Target::Nginx)?));
        (of_medians.map(rounded), Spread::of(pairs))
    }

    /// The last line: one object, the headline first.
    pub(super) fn summary(&self, setting: &Value, bar: f64) -> Value {
        let (plain, plain_rounds) = self.ratio(Mode::Plain);
        let (stream, stream_rounds) = self.ratio(Mode::Stream);
        let mut targets = serde_json::Map::new();
        for mode in Mode::ALL {
            for target in Target::ALL {
                let spread = |value: fn(&Sample) -> f64| self.spread(target, mode, value);
                let figures = json!({
                    "cpu_us": spread(|s| s.cpu_us), "cpu_user_us": spread(|s| s.cpu_user_us),
                    "cpu_system_us": spread(|s| s.cpu_system_us), "rps": spread(|s| s.rps),
                    "p50_ms": spread(|s| s.p50_ms), "p99_ms": spread(|s| s.p99_ms),
                });
                targets.insert(format!("{}_{}", target.name(), mode.name()), figures);
            }
        }
        json!({
            "cpu_ratio_to_nginx": plain,
            "cpu_ratio_to_nginx_stream": stream,
            "bar": bar,
            "within_bar": plain.map(|ratio| ratio <= bar),
            "cpu_ratio_to_nginx_by_round": plain_rounds,
            "cpu_ratio_to_nginx_stream_by_round": stream_rounds,
            "everything_on": true,
            "store": "embedded",
            "user_instructions_per_call": self.user_instructions,
            "allocations_per_call": self.allocations,
            "syscalls_per_call": self.syscalls,
            "gateway_rss_kib": self.memory_kib.map(|(now, _)| now),
            "gateway_peak_rss_kib": self.memory_kib.map(|(_, peak)| peak),
            "targets": targets,
            "setting": setting,
        })
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for mode in Mode::ALL {
            let _ = writeln!(
                text,
                "\n{:<9} {:>26} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8}",
                mode.name(),
                "CPU µs/call [min–max]",
                "user",
                "system",
                "÷ nginx",
                "calls/s",
                "p50 ms",
                "p99 ms"
            );
            let nginx = self
                .spread(Target::Nginx, mode, |s| s.cpu_us)
                .map(|s| s.median);
            for target in Target::ALL {
                let median = |value: fn(&Sample) -> f64| {
                    self.spread(target, mode, value)
                        .map_or(f64::NAN, |s| s.median)
                };
                let Some(cpu) = self.spread(target, mode, |s| s.cpu_us) else {
                    continue;
                };
                let range = format!("{:.1} [{:.1}–{:.1}]", cpu.median, cpu.min, cpu.max);
                let ratio = nginx
                    .filter(|_| target != Target::Direct)
                    .map_or_else(String::new, |n| format!("{:.2}", cpu.median / n));
                let _ = writeln!(
                    text,
                    "{:<9} {range:>26} {:>8.1} {:>8.1} {ratio:>8} {:>9.0} {:>8.2} {:>8.2}",
                    target.label(),
                    median(|s| s.cpu_user_us),
                    median(|s| s.cpu_system_us),
                    median(|s| s.rps),
                    median(|s| s.p50_ms),
                    median(|s| s.p99_ms)
                );
            }
        }
        let _ = writeln!(text);
        let profiled = [
            ("user instructions", &self.user_instructions),
            ("allocations", &self.allocations),
            ("system calls", &self.syscalls),
        ];
        for (name, found) in profiled {
            let _ = match (found.value, &found.reason) {
                (Some(value), _) => writeln!(text, "{name} per call: {value:.1} ({})", found.tool),
                (None, reason) => writeln!(
                    text,
                    "{name} per call: not known, {}",
                    reason.as_deref().unwrap_or("?")
                ),
            };
        }
        if let Some((now, peak)) = self.memory_kib {
            let _ = writeln!(
                text,
                "gateway memory: {} MiB, peak {} MiB",
                now / 1024,
                peak / 1024
            );
        }
        text
    }
}

/// To three digits: more would be noise.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!((spread.median - 2.5).abs() < 1e-9 && spread.min < 1.5 && spread.max > 3.5);
        assert!(Spread::of([]).is_none());
    }
}
