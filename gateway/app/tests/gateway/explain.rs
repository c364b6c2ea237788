//! What is explained is what happens: each call is described and then made.

use serde_json::{Value, json};
use tollgate_testkit::raw::{Raw, request};

use crate::harness::{Ask, Plan, TenantPlan, World, chat, message};

/// A call: whose, its method and target, its headers and its body.
type Call = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    String,
);

const CHAT: &str = "/openai/v1/chat/completions";
const MESSAGES: &str = "/anthropic/v1/messages";
const JSON: (&str, &str) = ("content-type", "application/json");

/// Tenants at their caps, with other rules and without any cap.
fn tenants(plan: &mut Plan) {
    let mut add = |id: &str, change: &dyn Fn(&mut TenantPlan)| {
        let mut tenant = TenantPlan::new(id);
        change(&mut tenant);
        plan.tenants.insert(id.to_owned(), tenant);
    };
    add("blocked", &|of| of.caps = "daily_usd = \"0\"\n".to_owned());
    add("small", &|of| {
        of.caps = "daily_usd = \"0.00001\"\n".to_owned()
    });
    add("uncapped", &|of| of.caps.clear());
    add("clamped", &|of| {
        of.more = "[clamp]\nmax_output_tokens = 20\n".to_owned()
    });
    add("tight", &|of| {
        of.caps = "daily_usd = \"0.00005\"\n".to_owned();
        of.more = "[clamp]\n".to_owned();
    });
    add("narrow", &|of| {
        of.grants.clear();
        of.allow("openai", "models = [\"gpt-4.1*\"]\nagents = [\"z*\"]\n");
        of.allow("openai", "models = [\"gpt-4o*\"]\n");
        of.allow("anthropic", "agents = [\"z*\"]\n");
    });
    add("keyless", &|of| of.credentials.clear());
    add("bound", &|of| {
        of.credentials.clear();
        of.credential(
            "far",
            "{ provider = \"openai\", default = true, paths = [\"/v1/models\"] }",
        );
        of.credential(
            "foreign",
            "{ provider = \"anthropic\", agents = [\"z*\"], default = true }",
        );
    });
}

fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut body = chat();
    change(&mut body);
    body.to_string()
}

fn calls() -> Vec<Call> {
    let chat_body = || chat().to_string();
    let handle: &[_] = &[JSON, ("authorization", "Bearer $CRED{openai_key}")];
    let claim: &[_] = &[
        JSON,
        ("x-tenant-id", "globex"),
        ("x-api-key", "sk-canary-own-key"),
    ];
    let plain: &[_] = &[JSON];
    vec![
        ("acme", "POST", CHAT, plain, chat_body()),
        ("acme", "POST", CHAT, handle, chat_body()),
        ("acme", "POST", CHAT, claim, chat_body()),
        (
            "acme",
            "POST",
            CHAT,
            plain,
            with(|body| body["stream"] = true.into()),
        ),
        (
            "acme",
            "POST",
            CHAT,
            plain,
            with(|body| body["n"] = 3.into()),
        ),
        (
            "acme",
            "POST",
            CHAT,
            plain,
            with(|body| body["model"] = "gpt-4.1".into()),
        ),
        (
            "acme",
            "POST",
            CHAT,
            plain,
            with(|body| body["user"] = "$CRED{openai_key}".into()),
        ),
        ("acme", "POST", MESSAGES, plain, message().to_string()),
        ("acme", "GET", "/openai/v1/models", &[], String::new()),
        (
            "acme",
            "GET",
            "/openai/v1/models?key=$CRED{openai_key}",
            &[],
            String::new(),
        ),
        ("acme", "GET", "/github/user", &[], String::new()),
        (
            "acme",
            "POST",
            "/github/repos/a/b",
            &[],
            "anything".to_owned(),
        ),
        (
            "acme",
            "POST",
            "/openai/v1/embeddings",
            plain,
            json!({"model": "text-embedding-3-small", "input": "x"}).to_string(),
        ),
        ("uncapped", "POST", CHAT, plain, chat_body()),
        (
            "uncapped",
            "POST",
            CHAT,
            plain,
            with(|body| body["model"] = "no-such-model".into()),
        ),
        ("clamped", "POST", CHAT, plain, chat_body()),
        (
            "clamped",
            "POST",
            CHAT,
            plain,
            with(|body| {
                body.as_object_mut().unwrap().remove("max_tokens");
            }),
        ),
        (
            "tight",
            "POST",
            CHAT,
            plain,
            with(|body| body["max_tokens"] = 9_000.into()),
        ),
        ("narrow", "POST", CHAT, plain, chat_body()),
        // Refusals, code by code.
        ("acme", "GET", "/nowhere", &[], String::new()),
        ("acme", "GET", "/openai/v1/nothing", &[], String::new()),
        ("acme", "DELETE", "/openai/v1/models", &[], String::new()),
        (
            "acme",
            "GET",
            "/openai/v1/models?_method=DELETE",
            &[],
            String::new(),
        ),
        ("acme", "GET", "/openai/v1//models", &[], String::new()),
        (
            "acme",
            "GET",
            "/openai/v1/%2e%2e/models",
            &[],
            String::new(),
        ),
        (
            "acme",
            "POST",
            CHAT,
            &[JSON, ("authorization", "Bearer $CRED{none}")],
            chat_body(),
        ),
        (
            "acme",
            "POST",
            CHAT,
            &[JSON, ("authorization", "Bearer $CRED{github_token}")],
            chat_body(),
        ),
        (
            "acme",
            "POST",
            CHAT,
            &[JSON, ("x-other", "$CRED{openai_key}")],
            chat_body(),
        ),
        (
            "acme",
            "POST",
            CHAT,
            &[JSON, ("authorization", "Bearer $cred{openai_key}")],
            chat_body(),
        ),
        (
            "acme",
            "POST",
            CHAT,
            &[JSON, ("authorization", "$CRED{a} $CRED{b}")],
            chat_body(),
        ),
        ("acme", "POST", CHAT, plain, "{".to_owned()),
        (
            "acme",
            "POST",
            CHAT,
            plain,
            "{\"model\":\"a\",\"model\":\"b\"}".to_owned(),
        ),
        ("acme", "POST", CHAT, plain, "{}".to_owned()),
        (
            "acme",
            "POST",
            CHAT,
            &[JSON, ("content-encoding", "gzip")],
            chat_body(),
        ),
        ("acme", "POST", CHAT, &[JSON, JSON], chat_body()),
        (
            "acme",
            "POST",
            CHAT,
            plain,
            with(|body| body["model"] = "no-such-model".into()),
        ),
        (
            "narrow",
            "POST",
            CHAT,
            plain,
            with(|body| body["model"] = "gpt-4.1".into()),
        ),
        ("narrow", "POST", MESSAGES, plain, message().to_string()),
        ("narrow", "GET", "/github/user", &[], String::new()),
        ("keyless", "POST", CHAT, plain, chat_body()),
        ("bound", "POST", CHAT, plain, chat_body()),
        ("bound", "POST", MESSAGES, plain, message().to_string()),
        ("blocked", "POST", CHAT, plain, chat_body()),
        ("small", "POST", CHAT, plain, chat_body()),
        ("small", "POST", MESSAGES, plain, message().to_string()),
    ]
}

fn fact<'t>(told: &'t Value, stage: &str, fact: &str) -> &'t Value {
    let steps = told["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["stage"] == stage);
    step.map_or(&Value::Null, |step| &step["facts"][fact])
}

fn question((tenant, method, path, headers, body): &Call) -> Value {
    json!({
        "identity": {"tenant": tenant, "agent": "a1", "task": "t1"},
        "method": method, "path": path, "headers": headers, "body": body,
    })
}

#[tokio::test]
async fn a_call_ends_as_it_was_explained() {
    let world = World::planned(tenants).await;
    let mut codes = std::collections::BTreeSet::new();
    for call in calls() {
        let contacts = world.mock.connections();
        let (status, told) = world
            .gateway
            .admin_post("/v1/explain", &question(&call))
            .await;
        assert_eq!(status, 200, "{call:?}: {told}");
        assert_eq!(
            world.mock.connections(),
            contacts,
            "an explanation contacts nobody"
        );
        assert!(!told.to_string().contains("sk-canary"), "{told:#}");
        let (tenant, method, path, headers, body) = &call;
        let mut ask = Ask::new(method, path).body(body.as_str());
        for (name, value) in *headers {
            ask = ask.header(name, value);
        }
        let answer = world.send(&ask.token(&world.token(tenant).await)).await;
        let record = world.record_of(tenant, &answer).await;
        let why = || {
            format!(
                "{call:?}\nexplained {told:#}\nmade {record:#}\n{}",
                answer.text()
            )
        };
        let same = |field: &str, explained: &Value| {
            assert_eq!(&record[field], explained, "{field}: {}", why());
        };
        same("gen_ai.provider.name", fact(&told, "route", "provider"));
        let refusal = &told["refusal"];
        assert_eq!(told["allowed"], refusal.is_null());
        if refusal.is_null() {
            assert_eq!(answer.status, 200, "{}", why());
            same(
                "tollgate.credential.name",
                fact(&told, "credential", "name"),
            );
            same(
                "tollgate.cost.reserved_usd",
                fact(&told, "money", "reserved_usd"),
            );
            let clamped = answer.header("x-tollgate-max-output-tokens");
            let clamped =
                clamped.map_or(Value::Null, |tokens| json!(tokens.parse::<u64>().unwrap()));
            assert_eq!(&clamped, fact(&told, "money", "clamped_to"), "{}", why());
        } else {
            codes.insert(refusal["code"].as_str().unwrap().to_owned());
            assert_eq!(json!(answer.status), refusal["status"], "{}", why());
            assert_eq!(
                answer.header("x-tollgate-error"),
                refusal["code"].as_str(),
                "{}",
                why()
            );
            same("http.response.status_code", &refusal["status"]);
            same("error.type", &refusal["code"]);
            same("tollgate.refusal.reason", &refusal["reason"]);
            let said = serde_json::to_string(&refusal["message"]).unwrap();
            assert!(answer.text().contains(said.trim_matches('"')), "{}", why());
            if !record["tollgate.cost.reserved_usd"].is_null() {
                same(
                    "tollgate.cost.reserved_usd",
                    fact(&told, "money", "worst_case_usd"),
                );
            }
        }
    }
    let expected = [
        "ambiguous_path",
        "bad_handle",
        "credential_denied",
        "duplicate_field",
        "handle_repeated",
        "invalid_content_type",
        "invalid_json",
        "method_override",
        "missing_model",
        "model_not_priced",
        "not_allowed",
        "request_exceeds_headroom",
        "spend_limit_exceeded",
        "unsupported_content_encoding",
    ];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_explanation_leaves_no_call_behind() {
    let world = World::new().await;
    let call: Call = ("acme", "POST", CHAT, &[JSON], chat().to_string());
    for _ in 0..3 {
        let (_, told) = world
            .gateway
            .admin_post("/v1/explain", &question(&call))
            .await;
        assert_eq!(told["allowed"], true, "{told:#}");
    }
    world.assert_no_contact();
    for budget in world.gateway.budgets("acme").await {
        assert_eq!(
            (&budget["settled_usd"], &budget["reserved_usd"]),
            (&json!("0"), &json!("0"))
        );
    }
    let ask = Ask::new(call.1, call.2).json(&chat());
    let answer = world.send(&ask.bearer(&world.token("acme").await)).await;
    world.record_of("acme", &answer).await;
    let records = world.gateway.site.records("acme");
    assert_eq!(
        records.len(),
        1,
        "only the call that was made: {records:#?}"
    );
}

#[tokio::test]
async fn a_token_is_explained_by_whether_it_lives() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let asked = |identity: Value| json!({"identity": identity, "method": "GET", "path": "/openai/v1/models"});
    let held = asked(json!({"token": token}));
    let (_, told) = world.gateway.admin_post("/v1/explain", &held).await;
    assert_eq!(
        (&told["allowed"], &told["tenant"]),
        (&json!(true), &json!("acme")),
        "{told:#}"
    );
    world
        .gateway
        .revoke(&json!({"kind": "task", "tenant": "acme", "task": "t1"}))
        .await;
    let (_, told) = world.gateway.admin_post("/v1/explain", &held).await;
    assert_eq!(told["refusal"]["reason"], "token_revoked", "{told:#}");
    let (_, told) = world
        .gateway
        .admin_post("/v1/explain", &asked(Value::Null))
        .await;
    assert_eq!(told["refusal"]["reason"], "token_missing", "{told:#}");
    world.assert_no_contact();
}

#[tokio::test]
async fn case_94_a_task_token_explains_nothing() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let call: Call = ("acme", "GET", "/openai/v1/models", &[], String::new());
    let bearer = format!("Bearer {token}");
    let headers = [("host", "admin"), ("authorization", bearer.as_str())];
    let body = question(&call).to_string();
    let asked = request("POST /v1/explain", &headers, body.as_bytes());
    let mut raw = Raw::connect(world.gateway.admin).await;
    raw.send(&asked).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 401);
    let answer = world
        .send(&Ask::new("POST", "/v1/explain").bearer(&token).body(body))
        .await;
    assert_eq!(
        answer.status, 403,
        "the agents' listener knows no such thing"
    );
    world.assert_no_contact();
}

const ALLOWED: &str = r#"ALLOWED

 1. identity    agent a1 of tenant acme, task explained: as you say; nothing is verified
 2. route       provider github at UPSTREAM
                by provider github, [[endpoint]] GET /user
 3. grant       agent a1 may call github here
                by tenant acme, [[allow]] 3: provider github
 4. credential  github_token would go into the header authorization after "Bearer ", to UPSTREAM
                by tenant acme, [credentials] github_token, the default for github
 5. request     the body goes through unread
 6. money       0.001 USD a call: 0.001 USD would be reserved
                by every cap below has to have room
 7. pace        no limit on pace concerns this call

CAP                         LIMIT USD  SETTLED  RESERVED  LEFT
acme/tenant/day:DAY  100        0        0         100
"#;

const REFUSED: &str = r"REFUSED with 403 credential_denied: no such credential for this request
reason for the record: credential_unknown

 1. identity    agent a1 of tenant acme, task explained: as you say; nothing is verified
 2. route       provider openai at UPSTREAM
                by provider openai, [[endpoint]] GET /v1/models
 3. grant       agent a1 may call openai here
                by tenant acme, [[allow]] 1: provider openai
 4. credential  REFUSED: no such credential for this request
                the tenant has no credential of this name

By the files alone, as if nothing had been spent; --live asks the running gateway.
";

#[tokio::test]
async fn the_command_prints_each_decision_and_its_rule() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let who = ["explain", "--tenant", "acme", "--agent", "a1"];
    let upstream = format!("http://{}", world.mock.addr());
    let run = |more: &[&str]| {
        let output = site.cli(&[&who[..], more].concat(), "");
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text.replace(&upstream, "UPSTREAM"))
    };
    let (code, text) = run(&["--live", "GET", "http://tollgate:8080/github/user"]);
    let day = text.split("day:").nth(1).unwrap_or_default();
    let text = text.replace(day.get(..10).unwrap_or("?"), "DAY");
    assert_eq!((code, text.as_str()), (Some(0), ALLOWED), "{text}");
    let handle = "authorization: Bearer $CRED{sk-canary-nobody}";
    let (code, text) = run(&["GET", "/openai/v1/models", "-H", handle]);
    assert_eq!((code, text.as_str()), (Some(1), REFUSED), "{text}");

    let (code, text) = run(&["--json", "GET", "/openai/v1/models"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["allowed"]), (Some(0), &json!(true)));
    for wrong in [
        &["GET"][..],
        &["GET", "/x/y", "-H", "none"],
        &["G T", "/x/y"],
    ] {
        assert_eq!(run(wrong).0, Some(2), "{wrong:?}");
    }
    let nobody = site.cli(&["explain", "GET", "/x/y"], "");
    assert_eq!(nobody.status.code(), Some(1));
    world.assert_no_contact();
}
