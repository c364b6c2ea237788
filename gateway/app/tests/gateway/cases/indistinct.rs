//! Case 36: an answer does not tell what is wrong with a token, nor whether a tenant exists.
//!
//! How long an answer takes is not measured: a token's claims are looked at only once its
//! signature holds, so nothing that depends on a tenant can come before that.

use serde_json::{Value, json};
use tollgate_testkit::forge::{Forge, open};

use crate::harness::{Ask, World};

/// All of an answer but its id and its date.
async fn told(world: &World, token: &str) -> (u16, Vec<(String, String)>, String) {
    let ask = Ask::new("GET", "/openai/v1/models").bearer(token);
    let answer = world.send(&ask).await;
    let id = answer.header("x-tollgate-request-id").expect("an id");
    let body = answer.text().replace(id, "ID");
    let varies = |name: &str| name.ends_with("request-id") || name == "date";
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !varies(&name.to_ascii_lowercase()));
    (answer.status, headers, body)
}

#[tokio::test]
async fn case_36_every_token_that_fails_gets_the_same_answer() {
    let world = World::new().await;
    let revoked = world.token("acme").await;
    world
        .gateway
        .revoke(&json!({"kind": "tenant", "tenant": "acme"}))
        .await;
    let (header, claims) = open(&world.token("acme").await);
    let forge = world.gateway.forge();
    let signed = |forge: &Forge, change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut header, mut claims) = (header.clone(), claims.clone());
        change(&mut header, &mut claims);
        forge.sign(&header.to_string(), &claims.to_string())
    };
    let expected = told(&world, &revoked).await;
    assert_eq!(expected.0, 401);
    let stranger = Forge::stranger();
    for (what, token) in [
        ("a wrong signature", signed(&stranger, &|_, _| {})),
        (
            "a wrong signature for a tenant that does not exist",
            signed(&stranger, &|_, claims| claims["tenant"] = json!("nobody")),
        ),
        (
            "an unknown key",
            signed(&stranger, &|header, _| header["kid"] = json!("unknown")),
        ),
        (
            "a tenant that does not exist",
            signed(&forge, &|_, claims| claims["tenant"] = json!("nobody")),
        ),
        (
            "a token nobody has registered",
            signed(&forge, &|_, claims| claims["jti"] = json!("made-up")),
        ),
        (
            "another issuer",
            signed(&forge, &|_, claims| claims["iss"] = json!("elsewhere")),
        ),
        (
            "a token that has ended",
            signed(&forge, &|_, claims| {
                claims["iat"] = json!(1_700_000_000);
                claims["exp"] = json!(1_700_000_300);
            }),
        ),
    ] {
        assert_eq!(told(&world, &token).await, expected, "{what}");
    }
    world.assert_no_contact();
}
