//! What was measured, and what it comes to: percentiles, medians with their spread, ratios, differences.
//!
//! Pure arithmetic on finished rounds. A missing figure is absent with its reason, never zero.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::phase::Mode;
use super::target::DIRECT;

/// What ratios are taken to.
pub(super) const NGINX: &str = "nginx";
/// Whose ratio counts.
pub(super) const EVERYTHING_ON: &str = "tollgate";
/// Of the processors somebody has, the part in use from which on he is what limits a rate.
const USED_UP: f64 = 0.9;

/// One target measured once.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) round: usize,
    pub(super) target: String,
    pub(super) mode: Mode,
    pub(super) calls: u64,
    pub(super) seconds: f64,
    pub(super) rps: f64,
    /// CPU of the target's processes per call; of the mock's for the direct way.
    pub(super) cpu_us: f64,
    pub(super) cpu_user_us: f64,
    pub(super) cpu_system_us: f64,
    /// That of a store of its own beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store_cpu_us: Option<f64>,
    pub(super) mock_cpu_us: f64,
    /// Processors that each kept busy.
    pub(super) target_cores: f64,
    pub(super) mock_cores: f64,
    pub(super) load_cores: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_event: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_delay: Option<Percentiles>,
    /// The rate at which calls became due, where it was a fixed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offered_rps: Option<f64>,
    /// What the mock took for the same, asked directly, where that was measured beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) direct: Option<Percentiles>,
}

impl Sample {
    pub(super) fn latency(&self) -> Percentiles {
        Percentiles {
            p50_ms: self.p50_ms,
            p99_ms: self.p99_ms,
            p999_ms: self.p999_ms,
        }
    }
}

/// Three points of a distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
}

impl Percentiles {
    /// Of times in microseconds.
    pub(super) fn of(mut micros: Vec<u32>) -> Option<Self> {
        micros.sort_unstable();
        let at = |per_mille: usize| {
            let index = micros.len() * per_mille / 1_000;
            let index = index.min(micros.len().checked_sub(1)?);
            micros.get(index).map(|micros| f64::from(*micros) / 1_000.0)
        };
        Some(Self {
            p50_ms: at(500)?,
            p99_ms: at(990)?,
            p999_ms: at(999)?,
        })
    }
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

/// What a gateway does for a plain call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Profile {
    pub(super) user_instructions_per_call: PerCall,
    pub(super) allocations_per_call: PerCall,
    pub(super) syscalls_per_call: PerCall,
}

impl Profile {
    pub(super) fn not_asked_for() -> Self {
        let lacking = || PerCall::lacking("none", "not asked for");
        Self {
            user_instructions_per_call: lacking(),
            allocations_per_call: lacking(),
            syscalls_per_call: lacking(),
        }
    }
}

/// How soon a target answers, and the memory it takes.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Footprint {
    /// From the start of the program to its first right answer.
    pub(super) start_ms: Option<Spread>,
    /// Resident, all processes, after the start and before any further call.
    pub(super) idle_kib: Option<u64>,
    /// Streams that were open when memory was looked at again, if they were.
    pub(super) streams: Option<usize>,
    pub(super) streams_kib: Option<u64>,
    /// Why that is not known, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) streams_reason: Option<String>,
}

/// What a target is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Described {
    #[serde(skip)]
    pub(super) name: String,
    pub(super) about: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) licence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// The processors that it can use.
    pub(super) processors: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections_at_most: Option<usize>,
}

/// Everything one run found.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) samples: Vec<Sample>,
    /// In the order of the tables.
    pub(super) targets: Vec<Described>,
    /// Resident memory in KiB after the rounds, and its peak.
    pub(super) memory_kib: BTreeMap<String, (u64, u64)>,
    pub(super) footprints: BTreeMap<String, Footprint>,
    pub(super) profiles: BTreeMap<String, Profile>,
    /// What was to be measured and was not, and why.
    pub(super) not_measured: BTreeMap<String, String>,
    /// Processors of the machine.
    pub(super) processors: usize,
}

impl Figures {
    fn of<'a>(&'a self, target: &'a str, mode: Mode) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.target == target && sample.mode == mode)
    }

    /// Over all rounds.
    pub(super) fn spread(
        &self,
        target: &str,
        mode: Mode,
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.of(target, mode).filter_map(value))
    }

    /// CPU of a target over nginx's: of the medians, and round by round.
    pub(super) fn ratio(&self, target: &str, mode: Mode) -> (Option<f64>, Option<Spread>) {
        let median = |target| {
            self.spread(target, mode, |sample| Some(sample.cpu_us))
                .map(|spread| spread.median)
        };
        let of_medians = median(target)
            .zip(median(NGINX))
            .map(|(ours, theirs)| ours / theirs);
        let pairs = self.of(target, mode).filter_map(|ours| {
            let theirs = self
                .of(NGINX, mode)
                .find(|theirs| theirs.round == ours.round)?;
            Some(ours.cpu_us / theirs.cpu_us)
        });
        let ratio = of_medians.filter(|ratio| ratio.is_finite()).map(rounded);
        (ratio, Spread::of(pairs.filter(|ratio| ratio.is_finite())))
    }

    /// What a target adds to what the mock takes by itself, over all rounds.
    pub(super) fn added(
        &self,
        target: &str,
        mode: Mode,
        of: impl Fn(&Sample) -> Option<Percentiles>,
        point: impl Fn(&Percentiles) -> f64,
    ) -> Option<Spread> {
        let pairs = self.of(target, mode).filter_map(|sample| {
            let direct = sample.direct.or_else(|| {
                let mut samples = self.of(DIRECT, mode);
                of(samples.find(|direct| direct.round == sample.round)?)
            });
            Some(point(&of(sample)?) - point(&direct?))
        });
        Spread::of(pairs)
    }

    /// Who had no processor left while a target was asked for as much as it answers.
    pub(super) fn used_up(&self, target: &Described, mode: Mode) -> Vec<&'static str> {
        let cores = |value: fn(&Sample) -> f64| {
            self.spread(&target.name, mode, |sample| Some(value(sample)))
                .map_or(0.0, |spread| spread.median)
        };
        let of_target = cores(|sample| sample.target_cores);
        let (mock, load) = (cores(|s| s.mock_cores), cores(|s| s.load_cores));
        let mut all = mock + load;
        if target.name != DIRECT {
            all += of_target;
        }
        let is_used_up = |busy: f64, of: usize| {
            let of = u32::try_from(of).unwrap_or(u32::MAX);
            busy >= USED_UP * f64::from(of)
        };
        // Mock and load have one thread each.
        let mut who = Vec::new();
        if target.name != DIRECT && is_used_up(of_target, target.processors) {
            who.push("target");
        }
        if is_used_up(mock, 1) {
            who.push("mock");
        }
        if is_used_up(load, 1) {
            who.push("load");
        }
        if is_used_up(all, self.processors) {
            who.push("machine");
        }
        who
    }
}

/// To three digits: more would be noise.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
