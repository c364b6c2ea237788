use proptest::prelude::*;

use super::*;

/// Pieces of strings, of which signs are made, and the escapes between them.
const PIECES: [&str; 20] = [
    "data:",
    "file",
    "audio",
    "cached_content",
    "_url",
    "image_url",
    "file_url",
    "type",
    "input_audio",
    "x",
    " ",
    "é",
    "\\\"",
    "\\n",
    "\\\\",
    "\\/",
    "\\u0066",
    "\\u00e9",
    "\\u4e2d",
    "a run of text that is longer than what is looked at in the first few steps",
];

/// What the careful reading looks for, as bytes.
const WORDS: [&[u8]; 6] = [
    br"\u00",
    b"\"data:",
    b"\"file\"",
    b"_url\"",
    b"\"audio\"",
    b"\"cached_content\"",
];

fn string() -> impl Strategy<Value = String> {
    let pieces = proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..5);
    pieces.prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

proptest! {
    #[test]
    fn no_body_with_a_sign_is_taken_for_nothing_but_text(
        names in proptest::collection::vec(string(), 0..4),
        values in proptest::collection::vec(string(), 4),
        model in string(),
    ) {
        let items = names.iter().zip(&values).map(|(name, value)| format!("{{{name}:{value}}}"));
        let messages = items.collect::<Vec<_>>().join(", ");
        let body = format!("{{\"model\":{model}, \"messages\":[{messages}]}}").into_bytes();
        let fields = Fields::scan_watching::<Signs>(&body).expect("an object");
        let has = |word: &&[u8]| memchr::memmem::find(&body, word).is_some();
        if WORDS.iter().any(has) {
            prop_assert!(fields.may_hold_watched());
        }
        if !fields.may_hold_watched() {
            prop_assert!(!refers_to_the_unseen(&fields, &body));
            prop_assert_eq!(pictures(&body), 0);
        }
    }
}

#[test]
fn usual_text_has_no_signs() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"a \"file\" \u4e2d\n, my audio"}],
        "tools":[{"type":"function","function":{"name":"read_file","description":"data_url: a"}}]}"#;
    let fields = Fields::scan_watching::<Signs>(body).expect("an object");
    assert!(!fields.may_hold_watched());
}
