use super::*;
use crate::money::PICO_PER_USD;
use crate::record::{Ending, Subject};
use crate::usage::Usage;

fn name<T: FromStr<Err: fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a test name")
}

fn record(tenant: &str, model: &str, at: &str, cost: i128, outcome: Outcome) -> Record {
    let refused = outcome == Outcome::Refused;
    Record {
        subject: Subject {
            id: name("019ab3c0000070008000000000000001"),
            started_at: name(at),
            tenant: name(tenant),
            agent: name("bot"),
            task: name("t-1"),
            token: name("tok"),
            certificate: None,
            provider: None,
            operation: None,
            request_model: Some(name(model)),
            method: "POST".into(),
            path: "/".into(),
            upstream: None,
            credential: None,
            credential_version: None,
            price_version: None,
            price_provider: None,
            reserved: None,
            elevated: false,
            trace: None,
            span: None,
            untrusted: Vec::new(),
            notes: Vec::new(),
        },
        ending: Ending {
            usage_source: if refused {
                UsageSource::None
            } else {
                UsageSource::Exact
            },
            usage: (!refused).then_some(Usage {
                input_tokens: 10,
                output_tokens: 3,
                ..Usage::default()
            }),
            cost: PicoUsd::new(cost),
            ..Ending::new(name(at), outcome)
        },
    }
}

fn records() -> [Record; 5] {
    let usd = PICO_PER_USD;
    let (done, refused) = (Outcome::Completed, Outcome::Refused);
    [
        record("acme", "small", "2026-11-22T23:59:59Z", usd, done),
        record("acme", "small", "2026-11-23T00:00:00Z", usd / 2, done),
        record("acme", "large", "2026-11-23T12:00:00Z", 5 * usd, done),
        record("globex", "small", "2026-11-23T12:00:00Z", 2 * usd, done),
        record("globex", "small", "2026-12-01T00:00:00Z", 0, refused),
    ]
}

fn report(query: Query) -> Report {
    let mut tally = Tally::new(query);
    for record in records() {
        tally.add(&record);
    }
    tally.finish()
}

fn by(dimensions: &[&str]) -> Query {
    Query {
        by: dimensions.iter().map(|text| name(text)).collect(),
        ..Query::default()
    }
}

#[test]
fn rows_are_grouped_summed_and_the_dearest_first() {
    let expected = "\
tenant  model  calls  refusals  input_tokens  output_tokens  cost_usd  estimated
acme    large      1         0            10              3         5          0
globex  small      1         1            10              3         2          0
acme    small      2         0            20              6       1.5          0
total              4         1            40             12       8.5          0
";
    assert_eq!(table(&report(by(&["tenant", "model"]))), expected);
}

#[test]
fn the_top_rows_leave_the_total_whole() {
    let top = report(Query {
        top: Some(1),
        ..by(&["tenant"])
    });
    assert_eq!(top.rows.len(), 1);
    assert_eq!((top.left_out, top.total.calls), (1, 4));
    assert!(table(&top).ends_with("(1 more rows)\n"));
}

#[test]
fn time_is_cut_at_both_ends_and_windows_are_utc() {
    let days = report(Query {
        from: Some(name("2026-11-23T00:00:00Z")),
        to: Some(name("2026-12-01T00:00:00Z")),
        order: Order::Key,
        ..by(&["day"])
    });
    let keys: Vec<_> = days.rows.iter().map(|row| row.key.join("/")).collect();
    assert_eq!(keys, ["2026-11-23"]);
    assert_eq!(days.total.calls, 3);
    let months = report(Query {
        order: Order::Key,
        ..by(&["month", "outcome"])
    });
    let keys: Vec<_> = months.rows.iter().map(|row| row.key.join("/")).collect();
    assert_eq!(keys, ["2026-11/completed", "2026-12/refused"]);
}

#[test]
fn without_dimensions_there_is_one_row_and_without_records_none() {
    assert_eq!(report(Query::default()).rows.len(), 1);
    let empty = Tally::new(by(&["tenant"])).finish();
    assert_eq!(empty.rows, []);
    assert_eq!(json(&empty)["total"]["calls"], 0);
}

#[test]
fn no_cell_becomes_a_formula_a_line_or_an_escape_sequence() {
    for (model, cell) in [
        ("=1+1", "\"'=1+1\""),
        ("+1", "\"'+1\""),
        ("-1", "\"'-1\""),
        ("@SUM(A1)", "\"'@SUM(A1)\""),
        ("a\"b,c", "\"a\"\"b,c\""),
        ("gpt-5", "\"gpt-5\""),
    ] {
        let mut tally = Tally::new(by(&["model"]));
        tally.add(&record(
            "acme",
            model,
            "2026-11-23T00:00:00Z",
            1,
            Outcome::Completed,
        ));
        let text = csv(&tally.finish());
        let line = format!("{cell},1,0,10,3,0.000000000001,0");
        assert_eq!(text.lines().nth(1), Some(line.as_str()), "{model}");
    }
    let row = Row {
        key: vec!["\u{1b}[31m\n".to_owned()],
        sums: Sums::default(),
    };
    let report = Report {
        by: vec![Dimension::Model],
        rows: vec![row],
        left_out: 0,
        total: Sums::default(),
    };
    assert!(table(&report).contains("\u{fffd}[31m\u{fffd}"));
    assert_eq!(csv(&report).lines().nth(1).map(|l| &l[..1]), Some("\""));
}

#[test]
fn json_keeps_money_exact() {
    let value = json(&report(by(&["tenant"])));
    assert_eq!(value["rows"][0]["tenant"], "acme");
    assert_eq!(value["rows"][0]["cost_usd"], "6.5");
    assert_eq!(value["total"]["output_tokens"], 12);
    assert_eq!(value["by"][0], "tenant");
}

#[test]
fn dimensions_read_back_what_they_print() {
    for (dimension, text) in DIMENSIONS {
        assert_eq!(dimension.to_string(), text);
        assert_eq!(text.parse(), Ok(dimension));
    }
    assert!("cost".parse::<Dimension>().is_err());
}
