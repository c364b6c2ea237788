//! A store that is down: nothing is lost, and it all arrives.

use tollgate_core::audit::Form;
use tollgate_testkit::wait::until_true;

use super::{S3, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_gets_everything_once_it_is_back() {
    let mut s3 = S3::start(false);
    s3.down();
    let scene = Scene::new();
    let all = scene.outbox.names().len();
    let running = scene.courier(&s3.target(), Form::JsonLines);
    until_true("it has been tried", || running.tally.failures() >= 2).await;
    assert_eq!(
        (scene.outbox.names().len(), running.tally.shipped()),
        (all, 0)
    );
    s3.up();
    until_true("everything has arrived", || scene.outbox.names().is_empty()).await;
    assert_eq!(running.tally.conflicts(), 0);
    scene.assert_same(&s3.objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_secret_that_is_wrong_nothing_arrives_and_nothing_is_lost() {
    let mut s3 = S3::start(false);
    let scene = Scene::new();
    let all = scene.outbox.names().len();
    let mut target = s3.target();
    target.variables[1].1 = "sk-canary-not-the-secret".to_owned();
    let running = scene.courier(&target, Form::JsonLines);
    until_true("it has been tried", || running.tally.failures() >= 2).await;
    assert_eq!(scene.outbox.names().len(), all);
    assert_eq!(s3.objects(), []);
}
