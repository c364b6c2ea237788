//! The clients that agents really use, unmodified, against the running binary.
//!
//! The scripts stand in `tests/sdk` and check what their SDK shows; here the records are checked.
//! The SDKs themselves are installed by `make sdk`, pinned, under `target/sdk`. A test whose SDK is
//! lacking fails and says so: a pass always means that the SDK ran.

mod clouds;
mod frameworks;
mod media;
mod oidc;
mod refusals;
mod tls;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use tollgate_loadtest::mock::SeenRequest;

use crate::harness::{World, chat, key, text};

const BEARS_OPENAI_KEY: &str = "authorization";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// Where `make sdk` put something.
fn installed(what: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/sdk")
        .join(what);
    assert!(
        path.exists(),
        "{} is not there; run `make sdk` first",
        path.display()
    );
    path.canonicalize().unwrap()
}

pub(crate) fn python(script: &str, mode: &str) -> Command {
    // Not canonical: the path through the environment is what makes its packages visible.
    installed("python/bin/python");
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/sdk/python");
    let mut command = Command::new(environment.join("bin/python"));
    command.arg("-B").arg(sources().join(script)).arg(mode);
    command
}

pub(crate) fn node(script: &str, mode: &str) -> Command {
    let mut command = Command::new("node");
    command.env("SDK_MODULES", installed("node/node_modules"));
    command.arg(sources().join(script)).arg(mode);
    command
}

/// Runs a client to its end, beside the mock in this process.
async fn run(command: Command, world: &World, token: &str) -> Output {
    let url = format!("http://{}", world.gateway.address);
    run_at(&url, command, token).await
}

/// As [`run`], with the gateway at `url`.
pub(crate) async fn run_at(url: &str, mut command: Command, token: &str) -> Output {
    command
        .env("TOLLGATE_URL", url)
        .env("TASK_TOKEN", token)
        .env("NO_PROXY", "*");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a client as `acme`; checks that each of its calls bore acme's key and left a record.
async fn runs_well(command: Command, header: &str, provider: &str) -> Vec<Value> {
    let world = World::new().await;
    let url = format!("http://{}", world.gateway.address);
    runs_well_in(&world, &url, command, header, provider).await
}

/// As [`runs_well`], with the gateway of `world` at `url`.
async fn runs_well_in(
    world: &World,
    url: &str,
    command: Command,
    header: &str,
    provider: &str,
) -> Vec<Value> {
    let token = world.token("acme").await;
    run_at(url, command, &token).await;
    let calls = world.calls();
    assert!(!calls.is_empty());
    for seen in &calls {
        let [value] = &seen.header_values(header)[..] else {
            panic!("one credential: {seen:?}");
        };
        assert!(value.ends_with(&key("acme", provider)), "{seen:?}");
        assert!(!seen.mentions(&token), "{seen:?}");
    }
    let records = world.gateway.site.records_when("acme", calls.len()).await;
    assert_eq!(records.len(), calls.len(), "one record for each call");
    for record in &records {
        assert_eq!(text(record, "tollgate.outcome"), "completed", "{record:#}");
        assert_eq!(record["http.response.status_code"], 200, "{record:#}");
        if record.get("gen_ai.request.model").is_some() {
            let metered = record["tollgate.cost_usd"] != "0";
            let source = text(record, "tollgate.usage.source");
            assert_eq!(source, if metered { "exact" } else { "none" }, "{record:#}");
        }
    }
    assert_eq!(
        recorded_tokens(&records),
        billed_tokens(&calls),
        "the mock's own bill"
    );
    records
}

/// The tokens in and out of each metered record, in no order.
fn recorded_tokens(records: &[Value]) -> Vec<(u64, u64)> {
    let mut tokens: Vec<_> = records
        .iter()
        .filter(|record| record["tollgate.usage.source"] == "exact")
        .map(|record| {
            let count = |name: &str| record["tollgate.usage"][name].as_u64().unwrap_or(0);
            let input = count("input_tokens");
            (input, count("output_tokens"))
        })
        .collect();
    tokens.sort_unstable();
    tokens
}

/// The tokens in and out that the mock billed for each call, in no order.
fn billed_tokens(calls: &[SeenRequest]) -> Vec<(u64, u64)> {
    let mut tokens: Vec<_> = calls
        .iter()
        .filter_map(|seen| seen.billed)
        .map(|billed| (billed.input, billed.output))
        .collect();
    tokens.sort_unstable();
    tokens
}

/// Runs a client as a tenant whose cap is reached; checks that it called once and reached nobody.
async fn is_refused_once(command: Command) {
    let world = World::planned(|plan| {
        plan.tenant("globex").caps = "daily_usd = \"0\"\n".to_owned();
    })
    .await;
    let poor = world.token("globex").await;
    run(command, &world, &poor).await;
    world.assert_no_contact();
    let records = world.gateway.site.records_when("globex", 1).await;
    assert_eq!(records.len(), 1, "the SDK did not try again: {records:#?}");
    assert_eq!(text(&records[0], "tollgate.outcome"), "refused");

    // The other tenant sees no difference.
    let token = world.token("acme").await;
    let ask = crate::harness::Ask::new("POST", "/openai/v1/chat/completions");
    let answer = world.send(&ask.bearer(&token).json(&chat())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// How many of the records are of metered calls.
fn metered(records: &[Value]) -> usize {
    records
        .iter()
        .filter(|record| record["tollgate.usage.source"] == "exact")
        .count()
}

#[tokio::test]
async fn openai_python_sync() {
    let records = runs_well(
        python("openai_python.py", "sync"),
        BEARS_OPENAI_KEY,
        "openai",
    )
    .await;
    assert_eq!((records.len(), metered(&records)), (2, 1));
}

#[tokio::test]
async fn openai_python_async() {
    let records = runs_well(
        python("openai_python.py", "async"),
        BEARS_OPENAI_KEY,
        "openai",
    )
    .await;
    assert_eq!(metered(&records), 9);
}

#[tokio::test]
async fn openai_python_stream() {
    let records = runs_well(
        python("openai_python.py", "stream"),
        BEARS_OPENAI_KEY,
        "openai",
    )
    .await;
    assert_eq!(metered(&records), 2);
}

#[tokio::test]
async fn openai_python_with_raw_response() {
    let records = runs_well(
        python("openai_python.py", "raw"),
        BEARS_OPENAI_KEY,
        "openai",
    )
    .await;
    assert_eq!(metered(&records), 1);
}

#[tokio::test]
async fn openai_python_responses() {
    let script = python("openai_python.py", "responses");
    assert_eq!(
        metered(&runs_well(script, BEARS_OPENAI_KEY, "openai").await),
        2
    );
}

#[tokio::test]
async fn openai_python_embeddings() {
    let script = python("openai_python.py", "embeddings");
    assert_eq!(
        metered(&runs_well(script, BEARS_OPENAI_KEY, "openai").await),
        1
    );
}

#[tokio::test]
async fn openai_python_at_its_cap_does_not_try_again() {
    is_refused_once(python("openai_python.py", "cap")).await;
}

#[tokio::test]
async fn openai_node() {
    let records = runs_well(node("openai_node.mjs", "plain"), BEARS_OPENAI_KEY, "openai").await;
    assert_eq!(metered(&records), 5);
}

#[tokio::test]
async fn openai_node_stream() {
    let records = runs_well(
        node("openai_node.mjs", "stream"),
        BEARS_OPENAI_KEY,
        "openai",
    )
    .await;
    assert_eq!(metered(&records), 2);
}

#[tokio::test]
async fn openai_node_at_its_cap_does_not_try_again() {
    is_refused_once(node("openai_node.mjs", "cap")).await;
}

#[tokio::test]
async fn anthropic_python() {
    let records = runs_well(
        python("anthropic_python.py", "plain"),
        "x-api-key",
        "anthropic",
    )
    .await;
    assert_eq!((records.len(), metered(&records)), (2, 1));
}

#[tokio::test]
async fn anthropic_python_stream() {
    let script = python("anthropic_python.py", "stream");
    assert_eq!(
        metered(&runs_well(script, "x-api-key", "anthropic").await),
        1
    );
}

#[tokio::test]
async fn anthropic_python_at_its_cap_does_not_try_again() {
    is_refused_once(python("anthropic_python.py", "cap")).await;
}

/// curl, plain and streaming, with `version` as its protocol option.
async fn curl_works(version: &str, protocol: &str) {
    let world = World::new().await;
    let token = world.token("acme").await;
    for stream in [false, true] {
        let mut body = chat();
        body["stream"] = stream.into();
        let url = format!(
            "http://{}/openai/v1/chat/completions",
            world.gateway.address
        );
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--no-buffer",
                version,
            ])
            .args([
                "--max-time",
                "30",
                "--write-out",
                "\n%{http_code} %{http_version}",
            ])
            .args(["--header", &format!("authorization: Bearer {token}")])
            .args(["--header", "content-type: application/json"])
            .args(["--data", &body.to_string(), &url]);
        let output = run(command, &world, &token).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.ends_with(&format!("\n200 {protocol}")), "{said}");
        let sign = if stream {
            "data: [DONE]"
        } else {
            "chat.completion"
        };
        assert!(said.contains(sign), "{said}");
    }
    let records = world.gateway.site.records_when("acme", 2).await;
    assert_eq!(metered(&records), 2);
}

#[tokio::test]
async fn curl_over_http_1_1() {
    curl_works("--http1.1", "1.1").await;
}

#[tokio::test]
async fn curl_over_http_2_with_prior_knowledge() {
    curl_works("--http2-prior-knowledge", "2").await;
}

#[tokio::test]
async fn curl_that_offers_an_upgrade_stays_on_http_1_1() {
    curl_works("--http2", "1.1").await;
}
