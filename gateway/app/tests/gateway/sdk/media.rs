//! OpenAI's endpoints besides text, through its own SDK.

use serde_json::Value;

use super::{python, run};
use crate::harness::{World, key, text};

/// Model, tokens in and out, source of the usage.
fn row(record: &Value) -> (&str, u64, u64, &str) {
    let count = |name: &str| record["tollgate.usage"][name].as_u64().unwrap_or(0);
    (
        text(record, "gen_ai.request.model"),
        count("input_tokens"),
        count("output_tokens"),
        text(record, "tollgate.usage.source"),
    )
}

#[tokio::test]
async fn each_endpoint_of_openai_leaves_its_record() {
    let world = World::planned(|plan| {
        let openai = plan.provider("openai");
        for (path, operation) in [
            ("/v1/completions", "completions"),
            ("/v1/images/generations", "image_generations"),
            ("/v1/audio/transcriptions", "transcriptions"),
            ("/v1/audio/speech", "speech"),
        ] {
            openai.endpoint("POST", path, operation, "");
        }
    })
    .await;
    let token = world.token("acme").await;
    run(python("openai_media.py", ""), &world, &token).await;
    let calls = world.calls();
    for seen in &calls {
        let value = seen.header("authorization").unwrap();
        assert!(value.ends_with(&key("acme", "openai")), "{seen:?}");
        assert!(!seen.mentions(&token), "{seen:?}");
    }
    let records = world.gateway.site.records_when("acme", calls.len()).await;
    let rows: Vec<_> = records.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            ("gpt-3.5-turbo-instruct", 10, 20, "exact"),
            ("text-embedding-3-small", 10, 0, "exact"),
            ("gpt-image-1", 50, 1056, "exact"),
            ("gpt-4o-mini-transcribe", 10, 20, "exact"),
            ("whisper-1", 0, 0, "exact"),
            ("tts-1", 0, 0, "exact"),
        ],
        "{records:#?}"
    );
    for record in &records {
        assert_ne!(record["tollgate.cost_usd"], "0", "{record:#}");
    }
}
