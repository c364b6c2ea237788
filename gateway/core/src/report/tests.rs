use super::*;
use crate::money::PICO_PER_USD;

/// A line as the gateway writes it, of what matters here.
fn line(tenant: &str, model: &str, at: &str, cost: i128, outcome: &str) -> String {
    let mut line = serde_json::json!({
        "tollgate.started_at": at, "tenant.id": tenant, "gen_ai.agent.id": "bot",
        "tollgate.task.id": "t-1", "gen_ai.request.model": model, "tollgate.outcome": outcome,
        "tollgate.usage.source": "exact", "tollgate.cost_usd": crate::money::PicoUsd::new(cost),
    });
    if outcome == "refused" {
        line["tollgate.usage.source"] = "none".into();
        line["tollgate.cost.reserved_usd"] = "0.25".into();
        line["error.type"] = "spend_limit_exceeded".into();
        line["tollgate.refusal.reason"] = "spend_limit_exceeded".into();
        line["tollgate.refusal.limit"] = format!("{tenant}/tenant/day:2026-12-01").into();
    } else {
        line["tollgate.usage"] =
            serde_json::json!({"input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 3});
    }
    line.to_string()
}

fn lines() -> [String; 5] {
    let usd = PICO_PER_USD;
    [
        line("acme", "small", "2026-11-22T23:59:59Z", usd, "completed"),
        line(
            "acme",
            "small",
            "2026-11-23T00:00:00Z",
            usd / 2,
            "completed",
        ),
        line(
            "acme",
            "large",
            "2026-11-23T12:00:00Z",
            5 * usd,
            "client_gone",
        ),
        line(
            "globex",
            "small",
            "2026-11-23T12:00:00Z",
            2 * usd,
            "completed",
        ),
        line("globex", "small", "2026-12-01T00:00:00Z", 0, "refused"),
    ]
}

/// Folds lines as a reader of records does.
fn fold(query: &Query, lines: &[String]) -> Report {
    let mut rows = std::collections::BTreeMap::<Box<str>, Sums>::new();
    let (period, mut key) = (query.period(), String::new());
    for line in lines {
        let entry = Entry::parse(line.as_bytes())
            .expect("a line")
            .expect("a call");
        if period.takes(&entry) && query.takes(&entry) {
            query.write_key(&entry, &mut key);
            rows.entry(key.as_str().into())
                .or_default()
                .add(&Sums::of(&entry));
        }
    }
    let mut ranking = Ranking::new(query.order, query.top);
    for (key, sums) in rows {
        ranking.push(Row { key, sums });
    }
    ranking.finish(query.topic, query.by.clone())
}

fn report(query: &Query) -> Report {
    fold(query, &lines())
}

fn by(dimensions: &str) -> Query {
    Query {
        by: Dimension::list(dimensions).expect("dimensions"),
        ..Query::default()
    }
}

#[test]
fn rows_are_grouped_summed_and_the_dearest_first() {
    let expected = "\
tenant  model  calls  refusals  input_tokens  cached_tokens  output_tokens  cost_usd  share_percent  estimated
acme    large      1         0            10              4              3         5           58.8          0
globex  small      1         1            10              4              3         2           23.5          0
acme    small      2         0            20              8              6       1.5           17.6          0
total              4         1            40             16             12       8.5          100.0          0
";
    assert_eq!(print(&report(&by("tenant,model")), Form::Table), expected);
}

#[test]
fn the_top_rows_and_the_others_add_up_to_the_total() {
    let top = report(&Query {
        top: Some(1),
        ..by("tenant")
    });
    assert_eq!(top.rows.len(), 1);
    assert_eq!((top.summary.left_out, top.summary.total.calls), (1, 4));
    let expected = "\
tenant     calls  refusals  input_tokens  cached_tokens  output_tokens  cost_usd  share_percent  estimated
acme           3         0            30             12              9       6.5           76.5          0
(1 other)      1         1            10              4              3         2           23.5          0
total          4         1            40             16             12       8.5          100.0          0
";
    assert_eq!(print(&top, Form::Table), expected);
    let csv = print(&top, Form::Csv);
    assert!(
        csv.ends_with("\"(other)\",1,1,10,4,3,2,23.5,0,0\r\n"),
        "{csv}"
    );
    assert_eq!(json(&top)["other"]["cost_usd"], "2");
    let none = report(&Query {
        top: Some(0),
        ..by("tenant")
    });
    assert_eq!(none.summary.other, none.summary.total);
}

#[test]
fn refusals_are_told_with_their_rule_and_what_was_asked() {
    let refusals = report(&Query {
        topic: Topic::Refusals,
        order: Order::Refusals,
        ..by("tenant,agent,reason,limit")
    });
    let expected = "\
tenant  agent  reason                limit                         refusals  share_percent  asked_usd              first_at               last_at
globex  bot    spend_limit_exceeded  globex/tenant/day:2026-12-01         1          100.0       0.25  2026-12-01T00:00:00Z  2026-12-01T00:00:00Z
total                                                                     1          100.0       0.25  2026-12-01T00:00:00Z  2026-12-01T00:00:00Z
";
    assert_eq!(print(&refusals, Form::Table), expected);
    assert_eq!(json(&refusals)["topic"], "refusals");
    assert_eq!(json(&refusals)["rows"][0]["asked_usd"], "0.25");
}

#[test]
fn time_is_cut_at_both_ends_and_windows_are_utc() {
    let days = report(&Query {
        from: "2026-11-23T00:00:00Z".parse().ok(),
        to: "2026-12-01T00:00:00Z".parse().ok(),
        order: Order::Key,
        ..by("day")
    });
    let keys: Vec<_> = days.rows.iter().map(|row| &*row.key).collect();
    assert_eq!(keys, ["2026-11-23"]);
    assert_eq!(days.summary.total.calls, 3);
    let months = report(&Query {
        order: Order::Key,
        ..by("month,hour,outcome")
    });
    let keys: Vec<Vec<&str>> = months
        .rows
        .iter()
        .map(|row| row.values().collect())
        .collect();
    assert_eq!(keys[0], ["2026-11", "2026-11-22T23:00Z", "completed"]);
    assert_eq!(keys[4], ["2026-12", "2026-12-01T00:00Z", "refused"]);
}

#[test]
fn without_dimensions_there_is_one_row_and_without_records_none() {
    assert_eq!(report(&Query::default()).rows.len(), 1);
    let empty = fold(&by("tenant"), &[]);
    assert_eq!(empty.rows, []);
    assert_eq!(json(&empty)["total"]["calls"], 0);
    assert_eq!(
        json(&empty)["total"]["share_percent"],
        serde_json::Value::Null
    );
    for form in [Form::Table, Form::Csv, Form::Markdown] {
        assert!(print(&empty, form).contains("cost_usd"));
    }
}

/// What a client may name a model, and what could go wrong with it.
const HOSTILE: [&str; 14] = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "a\"b,c;d",
    "\u{1b}[31m\n{\"tenant\":\"B\"}",
    "x\r\ntotal,1,1",
    "| a | b |\n|---|",
    "<script>alert(1)</script>",
    "[link](https://evil.example) www.evil.example",
    "\u{202e}desrever\u{2028}",
    "`code` **bold** ~~x~~ \\",
    "\t=cmd|' /C calc'!A0",
    "a\0b",
];

#[test]
fn one_records_strings_never_break_a_row() {
    for model in HOSTILE {
        let line = line("acme", model, "2026-11-23T00:00:00Z", 1, "completed");
        let report = fold(&by("model,tenant"), &[line]);
        let text = print(&report, Form::Csv);
        assert_eq!(text.matches("\r\n").count(), 2, "{model:?}: {text}");
        let row = text.split("\r\n").nth(1).expect("a row");
        assert!(!row.contains(['\n', '\r', '\u{1b}', '\0']), "{row:?}");
        assert!(row.starts_with('"'), "{row:?}");
        let first = row.chars().nth(1).expect("a cell");
        assert!(!"=+-@\t\r".contains(first), "{row:?}");
        assert!(
            row.ends_with("\"acme\",1,0,10,4,3,0.000000000001,100.0,0,0"),
            "{row:?}"
        );

        let text = print(&report, Form::Table);
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n'),
            "{text:?}"
        );
        assert!(!text.contains(['\u{202e}', '\u{2028}']), "{text:?}");

        let text = print(&report, Form::Markdown);
        assert_eq!(text.lines().count(), 4, "{text:?}");
        for line in text.lines() {
            let mut escaped = false;
            let bare = line.chars().filter(|&c| {
                let keep = !escaped && c != '\\';
                escaped = !escaped && c == '\\';
                keep
            });
            let bare: String = bare.collect();
            assert_eq!(bare.matches('|').count(), 11, "{line:?}");
            assert!(!bare.contains(['<', '[', '`', '*', '&']), "{line:?}");
            assert!(!bare.contains("www."), "{line:?}");
        }

        let value: serde_json::Value =
            serde_json::from_str(&print(&report, Form::Json)).expect("JSON");
        assert_eq!(value, json(&report));
        assert_eq!(value["rows"][0]["model"], model.replace('\0', "\u{fffd}"));
    }
}

#[test]
fn what_a_record_does_not_have_is_told_from_a_name() {
    let tool = report(&by("tool,credential"));
    assert_eq!(json(&tool)["rows"][0]["tool"], serde_json::Value::Null);
    assert!(print(&tool, Form::Csv).contains("\"\",\"\",4,1"));
    assert!(print(&tool, Form::Table).contains("\n-      -  "));
}

#[test]
fn json_keeps_money_exact_and_reads_the_same_whole_or_in_pieces() {
    let report = report(&by("tenant"));
    let value = json(&report);
    assert_eq!(value["rows"][0]["tenant"], "acme");
    assert_eq!(value["rows"][0]["cost_usd"], "6.5");
    assert_eq!(value["total"]["output_tokens"], 12);
    assert_eq!(value["by"][0], "tenant");
    let printed: serde_json::Value =
        serde_json::from_str(&print(&report, Form::Json)).expect("JSON");
    assert_eq!(printed, value);
}

#[test]
fn dimensions_read_back_what_they_print() {
    for (dimension, text) in Dimension::ALL {
        assert_eq!(dimension.to_string(), text);
        assert_eq!(text.parse(), Ok(dimension));
    }
    assert!("cost".parse::<Dimension>().is_err());
}
