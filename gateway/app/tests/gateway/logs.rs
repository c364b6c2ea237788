//! The line of a call, how much is said, and what the upstream is told of traces without spans.

use serde_json::{Value, json};
use tollgate_testkit::wait::{eventually, until};

use crate::harness::{Ask, Gateway, Plan, Site, World, chat, start_mock, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The line about the end of this call.
async fn line(gateway: &Gateway, id: &str) -> Value {
    until("the call's line", || {
        let log = gateway.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut of_call = lines.filter(|line: &Value| line["request"] == id);
        let found = of_call.find(|line| line["message"] == "call ended");
        assert!(
            of_call.all(|line| line["message"] != "call ended"),
            "one line a call"
        );
        found
    })
    .await
}

async fn world(level: &str) -> World {
    let mock = start_mock().await;
    let site = Site::new();
    Plan::at(mock.addr()).write(&site);
    let gateway = site.serve_logging(level).await;
    World { gateway, mock }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_one_line_that_says_all_of_it_and_its_trace_is_passed_on_as_it_is() {
    let world = world("info").await;
    let ask = Ask::new("POST", "/openai/v1/chat/completions").json(&chat());
    let ask = ask.bearer(&world.token("acme").await);
    let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let odd = format!("CC-{}-oops", TRACE.to_uppercase());
    for parent in [&good, &odd] {
        let traced = ask.clone().header("traceparent", parent);
        let answer = world
            .send(&traced.header("tracestate", "a=1 , b=\"x\""))
            .await;
        assert_eq!(answer.status, 200);
        let seen = world.calls().pop().unwrap();
        let of = |name: &str| {
            let found = seen.headers.iter().filter(|(field, _)| field == name);
            found
                .map(|(_, value)| value.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("traceparent"), [parent.as_str()]);
        assert_eq!(of("tracestate"), ["a=1 , b=\"x\""]);
        let line = line(
            &world.gateway,
            answer.header("x-tollgate-request-id").unwrap(),
        )
        .await;
        let trace = if parent == &good {
            json!(TRACE)
        } else {
            Value::Null
        };
        for (name, value) in [
            ("level", json!("INFO")),
            ("tenant", json!("acme")),
            ("agent", json!("a1")),
            ("task", json!("t1")),
            ("provider", json!("openai")),
            ("operation", json!("chat")),
            ("model", json!("gpt-4o-mini")),
            ("status", json!(200)),
            ("outcome", json!("completed")),
            ("usage", json!("exact")),
            ("cost_usd", json!("0.0000135")),
            ("trace", trace),
        ] {
            assert_eq!(line[name], value, "{name}: {line:#}");
        }
        for count in ["input_tokens", "output_tokens", "first_byte_us", "took_us"] {
            assert!(
                line[count].as_u64().is_some_and(|count| count > 0),
                "{count}: {line:#}"
            );
        }
        assert!(line["timestamp"].is_string() && line.get("code").is_none());
    }
    let refused = world.send(&ask.header("x-api-key", "$CRED{nobodys}")).await;
    assert!(refused.status >= 400);
    let line = line(
        &world.gateway,
        refused.header("x-tollgate-request-id").unwrap(),
    )
    .await;
    assert_eq!(line["status"], refused.status);
    assert_eq!(
        text(&line, "code"),
        refused.header("x-tollgate-error").unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_is_said_changes_at_run_time_by_the_operator_and_goes_back_by_itself() {
    let world = world("warn").await;
    let (gateway, site) = (&world.gateway, &world.gateway.site);
    let level = |arguments: &[&str]| {
        let output = site.cli(&[&["log", "level"], arguments].concat(), "");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said, complained)
    };
    assert_eq!(level(&[]), (0, "warn\n".to_owned(), String::new()));

    for wrong in ["inf", "tollgate_proxy=loud", "info,[{x}]=trace"] {
        let (code, said, complained) = level(&[wrong]);
        assert_eq!((code, &*said), (1, ""), "{complained}");
        assert!(
            complained.contains("is neither a level (off, error,"),
            "{complained}"
        );
    }
    for wrong in [&["--for", "10m"][..], &["debug", "--for", "10"]] {
        assert_eq!(level(wrong).0, 2, "{wrong:?}");
    }
    assert_eq!(level(&[]).1, "warn\n");

    world.token("acme").await;
    let (code, said, _) = level(&["info,tollgate_proxy=debug", "--for", "1h", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, text(&said, "level"), text(&said, "started_with")),
        (0, "info,tollgate_proxy=debug", "warn")
    );
    assert!(said["until"].is_string());
    let spoken = |what: &str| {
        gateway
            .log()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    };
    assert_eq!(spoken("task token minted"), 0);
    world.token("acme").await;
    eventually("more is said", async || spoken("task token minted") == 1).await;

    assert_eq!(level(&["error", "--for", "1s"]).0, 0);
    eventually("it has gone back", async || level(&[]).1 == "warn\n").await;
    eventually("each change is told", async || {
        spoken("\"message\":\"the log level changes\"") == 3
    })
    .await;

    let asked = [
        "admin", "add", "--name", "alice", "--role", "auditor", "--tenant", "acme",
    ];
    let alice = site.cli_ok(&asked, "").trim_end().to_owned();
    let alone = [("TOLLGATE_ADMIN_TOKEN", alice.as_str())];
    let denied = site.cli_with(&["log", "level", "trace"], &alone, "");
    assert_eq!(denied.status.code(), Some(1));
    let of = |action: &str, outcome: &str| {
        let lines = site.lines("_operator").into_iter();
        let of = lines.filter(|line| {
            line["tollgate.admin.action"] == action && line["tollgate.outcome"] == outcome
        });
        of.count()
    };
    eventually("it is all on record", async || {
        (
            of("log.set", "done"),
            of("log.set", "failed"),
            of("log.set", "denied"),
        ) == (2, 3, 1)
    })
    .await;
    assert!(of("log.read", "done") >= 3);
}
