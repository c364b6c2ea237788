//! Cases 11, 12, 17 and 18: a credential in a named field of the body.

use super::*;

const KEY: &str = "sk-canary-1";

fn json(pointer: &str) -> Place {
    Place::JsonField {
        pointer: pointer.parse().expect("a pointer"),
    }
}

fn form(name: &str) -> Place {
    Place::FormField {
        name: name.to_owned(),
    }
}

fn json_case(pointer: &str, body: &str) -> Case {
    with_body(json(pointer), "application/json", body.as_bytes())
}

fn form_case(name: &str, body: &str) -> Case {
    let kind = "application/x-www-form-urlencoded";
    with_body(form(name), kind, body.as_bytes())
}

fn with_body(place: Place, kind: &str, body: &[u8]) -> Case {
    let mut case = Case::new(place, &[("content-type", kind)]);
    case.body = body.to_vec();
    case
}

fn sent(case: &Case, secret: &str) -> String {
    let bound = case.bind().expect("a bound call");
    let (mut headers, mut query) = (case.headers.clone(), case.query.clone());
    let secret = Secret::new(secret.as_bytes().to_vec());
    let body = bound.inject(&mut headers, &mut query, Some(&case.body), &secret);
    let body = body.expect("a sendable secret").expect("another body");
    String::from_utf8(body).expect("UTF-8")
}

#[test]
fn a_handle_in_the_declared_field_is_replaced_and_no_other_byte() {
    for (pointer, body, expected) in [
        (
            "/api_key",
            r#"{ "q" : "$CRED{openai}", "api_key":"$CRED{openai}" ,"n":1.0e0}"#,
            r#"{ "q" : "$CRED{openai}", "api_key":"KEY" ,"n":1.0e0}"#,
        ),
        ("/k", r#"{"k":"$CRED<openai>"}"#, r#"{"k":"KEY"}"#),
        (
            "/k",
            r#"{"k":"\u0024CRED\u007bopenai\u007D"}"#,
            r#"{"k":"KEY"}"#,
        ),
        ("/k", r#"{"k":"$CRED\u003copenai\u003e"}"#, r#"{"k":"KEY"}"#),
        ("/k", r#"{"\u006b":"$CRED{openai}"}"#, r#"{"\u006b":"KEY"}"#),
        (
            "/a~1b/c d",
            "\n{\"x\":{\"c d\":1},\"a/b\": {\"z\":[{}],\"c d\":\"$CRED{openai}\"}}\n",
            "\n{\"x\":{\"c d\":1},\"a/b\": {\"z\":[{}],\"c d\":\"KEY\"}}\n",
        ),
    ] {
        let case = json_case(pointer, body);
        assert_eq!(sent(&case, KEY), expected.replace("KEY", KEY), "{body}");
    }
    for (name, body, expected) in [
        (
            "key",
            "a=%7E+x&key=$CRED{openai}&&b&c=%24CRED%7Bopenai%7D",
            "a=%7E+x&key=KEY&&b&c=%24CRED%7Bopenai%7D",
        ),
        ("key", "key=%24CRED%7Bopenai%7D", "key=KEY"),
        ("key", "k%65y=CRED~openai~", "k%65y=KEY"),
        ("a[b]", "a%5Bb%5D=CRED%7Eopenai%7E&x=1", "a%5Bb%5D=KEY&x=1"),
    ] {
        let case = form_case(name, body);
        assert_eq!(sent(&case, KEY), expected.replace("KEY", KEY), "{body}");
    }
}

/// Case 17.
#[test]
fn case_17_a_secret_is_escaped_for_the_field_it_goes_into() {
    let secret = "a\"b\\c/d e%f&g=h+i";
    let body = r#"{"k":"$CRED{openai}"}"#;
    let sent_json = sent(&json_case("/k", body), secret);
    let read: serde_json::Value = serde_json::from_str(&sent_json).expect("JSON");
    assert_eq!(read["k"], secret);
    let sent_form = sent(&form_case("k", "k=CRED~openai~&z=1"), secret);
    assert_eq!(sent_form, "k=a%22b%5Cc%2Fd%20e%25f%26g%3Dh%2Bi&z=1");
}

/// Case 18. The black-box tests have more of these.
#[test]
fn case_18_what_could_be_read_in_two_ways_is_refused() {
    for (body, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("\u{feff}{}", "invalid_json"),
        (r#"{"a":{"k":"\ud800"}}"#, "invalid_json"),
        (r#"{"a":{"k":"x","k":"$CRED{openai}"}}"#, "duplicate_field"),
        (
            r#"{"a":1,"\u0061":{"k":"$CRED{openai}"}}"#,
            "duplicate_field",
        ),
        (r#"{"a":{"k":"$CRED{openai}","K":"x"}}"#, "duplicate_field"),
        (
            r#"{"A":{"k":"x"},"a":{"k":"$CRED{openai}"}}"#,
            "duplicate_field",
        ),
        (
            r#"{"a":{"\u212a":"x","k":"$CRED{openai}"}}"#,
            "duplicate_field",
        ),
        (r#"{"k":"$CRED{openai}"}"#, "bad_handle"),
        (r#"{"a":{"K":"$CRED{openai}"}}"#, "bad_handle"),
        (r#"{"a":{"k":1}}"#, "bad_handle"),
        (r#"{"a":{"k":"CRED~openai~"}}"#, "bad_handle"),
        (r#"{"a":{"k":"{openai}"}}"#, "bad_handle"),
        (
            r#"{"a":{"k":"$CRED{openai}$CRED{openai}"}}"#,
            "handle_repeated",
        ),
        (r#"{"a":{"k":"$CRED{other}"}}"#, "credential_denied"),
    ] {
        let case = json_case("/a/k", body).with_default();
        assert_outcome(&case, Err(code), body);
    }
    let twice = form_case("k", "k=CRED~openai~&%6b=x").with_default();
    assert_outcome(&twice, Err("duplicate_field"), "a field twice");
    let cases = form_case("k", "k=CRED~openai~&K=x").with_default();
    assert_outcome(&cases, Err("duplicate_field"), "in another case");
    for kind in [
        "multipart/form-data; boundary=x",
        "text/json",
        "",
        "application/json; charset=latin1",
    ] {
        let body = br#"{"k":"$CRED{openai}"}"#;
        let case = with_body(json("/k"), kind, body).with_default();
        assert_outcome(&case, Err("invalid_content_type"), kind);
    }
    for kind in [
        "Application/JSON ; charset=\"UTF-8\"",
        "application/vnd.api+json",
    ] {
        let body = br#"{"k":"$CRED{openai}"}"#;
        assert_outcome(&with_body(json("/k"), kind, body), OPENAI, kind);
    }
}

#[test]
fn only_declared_fields_are_looked_at() {
    let mut case = json_case("/k", r#"{"k":"$CRED{openai}","other":"$CRED{openai}"}"#);
    let bound = case.bind().expect("bound");
    assert!(bound.quotes_handle(&case.body), "the other field quotes it");
    assert!(!bound.quotes_handle(br#"{"k":"$CRED{openai}"}"#));
    // A handle in a header is no less denied for the field.
    case.headers.insert(
        "authorization",
        HeaderValue::from_static("Bearer $CRED{openai}"),
    );
    assert_outcome(&case, DENIED, "a header is not the declared place");
    // Without a field that policy declares for this method and path, the body is not needed.
    let asked = |case: &Case| {
        let asked = Asked {
            method: &case.method,
            path: &case.path,
            query: None,
            headers: &case.headers,
        };
        bind(&asked, &case.tenant, &agent("a1"), &case.provider).map(|head| head.needs_body())
    };
    let mut case = Case::new(bearer(), &[("content-type", "application/json")]).with_default();
    assert_eq!(asked(&case), Ok(false), "no field anywhere");
    let mut field = credential("field", json("/k"));
    field.binding.paths = vec!["/v2/**".parse().expect("a pattern")];
    case.tenant.credentials.add(Arc::new(field));
    assert_eq!(asked(&case), Ok(false), "a field of another path");
    case.path = "/v2/x".to_owned();
    assert_eq!(asked(&case), Ok(true));
    case.body = br#"{"k":"$CRED{field}"}"#.to_vec();
    assert_outcome(&case, Ok("field"), "the handle wins over the default");
    case.body = br#"{"k":"text","q":"$CRED{field}"}"#.to_vec();
    assert_outcome(&case, OPENAI, "the default, whose place is a header");
    case.headers.insert(
        "authorization",
        HeaderValue::from_static("Bearer $CRED{openai}"),
    );
    case.body = br#"{"k":"$CRED{field}"}"#.to_vec();
    assert_outcome(&case, REPEATED, "a header and a field");
}
