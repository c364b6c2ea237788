//! Every metric a dashboard asks for is one the gateway serves, and every one it serves is explained.

use std::collections::BTreeSet;
use std::path::Path;

use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, World, chat};

/// The names of our metrics in a text, without the endings that histograms add.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("tollgate_"))
        .map(|word| {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| word.strip_suffix(ending));
            base.unwrap_or(word).to_owned()
        })
        .collect()
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The names of all metrics of a gateway that has served, refused and given notice.
async fn served() -> BTreeSet<String> {
    let store = tempfile::tempdir().expect("a directory");
    let world = World::planned(|plan| {
        let url = store.path().display();
        // Nobody listens there.
        plan.gateway = format!(
            "[records.store]\nurl = \"file://{url}\"\n\
             [records.otlp]\nendpoint = \"https://127.0.0.1:1\"\nprotocol = \"grpc\"\n\
             [traces]\nendpoint = \"https://127.0.0.1:1\"\nprotocol = \"grpc\"\n"
        );
        plan.tenant("globex").caps = "daily_usd = \"0.000001\"\n".to_owned();
    })
    .await;
    let call = Ask::new("POST", "/openai/v1/chat/completions").json(&chat());
    assert_eq!(world.send(&call).await.status, 401);
    let rich = call.clone().bearer(&world.token("acme").await);
    assert_eq!(world.send(&rich).await.status, 200);
    let poor = call.bearer(&world.token("globex").await);
    assert_eq!(world.send(&poor).await.status, 429);
    let mut served = BTreeSet::new();
    eventually("the notice is counted", async || {
        let (status, text) = world.gateway.admin_get("/metrics").await;
        assert_eq!(status, 200);
        served = names(&text);
        served.contains("tollgate_cap_notices_total")
    })
    .await;
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_dashboards_is_served_and_every_one_served_is_explained() {
    let served = served().await;
    let mut asked = BTreeSet::new();
    for file in std::fs::read_dir(repository().join("dashboards")).expect("the dashboards") {
        let path = file.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(path).expect("a dashboard");
        let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().expect("targets") {
                asked.extend(names(target["expr"].as_str().expect("an expression")));
            }
        }
    }
    let missing: Vec<_> = asked.difference(&served).collect();
    assert!(asked.len() >= 5, "the dashboards ask for {asked:?}");
    assert!(missing.is_empty(), "asked for but not served: {missing:?}");

    let manual = repository().join("docs/operations.md");
    let manual = std::fs::read_to_string(manual).expect("the manual");
    let rows = manual
        .lines()
        .filter(|line| line.starts_with("| `tollgate_"));
    let explained: BTreeSet<_> = rows
        .filter_map(|row| names(row).into_iter().next())
        .collect();
    assert_eq!(explained, served, "the table of metrics in the manual");
}
