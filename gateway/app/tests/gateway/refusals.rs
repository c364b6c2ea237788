//! Every refusal of the contract's table, in every dialect: the answer, the record, and nothing
//! at the provider.

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::{Answer, Raw};

use crate::harness::{Ask, Dialect, Plan, Refused, World, chat, message, text};

/// The three dialects, each with a call that is allowed.
fn calls() -> [(Dialect, Ask); 3] {
    [
        (
            Dialect::OpenAi,
            Ask::new("POST", "/openai/v1/chat/completions").json(&chat()),
        ),
        (
            Dialect::Anthropic,
            Ask::new("POST", "/anthropic/v1/messages").json(&message()),
        ),
        (Dialect::Problem, Ask::new("GET", "/github/user")),
    ]
}

fn usd(text: &Value) -> PicoUsd {
    text.as_str()
        .expect("money is text")
        .parse()
        .expect("an amount")
}

/// The facts about a cap that a program can act on.
fn facts(answer: &Answer) -> Value {
    let body = answer.json();
    let facts = body
        .pointer("/error/tollgate")
        .or_else(|| body.get("tollgate"));
    facts.unwrap_or_else(|| panic!("{body}")).clone()
}

#[tokio::test]
async fn calls_without_a_good_token_are_401_in_each_dialect() {
    let world = World::new().await;
    for (dialect, ask) in calls() {
        for ask in [
            ask.clone(),
            ask.clone().bearer("eyJhbGciOiJFZERTQSJ9.e30.AAAA"),
        ] {
            let answer = world.send(&ask).await;
            let refused = Refused::UNAUTHENTICATED;
            refused
                .check_recorded(&world.gateway, &answer, dialect, "_gateway")
                .await;
        }
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn what_is_not_granted_is_403_in_each_dialect() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.grants.clear();
        acme.allow("openai", "models = [\"gpt-4o-mini\", \"text-*\"]\n");
        acme.allow(
            "anthropic",
            "models = [\"claude-3*\"]\nagents = [\"a1\", \"bot-*\"]\n",
        );
        acme.allow("github", "paths = [\"/repos/**\"]\n");
    })
    .await;
    let token = world.token("acme").await;
    let stranger = world.gateway.mint("acme", "z9", "t1").await;
    let model = |mut body: Value, name: &str| {
        body["model"] = json!(name);
        body
    };
    let chat_with =
        |name| Ask::new("POST", "/openai/v1/chat/completions").json(&model(chat(), name));
    for (ask, dialect) in [
        (chat_with("gpt-4o").bearer(&token), Dialect::OpenAi),
        (chat_with("gpt-4o-mini-2").bearer(&token), Dialect::OpenAi),
        (chat_with("GPT-4O-MINI").bearer(&token), Dialect::OpenAi),
        (
            Ask::new("DELETE", "/openai/v1/models").bearer(&token),
            Dialect::OpenAi,
        ),
        (
            Ask::new("GET", "/openai/v1/chat/completions").bearer(&token),
            Dialect::OpenAi,
        ),
        (
            Ask::new("POST", "/openai/v1/images/generations")
                .bearer(&token)
                .body("{}"),
            Dialect::OpenAi,
        ),
        (
            Ask::new("POST", "/anthropic/v1/messages")
                .bearer(&token)
                .json(&message()),
            Dialect::Anthropic,
        ),
        (
            Ask::new("POST", "/anthropic/v1/messages")
                .bearer(&stranger)
                .json(&model(message(), "claude-3-haiku-20240307")),
            Dialect::Anthropic,
        ),
        (
            Ask::new("GET", "/github/user").bearer(&token),
            Dialect::Problem,
        ),
        (
            Ask::new("DELETE", "/github/repos/a/b").bearer(&token),
            Dialect::Problem,
        ),
    ] {
        let answer = world.send(&ask).await;
        let refused = Refused::NOT_ALLOWED;
        let record = refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;
        assert_eq!(text(&record, "tollgate.outcome"), "refused", "{record:#}");
    }
    let nowhere = world
        .send(&Ask::new("GET", "/nobody/v1/models").bearer(&token))
        .await;
    assert_eq!(
        (nowhere.status, nowhere.header("x-tollgate-error")),
        (403, Some("not_allowed"))
    );
    world.assert_no_contact();
    assert_eq!(
        world
            .send(&chat_with("gpt-4o-mini").bearer(&token))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_tenant_without_a_key_is_denied_in_each_dialect() {
    let world = World::planned(|plan| plan.tenant("acme").credentials.clear()).await;
    let token = world.token("acme").await;
    for (dialect, ask) in calls() {
        let answer = world.send(&ask.bearer(&token)).await;
        let refused = Refused::CREDENTIAL_DENIED;
        refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn what_has_no_price_is_refused_to_a_tenant_with_a_cap_and_to_nobody_else() {
    let world = World::planned(|plan| {
        plan.provider("github").endpoint("GET", "/zen", "tool", "");
        plan.tenant("globex").caps.clear();
    })
    .await;
    let unpriced = |mut body: Value| {
        body["model"] = json!("acme-own-model-7");
        body
    };
    for (dialect, ask) in [
        (
            Dialect::OpenAi,
            Ask::new("POST", "/openai/v1/chat/completions").json(&unpriced(chat())),
        ),
        (
            Dialect::Anthropic,
            Ask::new("POST", "/anthropic/v1/messages").json(&unpriced(message())),
        ),
        (Dialect::Problem, Ask::new("GET", "/github/zen")),
    ] {
        let capped = world.token("acme").await;
        let before = world.calls().len();
        let answer = world.send(&ask.clone().bearer(&capped)).await;
        let refused = Refused::NOT_PRICED;
        refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;
        assert_eq!(world.calls().len(), before, "nothing reached the provider");

        let free = world.token("globex").await;
        let answer = world.send(&ask.bearer(&free)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn too_many_requests_are_429_with_a_time_to_wait_in_each_dialect() {
    let world = World::planned(|plan| {
        plan.tenant("acme").limits = "requests_per_minute = 2\nburst = 1\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let first = calls()[0].1.clone().bearer(&token);
    assert_eq!(world.send(&first).await.status, 200);
    for (dialect, ask) in calls() {
        let answer = world.send(&ask.bearer(&token)).await;
        let refused = Refused::RATE_LIMITED;
        refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;
        let seconds: u64 = answer
            .header("retry-after")
            .expect("a time")
            .parse()
            .unwrap();
        let millis: u64 = answer
            .header("retry-after-ms")
            .expect("a time")
            .parse()
            .unwrap();
        assert!(
            (1..=30).contains(&seconds) && millis.div_ceil(1000) == seconds,
            "{answer:?}"
        );
    }
    assert_eq!(
        world.calls().len(),
        1,
        "only the first reached the provider"
    );
    let reserved = &world.gateway.budgets("acme").await[0]["reserved_usd"];
    assert_eq!(reserved, "0", "a call refused by its rate holds nothing");

    let other = world.token("globex").await;
    for (_, ask) in calls() {
        assert_eq!(
            world.send(&ask.bearer(&other)).await.status,
            200,
            "others see nothing of it"
        );
    }
}

#[tokio::test]
async fn a_cap_that_is_reached_is_429_and_says_which_and_until_when() {
    let world = World::planned(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"0.002\"\nmonthly_usd = \"5\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let tool = Ask::new("GET", "/github/user").bearer(&token);
    for _ in 0..2 {
        assert_eq!(world.send(&tool).await.status, 200, "0.001 USD each");
    }
    let served = world.gateway.site.records_when("acme", 2).await;
    assert!(
        served
            .iter()
            .all(|record| record["tollgate.cost_usd"] == "0.001"),
        "{served:#?}"
    );
    for (dialect, ask) in calls() {
        let answer = world.send(&ask.bearer(&token)).await;
        let refused = Refused::CAP_REACHED;
        refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        let wait: u64 = answer
            .header("retry-after")
            .expect("until the reset")
            .parse()
            .unwrap();
        assert!((1..=86_400).contains(&wait), "{wait}");
        let facts = facts(&answer);
        assert_eq!(
            usd(&facts["limit_usd"]),
            "0.002".parse().unwrap(),
            "{facts}"
        );
        assert_eq!(
            usd(&facts["spent_usd"]),
            "0.002".parse().unwrap(),
            "{facts}"
        );
        assert_eq!(usd(&facts["reserved_usd"]), PicoUsd::ZERO, "{facts}");
        assert!(facts["resets_at"].is_string(), "{facts}");
        assert!(facts["cap"].to_string().contains("acme"), "{facts}");
    }
    assert_eq!(world.calls().len(), 2, "nothing more reached the provider");
    let other = world.token("globex").await;
    for (_, ask) in calls() {
        assert_eq!(
            world.send(&ask.bearer(&other)).await.status,
            200,
            "others see nothing of it"
        );
    }
}

#[tokio::test]
async fn a_call_that_does_not_fit_is_told_the_largest_bound_that_would() {
    let world = World::planned(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"0.0105\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    for (dialect, path, base, field) in [
        (
            Dialect::OpenAi,
            "/openai/v1/chat/completions",
            chat(),
            "max_completion_tokens",
        ),
        (
            Dialect::Anthropic,
            "/anthropic/v1/messages",
            message(),
            "max_tokens",
        ),
    ] {
        let ask = |bound: u64| {
            let mut body = base.clone();
            body.as_object_mut().unwrap().remove("max_tokens");
            // As many digits for every bound, so that the body's length stays the same.
            body[field] = json!(bound + 10_000_000);
            let body = body
                .to_string()
                .replace(&(bound + 10_000_000).to_string(), &format!("{bound:>8}"));
            Ask::new("POST", path)
                .bearer(&token)
                .header("content-type", "application/json")
                .body(body)
        };
        let before = world.calls().len();
        let answer = world.send(&ask(90_000)).await;
        let refused = Refused::NO_HEADROOM;
        refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert!(answer.header("retry-after").is_some());
        let facts = facts(&answer);
        let fits = facts["largest_output_tokens_that_fit"]
            .as_u64()
            .expect("a bound");
        assert!((1..90_000).contains(&fits), "{facts}");
        assert_eq!(world.calls().len(), before, "nothing reached the provider");

        // The bound named leaves room for the bytes of naming it, so it is a little below the edge.
        let answer = world.send(&ask(fits + 1_000)).await;
        refused.check(&answer, dialect);
        let answer = world.send(&ask(fits)).await;
        assert_eq!(
            answer.status,
            200,
            "the bound named does fit: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_understood_are_400_in_their_dialect() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (body, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("null", "invalid_json"),
        ("\"gpt-4o-mini\"", "invalid_json"),
        ("{\"model\":\"gpt-4o-mini\",}", "invalid_json"),
        ("{\"model\":\"gpt-4o-mini\"} x", "invalid_json"),
        ("{\"model\":\"gpt-\u{0}4o\"}", "invalid_json"),
        ("{}", "missing_model"),
        ("{\"messages\":[]}", "missing_model"),
        (
            "{\"model\":\"gpt-4o-mini\",\"model\":\"gpt-4o\"}",
            "duplicate_field",
        ),
        (
            "{\"model\":\"gpt-4o-mini\",\"mod\\u0065l\":\"gpt-4o\"}",
            "duplicate_field",
        ),
        (
            "{\"model\":\"gpt-4o-mini\",\"max_tokens\":1,\"max_tokens\":9}",
            "duplicate_field",
        ),
        ("{\"model\":7}", "invalid_field"),
        ("{\"model\":\"\"}", "invalid_field"),
        (
            "{\"model\":\"gpt-4o-mini\",\"max_tokens\":-1}",
            "invalid_field",
        ),
        (
            "{\"model\":\"gpt-4o-mini\",\"max_tokens\":1.5}",
            "invalid_field",
        ),
        (
            "{\"model\":\"gpt-4o-mini\",\"max_tokens\":\"64\"}",
            "invalid_field",
        ),
        (
            "{\"model\":\"gpt-4o-mini\",\"max_tokens\":99999999999999999999}",
            "invalid_field",
        ),
        (
            "{\"model\":\"gpt-4o-mini\",\"stream\":\"yes\"}",
            "invalid_field",
        ),
    ] {
        for (path, dialect) in [
            ("/openai/v1/chat/completions", Dialect::OpenAi),
            ("/anthropic/v1/messages", Dialect::Anthropic),
        ] {
            let answer = world
                .send(&Ask::new("POST", path).bearer(&token).body(body))
                .await;
            let code_said = answer.header("x-tollgate-error").unwrap_or("none");
            // An unusable field may be read as an absent one; both are 400 with a code of their own.
            let expected = if code == "invalid_field" && code_said == "missing_model" {
                "missing_model"
            } else {
                code
            };
            let refused = Refused::malformed(expected);
            assert_eq!(code_said, expected, "{body}: {}", answer.text());
            refused
                .check_recorded(&world.gateway, &answer, dialect, "acme")
                .await;
        }
    }
    let invalid_utf8 = Ask::new("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .body(b"{\"model\":\"gpt-4o-mini\xff\"}".to_vec());
    assert_eq!(world.send(&invalid_utf8).await.status, 400);
    world.assert_no_contact();
}

fn with_small_bodies(plan: &mut Plan) {
    plan.gateway
        .push_str("[limits]\ninspected_body_mib = 1\nstreamed_body_mib = 2\nbody_memory_mib = 8\n");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_whether_its_length_is_told_or_not() {
    let world = World::planned(with_small_bodies).await;
    let token = world.token("acme").await;
    for (path, dialect) in [
        ("/openai/v1/chat/completions", Dialect::OpenAi),
        ("/anthropic/v1/messages", Dialect::Anthropic),
    ] {
        let big = "x".repeat((1 << 20) + 1);
        let answer = world
            .send(&Ask::new("POST", path).bearer(&token).body(big.clone()))
            .await;
        let refused = Refused::TOO_LARGE;
        refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;

        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(head).await;
        for _ in 0..20 {
            raw.send(format!("10000\r\n{}\r\n", &big[..0x10000])).await;
        }
        let answer = raw.answer().await.expect("an answer");
        refused
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;

        // A length that is only told is refused before anything is sent.
        let told = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-length: 9000000000\r\n\r\n"
        );
        refused.check(&world.send_raw(&told).await.expect("an answer"), dialect);
    }
    let upload = Ask::new("POST", "/openai/v1/files")
        .bearer(&token)
        .body(vec![b'x'; (2 << 20) + 1]);
    Refused::TOO_LARGE.check(&world.send(&upload).await, Dialect::OpenAi);
    world.assert_no_contact();
}
