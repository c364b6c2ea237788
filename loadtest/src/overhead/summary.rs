//! The last line of a run: one object, the headline first.

use serde_json::{Map, Value, json};

use super::figures::{EVERYTHING_ON, Figures, Percentiles, Profile, Sample};
use super::phase::Mode;
use super::target::DIRECT;

/// Everything that a run found, for programs.
pub(super) fn summary(figures: &Figures, setting: &Value, bar: f64) -> Value {
    let (plain, plain_rounds) = figures.ratio(EVERYTHING_ON, Mode::Plain);
    let (stream, stream_rounds) = figures.ratio(EVERYTHING_ON, Mode::Stream);
    let memory = figures.memory_kib.get(EVERYTHING_ON);
    let profile = figures.profiles.get(EVERYTHING_ON).cloned();
    let profile = profile.unwrap_or_else(Profile::not_asked_for);
    json!({
        "cpu_ratio_to_nginx": plain,
        "cpu_ratio_to_nginx_stream": stream,
        "bar": bar,
        "within_bar": plain.map(|ratio| ratio <= bar),
        "cpu_ratio_to_nginx_by_round": plain_rounds,
        "cpu_ratio_to_nginx_stream_by_round": stream_rounds,
        "everything_on": true,
        "store": "embedded",
        "user_instructions_per_call": profile.user_instructions_per_call,
        "allocations_per_call": profile.allocations_per_call,
        "syscalls_per_call": profile.syscalls_per_call,
        "gateway_rss_kib": memory.map(|(now, _)| now),
        "gateway_peak_rss_kib": memory.map(|(_, peak)| peak),
        "targets": costs(figures),
        "ratios_to_nginx": ratios(figures),
        "added": added(figures),
        "footprints": figures.footprints,
        "profiles": figures.profiles,
        "used_up": used_up(figures),
        "programs": programs(figures),
        "not_measured": figures.not_measured,
        "setting": setting,
    })
}

fn costs(figures: &Figures) -> Value {
    let mut all = Map::new();
    for mode in Mode::COST {
        for target in &figures.targets {
            let spread =
                |value: fn(&Sample) -> f64| figures.spread(&target.name, mode, |s| Some(value(s)));
            let found = json!({
                "cpu_us": spread(|s| s.cpu_us), "cpu_user_us": spread(|s| s.cpu_user_us),
                "cpu_system_us": spread(|s| s.cpu_system_us), "rps": spread(|s| s.rps),
                "p50_ms": spread(|s| s.p50_ms), "p99_ms": spread(|s| s.p99_ms),
                "store_cpu_us": figures.spread(&target.name, mode, |s| s.store_cpu_us),
                "mock_cpu_us": spread(|s| s.mock_cpu_us),
                "target_cores": spread(|s| s.target_cores), "mock_cores": spread(|s| s.mock_cores),
                "load_cores": spread(|s| s.load_cores),
            });
            all.insert(format!("{}_{}", target.name, mode.name()), found);
        }
    }
    Value::Object(all)
}

fn ratios(figures: &Figures) -> Value {
    let others = figures.targets.iter().filter(|t| t.name != DIRECT);
    let all = others.map(|target| {
        let of = |mode| figures.ratio(&target.name, mode);
        let ((plain, plain_rounds), (stream, stream_rounds)) = (of(Mode::Plain), of(Mode::Stream));
        let found = json!({
            "plain": plain, "plain_by_round": plain_rounds,
            "stream": stream, "stream_by_round": stream_rounds,
        });
        (target.name.clone(), found)
    });
    Value::Object(all.collect())
}

/// What each target adds to the direct way, in milliseconds.
fn added(figures: &Figures) -> Value {
    let others = figures.targets.iter().filter(|t| t.name != DIRECT);
    let all = others.map(|target| {
        let name = &target.name;
        let points = |mode, of: fn(&Sample) -> Option<Percentiles>| {
            json!({
                "p50_ms": figures.added(name, mode, of, |p| p.p50_ms),
                "p99_ms": figures.added(name, mode, of, |p| p.p99_ms),
                "p999_ms": figures.added(name, mode, of, |p| p.p999_ms),
            })
        };
        let found = json!({
            "half_of_saturation": points(Mode::Half, |s| Some(s.latency())),
            "half_of_saturation_rps": figures.spread(name, Mode::Half, |s| s.offered_rps),
            "one_connection": points(Mode::One, |s| Some(s.latency())),
            "first_event": points(Mode::Events, |s| s.first_event),
            "event_delay": points(Mode::Events, |s| s.event_delay),
        });
        (name.clone(), found)
    });
    Value::Object(all.collect())
}

fn used_up(figures: &Figures) -> Value {
    let mut all = Map::new();
    for mode in Mode::COST {
        for target in &figures.targets {
            let who = figures.used_up(target, mode);
            all.insert(format!("{}_{}", target.name, mode.name()), json!(who));
        }
    }
    Value::Object(all)
}

fn programs(figures: &Figures) -> Value {
    let all = figures.targets.iter().map(|t| (t.name.clone(), json!(t)));
    Value::Object(all.collect())
}
