//! Answers of token endpoints, those that can be sealed and those that cannot.

use super::*;

const FORM: Option<&str> = Some("application/x-www-form-urlencoded; charset=utf-8");

fn sealed(is_success: bool, content_type: Option<&str>, body: &str) -> Option<String> {
    let reply = read(is_success, content_type, body.as_bytes()).ok()?;
    let names: Vec<HandleName> = (0..reply.tokens().len())
        .map(|number| format!("sealed-{number}").parse().expect("a name"))
        .collect();
    Some(String::from_utf8(reply.with_handles(&names)).expect("text"))
}

#[test]
fn every_token_becomes_a_handle_and_nothing_else_changes() {
    for (body, expected) in [
        (
            "{ \"access_token\" : \"at-12345678\" ,\n \"scope\":\"a\\u0041\", \"n\":1.0e3 }",
            "{ \"access_token\" : \"$CRED{sealed-0}\" ,\n \"scope\":\"a\\u0041\", \"n\":1.0e3 }",
        ),
        (
            "{\"refresh_token\":\"rt\",\"id_token\":\"it\",\"access\\u005ftoken\":\"at\"}",
            "{\"refresh_token\":\"$CRED{sealed-0}\",\"id_token\":\"$CRED{sealed-1}\",\"access\\u005ftoken\":\"$CRED{sealed-2}\"}",
        ),
        (
            "{\"ok\":true,\"authed_user\":{\"accessToken\":\"at\"},\"all\":[{\"x\":[{\"Refresh-Token\":\"r\"}]}]}",
            "{\"ok\":true,\"authed_user\":{\"accessToken\":\"$CRED{sealed-0}\"},\"all\":[{\"x\":[{\"Refresh-Token\":\"$CRED{sealed-1}\"}]}]}",
        ),
        (
            "{\"access_token\":null,\"refresh_token\":\"\"}",
            "{\"access_token\":null,\"refresh_token\":\"\"}",
        ),
        (
            "{\"access_token\":\"at-12345678\",\"debug\":\"Bearer at-12345678\"}",
            "{\"access_token\":\"$CRED{sealed-0}\",\"debug\":\"Bearer [redacted]\"}",
        ),
        (
            "{\"token\":\"ghs-12345678\",\"bot\":{\"bot_access_token\":\"xoxb\"},\"token_type\":\"bot\"}",
            "{\"token\":\"$CRED{sealed-0}\",\"bot\":{\"bot_access_token\":\"$CRED{sealed-1}\"},\"token_type\":\"bot\"}",
        ),
        (
            "{\"token\":{\"user_refresh_token\":\"r\"},\"has_token\":true}",
            "{\"token\":{\"user_refresh_token\":\"$CRED{sealed-0}\"},\"has_token\":true}",
        ),
        (
            "{\"error_uri\":\"https://x/oauth-app-access-token-errors/#a?b=c\",\"n\":\"a=b\"}",
            "{\"error_uri\":\"https://x/oauth-app-access-token-errors/#a?b=c\",\"n\":\"a=b\"}",
        ),
        (
            "{\"device_code\":\"d\",\"interval\":5}",
            "{\"device_code\":\"d\",\"interval\":5}",
        ),
        ("", ""),
    ] {
        assert_eq!(sealed(true, None, body).as_deref(), Some(expected));
    }
    assert_eq!(
        sealed(
            true,
            FORM,
            "access%5Ftoken=gho%5F1+2&scope=a%20b&token_type=bearer"
        )
        .as_deref(),
        Some("access%5Ftoken=%24CRED%7Bsealed-0%7D&scope=a%20b&token_type=bearer")
    );
    let form = b"access_token=gho%5F1+2&expires_in=60";
    let reply = read(true, FORM, form).expect("a form");
    assert_eq!(reply.tokens()[0].secret.expose(), b"gho_1 2");
    assert_eq!(reply.life, Duration::from_secs(60));
    let shown = format!("{reply:?}");
    assert_eq!(shown, "Reply { tokens: 1, .. }");
}

#[test]
fn what_is_not_understood_is_not_passed() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
    for (is_success, content_type, body) in [
        (true, None, "access_token=a&b=c"),
        (true, Some("text/plain"), "access_token=a"),
        (true, FORM, "<html>access_token=a</html>"),
        (true, FORM, "access_token"),
        (true, None, "[{\"access_token\":\"a\"}]"),
        (true, None, "\"eyJ\""),
        (true, None, "{\"access_token\":{\"v\":\"a\"}}"),
        (true, None, "{\"access_token\":17}"),
        (
            true,
            None,
            "{\"access_token\":\"a\",\"access_token\":\"b\"}",
        ),
        (
            true,
            None,
            "{\"a\":{\"b\":1,\"b\":{\"access_token\":\"a\"}}}",
        ),
        (true, None, "{\"access_token\":\"a\"} x"),
        (
            true,
            None,
            "{\"data\":\"{\\\"access_token\\\":\\\"a\\\"}\"}",
        ),
        (
            true,
            None,
            "{\"data\":[\" [{\\\"access_token\\\":\\\"a\\\"}]\"]}",
        ),
        (true, None, "{\"data\":\"ok=1&access%5Ftoken=a\"}"),
        (true, None, "{\"next\":\"https://x/#accessToken=a\"}"),
        (true, FORM, "a=b&data=%7B%22access_token%22%3A%22a%22%7D"),
        (true, None, "{\"token\":[\"a\"]}"),
        (true, None, &deep),
        (false, None, "{\"error\":\"e\",\"access_token\":\"a\"}"),
        (false, FORM, "error=e"),
        (false, Some("text/html"), "<html>"),
    ] {
        assert_eq!(sealed(is_success, content_type, body), None, "{body}");
    }
    let error = "{\"error\":\"authorization_pending\"}";
    assert_eq!(sealed(false, None, error).as_deref(), Some(error));
}
