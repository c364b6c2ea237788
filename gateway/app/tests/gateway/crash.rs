//! `kill -9` at any moment loses neither money nor a record, and counts nothing twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, Plan, Site, chat, cost, outcome, start_mock, text};

const CHAT: &str = "/openai/v1/chat/completions";
const STREAMS: usize = 200;
const WHOLE: usize = 40;

fn usd(text: &str) -> PicoUsd {
    text.parse().expect("an amount")
}

fn sum(records: &[Value]) -> PicoUsd {
    records
        .iter()
        .map(|record| usd(&cost(record)))
        .fold(PicoUsd::ZERO, PicoUsd::saturating_add)
}

async fn counters(gateway: &crate::harness::Gateway) -> Vec<(PicoUsd, PicoUsd)> {
    let budgets = gateway.budgets("acme").await;
    budgets
        .iter()
        .map(|line| {
            (
                usd(text(line, "settled_usd")),
                usd(text(line, "reserved_usd")),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_200_streams_every_call_has_one_record_and_its_money_is_settled() {
    let mock = start_mock().await;
    let site: Arc<Site> = Site::new();
    Plan::at(mock.addr()).write(&site);
    let mut gateway = site.serve().await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let mut body = chat();
    body["stream"] = json!(true);

    // Some calls have ended, and some of their outcomes are only just written.
    let plain = Ask::new("POST", CHAT).bearer(&token).json(&body);
    for _ in 0..WHOLE {
        assert_eq!(plain.send(gateway.address).await.status, 200);
    }
    // 200 are in the middle of their answer.
    let held = Ask::new("POST", &format!("{CHAT}?mock=hold-after-2"))
        .bearer(&token)
        .json(&body);
    let mut open = Vec::new();
    let mut ids = BTreeSet::new();
    for _ in 0..STREAMS {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(held.bytes()).await;
        open.push(raw);
    }
    for raw in &mut open {
        let (status, headers) = raw.head().await.expect("a head");
        assert_eq!(status, 200);
        let id = headers
            .into_iter()
            .find(|(name, _)| name == "x-tollgate-request-id")
            .unwrap()
            .1;
        assert!(ids.insert(id), "ids are unique");
    }
    assert_eq!(mock.seen().len(), STREAMS + WHOLE);
    gateway.kill();
    drop(open);

    let mut restarted = site.serve().await;
    let records = site.records_when("acme", STREAMS + WHOLE).await;
    assert_eq!(
        records.len(),
        mock.seen().len(),
        "one record for each call the provider saw"
    );
    let known: BTreeSet<&str> = records
        .iter()
        .map(|r| text(r, "tollgate.record.id"))
        .collect();
    assert_eq!(known.len(), records.len(), "no record twice");
    assert!(
        ids.iter().all(|id| known.contains(id.as_str())),
        "every stream has its record"
    );
    for record in &records {
        let id = text(record, "tollgate.record.id");
        if ids.contains(id) {
            assert_eq!(outcome(record), "interrupted", "{record:#}");
            assert_eq!(
                text(record, "tollgate.usage.source"),
                "interrupted",
                "{record:#}"
            );
        } else {
            assert!(
                matches!(outcome(record), "completed" | "interrupted"),
                "{record:#}"
            );
        }
        if outcome(record) == "interrupted" {
            assert_eq!(
                record["tollgate.cost_usd"],
                record["tollgate.cost.reserved_usd"]
            );
        } else {
            assert_eq!(cost(record), "0.0000135");
        }
    }
    let sequence: Vec<_> = records
        .iter()
        .map(|r| r["tollgate.seq"].as_u64().unwrap())
        .collect();
    assert_eq!(
        sequence,
        (1..=records.len() as u64).collect::<Vec<_>>(),
        "no gap"
    );
    let spent = sum(&records);
    for (settled, reserved) in counters(&restarted).await {
        assert_eq!((settled, reserved), (spent, PicoUsd::ZERO), "day and month");
    }

    // A second crash and start changes nothing.
    restarted.kill();
    let again = site.serve().await;
    assert_eq!(site.records("acme"), records);
    for (settled, reserved) in counters(&again).await {
        assert_eq!((settled, reserved), (spent, PicoUsd::ZERO));
    }
    // And the token, minted before both, is still on the table.
    mock.release();
    assert_eq!(plain.send(again.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_86_killed_under_load_again_and_again_no_contact_is_without_a_record_and_none_has_two()
{
    let mock = start_mock().await;
    let site = Site::new();
    Plan::at(mock.addr()).write(&site);
    for round in 0..4 {
        let mut gateway = site.serve().await;
        let token = gateway.mint("acme", "a1", "t1").await;
        let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
        let loaders: Vec<_> = (0..8)
            .map(|_| {
                let (bytes, address) = (ask.bytes(), gateway.address);
                tokio::spawn(async move {
                    let mut raw = Raw::connect(address).await;
                    loop {
                        raw.send(&bytes).await;
                        match raw.answer().await {
                            Some(answer) if answer.status == 200 && answer.whole => {}
                            _ => return,
                        }
                    }
                })
            })
            .collect();
        mock.wait_for((round + 1) * 60).await;
        gateway.kill();
        for loader in loaders {
            loader.abort();
        }
    }
    let gateway = site.serve().await;
    let seen = mock.seen().len();
    let records = site.records_when("acme", seen).await;
    let ids: BTreeSet<&str> = records
        .iter()
        .map(|r| text(r, "tollgate.record.id"))
        .collect();
    assert_eq!(ids.len(), records.len(), "no record twice");
    // A call killed between its intent and its first byte upstream has a record and no contact.
    assert!(
        records.len() - seen <= 4 * 8,
        "{} records for {seen} calls",
        records.len()
    );
    let sequence: Vec<_> = records
        .iter()
        .map(|r| r["tollgate.seq"].as_u64().unwrap())
        .collect();
    assert_eq!(
        sequence,
        (1..=records.len() as u64).collect::<Vec<_>>(),
        "no gap"
    );
    for (settled, reserved) in counters(&gateway).await {
        assert_eq!((settled, reserved), (sum(&records), PicoUsd::ZERO));
    }
}
