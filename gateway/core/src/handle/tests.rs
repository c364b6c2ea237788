use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::ids::AgentId;
use crate::policy::{
    Binding, Caps, Credential, Credentials, Dialect, Endpoints, Grants, ModelLimits, Place,
    Provider, Tenant, Upstream,
};
use crate::rate::Limits;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::vault::{SecretName, VaultScope};

mod fields;
mod inject;
mod places;

const PATH: &str = "/v1/chat/completions";

fn header_place(name: &'static str, prefix: &str) -> Place {
    Place::Header {
        name: HeaderName::from_static(name),
        prefix: prefix.to_owned(),
    }
}

fn bearer() -> Place {
    header_place("authorization", "Bearer ")
}

fn query_place() -> Place {
    Place::Query {
        name: "key".to_owned(),
    }
}

fn provider(place: Option<Place>) -> Provider {
    Provider {
        name: "openai".parse().expect("a provider"),
        upstream: Upstream {
            tls: true,
            host: "api.openai.test".to_owned(),
            port: 443,
            base_path: String::new(),
            ca_file: None,
            http2: true,
            insecure_plain_http: false,
        },
        address: "api.example:443".into(),
        dialect: Dialect::OpenAi,
        prices: None,
        place,
        endpoints: Endpoints::default(),
        aliases: std::collections::BTreeMap::new(),
        asks_for_usage: true,
    }
}

fn credential(name: &str, place: Place) -> Credential {
    Credential {
        name: name.parse().expect("a handle name"),
        secret: SecretName {
            scope: VaultScope::Platform,
            name: name.parse().expect("a handle name"),
        },
        provider: "openai".parse().expect("a provider"),
        is_default: false,
        agents: Vec::new(),
        binding: Binding {
            tls: true,
            host: "api.openai.test".to_owned(),
            port: 443,
            methods: Vec::new(),
            paths: Vec::new(),
            place,
        },
        kind: crate::policy::CredentialKind::Static,
    }
}

fn tenant(credentials: Vec<Credential>) -> Tenant {
    Tenant {
        id: "acme".parse().expect("a tenant"),
        enabled: true,
        caps: Caps::default(),
        task_cap: None,
        limits: Limits::default(),
        default_max_output_tokens: 4096,
        grants: Grants::default(),
        elevated: Vec::new(),
        credentials: credentials.into_iter().map(Arc::new).collect(),
        agents: BTreeMap::new(),
        disabled_agents: std::collections::BTreeSet::new(),
        records: Default::default(),
        usage_readers: Vec::new(),
        clamp: None,
        unreported: crate::policy::Unreported::default(),
        notify_percent: Vec::new(),
        models: ModelLimits::default(),
    }
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            name.parse::<HeaderName>().expect("a header name"),
            HeaderValue::from_bytes(value.as_bytes()).expect("a header value"),
        );
    }
    headers
}

fn agent(id: &str) -> AgentId {
    id.parse().expect("an agent")
}

/// One call, varied by each test from a good one.
struct Case {
    tenant: Tenant,
    provider: Provider,
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Case {
    /// A tenant with the credential `openai` in `place` and without a default, and a request
    /// with these headers.
    fn new(place: Place, lines: &[(&str, &str)]) -> Self {
        Self {
            tenant: tenant(vec![credential("openai", place.clone())]),
            provider: provider(Some(place)),
            method: Method::POST,
            path: PATH.to_owned(),
            query: None,
            headers: headers(lines),
            body: Vec::new(),
        }
    }

    fn with_default(mut self) -> Self {
        self.edit(|credential| credential.is_default = true);
        self
    }

    fn query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }

    fn edit(&mut self, change: impl FnOnce(&mut Credential)) {
        let taken = std::mem::take(&mut self.tenant.credentials);
        let mut all: Vec<_> = taken.values().cloned().collect();
        drop(taken);
        let credential = all.first_mut().and_then(Arc::get_mut);
        change(credential.expect("a credential that is not shared"));
        self.tenant.credentials = all.into_iter().collect();
    }

    fn bind(&self) -> Result<Bound, Refusal> {
        let asked = Asked {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        };
        let agent = agent("a1");
        let head = bind(&asked, &self.tenant, &agent, &self.provider)?;
        head.with_body(&asked, &self.tenant, &agent, &self.provider, &self.body)
    }

    /// The credential it was bound to, or the code of the refusal.
    fn outcome(&self) -> Result<String, &'static str> {
        match self.bind() {
            Ok(bound) => Ok(bound
                .credential()
                .map_or_else(String::new, |credential| credential.name.to_string())),
            Err(refusal) => Err(refusal.code()),
        }
    }

    /// Headers and query as the upstream gets them.
    fn sent(&self, secret: &str) -> (HeaderMap, Option<String>) {
        let bound = self.bind().expect("a bound call");
        let (mut headers, mut query) = (self.headers.clone(), self.query.clone());
        let secret = Secret::new(secret.as_bytes().to_vec());
        bound
            .inject(&mut headers, &mut query, None, &secret)
            .expect("a sendable secret");
        (headers, query)
    }
}

const OPENAI: Result<&str, &str> = Ok("openai");
const BAD: Result<&str, &str> = Err("bad_handle");
const DENIED: Result<&str, &str> = Err("credential_denied");
const REPEATED: Result<&str, &str> = Err("handle_repeated");

fn assert_outcome(case: &Case, expected: Result<&str, &'static str>, what: &str) {
    assert_eq!(case.outcome(), expected.map(str::to_owned), "{what}");
}

/// Cases 1 and 2.
#[test]
fn case_02_both_forms_resolve_in_the_declared_header() {
    for value in [
        "Bearer $CRED{openai}",
        "Bearer $CRED<openai>",
        "bearer $CRED{openai}",
        "token $CRED{openai}",
        "$CRED{openai}",
        "$CRED<openai>",
    ] {
        let case = Case::new(bearer(), &[("authorization", value)]);
        assert_outcome(&case, OPENAI, value);
    }
    let bare = header_place("x-api-key", "");
    let case = Case::new(bare.clone(), &[("x-api-key", "$CRED{openai}")]);
    assert_outcome(&case, OPENAI, "a bare header");
    let case = Case::new(bare, &[("x-api-key", "Bearer $CRED{openai}")]);
    assert_outcome(&case, BAD, "a scheme where there is none");
}

/// Cases 2, 11, 21 and 22.
#[test]
fn case_02_near_misses_are_never_resolved() {
    let long = format!("$CRED{{{}}}", "a".repeat(65));
    for text in [
        "$CRED{openai>",
        "$CRED<openai}",
        "$CRED[openai]",
        "$CRED(openai)",
        "$cred{openai}",
        "$Cred{openai}",
        "$CRED{ openai }",
        "$CRED {openai}",
        "$CRED{}",
        "$CRED<>",
        "$CRED",
        "$CRED{a}{b}",
        "$$CRED{openai}",
        "$CRED{{openai}}",
        "${CRED}{openai}",
        "\\$CRED{openai}",
        "$CRED{openai}x",
        "x$CRED{openai}",
        "$CRED{openai",
        "CRED{openai}",
        "CRED~openai~",
        "$CRED~openai~",
        "{openai}",
        "<openai>",
        "enai}",
        "$CRED{op",
        "${openai}",
        "$openai",
        "%24CRED%7Bopenai%7D",
        "\\u0024CRED{openai}",
        "$CRED{op, enai}",
        "$CRED{op,enai}",
        "$CRED{openai}, sk-own",
        "sk-own, $CRED{openai}",
        "'$CRED{openai}'",
        "\"$CRED{openai}\"",
        "$CRED{OPENAI}",
        "$CRED{openai.key}",
        "$CRED{-openai}",
        "$CRED{_openai}",
        &long,
        "\u{ff04}CRED{openai}",
        "\u{ff04}\u{ff23}RED<openai>",
        "$\u{421}RED{openai}",
        "$CRED{op\u{435}nai}",
        "$CRED{open\u{200d}ai}",
        "$CRED\u{ff5b}openai\u{ff5d}",
    ] {
        for value in [text.to_owned(), format!("Bearer {text}")] {
            let case = Case::new(bearer(), &[("authorization", &value)]).with_default();
            assert_outcome(&case, BAD, &value);
            let case = Case::new(bearer(), &[("x-api-key", &value)]).with_default();
            assert_outcome(&case, BAD, &value);
        }
        let bare = header_place("x-key", "");
        let case = Case::new(bare, &[("x-key", text)]).with_default();
        assert_outcome(&case, BAD, text);
    }
    for value in [
        "Bearer  $CRED{openai}",
        "Bearer\t$CRED{openai}",
        "Digest $CRED{openai}",
        "Bearer$CRED{openai}",
    ] {
        let case = Case::new(bearer(), &[("authorization", value)]).with_default();
        assert_outcome(&case, BAD, value);
    }
}

/// Case 21.
#[test]
fn case_21_the_hint_for_a_shell_remnant_names_quoting() {
    let case = Case::new(bearer(), &[("authorization", "Bearer {openai}")]);
    let refusal = case.bind().expect_err("a remnant");
    assert!(refusal.to_string().contains("single quotes"), "{refusal}");
    let case = Case::new(bearer(), &[("authorization", "Bearer $CRED[openai]")]);
    let refusal = case.bind().expect_err("a near miss");
    assert!(refusal.to_string().contains("$CRED{name}"), "{refusal}");
}

/// Cases 3 to 6: the answer is one and the same, whatever is wrong.
#[test]
fn case_03_every_denial_looks_the_same() {
    let handle = [("authorization", "Bearer $CRED{openai}")];
    let changed = |change: fn(&mut Case)| {
        let mut case = Case::new(bearer(), &handle);
        change(&mut case);
        case
    };
    let edited = |change: fn(&mut Credential)| {
        let mut case = Case::new(bearer(), &handle);
        case.edit(change);
        case
    };
    let other_agents = |credential: &mut Credential| {
        credential.agents = vec!["b*".parse().expect("a pattern")];
    };
    let cases = [
        (
            "credential_unknown",
            changed(|case| case.tenant.credentials = Credentials::default()),
        ),
        (
            "credential_provider",
            edited(|it| it.provider = "other".parse().expect("a name")),
        ),
        ("credential_agent", edited(other_agents)),
        (
            "credential_origin",
            edited(|it| it.binding.host = "evil.test".to_owned()),
        ),
        (
            "credential_origin",
            edited(|it| it.binding.host = "api.openai.test.".to_owned()),
        ),
        ("credential_origin", edited(|it| it.binding.port = 8443)),
        ("credential_origin", edited(|it| it.binding.tls = false)),
        (
            "credential_method",
            edited(|it| it.binding.methods = vec![Method::GET]),
        ),
        (
            "credential_path",
            edited(|it| it.binding.paths = vec!["/*".parse().expect("a pattern")]),
        ),
        (
            "credential_place",
            edited(|it| it.binding.place = Place::Basic),
        ),
        (
            "credential_place",
            changed(|case| case.provider.place = None),
        ),
        (
            "credential_plain_http",
            changed(|case| {
                case.provider.upstream.tls = false;
                case.edit(|it| it.binding.tls = false);
            }),
        ),
    ];
    let mut answers = Vec::new();
    for (reason, case) in &cases {
        let refusal = case.bind().expect_err(reason);
        assert_eq!(refusal.reason(), *reason);
        answers.push((refusal.code(), refusal.to_string()));
    }
    answers.dedup();
    assert_eq!(
        answers.len(),
        1,
        "an answer tells one denial from another: {answers:?}"
    );
}

/// Case 4: a name is looked up with the tenant that was authenticated, and nowhere else.
#[test]
fn case_04_two_tenants_with_the_same_name_get_each_their_own() {
    let mut case = Case::new(bearer(), &[("authorization", "Bearer $CRED{openai}")]);
    let first = case.bind().expect("bound");
    case.tenant = tenant(vec![credential("openai", bearer())]);
    case.edit(|credential| credential.agents = vec!["a*".parse().expect("a pattern")]);
    let second = case.bind().expect("bound");
    assert_ne!(first, second);
    case.tenant = tenant(vec![credential("another", bearer())]);
    assert_outcome(&case, DENIED, "a name of another tenant");
}

/// Case 6, from the side of what is allowed.
#[test]
fn case_06_what_the_binding_names_is_allowed() {
    let mut case = Case::new(bearer(), &[("authorization", "Bearer $CRED{openai}")]);
    case.edit(|credential| {
        credential.agents = vec!["a1".parse().expect("a pattern")];
        credential.binding.methods = vec![Method::GET, Method::POST];
        credential.binding.paths = vec!["/v1/**".parse().expect("a pattern")];
    });
    assert_outcome(&case, OPENAI, "all named");
    case.path = "/v2/chat".to_owned();
    assert_outcome(&case, DENIED, "another path");
    case.path = PATH.to_owned();
    case.provider.upstream.tls = false;
    case.provider.upstream.insecure_plain_http = true;
    assert_outcome(&case, DENIED, "another scheme");
    case.edit(|credential| credential.binding.tls = false);
    assert_outcome(&case, OPENAI, "plain http that was allowed by name");
}

/// Case 8: bodies are only ever noted.
#[test]
fn case_08_a_handle_in_a_body_is_noticed() {
    for (body, expected) in [
        ("{\"content\":\"use $CRED{openai}\"}", true),
        ("{\"content\":\"use $CRED<openai>\"}", true),
        ("{\"content\":\"use \\u0024CRED{openai}\"}", true),
        ("{\"content\":\"use \\u0024CRED\\u007bopenai}\"}", true),
        ("$CRED{", true),
        ("{\"content\":\"CREDIT $CREDIT CRED{x}\"}", false),
        ("$CRED", false),
        ("", false),
    ] {
        assert_eq!(mentions_handle(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn names_follow_the_grammar_to_the_letter() {
    let longest = "a".repeat(64);
    for name in ["a", "0", "openai_key", "open-ai", &longest] {
        for text in [format!("$CRED{{{name}}}"), format!("$CRED<{name}>")] {
            let found = whole(text.as_bytes(), Surface::Header);
            assert_eq!(found, name.parse().ok(), "{text}");
        }
        let tilde = format!("CRED~{name}~");
        assert_eq!(whole(tilde.as_bytes(), Surface::Url), name.parse().ok());
        assert_eq!(whole(tilde.as_bytes(), Surface::Header), None);
    }
}

#[test]
fn provider_keys_and_tokens_resemble_no_handle() {
    for key in [
        "Bearer sk-proj-AbC_123-xyz",
        "sk-ant-api03-abc",
        "AIzaSyD-abc_123",
        "ghp_abcDEF123",
        "Bearer eyJhbGciOi.eyJpc3Mi.c2ln",
        "xoxb-1-2-abc",
        "Bearer",
        "",
        "Basic eDp5",
        "AWS4-HMAC-SHA256 Credential=AKIA/20261123/us-east-1/s3/aws4_request, Signature=ab",
        "glpat-abc==",
        "a/b+c=",
        "sacred-key",
        "CREDIT-1",
    ] {
        assert_eq!(near_miss(key.as_bytes()), None, "{key}");
    }
}

proptest::proptest! {
    /// Whatever a client sends, binding ends in a decision.
    #[test]
    fn binding_never_panics(value in "[\\x20-\\x7e]{0,40}", query in "[!-~]{0,40}") {
        for place in [bearer(), Place::Basic, query_place()] {
            let case = Case::new(place, &[("authorization", &value), ("x-any", &value)]);
            let _any = case.query(&query).bind();
        }
    }

    /// A handle is found by both readers, or by neither.
    #[test]
    fn a_whole_handle_is_also_one_among_others(text in "(\\$|)CRED[{<~][a-z_-]{0,5}[}>~]") {
        for surface in [Surface::Header, Surface::Url] {
            if let Some(name) = whole(text.as_bytes(), surface) {
                let expected = Handles { first: Some(name), count: 1 };
                proptest::prop_assert_eq!(all(text.as_bytes(), surface), expected);
            }
        }
    }
}
