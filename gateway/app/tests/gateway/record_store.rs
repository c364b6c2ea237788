//! Partitions on their way to a store: a directory, and a real S3 API with object lock.
//!
//! What is copied has been written as a gateway writes it; the store's own client looks at what is
//! there. A test whose Python packages are lacking fails and says so (`make sdk`).

mod gateways;
mod locks;
mod outages;
mod server;
mod sql;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_archive::courier::{Courier, CourierConfig, Tally};
use tollgate_archive::lines::Lines;
use tollgate_archive::shelf::{self, Days, LocalShelf, Shelf};
use tollgate_archive::store::{Store, StoreConfig};
use tollgate_core::audit::{Form, Partition};
use tollgate_core::policy::Retention;
use tollgate_core::time::Timestamp;
use tollgate_testkit::contract::{completed, record_id, subject};
use tollgate_testkit::parcels::Waiting;
use tollgate_testkit::partition::Partitions;
use tollgate_testkit::wait::until_true;

use server::{Object, S3};

/// Two days after the records began.
fn now() -> Timestamp {
    tollgate_testkit::contract::now().plus(Duration::from_secs(2 * 86_400))
}

/// A gateway's partitions, all of them waiting to be copied.
struct Scene {
    dir: tempfile::TempDir,
    outbox: Arc<Waiting>,
}

impl Scene {
    /// Records of two tenants, one of them an elevated action.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut written = Partitions::new(dir.path(), "r1");
        for n in 1..=20 {
            let tenant = if n % 4 == 0 { "globex" } else { "acme" };
            let mut subject = subject(record_id(n), tenant, "bot");
            subject.elevated = n == 7;
            written.call(&subject, &completed(i128::from(n) * 1_000_000_001));
            if n % 8 == 0 {
                written.seal(&partition("acme"));
                written.seal(&partition("globex"));
            }
        }
        let outbox = Arc::new(Waiting::default());
        let shelf = LocalShelf::new(dir.path());
        for tenant in ["acme", "globex"] {
            for (name, _) in shelf.list(&partition(tenant), Days::default()).unwrap() {
                outbox.add(dir.path(), &name, now());
            }
        }
        Self { dir, outbox }
    }

    /// Everything that is to be copied, by name.
    fn here(&self) -> BTreeMap<String, Vec<u8>> {
        let shelf = LocalShelf::new(self.dir.path());
        let all = ["acme", "globex"].map(|id| shelf.list(&partition(id), Days::default()).unwrap());
        let all = all.into_iter().flatten();
        all.map(|(name, _)| (name.to_string(), fs::read(shelf.path(&name)).unwrap()))
            .collect()
    }

    /// Starts to copy.
    fn courier(&self, to: &Target, form: Form) -> Running {
        let courier = Courier::new(CourierConfig {
            outbox: self.outbox.clone(),
            shelf: LocalShelf::new(self.dir.path()),
            store: Store::connect(&to.config, &to.variables).unwrap(),
            form,
            retention: Arc::clone(&to.retention),
            clock: now,
            drain: Duration::from_secs(5),
        });
        let (stop, stopped) = watch::channel(false);
        Running {
            tally: courier.tally(),
            _stop: stop,
            task: tokio::spawn(courier.run(stopped)),
        }
    }

    /// Copies all there is.
    async fn copy(&self, to: &Target, form: Form) -> Arc<Tally> {
        let running = self.courier(to, form);
        until_true("everything has arrived", || self.outbox.names().is_empty()).await;
        Arc::clone(&running.tally)
    }

    /// Fails unless the store has what lies here, and nothing else.
    #[track_caller]
    fn assert_same(&self, there: &[Object]) {
        let here = self.here();
        let names: Vec<&String> = there.iter().map(|object| &object.name).collect();
        assert_eq!(names, here.keys().collect::<Vec<_>>(), "each exactly once");
        for object in there {
            assert!(here[&object.name] == object.body, "{}", object.name);
        }
    }
}

/// A courier under way. It is cut when dropped.
struct Running {
    tally: Arc<Tally>,
    _stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where a scene is copied to.
struct Target {
    config: StoreConfig,
    variables: Vec<(String, String)>,
    retention: Arc<dyn Fn(&Partition) -> Retention + Send + Sync>,
}

fn partition(id: &str) -> Partition {
    id.parse().unwrap()
}

/// Every line of a partition, in no order.
fn lines(shelf: &dyn Shelf, tenant: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (name, _) in shelf.list(&partition(tenant), Days::default()).unwrap() {
        let mut lines = Lines::open(shelf, &name).unwrap();
        while let Some((_, line)) = lines.next_line().unwrap() {
            all.push(line.to_vec());
        }
    }
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_under_their_tenants_prefix_and_nowhere_else_as_they_lie_here() {
    let mut s3 = S3::start(false);
    let scene = Scene::new();
    let tally = scene.copy(&s3.target(), Form::JsonLines).await;
    let there = s3.objects();
    scene.assert_same(&there);
    assert_eq!(tally.shipped(), there.len() as u64);
    for object in &there {
        let partition = object.name.split('/').nth(1).unwrap();
        assert_eq!(object.lock, None);
        let refused = s3.read_as_acmes_auditor(&object.name);
        let expected = (partition != "acme").then(|| "AccessDenied".to_owned());
        assert_eq!(refused, expected, "{}", object.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_store_reads_like_what_lies_here_in_every_form() {
    for form in Form::ALL {
        let s3 = S3::start(false);
        let scene = Scene::new();
        scene.copy(&s3.target(), form).await;
        let target = s3.target();
        let dir = scene.dir.path().to_owned();
        let compared = tokio::task::spawn_blocking(move || {
            let there = shelf::open(&target.config, &target.variables).unwrap();
            assert_eq!(
                there.partitions().unwrap(),
                ["acme", "globex"].map(partition)
            );
            for tenant in ["acme", "globex"] {
                let here = lines(&LocalShelf::new(&dir), tenant);
                assert!(here.len() > 4 && here == lines(&*there, tenant), "{form:?}");
            }
        });
        compared.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_in_the_midst_of_copying_again_and_again_everything_is_there_exactly_once() {
    let mut s3 = S3::start(false);
    let scene = Scene::new();
    let target = s3.target();
    let all = scene.outbox.names().len();
    for share in 1..=4 {
        let running = scene.courier(&target, Form::JsonLines);
        until_true("some more has arrived", || {
            scene.outbox.names().len() <= all - all * share / 5
        })
        .await;
        // What has been put and not been noted is put once more by the next.
        drop(running);
    }
    let tally = scene.copy(&target, Form::JsonLines).await;
    assert_eq!(tally.conflicts(), 0);
    scene.assert_same(&s3.objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_under_a_name_stay_and_the_record_goes_beside_them() {
    let mut s3 = S3::start(false);
    let scene = Scene::new();
    let taken = scene.here().keys().next().unwrap().clone();
    s3.overwrite(&taken, "somebody else's");
    let tally = scene.copy(&s3.target(), Form::JsonLines).await;
    assert_eq!(tally.conflicts(), 1);
    let there = s3.objects();
    assert_eq!(there.len(), scene.here().len() + 1);
    let body = |name: &str| {
        there
            .iter()
            .find(|object| object.name == name)
            .unwrap()
            .body
            .clone()
    };
    assert_eq!(body(&taken), b"somebody else's");
    let beside = taken.replacen(".json", "~1.json", 1);
    assert_eq!(body(&beside), scene.here()[&taken]);
}
