//! Agent frameworks and coding agents, unmodified: two tenants at once, each with its own keys and records.
//!
//! A framework plays both tenants in one process, where a client or key that it keeps globally would
//! show. Nobody may send a prompt, let alone a token, anywhere but to the gateway: in Python a hook stops
//! every other connection, all else runs behind a proxy that lets nothing through and keeps what it was asked.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tollgate_loadtest::mock::SeenRequest;

use super::{billed_tokens, installed, node, recorded_tokens, sources};
use crate::harness::{Scripted, World, answer, key, text};

const TENANTS: [&str; 2] = ["acme", "globex"];

/// What switches off whatever a framework would send to its makers.
const QUIET: [(&str, &str); 2] = [
    ("CREWAI_DISABLE_TELEMETRY", "true"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
];

/// A gateway, both tenants' tokens, a home for whatever is written, and a proxy that serves nobody.
struct Stage {
    world: World,
    tokens: [String; 2],
    home: TempDir,
    proxy: Scripted,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new().await;
        let tokens = [world.token("acme").await, world.token("globex").await];
        let home = tempfile::tempdir().unwrap();
        let refusal =
            |_: usize, _: &crate::harness::Heard| answer("502 Bad Gateway", "text/plain", "");
        let proxy = Scripted::start(refusal).await;
        Self {
            world,
            tokens,
            home,
            proxy,
        }
    }

    /// Runs a client to its end in an environment that holds what it needs and nothing else.
    async fn run(&self, mut command: Command, variables: &[(&str, &str)]) -> String {
        let proxy = self.proxy.url();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("TOLLGATE_URL", self.url(""))
            .env("ACME_TOKEN", &self.tokens[0])
            .env("GLOBEX_TOKEN", &self.tokens[1])
            .env("SDK_MODULES", installed("node/node_modules"))
            .env("HTTP_PROXY", &proxy)
            .env("HTTPS_PROXY", &proxy)
            .env("NO_PROXY", "127.0.0.1")
            .envs(QUIET)
            .envs(variables.iter().copied())
            .current_dir(self.home.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{errors}");
        said
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.world.gateway.address)
    }

    /// Checks that each tenant made as many `calls`, with its own key and a record of its own for each.
    async fn kept_apart(&self, calls: [usize; 2]) {
        assert_eq!(self.proxy.heard().len(), 0, "{:?}", self.proxy.heard());
        let seen = self.world.calls();
        for ((tenant, calls), token) in TENANTS.into_iter().zip(calls).zip(&self.tokens) {
            let own: Vec<SeenRequest> = seen
                .iter()
                .filter(|seen| bears_key_of(tenant, seen))
                .cloned()
                .collect();
            assert_eq!(own.len(), calls, "calls with a key of {tenant}: {seen:#?}");
            assert!(
                seen.iter().all(|seen| !seen.mentions(token)),
                "a token left"
            );
            let records = self.world.gateway.site.records_when(tenant, calls).await;
            assert_eq!(records.len(), calls, "records of {tenant}: {records:#?}");
            assert!(
                records.iter().all(|record| is_exact_of(tenant, record)),
                "{records:#?}"
            );
            assert_eq!(recorded_tokens(&records), billed_tokens(&own), "{tenant}");
        }
        assert_eq!(seen.len(), calls.iter().sum::<usize>(), "{seen:#?}");
    }
}

fn bears_key_of(tenant: &str, seen: &SeenRequest) -> bool {
    let bearer = format!("Bearer {}", key(tenant, "openai"));
    seen.header_values("authorization") == [bearer.as_str()]
        || seen.header_values("x-api-key") == [key(tenant, "anthropic").as_str()]
}

fn is_exact_of(tenant: &str, record: &Value) -> bool {
    text(record, "tenant.id") == tenant
        && text(record, "tollgate.outcome") == "completed"
        && text(record, "tollgate.usage.source") == "exact"
}

fn python(environment: &str, script: &str) -> Command {
    // Not canonical: the path through the environment is what makes its packages visible.
    installed(&format!("{environment}/bin/python"));
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/sdk");
    let mut command = Command::new(target.join(environment).join("bin/python"));
    let script = sources().join("frameworks").join(script);
    command.arg("-B").arg(script);
    command
}

async fn framework(environment: &str, script: &str, calls: [usize; 2]) {
    let stage = Stage::new().await;
    // Python has a hook of its own, which sees where a connection goes.
    let direct = [("NO_PROXY", "*")];
    stage.run(python(environment, script), &direct).await;
    stage.kept_apart(calls).await;
}

#[tokio::test]
async fn langchain_and_langgraph_keep_two_tenants_apart() {
    framework("frameworks", "langchain_agent.py", [3, 3]).await;
}

#[tokio::test]
async fn openai_agents_sdk_keeps_two_tenants_apart_and_its_tracing_is_what_must_be_off() {
    // One more of acme: the call whose trace is stopped on its way to OpenAI.
    framework("frameworks", "agents_sdk.py", [4, 3]).await;
}

#[tokio::test]
async fn autogen_keeps_two_tenants_apart() {
    framework("frameworks", "autogen_agent.py", [3, 3]).await;
}

#[tokio::test]
async fn crewai_keeps_two_tenants_apart() {
    framework("crewai", "crew.py", [3, 3]).await;
}

#[tokio::test]
async fn vercel_ai_sdk_keeps_two_tenants_apart() {
    let stage = Stage::new().await;
    stage.run(node("frameworks/vercel.mjs", ""), &[]).await;
    stage.kept_apart([9, 9]).await;
}

/// The package's own launcher, which finds the binary for this machine.
fn launcher(package: &str, file: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(installed("node/node_modules").join(package).join(file));
    command
}

#[tokio::test]
async fn claude_code_by_environment_variables_keeps_two_tenants_apart() {
    let stage = Stage::new().await;
    let gateway = stage.url("/anthropic");
    for (tenant, token) in TENANTS.into_iter().zip(&stage.tokens) {
        let mut command = launcher("@anthropic-ai/claude-code", "cli-wrapper.cjs");
        let made = format!("made-by-{tenant}");
        let prompt =
            format!("Call Bash({{\"command\":\"touch {made}\",\"description\":\"makes a file\"}})");
        command.args(["--model", "claude-sonnet-4-5", "--allowedTools", "Bash"]);
        command.args(["--print", &prompt]);
        let variables = [
            ("ANTHROPIC_BASE_URL", gateway.as_str()),
            ("ANTHROPIC_AUTH_TOKEN", token),
        ];
        let said = stage.run(command, &variables).await;
        assert!(said.contains("All is well."), "{said}");
        assert!(stage.home.path().join(&made).exists(), "the tool has run");
    }
    stage.kept_apart([2, 2]).await;
}

#[tokio::test]
async fn codex_with_a_provider_of_its_own_keeps_two_tenants_apart() {
    let stage = Stage::new().await;
    let settings = super::super::guides::block("sdks.md", "~/.codex/config.toml")
        .replace("http://127.0.0.1:8080", &stage.url(""));
    let home = stage.home.path().join(".codex");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.toml"), settings).unwrap();
    for token in &stage.tokens {
        let mut command = launcher("@openai/codex", "bin/codex.js");
        command.args(["exec", "--skip-git-repo-check", "Say hello."]);
        let said = stage.run(command, &[("OPENAI_API_KEY", token)]).await;
        assert!(said.contains("All is well."), "{said}");
    }
    stage.kept_apart([1, 1]).await;
}
