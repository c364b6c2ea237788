//! What is in a store is read by DuckDB as it lies, in every form, and sums to the last
//! pico-dollar.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tollgate_archive::store::{Place, StoreConfig};
use tollgate_core::audit::Form;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Retention;

use super::{Scene, Target};
use crate::harness::text;
use crate::sdk::python;

pub(super) fn duckdb(form: &str, directory: &Path) -> Vec<Value> {
    let mut command = python("duckdb_reads.py", form);
    let output = command.arg(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    serde_json::from_str(&said).unwrap()
}

/// What a tenant's records cost together, from the lines here.
fn cost(scene: &Scene, tenant: &str) -> (u64, PicoUsd) {
    let prefix = format!("audit/{tenant}/date=");
    let here = scene.here();
    let segments = here.iter().filter(|(name, _)| name.starts_with(&prefix));
    let lines = segments.flat_map(|(_, text)| text.split(|byte| *byte == b'\n'));
    let costs = lines.filter(|line| !line.is_empty()).map(|line| {
        let record: Value = serde_json::from_slice(line).unwrap();
        text(&record, "tollgate.cost_usd")
            .parse::<PicoUsd>()
            .unwrap()
    });
    costs.fold((0, PicoUsd::ZERO), |(count, sum), cost| {
        (count + 1, sum.checked_add(cost).unwrap())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_reads_every_form_as_it_lies_and_sums_to_the_last_pico_dollar() {
    for (name, form) in [
        ("jsonl", Form::JsonLines),
        ("zstd", Form::Zstd),
        ("parquet", Form::Parquet),
    ] {
        let scene = Scene::new();
        let directory = tempfile::tempdir().unwrap();
        let target = Target {
            config: StoreConfig::new(Place::Directory(directory.path().join("copy"))),
            variables: Vec::new(),
            retention: Arc::new(|_| Retention::default()),
        };
        scene.copy(&target, form).await;
        let read = duckdb(name, &directory.path().join("copy"));
        for tenant in ["acme", "globex"] {
            let rows: Vec<&Value> = read.iter().filter(|row| row["tenant"] == tenant).collect();
            let [row] = &rows[..] else {
                panic!("one model and day: {read:#?}");
            };
            let (calls, sum) = cost(&scene, tenant);
            assert!(sum > PicoUsd::ZERO && sum.as_pico() % 1_000 != 0, "{sum:?}");
            assert_eq!(text(row, "cost").parse(), Ok(sum), "{name}");
            assert_eq!(row["calls"], calls, "{name}");
            assert_eq!(row["date"], "2026-11-18", "{name}");
        }
    }
}
