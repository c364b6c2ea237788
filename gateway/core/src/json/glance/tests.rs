use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// The text of a value as a glance gives it, where nothing follows.
fn glanced(text: &str) -> Option<&str> {
    let of_bytes = spanned(Glance::at_bytes(text.as_bytes()));
    assert_eq!(spanned(Glance::at(text)), of_bytes, "{text}");
    text.get(of_bytes?)
}

fn spanned(mut glance: Glance<'_>) -> Option<Range<usize>> {
    let span = glance.span()?;
    glance.end()?;
    Some(span)
}

#[test]
fn the_usual_is_read() {
    for text in [
        r#"{}"#,
        r#" { "a" : [ 1 , -2.5 , "x\n\u00e9\"" , null ] , "b":{"c":true,"d":false} } "#,
        "[]",
        "0",
        "-0.10",
        "\"\"",
        "\"é\u{2028}\"",
    ] {
        assert_eq!(glanced(text), Some(text.trim()), "{text}");
    }
}

#[test]
fn the_unusual_and_the_wrong_are_left_to_others() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "[1 2]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "{\"\\u0061\":1}",
        "nul",
        "truefalse",
        "01",
        "1.",
        ".5",
        "-",
        "1-2",
        "1.2.3",
        "1e3",
        "1234567890123456789012345",
        "\"\u{1}\"",
        "\"\t\"",
        "\"\\x\"",
        "\"\\u+0e9\"",
        "\"\\ud83d\\ude00\"",
        "\"a",
        "\"a\\",
        "1 1",
        "\u{a0}1",
        "\u{feff}1",
    ] {
        assert_eq!(glanced(text), None, "{text}");
    }
    let deep = format!("{}1{}", "[".repeat(16), "]".repeat(16));
    assert_eq!(glanced(&deep), None);
    assert_eq!(glanced(&deep[1..32]), Some(&deep[1..32]));
}

#[test]
fn counts_are_plain_integers() {
    let count = |text| Glance::at(text).count();
    assert_eq!(count("0"), Some(Some(0)));
    assert_eq!(count(" 999999999999999"), Some(Some(999_999_999_999_999)));
    assert_eq!(count("null"), Some(None));
    for unusual in ["1000000000000000", "1.0", "-1", "\"1\"", "true", ""] {
        assert_eq!(count(unusual), None, "{unusual}");
    }
}

#[test]
fn strings_know_how_long_they_are_without_their_escapes() {
    for text in [r#""a\nb\u00e9\u4e2d\/""#, r#""plain""#, r#""\"""#] {
        let quoted = Glance::at(text).quoted().expect("usual");
        let meant: String = serde_json::from_str(text).expect("JSON");
        assert_eq!(quoted.bytes, meant.len(), "{text}");
        assert_eq!(quoted.plain().is_some(), !text.contains('\\'), "{text}");
    }
}

/// JSON, or nearly: pieces of it in any order.
fn nearly_json() -> impl Strategy<Value = String> {
    const PIECES: [&str; 22] = [
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\\n\"", "\"", "\\", "1", "0", "-", ".", "e",
        "null", "true", " ", "\n", "é", "\\u00e9", "\\ud800",
    ];
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..12)
        .prop_map(|pieces| pieces.concat())
}

/// Values as a library writes them.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{0,3}", inner, 0..4).prop_map(Value::from_iter),
        ]
    });
    value.prop_map(|value| value.to_string())
}

proptest! {
    #[test]
    fn the_end_of_a_run_is_found_wherever_it_is(
        run in "[ -!#-\\[\\]-~\u{7f}-\u{ff}]{0,80}",
        end in proptest::sample::select(&b"\"\\\x00\x1f\n"[..]),
        behind in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let text = [run.as_bytes(), &[end], &behind].concat();
        prop_assert_eq!(after_plain(&text), &text[run.len()..]);
        prop_assert_eq!(after_plain(run.as_bytes()), b"");
        prop_assert!(is_plain(run.as_bytes()));
        prop_assert!(!is_plain(&text));
        let ascii = run.bytes().position(|byte| !byte.is_ascii());
        prop_assert!(plain_at_start(&text) <= ascii.unwrap_or(run.len()));
    }

    #[test]
    fn a_glance_at_bytes_takes_what_is_utf_8(
        mut bytes in json().prop_map(String::into_bytes),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let taken = spanned(Glance::at_bytes(&bytes));
        let text = std::str::from_utf8(&bytes).ok();
        prop_assert_eq!(taken, text.and_then(|text| spanned(Glance::at(text))));
    }

    #[test]
    fn what_a_glance_takes_is_json(text in nearly_json()) {
        if glanced(&text).is_some() {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_a_library_writes_is_usual(text in json()) {
        prop_assert_eq!(glanced(&text), Some(text.as_str()));
    }
}
