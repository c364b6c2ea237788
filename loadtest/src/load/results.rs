//! What a load came to, and whether the target held it.
//!
//! It judges figures and draws nothing.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::tally::{KeyTally, Tally, Times};

/// Delays of the load generator above this are its own lateness.
pub(super) const LATE: Duration = Duration::from_millis(1);
/// Of a hundred calls, how many may fail while a load counts as held.
const FAILED_PERCENT: f64 = 1.0;
/// How much of the offered rate has to be answered in time.
const ANSWERED: f64 = 0.95;
/// Without a bar, a p99 so many times that of the first step, and this much above it, is one that broke.
const BREAKS: f64 = 5.0;
const BREAKS_ABOVE_SECONDS: f64 = 0.010;

/// Percentiles that are told, and how they are called in JSON.
pub(super) const PERCENTILES: [(f64, &str); 5] = [
    (50.0, "p50_ms"),
    (90.0, "p90_ms"),
    (99.0, "p99_ms"),
    (99.9, "p999_ms"),
    (100.0, "max_ms"),
];

/// One load at one rate.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Calls a second that were offered; none in a closed loop.
    pub(super) rate: Option<f64>,
    /// Measured seconds.
    pub(super) seconds: f64,
    pub(super) bin_seconds: f64,
    /// Processors that the load generator was busy on, and could be.
    pub(super) cpu: f64,
    pub(super) cpu_most: f64,
    /// Processors of the machine that were busy with anything at all.
    pub(super) machine_cpu: f64,
    pub(super) tally: Tally,
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn ratio(part: u64, whole: f64) -> f64 {
    if whole > 0.0 {
        part as f64 / whole
    } else {
        0.0
    }
}

impl Step {
    /// Right answers a second.
    pub(super) fn throughput(&self) -> f64 {
        ratio(self.tally.in_time, self.seconds)
    }

    pub(super) fn right(&self) -> u64 {
        self.tally.calls - self.tally.failed()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub(super) fn failed_percent(&self) -> f64 {
        100.0 * ratio(self.tally.failed(), self.tally.calls as f64)
    }

    /// Processor time that the load generator took for a call, in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub(super) fn cpu_micros(&self) -> f64 {
        self.cpu * self.seconds * 1e6 / (self.tally.calls as f64).max(1.0)
    }

    /// Calls that the load generator came to too late by itself.
    pub(super) fn own_late(&self) -> u64 {
        self.tally.own_delay.above(LATE)
    }

    /// Why the figures are those of the load generator as much as of the target, if they are.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub(super) fn saturated(&self) -> Option<String> {
        let late = 100.0 * ratio(self.own_late(), self.tally.own_delay.count() as f64);
        if late > 1.0 {
            return Some(format!(
                "the load generator, or the machine it shares, came more than 1 ms too late to {late:.1} % of its calls"
            ));
        }
        (self.cpu > 0.85 * self.cpu_most).then(|| {
            format!(
                "the load generator was busy on {:.2} of {} processors",
                self.cpu, self.cpu_most
            )
        })
    }

    /// Why the target did not hold the load with this p99 in seconds, if it did not.
    pub(super) fn broken(&self, bar: f64) -> Option<String> {
        let failed = self.failed_percent();
        if failed > FAILED_PERCENT {
            return Some(format!("{failed:.1} % of calls failed"));
        }
        if let Some(rate) = self.rate {
            let throughput = self.throughput();
            // Of few calls, the last few say nothing.
            if throughput * self.seconds + 3.0 < rate * self.seconds * ANSWERED {
                return Some(format!(
                    "{throughput:.0} of {rate:.0} calls a second were answered"
                ));
            }
        }
        let p99 = self.tally.whole.at(99.0)?;
        (p99 > bar).then(|| format!("p99 was {:.1} ms, more than {:.1}", p99 * 1e3, bar * 1e3))
    }

    pub(super) fn to_json(&self) -> Value {
        let tally = &self.tally;
        let keys = tally.keys.iter().map(|(key, of)| key_json(*key, of));
        json!({
            "rate": self.rate,
            "seconds": rounded(self.seconds),
            "calls": tally.calls,
            "right": self.right(),
            "failed": tally.failed(),
            "cut": tally.cut,
            "throughput": rounded(self.throughput()),
            "latency": {
                "answer": times(&tally.whole),
                "plain_answer": times(&tally.plain),
                "stream": times(&tally.stream),
                "first_byte": times(&tally.first_byte),
                "between_events": times(&tally.gaps),
                "refusal": times(&tally.refusals),
            },
            "failures": counts(tally.failures.iter().map(|(failure, count)| (failure.name(), *count))),
            "statuses": counts(tally.statuses.iter().map(|(status, count)| (status.to_string(), *count))),
            "tollgate_errors": counts(tally.codes.iter().map(|(code, count)| (code, *count))),
            "waited_for_a_connection": tally.waited,
            "streams": tally.streams,
            "events": tally.events,
            "body_bytes": tally.bytes,
            "usage": {
                "answers": tally.stated, "input_tokens": tally.usage.input, "output_tokens": tally.usage.output,
            },
            "keys": keys.collect::<Vec<_>>(),
            "connections_opened": tally.opened,
            "generator": {
                "cpu": rounded(self.cpu), "cpu_us_per_call": rounded(self.cpu_micros()),
                "machine_cpu": rounded(self.machine_cpu), "cpu_most": self.cpu_most, "late": self.own_late(),
                "late_p99_ms": millis(tally.own_delay.at(99.0)), "saturated": self.saturated(),
            },
            "over_time": self.over_time(),
        })
    }

    fn over_time(&self) -> Vec<Value> {
        let bins = self.tally.bins.iter().zip(0_u32..);
        bins.map(|(bin, number)| {
            json!({
                "second": rounded(f64::from(number) * self.bin_seconds),
                "right": bin.right, "failed": bin.failed,
                "p50_ms": millis(bin.whole.at(50.0)), "p99_ms": millis(bin.whole.at(99.0)),
                "first_byte_p50_ms": millis(bin.first_byte.at(50.0)),
                "first_byte_p99_ms": millis(bin.first_byte.at(99.0)),
            })
        })
        .collect()
    }
}

fn key_json(key: usize, of: &KeyTally) -> Value {
    json!({
        "key": key + 1, "calls": of.calls, "failed": of.failed,
        "p50_ms": millis(of.whole.at(50.0)), "p99_ms": millis(of.whole.at(99.0)),
    })
}

fn times(times: &Times) -> Value {
    let mut object = Map::new();
    object.insert("count".to_owned(), times.count().into());
    object.insert("mean_ms".to_owned(), millis(times.mean()));
    for (percentile, name) in PERCENTILES {
        object.insert(name.to_owned(), millis(times.at(percentile)));
    }
    object.into()
}

fn counts<N: ToString>(counts: impl Iterator<Item = (N, u64)>) -> Value {
    let counts = counts.map(|(name, count)| (name.to_string(), count.into()));
    Value::Object(counts.collect())
}

fn millis(seconds: Option<f64>) -> Value {
    seconds.map_or(Value::Null, |seconds| rounded(seconds * 1e3).into())
}

/// With a comma between each three digits.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// To a thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// How far the steps were held.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    /// Steps from the first on that were held.
    pub(super) steps: usize,
    /// Why the next was not.
    pub(super) broken: Option<String>,
}

/// How far the target held. Without a bar in seconds, the first step gives one.
pub(super) fn held(steps: &[Step], bar: Option<f64>) -> Held {
    let first = steps.first().and_then(|step| step.tally.whole.at(99.0));
    let usual = first.map(|p99| (p99 * BREAKS).max(p99 + BREAKS_ABOVE_SECONDS));
    let bar = bar.or(usual).unwrap_or(f64::MAX);
    let broken = steps.iter().map(|step| step.broken(bar));
    let first_broken = broken
        .enumerate()
        .find_map(|(number, why)| Some((number, why?)));
    let (steps, broken) =
        first_broken.map_or((steps.len(), None), |(number, why)| (number, Some(why)));
    Held { steps, broken }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::{Failure, Seen};
    use super::super::tally::Stamp;
    use super::*;

    /// One second in which so many calls of so many milliseconds were answered, and so many failed.
    fn step(rate: Option<f64>, right: u64, millis: u64, failed: u64) -> Step {
        let mut tally = Tally::new(Duration::from_secs(1));
        let stamp = Stamp {
            due: Some(Duration::ZERO),
            ended: Some(Duration::ZERO),
            in_time: true,
        };
        for number in 0..right + failed {
            let failure = (number >= right).then_some(Failure::Status);
            let whole = Duration::from_millis(millis);
            tally.record(
                &Seen {
                    failure,
                    whole,
                    ..Seen::default()
                },
                0,
                stamp,
            );
        }
        Step {
            rate,
            seconds: 1.0,
            bin_seconds: 1.0,
            cpu: 0.1,
            cpu_most: 2.0,
            machine_cpu: 0.2,
            tally,
        }
    }

    #[test]
    fn the_step_at_which_a_target_breaks_is_found_with_its_reason() {
        let slow = step(Some(400.0), 400, 100, 0);
        let steps = [
            step(Some(100.0), 100, 10, 0),
            step(Some(200.0), 200, 11, 1),
            slow,
        ];
        let found = held(&steps, None);
        assert_eq!(found.steps, 2);
        assert!(found.broken.unwrap().starts_with("p99 was 100"));
        assert_eq!(
            held(&steps, Some(0.2)),
            Held {
                steps: 3,
                broken: None
            }
        );
        assert_eq!(held(&steps, Some(0.001)).steps, 0);
        assert_eq!(
            held(&[], None),
            Held {
                steps: 0,
                broken: None
            }
        );
    }

    #[test]
    fn a_load_that_is_not_answered_or_fails_is_not_held_however_quick() {
        let behind = step(Some(1000.0), 500, 1, 0).broken(1.0).unwrap();
        assert_eq!(behind, "500 of 1000 calls a second were answered");
        let failing = step(Some(1000.0), 970, 1, 30).broken(1.0).unwrap();
        assert_eq!(failing, "3.0 % of calls failed");
        assert_eq!(
            step(None, 500, 1, 0).broken(1.0),
            None,
            "a closed loop offers no rate"
        );
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(count), expected);
        }
    }

    #[test]
    fn a_generator_that_was_late_or_busy_says_so() {
        let mut step = step(Some(100.0), 100, 1, 0);
        for late in [0, 0, 0, 5] {
            step.tally.own_delay.record(Duration::from_millis(late));
        }
        assert!(step.saturated().unwrap().contains("25.0 %"));
        step.tally.own_delay = Times::new(3);
        assert_eq!(step.saturated(), None);
        step.cpu = 1.9;
        assert!(step.saturated().unwrap().contains("1.90 of 2"));
    }
}
