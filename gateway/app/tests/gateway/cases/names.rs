//! Case 79: whatever a model is called and wherever it is named, it is allowed and priced by the
//! name that the provider goes by, or nothing is sent.

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;

use super::ways::{WAYS, is_free, reserved, settled, source};
use crate::harness::{Ask, Way, World, text};

/// Names that may stand for the same model, or pretend to.
fn spellings(model: &str) -> Vec<String> {
    let upper = model.to_uppercase();
    let [before, after] =
        [" ", "\u{200b}"].map(|space| (format!("{space}{model}"), format!("{model}{space}")));
    vec![
        upper,
        before.0,
        before.1,
        after.0,
        after.1,
        format!("ft:{model}:acme::abc123"),
        format!("{model}-2031-12-31"),
        format!("{model}:free"),
        format!("free/{model}"),
        format!("../{model}"),
        format!("{model}-999"),
        "nobody-knows-this".to_owned(),
        "free".to_owned(),
        "*".to_owned(),
        String::new(),
    ]
}

#[tokio::test]
async fn case_79_no_spelling_of_a_model_in_a_body_makes_it_cheaper() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let mut asks = Vec::new();
    let mut names = Vec::new();
    for way in WAYS.iter().filter(|way| !is_free(way)) {
        let mut body = way.body();
        // Azure's deployment stands in the path.
        let (Some(model), false) = (body["model"].as_str(), way.path.starts_with("/azure/")) else {
            continue;
        };
        let usual = model.to_owned();
        for name in [usual.clone()].into_iter().chain(spellings(&usual)) {
            body["model"] = json!(name);
            asks.push(way.ask_with(body.clone(), "", false).bearer(&token));
            names.push((way, usual.clone(), name));
        }
    }
    let mut usual = PicoUsd::ZERO;
    for ((way, model, name), call) in names.iter().zip(world.make(asks).await) {
        let what = format!("{} {name:?}: {call:?}", way.path);
        if name == model {
            usual = settled(&call);
            assert!(usual > PicoUsd::ZERO, "{what}");
        }
        if call.answer.status == 200 {
            assert_eq!(text(&call.record, "gen_ai.request.model"), name, "{what}");
            assert!(settled(&call) >= usual, "{what}");
            assert!(reserved(&call) >= settled(&call), "{what}");
        } else {
            assert!(matches!(call.answer.status, 400 | 403), "{what}");
            assert_eq!(call.billed, None, "{what}");
            assert_eq!(settled(&call), PicoUsd::ZERO, "{what}");
        }
    }
}

/// Two readers of such a body could take one model each.
#[tokio::test]
async fn case_79_a_body_that_names_two_models_is_refused_in_every_language() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    for way in WAYS {
        if way.is_form() || way.body()["model"].is_null() {
            continue;
        }
        for key in ["model", "mod\\u0065l"] {
            let twice = way
                .body
                .replacen('{', &format!("{{\"{key}\":\"other\","), 1);
            let ask = Ask::new("POST", way.path).bearer(&token).body(twice);
            let answer = world.send(&ask).await;
            let code = answer.header("x-tollgate-error");
            assert_eq!(code, Some("duplicate_field"), "{}", answer.text());
        }
    }
    world.assert_no_contact();
}

/// Path with `{}` for the model, the model that is asked for, and how a body of that kind names one.
const IN_PATHS: [(&str, &str, &str); 5] = [
    (
        "/azure/openai/deployments/{}/chat/completions",
        "gpt-4.1",
        "model",
    ),
    (
        "/gemini/v1beta/models/{}:generateContent",
        "gemini-2.5-pro",
        "model",
    ),
    (
        "/vertex/v1/projects/p/locations/us-central1/publishers/google/models/{}:generateContent",
        "gemini-2.5-flash",
        "model",
    ),
    (
        "/bedrock/model/{}/converse",
        "amazon.nova-lite-v1%3A0",
        "modelId",
    ),
    (
        "/bedrock/model/{}/invoke",
        "us.anthropic.claude-3-5-haiku-20241022-v1%3A0",
        "model",
    ),
];

fn body_of(path: &str, model: &str) -> Value {
    let (start, end) = path.split_once("{}").expect("a place");
    let is_it = |way: &&Way| {
        way.path.starts_with(start) && way.path.contains(end) && way.path.contains(model)
    };
    WAYS.iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("{path} {model}"))
        .body()
}

#[tokio::test]
async fn case_79_the_model_of_a_path_is_what_is_priced_whatever_the_body_says() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    for (path, model, field) in IN_PATHS {
        let body = body_of(path, model);
        let usual = Ask::new("POST", &path.replace("{}", model))
            .bearer(&token)
            .json(&body);
        let usual = world.make([usual]).await.remove(0);
        assert_eq!(source(&usual), "exact", "{usual:?}");
        // The body names a cheaper one, or one that nobody knows.
        for other in ["gpt-4.1-nano", "gemini-2.0-flash-lite", "nobody-knows-this"] {
            let mut body = body.clone();
            body[field] = json!(other);
            let ask = Ask::new("POST", &path.replace("{}", model))
                .bearer(&token)
                .json(&body);
            let call = world.make([ask]).await.remove(0);
            if call.answer.status == 400 {
                assert_eq!(call.billed, None, "{call:?}");
                continue;
            }
            assert_eq!(call.answer.status, 200, "{call:?}");
            let named = model.replace("%3A", ":");
            assert_eq!(
                text(&call.record, "gen_ai.request.model"),
                named,
                "{call:?}"
            );
            assert!(reserved(&call) >= reserved(&usual), "{call:?} {usual:?}");
        }
        let mut spelt = spellings(&model.replace("%3A", ":"));
        spelt.push(
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x".to_owned(),
        );
        for name in spelt {
            let mut escaped = String::new();
            for byte in name.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => {
                        escaped.push(char::from(byte))
                    }
                    _ => escaped += &format!("%{byte:02X}"),
                }
            }
            let target = path.replace("{}", &escaped);
            let before = world.calls().len();
            let answer = world
                .send(&Ask::new("POST", &target).bearer(&token).json(&body))
                .await;
            if answer.status == 200 {
                let record = world.record_of("acme", &answer).await;
                assert_eq!(text(&record, "gen_ai.request.model"), name, "{target}");
                let cost: PicoUsd = text(&record, "tollgate.cost_usd").parse().unwrap();
                assert!(cost >= settled(&usual), "{target}: {record:#}");
                let worst: PicoUsd = text(&record, "tollgate.cost.reserved_usd").parse().unwrap();
                assert!(worst >= cost, "{target}: {record:#}");
            } else {
                assert!(
                    matches!(answer.status, 400 | 403),
                    "{target}: {}",
                    answer.text()
                );
                assert!(answer.header("x-tollgate-error").is_some(), "{target}");
                assert_eq!(world.calls().len(), before, "{target}");
            }
        }
    }
}

#[tokio::test]
async fn case_79_a_model_in_a_path_is_allowed_by_that_name_or_not_at_all() {
    let world = World::of_all_providers(|plan| {
        let acme = plan.tenant("acme");
        acme.grants.clear();
        for (provider, model) in [
            ("azure", "gpt-4.1-mini"),
            ("gemini", "gemini-2.5-flash"),
            ("vertex", "gemini-2.5-flash-lite"),
            ("bedrock", "amazon.nova-micro-v1:0"),
        ] {
            acme.allow(provider, &format!("models = [\"{model}\"]\n"));
        }
    })
    .await;
    let token = world.token("acme").await;
    for (path, model, field) in IN_PATHS {
        let mut body = body_of(path, model);
        for allowed in [
            "gpt-4.1-mini",
            "gemini-2.5-flash",
            "gemini-2.5-flash-lite",
            "amazon.nova-micro-v1:0",
        ] {
            body[field] = json!(allowed);
            for name in [
                model.to_owned(),
                format!("{}%20", allowed.replace(':', "%3A")),
                allowed.to_uppercase().replace(':', "%3A"),
            ] {
                let target = path.replace("{}", &name);
                let ask = Ask::new("POST", &format!("{target}?model={allowed}"))
                    .bearer(&token)
                    .header("x-model", allowed)
                    .json(&body);
                let answer = world.send(&ask).await;
                let code = answer.header("x-tollgate-error");
                match answer.status {
                    403 => assert_eq!(code, Some("not_allowed"), "{target}"),
                    _ => assert_eq!(code, Some("ambiguous_path"), "{target}"),
                }
            }
        }
    }
    world.assert_no_contact();
    let allowed = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";
    let mut body = body_of("/gemini/v1beta/models/{}:generateContent", "gemini-2.5-pro");
    body["model"] = json!("models/gemini-2.5-pro");
    let answer = world
        .send(&Ask::new("POST", allowed).bearer(&token).json(&body))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn case_79_an_alias_is_priced_as_what_it_stands_for_and_no_other_name_is() {
    let world = World::of_all_providers(|plan| {
        let azure = plan.files.get_mut("providers/azure.toml").expect("a file");
        azure.push_str("\n[aliases]\nmy-deployment = \"gpt-4.1\"\n");
        let acme = plan.tenant("acme");
        acme.grants.clear();
        acme.allow("azure", "models = [\"my-*\", \"MY-*\", \"other\"]\n");
        acme.more = "[models.\"gpt-4.1\"]\ndaily_usd = \"0.003\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let ask = |deployment: &str| {
        let path = format!("/azure/openai/deployments/{deployment}/chat/completions");
        let mut body = body_of(IN_PATHS[0].0, "gpt-4.1");
        body["model"] = json!(deployment);
        Ask::new("POST", &path)
            .header("x-mock", "usage-50-60")
            .bearer(&token)
            .json(&body)
    };
    let call = world.make([ask("my-deployment")]).await.remove(0);
    assert_eq!(call.answer.status, 200, "{call:?}");
    // gpt-4.1: 2 and 8 USD per million.
    assert_eq!(settled(&call).to_string(), "0.00058", "{call:?}");
    let before = world.calls().len();
    for (deployment, code) in [
        ("other", "model_not_priced"),
        ("my-other", "model_not_priced"),
        ("gpt-4.1", "not_allowed"),
    ] {
        let answer = world.send(&ask(deployment)).await;
        let told = answer.header("x-tollgate-error");
        assert_eq!((answer.status, told), (403, Some(code)), "{deployment}");
    }
    assert_eq!(world.calls().len(), before);
    // The model's cap counts whatever the call says.
    let mut served = 1;
    while world.send(&ask("my-deployment")).await.status == 200 {
        served += 1;
    }
    assert_eq!(served, 4, "the fifth could cost more than is left");
    // Another spelling is the same model, at its cap, or nobody's.
    let answer = world.send(&ask("MY-DEPLOYMENT")).await;
    assert!(matches!(answer.status, 403 | 429), "{}", answer.text());
}
