//! Introspection and revocation as OAuth clients ask for them: RFC 7662 and RFC 7009.

use super::*;

async fn form(admin: &Arc<Admin>, who: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let mut asked = request(
        Method::POST,
        path,
        Some(&format!("Bearer {who}")),
        body.to_owned(),
    );
    let kind = "application/x-www-form-urlencoded"
        .parse()
        .expect("a value");
    asked.headers_mut().insert("content-type", kind);
    send(admin, asked).await
}

async fn minted(admin: &Arc<Admin>, tenant: &str) -> String {
    let asked = json!({"tenant": tenant, "agent": "bot", "task": "t-1"});
    let (_, minted) = post(admin, "/v1/tokens", &asked).await;
    minted["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_token_is_told_active_to_those_whose_it_is() {
    let admin = admin(vec![]);
    let own = minted(&admin, "acme").await;
    let foreign = minted(&admin, "globex").await;
    for who in [OPERATOR, AUDITOR, MINTER] {
        for path in ["/v1/introspect", "/v1/tokens/introspect"] {
            let about = async |token: &str| match path {
                "/v1/introspect" => {
                    let body = format!("token={token}&token_type_hint=access_token");
                    form(&admin, who, path, &body).await
                }
                _ => {
                    let bearer = format!("Bearer {who}");
                    let body = json!({ "token": token }).to_string();
                    send(&admin, request(Method::POST, path, Some(&bearer), body)).await
                }
            };
            let (status, told) = about(&own).await;
            assert_eq!(
                (status, &told["active"]),
                (StatusCode::OK, &json!(true)),
                "{told}"
            );
            assert_eq!(told["tenant"], "acme");
            let is_operator = who == OPERATOR;
            let (_, told) = about(&foreign).await;
            assert_eq!(told["active"], is_operator, "{who}: {told}");
            let (_, told) = about("not-a-token").await;
            let reason = is_operator.then_some("token_malformed");
            assert_eq!(told["active"], false);
            assert_eq!(told["reason"].as_str(), reason, "{who}: {told}");
        }
    }
    let (_, foreign) = form(
        &admin,
        MINTER,
        "/v1/introspect",
        &format!("token={foreign}"),
    )
    .await;
    assert_eq!(
        foreign,
        json!({ "active": false }),
        "like a token that is none"
    );
}

#[tokio::test]
async fn a_revoked_token_an_unknown_one_and_a_foreign_one_are_answered_alike() {
    let book = Arc::new(Book::default());
    let admin = admin_with(vec![], Known::default(), Arc::clone(&book));
    let own = minted(&admin, "acme").await;
    let foreign = minted(&admin, "globex").await;
    let active = async |token: &str| {
        let (_, told) = form(
            &admin,
            OPERATOR,
            "/v1/introspect",
            &format!("token={token}"),
        )
        .await;
        told["active"] == true
    };
    for token in [own.as_str(), own.as_str(), foreign.as_str(), "not-a-token"] {
        let body = format!("token={token}&token_type_hint=refresh_token");
        let answer = form(&admin, MINTER, "/v1/revoke", &body).await;
        assert_eq!(answer, (StatusCode::OK, Value::String(String::new())));
    }
    assert!(!active(&own).await);
    assert!(active(&foreign).await, "nobody ends what is not theirs");
    let (status, _) = form(&admin, AUDITOR, "/v1/revoke", &format!("token={foreign}")).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "an auditor ends nothing");
    let kept: Vec<String> = book
        .lines()
        .into_iter()
        .map(|(partition, _)| partition)
        .collect();
    assert_eq!(kept[2..6], ["acme", "acme", "_operator", "_operator"]);
    let text = format!("{:?}", book.lines());
    for token in [&own, &foreign] {
        assert!(!text.contains(token.as_str()), "a record holds a token");
    }
}

#[tokio::test]
async fn what_is_no_form_with_one_token_is_an_invalid_request() {
    let admin = admin(vec![]);
    for path in ["/v1/introspect", "/v1/revoke"] {
        for body in ["", "token=", "token=a&token=b", "{\"token\":\"a\"}"] {
            let (status, told) = form(&admin, OPERATOR, path, body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}");
            assert_eq!(told["error"], "invalid_request");
            assert_eq!(told["code"], "malformed_request");
        }
        let json = json!({"token": "a"});
        assert_eq!(post(&admin, path, &json).await.0, StatusCode::BAD_REQUEST);
    }
}
