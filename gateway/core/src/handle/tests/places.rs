//! Cases 7, 9 to 12, 14 and 20: where a handle may stand, and what else may stand there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// Case 7.
#[test]
fn case_07_a_handle_in_another_header_is_denied() {
    for name in [
        "user-agent",
        "referer",
        "cookie",
        "x-forwarded-for",
        "host",
        "openai-organization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "proxy-authorization",
        "x-tollgate-note",
    ] {
        for value in ["$CRED{openai}", "Mozilla $CRED<openai> x", "$CRED{unknown}"] {
            if value.contains("Mozilla") && name.ends_with("api-key") {
                continue;
            }
            let case = Case::new(bearer(), &[(name, value)]).with_default();
            assert_outcome(&case, DENIED, &format!("{name}: {value}"));
        }
    }
    let case = Case::new(
        bearer(),
        &[("user-agent", "$cred{x} {openai} CRED~openai~")],
    );
    assert_outcome(
        &case.with_default(),
        OPENAI,
        "plain text in a header without keys",
    );
}

/// Case 7: every key slot is looked at, and the one that is not declared is no place for it.
#[test]
fn case_07_the_slot_of_another_sdk_is_not_the_declared_place() {
    let anthropic = header_place("x-api-key", "");
    let case = Case::new(anthropic, &[("authorization", "Bearer $CRED{openai}")]);
    assert_outcome(&case.with_default(), DENIED, "bearer for x-api-key");
}

/// Case 9.
#[test]
fn case_09_a_handle_in_the_url_is_denied_where_only_a_header_is_declared() {
    for query in [
        "key=$CRED{openai}",
        "key=CRED~openai~",
        "q=a$CRED<openai>b",
        "$CRED{openai}=1",
        "key=%24CRED%7Bopenai%7D",
        "a=1&b=2&c=CRED~unknown~",
        "CRED~openai~",
    ] {
        let case = Case::new(bearer(), &[]).with_default().query(query);
        assert_outcome(&case, DENIED, query);
    }
    for path in [
        "/v1/$CRED{openai}/x",
        "/v1/CRED~openai~",
        "/bot%24CRED%7Bopenai%7D/send",
        "/v1/CRED%7Eopenai%7E",
    ] {
        let mut case = Case::new(bearer(), &[]).with_default();
        case.path = path.to_owned();
        assert_outcome(&case, DENIED, path);
    }
}

/// Cases 9 and 10.
#[test]
fn case_10_a_declared_query_parameter_takes_a_handle_encoded_once() {
    for (query, expected) in [
        ("key=CRED~openai~", OPENAI),
        ("key=$CRED{openai}", OPENAI),
        ("key=$CRED<openai>", OPENAI),
        ("key=%24CRED%7Bopenai%7D", OPENAI),
        ("key=%24cred%7Bopenai%7D", BAD),
        ("key=%24CRED%7bopenai%7d", OPENAI),
        ("k%65y=%24CRED%3Copenai%3E", OPENAI),
        ("a=1&key=CRED~openai~&b=2", OPENAI),
        ("key=%2524CRED%257Bopenai%257D", BAD),
        ("key=%24CRED%7Bopenai", BAD),
        ("key=CRED~openai", BAD),
        ("key=CRED~OPENAI~", BAD),
        ("key={openai}", BAD),
        ("key=CRED~openai~x", BAD),
        ("other=CRED~openai~", DENIED),
        ("KEY=CRED~openai~", DENIED),
        ("key=CRED~unknown~", DENIED),
        ("key=CRED~openai~&key=CRED~openai~", REPEATED),
        ("key=CRED~openai~&q=$CRED{openai}", REPEATED),
        ("key=CRED~openai~CRED~openai~", REPEATED),
        ("q=%2524CRED%257Bopenai%257D", DENIED),
    ] {
        let case = Case::new(query_place(), &[]).query(query);
        assert_outcome(&case, expected, query);
    }
    let double = Case::new(query_place(), &[]).query("q=%2524CRED%257Bopenai%257D");
    assert_outcome(
        &double.with_default(),
        OPENAI,
        "text that is no handle, and the default",
    );
    let header = Case::new(query_place(), &[("authorization", "Bearer $CRED{openai}")]);
    assert_outcome(&header, DENIED, "a header where the query is declared");
}

/// Case 11.
#[test]
fn case_11_a_split_handle_is_no_handle() {
    for lines in [
        [
            ("authorization", "Bearer $CRED{op"),
            ("authorization", "enai}"),
        ],
        [
            ("authorization", "enai}"),
            ("authorization", "Bearer $CRED{op"),
        ],
        [
            ("authorization", "Bearer sk-own"),
            ("authorization", "Bearer $CRED{op"),
        ],
        [("x-api-key", "$CRED{op"), ("x-api-key", "enai}")],
    ] {
        let case = Case::new(bearer(), &lines).with_default();
        assert_outcome(&case, BAD, &format!("{lines:?}"));
    }
}

/// Case 12.
#[test]
fn case_12_a_repeated_handle_is_refused() {
    let repeated: [&[(&str, &str)]; 7] = [
        &[("authorization", "Bearer $CRED{openai}$CRED{openai}")],
        &[(
            "authorization",
            "Bearer $CRED{openai}, Bearer $CRED{openai}",
        )],
        &[
            ("authorization", "Bearer $CRED{openai}"),
            ("authorization", "Bearer $CRED{openai}"),
        ],
        &[
            ("authorization", "Bearer $CRED{openai}"),
            ("x-api-key", "$CRED{openai}"),
        ],
        &[
            ("authorization", "Bearer $CRED{openai}"),
            ("x-api-key", "$CRED{other}"),
        ],
        &[
            ("authorization", "Bearer $CRED{openai}"),
            ("user-agent", "$CRED{openai}"),
        ],
        &[("user-agent", "$CRED{openai} $CRED<openai>")],
    ];
    for lines in repeated {
        assert_outcome(&Case::new(bearer(), lines), REPEATED, &format!("{lines:?}"));
    }
    let case = Case::new(bearer(), &[("authorization", "Bearer $CRED{openai}")]);
    assert_outcome(
        &case.query("key=CRED~openai~"),
        REPEATED,
        "header and query",
    );
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

/// Case 14.
#[test]
fn case_14_basic_authentication_takes_a_handle_for_its_password_only() {
    let padded = "Basic eDokQ1JFRHtvcGVuYWl9";
    assert_eq!(padded, basic("x:$CRED{openai}"), "the test's own base64");
    for (value, expected) in [
        (basic("x:$CRED{openai}"), OPENAI),
        (basic(":$CRED{openai}"), OPENAI),
        (basic("x:$CRED<openai>"), OPENAI),
        (basic("x:$CRED{openai}").replace("Basic", "basic"), OPENAI),
        (basic("x:$CRED{unknown}"), DENIED),
        (basic("$CRED{openai}:x"), DENIED),
        (basic("$CRED{openai}:$CRED{openai}"), REPEATED),
        (basic("x:y$CRED{openai}"), BAD),
        (basic("x:y:$CRED{openai}"), BAD),
        (basic("x:$CRED{openai} "), BAD),
        (basic("x: $CRED{openai}"), BAD),
        (basic("x:{openai}"), BAD),
        (basic("$CRED{openai}"), BAD),
        (basic("x"), BAD),
        (basic(""), BAD),
        ("Basic".to_owned(), BAD),
        ("Basic ".to_owned(), BAD),
        ("Basic x:$CRED{openai}".to_owned(), BAD),
        ("Basic $CRED{openai}".to_owned(), BAD),
        (padded.replace("Basic ", "Basic  "), BAD),
        (padded.replace("Basic ", "Basic\t"), BAD),
        (format!("{} {}", &padded[..12], &padded[12..]), BAD),
        (format!("{padded} "), BAD),
        (format!("{padded}, {padded}"), BAD),
        ("Basic eDokQ1JFRHtvcGVuYX0".to_owned(), BAD),
        ("Bearer $CRED{openai}".to_owned(), DENIED),
        ("$CRED{openai}".to_owned(), DENIED),
    ] {
        let case = Case::new(Place::Basic, &[("authorization", &value)]);
        assert_outcome(&case, expected, &value);
    }
    for (value, expected) in [
        (basic("x:$CRED{openai}"), DENIED),
        (basic("$CRED{openai}:x"), DENIED),
        (basic("x:$CRED[openai]"), BAD),
        (basic("x:own-password"), OPENAI),
        ("Basic ???".to_owned(), OPENAI),
    ] {
        let case = Case::new(bearer(), &[("authorization", &value)]).with_default();
        assert_outcome(&case, expected, &format!("a bearer binding and {value}"));
    }
}

/// Case 20, and a slot with the token or nothing in it.
#[test]
fn case_20_without_a_handle_the_tenants_default_is_used() {
    let slots: [&[(&str, &str)]; 8] = [
        &[],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer eyJhbGciOi.eyJpc3Mi.c2ln")],
        &[("authorization", "Bearer sk-own")],
        &[
            ("authorization", "Bearer sk-own"),
            ("authorization", "Bearer sk-own-2"),
        ],
        &[("x-api-key", "sk-own"), ("api-key", "sk-own")],
        &[(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=ab",
        )],
    ];
    for lines in slots {
        let case = Case::new(bearer(), lines);
        assert_outcome(&case, DENIED, &format!("{lines:?} and no default"));
        assert_outcome(&case.with_default(), OPENAI, &format!("{lines:?}"));
    }
    let case = Case::new(bearer(), &[]).with_default().query("key=AIzaOwn");
    assert_outcome(&case, OPENAI, "an own key in the query");
}

#[test]
fn a_default_is_bound_like_any_other() {
    let changes: [fn(&mut Credential); 4] = [
        |it| it.agents = vec!["b1".parse().expect("a pattern")],
        |it| it.binding.host = "evil.test".to_owned(),
        |it| it.binding.methods = vec![Method::GET],
        |it| it.provider = "other".parse().expect("a name"),
    ];
    for change in changes {
        let mut case = Case::new(bearer(), &[]).with_default();
        case.edit(change);
        assert_outcome(&case, DENIED, "a default outside its binding");
    }
}

#[test]
fn a_provider_that_takes_no_key_gets_none() {
    let mut case = Case::new(bearer(), &[("authorization", "Bearer sk-own")]).with_default();
    case.provider.place = None;
    assert_outcome(&case, Ok(""), "no credential");
}

#[test]
fn a_byte_of_a_handle_or_its_like_is_seen_wherever_it_stands() {
    let key = b"Bearer eyJhbGciOi-_0.+/=; application/json, */*:\"@!?#";
    for length in 0..key.len() {
        let plain = &key[..length];
        assert!(!holds_odd(plain), "{length}");
        for odd in (0x80..=0xff).chain(*b"$%(){}<>[]~") {
            for at in 0..=length {
                let text = [&plain[..at], &[odd], &plain[at..]].concat();
                assert!(holds_odd(&text), "{odd} at {at} of {length}");
            }
        }
    }
}
