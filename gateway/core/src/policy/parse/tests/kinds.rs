//! Kinds of credentials, and what goes with each.

use std::sync::Arc;

use super::*;
use crate::policy::{ClientAuth, Credential, CredentialKind, TokenEndpoint};

fn files(provider: &str, credential: &str) -> [PolicyFile; 2] {
    let provider = format!(
        "[provider]\nname = \"p\"\nupstream = \"https://p.example\"\ndialect = \"http\"\n{provider}\n\
         [[endpoint]]\nmethod = \"POST\"\npath = \"/x\"\noperation = \"tool\"\n"
    );
    let tenant = format!(
        "[tenant]\nid = \"acme\"\n[[allow]]\nprovider = \"p\"\n[credentials]\nk = {{ provider = \"p\", {credential} }}\n"
    );
    [
        file("policies/providers/p.toml", &provider),
        file("policies/tenants/acme.toml", &tenant),
    ]
}

fn sound(provider: &str, credential: &str) -> Arc<Credential> {
    let policy = parse(&files(provider, credential)).expect("a sound policy");
    Arc::clone(&policy.tenants["acme"].credentials["k"])
}

fn wrong(provider: &str, credential: &str) -> String {
    mistakes(&files(provider, credential))
}

const SIGNED: &str = "place = { aws_sigv4 = \"bedrock\", region = \"us-east-1\" }";

fn endpoint(kind: &CredentialKind) -> &TokenEndpoint {
    match kind {
        CredentialKind::GoogleServiceAccount(endpoint)
        | CredentialKind::OAuth2ClientCredentials(endpoint)
        | CredentialKind::OAuth2RefreshToken(endpoint) => endpoint,
        _ => panic!("{kind:?}"),
    }
}

#[test]
fn a_signing_place_makes_a_signing_key_and_the_credential_may_name_its_region() {
    assert_eq!(sound("", "default = true").kind, CredentialKind::Static);
    let signing = |region: &str| Place::AwsSigv4 {
        service: "bedrock".to_owned(),
        region: region.to_owned(),
    };
    for (provider, credential, region) in [
        (SIGNED, "default = true", "us-east-1"),
        (
            SIGNED,
            "kind = \"aws_sigv4\", region = \"eu-west-3\"",
            "eu-west-3",
        ),
        ("", &format!("kind = \"aws_sigv4\", {SIGNED}"), "us-east-1"),
    ] {
        let credential = sound(provider, credential);
        assert_eq!(credential.kind, CredentialKind::AwsSigv4);
        assert_eq!(credential.binding.place, signing(region));
    }
}

#[test]
fn token_endpoints_are_googles_or_the_credentials_own() {
    let google = sound("", "kind = \"google_service_account\"");
    let google = endpoint(&google.kind);
    assert_eq!(google.upstream.host, "oauth2.googleapis.com");
    assert_eq!(google.upstream.base_path, "/token");
    assert_eq!(
        google.scope,
        "https://www.googleapis.com/auth/cloud-platform"
    );
    let oauth = sound(
        "",
        "kind = \"oauth2_refresh_token\", token_url = \"https://id.example:8443/oauth/token/\", scope = \"a b\", client_auth = \"body\"",
    );
    let oauth = endpoint(&oauth.kind);
    assert_eq!(
        (&*oauth.upstream.host, oauth.upstream.port),
        ("id.example", 8443)
    );
    assert_eq!(oauth.upstream.base_path, "/oauth/token/");
    assert_eq!(
        (&*oauth.scope, oauth.client_auth),
        ("a b", ClientAuth::Body)
    );
    let plain = "kind = \"oauth2_client_credentials\", token_url = \"http://id.example\"";
    let insecure = sound("insecure = true", plain);
    assert!(endpoint(&insecure.kind).upstream.insecure_plain_http);
    assert_eq!(endpoint(&insecure.kind).upstream.base_path, "/");
}

#[test]
fn what_does_not_go_together_is_told() {
    for (provider, credential, expected) in [
        (SIGNED, "kind = \"static\"", "go together only"),
        ("", "kind = \"aws_sigv4\"", "go together only"),
        ("", "kind = \"aws\"", "did you mean"),
        (
            "",
            "region = \"us-east-1\"",
            "`region` goes with kind = \"aws_sigv4\" only",
        ),
        (
            "",
            "scope = \"a\"",
            "`scope` goes with kinds that obtain access tokens only",
        ),
        (
            "",
            "token_url = \"https://x.example/t\"",
            "`token_url` goes with",
        ),
        (
            "",
            "kind = \"google_service_account\", client_auth = \"body\"",
            "`client_auth` goes with the kinds of OAuth 2 only",
        ),
        ("", "kind = \"oauth2_refresh_token\"", "needs `token_url`"),
        (
            "",
            "kind = \"oauth2_refresh_token\", token_url = \"http://x.example\"",
            "over plain http",
        ),
        (
            "",
            "kind = \"oauth2_refresh_token\", token_url = \"https://u:p@x.example\"",
            "does not belong in it",
        ),
        (
            "place = { aws_sigv4 = \"bedrock\" }",
            "default = true",
            "goes with a region",
        ),
        (
            "place = { query = \"key\", region = \"us-east-1\" }",
            "default = true",
            "`region` goes with `aws_sigv4` only",
        ),
        (
            "place = { aws_sigv4 = \"Bed rock\", region = \"us-east-1\" }",
            "default = true",
            "must be a name such as",
        ),
    ] {
        let told = wrong(provider, credential);
        assert!(told.contains(expected), "{provider} {credential}: {told}");
    }
    let sealed = tenant_mistakes(
        "[tenant]\nid = \"t\"\n[credentials]\nsealed-1 = { provider = \"openai\" }\n",
    );
    assert!(sealed.contains("are given by the gateway"), "{sealed}");
}

#[test]
fn tokens_are_sealed_for_providers_that_take_a_key() {
    let provider = |name: &str, lines: &str, endpoint: &str| {
        let text = format!(
            "[provider]\nname = \"{name}\"\nupstream = \"https://{name}.example\"\ndialect = \"http\"\n{lines}\n\
             [[endpoint]]\nmethod = \"POST\"\npath = \"/token\"\n{endpoint}\n"
        );
        file(&format!("policies/providers/{name}.toml"), &text)
    };
    let api = provider("api", "", "operation = \"tool\"");
    let open = provider("open", "keyless = true", "operation = \"free\"");
    let sealing = |lines: &str| provider("idp", "keyless = true", lines);
    let sound = [
        api.clone(),
        sealing("operation = \"oauth_token\"\nseals_for = [\"api\"]"),
    ];
    let policy = parse(&sound).expect("a policy");
    let endpoint = &policy.providers["idp"].endpoints[0];
    assert_eq!(endpoint.operation, Operation::OauthToken);
    assert_eq!(endpoint.seals_for[0].as_str(), "api");
    for (lines, told) in [
        (
            "operation = \"tool\"\nseals_for = [\"api\"]",
            "goes with operation = \"oauth_token\" only",
        ),
        (
            "operation = \"oauth_token\"\nseals_for = [\"apy\"]",
            "there is no provider `apy`",
        ),
        (
            "operation = \"oauth_token\"\nseals_for = [\"open\"]",
            "provider `open` is keyless",
        ),
    ] {
        let told_is = mistakes(&[api.clone(), open.clone(), sealing(lines)]);
        assert!(told_is.contains(told), "{told_is}");
        assert!(
            told_is.starts_with("policies/providers/idp.toml:"),
            "{told_is}"
        );
    }
}
