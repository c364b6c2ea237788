//! The clients of Google and Amazon.

use super::tls::Tls;
use super::{metered, python, run_at, runs_well_in};
use crate::harness::{Plan, ProviderPlan, TenantPlan, World};

/// Puts `provider` in the place of all others, and gives `acme` a key for it.
fn only(plan: &mut Plan, provider: &str, make: fn(&str) -> ProviderPlan) {
    let made = make(&plan.provider("openai").url);
    plan.providers.clear();
    plan.tenants.clear();
    plan.providers.insert(provider.to_owned(), made);
    let name = format!("{provider}_key");
    let tenant = TenantPlan::with_keys("acme", &[(provider, &name)]);
    plan.tenants.insert("acme".to_owned(), tenant);
}

async fn genai_runs_well(mode: &str, calls: usize, paid: usize) {
    let world = World::planned(|plan| only(plan, "gemini", ProviderPlan::gemini)).await;
    let url = format!("http://{}", world.gateway.address);
    let script = python("genai.py", mode);
    let records = runs_well_in(&world, &url, script, "x-goog-api-key", "gemini").await;
    assert_eq!((records.len(), metered(&records)), (calls, paid));
}

#[tokio::test]
async fn google_genai() {
    genai_runs_well("plain", 3, 2).await;
}

#[tokio::test]
async fn google_genai_stream() {
    genai_runs_well("stream", 1, 1).await;
}

#[tokio::test]
async fn google_genai_with_a_handle_for_its_key() {
    genai_runs_well("handle", 1, 1).await;
}

async fn boto3_runs_well(mode: &str) {
    let tls = Tls::new();
    let world = World::planned(|plan| {
        only(plan, "bedrock", ProviderPlan::bedrock);
        tls.arrange(plan);
    })
    .await;
    let mut script = python("bedrock.py", mode);
    let url = tls.url(&world, &mut script);
    let records = runs_well_in(&world, &url, script, "authorization", "bedrock").await;
    assert_eq!((records.len(), metered(&records)), (2, 2));
}

#[tokio::test]
async fn boto3_converse_and_invoke_model() {
    boto3_runs_well("plain").await;
}

#[tokio::test]
async fn boto3_streams() {
    boto3_runs_well("stream").await;
}

#[tokio::test]
async fn boto3_through_a_gateway_that_signs() {
    let tls = Tls::new();
    let world = World::planned(|plan| {
        only(plan, "bedrock", ProviderPlan::bedrock);
        let place = "place = { aws_sigv4 = \"bedrock\", region = \"us-east-1\" }\n";
        plan.provider("bedrock").more.push_str(place);
        let key = "{\"access_key_id\":\"AKIDEXAMPLE\",\"secret_access_key\":\"sk-canary-aws-key\"}";
        plan.tenant("acme").secret("bedrock_key", key);
        tls.arrange(plan);
    })
    .await;
    let token = world.token("acme").await;
    for mode in ["plain", "stream"] {
        let mut script = python("bedrock.py", mode);
        let url = tls.url(&world, &mut script);
        run_at(&url, script, &token).await;
    }
    for seen in world.calls() {
        let signature = seen
            .headers
            .iter()
            .find(|(name, _)| name == "authorization");
        let signature = signature.expect("a signature").1.to_str().unwrap();
        assert!(
            signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            "{signature}"
        );
    }
}
