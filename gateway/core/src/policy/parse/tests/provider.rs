//! Endpoints that clash or lack their model, aliases, and how streams are asked for usage.

use super::*;

#[test]
fn endpoints_that_contradict_each_other_are_mistakes() {
    let endpoint = |method: &str, path: &str, operation: &str| {
        format!(
            "[[endpoint]]\nmethod = \"{method}\"\npath = \"{path}\"\noperation = \"{operation}\"\n"
        )
    };
    let provider = |endpoints: [String; 2]| {
        let head =
            "[provider]\nname = \"p\"\nupstream = \"https://p.example\"\ndialect = \"openai\"\n";
        format!("{head}{}", endpoints.concat())
    };
    let chat = endpoint("POST", "/v1/chat/completions", "chat_completions");
    for (endpoints, expected) in [
        (
            [chat.clone(), chat.clone()],
            "policies/providers/p.toml:11:8: POST /v1/chat/completions is already defined above",
        ),
        (
            [
                endpoint("GET", "/a/*", "free"),
                endpoint("GET", "/*/b", "free"),
            ],
            "policies/providers/p.toml:11:8: GET /*/b and /a/* both fit some paths and neither is the more specific; make them disjoint",
        ),
        (
            [chat.clone(), endpoint("POST", "/v1/**", "tool")],
            "policies/providers/p.toml:11:8: /v1/** is not metered but surrounds /v1/chat/completions, which is: a look-alike path would be called without being paid for; list the paths instead",
        ),
        (
            [
                chat.clone(),
                endpoint("POST", "/v1/batches", "message_batch"),
            ],
            "policies/providers/p.toml:12:13: this operation is metered in the wire language of dialect = \"anthropic\"",
        ),
        (
            [
                endpoint("POST", "/m/{model}", "free"),
                endpoint("POST", "/m/*", "free"),
            ],
            "policies/providers/p.toml:11:8: POST /m/* is already defined above as /m/{model}",
        ),
        (
            [
                endpoint("POST", "/m/{model}:embed", "embeddings"),
                endpoint("POST", "/m/*", "free"),
            ],
            "policies/providers/p.toml:11:8: /m/* is not metered but surrounds /m/{model}:embed, which is: a look-alike path would be called without being paid for; list the paths instead",
        ),
        (
            [
                chat.clone(),
                endpoint("POST", "/m/{model}/{model}", "embeddings"),
            ],
            "policies/providers/p.toml:11:8: `path` is \"/m/{model}/{model}\", but `{model}` stands once, for a whole segment or for one that ends in `:` and a word, such as /models/{model}:generateContent",
        ),
    ] {
        assert_eq!(provider_mistakes(&provider(endpoints)), expected);
    }
    let reading_beside = provider([chat, endpoint("GET", "/v1/**", "free")]);
    assert!(parse(&[file("providers/p.toml", &reading_beside)]).is_ok());
}

#[test]
fn a_model_that_only_the_path_names_has_its_place_there() {
    let mistake = |dialect: &str, path: &str, operation: &str| {
        provider_mistakes(&format!(
            "[provider]\nname = \"p\"\nupstream = \"https://p.example\"\ndialect = \"{dialect}\"\n\
             [[endpoint]]\nmethod = \"POST\"\npath = \"{path}\"\noperation = \"{operation}\"\n"
        ))
    };
    for (dialect, path, operation) in [
        ("bedrock", "/model/*/converse", "converse"),
        ("bedrock", "/model/*/invoke", "invoke_model"),
        ("gemini", "/v1/models/*", "generate_content"),
        ("gemini", "/v1/models/*", "embed_content"),
        ("gemini", "/v1/models/*", "messages"),
    ] {
        assert_eq!(
            mistake(dialect, path, operation),
            "policies/providers/p.toml:7:8: here the path names the model, not the body: put `{model}` in its place",
        );
    }
    assert_eq!(
        mistake("http", "/v1/chat/completions", "chat_completions"),
        "policies/providers/p.toml:8:13: this operation is paid by tokens, which dialect = \"http\" knows nothing of"
    );
}

#[test]
fn aliases_and_the_wording_of_streams_are_read() {
    let provider = |settings: &str, aliases: &str| {
        let text = OPENAI.replace("[provider]\n", &format!("[provider]\n{settings}\n"));
        file(
            "policies/providers/openai.toml",
            &format!("{text}{aliases}"),
        )
    };
    let plain = parse(&[provider("", "")]).expect("a policy");
    assert!(plain.providers["openai"].asks_for_usage);
    assert!(plain.providers["openai"].aliases.is_empty());

    let aliases = "[aliases]\nmy-deployment = \"gpt-4.1\"\n\"arn:aws:x/y\" = \"claude\"\n";
    let policy = parse(&[provider("usage_in_streams = \"as_is\"", aliases)]).expect("a policy");
    let openai = &policy.providers["openai"];
    assert!(!openai.asks_for_usage);
    let read: Vec<_> = openai
        .aliases
        .iter()
        .map(|(alias, model)| (alias.as_str(), model.as_str()))
        .collect();
    assert_eq!(
        read,
        [("arn:aws:x/y", "claude"), ("my-deployment", "gpt-4.1")]
    );

    let wrong = "[aliases]\na = 5\n\"\" = \"x\"\nb = \"\"\n";
    let told = mistakes(&[provider("usage_in_streams = \"never\"", wrong)]);
    assert_eq!(
        told,
        r#"policies/providers/openai.toml:3:20: `usage_in_streams` must be one of ask, as_is, not "never"
policies/providers/openai.toml:21:5: `aliases.a` must be a text in quotes, not 5
policies/providers/openai.toml:22:1: `` cannot be used here: a model name must be 1 to 256 characters without control characters
policies/providers/openai.toml:23:5: `aliases.b` is "", but a model name must be 1 to 256 characters without control characters"#
    );
}

#[test]
fn fields_of_a_body_are_places_and_paths_are_not() {
    let placed =
        |place: &str| OPENAI.replace("[provider]\n", &format!("[provider]\nplace = {place}\n"));
    for (text, expected) in [
        (
            "{ json_field = \"/auth/api_key\" }",
            Place::JsonField {
                pointer: "/auth/api_key".parse().expect("a pointer"),
            },
        ),
        (
            "{ form_field = \"auth[key]\" }",
            Place::FormField {
                name: "auth[key]".to_owned(),
            },
        ),
    ] {
        let policy = parse(&[file("policies/providers/openai.toml", &placed(text))]);
        let policy = policy.expect("a policy");
        assert_eq!(policy.providers["openai"].place, Some(expected));
    }
    for (text, wrong) in [
        (
            "{ json_field = \"api_key\" }",
            "`json_field` is \"api_key\", but must be a JSON pointer",
        ),
        ("{ json_field = \"/\" }", "must be a JSON pointer"),
        ("{ json_field = 1 }", "must be a text in quotes"),
        (
            "{ form_field = \"\" }",
            "`form_field` is \"\", but a field's name is 1 to 128",
        ),
        ("{ form_field = \"a b\" }", "1 to 128 visible characters"),
        (
            "{ json_field = \"/a\", form_field = \"a\" }",
            "a place is one of",
        ),
        (
            "{ form_field = \"a\", prefix = \"x\" }",
            "`prefix` goes with `header` only",
        ),
        ("{ path = \"/bot/*\" }", "`path` is no place for a secret"),
    ] {
        let mistakes = provider_mistakes(&placed(text));
        assert!(mistakes.contains(wrong), "{text}: {mistakes}");
        assert_eq!(
            mistakes.lines().count(),
            1,
            "one mistake, told once: {mistakes}"
        );
    }
}
