//! Cases 28 to 30: what the claims must say.

use std::time::Duration;

use serde_json::json;

use super::{
    AUDIENCE, ISSUER, NOW, claims, header, issued, mint_of, signed, verified, with, without,
};
use crate::identity::{TokenFault, verify};
use crate::time::Timestamp;

/// Case 28.
#[test]
fn case_28_issuer_audience_and_type_must_be_ours() {
    for (name, value) in [
        ("iss", json!("https://evil.test")),
        ("iss", json!([ISSUER])),
        ("iss", json!("")),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", json!([AUDIENCE, "other"])),
        ("aud", json!([AUDIENCE, AUDIENCE])),
        ("aud", json!(["other"])),
        ("aud", json!([[AUDIENCE]])),
        ("aud", json!({"0": AUDIENCE})),
        ("aud", json!(null)),
    ] {
        let token = signed(&header().to_string(), &with(claims(), name, value.clone()));
        assert_eq!(verified(&token), Err(TokenFault::Claims), "{name} {value}");
    }
    for name in ["iss", "aud"] {
        let token = signed(&header().to_string(), &without(claims(), name));
        assert_eq!(verified(&token), Err(TokenFault::Claims), "no {name}");
    }
    let listed = with(claims(), "aud", json!([AUDIENCE]));
    assert!(verified(&signed(&header().to_string(), &listed)).is_ok());

    for typ in ["ID", "id_token", "logout+jwt", "dpop+jwt", "JWE", ""] {
        let token = signed(&with(header(), "typ", json!(typ)), &claims().to_string());
        assert_eq!(verified(&token), Err(TokenFault::Malformed), "{typ}");
    }
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT"] {
        let token = signed(&with(header(), "typ", json!(typ)), &claims().to_string());
        assert!(verified(&token).is_ok(), "{typ}");
    }
    let encrypted = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA";
    assert_eq!(
        verified(encrypted),
        Err(TokenFault::Malformed),
        "five parts are a JWE"
    );
}

/// Case 29: the life of a token.
#[test]
fn case_29_a_lifetime_of_300_seconds_is_accepted_and_301_refused() {
    for (iat, exp, expected) in [
        (NOW, NOW + 300, Ok(())),
        (NOW, NOW + 301, Err(TokenFault::Lifetime)),
        (NOW, NOW + 86_400, Err(TokenFault::Lifetime)),
        (NOW - 299, NOW + 1, Ok(())),
        (NOW - 300, NOW, Err(TokenFault::Expired)),
        (NOW - 300, NOW + 1, Err(TokenFault::Lifetime)),
        (NOW, NOW, Err(TokenFault::Claims)),
        (NOW, NOW - 1, Err(TokenFault::Claims)),
        (0, NOW + 300, Err(TokenFault::Lifetime)),
        (NOW + 5, NOW + 305, Ok(())),
        (NOW + 6, NOW + 300, Err(TokenFault::NotYetValid)),
        (
            253_402_300_700,
            253_402_300_799,
            Err(TokenFault::NotYetValid),
        ),
    ] {
        let mut claims = claims();
        claims["iat"] = json!(iat);
        claims["exp"] = json!(exp);
        let token = signed(&header().to_string(), &claims.to_string());
        assert_eq!(verified(&token).map(|_| ()), expected, "{iat} to {exp}");
    }
}

/// Case 29: what stands for a time.
#[test]
fn case_29_times_are_whole_seconds_or_nothing() {
    for name in ["iat", "exp", "nbf"] {
        for value in [
            "null",
            "\"1800000300\"",
            "1800000100.0",
            "1.8e9",
            "1e308",
            "-1",
            "true",
            "[]",
            "{}",
            "18446744073709551615",
            "9223372036854775807",
            "253402300800",
            "1800000000.5",
        ] {
            let mut other = claims();
            other.as_object_mut().expect("an object").remove(name);
            let text = other.to_string();
            let claims = format!("{},\"{name}\":{value}}}", text.trim_end_matches('}'));
            let token = signed(&header().to_string(), &claims);
            assert_eq!(verified(&token), Err(TokenFault::Claims), "{name} {value}");
        }
    }
    for name in ["iat", "exp"] {
        let token = signed(&header().to_string(), &without(claims(), name));
        assert_eq!(verified(&token), Err(TokenFault::Claims), "no {name}");
    }
}

/// Case 29: the clock.
#[test]
fn case_29_the_skew_is_for_the_start_and_never_for_the_end() {
    let mint = mint_of(1);
    let (token, caller) = issued(&mint, 60).expect("a token");
    for (offset_micros, expected) in [
        (-5_000_001, Err(TokenFault::NotYetValid)),
        (-5_000_000, Ok(())),
        (0, Ok(())),
        (59_999_999, Ok(())),
        (60_000_000, Err(TokenFault::Expired)),
        (60_000_001, Err(TokenFault::Expired)),
    ] {
        let at = Timestamp::from_micros(NOW * 1_000_000 + offset_micros);
        let result = verify(&token, &mint.keys(), at).map(|_| ());
        assert_eq!(result, expected, "{offset_micros} µs");
        if offset_micros >= 0 {
            assert_eq!(
                caller.check_expiry(at),
                expected,
                "{offset_micros} µs, kept"
            );
        }
    }
    for (start, expected) in [(5, Ok(())), (6, Err(TokenFault::NotYetValid)), (-5, Ok(()))] {
        let claims = with(claims(), "nbf", json!(NOW + start));
        let token = signed(&header().to_string(), &claims);
        assert_eq!(verified(&token).map(|_| ()), expected, "nbf {start}");
    }
    let strict = mint.keys().with_clock_skew(Duration::ZERO);
    let early = Timestamp::from_micros(NOW * 1_000_000 - 1);
    assert_eq!(verify(&token, &strict, early), Err(TokenFault::NotYetValid));
}

/// Case 30.
#[test]
fn case_30_names_are_there_are_texts_and_cannot_leave_their_place() {
    for name in ["tenant", "sub", "task", "jti"] {
        let token = signed(&header().to_string(), &without(claims(), name));
        assert_eq!(verified(&token), Err(TokenFault::Claims), "no {name}");
        for value in [
            json!(""),
            json!(null),
            json!(1),
            json!(true),
            json!(["acme"]),
            json!({"id": "acme"}),
            json!("a/b"),
            json!("a:b"),
            json!("a\0b"),
            json!("*"),
            json!(".."),
            json!("a..b"),
            json!(" acme"),
            json!("acme\n"),
            json!("a".repeat(200)),
            json!("\u{ff41}cme"),
            json!("{acme}"),
            json!("a,b"),
        ] {
            let token = signed(&header().to_string(), &with(claims(), name, value.clone()));
            assert_eq!(verified(&token), Err(TokenFault::Claims), "{name} {value}");
        }
    }
}
