//! Vectors of AWS' own test suite, and of its SDK for Python (`testdata/sigv4`).

use super::*;

fn key() -> AccessKey {
    AccessKey {
        id: "AKIDEXAMPLE".to_owned(),
        secret: Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec()),
        session_token: None,
    }
}

const MOMENT: &str = "20150830T123600Z";

/// The signature of a request of the suite: its headers alone, besides `host` and the date.
fn signature(method: &str, target: &str, lines: &[(&str, &str)], body: &str) -> String {
    let mut headers = HeaderMap::new();
    headers.insert(DATE, HeaderValue::from_static(MOMENT));
    let mut names = vec![HOST, DATE];
    for (name, value) in lines {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name.clone(), value.parse().expect("a value"));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let request = Signed {
        method: &method.parse().expect("a method"),
        authority: "example.amazonaws.com",
        path,
        query,
        body: body.as_bytes(),
    };
    let scope = Scope {
        service: "service",
        region: "us-east-1",
    };
    let hash = hexadecimal(&Sha256::digest(body.as_bytes()));
    let value = authorization(&headers, &names, &request, &hash, &key(), scope, MOMENT);
    let (_, signature) = value.rsplit_once('=').expect("a signature");
    signature.to_owned()
}

#[test]
fn the_vectors_of_the_aws_test_suite_agree() {
    for (name, method, target, lines, body, expected) in [
        (
            "get-vanilla",
            "GET",
            "/",
            &[][..],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "post-vanilla",
            "POST",
            "/",
            &[],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-header-key-sort",
            "POST",
            "/",
            &[("my-header1", "value1")],
            "",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            "/",
            &[("content-type", "application/x-www-form-urlencoded")],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "get-header-value-trim",
            "GET",
            "/",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "get-relative-relative",
            "GET",
            "/example1/example2/../..",
            &[],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-slashes",
            "GET",
            "//example//",
            &[],
            "",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
    ] {
        assert_eq!(signature(method, target, lines, body), expected, "{name}");
    }
}

#[test]
fn a_clients_own_signature_goes_and_nothing_else() {
    let mut headers = HeaderMap::new();
    for name in [
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "x-amz-target",
    ] {
        headers.insert(
            name.parse::<HeaderName>().expect("a name"),
            HeaderValue::from_static("x"),
        );
    }
    let mut query = Some("a=1&X-Amz-Signature=f&x-amz-c%72edential=g&b".to_owned());
    strip(&mut headers, &mut query);
    assert_eq!(query.as_deref(), Some("a=1&b"));
    let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["x-amz-target"]);
    let mut query = Some("X-Amz-Expires=1".to_owned());
    strip(&mut headers, &mut query);
    assert_eq!(query, None);
}

#[test]
fn nothing_that_is_sent_holds_the_secret() {
    let mut headers = HeaderMap::new();
    let key = AccessKey {
        session_token: Some(Secret::new(b"session-canary".to_vec())),
        ..key()
    };
    let request = Signed {
        method: &Method::POST,
        authority: "bedrock-runtime.us-east-1.amazonaws.com",
        path: "/model/a%3A0/converse",
        query: None,
        body: b"{}",
    };
    let scope = Scope {
        service: "bedrock",
        region: "us-east-1",
    };
    sign(
        &mut headers,
        &request,
        &key,
        scope,
        Timestamp::from_seconds(1_440_938_160),
    )
    .expect("signed");
    assert_eq!(headers[DATE], MOMENT);
    assert_eq!(headers[SESSION_TOKEN], "session-canary");
    let all = format!(
        "{:?}",
        headers
            .values()
            .map(HeaderValue::as_bytes)
            .collect::<Vec<_>>()
    );
    assert!(!all.contains("wJalrXUtnFEMI"), "{all}");
    let signed = headers[AUTHORIZATION].to_str().expect("visible");
    let names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,";
    assert!(signed.contains(names), "{signed}");
}

/// A request that the SDK has signed.
#[derive(serde::Deserialize)]
struct Vector {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    body: String,
    session_token: Option<String>,
    service: String,
    region: String,
    at: i64,
    authorization: String,
}

#[test]
fn the_sdk_for_python_makes_the_same_signatures() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../testdata/sigv4/botocore.json")).expect("vectors");
    assert!(vectors.len() > 30);
    for vector in vectors {
        let mut headers = HeaderMap::new();
        for (name, value) in &vector.headers {
            headers.append(
                name.parse::<HeaderName>().expect("a name"),
                value.parse().expect("a value"),
            );
        }
        let key = AccessKey {
            session_token: vector
                .session_token
                .map(|token| Secret::new(token.into_bytes())),
            ..key()
        };
        let request = Signed {
            method: &vector.method.parse().expect("a method"),
            authority: &vector.authority,
            path: &vector.path,
            query: vector.query.as_deref(),
            body: vector.body.as_bytes(),
        };
        let scope = Scope {
            service: &vector.service,
            region: &vector.region,
        };
        sign(
            &mut headers,
            &request,
            &key,
            scope,
            Timestamp::from_seconds(vector.at),
        )
        .expect("signed");
        assert_eq!(
            headers[AUTHORIZATION],
            vector.authorization,
            "{} {}",
            vector.path,
            vector.query.unwrap_or_default()
        );
    }
}

#[test]
fn a_header_that_load_balancers_change_is_not_signed() {
    let mut headers = HeaderMap::new();
    for name in ["x-amzn-trace-id", "x-amzn-bedrock-trace"] {
        headers.insert(name, HeaderValue::from_static("Root=1-2-3"));
    }
    let names = to_sign(&headers);
    let signed: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    assert_eq!(signed, ["host", "x-amzn-bedrock-trace"]);
}
