//! Every metric a dashboard asks for is one the gateway serves.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{Ask, World, chat};

/// The names of our metrics in a text, without the endings that histograms add.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("tollgate_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_dashboards_is_served() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let call = Ask::new("POST", "/openai/v1/chat/completions").json(&chat());
    assert_eq!(world.send(&call).await.status, 401);
    assert_eq!(world.send(&call.bearer(&token)).await.status, 200);
    let (status, served) = world.gateway.admin_get("/metrics").await;
    assert_eq!(status, 200);
    let served = names(&served);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards");
    let mut asked = BTreeSet::new();
    for file in std::fs::read_dir(directory).expect("the dashboards") {
        let text = std::fs::read_to_string(file.expect("an entry").path()).expect("a dashboard");
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
}
