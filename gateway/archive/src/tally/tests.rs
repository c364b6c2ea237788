use proptest::prelude::*;
use tollgate_core::money::PicoUsd;
use tollgate_core::report::Dimension;
use tollgate_testkit::contract::{completed, record_id, subject};
use tollgate_testkit::partition::Partitions;

use super::*;
use crate::records;
use crate::shelf::LocalShelf;

fn grouped(added: &[(u8, u8, i64)], most: usize, query: &Query) -> Report {
    let mut parts = vec![Groups::new(most), Groups::new(most)];
    for (part, key, cost) in added {
        let sums = Sums {
            calls: 1,
            input_tokens: u64::from(*key),
            cost: PicoUsd::new((*cost).into()),
            first: (cost % 2 == 0).then(|| tollgate_core::time::Timestamp::from_micros(*cost)),
            ..Sums::default()
        };
        let part = &mut parts[usize::from(part % 2)];
        part.add(&format!("key-{key}\0é"), &sums)
            .expect("a temporary file");
    }
    let table = groups::table(parts, query, most).expect("a temporary file");
    table.into_report().expect("readable")
}

proptest! {
    #[test]
    fn what_does_not_fit_into_memory_gives_the_same_table(
        added in prop::collection::vec((any::<u8>(), 0_u8..40, -50_i64..1000), 0..300),
        most in 1_usize..20,
        top in prop::option::of(0_usize..50),
        order in prop::sample::select(vec![
            Order::Cost, Order::Calls, Order::Refusals, Order::Asked, Order::Tokens, Order::Key,
        ]),
    ) {
        let query = Query { top, order, by: vec![Dimension::Model, Dimension::Task], ..Query::default() };
        prop_assert_eq!(grouped(&added, most, &query), grouped(&added, 10_000, &query));
    }
}

#[test]
fn several_questions_are_answered_in_one_reading_on_any_number_of_threads() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Partitions::new(dir.path(), "r1");
    for n in 1..=90_u8 {
        let tenant = ["acme", "globex", "initech"][usize::from(n % 3)];
        let mut subject = subject(record_id(n.into()), tenant, &format!("bot-{}", n % 10));
        subject.elevated = n % 7 == 0;
        written.call(&subject, &completed(i128::from(n)));
    }
    let shelf = LocalShelf::new(dir.path());
    let scope = Scope {
        partitions: records::tenants(&shelf).expect("readable"),
        ..Scope::default()
    };
    let by = |by: &str| Query {
        by: Dimension::list(by).expect("dimensions"),
        ..Query::default()
    };
    let queries = [by("tenant"), by("agent,tenant"), by("")];
    let mut answers = Vec::new();
    for (threads, most) in [(1, 1_000), (3, 1_000), (2, 4)] {
        let tables = tables_within(&shelf, &scope, &queries, threads, most).expect("readable");
        let reports = tables
            .into_iter()
            .map(|table| table.into_report().expect("readable"));
        answers.push(reports.collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[0][0].rows.len(), 3);
    assert_eq!(answers[0][1].rows.len(), 30);
    let total = &answers[0][2].summary.total;
    assert_eq!((total.calls, total.cost.as_pico()), (90, 90 * 91 / 2));
}
