//! What a run found, for people.

use std::fmt::Write as _;

use super::figures::{Figures, NGINX, Percentiles, Sample, Spread};
use super::phase::Mode;
use super::target::DIRECT;

/// Width of a target's name.
const NAME: usize = 18;

/// All tables, one below the other.
pub(super) fn table(figures: &Figures) -> String {
    let mut text = String::new();
    for mode in Mode::COST {
        costs(&mut text, figures, mode);
    }
    delays(&mut text, figures);
    footprints(&mut text, figures);
    profiles(&mut text, figures);
    for name in figures.targets.iter().map(|target| &target.name) {
        let Some((now, peak)) = figures.memory_kib.get(name) else {
            continue;
        };
        let (now, peak) = (now / 1024, peak / 1024);
        let _ = writeln!(
            text,
            "{name} memory after the rounds: {now} MiB, peak {peak} MiB"
        );
    }
    for target in &figures.targets {
        let version = target.version.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{:<NAME$} {} {version}", target.name, target.about);
    }
    for (name, reason) in &figures.not_measured {
        let _ = writeln!(text, "{name:<NAME$} not measured: {reason}");
    }
    text
}

fn costs(text: &mut String, figures: &Figures, mode: Mode) {
    let _ = writeln!(
        text,
        "\n{:<NAME$} {:>26} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8}  {:<14} used up",
        mode.name(),
        "CPU µs/call [min–max]",
        "user",
        "system",
        "÷ nginx",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "cores t/m/l",
    );
    for target in &figures.targets {
        let name = target.name.as_str();
        let median = |value: fn(&Sample) -> f64| {
            figures
                .spread(name, mode, |sample| Some(value(sample)))
                .map_or(f64::NAN, |spread| spread.median)
        };
        let Some(cpu) = figures.spread(name, mode, |sample| Some(sample.cpu_us)) else {
            continue;
        };
        let range = format!("{:.1} [{:.1}–{:.1}]", cpu.median, cpu.min, cpu.max);
        let ratio = figures.ratio(name, mode).0.filter(|_| name != DIRECT);
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let own = if name == DIRECT {
            0.0
        } else {
            median(|s| s.target_cores)
        };
        let cores = format!(
            "{own:.2}/{:.2}/{:.2}",
            median(|s| s.mock_cores),
            median(|s| s.load_cores)
        );
        let label = if name == DIRECT { "(mock)" } else { name };
        let _ = writeln!(
            text,
            "{label:<NAME$} {range:>26} {:>8.1} {:>8.1} {ratio:>8} {:>9.0} {:>8.2} {:>8.2}  {cores:<14} {}",
            median(|s| s.cpu_user_us),
            median(|s| s.cpu_system_us),
            median(|s| s.rps),
            median(|s| s.p50_ms),
            median(|s| s.p99_ms),
            figures.used_up(target, mode).join(", ")
        );
        if let Some(store) = figures.spread(name, mode, |sample| sample.store_cpu_us) {
            let _ = writeln!(text, "{:<NAME$} {:>26.1}", "  its Redis", store.median);
        }
    }
    if figures.ratio(NGINX, mode).0.is_none() {
        let _ = writeln!(text, "without nginx in the run there are no ratios");
    }
}

/// What each target adds to the direct way.
fn delays(text: &mut String, figures: &Figures) {
    let measured = |mode| figures.samples.iter().any(|sample| sample.mode == mode);
    if !Mode::DELAY.into_iter().any(measured) {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<NAME$} {:>11} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9} {:>9} {:>9}",
        "added, µs",
        "1 conn. p50",
        "at half/s",
        "p50",
        "p99",
        "p99.9",
        "first p50",
        "p99",
        "event p50",
        "p99",
    );
    for target in figures.targets.iter().filter(|t| t.name != DIRECT) {
        let name = target.name.as_str();
        let added =
            |mode, of: fn(&Sample) -> Option<Percentiles>, point: fn(&Percentiles) -> f64| {
                micros(figures.added(name, mode, of, point))
            };
        let latency = |sample: &Sample| Some(sample.latency());
        let rate = figures.spread(name, Mode::Half, |sample| sample.offered_rps);
        let _ = writeln!(
            text,
            "{name:<NAME$} {:>11} {:>9.0} {:>9} {:>9} {:>11} {:>9} {:>9} {:>9} {:>9}",
            added(Mode::One, latency, |p| p.p50_ms),
            rate.map_or(f64::NAN, |rate| rate.median),
            added(Mode::Half, latency, |p| p.p50_ms),
            added(Mode::Half, latency, |p| p.p99_ms),
            added(Mode::Half, latency, |p| p.p999_ms),
            added(Mode::Events, |s| s.first_event, |p| p.p50_ms),
            added(Mode::Events, |s| s.first_event, |p| p.p99_ms),
            added(Mode::Events, |s| s.event_delay, |p| p.p50_ms),
            added(Mode::Events, |s| s.event_delay, |p| p.p99_ms),
        );
    }
}

fn micros(millis: Option<Spread>) -> String {
    millis.map_or_else(
        || "–".to_owned(),
        |spread| format!("{:.0}", spread.median * 1_000.0),
    )
}

fn footprints(text: &mut String, figures: &Figures) {
    if figures.footprints.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<NAME$} {:>26} {:>10} {:>24}",
        "footprint", "start ms [min–max]", "idle MiB", "MiB under open streams"
    );
    for name in figures.targets.iter().map(|target| &target.name) {
        let Some(found) = figures.footprints.get(name) else {
            continue;
        };
        let start = found.start_ms.map_or_else(String::new, |start| {
            format!("{:.0} [{:.0}–{:.0}]", start.median, start.min, start.max)
        });
        let mib =
            |kib: Option<u64>| kib.map_or_else(|| "–".to_owned(), |kib| (kib / 1024).to_string());
        let streams = match (found.streams, &found.streams_reason) {
            (Some(streams), _) => format!("{} ({streams} streams)", mib(found.streams_kib)),
            (None, Some(reason)) => format!("not known: {reason}"),
            (None, None) => "–".to_owned(),
        };
        let idle = mib(found.idle_kib);
        let _ = writeln!(text, "{name:<NAME$} {start:>26} {idle:>10} {streams:>24}");
    }
}

fn profiles(text: &mut String, figures: &Figures) {
    let _ = writeln!(text);
    for (name, profile) in &figures.profiles {
        for (what, found) in [
            ("user instructions", &profile.user_instructions_per_call),
            ("allocations", &profile.allocations_per_call),
            ("system calls", &profile.syscalls_per_call),
        ] {
            let _ = match (found.value, &found.reason) {
                (Some(value), _) => {
                    writeln!(text, "{name}: {what} per call: {value:.1} ({})", found.tool)
                }
                (None, reason) => writeln!(
                    text,
                    "{name}: {what} per call: not known, {}",
                    reason.as_deref().unwrap_or("?")
                ),
            };
        }
    }
}
