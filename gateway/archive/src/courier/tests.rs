use std::fs;
use std::path::Path;

use tollgate_core::policy::ObjectLock;
use tollgate_testkit::parcels::Waiting;
use tollgate_testkit::wait::until_true;

use super::*;
use crate::forms;
use crate::lines::Lines;
use crate::shelf::{Days, Shelf};
use crate::store::{Place, StoreConfig};

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("a time")
}

/// A directory of segments, what of them waits, and where it goes.
struct Scene {
    dir: tempfile::TempDir,
    outbox: Arc<Waiting>,
}

impl Scene {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            outbox: Arc::default(),
        }
    }

    fn here(&self) -> LocalShelf {
        LocalShelf::new(self.dir.path().join("data"))
    }

    fn there(&self) -> LocalShelf {
        LocalShelf::new(self.target())
    }

    fn target(&self) -> std::path::PathBuf {
        self.dir.path().join("target")
    }

    /// Lets something wait that says `text`.
    fn add(&self, path: &str, text: &str) -> Name {
        let name: Name = path.parse().expect("a name");
        write(&self.here().path(&name), text.as_bytes());
        let data = self.dir.path().join("data");
        self.outbox.add(&data, &name, now());
        name
    }

    fn segments(&self, count: u64) {
        for n in 1..=count {
            let path = format!("audit/acme/date=2026-11-18/r1-{n:012}.jsonl");
            self.add(&path, &format!("{{\"n\":{n}}}\n"));
        }
    }

    /// Starts a courier; what is returned counts and stops it.
    fn start(&self, form: Form) -> (Arc<Tally>, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let place = Place::Directory(self.target());
        let courier = Courier::new(CourierConfig {
            outbox: self.outbox.clone(),
            shelf: self.here(),
            store: Store::connect(&StoreConfig::new(place), &[]).expect("a store"),
            form,
            retention: Arc::new(|_| Retention::default()),
            clock: now,
            drain: Duration::from_secs(5),
        });
        let (stop, stopped) = watch::channel(false);
        (courier.tally(), stop, tokio::spawn(courier.run(stopped)))
    }

    async fn all_gone(&self) {
        until_true("nothing waits", || self.outbox.names().is_empty()).await;
    }

    fn lines(&self, name: &Name) -> String {
        let mut lines = Lines::open(&self.there(), name).expect("it is there");
        let mut text = String::new();
        while let Some((_, line)) = lines.next_line().expect("readable") {
            text.push_str(str::from_utf8(line).expect("text"));
            text.push('\n');
        }
        text
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
    fs::write(path, bytes).expect("writable");
}

#[tokio::test]
async fn what_waits_arrives_in_the_wanted_form_and_waits_no_more() {
    for form in Form::ALL {
        let scene = Scene::new();
        scene.segments(600);
        let object = "audit/acme/2026/11/18/bot/0193a1b2c3d47e5f8a9b0c1d2e3f4a5b.json";
        let single = scene.add(object, "{\"elevated\":true}\n");
        let checkpoint = scene.add("audit/acme/checkpoints/r1-000000000600.json", "{}\n");
        let (tally, stop, running) = scene.start(form);
        scene.all_gone().await;
        stop.send_replace(true);
        running.await.expect("it ends");
        assert_eq!(
            (tally.shipped(), tally.failures(), tally.conflicts()),
            (602, 0, 0)
        );
        assert_eq!(scene.lines(&single), "{\"elevated\":true}\n");
        assert_eq!(scene.lines(&checkpoint), "{}\n");
        let acme = "acme".parse().expect("a partition");
        let there = scene
            .there()
            .list(&acme, Days::default())
            .expect("readable");
        assert_eq!(there.len(), 602);
        for (name, bytes) in there {
            assert!(bytes > 0);
            if let tollgate_core::audit::Item::Segment {
                first, form: found, ..
            } = name.item
            {
                assert_eq!(found, form);
                assert_eq!(scene.lines(&name), format!("{{\"n\":{first}}}\n"));
            }
        }
    }
}

#[tokio::test]
async fn a_taken_name_has_arrived_if_it_says_the_same_and_is_never_written_over() {
    let scene = Scene::new();
    scene.segments(3);
    let path = |n: u64, copy: &str| {
        let path = format!("audit/acme/date=2026-11-18/r1-{n:012}{copy}.jsonl.zst");
        path.parse::<Name>().expect("a name")
    };
    let at = |name: &Name| scene.there().path(name);
    // The same lines in other bytes, as another version of the library may write them.
    let same = zstd::encode_all(&b"{\"n\":1}\n"[..], 19).expect("encodes");
    let ours = forms::encode(Form::Zstd, &b"{\"n\":1}\n"[..]).expect("encodes");
    assert_ne!(same, ours);
    write(&at(&path(1, "")), &same);
    let other = forms::encode(Form::Zstd, &b"{\"n\":0}\n"[..]).expect("encodes");
    write(&at(&path(2, "")), &other);
    write(&at(&path(3, "")), b"what is this");
    let (tally, stop, running) = scene.start(Form::Zstd);
    scene.all_gone().await;
    stop.send_replace(true);
    running.await.expect("it ends");
    assert_eq!((tally.shipped(), tally.conflicts()), (3, 2));
    assert_eq!(fs::read(at(&path(1, ""))).expect("there"), same);
    assert!(!at(&path(1, "~1")).exists());
    assert_eq!(fs::read(at(&path(2, ""))).expect("there"), other);
    assert_eq!(scene.lines(&path(2, "~1")), "{\"n\":2}\n");
    assert_eq!(fs::read(at(&path(3, ""))).expect("there"), b"what is this");
    assert_eq!(scene.lines(&path(3, "~1")), "{\"n\":3}\n");
}

#[tokio::test]
async fn a_store_that_is_down_loses_nothing_and_gets_all_of_it_later() {
    let scene = Scene::new();
    scene.segments(40);
    // A file where the directory should be takes nothing.
    fs::write(scene.target(), "").expect("writable");
    let (tally, stop, running) = scene.start(Form::JsonLines);
    until_true("it was tried", || tally.failures() >= 3).await;
    assert_eq!(scene.outbox.names().len(), 40);
    assert!(tally.failures() < 20, "{} attempts", tally.failures());
    fs::remove_file(scene.target()).expect("writable");
    scene.all_gone().await;
    assert_eq!(tally.shipped(), 40);
    stop.send_replace(true);
    running.await.expect("it ends");
}

#[tokio::test]
async fn it_ends_with_a_store_that_is_down_and_leaves_what_waits() {
    let scene = Scene::new();
    scene.segments(4);
    fs::write(scene.target(), "").expect("writable");
    let (tally, stop, running) = scene.start(Form::JsonLines);
    until_true("it was tried", || tally.failures() >= 1).await;
    stop.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(4), running).await;
    ended.expect("in time").expect("it ends");
    assert_eq!(scene.outbox.names().len(), 4);
}

#[tokio::test]
async fn a_checkpoint_arrives_behind_what_it_vouches_for() {
    let scene = Scene::new();
    let late = scene.add("audit/acme/date=2026-11-18/r1-000000000001.jsonl", "{}\n");
    let vouching = scene.add("audit/acme/checkpoints/r1-000000000001.json", "{}\n");
    let theirs = scene.add("audit/globex/date=2026-11-18/r1-000000000001.jsonl", "{}\n");
    let others = scene.add("audit/globex/checkpoints/r1-000000000001.json", "{}\n");
    fs::remove_file(scene.here().path(&late)).expect("removable");
    let (tally, stop, running) = scene.start(Form::JsonLines);
    until_true("another partition's arrives", || {
        scene.outbox.names() == [late.to_string(), vouching.to_string()]
    })
    .await;
    until_true("it is tried again", || tally.failures() > 1).await;
    assert!(!scene.there().path(&vouching).exists());
    assert!(
        [&theirs, &others]
            .iter()
            .all(|name| scene.there().path(name).exists())
    );
    write(&scene.here().path(&late), b"{}\n");
    scene.all_gone().await;
    stop.send_replace(true);
    running.await.expect("it ends");
    assert!(scene.there().path(&vouching).exists());
}

#[tokio::test]
async fn a_parcel_that_cannot_be_read_holds_up_nobody() {
    let scene = Scene::new();
    let gone = scene.add("audit/acme/date=2026-11-17/r1-000000000001.jsonl", "{}\n");
    fs::remove_file(scene.here().path(&gone)).expect("writable");
    let longer = scene.add("audit/acme/date=2026-11-17/r1-000000000002.jsonl", "{}\n");
    write(&scene.here().path(&longer), b"{}\n{}\n");
    let torn = scene.add("audit/acme/date=2026-11-17/r1-000000000003.jsonl", "{}");
    scene.segments(300);
    let (tally, stop, running) = scene.start(Form::Parquet);
    let left = [gone, longer, torn].map(|name| name.to_string());
    until_true("only they are left", || scene.outbox.names() == left).await;
    assert_eq!(tally.shipped(), 300);
    assert!(tally.failures() >= 3);
    stop.send_replace(true);
    running.await.expect("it ends");
}

#[test]
fn what_is_locked_is_locked_until_its_days_after_the_day_of_its_records_are_over() {
    let scene = Scene::new();
    let place = Place::Directory(scene.target());
    let store = Store::connect(&StoreConfig::new(place), &[]).expect("a store");
    let retention = |partition: &Partition| Retention {
        days: match partition.as_str() {
            "acme" => Some(10),
            "globex" => Some(1),
            _ => None,
        },
        lock: Some(ObjectLock::Compliance),
    };
    let delivery = Delivery::new(
        scene.here(),
        store,
        Form::JsonLines,
        Arc::new(retention),
        now,
    );
    for (path, until) in [
        (
            "audit/acme/date=2026-11-18/r1-000000000001.jsonl",
            Some("2026-11-29"),
        ),
        (
            "audit/acme/checkpoints/r1-000000000001.json",
            Some("2026-12-01"),
        ),
        (
            "audit/globex/date=2026-11-19/r1-000000000001.jsonl",
            Some("2026-11-21"),
        ),
        // Its time was over before it got away.
        ("audit/globex/date=2026-11-18/r1-000000000001.jsonl", None),
        (
            "audit/_operator/date=2026-11-18/r1-000000000001.jsonl",
            None,
        ),
    ] {
        let lock = delivery.lock(&path.parse().expect("a name"));
        assert_eq!(
            lock.map(|lock| lock.until.to_string()).as_deref(),
            until,
            "{path}"
        );
        assert!(lock.is_none_or(|lock| lock.mode == ObjectLock::Compliance));
    }
}
