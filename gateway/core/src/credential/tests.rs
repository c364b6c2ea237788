//! Stored values, the requests made of them, and answers of token endpoints.

use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};

use super::*;
use crate::policy::Upstream;

/// Made for these tests with `openssl genrsa 2048`; it opens nothing.
const KEY: &str = include_str!("../../testdata/credential/rsa.pem");
const PUBLIC: &str = include_str!("../../testdata/credential/rsa.pub.pem");

fn endpoint(client_auth: ClientAuth, scope: &str) -> TokenEndpoint {
    TokenEndpoint {
        upstream: Upstream {
            tls: true,
            host: "id.example".to_owned(),
            port: 443,
            base_path: "/token".to_owned(),
            ca_file: None,
            http2: true,
            insecure_plain_http: false,
        },
        scope: scope.to_owned(),
        client_auth,
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn of(value: &Value) -> Secret {
    secret(&value.to_string())
}

fn body(request: &TokenRequest) -> &str {
    std::str::from_utf8(request.body.expose()).expect("text")
}

fn google() -> CredentialKind {
    CredentialKind::GoogleServiceAccount(endpoint(ClientAuth::Basic, "scope-a"))
}

#[test]
fn a_service_account_signs_its_request() {
    let account = of(&json!({
        "client_email": "a@p.iam.example", "private_key": KEY, "private_key_id": "k1",
        "token_uri": "https://id.example/token",
    }));
    let now = Timestamp::from_seconds(1_000_000);
    let request = token_request(&google(), &account, now).expect("a request");
    assert!(request.authorization.is_none());
    let start = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = body(&request).strip_prefix(start).expect("an assertion");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.set_audience(&["https://id.example/token"]);
    let key = DecodingKey::from_rsa_pem(PUBLIC.as_bytes()).expect("a key");
    let token = jsonwebtoken::decode::<Value>(assertion, &key, &validation).expect("signed");
    assert_eq!(token.header.kid.as_deref(), Some("k1"));
    assert_eq!(token.claims["iss"], "a@p.iam.example");
    assert_eq!(token.claims["scope"], "scope-a");
    assert_eq!(token.claims["iat"], 1_000_000);
    assert_eq!(token.claims["exp"], 1_003_600);
}

#[test]
fn clients_say_who_they_are_in_a_header_or_in_the_form() {
    let client =
        of(&json!({ "client_id": "i d", "client_secret": "s:e&c", "refresh_token": "r/1" }));
    let public = of(&json!({ "client_id": "id", "refresh_token": "r/1" }));
    let now = Timestamp::from_seconds(0);
    let basic = CredentialKind::OAuth2ClientCredentials(endpoint(ClientAuth::Basic, "a b"));
    let request = token_request(&basic, &client, now).expect("a request");
    assert_eq!(body(&request), "grant_type=client_credentials&scope=a%20b");
    let authorization = request.authorization.expect("a header");
    let expected = format!("Basic {}", STANDARD.encode("i%20d:s%3Ae%26c"));
    assert_eq!(authorization.expose(), expected.as_bytes());
    let in_body = CredentialKind::OAuth2RefreshToken(endpoint(ClientAuth::Body, ""));
    let request = token_request(&in_body, &client, now).expect("a request");
    assert_eq!(
        body(&request),
        "grant_type=refresh_token&refresh_token=r%2F1&client_id=i%20d&client_secret=s%3Ae%26c"
    );
    assert!(request.authorization.is_none());
    for auth in [ClientAuth::Basic, ClientAuth::Body] {
        let kind = CredentialKind::OAuth2RefreshToken(endpoint(auth, ""));
        let request = token_request(&kind, &public, now).expect("a request");
        assert_eq!(
            body(&request),
            "grant_type=refresh_token&refresh_token=r%2F1&client_id=id"
        );
        assert!(request.authorization.is_none());
    }
}

#[test]
fn a_value_that_cannot_work_is_told_by_its_member() {
    let oauth = CredentialKind::OAuth2RefreshToken(endpoint(ClientAuth::Basic, ""));
    let client = CredentialKind::OAuth2ClientCredentials(endpoint(ClientAuth::Basic, ""));
    let aws = CredentialKind::AwsSigv4;
    for (kind, value, expected) in [
        (&aws, json!("AKIA"), InvalidValue::NotAnObject),
        (
            &aws,
            json!({ "access_key_id": "a" }),
            InvalidValue::Missing("secret_access_key"),
        ),
        (
            &aws,
            json!({ "secret_access_key": "a" }),
            InvalidValue::Missing("access_key_id"),
        ),
        (
            &aws,
            json!({ "access_key_id": "", "secret_access_key": "s" }),
            InvalidValue::Missing("access_key_id"),
        ),
        (
            &aws,
            json!({ "access_key_id": "a\nb", "secret_access_key": "s" }),
            InvalidValue::Unsendable("access_key_id"),
        ),
        (
            &aws,
            json!({ "access_key_id": "a", "secret_access_key": "s", "session_token": 1 }),
            InvalidValue::Missing("session_token"),
        ),
        (
            &client,
            json!({ "client_id": "a" }),
            InvalidValue::Missing("client_secret"),
        ),
        (
            &oauth,
            json!({ "client_id": "a", "client_secret": "b" }),
            InvalidValue::Missing("refresh_token"),
        ),
        (
            &google(),
            json!({ "client_email": "a" }),
            InvalidValue::Missing("private_key"),
        ),
        (
            &google(),
            json!({ "client_email": "a", "private_key": "x" }),
            InvalidValue::NoKey,
        ),
        (
            &google(),
            json!({ "client_email": "a", "private_key": KEY, "token_uri": "https://evil.example/token" }),
            InvalidValue::OtherEndpoint,
        ),
    ] {
        assert_eq!(check_value(kind, &of(&value)), Err(expected), "{value}");
    }
    let twice =
        secret("{\"access_key_id\":\"a\",\"access_key_id\":\"b\",\"secret_access_key\":\"c\"}");
    assert_eq!(check_value(&aws, &twice), Err(InvalidValue::NotAnObject));
    assert_eq!(
        check_value(&CredentialKind::Static, &secret("sk-anything")),
        Ok(())
    );
}

#[test]
fn a_value_is_stored_on_one_line_and_means_the_same() {
    let pretty =
        secret("{\r\n\t\"access_key_id\": \"AK\",\n  \"secret_access_key\": \"a\\nb c\"\n}");
    let stored = prepare_value(&CredentialKind::AwsSigv4, &pretty);
    assert_eq!(stored, Err(InvalidValue::Unsendable("secret_access_key")));
    let pretty = secret("{\r\n\t\"access_key_id\": \"AK\",\n  \"secret_access_key\": \"b c\"\n}");
    let stored = prepare_value(&CredentialKind::AwsSigv4, &pretty).expect("stored");
    assert!(!stored.expose().iter().any(u8::is_ascii_control));
    assert_eq!(access_key(&stored).expect("a key").secret, secret("b c"));
    let plain = secret("sk-canary\n");
    assert_eq!(prepare_value(&CredentialKind::Static, &plain), Ok(plain));
}

#[test]
fn answers_are_read_strictly() {
    let reply = |value: Value| token_reply(200, value.to_string().as_bytes());
    let obtained = reply(json!({
        "access_token": "at", "token_type": "Bearer", "expires_in": 3599, "refresh_token": "r2",
    }))
    .expect("a token");
    assert_eq!(obtained.access_token, secret("at"));
    assert_eq!(obtained.life, Duration::from_secs(3599));
    assert_eq!(obtained.refresh_token, Some(secret("r2")));
    for (expires_in, life) in [
        (json!("60"), Duration::from_secs(60)),
        (json!(60.9), Duration::from_secs(60)),
        (json!(null), DEFAULT_LIFE),
        (json!(-5), Duration::ZERO),
        (json!(1e30), Duration::from_secs(1)),
        (json!(9_999_999), MAX_LIFE),
        (json!([]), Duration::ZERO),
    ] {
        let obtained =
            reply(json!({ "access_token": "at", "expires_in": expires_in })).expect("a token");
        assert!(obtained.life <= life, "{expires_in}");
    }
    for value in [
        json!({}),
        json!({ "access_token": "" }),
        json!({ "access_token": 5 }),
        json!({ "access_token": "a\nb" }),
        json!(["access_token"]),
    ] {
        assert_eq!(reply(value).map(drop), Err(TokenFault::NoToken));
    }
    let mac = reply(json!({ "access_token": "at", "token_type": "mac" }));
    assert_eq!(mac.map(drop), Err(TokenFault::NotBearer));
    for (body, error) in [
        (
            "{\"error\":\"invalid_grant\",\"error_description\":\"canary\"}",
            "invalid_grant",
        ),
        ("{\"error\":\"sk-canary\"}", "unknown"),
        ("<html>", "unknown"),
    ] {
        let refused = token_reply(400, body.as_bytes()).map(drop);
        assert_eq!(refused, Err(TokenFault::Refused { status: 400, error }));
    }
}

#[test]
fn a_rotated_refresh_token_takes_its_place_and_nothing_else_changes() {
    let value = secret("{ \"client_id\": \"a\", \"refresh_token\" : \"r1\", \"x\": [1] }");
    let rotated = with_refresh_token(&value, &secret("r\"2")).expect("rotated");
    assert_eq!(
        rotated,
        secret("{ \"client_id\": \"a\", \"refresh_token\" : \"r\\\"2\", \"x\": [1] }")
    );
}
