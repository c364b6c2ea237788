//! When calls of an open loop are due.
//!
//! It knows no clock: times are counted from the start. Each thread has a pace of its own, and all
//! of them together keep the rate.

use std::time::Duration;

use crate::proof::chance::Chance;

/// The number of a call among those of all threads, and when it is due.
pub(super) type Due = (u64, Duration);

/// The calls of one of several threads, without an end.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    thread: u64,
    threads: u64,
    /// Calls so far.
    turn: u64,
    /// With chance: where it stands, and when the last call was due.
    chance: Option<(Chance, f64)>,
}

impl Pace {
    /// Calls that come evenly, those of all threads in turn.
    pub(super) fn even(rate: f64, thread: u64, threads: u64) -> Self {
        Self {
            rate,
            thread,
            threads,
            turn: 0,
            chance: None,
        }
    }

    /// Calls that come independently of each other: a Poisson process, as several of them are together.
    pub(super) fn poisson(rate: f64, thread: u64, threads: u64, seed: u64) -> Self {
        let chance = Chance::of(seed, thread);
        Self {
            chance: Some((chance, 0.0)),
            ..Self::even(rate, thread, threads)
        }
    }
}

impl Iterator for Pace {
    type Item = Due;

    #[expect(clippy::cast_precision_loss, reason = "there are never 2^52 calls")]
    fn next(&mut self) -> Option<Due> {
        let number = self.turn * self.threads + self.thread;
        self.turn += 1;
        let seconds = match &mut self.chance {
            None => number as f64 / self.rate,
            Some((chance, last)) => {
                // The time between two events of such a process is exponential.
                let pause = -(1.0 - chance.share()).ln() * self.threads as f64 / self.rate;
                *last += pause;
                *last
            }
        };
        // A rate so low that the time has no name never comes.
        Some((
            number,
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_even_calls_in_turn() {
        let times = |thread| -> Vec<(u64, u128)> {
            let pace = Pace::even(100.0, thread, 2).take(3);
            pace.map(|(number, at)| (number, at.as_millis())).collect()
        };
        assert_eq!(times(0), [(0, 0), (2, 20), (4, 40)]);
        assert_eq!(times(1), [(1, 10), (3, 30), (5, 50)]);
    }

    #[test]
    fn random_calls_keep_the_rate_and_can_be_repeated() {
        let calls = |seed| -> Vec<Due> {
            let threads = (0..4).flat_map(|thread| {
                Pace::poisson(1000.0, thread, 4, seed)
                    .take_while(|due| due.1 < Duration::from_secs(10))
            });
            threads.collect()
        };
        // Ten thousand are expected; five standard deviations are 500.
        assert!(
            (9_500..10_500).contains(&calls(7).len()),
            "{}",
            calls(7).len()
        );
        assert_eq!(calls(7), calls(7));
        assert_ne!(calls(7), calls(8));
    }

    #[test]
    fn random_pauses_scatter_as_much_as_they_last() {
        let mut last = 0.0;
        let pauses: Vec<f64> = Pace::poisson(1.0, 0, 1, 3)
            .take(10_000)
            .map(|(_, at)| {
                let pause = at.as_secs_f64() - last;
                last = at.as_secs_f64();
                pause
            })
            .collect();
        let mean = pauses.iter().sum::<f64>() / 10_000.0;
        let variance = pauses
            .iter()
            .map(|pause| (pause - mean).powi(2))
            .sum::<f64>()
            / 10_000.0;
        assert!(
            (0.9..1.1).contains(&(variance.sqrt() / mean)),
            "{mean} {variance}"
        );
    }
}
