//! Paths and methods against a small policy, and the adversarial cases about them.

mod shipped;

use proptest::prelude::*;

use super::*;
use crate::policy::{Operation, PolicyFile};

fn policy() -> Policy {
    let text = r#"
[provider]
name = "openai"
upstream = "https://api.openai.test"
dialect = "openai"
"#
    .to_owned()
        + &[
            ("POST", "/v1/chat/completions", "chat_completions"),
            ("POST", "/v1/files", "tool"),
            ("GET", "/v1/files/*", "free"),
            ("DELETE", "/v1/files/*", "tool"),
            ("GET", "/v1/files/*/content", "tool"),
            ("GET", "/v1/**", "free"),
            ("GET", "/v1/models", "tool"),
        ]
        .map(|(method, path, operation)| {
            format!("[[endpoint]]\nmethod = \"{method}\"\npath = \"{path}\"\noperation = \"{operation}\"\n")
        })
        .concat();
    let path = "providers/openai.toml".to_owned();
    crate::policy::parse(&[PolicyFile { path, text }]).expect("a policy")
}

fn find_in(policy: &Policy, method: Method, path: &str) -> Result<(String, Operation), Refusal> {
    find(policy, &method, path).map(|route| {
        assert!(path.ends_with(route.path), "bytes checked are bytes sent");
        (route.endpoint.path.to_string(), route.endpoint.operation)
    })
}

#[test]
fn the_most_specific_endpoint_decides() {
    let policy = policy();
    for (method, path, pattern, operation) in [
        (
            Method::POST,
            "/openai/v1/chat/completions",
            "/v1/chat/completions",
            Operation::ChatCompletions,
        ),
        (
            Method::GET,
            "/openai/v1/models",
            "/v1/models",
            Operation::Tool,
        ),
        (
            Method::GET,
            "/openai/v1/models/gpt-4o",
            "/v1/**",
            Operation::Free,
        ),
        (
            Method::GET,
            "/openai/v1/files/f1",
            "/v1/files/*",
            Operation::Free,
        ),
        (
            Method::DELETE,
            "/openai/v1/files/f1",
            "/v1/files/*",
            Operation::Tool,
        ),
        (
            Method::GET,
            "/openai/v1/files/f1/content",
            "/v1/files/*/content",
            Operation::Tool,
        ),
    ] {
        assert_eq!(
            find_in(&policy, method, path),
            Ok((pattern.to_owned(), operation)),
            "{path}"
        );
    }
}

#[test]
fn a_route_carries_the_bytes_to_send() {
    let policy = policy();
    let route = find(&policy, &Method::GET, "/openai/v1/files/a%20b").expect("a route");
    assert_eq!(route.path, "/v1/files/a%20b");
    assert_eq!(route.provider.name.as_str(), "openai");
}

#[test]
fn what_is_not_listed_is_refused() {
    let policy = policy();
    for path in [
        "/openai",
        "/openai/",
        "/openai/v1",
        "/openai/v2/chat/completions",
        "/openai/beta/v1/chat/completions",
        "/OpenAI/v1/models",
        "/anthropic/v1/messages",
        "/v1/chat/completions",
        "/",
    ] {
        assert_eq!(
            find_in(&policy, Method::POST, path),
            Err(Refusal::NotAllowed { what: "route" }),
            "{path}"
        );
    }
}

/// Case 80: nothing that resembles a metered path is reached by another name.
#[test]
fn case_80_a_metered_path_by_another_name_is_refused() {
    let policy = policy();
    for path in [
        "/openai/v1/chat/completions/",
        "/openai/v1/Chat/completions",
        "/openai/v1/chat/completions/x",
        "/openai/v1/chat",
        "/openai/v1/realtime",
        "/openai/v1/engines/gpt-4o/completions",
        "/openai/v2/chat/completions",
        "/openai/v1/responses",
    ] {
        let refused = find_in(&policy, Method::POST, path);
        assert!(
            matches!(refused, Err(Refusal::NotAllowed { .. })),
            "{path}: {refused:?}"
        );
    }
}

#[test]
fn a_broader_endpoint_answers_for_methods_the_specific_one_leaves_out() {
    assert_eq!(
        find_in(&policy(), Method::GET, "/openai/v1/chat/completions"),
        Ok(("/v1/**".to_owned(), Operation::Free))
    );
}

#[test]
fn a_method_that_is_not_listed_is_refused() {
    let policy = policy();
    for (method, path) in [
        (Method::DELETE, "/openai/v1/chat/completions"),
        (Method::PUT, "/openai/v1/files/f1"),
        (Method::HEAD, "/openai/v1/models"),
        (Method::OPTIONS, "/openai/v1/models"),
        (Method::TRACE, "/openai/v1/models"),
        (Method::CONNECT, "/openai/v1/models"),
    ] {
        assert_eq!(
            find_in(&policy, method.clone(), path),
            Err(Refusal::NotAllowed { what: "method" }),
            "{method} {path}"
        );
    }
    let odd = Method::from_bytes(b"post").expect("a token");
    let refused = find_in(&policy, odd, "/openai/v1/chat/completions");
    assert_eq!(refused, Err(Refusal::NotAllowed { what: "method" }));
}

/// Case 57: paths that could be read in two ways.
#[test]
fn case_57_ambiguous_paths_are_refused() {
    let policy = policy();
    for path in [
        "",
        "*",
        "openai/v1/models",
        "/openai/v1/chat/completions/../../admin",
        "/openai/v1/./models",
        "/openai/..",
        "/openai/v1/%2e%2e/models",
        "/openai/v1/%2E/models",
        "/openai/v1/.%2e/models",
        "/openai/v1/..%2fmodels",
        "/openai/v1/files/%2Fetc",
        "/openai/v1/%252e%252e/models",
        "/openai/v1/files/%25",
        "/openai//v1/models",
        "//openai/v1/models",
        "//v1",
        "/openai/v1/models//",
        "/openai/v1;x=/..",
        "/openai/v1/files/a;b",
        "/openai/v1/files/a%3Bb",
        "/openai/v1%00",
        "/openai/v1/files/a%0d%0aHost:%20x",
        "/openai/v1/files/%7f",
        "/openai\\v1\\models",
        "/openai/v1/files/..%5c",
        "/openai/v1/chat/completions%2f",
        "/openai/v1/chat/completions%3f",
        "/openai/v1/chat/completions%23",
        "/openai/v1/chat/completions#x",
        "/openai/v1/chat/completions?x",
        "/openai/v1/chat/complet%69ons",
        "/openai/v1/files/%",
        "/openai/v1/files/%4",
        "/openai/v1/files/%zz",
        "/openai/v1/files/%+1",
        "/openai/v1/files/%c0%af",
        "/openai/v1/files/%c0%ae%c0%ae",
        "/openai/v1/files/%e9",
        "/openai/v1/files/ü",
        "/openai/v1/files/a b",
        "/openai/v1/files/a\tb",
        "/openai/v1/files/\u{ff0e}\u{ff0e}",
        "/openai/v1/files/\"x\"",
        "/openai/v1/files/{x}",
    ] {
        for method in [Method::GET, Method::POST] {
            let refused = find_in(&policy, method, path);
            assert!(
                matches!(
                    refused,
                    Err(Refusal::Malformed {
                        code: "ambiguous_path",
                        ..
                    })
                ),
                "{path:?}: {refused:?}"
            );
        }
    }
}

#[test]
fn honest_escapes_pass_untouched() {
    let policy = policy();
    for path in [
        "/openai/v1/files/report%20final.pdf",
        "/openai/v1/files/caf%C3%A9",
        "/openai/v1/files/a+b,c=d@e:f!~$&'()*",
        "/openai/v1/files/...",
        "/openai/v1/files/.hidden",
        "/openai/v1/files/a..b",
    ] {
        assert!(find_in(&policy, Method::GET, path).is_ok(), "{path}");
    }
}

const BEDROCK: &str = r#"
[provider]
name = "bedrock"
upstream = "https://bedrock-runtime.us-east-1.amazonaws.test"
dialect = "bedrock"
[[endpoint]]
method = "POST"
path = "/model/{model}/converse"
operation = "converse"
[[endpoint]]
method = "POST"
path = "/guardrail/*/apply"
operation = "tool"
"#;

const GEMINI: &str = r#"
[provider]
name = "gemini"
upstream = "https://generativelanguage.googleapis.test"
dialect = "gemini"
[[endpoint]]
method = "POST"
path = "/v1beta/models/{model}:generateContent"
operation = "generate_content"
[[endpoint]]
method = "POST"
path = "/v1beta/models/{model}:countTokens"
operation = "free"
[[endpoint]]
method = "GET"
path = "/v1beta/models/{model}"
operation = "free"
"#;

fn policy_of(text: &str) -> Policy {
    let path = "providers/p.toml".to_owned();
    let text = text.to_owned();
    crate::policy::parse(&[PolicyFile { path, text }]).expect("a policy")
}

fn model_in(policy: &Policy, path: &str) -> Result<String, &'static str> {
    match find(policy, &Method::POST, path) {
        Ok(route) => Ok(route.model.expect("a model").to_string()),
        Err(refusal) => Err(refusal.code()),
    }
}

#[test]
fn the_model_in_a_path_is_decoded_once() {
    let (bedrock, gemini) = (policy_of(BEDROCK), policy_of(GEMINI));
    for (policy, path, model) in [
        (
            &bedrock,
            "/bedrock/model/anthropic.claude-v2:1/converse",
            "anthropic.claude-v2:1",
        ),
        (
            &bedrock,
            "/bedrock/model/anthropic.claude-v2%3A1/converse",
            "anthropic.claude-v2:1",
        ),
        (
            &bedrock,
            "/bedrock/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.meta.x/converse",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.meta.x",
        ),
        (
            &bedrock,
            "/bedrock/model/arn:aws:bedrock:us-east-1:1:custom-model%2fa.b%2fc/converse",
            "arn:aws:bedrock:us-east-1:1:custom-model/a.b/c",
        ),
        (
            &gemini,
            "/gemini/v1beta/models/gemini-2.5-pro:generateContent",
            "gemini-2.5-pro",
        ),
        (
            &gemini,
            "/gemini/v1beta/models/claude%4020250514:generateContent",
            "claude@20250514",
        ),
    ] {
        assert_eq!(model_in(policy, path), Ok(model.to_owned()), "{path}");
    }
    let free = find(&policy(), &Method::GET, "/openai/v1/files/f1").expect("a route");
    assert_eq!(free.model, None);
}

#[test]
fn an_escaped_slash_stands_in_the_arn_of_a_bedrock_model_and_nowhere_else() {
    let policy = policy_of(BEDROCK);
    for path in [
        "/bedrock/model/a%2Fb/converse",
        "/bedrock/model/%2F/converse",
        "/bedrock/model/arn:a%2F..%2F..%2Fadmin/converse",
        "/bedrock/model/arn:a%2F.%2Fb/converse",
        "/bedrock/model/arn:a%2F%2Fb/converse",
        "/bedrock/model/arn:a%2F/converse",
        "/bedrock/model/arn:a%252Fb/converse",
        "/bedrock/model/arn:a%5Cb/converse",
        "/bedrock/model%2Farn:a/converse",
        "/bedrock%2Fmodel/arn:a/converse",
        "/bedrock/model/arn:a%2Fb/converse%2F",
        "/bedrock/model/arn:a%2Fb/invoke",
        "/bedrock/guardrail/arn:a%2Fb/apply",
        "/nowhere/arn:a%2Fb",
    ] {
        assert_eq!(model_in(&policy, path), Err("ambiguous_path"), "{path}");
    }
    let gemini = policy_of(GEMINI);
    for path in [
        "/gemini/v1beta/models/arn%2Fb:generateContent",
        "/gemini/v1beta/models/arn:a%2Fb:generateContent",
    ] {
        assert_eq!(model_in(&gemini, path), Err("ambiguous_path"), "{path}");
    }
}

#[test]
fn a_model_that_two_programs_could_read_differently_is_refused() {
    let policy = policy_of(BEDROCK);
    let long = format!("/bedrock/model/{}/converse", "a".repeat(257));
    for path in [
        "/bedrock/model/a%20b/converse",
        "/bedrock/model/caf%C3%A9/converse",
        "/bedrock/model/%61/converse",
        "/bedrock/model/a%25/converse",
        "/bedrock/model/a%3Fb/converse",
        &long,
    ] {
        assert_eq!(model_in(&policy, path), Err("ambiguous_path"), "{path}");
    }
}

#[test]
fn a_route_speaks_the_language_of_its_clients() {
    let more = "[[endpoint]]\nmethod = \"POST\"\npath = \"/openai/v1/chat/completions\"\noperation = \"chat_completions\"\n\
                [[endpoint]]\nmethod = \"POST\"\npath = \"/v1/messages\"\noperation = \"messages\"\n";
    let policy = policy_of(&format!("{BEDROCK}{more}"));
    for (path, dialect) in [
        ("/bedrock/model/m/converse", Dialect::Bedrock),
        ("/bedrock/guardrail/g/apply", Dialect::Bedrock),
        ("/bedrock/openai/v1/chat/completions", Dialect::OpenAi),
        ("/bedrock/v1/messages", Dialect::Anthropic),
    ] {
        let route = find(&policy, &Method::POST, path).expect(path);
        assert_eq!(route.dialect(), dialect, "{path}");
    }
}

/// Case 80: a paid action is not reached by the name of a free one, nor an unlisted one at all.
#[test]
fn case_80_another_action_is_not_reached_by_a_look_alike() {
    let policy = policy_of(GEMINI);
    for path in [
        "/gemini/v1beta/models/gemini:generateContent:countTokens",
        "/gemini/v1beta/models/gemini%3AgenerateContent:countTokens",
        "/gemini/v1beta/models/gemini:countTokens%3AgenerateContent",
        "/gemini/v1beta/models/gemini%3AgenerateContent",
        "/gemini/v1beta/models/gemini:generateContent%3AcountTokens",
        "/gemini/v1beta/models/gemini:streamGenerateContent",
        "/gemini/v1beta/models/gemini:GenerateContent",
        "/gemini/v1beta/models/gemini:generateContent/",
        "/gemini/v1beta/models/gemini:generateContent:",
        "/gemini/v1beta/models/:generateContent",
        "/gemini/v1beta/models/gemini",
        "/gemini/v1beta/models/x/gemini:generateContent",
    ] {
        assert_eq!(model_in(&policy, path), Err("not_allowed"), "{path}");
    }
    for query in [
        "$httpMethod=POST",
        "x=1&%24httpMethod=POST",
        "$HTTPHEADERS=a:b",
        "$req=%7B%7D",
        "$ct=x",
    ] {
        assert!(refuse_method_override(Some(query)).is_err(), "{query}");
    }
    assert_eq!(
        refuse_method_override(Some("$alt=json&alt=sse&$filter=x")),
        Ok(())
    );
}

/// Case 58: the method that was checked is the method that counts.
#[test]
fn case_58_method_overrides_are_refused_or_listed_for_removal() {
    for name in ["x-http-method-override", "x-original-url", "x-rewrite-url"] {
        assert!(OVERRIDE_HEADERS.contains(&name), "{name}");
    }
    for query in [
        "_method=DELETE",
        "a=1&_method=PUT",
        "_Method",
        "%5fmethod=x",
        "a;_method=x",
    ] {
        let refused = refuse_method_override(Some(query));
        assert_eq!(
            refused.map_err(|refusal| refusal.code()),
            Err("method_override"),
            "{query}"
        );
    }
    for query in [None, Some(""), Some("method=x&a_method=y&x=_method")] {
        assert_eq!(refuse_method_override(query), Ok(()), "{query:?}");
    }
}

proptest! {
    /// Whatever passes reads the same to a server that decodes it, once or twice, or that resolves
    /// dot segments: same segments, no new ones, none that climb.
    #[test]
    fn a_path_that_passes_reads_the_same_decoded(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "/", "/", "a", "B", ".", "..", "%2e", "%2E", "%2f", "%25", "%5c", "\\", "%00", ";", "%3b", "%20",
                "%c3%a9", "%c0%af", "%", "%4", "?", "#", "é", " ", "~", "%61", "+",
            ]),
            0..10,
        )
    ) {
        let path = format!("/{}", parts.concat());
        if refuse_ambiguity(&path).is_ok() {
            let once = String::from_utf8(decode(&path)).expect("UTF-8");
            prop_assert_eq!(&decode(&once), once.as_bytes(), "decodes to the same again");
            prop_assert_eq!(once.matches('/').count(), path.matches('/').count());
            prop_assert!(!once.contains("//") && !once.contains('\\') && !once.contains(';'));
            prop_assert!(!once.chars().any(char::is_control));
            prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
        }
    }
}
