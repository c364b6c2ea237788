use super::*;
use crate::time::Timestamp;

const TOLERANCE: Tolerance = Tolerance {
    tokens: 0,
    usd: PicoUsd::new(10_000_000_000),
};

fn keys() -> Keys {
    let mut keys = Keys::default();
    for (key, tenant, credential) in [
        ("key_a", "acme", "openai_key"),
        ("key_s", "acme", "shared"),
        ("key_s", "globex", "shared"),
    ] {
        let tenant = tenant.parse().expect("a tenant");
        let credential = credential.parse().expect("a name");
        keys.add(key, tenant, credential).expect("one key");
    }
    keys
}

/// A call of acme that used 100 tokens in and 10 out, with changes.
fn call(changes: &[(&str, serde_json::Value)]) -> Record {
    let mut record = serde_json::json!({
        "tollgate.record.id": "019ab3c0000070008000000000000001",
        "tollgate.started_at": "2026-11-23T12:00:00Z", "tollgate.ended_at": "2026-11-23T12:00:01Z",
        "tenant.id": "acme", "gen_ai.agent.id": "bot", "tollgate.task.id": "t",
        "tollgate.token.id": "j", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5", "gen_ai.response.model": "gpt-5-2025-08-07",
        "http.request.method": "POST", "url.path": "/x", "tollgate.credential.name": "openai_key",
        "tollgate.price.version": "p1", "tollgate.cost.reserved_usd": "0.5",
        "tollgate.outcome": "completed", "http.response.status_code": 200,
        "tollgate.usage.source": "exact", "tollgate.cost_usd": "0.1",
        "tollgate.usage": {"input_tokens": 100, "output_tokens": 10},
    });
    for (name, value) in changes {
        record[*name] = value.clone();
    }
    serde_json::from_value(record).expect("a record")
}

fn records(calls: &[&Record]) -> Records {
    let mut records = Records::new("openai".parse().expect("a name"), keys());
    for call in calls {
        records.add(call);
    }
    records
}

/// An export of OpenAI: day, key, model, requests, tokens in, out.
fn usage(lines: &[(&str, &str, &str, u32, u32, u32)]) -> Export {
    let mut text = String::from(
        "start_time,api_key_id,model,num_model_requests,input_tokens,input_cached_tokens,output_tokens\n",
    );
    for (day, key, model, requests, input, output) in lines {
        let start: Timestamp = format!("{day}T00:00:00Z").parse().expect("a time");
        let start = start.as_seconds();
        text.push_str(&format!(
            "{start},{key},{model},{requests}.0,{input}.0,0.0,{output}.0\n"
        ));
    }
    let mut export = Export::default();
    read(Exporter::OpenAi, &text, &mut export).expect("an export");
    export
}

/// Verdict and kinds of findings, place by place.
fn judged(found: &Reconciliation) -> Vec<(Verdict, Vec<&'static str>)> {
    let kinds = |place: &Compared| place.findings.iter().map(|finding| finding.kind).collect();
    found
        .places
        .iter()
        .map(|place| (place.verdict, kinds(place)))
        .collect()
}

fn against(
    calls: &[&Record],
    lines: &[(&str, &str, &str, u32, u32, u32)],
) -> Vec<(Verdict, Vec<&'static str>)> {
    judged(&compare(&usage(lines), &records(calls), TOLERANCE))
}

const MODEL: &str = "gpt-5-2025-08-07";

#[test]
fn each_difference_has_its_cause_and_what_has_none_is_left_over() {
    use Verdict::{Agrees, Explained, Unexplained};
    let value = |text: &str| serde_json::Value::from(text);
    let day = "2026-11-23";
    let exact = call(&[]);
    let same = [(day, "key_a", MODEL, 1, 100, 10)];
    assert_eq!(against(&[&exact], &same), [(Agrees, vec![])]);
    let more = [(day, "key_a", MODEL, 1, 130, 10)];
    assert_eq!(
        against(&[&exact], &more),
        [(Unexplained, vec!["provider_only"])]
    );
    assert_eq!(
        against(&[&exact], &[(day, "key_a", "gpt-5", 0, 0, 0)]),
        [(Unexplained, vec!["ours_only", "other_name"])]
    );
    // 0.5 was reserved for a call that is charged 0.1: room for four times its 110 tokens more.
    let estimate = call(&[("tollgate.usage.source", value("estimated"))]);
    assert_eq!(
        against(&[&estimate], &more),
        [(Explained, vec!["estimated"])]
    );
    let most = [(day, "key_a", MODEL, 1, 550, 10)];
    assert_eq!(
        against(&[&estimate], &most),
        [(Explained, vec!["estimated"])]
    );
    let beyond = [(day, "key_a", MODEL, 1, 551, 10)];
    assert_eq!(
        against(&[&estimate], &beyond),
        [(Unexplained, vec!["estimated", "provider_only"])]
    );
    let late = call(&[
        ("tollgate.started_at", value("2026-11-23T23:59:59Z")),
        ("tollgate.ended_at", value("2026-11-24T00:00:01Z")),
    ]);
    assert_eq!(
        against(
            &[&late],
            &[
                (day, "key_a", MODEL, 0, 0, 0),
                ("2026-11-24", "key_a", MODEL, 1, 100, 10)
            ]
        ),
        [(Explained, vec!["midnight"]), (Explained, vec!["midnight"])]
    );
    let other = call(&[("tollgate.credential.name", value("unmapped_key"))]);
    assert_eq!(
        against(&[&exact, &other], &[(day, "key_a", MODEL, 2, 200, 20)]),
        [(Explained, vec!["other_credentials"])]
    );
    assert_eq!(
        against(&[&exact, &other], &[(day, "key_a", MODEL, 2, 210, 20)]),
        [(Unexplained, vec!["provider_only", "other_credentials"])]
    );
    let elsewhere = call(&[("gen_ai.provider.name", value("azure"))]);
    let refused = call(&[("tollgate.outcome", value("refused"))]);
    assert_eq!(
        against(&[&exact, &elsewhere, &refused], &same),
        [(Agrees, vec![])]
    );
}

#[test]
fn a_batch_is_where_the_provider_made_it_and_its_charge_where_it_began() {
    let value = |text: &str| serde_json::Value::from(text);
    let begun = call(&[
        ("tollgate.notes", serde_json::json!(["deferred"])),
        ("tollgate.usage.source", value("estimated")),
        ("tollgate.usage", serde_json::Value::Null),
    ]);
    let fetched = call(&[
        ("tollgate.started_at", value("2026-11-25T12:00:00Z")),
        ("tollgate.ended_at", value("2026-11-25T12:00:01Z")),
        (
            "tollgate.cost.adjusts",
            value("019ab3c0000070008000000000000001"),
        ),
        ("tollgate.cost_usd", value("-0.05")),
    ]);
    let lines = [
        ("2026-11-24", "key_a", MODEL, 7, 100, 10),
        ("2026-11-25", "key_a", MODEL, 0, 0, 0),
    ];
    let found = against(&[&begun, &fetched], &lines);
    let explained = (Verdict::Explained, vec!["deferred"]);
    assert_eq!(found, [explained.clone(), explained]);
}

#[test]
fn a_shared_key_is_everybodys_who_is_mapped_to_it() {
    let of = |tenant: &str| {
        call(&[
            ("tenant.id", tenant.into()),
            ("tollgate.credential.name", "shared".into()),
        ])
    };
    let lines = [
        ("2026-11-23", "key_s", MODEL, 2, 200, 20),
        ("2026-11-23", "key_x", MODEL, 1, 5, 6),
    ];
    let found = compare(
        &usage(&lines),
        &records(&[&of("acme"), &of("globex")]),
        TOLERANCE,
    );
    assert_eq!(judged(&found), [(Verdict::Agrees, vec![])]);
    assert_eq!(found.unmapped, [("key_x".to_owned(), 11)].into());
    assert_eq!(found.unused, ["key_a".to_owned()].into());
    let mut keys = keys();
    let taken = keys.add(
        "key_b",
        "acme".parse().expect("id"),
        "shared".parse().expect("name"),
    );
    assert!(taken.is_err(), "one credential is one key");
}

const OPENAI: [&str; 4] = [
    include_str!("../../testdata/reconcile/openai_usage.json"),
    include_str!("../../testdata/reconcile/openai_usage.csv"),
    include_str!("../../testdata/reconcile/openai_costs.json"),
    include_str!("../../testdata/reconcile/openai_costs.csv"),
];

const ANTHROPIC: [&str; 4] = [
    include_str!("../../testdata/reconcile/anthropic_usage.json"),
    include_str!("../../testdata/reconcile/anthropic_usage.csv"),
    include_str!("../../testdata/reconcile/anthropic_cost.json"),
    include_str!("../../testdata/reconcile/anthropic_cost.csv"),
];

/// The files of one provider state the same in JSON and in CSV, but for requests and names.
#[test]
fn what_an_api_states_a_dashboard_states_as_well() {
    for (exporter, files, key, model, tokens, usd) in [
        (
            Exporter::OpenAi,
            OPENAI,
            "key_a",
            "gpt-5",
            (1_000, 800, 500),
            "0.06",
        ),
        (
            Exporter::Anthropic,
            ANTHROPIC,
            "apikey_01",
            "claude-sonnet-4-5",
            (3_200, 200, 500),
            "1.2378912",
        ),
    ] {
        for (number, file) in files.iter().enumerate() {
            let mut export = Export::default();
            read(exporter, file, &mut export).expect("an export");
            let [stated] = &export.stated[..] else {
                panic!("{export:?}");
            };
            assert_eq!(stated.day.to_string(), "2026-11-23");
            assert_eq!(stated.common_model().as_deref(), Some(model));
            let counts = stated.counts;
            let counted = (
                counts.input_tokens,
                counts.cached_tokens,
                counts.output_tokens,
            );
            if number < 2 {
                assert_eq!((stated.key.as_deref(), counted), (Some(key), tokens));
            } else {
                assert_eq!(stated.key, None, "costs are of all keys");
                assert_eq!(counts.cost_usd.to_string(), usd);
            }
        }
    }
    let mut all = Export::default();
    for file in OPENAI {
        read(Exporter::OpenAi, file, &mut all).expect("an export");
    }
    assert_eq!(
        all.days.len(),
        2,
        "a day on which nothing was used is a day"
    );
    let mut cut = Export::default();
    read(Exporter::OpenAi, &format!("[{}]", OPENAI[2]), &mut cut).expect("a list of pages");
    assert!(cut.is_cut, "there is another page");
}

#[test]
fn versions_and_display_names_of_a_model_have_one_name_in_common() {
    for (name, common) in [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("Claude Sonnet 4.5", "claude-sonnet-4-5"),
        ("gpt-4-0613", "gpt-4-0613"),
        ("text-embedding-3-small", "text-embedding-3-small"),
        ("20250929", "20250929"),
        ("é", "é"),
    ] {
        assert_eq!(common_name(name), common, "{name}");
    }
}
