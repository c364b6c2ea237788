//! What an explanation says, and that asking for it changes nothing.

use http::Method;
use serde_json::json;
use tollgate_core::identity::{KeySet, TokenRequest};
use tollgate_core::registry::Liveness;

use super::*;
use crate::fakes::{Asked, Fakes, gateway, head, noon, snapshot};
use crate::gateway::Gateway;

const TENANT: &str = r#"
[tenant]
id = "acme"

[caps]
daily_usd = "25"

[limits]
requests_per_minute = 60

[[allow]]
provider = "openai"
models = ["gpt-4o*"]
agents = ["someone"]

[[allow]]
provider = "openai"
models = ["gpt-4.1*"]

[credentials]
key = { provider = "openai", default = true }
"#;

const CHAT: &str = "/openai/v1/chat/completions";
const SMALL: &str = r#"{"model":"gpt-4.1","max_tokens":1000,"messages":[]}"#;

fn bot() -> Identity {
    Identity::Claimed {
        tenant: "acme".parse().unwrap(),
        agent: "bot".parse().unwrap(),
        task: "t-1".parse().unwrap(),
    }
}

fn world(tenant: &str) -> (Arc<Gateway>, Arc<Fakes>) {
    gateway(snapshot(tenant, KeySet::new("tollgate")))
}

async fn explained(
    gw: &Gateway,
    is_live: bool,
    who: &Identity,
    head: &Parts,
    body: &str,
) -> Explanation {
    let live = gw.live.snapshot();
    let view = View {
        live: &live,
        limits: &gw.limits,
        stores: is_live.then_some(&gw.stores),
        sealed: is_live.then_some(&gw.sealed),
        now: noon(),
        hints: true,
    };
    explain(&view, who, head, Bytes::copy_from_slice(body.as_bytes())).await
}

fn stages(of: &Explanation) -> Vec<(&'static str, bool)> {
    of.steps.iter().map(|of| (of.stage, of.passed)).collect()
}

#[tokio::test]
async fn an_allowed_call_names_every_rule_and_takes_nothing() {
    let (gw, fakes) = world(TENANT);
    let head = head(Method::POST, CHAT, &["authorization: Bearer $CRED{key}"]);
    let told = explained(&gw, true, &bot(), &head, SMALL).await;
    assert!(told.allowed && told.refusal.is_none(), "{told:#?}");
    let passed = [
        "identity",
        "route",
        "grant",
        "credential",
        "model",
        "money",
        "pace",
    ];
    assert_eq!(stages(&told), passed.map(|stage| (stage, true)));
    let [_, route, grant, credential, model, money, pace] = &told.steps[..] else {
        panic!("{told:#?}");
    };
    assert_eq!(
        route.decided_by.as_deref(),
        Some("provider openai, [[endpoint]] POST /v1/chat/completions")
    );
    assert_eq!(grant.facts["allow"], 2, "the first names another agent");
    assert_eq!(model.facts["allow"], 2);
    assert_eq!(
        credential.decision,
        "key would go into the header authorization after \"Bearer \", to https://api.openai.example"
    );
    let reserved = money.facts["reserved_usd"].as_str().expect("an amount");
    assert!(reserved.starts_with("0.00"), "{reserved}");
    assert_eq!(money.facts["caps"][0]["cap"], "acme/tenant/day:2026-11-23");
    assert_eq!(money.facts["caps"][0]["left_usd"], "25");
    assert_eq!(
        pace.facts["limits"],
        json!([{ "limit": "acme/tenant/requests_per_minute", "per_minute": 60, "burst": 6 }])
    );
    assert_eq!(
        fakes.asked(),
        Vec::<Asked>::new(),
        "nothing is asked to be done"
    );
}

#[tokio::test]
async fn an_elevated_action_names_the_rule_that_lets_it_or_all_that_do_not() {
    let rule =
        "\n[[elevated]]\nprovider = \"openai\"\nmethods = [\"DELETE\"]\nagents = [\"root\"]\n";
    let free = TENANT.replace("daily_usd = \"25\"\n", "");
    let (gw, _) = world(&(free.clone() + rule + &rule.replace("root", "b*")));
    let head = || head(Method::DELETE, "/openai/v1/files", &[]);
    let told = explained(&gw, false, &bot(), &head(), "").await;
    assert!(told.allowed, "{told:#?}");
    let step = &told.steps[3];
    assert_eq!(
        (step.stage, &step.facts["elevated"]),
        ("elevation", &json!(2))
    );
    assert_eq!(
        step.decided_by.as_deref(),
        Some("tenant acme, [[elevated]] 2: provider openai, methods DELETE, agents b*")
    );

    let (gw, _) = world(&(free + rule));
    let told = explained(&gw, false, &bot(), &head(), "").await;
    let refusal = told.refusal.expect("a refusal");
    assert_eq!(
        (refusal.status, refusal.code, refusal.reason),
        (403, "not_allowed", "elevated_not_granted")
    );
    let last = told.steps.last().expect("a step");
    assert_eq!((last.stage, last.passed), ("elevation", false));
    assert_eq!(
        last.hint.as_deref(),
        Some(
            "none of these lets it: tenant acme, [[elevated]] 1: provider openai, methods DELETE, agents root"
        )
    );
}

/// Calls that are refused, and where: the stage, the code and the reason.
fn refused() -> Vec<(Identity, Parts, &'static str, [&'static str; 3])> {
    let chat = |lines: &[&str]| head(Method::POST, CHAT, lines);
    let nobody = || Identity::Claimed {
        tenant: "nobody".parse().unwrap(),
        agent: "bot".parse().unwrap(),
        task: "t-1".parse().unwrap(),
    };
    let huge = r#"{"model":"gpt-4.1","n":100,"max_tokens":1000000,"messages":[]}"#;
    let at = |method, path| head(method, path, &[]);
    let other = chat(&["authorization: Bearer $CRED{other}"]);
    let denied = r#"{"model":"gpt-4o"}"#;
    vec![
        (
            bot(),
            chat(&[]),
            "{",
            ["request", "invalid_json", "invalid_json"],
        ),
        (
            nobody(),
            chat(&[]),
            SMALL,
            ["identity", "invalid_api_key", "tenant_unknown"],
        ),
        (
            Identity::Shown,
            chat(&[]),
            SMALL,
            ["identity", "invalid_api_key", "token_missing"],
        ),
        (
            bot(),
            at(Method::GET, CHAT),
            "",
            ["route", "not_allowed", "method"],
        ),
        (
            bot(),
            at(Method::GET, "/nowhere/x"),
            "",
            ["route", "not_allowed", "route"],
        ),
        (
            bot(),
            other,
            SMALL,
            ["credential", "credential_denied", "credential_unknown"],
        ),
        (bot(), chat(&[]), denied, ["model", "not_allowed", "model"]),
        (
            bot(),
            chat(&[]),
            huge,
            [
                "money",
                "request_exceeds_headroom",
                "request_exceeds_headroom",
            ],
        ),
        (
            bot(),
            at(Method::DELETE, "/openai/v1/files"),
            "",
            ["money", "model_not_priced", "model_not_priced"],
        ),
    ]
}

#[tokio::test]
async fn a_refusal_ends_at_its_stage_and_says_what_the_caller_hears() {
    let (gw, fakes) = world(TENANT);
    for (who, head, body, [stage, code, reason]) in refused() {
        for is_live in [true, false] {
            let told = explained(&gw, is_live, &who, &head, body).await;
            let refusal = told.refusal.as_ref().expect("a refusal");
            assert_eq!((refusal.code, refusal.reason), (code, reason), "{told:#?}");
            assert_eq!(stages(&told).last(), Some(&(stage, false)), "{told:#?}");
            let before = told.steps.len().saturating_sub(1);
            assert!(told.steps[..before].iter().all(|step| step.passed));
        }
    }
    assert_eq!(fakes.asked(), Vec::<Asked>::new());
}

#[tokio::test]
async fn hints_name_routes_to_those_who_may_know_them() {
    let (gw, _) = world(TENANT);
    let live = gw.live.snapshot();
    for (path, hints, expected) in [
        (
            "/openai/v1/chat/completion",
            true,
            Some("the nearest are POST /openai/v1/chat/completions, "),
        ),
        ("/opneai/v1/models", true, Some("the providers are openai")),
        ("/openai/v1/chat/completion", false, None),
    ] {
        let view = View {
            live: &live,
            limits: &gw.limits,
            stores: None,
            sealed: None,
            now: noon(),
            hints,
        };
        let head = head(Method::POST, path, &[]);
        let told = explain(&view, &bot(), &head, Bytes::new()).await;
        let by = told.steps.last().and_then(|step| step.hint.as_deref());
        match expected {
            Some(start) => assert!(by.is_some_and(|by| by.starts_with(start)), "{by:?}"),
            None => assert_eq!(by, None),
        }
    }
}

#[tokio::test]
async fn a_lowered_bound_is_told_and_nothing_is_written() {
    let tenant = format!("{TENANT}\n[clamp]\nmax_output_tokens = 500\n");
    let (gw, _) = world(&tenant);
    let head = head(Method::POST, CHAT, &[]);
    let told = explained(&gw, true, &bot(), &head, SMALL).await;
    assert!(told.allowed, "{told:#?}");
    let money = told.steps.iter().find(|step| step.stage == "money");
    let money = money.expect("a step about money");
    assert_eq!(money.facts["clamped_to"], 500);
    assert!(
        money
            .decision
            .ends_with("; its output bound would be lowered to 500")
    );
    assert_eq!(told.notes, ["output_clamped"]);
}

#[tokio::test]
async fn values_of_headers_and_queries_are_not_repeated() {
    let (gw, _) = world(TENANT);
    let target = format!("{CHAT}?key=sk-canary-query");
    let lines = [
        "x-api-key: sk-canary-header",
        "openai-organization: sk-canary-claim",
        "x-other: sk-canary-other",
    ];
    for body in [SMALL, "sk-canary-body"] {
        let head = head(Method::POST, &target, &lines);
        let told = explained(&gw, true, &bot(), &head, body).await;
        let told = serde_json::to_string(&told).unwrap();
        assert!(!told.contains("sk-canary"), "{told}");
    }
}

#[tokio::test]
async fn a_revoked_token_is_told_as_such_to_who_asks() {
    let (gw, fakes) = world(TENANT);
    let minted = gw.desk.mint.issue(
        TokenRequest {
            tenant: "acme".parse().unwrap(),
            agent: "bot".parse().unwrap(),
            task: "t-1".parse().unwrap(),
            lifetime: Duration::from_secs(60),
            certificate: None,
        },
        noon(),
        "jti-1".parse().unwrap(),
    );
    let (token, _) = minted.unwrap();
    let live = Snapshot {
        policy: Arc::clone(&gw.live.snapshot().policy),
        prices: crate::fakes::prices(),
        keys: Arc::new(crate::authenticate::Keys::new(gw.desk.mint.keys())),
    };
    let view = View {
        live: &live,
        limits: &gw.limits,
        stores: Some(&gw.stores),
        sealed: Some(&gw.sealed),
        now: noon(),
        hints: true,
    };
    let chat = head(Method::POST, CHAT, &[]);
    let who = Identity::Token(token.clone());
    let body = || Bytes::from_static(SMALL.as_bytes());
    assert!(explain(&view, &who, &chat, body()).await.allowed);
    let shown = head(
        Method::POST,
        CHAT,
        &[&format!("authorization: Bearer {token}")],
    );
    assert!(
        explain(&view, &Identity::Shown, &shown, body())
            .await
            .allowed
    );
    fakes.answers().liveness = Some(Liveness::Revoked);
    let told = explain(&view, &who, &chat, body()).await;
    assert_eq!(told.refusal.expect("a refusal").reason, "token_revoked");
}

#[tokio::test]
async fn a_sealed_token_is_a_credential_of_its_task_here_too() {
    let (gw, _) = world(TENANT);
    let live = gw.live.snapshot();
    let provider = &*live.policy.providers["openai"];
    let caller = Caller {
        agent: "bot".parse().unwrap(),
        task: "t-1".parse().unwrap(),
        ..Caller::clone(&crate::fakes::caller())
    };
    let name = crate::sealed::new_name().unwrap();
    let secret = tollgate_core::secret::Secret::new(b"sk-canary-sealed".to_vec());
    let targets = [(provider, provider.place.as_ref().unwrap())];
    let life = Duration::from_secs(60);
    gw.sealed.keep(&caller, &name, secret, life, &targets);
    let handle = format!("authorization: Bearer $CRED{{{name}}}");
    let chat = head(Method::POST, CHAT, &[&handle]);
    let told = explained(&gw, true, &bot(), &chat, SMALL).await;
    assert!(told.allowed, "{told:?}");
    let other = Identity::Claimed {
        tenant: caller.tenant.clone(),
        agent: caller.agent.clone(),
        task: "t-2".parse().unwrap(),
    };
    let told = explained(&gw, true, &other, &chat, SMALL).await;
    assert_eq!(told.refusal.unwrap().code, "credential_denied");
}
