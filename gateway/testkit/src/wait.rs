//! Waiting for something to become true.
//!
//! Polls, with a deadline that is generous because it is only ever reached by a failure. Knows
//! nothing of what is waited for. At worst a failing test takes the whole deadline.

use std::time::{Duration, Instant};

/// How long anything that ought to happen at once may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// Returns what `look` finds as soon as it finds something; panics with `what` at the deadline.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "after {PATIENCE:?} still not: {what}"
        );
        tokio::time::sleep(GLANCE).await;
    }
}

/// As [`until`], for a condition.
pub async fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(())).await;
}

/// The result of `future`, or a panic with `what` at the deadline.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("after {PATIENCE:?} still not: {what}"),
    }
}

/// As [`until_true`], for a condition that takes calls to find out.
pub async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !look().await {
        assert!(
            started.elapsed() < PATIENCE,
            "after {PATIENCE:?} still not: {what}"
        );
        tokio::time::sleep(GLANCE).await;
    }
}
