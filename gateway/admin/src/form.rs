//! Requests about a token as OAuth clients send them: `token=…&token_type_hint=…`.
//!
//! RFC 7662 section 2.1 and RFC 7009 section 2.1 take the same form and answer mistakes in it in
//! the same way (RFC 6749 section 5.2). There is one type of token here, so the hint is not
//! needed; parameters that mean nothing here are passed over, as RFC 6749 section 3.2 demands.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::problem::Problem;
use crate::server::whole;

/// The token that a form names.
pub(crate) fn token(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Problem> {
    let body = whole(body)?;
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return Err(not_a_form());
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(not_a_form());
    }
    let mut token = None;
    let mut hints = 0;
    for (name, value) in form_urlencoded::parse(&body) {
        match &*name {
            "token" if token.is_some() => return Err(twice()),
            "token" => token = Some(value.into_owned()),
            "token_type_hint" if hints > 0 => return Err(twice()),
            "token_type_hint" => hints += 1,
            _ => {}
        }
    }
    let missing = || Problem::invalid_request("the form has no token");
    token.filter(|token| !token.is_empty()).ok_or_else(missing)
}

fn not_a_form() -> Problem {
    Problem::invalid_request("send application/x-www-form-urlencoded: token=…")
}

fn twice() -> Problem {
    Problem::invalid_request("a parameter stands in the form twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, body: &'static str) -> Result<String, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().expect("a value"));
        token(&headers, Ok(Bytes::from_static(body.as_bytes())))
    }

    #[test]
    fn a_form_names_one_token() {
        let form = "application/x-www-form-urlencoded";
        for (kind, body) in [
            (form, "token=a.b-c"),
            (
                form,
                "token_type_hint=refresh_token&token=a%2Eb-c&scope=x&scope=y",
            ),
            (
                "Application/X-WWW-Form-Urlencoded; charset=UTF-8",
                "token=a.b-c",
            ),
        ] {
            assert_eq!(read(kind, body).expect(body), "a.b-c");
        }
        for (kind, body) in [
            ("application/json", "token=a"),
            (form, ""),
            (form, "token="),
            (form, "tok=a"),
            (form, "token=a&token=a"),
            (form, "token=a&token_type_hint=x&token_type_hint=y"),
        ] {
            assert_eq!(
                read(kind, body).expect_err(body).code(),
                "malformed_request"
            );
        }
    }
}
