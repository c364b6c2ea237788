//! Who has a place among the tenants that are shown, and that no sum is wrong for it.

use prometheus::proto::MetricFamily;
use tollgate_core::record::{Outcome, UsageSource};
use tollgate_core::time::Timestamp;

use super::*;

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn board(places: usize, tenants: &[&str]) -> (Tenants, Registry) {
    let registry = Registry::new();
    let board = Tenants::register(&registry, places).unwrap();
    let ids: Vec<TenantId> = tenants.iter().map(|name| id(name)).collect();
    board.know(&ids);
    (board, registry)
}

fn spend(board: &Tenants, tenant: &str, nano: u64) {
    let mut ending = Ending::new(Timestamp::from_micros(0), Outcome::Completed);
    ending.usage_source = UsageSource::Exact;
    board.of(&id(tenant)).ended(&ending, nano);
}

/// The spend that is shown, by tenant.
fn shown(registry: &Registry) -> Vec<(String, u64)> {
    let families = registry.gather();
    let is_spend = |family: &&MetricFamily| family.name() == "tollgate_tenant_spend_nano_usd_total";
    let family = families.iter().find(is_spend).unwrap();
    let series = family.get_metric().iter().map(|metric| {
        let tenant = metric.get_label()[0].value().to_owned();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let value = metric.get_counter().get_value() as u64;
        (tenant, value)
    });
    series.collect()
}

fn own(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    let owned = list
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    owned.collect()
}

#[test]
fn while_there_are_places_for_all_everybody_has_one() {
    let (board, registry) = board(3, &["other", "acme", "globex"]);
    board.show();
    for (tenant, nano) in [("other", 1), ("acme", 20), ("globex", 300)] {
        spend(&board, tenant, nano);
    }
    board.show();
    let expected = own(&[("_other", 0), ("acme", 20), ("globex", 300), ("other", 1)]);
    assert_eq!(shown(&registry), expected);
}

#[test]
fn no_series_goes_back_and_growth_adds_up_whoever_has_a_place() {
    let (board, registry) = board(1, &["a", "b", "c"]);
    spend(&board, "a", 10);
    spend(&board, "b", 3);
    assert_eq!(board.show(), [id("a")], "who has spent most");
    // What came before a series is not its growth.
    assert_eq!(shown(&registry), own(&[("_other", 13), ("a", 0)]));
    spend(&board, "a", 5);
    spend(&board, "b", 26);
    assert_eq!(board.show(), [id("a")], "29 is not twice 15");
    assert_eq!(shown(&registry), own(&[("_other", 39), ("a", 5)]));
    spend(&board, "b", 1);
    spend(&board, "a", 0);
    assert_eq!(board.show(), [id("b")], "30 is");
    assert_eq!(shown(&registry), own(&[("_other", 40), ("b", 0)]));
    spend(&board, "a", 7);
    spend(&board, "b", 2);
    spend(&board, "c", 1);
    board.show();
    assert_eq!(shown(&registry), own(&[("_other", 48), ("b", 2)]));
    board.show();
    assert_eq!(
        shown(&registry),
        own(&[("_other", 48), ("b", 2)]),
        "reading adds nothing"
    );
}

#[test]
fn without_places_all_are_summed_up() {
    let (board, registry) = board(0, &["a", "b"]);
    spend(&board, "a", 1);
    spend(&board, "b", 2);
    spend(&board, "not-in-the-policy", 4);
    assert_eq!(board.show(), []);
    assert_eq!(shown(&registry), own(&[("_other", 7)]));
}

#[test]
fn what_is_under_way_is_counted_while_it_is() {
    let (board, _registry) = board(1, &["a"]);
    let all = prometheus::IntGauge::new("all", "all").unwrap();
    let call = UnderWay::call(board.of(&id("a")), &all);
    let stream = UnderWay::stream(Arc::clone(call.figures()), &all);
    let count = || {
        board.show();
        let shown = board.lock();
        [&shown.in_flight, &shown.streams].map(|gauge| gauge.with_label_values(&["a"]).get())
    };
    assert_eq!((count(), all.get()), ([1, 1], 2));
    drop(stream);
    drop(call);
    assert_eq!((count(), all.get()), ([0, 0], 0));
}
