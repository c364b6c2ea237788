//! The arithmetic of one bucket, as properties.

use super::super::flow::Flow;
use super::*;

const SECOND: u128 = 1_000_000_000;

/// Rates from one a minute to a million a second, and what comes when.
fn traffic() -> impl Strategy<Value = (RateLimit, Vec<(u64, u64)>)> {
    let limit = (1_u64..60_000_000, 1_u64..10_000).prop_map(|(rate_, burst)| rate(rate_, burst));
    let arrivals = prop::collection::vec((0_u64..20_000_000_000, 0_u64..12_000), 1..100);
    (limit, arrivals)
}

proptest! {
    /// In no stretch of time does more get through than the burst and what flows in meanwhile,
    /// calls larger than the bucket apart, which owe the rest.
    #[test]
    fn no_stretch_of_time_lets_more_through_than_burst_and_flow((limit, arrivals) in traffic()) {
        let mut flow = Flow::full(limit, 0);
        let mut now = 0_u128;
        let mut through: Vec<(u128, u64)> = Vec::new();
        for (gap, count) in arrivals {
            now += u128::from(gap);
            let count = count.min(limit.burst.get());
            flow.advance(limit, now);
            if flow.wait(count).is_zero() {
                flow.take(count);
                through.push((now, count));
            }
        }
        for (i, (start, _)) in through.iter().enumerate() {
            let mut sum = 0_u128;
            for (end, count) in &through[i..] {
                sum += u128::from(*count);
                let came = (end - start) * u128::from(limit.per_minute.get());
                let most = u128::from(limit.burst.get()) * 60 * SECOND + came;
                prop_assert!(sum * 60 * SECOND <= most);
            }
        }
    }

    /// Who comes back when told is admitted, and who comes earlier is not.
    #[test]
    fn the_wait_is_exact((limit, arrivals) in traffic()) {
        let mut flow = Flow::full(limit, 0);
        let mut now = 0_u128;
        for (gap, count) in arrivals {
            now += u128::from(gap);
            flow.advance(limit, now);
            let wait = flow.wait(count);
            if !wait.is_zero() {
                now += wait.as_nanos() - 1;
                flow.advance(limit, now);
                prop_assert_eq!(flow.wait(count), Duration::from_nanos(1));
                now += 1;
                flow.advance(limit, now);
            }
            prop_assert_eq!(flow.wait(count), Duration::ZERO);
            flow.take(count);
        }
    }

    /// Taking an estimate and correcting it at once is the same as having known.
    #[test]
    fn a_corrected_estimate_is_as_good_as_the_truth(
        limit in (1_u64..1_000_000, 1_u64..10_000),
        estimate in 0_u64..100_000,
        used in 0_u64..60_000,
        next in 0_u64..10_000,
    ) {
        let limit = rate(limit.0, limit.1);
        let (mut guessed, mut known) = (Flow::full(limit, 0), Flow::full(limit, 0));
        let taken = guessed.take(estimate);
        guessed.correct(taken, used, 0);
        known.take(used);
        if used <= limit.most_taken() {
            prop_assert_eq!(guessed.wait(next), known.wait(next));
        }
        prop_assert!(guessed.wait(1) <= Duration::from_secs(3_660));
    }

    /// A clock that steps back neither fills a bucket nor empties it.
    #[test]
    fn time_only_counts_forward(back in 0_u64..10_000_000_000, count in 1_u64..10) {
        let limit = rate(60, 10);
        let mut flow = Flow::full(limit, 0);
        let now = 20 * SECOND;
        flow.advance(limit, now);
        flow.take(10);
        flow.advance(limit, now - u128::from(back));
        prop_assert_eq!(flow.wait(count), Duration::from_secs(count));
        flow.advance(limit, now);
        prop_assert_eq!(flow.wait(count), Duration::from_secs(count));
    }
}
