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
