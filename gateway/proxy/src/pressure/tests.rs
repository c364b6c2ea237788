use std::time::Instant;

use tokio::runtime::{Builder, Handle};

use super::judge::{Controller, FIRST, Load, judge};
use super::*;

const IDLE: Load = Load {
    in_flight: 0,
    own: 0,
    holders: 1,
    many: false,
    severity: NONE,
    number: 0,
};

fn pressure(calls: usize, lag: Duration) -> Pressure {
    Pressure::new(PressureLimits { calls, lag })
}

fn tenant(id: &str) -> TenantId {
    id.parse().expect("a tenant")
}

/// Two tenants that are not counted as one.
fn two(pressure: &Pressure) -> (TenantId, TenantId) {
    let greedy = tenant("greedy");
    let modest = (0..)
        .map(|n| tenant(&format!("modest-{n}")))
        .find(|other| pressure.0.slot(other) != pressure.0.slot(&greedy));
    (greedy, modest.expect("a tenant in another slot"))
}

/// How many of 1,000 calls are turned away.
fn turned_away(load: Load, severity: u32) -> usize {
    let calls = (0..1_000).map(|number| Load {
        severity,
        number,
        ..load
    });
    let pressed = calls.filter(|load| judge(load, 10_000) == Some(Pressed::Lag));
    pressed.count()
}

#[test]
fn no_more_calls_are_in_flight_than_may_be() {
    let pressure = pressure(8, Duration::ZERO);
    let mut places = Vec::new();
    for id in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        places.push(pressure.enter(&tenant(id)).expect("a place"));
    }
    assert_eq!(pressure.enter(&tenant("i")).err(), Some(Pressed::Calls));
    assert_eq!(pressure.in_flight(), 8);
    places.pop();
    places.push(pressure.enter(&tenant("i")).expect("the place given back"));
    drop(places);
    assert_eq!(pressure.in_flight(), 0);
    assert_eq!(pressure.0.holders.load(Ordering::Relaxed), 0);
}

#[test]
fn a_tenant_alone_gets_all_but_an_eighth_and_who_comes_then_still_finds_room() {
    let pressure = pressure(800, Duration::ZERO);
    let mut greedy = Vec::new();
    let refused = loop {
        match pressure.enter(&tenant("greedy")) {
            Ok(place) => greedy.push(place),
            Err(pressed) => break pressed,
        }
    };
    assert_eq!((refused, greedy.len()), (Pressed::Share, 700));
    let modest: Vec<Place> = (0..100)
        .map(|_| pressure.enter(&tenant("modest")).expect("a place"))
        .collect();
    assert_eq!(modest.len(), 100);
    assert_eq!(
        pressure.enter(&tenant("modest")).err(),
        Some(Pressed::Calls)
    );
    // What the greedy one gives back goes to the other until both have the same.
    greedy.truncate(500);
    assert_eq!(
        pressure.enter(&tenant("greedy")).err(),
        Some(Pressed::Share)
    );
    assert!(pressure.enter(&tenant("modest")).is_ok());
}

#[test]
fn while_there_is_room_nobody_s_share_is_asked_for() {
    let load = Load {
        in_flight: 700,
        own: 700,
        holders: 100,
        ..IDLE
    };
    assert_eq!(judge(&load, 1_000), None);
    let fuller = Load {
        in_flight: 750,
        ..load
    };
    assert_eq!(judge(&fuller, 1_000), Some(Pressed::Share));
}

#[test]
fn the_more_it_lags_the_more_calls_are_turned_away_and_those_of_greedy_tenants_first() {
    let modest = Load {
        in_flight: 1_000,
        ..IDLE
    };
    let greedy = Load {
        many: true,
        ..modest
    };
    for (severity, of_greedy, of_modest) in [
        (NONE, 0, 0),
        (FIRST / 2, 500, 0),
        (FIRST, 1_000, 0),
        (FIRST * 3 / 2, 1_000, 500),
        (FIRST * 2, 1_000, 1_000),
    ] {
        let near = |calls: usize, wanted: usize| calls.abs_diff(wanted) <= 5;
        let seen = (turned_away(greedy, severity), turned_away(modest, severity));
        assert!(
            near(seen.0, of_greedy) && near(seen.1, of_modest),
            "{severity}: {seen:?}"
        );
    }
}

/// A queue in front of one thread, in time of work. Per time of it come `greedy` of tenants that
/// send much and `modest` of others. How long it is in the end, and what share of the modest was
/// turned away in the 20 s.
fn under(greedy: f64, modest: f64, bound: Duration) -> (Duration, f64) {
    let (mut queue, mut controller) = (Duration::ZERO, Controller::default());
    let mut lags = std::collections::VecDeque::from([Duration::ZERO]);
    let (looks, mut away) = (2_000, 0.0);
    for _ in 0..looks {
        // What is told of is as old as the lag.
        while lags.len() > 1 && lag::INTERVAL * u32::try_from(lags.len()).expect("few") > lags[0] {
            lags.pop_front();
        }
        let severity = f64::from(controller.next(lags[0], bound)) / f64::from(FIRST);
        let of_modest = (severity - 1.0).max(0.0);
        let admitted = greedy * (1.0 - severity.min(1.0)) + modest * (1.0 - of_modest);
        queue = (queue + lag::INTERVAL.mul_f64(admitted)).saturating_sub(lag::INTERVAL);
        lags.push_back(queue);
        away += of_modest;
    }
    (queue, away / f64::from(looks))
}

#[test]
fn under_lasting_load_the_lag_settles_near_half_of_the_bound() {
    let bound = Duration::from_millis(100);
    for load in [1.5, 3.0, 6.0] {
        let (lag, _) = under(load, 0.0, bound);
        assert!(lag > bound / 5 && lag < bound, "{load}: {lag:?}");
    }
    assert_eq!(under(0.9, 0.0, bound).0, Duration::ZERO);
}

#[test]
fn who_asks_for_little_is_hardly_turned_away_for_what_others_send() {
    let bound = Duration::from_millis(100);
    let (lag, away) = under(2.4, 0.6, bound);
    assert!(lag < bound && away < 0.02, "{lag:?} {away}");
    // Unless it is too much by itself.
    let (lag, away) = under(1.0, 2.0, bound);
    assert!(lag < bound && away > 0.4, "{lag:?} {away}");
}

#[test]
fn a_lag_that_few_calls_cannot_make_turns_none_away() {
    let few = Load {
        in_flight: 200,
        many: true,
        ..IDLE
    };
    assert_eq!(turned_away(few, 2 * FIRST), 0);
}

#[test]
fn without_a_bound_no_lag_turns_anybody_away() {
    let severity = Controller::default().next(Duration::from_secs(60), Duration::ZERO);
    assert_eq!(severity, NONE);
}

#[test]
fn a_tenant_is_above_the_mean_of_late_calls_until_they_fade() {
    let pressure = pressure(10_000, Duration::from_millis(100));
    let (greedy, modest) = two(&pressure);
    let mut places = Vec::new();
    let mut come = |tenant: &TenantId, calls: usize| {
        for _ in 0..calls {
            places.push(pressure.enter(tenant).expect("a place"));
        }
    };
    come(&greedy, 3_000);
    come(&modest, 30);
    pressure.fade();
    come(&greedy, 100);
    // For long enough that all that is above the mean is turned away, and nothing else.
    while pressure.0.severity.load(Ordering::Relaxed) < FIRST {
        pressure.lags(Duration::from_millis(100));
    }
    assert_eq!(pressure.enter(&greedy).err(), Some(Pressed::Lag));
    assert!(pressure.enter(&modest).is_ok());
    for _ in 0..40 {
        pressure.fade();
    }
    assert!(
        pressure.enter(&greedy).is_ok(),
        "it is like any other again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_lag_is_how_long_a_byte_waits_for_the_thread_that_is_held_up_longest() {
    let pressure = pressure(1_000, Duration::from_millis(100));
    let free = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread that is never held up");
    let threads = [free.handle().clone(), Handle::current()];
    let mut probe = lag::Probe::start(pressure.clone(), &threads).expect("pairs of sockets");
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let _places: Vec<Place> = (0..100)
        .map(|n| pressure.enter(&tenant(&format!("t{n}"))).expect("a place"))
        .collect();
    // The runtime's one thread is held up while the byte is under way.
    let busy = tokio::spawn(async move {
        let _ended = held.recv();
    });
    let look = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        while pressure.lag() < Duration::from_millis(30) {
            probe.look();
            std::thread::sleep(lag::INTERVAL);
            assert!(start.elapsed() < Duration::from_secs(20), "no lag is seen");
        }
        drop(hold);
        while pressure.lag() > Duration::from_millis(20) {
            probe.look();
            std::thread::sleep(lag::INTERVAL);
            assert!(start.elapsed() < Duration::from_secs(20), "it stays");
        }
    });
    look.await.expect("both are seen");
    busy.await.expect("an end");
    free.shutdown_background();
}
