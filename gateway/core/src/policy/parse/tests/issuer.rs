//! Issuer files, and whose tokens their mappings make of claims.

use serde_json::{Value, json};

use super::*;
use crate::policy::issuer::{KeySource, MapFault, Mapped};
use crate::policy::{Issuer, Policy};

const KUBERNETES: &str = r#"
[issuer]
name = "kubernetes"
iss = "https://kubernetes.default.svc"
audience = "tollgate"
algorithms = ["RS256"]
jwks_url = "https://kubernetes.default.svc/openid/v1/jwks"
ca_file = "keys/ca.crt"
bearer_token_file = "/var/run/token"
max_age_seconds = 7200

[[map]]
when = { "/kubernetes.io/namespace" = "acme", "/sub" = "system:serviceaccount:acme:*" }
tenant = "acme"
agent = { claim = "/sub", strip_prefix = "system:serviceaccount:acme:" }
task = { claim = "/kubernetes.io/pod/name" }

[[map]]
when = { "/kubernetes.io/namespace" = "batch" }
tenant = "acme"
agent = "batch"
task_may_be_requested = true
"#;

const TENANT: &str = "[tenant]\nid = \"acme\"\n";

fn files(issuer: &str) -> [PolicyFile; 2] {
    [
        file("policies/issuers/i.toml", issuer),
        file("policies/tenants/acme.toml", TENANT),
    ]
}

fn policy(issuer: &str) -> Policy {
    parse(&files(issuer)).expect("a policy")
}

fn kubernetes() -> Arc<Issuer> {
    Arc::clone(&policy(KUBERNETES).issuers["https://kubernetes.default.svc"])
}

#[test]
fn an_issuer_file_is_read_whole() {
    let issuer = kubernetes();
    assert_eq!(issuer.name, "kubernetes");
    assert_eq!(issuer.expected.audience, "tollgate");
    assert_eq!(
        issuer.expected.max_age.map(|age| age.as_secs()),
        Some(7_200)
    );
    let KeySource::Url {
        at,
        bearer_token_file,
    } = &issuer.keys
    else {
        panic!("a URL");
    };
    assert_eq!((at.tls, at.port), (true, 443));
    assert_eq!(at.base_path, "/openid/v1/jwks");
    let ca_file = at.ca_file.as_deref().and_then(|file| file.to_str());
    assert_eq!(ca_file, Some("policies/keys/ca.crt"));
    let token = bearer_token_file.as_deref().and_then(|file| file.to_str());
    assert_eq!(token, Some("/var/run/token"));
}

#[test]
fn the_version_of_a_policy_covers_its_issuers() {
    let changed = KUBERNETES.replace("7200", "7201");
    assert_ne!(policy(KUBERNETES).version, policy(&changed).version);
}

fn claims(namespace: &str, account: &str, pod: &str) -> Value {
    json!({
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "kubernetes.io": {"namespace": namespace, "pod": {"name": pod}},
    })
}

fn mapped(tenant: &str, agent: &str, task: &str) -> Mapped {
    Mapped {
        tenant: tenant.parse().expect("a tenant"),
        agent: agent.parse().expect("an agent"),
        task: task.parse().expect("a task"),
    }
}

#[test]
fn claims_give_tenant_agent_and_task() {
    let issuer = kubernetes();
    let told = issuer.map(&claims("acme", "bot", "bot-0"), None);
    assert_eq!(told, Ok(mapped("acme", "bot", "bot-0")));
    let task = "job-7".parse().expect("a task");
    let told = issuer.map(&claims("batch", "x", "y"), Some(&task));
    assert_eq!(told, Ok(mapped("acme", "batch", "job-7")));
}

#[test]
fn claims_that_fit_no_mapping_or_give_no_id_give_nobody() {
    use MapFault::{InvalidId, TaskMissing, TaskNotYours, Unmapped};
    let issuer = kubernetes();
    let task = "job-7".parse().expect("a task");
    let other = json!({"sub": "system:serviceaccount:other:bot",
        "kubernetes.io": {"namespace": "acme", "pod": {"name": "p"}}});
    let list = json!({"kubernetes.io": {"namespace": ["batch"]}});
    for (claims, requested, fault) in [
        (claims("globex", "bot", "p"), None, Unmapped),
        (claims("acme2", "bot", "p"), None, Unmapped),
        (claims("ACME", "bot", "p"), None, Unmapped),
        (other, None, Unmapped),
        (list, None, Unmapped),
        (json!({}), None, Unmapped),
        (claims("acme", "bot", "../p"), None, InvalidId),
        (claims("acme", "", "p"), None, InvalidId),
        (claims("acme", "a:b", "p"), None, InvalidId),
        (claims("acme", "bot", ""), None, InvalidId),
        (claims("acme", "bot", "p"), Some(&task), TaskNotYours),
        (claims("batch", "bot", "p"), None, TaskMissing),
    ] {
        assert_eq!(issuer.map(&claims, requested), Err(fault), "{claims}");
    }
}

#[test]
fn claims_that_fit_two_mappings_give_nobody() {
    let both = format!(
        "{KUBERNETES}\n[[map]]\nwhen = {{ \"/sub\" = \"*\" }}\ntenant = \"acme\"\nagent = \"a\"\ntask = \"t\"\n"
    );
    let issuer = Arc::clone(&policy(&both).issuers["https://kubernetes.default.svc"]);
    let fits_two = issuer.map(&claims("acme", "bot", "p"), None);
    assert_eq!(fits_two, Err(MapFault::Ambiguous));
    assert!(issuer.map(&claims("zeta", "bot", "p"), None).is_ok());
}

#[test]
fn conditions_are_exact_in_value_and_kind() {
    let text = r#"
[issuer]
name = "oidc"
iss = "https://id.example.com"
audience = "tollgate"
algorithms = ["ES256", "EdDSA"]
jwks_file = "keys/jwks.json"
[[map]]
when = { "/a~1b/0" = "x", "/verified" = true, "/level" = 3 }
tenant = { claim = "/org" }
agent = "a"
task = "t"
"#;
    let issuer = Arc::clone(&policy(text).issuers["https://id.example.com"]);
    assert_eq!(
        issuer.keys,
        KeySource::File("policies/keys/jwks.json".into())
    );
    let fits = json!({"a/b": ["x"], "verified": true, "level": 3, "org": "acme"});
    assert_eq!(issuer.map(&fits, None), Ok(mapped("acme", "a", "t")));
    for (name, value) in [
        ("verified", json!("true")),
        ("verified", json!(1)),
        ("level", json!("3")),
        ("level", json!(3.5)),
        ("a/b", json!(["y", "x"])),
        ("a/b", json!("x")),
    ] {
        let mut claims = fits.clone();
        claims[name] = value.clone();
        let told = issuer.map(&claims, None);
        assert_eq!(told, Err(MapFault::Unmapped), "{name} = {value}");
    }
}

/// A small file without mistakes: its head, where its keys are, and whose its tokens are.
fn parts() -> [&'static str; 3] {
    let head = "[issuer]\nname = \"k\"\niss = \"i\"\naudience = \"a\"\n";
    let map =
        "[[map]]\nwhen = { \"/sub\" = \"x\" }\ntenant = \"acme\"\nagent = \"a\"\ntask = \"t\"\n";
    let keys = "algorithms = [\"RS256\"]\njwks_file = \"f\"\n";
    [head, keys, map]
}

/// The small file with something else in one place.
fn replaced(from: &str, to: &str) -> String {
    parts().concat().replace(from, to)
}

fn each_is_named(mistaken: &[(String, &str)]) {
    for (text, expected) in mistaken {
        let told = mistakes(&files(text));
        assert!(told.contains(expected), "{text}\n→ {told}");
        assert!(told.starts_with("policies/issuers/i.toml:"), "{told}");
    }
}

#[test]
fn mistakes_about_an_issuer_are_named() {
    let [head, keys, _] = parts();
    assert!(parse(&files(&parts().concat())).is_ok());
    each_is_named(&[
        (String::new(), "an issuer file begins with [issuer]"),
        (format!("{head}{keys}"), "in [[map]] tables"),
        (replaced("RS256", "HS256"), "must be one of EdDSA, ES256"),
        (replaced("RS256", "none"), "must be one of EdDSA, ES256"),
        (replaced("[\"RS256\"]", "[]"), "name the `algorithms`"),
        (replaced("audience = \"a\"\n", ""), "lacks `audience`"),
        (replaced("iss = \"i\"", "iss = \"\""), "must be 1 to 512"),
        (
            replaced("jwks_file = \"f\"", ""),
            "`jwks_url` or `jwks_file`",
        ),
        (
            replaced("jwks_file", "jwks_url = \"https://x/y\"\njwks_file"),
            "`jwks_url` or `jwks_file`",
        ),
        (
            replaced("jwks_file = \"f\"", "jwks_url = \"http://x/keys\""),
            "use https://",
        ),
        (
            replaced("jwks_file = \"f\"", "jwks_url = \"https://x\""),
            "names the key set itself",
        ),
        (
            replaced("jwks_file = \"f\"", "jwks_file = \"f\"\nca_file = \"c\""),
            "`ca_file` goes with `jwks_url` only",
        ),
    ]);
}

#[test]
fn mistakes_in_a_mapping_are_named() {
    each_is_named(&[
        (replaced("{ \"/sub\" = \"x\" }", "{}"), "no condition"),
        (
            replaced("when = { \"/sub\" = \"x\" }\n", ""),
            "lacks `when`",
        ),
        (replaced("/sub", "sub"), "is no place in the claims"),
        (replaced("/sub", "/s~2"), "is no place in the claims"),
        (replaced("\"x\"", "\"x*y\""), "at its end only"),
        (replaced("\"x\"", "\"acme*\""), "would fit `acme-evil`"),
        (replaced("\"x\"", "[1]"), "a text in quotes"),
        (replaced("task = \"t\"\n", ""), "lacks `task`"),
        (
            replaced("task = \"t\"", "task = \"a/b\""),
            "a task id must be",
        ),
        (
            replaced("agent = \"a\"", "agent = { claims = \"/sub\" }"),
            "lacks `claim`",
        ),
        (
            replaced("tenant = \"acme\"", "tenant = \"acne\""),
            "did you mean `acme`?",
        ),
        (replaced("agent = ", "agents = "), "lacks `agent`"),
    ]);
}

#[test]
fn keys_come_over_plain_http_only_from_this_machine_or_if_told_so() {
    for plain in [
        "http://127.0.0.1:8/k",
        "http://[::1]:8/k",
        "http://localhost:8/k",
    ] {
        let url = format!("jwks_url = \"{plain}\"");
        assert!(
            parse(&files(&replaced("jwks_file = \"f\"", &url))).is_ok(),
            "{plain}"
        );
    }
    let switched = "jwks_url = \"http://x/keys\"\ninsecure = true";
    assert!(parse(&files(&replaced("jwks_file = \"f\"", switched))).is_ok());
}

#[test]
fn one_iss_has_one_file() {
    let [issuer, tenant] = files(KUBERNETES);
    let again = file("policies/issuers/j.toml", KUBERNETES);
    let told = mistakes(&[issuer, tenant, again]);
    assert!(
        told.contains("is already defined at policies/issuers/i.toml:4"),
        "{told}"
    );
}
