//! Percentiles, medians, ratios and differences of made-up rounds.

use super::*;

fn sample(round: usize, target: &str, mode: Mode, cpu_us: f64, p50_ms: f64) -> Sample {
    Sample {
        round,
        target: target.to_owned(),
        mode,
        calls: 100,
        seconds: 1.0,
        rps: 100.0,
        cpu_us,
        cpu_user_us: 0.0,
        cpu_system_us: 0.0,
        store_cpu_us: None,
        mock_cpu_us: 0.0,
        target_cores: 0.5,
        mock_cores: 0.2,
        load_cores: 0.95,
        p50_ms,
        p99_ms: 2.0 * p50_ms,
        p999_ms: 3.0 * p50_ms,
        first_event: None,
        event_delay: None,
        offered_rps: None,
        direct: None,
    }
}

fn figures(samples: Vec<Sample>) -> Figures {
    Figures {
        samples,
        targets: Vec::new(),
        memory_kib: BTreeMap::new(),
        footprints: BTreeMap::new(),
        profiles: BTreeMap::new(),
        not_measured: BTreeMap::new(),
        processors: 2,
    }
}

fn near(value: Option<f64>, wanted: f64) {
    let value = value.expect("a figure");
    assert!((value - wanted).abs() < 1e-9, "{value} instead of {wanted}");
}

#[test]
fn median_of_an_even_number_lies_between_the_middle_two() {
    let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
    near(Some(spread.median), 2.5);
    near(Some(spread.min), 1.0);
    near(Some(spread.max), 4.0);
    assert!(Spread::of([]).is_none());
}

#[test]
fn percentiles_are_taken_from_what_was_timed_in_any_order() {
    let times = (1..=1_000).rev().collect();
    let found = Percentiles::of(times).unwrap();
    near(Some(found.p50_ms), 0.501);
    near(Some(found.p99_ms), 0.991);
    near(Some(found.p999_ms), 1.0);
    let one = Percentiles::of(vec![7]).unwrap();
    assert_eq!((one.p50_ms, one.p999_ms), (0.007, 0.007));
    assert_eq!(Percentiles::of(Vec::new()), None);
}

#[test]
fn ratios_are_those_of_the_medians_and_of_each_round() {
    let plain = |round, target, cpu| sample(round, target, Mode::Plain, cpu, 1.0);
    let found = figures(vec![
        plain(0, "nginx", 10.0),
        plain(0, "tollgate", 30.0),
        plain(1, "tollgate", 20.0),
        plain(1, "nginx", 20.0),
        plain(2, "nginx", 12.0),
        plain(2, "tollgate", 18.0),
    ]);
    let (ratio, rounds) = found.ratio("tollgate", Mode::Plain);
    near(ratio, rounded(20.0 / 12.0));
    let rounds = rounds.unwrap();
    near(Some(rounds.median), 1.5);
    near(Some(rounds.max), 3.0);
    assert_eq!(found.ratio("tollgate", Mode::Stream).0, None);
}

#[test]
fn a_ratio_to_an_nginx_that_was_not_measured_is_none() {
    let found = figures(vec![sample(0, "tollgate", Mode::Plain, 30.0, 1.0)]);
    let (ratio, rounds) = found.ratio("tollgate", Mode::Plain);
    assert!(ratio.is_none() && rounds.is_none());
}

#[test]
fn what_is_added_is_the_difference_to_the_direct_way_in_the_same_round() {
    let mut half = sample(0, "tollgate", Mode::Half, 1.0, 0.5);
    half.direct = Some(sample(0, "direct", Mode::Half, 1.0, 0.1).latency());
    let found = figures(vec![
        sample(0, "direct", Mode::One, 1.0, 0.2),
        sample(1, "direct", Mode::One, 1.0, 0.4),
        sample(1, "tollgate", Mode::One, 1.0, 0.5),
        sample(0, "tollgate", Mode::One, 1.0, 0.5),
        half,
    ]);
    let latency = |sample: &Sample| Some(sample.latency());
    let one = found.added("tollgate", Mode::One, latency, |p| p.p50_ms);
    near(one.map(|spread| spread.median), 0.2);
    near(one.map(|spread| spread.min), 0.1);
    let half = found.added("tollgate", Mode::Half, latency, |p| p.p99_ms);
    near(half.map(|spread| spread.median), 0.8);
}

#[test]
fn whoever_has_no_processor_left_is_named() {
    let mut busy = sample(0, "nginx", Mode::Plain, 1.0, 1.0);
    busy.target_cores = 0.99;
    let found = figures(vec![busy]);
    let described = |processors| Described {
        name: "nginx".to_owned(),
        about: String::new(),
        licence: None,
        version: None,
        processors,
        connections_at_most: None,
    };
    assert_eq!(
        found.used_up(&described(1), Mode::Plain),
        ["target", "load", "machine"]
    );
    assert_eq!(
        found.used_up(&described(2), Mode::Plain),
        ["load", "machine"]
    );
}
