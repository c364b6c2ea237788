use super::*;
use async_trait::async_trait;
use std::path::Path;
use tollgate_archive::records::{self, Scope};
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::audit::line_hash;
use tollgate_core::budget::{Account, Budget, BudgetStore, Hold, Reserved};
use tollgate_core::identity::new_private_key;
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::RateStore;
use tollgate_core::record::{Intent, Outcome, Record, RecordLog, Stranger, UsageSource};
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_testkit::contract::{
    self, caller, completed, daily, name, now, record_id, refused, subject,
};

mod crash;
mod killed;
mod layout;
mod model;
mod outbox;
mod sealing;

struct Fixture {
    stores: Embedded,
    dir: tempfile::TempDir,
}

/// The defaults, for a replica called `r1`.
pub(super) fn config(dir: &Path) -> EmbeddedConfig {
    let key = AuditKey::from_pem(&new_private_key(&[7; 32])).expect("a key");
    EmbeddedConfig::new(dir, name("r1"), Arc::new(key), now)
}

/// The segment of records of the day on which tests play that begins with record `first`.
pub(super) fn segment(partition: &str, first: u64) -> String {
    format!("audit/{partition}/date=2026-11-18/r1-{first:012}.jsonl")
}

fn open(dir: &Path) -> Embedded {
    Embedded::open(&config(dir), now()).expect("the directory can be opened")
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = open(dir.path());
    Fixture { stores, dir }
}

pub(super) fn read_back(dir: &Path, tenant: &str) -> Vec<Record> {
    let scope = Scope {
        partitions: vec![name(tenant)],
        ..Scope::default()
    };
    let mut records = Vec::new();
    let read = scope.records(&LocalShelf::new(dir), &mut |record| records.push(record));
    read.expect("readable");
    records
}

#[async_trait]
impl contract::Stores for Fixture {
    fn budgets(&self) -> Arc<dyn BudgetStore> {
        self.stores.budgets.clone()
    }
    fn rates(&self) -> Arc<dyn RateStore> {
        self.stores.rates.clone()
    }
    fn registry(&self) -> Arc<dyn TokenRegistry> {
        self.stores.registry.clone()
    }
    fn records(&self) -> Arc<dyn RecordLog> {
        self.stores.records.clone()
    }
    async fn flush(&self) {
        self.stores.flush().expect("the disk takes it");
    }
    async fn read_back(&self, tenant: &TenantId) -> Vec<Record> {
        read_back(self.dir.path(), tenant.as_str())
    }
}

macro_rules! contract {
    ($($case:ident)*) => {
        mod contract_suite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    tollgate_testkit::contract::$case(&super::fixture()).await;
                }
            )*
        }
    };
}

contract! {
    a_reservation_takes_from_all_budgets_or_from_none
    what_fits_the_cap_that_is_named_fits_all
    a_call_is_paid_in_the_window_it_began_in
    a_hold_is_settled_once_in_the_counters_it_was_taken_from
    zero_blocks_and_absent_does_not
    a_cap_holds_when_64_tasks_race_for_it
    tenants_pay_for_themselves
    rates_are_counted_per_tenant_and_scope
    a_call_takes_from_all_limits_or_from_none
    places_are_taken_and_freed_once_each
    tokens_are_corrected_by_their_real_count
    a_call_larger_than_its_bucket_goes_when_it_is_full
    a_limit_that_changes_forgets_nothing
    places_hold_when_64_tasks_race_for_them
    a_token_is_live_only_as_registered_and_until_revoked
    revocations_reach_what_they_name_and_nothing_else
    credentials_from_before_a_revocation_earn_no_token
    records_read_back_as_they_were_kept
}

/// A call from reservation to intent, as the gateway makes it.
async fn begin(stores: &Embedded, n: u32, tenant: &str, amount: i128) -> Hold {
    let budgets = [daily(tenant, None)];
    begin_with(
        stores,
        subject(record_id(n), tenant, "bot"),
        &budgets,
        amount,
    )
    .await
}

async fn begin_with(
    stores: &Embedded,
    subject: tollgate_core::record::Subject,
    budgets: &[Budget],
    amount: i128,
) -> Hold {
    let amount = PicoUsd::new(amount);
    let account = Account::from(budgets);
    let reserved = stores.budgets.reserve(subject.id, &account, amount, now());
    let Reserved::Held(hold) = reserved.await.expect("in memory") else {
        panic!("no limit was set");
    };
    let intent = Intent {
        subject: &subject,
        hold: &hold,
    };
    stores
        .records
        .intend(intent)
        .await
        .expect("the disk takes it");
    hold
}

fn end(stores: &Embedded, hold: &Hold, cost: i128) {
    stores.budgets.settle(hold, PicoUsd::new(cost));
    stores.records.conclude(hold.id, &completed(cost));
}

async fn settled(stores: &Embedded, tenant: &str) -> i128 {
    let balance = stores.budgets.balance(&daily(tenant, None).key).await;
    balance.expect("in memory").settled.as_pico()
}

/// Checks numbers and hashes of a partition's chain; returns how many links it has.
fn check_chain(dir: &Path, tenant: &str) -> usize {
    fn lines(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("checkpoints") {
                continue;
            }
            if path.is_dir() {
                lines(&path, found);
            } else {
                let text = std::fs::read_to_string(path).expect("readable");
                assert!(text.ends_with('\n'), "no torn line is left");
                found.extend(text.lines().map(str::to_owned));
            }
        }
    }
    let mut found = Vec::new();
    lines(&dir.join("audit").join(tenant), &mut found);
    let mut links: Vec<(u64, String, String)> = found
        .iter()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("a record is JSON");
            assert_eq!(value["tollgate.schema"], tollgate_core::record::SCHEMA);
            let seq = value["tollgate.seq"].as_u64().expect("a number");
            let prev = value["tollgate.prev_hash"].as_str().expect("a hash");
            (seq, prev.to_owned(), line_hash(line.as_bytes()))
        })
        .collect();
    links.sort();
    let mut expected = "0".repeat(64);
    for (place, (seq, prev, hash)) in links.iter().enumerate() {
        assert_eq!(*seq, place as u64 + 1, "{tenant}: no gap, no duplicate");
        assert_eq!(*prev, expected, "{tenant}: link {seq}");
        expected.clone_from(hash);
    }
    links.len()
}

#[tokio::test]
async fn money_records_and_tokens_survive_an_orderly_restart() {
    let Fixture { stores, dir } = fixture();
    let registered = caller("acme", "bot", "task", "tok");
    let ended = caller("acme", "bot", "over", "tok-2");
    for caller in [&registered, &ended] {
        assert_eq!(
            stores
                .registry
                .register(caller, None)
                .await
                .expect("registered"),
            Registered::Live
        );
    }
    let task = Revocation::Task {
        tenant: name("acme"),
        task: name("over"),
    };
    assert_eq!(stores.registry.revoke(&task, now()).await.expect("up"), 1);
    let hold = begin(&stores, 1, "acme", 100).await;
    end(&stores, &hold, 42);
    stores.close().expect("the disk takes it");

    let stores = open(dir.path());
    assert_eq!(stores.interrupted(), 0);
    assert_eq!(settled(&stores, "acme").await, 42);
    let live = |caller| stores.registry.liveness(caller).expect("in memory");
    assert_eq!(live(&registered), Liveness::Live);
    assert_eq!(live(&ended), Liveness::Revoked);
    let late = caller("acme", "bot", "over", "tok-3");
    assert_eq!(
        stores.registry.register(&late, None).await.expect("up"),
        Registered::TaskComplete
    );
    assert_eq!(read_back(dir.path(), "acme").len(), 1);
    assert_eq!(check_chain(dir.path(), "acme"), 1);
    let segments = std::fs::read_dir(dir.path().join("journal")).expect("listable");
    assert_eq!(segments.count(), 1, "shipped segments are deleted");
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let Fixture { stores, dir } = fixture();
    let second = Embedded::open(&config(dir.path()), now());
    assert!(matches!(second, Err(OpenError::InUse(_))));
    drop(stores);
    assert!(Embedded::open(&config(dir.path()), now()).is_ok());
}

#[tokio::test]
async fn a_call_without_outcome_is_settled_at_its_reservation_after_a_crash() {
    let Fixture { stores, dir } = fixture();
    begin(&stores, 1, "acme", 100).await;
    drop(stores);

    let stores = open(dir.path());
    assert_eq!(stores.interrupted(), 1);
    assert_eq!(settled(&stores, "acme").await, 100);
    let records = read_back(dir.path(), "acme");
    let [record] = &records[..] else {
        panic!("one record, not {records:?}");
    };
    assert_eq!(record.ending.outcome, Outcome::Interrupted);
    assert_eq!(record.ending.usage_source, UsageSource::Interrupted);
    assert_eq!(record.ending.cost, PicoUsd::new(100));
}

#[tokio::test]
async fn amounts_beyond_64_bits_are_kept() {
    let Fixture { stores, dir } = fixture();
    let hold = begin(&stores, 1, "acme", i128::MAX / 2).await;
    end(&stores, &hold, i128::MAX / 4);
    begin(&stores, 2, "acme", 1 << 90).await;
    stores.flush().expect("the disk takes it");
    drop(stores);
    let stores = open(dir.path());
    assert_eq!(settled(&stores, "acme").await, i128::MAX / 4 + (1 << 90));
}

#[tokio::test]
async fn an_intent_is_durable_in_always_mode_and_many_share_a_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig {
        fsync: Fsync::Always,
        ..config(dir.path())
    };
    let stores = Arc::new(Embedded::open(&config, now()).expect("opens"));
    let calls = (0..200).map(|n| {
        let stores = stores.clone();
        tokio::spawn(async move { begin(&stores, n, "acme", 1).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let hold = call.await.expect("no panic");
        end(&stores, &hold, 1);
    }
    let syncs = stores.stats().journal_syncs.all;
    assert!(syncs < 150, "{syncs} syncs for 200 intents");
    stores.flush().expect("the disk takes it");
    assert_eq!(check_chain(dir.path(), "acme"), 200);
}

#[tokio::test]
async fn every_record_can_have_a_file_of_its_own_and_the_layout_can_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let with = |layout| EmbeddedConfig {
        layout,
        ..config(dir.path())
    };
    let layouts = [Layout::Objects, Layout::Segments, Layout::Objects];
    for (n, layout) in layouts.into_iter().enumerate() {
        let stores = Embedded::open(&with(layout), now()).expect("opens");
        let hold = begin(&stores, u32::try_from(n).expect("small"), "acme", 1).await;
        end(&stores, &hold, 1);
        // Half of the time the record is still to be made when the layout changes.
        if n == 0 {
            stores.close().expect("the disk takes it");
        }
    }
    drop(open(dir.path()));
    assert_eq!(check_chain(dir.path(), "acme"), 3);
    let day = dir.path().join("audit/acme/2026/11/18");
    assert!(
        day.join("bot")
            .join(format!("{}.json", record_id(0)))
            .exists()
    );
    assert!(dir.path().join(segment("acme", 2)).exists());
    assert_eq!(read_back(dir.path(), "acme").len(), 3);
}

#[tokio::test]
async fn elevated_records_have_files_of_their_own() {
    let Fixture { stores, dir } = fixture();
    for (n, agent) in [(1, "bot"), (2, "date")] {
        let mut subject = subject(record_id(n), "acme", agent);
        subject.elevated = true;
        let hold = begin_with(&stores, subject, &[], 0).await;
        end(&stores, &hold, 0);
    }
    let hold = begin(&stores, 3, "acme", 1).await;
    end(&stores, &hold, 1);
    stores.flush().expect("the disk takes it");
    for path in [
        format!("audit/acme/2026/11/18/bot/{}.json", record_id(1)),
        format!("audit/acme/2026/11/18/date/{}.json", record_id(2)),
        segment("acme", 3),
    ] {
        assert!(dir.path().join(&path).is_file(), "{path}");
    }
    assert_eq!(check_chain(dir.path(), "acme"), 3);
    assert_eq!(read_back(dir.path(), "acme").len(), 3);
}

#[tokio::test]
async fn strangers_go_to_the_gateways_partition_a_hundred_a_second() {
    let Fixture { stores, dir } = fixture();
    for n in 0..250 {
        stores.records.turn_away(&Stranger {
            id: record_id(n),
            at: now().plus(Duration::from_millis(u64::from(n) * 8)),
            client: "127.0.0.1".into(),
            code: "invalid_api_key".into(),
            reason: "token_missing".into(),
            status: 401,
        });
    }
    stores.flush().expect("the disk takes it");
    // The first 125 fall into one second, the other 125 into the next.
    assert_eq!(check_chain(dir.path(), "_gateway"), 200);
    assert_eq!(stores.stats().strangers_unrecorded, 50);
    let tenants = records::tenants(&LocalShelf::new(dir.path()));
    assert_eq!(tenants.expect("listable"), []);
}

#[tokio::test]
async fn records_appear_without_a_flush() {
    let Fixture { stores, dir } = fixture();
    let hold = begin(&stores, 1, "acme", 1).await;
    end(&stores, &hold, 1);
    let start = std::time::Instant::now();
    while read_back(dir.path(), "acme").is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "never appears");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn expired_tokens_are_forgotten_an_hour_after_their_end() {
    let Fixture { stores, dir } = fixture();
    let old = caller("acme", "bot", "task", "old");
    assert_eq!(
        stores.registry.register(&old, None).await.expect("up"),
        Registered::Live
    );
    let later = |seconds| tollgate_core::identity::Caller {
        issued_at: now().plus(Duration::from_secs(seconds)),
        expires_at: now().plus(Duration::from_secs(seconds + 300)),
        token: name(&format!("tok-{seconds}")),
        ..old.clone()
    };
    assert_eq!(
        stores
            .registry
            .register(&later(3800), None)
            .await
            .expect("up"),
        Registered::Live
    );
    assert_eq!(stores.registry.len(), 2);
    assert_eq!(
        stores
            .registry
            .register(&later(3950), None)
            .await
            .expect("up"),
        Registered::Live
    );
    assert_eq!(
        stores
            .registry
            .register(&later(3951), None)
            .await
            .expect("up"),
        Registered::Live
    );
    assert_eq!(
        stores.registry.liveness(&old).expect("up"),
        Liveness::Unknown
    );
    drop(stores);
    assert_eq!(open(dir.path()).registry.len(), 3);
}

#[tokio::test]
async fn a_token_by_which_a_stream_still_lives_can_be_revoked_hours_after_its_end() {
    let Fixture { stores, dir: _dir } = fixture();
    let registry = &stores.registry;
    let streaming = caller("acme", "bot", "task", "old");
    registry.register(&streaming, None).await.expect("up");
    let nothing = Revocation::Token {
        tenant: streaming.tenant.clone(),
        token: name("none"),
    };
    for minutes in (0..600).step_by(2) {
        let other = tollgate_core::identity::Caller {
            issued_at: now().plus(Duration::from_secs(minutes * 60)),
            expires_at: now().plus(Duration::from_secs(minutes * 60 + 300)),
            ..caller("acme", "other", "other", &format!("tok-{minutes}"))
        };
        registry.register(&other, None).await.expect("up");
        // Its answer comes after the look for expired tokens that the change before has led to.
        let done = registry.revoke(&nothing, other.issued_at).await;
        assert_eq!(done.expect("up"), 0);
        let liveness = registry.liveness(&streaming).expect("up");
        assert_eq!(liveness, Liveness::Live, "after {minutes} min");
    }
    let what = Revocation::Agent {
        tenant: streaming.tenant.clone(),
        agent: streaming.agent.clone(),
    };
    let late = now().plus(Duration::from_secs(36_000));
    registry.revoke(&what, late).await.expect("up");
    let liveness = registry.liveness(&streaming).expect("up");
    assert_eq!(liveness, Liveness::Revoked);
}
