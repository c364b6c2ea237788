//! What all calls of one thread, or of all of them, came to.
//!
//! Latencies are kept in HdrHistograms: three digits of each, however many there are. It knows no
//! clock. Worst case: a latency above [`LONGEST`] counts as that; a key beyond the [`KEYS`]th counts
//! with those; so do gateway codes beyond the [`CODES`]th.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::outcome::{Failure, Seen, Usage};

/// The longest latency: no call takes an hour.
const LONGEST: Duration = Duration::from_secs(3600);
/// The shortest that is told from none, in nanoseconds.
const SHORTEST_NANOS: u64 = 1_000;
/// Keys that are told apart.
pub(super) const KEYS: usize = 1_000;
/// Words of the gateway that are told apart. A target that invents them does not fill the memory.
const CODES: usize = 100;

/// How long things took.
#[derive(Debug, Clone)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    /// Kept to so many digits.
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants that a histogram can have"
    )]
    pub(super) fn new(digits: u8) -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let histogram = Histogram::new_with_bounds(SHORTEST_NANOS, longest, digits);
        Self(histogram.expect("bounds and digits are such as a histogram can have"))
    }

    pub(super) fn record(&mut self, time: Duration) {
        self.0
            .saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Self) {
        // All have the same bounds, so that nothing can be out of them.
        let _always_fits = self.0.add(&other.0);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Seconds that so many of a hundred took at most; nothing if there are none.
    #[expect(
        clippy::cast_precision_loss,
        reason = "an hour has fewer than 2^52 nanoseconds"
    )]
    pub(super) fn at(&self, percentile: f64) -> Option<f64> {
        let nanos = self.0.value_at_percentile(percentile) as f64;
        (!self.0.is_empty()).then_some(nanos / 1e9)
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / 1e9)
    }

    /// How many took longer.
    pub(super) fn above(&self, time: Duration) -> u64 {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.count_between(nanos.saturating_add(1), u64::MAX)
    }

    /// Percentile and seconds, closer to each other the closer to a hundred.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and nanoseconds are below 2^52"
    )]
    pub(super) fn curve(&self) -> Vec<(f64, f64)> {
        let points = self.0.iter_quantiles(5).map(|point| {
            let seconds = point.value_iterated_to() as f64 / 1e9;
            (point.quantile_iterated_to() * 100.0, seconds)
        });
        // The last is at a hundred, which no axis of nines has: it stands where the longest of so many does.
        let last = 100.0 - 100.0 / (self.0.len() as f64).max(2.0);
        let mut curve: Vec<(f64, f64)> = points.take_while(|point| point.0 < last).collect();
        if let Some(longest) = self.at(100.0) {
            curve.push((last, longest));
        }
        curve
    }
}

/// What happened in a stretch of time.
#[derive(Debug, Clone)]
pub(super) struct Bin {
    /// Latencies of calls that became due in it.
    pub(super) whole: Times,
    pub(super) first_byte: Times,
    /// Calls that ended in it, well or not.
    pub(super) right: u64,
    pub(super) failed: u64,
}

/// What calls with one key came to.
#[derive(Debug, Clone)]
pub(super) struct KeyTally {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) whole: Times,
}

/// When a call was due and when it ended, from the start of what is measured; both may be before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) due: Option<Duration>,
    pub(super) ended: Option<Duration>,
    /// Whether it ended before the end of what is measured.
    pub(super) in_time: bool,
}

/// The sums.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    bin: Duration,
    /// Calls that became due while it was measured.
    pub(super) calls: u64,
    /// Right answers that ended while it was measured.
    pub(super) in_time: u64,
    pub(super) streams: u64,
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) usage: Usage,
    /// Answers that stated usage.
    pub(super) stated: u64,
    /// Of right answers, and of those waited for in vain.
    pub(super) whole: Times,
    /// The same of plain calls and of streams, each for itself.
    pub(super) plain: Times,
    pub(super) stream: Times,
    pub(super) first_byte: Times,
    pub(super) gaps: Times,
    /// Of answers whose status was none of success.
    pub(super) refusals: Times,
    /// From when a call was due to when the load generator got to it.
    pub(super) own_delay: Times,
    /// Calls for which no connection was free when they were due.
    pub(super) waited: u64,
    pub(super) failures: BTreeMap<Failure, u64>,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) codes: BTreeMap<String, u64>,
    pub(super) keys: BTreeMap<usize, KeyTally>,
    pub(super) bins: Vec<Bin>,
    /// Connections opened, those of the warm-up among them.
    pub(super) opened: u64,
    /// Calls given up because the run was interrupted.
    pub(super) cut: u64,
}

impl Tally {
    /// Nothing yet, in stretches of this length.
    pub(super) fn new(bin: Duration) -> Self {
        let [whole, plain, stream, first_byte, gaps, refusals, own_delay] = [3; 7].map(Times::new);
        Self {
            bin,
            calls: 0,
            in_time: 0,
            streams: 0,
            events: 0,
            bytes: 0,
            usage: Usage::default(),
            stated: 0,
            whole,
            plain,
            stream,
            first_byte,
            gaps,
            refusals,
            own_delay,
            waited: 0,
            failures: BTreeMap::new(),
            statuses: BTreeMap::new(),
            codes: BTreeMap::new(),
            keys: BTreeMap::new(),
            bins: Vec::new(),
            opened: 0,
            cut: 0,
        }
    }

    /// Takes in what came of a call.
    pub(super) fn record(&mut self, seen: &Seen, key: usize, stamp: Stamp) {
        if let Some(ended) = stamp.ended {
            self.in_time += u64::from(stamp.in_time && seen.failure.is_none());
            let bin = self.bin_of(ended);
            if seen.failure.is_none() {
                bin.right += 1;
            } else {
                bin.failed += 1;
            }
        }
        let Some(due) = stamp.due else { return };
        self.calls += 1;
        self.bytes += seen.bytes;
        if let Some(usage) = seen.usage {
            self.stated += 1;
            self.usage.input += usage.input;
            self.usage.output += usage.output;
        }
        if let Some(status) = seen.status {
            *self.statuses.entry(status.as_u16()).or_default() += 1;
        }
        if let Some(code) = &seen.code {
            let known = self.codes.len() < CODES || self.codes.contains_key(code);
            let code = if known { code } else { "other" };
            *self.codes.entry(code.to_owned()).or_default() += 1;
        }
        self.streams += u64::from(seen.events > 0);
        self.events += seen.events;
        for gap in &seen.gaps {
            self.gaps.record(*gap);
        }
        self.times(seen, due);
        let of_key = self.key(key);
        of_key.calls += 1;
        match seen.failure {
            None => of_key.whole.record(seen.whole),
            Some(failure) => {
                of_key.failed += 1;
                if failure.is_endless() {
                    of_key.whole.record(seen.whole);
                }
                *self.failures.entry(failure).or_default() += 1;
            }
        }
    }

    fn times(&mut self, seen: &Seen, due: Duration) {
        match seen.failure {
            Some(Failure::Status) => self.refusals.record(seen.whole),
            Some(failure) if !failure.is_endless() => {}
            _ => {
                self.whole.record(seen.whole);
                let of_kind = if seen.streamed {
                    &mut self.stream
                } else {
                    &mut self.plain
                };
                of_kind.record(seen.whole);
                // What never came is as late as the call is.
                let first_byte = seen.first_byte.unwrap_or(seen.whole);
                self.first_byte.record(first_byte);
                let bin = self.bin_of(due);
                bin.whole.record(seen.whole);
                bin.first_byte.record(first_byte);
            }
        }
    }

    fn key(&mut self, key: usize) -> &mut KeyTally {
        self.keys
            .entry(key.min(KEYS - 1))
            .or_insert_with(|| KeyTally {
                calls: 0,
                failed: 0,
                whole: Times::new(2),
            })
    }

    fn bin_of(&mut self, at: Duration) -> &mut Bin {
        let place = usize::try_from(at.as_nanos() / self.bin.as_nanos().max(1)).unwrap_or(0);
        self.bins_to(place);
        // There always is one: the last has just been made if need be.
        let last = self.bins.len() - 1;
        &mut self.bins[place.min(last)]
    }

    fn bins_to(&mut self, place: usize) {
        while self.bins.len() <= place {
            self.bins.push(Bin {
                whole: Times::new(2),
                first_byte: Times::new(2),
                right: 0,
                failed: 0,
            });
        }
    }

    /// Takes in the sums of another thread.
    pub(super) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.in_time += other.in_time;
        self.streams += other.streams;
        self.events += other.events;
        self.bytes += other.bytes;
        self.usage.input += other.usage.input;
        self.usage.output += other.usage.output;
        self.stated += other.stated;
        self.waited += other.waited;
        self.opened += other.opened;
        self.cut += other.cut;
        self.whole.add(&other.whole);
        self.plain.add(&other.plain);
        self.stream.add(&other.stream);
        self.first_byte.add(&other.first_byte);
        self.gaps.add(&other.gaps);
        self.refusals.add(&other.refusals);
        self.own_delay.add(&other.own_delay);
        add(&mut self.failures, &other.failures);
        add(&mut self.statuses, &other.statuses);
        add(&mut self.codes, &other.codes);
        for (key, theirs) in &other.keys {
            let ours = self.key(*key);
            ours.calls += theirs.calls;
            ours.failed += theirs.failed;
            ours.whole.add(&theirs.whole);
        }
        self.bins_to(other.bins.len().saturating_sub(1));
        for (ours, theirs) in self.bins.iter_mut().zip(&other.bins) {
            ours.whole.add(&theirs.whole);
            ours.first_byte.add(&theirs.first_byte);
            ours.right += theirs.right;
            ours.failed += theirs.failed;
        }
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

fn add<K: Ord + Clone>(ours: &mut BTreeMap<K, u64>, theirs: &BTreeMap<K, u64>) {
    for (key, count) in theirs {
        *ours.entry(key.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(failure: Option<Failure>, millis: u64) -> Seen {
        Seen {
            failure,
            whole: Duration::from_millis(millis),
            ..Seen::default()
        }
    }

    fn at(due: u64, ended: u64) -> Stamp {
        let millis = |millis| Some(Duration::from_millis(millis));
        Stamp {
            due: millis(due),
            ended: millis(ended),
            in_time: ended <= 2_500,
        }
    }

    #[test]
    fn what_was_waited_for_in_vain_counts_as_slow_and_a_refusal_does_not_count_as_quick() {
        let mut tally = Tally::new(SECOND);
        tally.record(&seen(None, 100), 0, at(0, 100));
        tally.record(&seen(Some(Failure::Unsent), 5_000), 0, at(0, 5_000));
        tally.record(&seen(Some(Failure::Status), 1), 0, at(0, 1));
        tally.record(&seen(Some(Failure::Connect), 1), 0, at(0, 1));
        assert_eq!(
            (
                tally.calls,
                tally.failed(),
                tally.whole.count(),
                tally.refusals.count()
            ),
            (4, 3, 2, 1)
        );
        assert!(
            tally.whole.at(99.0) > Some(4.9),
            "{:?}",
            tally.whole.at(99.0)
        );
        assert_eq!(tally.whole.above(SECOND), 1);
    }

    #[test]
    fn a_call_is_slow_in_the_second_it_was_due_and_done_in_the_second_it_ended() {
        let mut tally = Tally::new(SECOND);
        tally.record(&seen(None, 2_000), 0, at(500, 2_500));
        // Due in the warm-up, ended after it: throughput, no latency.
        tally.record(
            &seen(None, 700),
            0,
            Stamp {
                due: None,
                ..at(0, 2_600)
            },
        );
        let bins: Vec<_> = tally
            .bins
            .iter()
            .map(|bin| (bin.whole.count(), bin.right))
            .collect();
        assert_eq!(bins, [(1, 0), (0, 0), (0, 2)]);
        assert_eq!((tally.calls, tally.in_time), (1, 1));
    }

    #[test]
    fn two_threads_together_are_the_sum_of_both() {
        let (mut one, mut other) = (Tally::new(SECOND), Tally::new(SECOND));
        for millis in 1..=100 {
            let tally = if millis % 2 == 0 {
                &mut one
            } else {
                &mut other
            };
            let code = Some(format!("code-{}", millis % 3));
            tally.record(
                &Seen {
                    code,
                    ..seen(None, millis)
                },
                5_000,
                at(millis * 20, millis * 21),
            );
        }
        one.merge(&other);
        assert_eq!((one.calls, one.keys[&(KEYS - 1)].calls), (100, 100));
        assert_eq!(
            one.codes.values().copied().collect::<Vec<_>>(),
            [33, 34, 33]
        );
        assert_eq!(one.bins.iter().map(|bin| bin.right).sum::<u64>(), 100);
        let median = one.whole.at(50.0).unwrap();
        assert!((0.0499..0.0511).contains(&median), "{median}");
    }

    #[test]
    fn a_curve_ends_at_the_longest_and_never_at_a_hundred() {
        let mut times = Times::new(3);
        for millis in 1..=1000 {
            times.record(Duration::from_millis(millis));
        }
        let curve = times.curve();
        let (percentile, longest) = curve.last().copied().unwrap();
        assert_eq!(percentile, 99.9);
        assert!((1.0..1.002).contains(&longest), "{longest}");
        assert!(
            curve
                .windows(2)
                .all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1)
        );
        assert!(Times::new(3).curve().is_empty());
    }

    #[test]
    fn words_that_a_target_invents_do_not_fill_the_memory() {
        let mut tally = Tally::new(SECOND);
        for number in 0..1_000 {
            let code = Some(format!("invented-{number}"));
            tally.record(
                &Seen {
                    code,
                    ..seen(Some(Failure::Status), 1)
                },
                0,
                at(0, 1),
            );
        }
        assert_eq!((tally.codes.len(), tally.codes["other"]), (CODES + 1, 900));
    }
}
