//! What S3 is told to hold, it holds, and for whom as long as policy says.

use std::time::Duration;

use tollgate_core::audit::{Form, Partition};
use tollgate_core::policy::{ObjectLock, Retention};
use tollgate_testkit::wait::until_true;

use super::{S3, Scene, Target, now};

fn held(mut target: Target) -> Target {
    target.retention = std::sync::Arc::new(|partition: &Partition| match partition.as_str() {
        "acme" => Retention {
            days: Some(400),
            lock: Some(ObjectLock::Compliance),
        },
        _ => Retention {
            days: Some(30),
            lock: Some(ObjectLock::Governance),
        },
    });
    target
}

/// Midnight UTC after the record's day and so many days on; checkpoints count from today.
fn until(name: &str, days: u64) -> String {
    let name: tollgate_core::audit::Name = name.parse().unwrap();
    let day = name.day().unwrap_or_else(|| now().date());
    let until = day
        .checked_add(Duration::from_secs((days + 1) * 86_400))
        .unwrap();
    format!("{until}T00:00:00Z")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenants_records_are_held_as_its_policy_says_against_overwriting_and_deletion() {
    let mut s3 = S3::start(true);
    let scene = Scene::new();
    scene.copy(&held(s3.target()), Form::JsonLines).await;
    let there = s3.objects();
    scene.assert_same(&there);
    for object in &there {
        let (mode, days) = match object.name.split('/').nth(1).unwrap() {
            "acme" => ("COMPLIANCE", 400),
            _ => ("GOVERNANCE", 30),
        };
        let lock = (mode.to_owned(), until(&object.name, days));
        assert_eq!(object.lock, Some(lock), "{}", object.name);
        let denied = Some("AccessDenied".to_owned());
        assert_eq!(s3.delete(object), denied, "{}", object.name);
        s3.overwrite(&object.name, "forged");
        assert_eq!(s3.delete(object), denied, "{}", object.name);
    }
    let after = s3.objects();
    assert_eq!(
        after.len(),
        there.len() * 2,
        "a version beside each, none gone"
    );
    for object in &there {
        assert!(after.contains(object), "{} is as it was", object.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_knows_no_lock_gets_no_unlocked_copy_of_what_is_to_be_locked() {
    let mut s3 = S3::start(false);
    let scene = Scene::new();
    let mut target = s3.target();
    let of_acme = held(s3.target()).retention;
    target.retention = std::sync::Arc::new(move |partition: &Partition| match partition.as_str() {
        "acme" => of_acme(partition),
        _ => Retention::default(),
    });
    let running = scene.courier(&target, Form::Zstd);
    until_true("globex's records have arrived", || {
        let waiting = scene.outbox.names();
        let of_globex = waiting.iter().any(|name| name.starts_with("audit/globex/"));
        !of_globex && running.tally.failures() > 0
    })
    .await;
    let there = s3.objects();
    assert!(!there.is_empty());
    assert!(
        there
            .iter()
            .all(|object| object.name.starts_with("audit/globex/"))
    );
}
