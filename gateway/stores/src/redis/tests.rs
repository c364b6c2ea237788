use std::path::Path;
use std::sync::LazyLock;

use async_trait::async_trait;
use tollgate_core::audit::AuditKey;
use tollgate_core::identity::new_private_key;
use tollgate_core::ids::TenantId;
use tollgate_core::record::{Record, RecordLog};
use tollgate_core::registry::TokenRegistry;
use tollgate_testkit::contract::{self, name, now};
use tollgate_testkit::redis::Server;
use tollgate_testkit::wait::until_true;

use super::*;
use crate::embedded::EmbeddedConfig;

mod deferred;
mod fleet;
mod tokens;
mod topology;

/// One server for all that only count: each case has tenants of its own, and each fleet a prefix.
pub(super) static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));

/// A replica and what is its own.
pub(super) struct Replica {
    pub(super) fleet: Option<Fleet>,
    pub(super) embedded: Option<Embedded>,
    pub(super) dir: tempfile::TempDir,
}

pub(super) fn redis(port: u16, prefix: &str) -> RedisConfig {
    RedisConfig {
        topology: Topology::Single,
        nodes: vec![("127.0.0.1".to_owned(), port)],
        database: 0,
        username: None,
        password: None,
        tls: false,
        ca_file: None,
        replicas: 0,
        // Generous: other tests run beside this one.
        max_wait: Duration::from_secs(10),
        prefix: prefix.to_owned(),
    }
}

fn embedded(dir: &Path) -> Embedded {
    let key = AuditKey::from_pem(&new_private_key(&[7; 32])).expect("a key");
    let config = EmbeddedConfig::new(dir, name("r1"), Arc::new(key), now);
    Embedded::open(&config, now()).expect("the directory can be opened")
}

impl Replica {
    /// A replica of the fleet whose keys begin with the prefix in `redis`.
    pub(super) async fn join(name: &str, redis: RedisConfig, leases: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::join_at(name, redis, leases, dir).await
    }

    pub(super) async fn join_at(
        name: &str,
        redis: RedisConfig,
        leases: bool,
        dir: tempfile::TempDir,
    ) -> Self {
        let replica = Self::start_at(name, redis, leases, dir);
        replica.opened().await;
        replica
    }

    pub(super) fn start_at(
        name: &str,
        redis: RedisConfig,
        leases: bool,
        dir: tempfile::TempDir,
    ) -> Self {
        let embedded = embedded(dir.path());
        let config = FleetConfig {
            redis,
            replica: contract::name(name),
            leases,
            lease: Duration::from_secs(2),
            data_dir: dir.path().to_owned(),
            clock: now,
        };
        let fleet = Fleet::join(&config, &embedded).expect("it joins");
        Self {
            fleet: Some(fleet),
            embedded: Some(embedded),
            dir,
        }
    }

    pub(super) async fn opened(&self) {
        until_true("the fleet is open", || self.fleet().state().open).await;
    }

    pub(super) fn fleet(&self) -> &Fleet {
        self.fleet.as_ref().expect("it is there")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(Fleet { runtime, .. }) = self.fleet.take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl contract::Stores for Replica {
    fn budgets(&self) -> Arc<dyn BudgetStore> {
        self.fleet().budgets()
    }
    fn rates(&self) -> Arc<dyn RateStore> {
        self.fleet().rates()
    }
    fn registry(&self) -> Arc<dyn TokenRegistry> {
        self.fleet().registry.clone()
    }
    fn records(&self) -> Arc<dyn RecordLog> {
        self.embedded.as_ref().expect("it is there").records.clone()
    }
    async fn flush(&self) {
        self.fleet().flush().await;
    }
    async fn read_back(&self, _tenant: &TenantId) -> Vec<Record> {
        Vec::new()
    }
}

macro_rules! contract {
    ($($case:ident)*) => {
        mod contract_suite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    let prefix = concat!(stringify!($case), "-exact");
                    let redis = super::redis(super::SERVER.port(), prefix);
                    let replica = super::Replica::join("r1", redis, false).await;
                    tollgate_testkit::contract::$case(&replica).await;
                }
            )*
        }
        mod contract_suite_with_leases {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    let prefix = concat!(stringify!($case), "-leased");
                    let redis = super::redis(super::SERVER.port(), prefix);
                    let replica = super::Replica::join("r1", redis, true).await;
                    tollgate_testkit::contract::$case(&replica).await;
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
}
