//! Cases 24 and 35: where a token stands, and that it stays here.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::identity::{Presented, TokenFault, TokenPlace, find_token, is_stripped, strip};

type Lines<'a> = &'a [(&'a str, &'a str)];

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

const TOKEN: &str = "eyJhbGciOi.eyJpc3Mi.c2ln";
const OTHER: &str = "eyJhbGciOi.eyJvdGhl.c2ln";

#[test]
fn a_token_is_found_wherever_sdks_put_a_key() {
    let bearer = format!("Bearer {TOKEN}");
    let lower = format!("bearer {TOKEN}");
    let cases: [(Lines, Option<&str>, TokenPlace); 9] = [
        (
            &[("x-tollgate-token", TOKEN)],
            None,
            TokenPlace::TokenHeader,
        ),
        (&[("authorization", &bearer)], None, TokenPlace::Bearer),
        (&[("authorization", &lower)], None, TokenPlace::Bearer),
        (
            &[("x-api-key", TOKEN)],
            None,
            TokenPlace::KeyHeader("x-api-key"),
        ),
        (
            &[("api-key", TOKEN)],
            None,
            TokenPlace::KeyHeader("api-key"),
        ),
        (
            &[("x-goog-api-key", TOKEN)],
            None,
            TokenPlace::KeyHeader("x-goog-api-key"),
        ),
        (
            &[],
            Some("alt=sse&key=eyJhbGciOi.eyJpc3Mi.c2ln"),
            TokenPlace::QueryKey,
        ),
        (
            &[("authorization", &bearer), ("x-api-key", TOKEN)],
            None,
            TokenPlace::Bearer,
        ),
        (
            &[
                ("authorization", "Bearer $CRED{openai}"),
                ("x-tollgate-token", TOKEN),
            ],
            None,
            TokenPlace::TokenHeader,
        ),
    ];
    for (lines, query, place) in cases {
        let expected = Ok(Presented {
            token: TOKEN,
            place,
        });
        assert_eq!(
            find_token(&headers(lines), query),
            expected,
            "{lines:?} {query:?}"
        );
    }
}

/// Case 24.
#[test]
fn case_24_no_token_is_no_token() {
    let cases: [(Lines, Option<&str>); 15] = [
        (&[], None),
        (&[("authorization", "")], None),
        (&[("authorization", "Bearer")], None),
        (&[("authorization", "Bearer ")], None),
        (&[("authorization", "bearer  x")], None),
        (&[("authorization", "Bearer sk-own")], None),
        (&[("authorization", "Bearer $CRED{openai}")], None),
        (&[("authorization", "Basic eyJ.a.b")], None),
        (&[("x-api-key", "")], None),
        (&[("x-api-key", "sk-own")], None),
        (&[("cookie", "token=eyJhbGciOi.eyJpc3Mi.c2ln")], None),
        (
            &[("proxy-authorization", "Bearer eyJhbGciOi.eyJpc3Mi.c2ln")],
            None,
        ),
        (&[], Some("token=eyJhbGciOi.eyJpc3Mi.c2ln")),
        (&[], Some("key=")),
        (&[], Some("xkey=eyJhbGciOi.eyJpc3Mi.c2ln")),
    ];
    for (lines, query) in cases {
        let fault = find_token(&headers(lines), query).expect_err("no token");
        let allowed = [TokenFault::Missing, TokenFault::Malformed];
        assert!(allowed.contains(&fault), "{lines:?} {query:?}: {fault:?}");
    }
}

/// Case 24.
#[test]
fn case_24_two_tokens_are_none() {
    let bearer = format!("Bearer {TOKEN}");
    let query = format!("key={OTHER}");
    let cases: [(Lines, Option<&str>); 8] = [
        (
            &[("authorization", &bearer), ("authorization", &bearer)],
            None,
        ),
        (
            &[("authorization", &bearer), ("authorization", "Bearer x")],
            None,
        ),
        (&[("authorization", &bearer), ("x-api-key", OTHER)], None),
        (
            &[("authorization", &bearer), ("x-tollgate-token", OTHER)],
            None,
        ),
        (
            &[("x-tollgate-token", TOKEN), ("x-tollgate-token", TOKEN)],
            None,
        ),
        (&[("x-api-key", TOKEN), ("x-api-key", OTHER)], None),
        (&[("authorization", &bearer)], Some(&query)),
        (&[], Some("key=eyJ.a.b&key=eyJ.a.c")),
    ];
    for (lines, query) in cases {
        let headers = headers(lines);
        let result = find_token(&headers, query);
        assert_eq!(result, Err(TokenFault::Ambiguous), "{lines:?} {query:?}");
    }
}

#[test]
fn a_token_written_wrongly_is_a_bad_token_and_falls_through_to_nothing() {
    let raw = TOKEN.to_owned();
    let twice = format!("Bearer  {TOKEN}");
    let joined = format!("Bearer x {TOKEN}");
    let bearer = format!("Bearer {TOKEN}");
    let cases: [Lines; 6] = [
        &[("authorization", &raw)],
        &[("authorization", &twice)],
        &[("authorization", &joined)],
        &[("x-tollgate-token", "")],
        &[("x-tollgate-token", "sk-own"), ("authorization", &bearer)],
        &[
            ("x-tollgate-token", "$CRED{openai}"),
            ("authorization", &bearer),
        ],
    ];
    for lines in cases {
        let headers = headers(lines);
        let result = find_token(&headers, None);
        assert_eq!(result, Err(TokenFault::Malformed), "{lines:?}");
    }
}

/// Case 35.
#[test]
fn case_35_nothing_of_the_clients_identity_travels_on() {
    let mut lines = headers(&[
        ("authorization", "Bearer a"),
        ("authorization", "Bearer b"),
        ("proxy-authorization", "Basic x"),
        ("x-api-key", "k"),
        ("api-key", "k"),
        ("x-goog-api-key", "k"),
        ("cookie", "session=1"),
        ("x-tollgate-token", TOKEN),
        ("x-tollgate-anything", "1"),
        ("x-amz-security-token", "k"),
        ("content-type", "application/json"),
        ("openai-organization", "org"),
        ("x-request-id", "1"),
    ]);
    let kept: Vec<HeaderName> = lines
        .keys()
        .filter(|name| !is_stripped(name))
        .cloned()
        .collect();
    strip(&mut lines);
    assert_eq!(lines.keys().cloned().collect::<Vec<_>>().len(), 3);
    for name in kept {
        assert!(
            lines.remove(&name).is_some(),
            "{name} is not the client's identity"
        );
    }
    assert!(lines.is_empty());
    assert!(is_stripped(&AUTHORIZATION));
}
