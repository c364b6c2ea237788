//! Cases 73 and 74: records hold what the client wrote, on one line each, in one partition each.

use serde_json::{Value, json};

use crate::harness::{Ask, ProviderPlan, World, chat};

const KEY: &str = "sk-canary-query-7d21b0c4";
/// What would be a record of another tenant, if it came onto a line of its own.
const FORGED: &str = "\n{\"tenant.id\":\"globex\",\"tollgate.cost_usd\":\"9\"}";

#[tokio::test]
async fn case_73_records_and_logs_hold_the_target_before_a_key_is_put_into_it() {
    let world = World::planned(|plan| {
        let mut search = ProviderPlan::github(&plan.provider("github").url.clone());
        search.more.push_str("place = { query = \"key\" }\n");
        plan.providers.insert("search".to_owned(), search);
        let acme = plan.tenant("acme");
        acme.allow("search", "");
        acme.credential("search_key", "{ provider = \"search\", default = true }");
        acme.secret("search_key", KEY);
    })
    .await;
    let token = world.token("acme").await;
    let ask = Ask::new("GET", "/search/repos/a/b?key=CRED~search_key~&q=1").token(&token);
    let answer = world.send(&ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = world.only_call().path_and_query;
    assert_eq!(sent, format!("/repos/a/b?key={KEY}&q=1"));
    let record = world.record_of("acme", &answer).await;
    assert_eq!(record["url.path"], "/search/repos/a/b");
    assert!(!record.to_string().contains(KEY), "{record:#}");
    assert!(!world.gateway.log().contains(KEY));
}

#[tokio::test]
async fn case_74_no_word_of_an_agent_becomes_a_line_or_a_partition_of_its_own() {
    let world = World::planned(|plan| plan.tenant("acme").caps.clear()).await;
    for task in [
        "../globex",
        "..",
        "a/b",
        "t\n",
        "",
        "t%2f",
        "globex/../acme",
    ] {
        let asked = json!({"tenant": "acme", "agent": "a1", "task": task});
        let (status, said) = world.gateway.admin_post("/v1/tokens", &asked).await;
        assert!((400..500).contains(&status), "{task:?}: {said}");
    }
    let token = world.token("acme").await;
    let model = |name: &str| {
        let mut body = chat();
        body["model"] = name.into();
        Ask::new("POST", "/openai/v1/chat/completions").json(&body)
    };
    let path = |path: &str| Ask::new("GET", &format!("/github/repos/{path}"));
    let forged = "\",\"tenant.id\":\"globex";
    let asks = [
        model(&format!("gpt-4o-mini{FORGED}")),
        model("=HYPERLINK(\"http://evil\")"),
        model(&format!("gpt{forged}")),
        path("a/%0A%7B%22tenant.id%22:%22globex%22%7D"),
        path("..%2f..%2fglobex/x"),
        path("a/%22,%22tenant.id%22:%22globex"),
        path("a/b").header("user-agent", forged),
        path("a/b").header("x-tenant-id", forged),
        path("a/b").header("baggage", "tenant=globex\\n{\"tenant.id\":\"globex\"}"),
        path("a/b?tenant=globex%0A%7B%22tenant.id%22:%22globex%22%7D"),
    ];
    let calls = asks.len();
    for ask in asks {
        let answer = world.send(&ask.bearer(&token)).await;
        let record = world.record_of("acme", &answer).await;
        assert_eq!(record["tenant.id"], "acme", "{record:#}");
        assert_eq!(record["gen_ai.agent.id"], "a1", "{record:#}");
    }
    let site = &world.gateway.site;
    assert_eq!(site.records("acme").len(), calls, "one call, one record");
    assert_eq!(site.records("globex"), Vec::<Value>::new());
    for line in world.gateway.log().lines() {
        let line: Value = serde_json::from_str(line).expect("a line is one object");
        assert_ne!(line["tenant"], "globex", "{line}");
    }
    let csv = site.cli_ok(&["report", "--by", "tenant,model", "--format", "csv"], "");
    for row in csv.lines().skip(1) {
        assert!(row.starts_with("\"acme\",\""), "{csv}");
        let cells = ["=", "+", "@"].map(|sign| format!("\"{sign}"));
        assert!(!cells.iter().any(|cell| row.contains(cell)), "{csv}");
    }
    let rows = csv.lines().count() - 1;
    let table = site.cli_ok(&["report", "--by", "tenant,model"], "");
    assert_eq!(
        table.lines().count(),
        rows + 2,
        "a head and a total: {table}"
    );
    let controls = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(!controls(&table), "{table}");
    let json = site.cli_ok(&["report", "--by", "tenant,model", "--json"], "");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let listed = json["rows"].as_array().unwrap();
    assert_eq!(listed.len(), rows);
    assert!(listed.iter().all(|row| row["tenant"] == "acme"), "{json:#}");
    let report = site.cli_ok(&["report", "--tenant", "globex", "--json"], "");
    assert!(!report.contains("HYPERLINK"), "{report}");
}
