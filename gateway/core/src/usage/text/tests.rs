use super::*;

#[test]
fn odd_numbers_are_absent_and_never_an_error() {
    for (text, expected) in [
        ("7", Some(7)),
        ("10.0", Some(10)),
        ("1.5", None),
        ("-1", None),
        ("null", None),
        ("\"7\"", None),
        ("true", None),
        ("[1]", None),
        ("{\"a\":1}", None),
        ("1e400", None),
        ("9007199254740991", Some(9_007_199_254_740_991)),
        ("9007199254740992", None),
        ("1e16", None),
        ("9223372036854775808", None),
        ("18446744073709551616", None),
        ("-9223372036854775809", None),
    ] {
        let count = serde_json::from_str::<Count>(text).unwrap_or_default();
        assert_eq!(count.0, expected, "{text}");
    }
}

#[test]
fn text_is_measured_at_any_depth() {
    let delta = r#"{"role":"assistant","content":"h\u00e9","tool_calls":[{"id":"call_1",
        "function":{"name":"f","arguments":"{}"}}],"n":1,"x":null}"#;
    let bytes: TextBytes = serde_json::from_str(delta).expect("JSON");
    assert_eq!(bytes, TextBytes(3 + 1 + 2));
}

#[test]
fn choices_say_whether_they_are_finished() {
    for (text, empty, finished, bytes) in [
        ("[]", true, false, 0),
        (
            r#"[{"delta":{"content":"ab"},"finish_reason":null}]"#,
            false,
            false,
            2,
        ),
        (
            r#"[{"text":"a"},{"text":"b","finish_reason":"stop"}]"#,
            false,
            true,
            2,
        ),
        // What Azure and OpenRouter remark on a choice is not generated.
        (
            r#"[{"delta":{"content":"a"},"native_finish_reason":"end_turn",
                "content_filter_results":{"hate":{"severity":"safe"}}}]"#,
            false,
            false,
            1,
        ),
        (r#"[null,7,"x",[1]]"#, false, false, 0),
        ("7", false, false, 0),
    ] {
        let expected = Choices {
            empty,
            finished,
            text: TextBytes(bytes),
        };
        assert_eq!(serde_json::from_str::<Choices>(text).ok(), Some(expected));
    }
}

#[test]
fn amounts_are_read_from_their_digits() {
    for (number, places, expected) in [
        ("4.1400000000000003e-05", 12, Some(41_400_000)),
        ("0.0160614", 12, Some(16_061_400_000)),
        ("0.000102", 12, Some(102_000_000)),
        ("0", 12, Some(0)),
        ("0.0", 12, Some(0)),
        ("1E+2", 3, Some(100_000)),
        ("3.2", 3, Some(3_200)),
        ("29", 3, Some(29_000)),
        ("1e-400", 12, Some(0)),
        ("0.4999", 0, Some(0)),
        ("0.5", 0, Some(1)),
        (
            "0.00000000000000000000000000000000000000000000000001e50",
            0,
            Some(1),
        ),
        (
            "1000000000000000000000000000000000000000000000000000e-51",
            0,
            Some(1),
        ),
        ("-1", 12, None),
        ("-0.5", 12, None),
        ("1e20", 0, None),
        ("1e400", 0, None),
        ("1e99999999999", 0, None),
        ("18446744073709551616", 0, None),
        ("NaN", 12, None),
        ("\"1\"", 12, None),
        ("", 12, None),
        (".", 12, None),
        ("e5", 12, None),
    ] {
        assert_eq!(scaled(number, places), expected, "{number}");
    }
}
