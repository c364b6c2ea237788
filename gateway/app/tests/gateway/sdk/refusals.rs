//! Every refusal, met by real SDKs: the exception they raise and how often they try.
//!
//! What a refusal becomes in an SDK is a table in its script under `tests/sdk`; what each row needs
//! of the gateway is arranged here. A script says how many calls of each row it expects to be
//! refused and how many to be served. The gateway's records, which are one per try, must say the
//! same, and the mock must have seen the served calls and no others.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tollgate_testkit::wait::{until, within};

use super::tls::Tls;
use super::{node, python, run, run_at};
use crate::harness::{Ask, Plan, ProviderPlan, TenantPlan, World};

/// An SDK, its provider and one call of it in its own dialect.
struct Sdk {
    provider: &'static str,
    plan: fn(&str) -> ProviderPlan,
    /// The only models that are allowed; `acme*` are some that have no price.
    models: &'static str,
    /// Path and body of a small call.
    call: (&'static str, fn() -> Value),
    /// Whether it gives its token to TLS only.
    tls: bool,
    /// A daily cap in which a small call has room and one of a hundred thousand tokens has none.
    tight_usd: &'static str,
}

const OPENAI: Sdk = Sdk {
    provider: "openai",
    plan: ProviderPlan::openai,
    models: "\"gpt-4o-mini\", \"acme*\"",
    call: ("/openai/v1/chat/completions", crate::harness::chat),
    tls: false,
    tight_usd: "0.01",
};

const ANTHROPIC: Sdk = Sdk {
    provider: "anthropic",
    plan: ProviderPlan::anthropic,
    models: "\"claude-sonnet-4-5\", \"acme*\"",
    call: ("/anthropic/v1/messages", crate::harness::message),
    tls: false,
    tight_usd: "0.05",
};

const GEMINI: Sdk = Sdk {
    provider: "gemini",
    plan: ProviderPlan::gemini,
    models: "\"gemini-2.5-flash\", \"acme*\"",
    call: (
        "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
        || json!({"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": 64}}),
    ),
    tls: false,
    tight_usd: "0.02",
};

const BEDROCK: Sdk = Sdk {
    provider: "bedrock",
    plan: ProviderPlan::bedrock,
    models: "\"anthropic.claude-3-haiku*\", \"acme*\"",
    call: (
        "/bedrock/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
        || {
            json!({
                "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
                "inferenceConfig": {"maxTokens": 64},
            })
        },
    ),
    tls: true,
    tight_usd: "0.01",
};

/// The tenant of each row, except for the row that has no good token.
const TENANTS: [(&str, &str); 12] = [
    ("not_allowed", "acme"),
    ("credential_denied", "keyless"),
    ("model_not_priced", "acme"),
    ("requests", "slow"),
    ("wait", "steady"),
    ("tokens", "thirsty"),
    ("concurrent", "single"),
    ("cap", "spent"),
    ("headroom", "tight"),
    ("malformed", "acme"),
    ("too_large", "acme"),
    ("unreachable", "acme"),
];

/// A connection, with or without TLS.
trait Connection: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Connection for T {}

impl Sdk {
    /// Plans a gateway for all rows. What is returned keeps a port closed.
    fn arrange(&self, plan: &mut Plan) -> TcpSocket {
        let url = plan.provider("openai").url.clone();
        plan.gateway
            .push_str("[limits]\ninspected_body_mib = 1\nbody_memory_mib = 8\n");
        plan.providers.clear();
        plan.tenants.clear();
        plan.providers
            .insert(self.provider.to_owned(), (self.plan)(&url));
        // A port that is taken, so that nobody else gets it, and where nobody listens.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nowhere = format!("http://{}", closed.local_addr().unwrap());
        plan.providers
            .insert("down".to_owned(), (self.plan)(&nowhere));
        for (_, id) in TENANTS {
            plan.tenants
                .entry(id.to_owned())
                .or_insert_with(|| self.tenant(id));
        }
        closed
    }

    fn tenant(&self, id: &str) -> TenantPlan {
        let mut tenant = match id {
            "keyless" => TenantPlan::with_keys(id, &[]),
            "acme" => TenantPlan::with_keys(id, &[(self.provider, "key"), ("down", "other")]),
            _ => TenantPlan::with_keys(id, &[(self.provider, "key")]),
        };
        tenant.grants.clear();
        let models = format!("models = [{}]\n", self.models);
        tenant.allow(self.provider, &models).allow("down", &models);
        match id {
            "slow" => tenant.limits = "requests_per_minute = 1\nburst = 1\n".to_owned(),
            "steady" => tenant.limits = "requests_per_minute = 20\nburst = 1\n".to_owned(),
            "thirsty" => {
                tenant.limits = "tokens_per_minute = 10\ntoken_burst = 10\n".to_owned();
            }
            "single" => tenant.limits = "concurrent_requests = 1\n".to_owned(),
            "spent" => tenant.caps = "daily_usd = \"0\"\n".to_owned(),
            "tight" => tenant.caps = format!("daily_usd = \"{}\"\n", self.tight_usd),
            _ => {}
        }
        tenant
    }

    /// Runs the SDK's table.
    async fn meets(&self, mut script: Command) {
        let tls = self.tls.then(Tls::new);
        let mut _closed = None;
        let world = World::planned(|plan| {
            _closed = Some(self.arrange(plan));
            if let Some(tls) = &tls {
                tls.arrange(plan);
            }
        })
        .await;
        let mut tokens = BTreeMap::new();
        for (row, tenant) in TENANTS {
            tokens.insert(row, world.gateway.mint(tenant, "a1", row).await);
        }
        // Signed by nobody.
        let forged = "eyJhbGciOiJFZERTQSJ9.e30.AAAA";
        tokens.insert("unauthenticated", forged.to_owned());
        script.env("TOKENS", json!(tokens).to_string());

        // One call of the tenant that may make one at a time, under way until all is said.
        let (path, body) = self.call;
        let held = Ask::new("POST", path)
            .host("localhost")
            .bearer(&world.gateway.mint("single", "a1", "held").await)
            .header("x-mock", "hold")
            .json(&body());
        let (url, mut connection): (String, Box<dyn Connection>) = match &tls {
            Some(tls) => (
                tls.url(&world, &mut script),
                Box::new(tls.connect(&world).await),
            ),
            None => (
                format!("http://{}", world.gateway.address),
                Box::new(TcpStream::connect(world.gateway.address).await.unwrap()),
            ),
        };
        connection.write_all(&held.bytes()).await.unwrap();
        connection.flush().await.unwrap();
        within("the held call has arrived", world.mock.wait_for(1)).await;

        let output = run_at(&url, script, "none").await;
        let expected: BTreeMap<String, [usize; 2]> =
            serde_json::from_slice(&output.stdout).expect("what the script expects");
        world.mock.release();
        let mut status = [0; 12];
        connection.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200", "the call that was held");

        let served: usize = expected.values().map(|[_, served]| served).sum();
        assert_eq!(
            world.calls().len(),
            served + 1,
            "and the call that was held"
        );
        let rows: BTreeMap<&str, &str> = TENANTS
            .into_iter()
            .chain([("unauthenticated", "_gateway")])
            .collect();
        for row in rows.keys().filter(|row| **row != "wait") {
            assert!(expected.contains_key(*row), "the script has no row {row}");
        }
        for (row, tries) in &expected {
            let tenant = rows[row.as_str()];
            until(&format!("the records of row {row}"), || {
                let found = tries_of(&world, tenant, row);
                (found.iter().sum::<usize>() >= tries.iter().sum()).then_some(())
            })
            .await;
        }
        // Once more, for tries that came late.
        for (row, tries) in &expected {
            let found = tries_of(&world, rows[row.as_str()], row);
            assert_eq!(found, *tries, "row {row}: tries refused and served");
        }
    }
}

/// How many calls of a row were refused and how many served, by the records.
fn tries_of(world: &World, tenant: &str, row: &str) -> [usize; 2] {
    let mut records = world.gateway.site.records(tenant);
    // Who has no good token has no task.
    records.retain(|record| tenant == "_gateway" || record["tollgate.task.id"] == row);
    let (served, refused): (Vec<_>, Vec<_>) = records
        .iter()
        .partition(|record| record["tollgate.outcome"] == "completed");
    [refused.len(), served.len()]
}

#[tokio::test]
async fn openai_python_meets_every_refusal() {
    OPENAI.meets(python("openai_refusals.py", "")).await;
}

/// By itself, since a full disk refuses the calls of every row.
#[tokio::test]
async fn openai_python_meets_a_full_disk() {
    let world = World::on_small_disk().await;
    let tokens = json!({"ledger": world.gateway.mint("acme", "a1", "ledger").await});
    let mut script = python("openai_ledger.py", "");
    script.env("TOKENS", tokens.to_string());
    world.gateway.fill_disk();
    run(script, &world, "none").await;
    world.gateway.empty_disk();
    until("the records of the tries", || {
        (tries_of(&world, "acme", "ledger") == [3, 0]).then_some(())
    })
    .await;
    world.assert_no_contact();
}

#[tokio::test]
async fn openai_node_meets_every_refusal() {
    OPENAI.meets(node("openai_refusals.mjs", "")).await;
}

#[tokio::test]
async fn anthropic_python_meets_every_refusal() {
    ANTHROPIC.meets(python("anthropic_refusals.py", "")).await;
}

#[tokio::test]
async fn google_genai_meets_every_refusal() {
    GEMINI.meets(python("genai_refusals.py", "")).await;
}

#[tokio::test]
async fn boto3_meets_every_refusal() {
    BEDROCK.meets(python("boto3_refusals.py", "")).await;
}
