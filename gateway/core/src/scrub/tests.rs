use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::secret::Secret;

const KEY: &str = "sk-canary-7f3a/9c+Q\"x";

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

fn needles(text: &str) -> Arc<Needles> {
    Arc::new(Needles::new(&secret(text)).unwrap())
}

/// The whole output for `pieces`, and how many matches were replaced.
fn scrubbed<'a>(
    needles: &Arc<Needles>,
    filling: Filling,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, u64) {
    let mut scrubber = Scrubber::new(Arc::clone(needles), filling);
    let mut out = Vec::new();
    for piece in pieces {
        match scrubber.feed(piece) {
            Passed::All => out.extend_from_slice(piece),
            Passed::First(length) => out.extend_from_slice(&piece[..length]),
            Passed::Instead(others) => out.extend(others),
        }
        assert!(scrubber.held.len() < needles.longest(), "no more is held");
    }
    out.extend(scrubber.end());
    (out, scrubber.hits())
}

fn marked(key: &str, text: &str) -> String {
    let (out, _) = scrubbed(&needles(key), Filling::Mark, [text.as_bytes()]);
    String::from_utf8(out).unwrap()
}

fn percent(text: &str, upper: bool) -> String {
    text.bytes()
        .map(|byte| {
            if upper {
                format!("%{byte:02X}")
            } else {
                format!("%{byte:02x}")
            }
        })
        .collect()
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`Needles`] stand for, said once more in another language.
fn oracle(key: &str) -> Regex {
    let byte = |byte: u8, either_case: bool| {
        let cases = [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
        let cases = if either_case { &cases[..] } else { &[byte] };
        let spelt: Vec<String> = cases
            .iter()
            .flat_map(|byte| {
                let mut spelt = vec![
                    format!("\\x{byte:02x}"),
                    format!("%(?i:{byte:02x})"),
                    format!("\\\\{{1,7}}u00(?i:{byte:02x})"),
                ];
                match byte {
                    b'"' | b'/' => spelt.push(format!("\\\\{{1,7}}\\x{byte:02x}")),
                    b'\\' => spelt.push("\\\\{2,7}".to_owned()),
                    b' ' => spelt.push("\\+".to_owned()),
                    _ => {}
                }
                spelt
            })
            .collect();
        format!("(?:{})", spelt.join("|"))
    };
    let mut forms = vec![(key.to_owned(), false), (hexadecimal(key), true)];
    for lead in ["", "a", "ab"] {
        let whole = format!("{lead}{key}");
        let skipped = [0, 2, 3][lead.len()];
        let own = whole.len() * 8 / 6;
        for text in [STANDARD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
            forms.push((text[skipped..own].to_owned(), false));
        }
    }
    let forms: Vec<String> = forms
        .into_iter()
        .map(|(form, either_case)| form.bytes().map(|b| byte(b, either_case)).collect())
        .collect();
    Regex::new(&format!("(?-u)(?s){}", forms.join("|"))).unwrap()
}

#[test]
fn every_form_becomes_the_mark() {
    let json = KEY.replace('"', "\\\"").replace('/', "\\/");
    let nested = KEY.replace('"', "\\\\\\\"").replace('/', "\\\\\\/");
    let unicode: String = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    for form in [
        KEY.to_owned(),
        hexadecimal(KEY),
        hexadecimal(KEY).to_uppercase(),
        percent(KEY, false),
        percent(KEY, true),
        KEY.replace('/', "%2F").replace('+', "%2b"),
        json,
        nested,
        unicode.clone(),
        unicode.to_uppercase().replace("\\U", "\\u"),
        percent(&hexadecimal(KEY), true),
    ] {
        assert_eq!(marked(KEY, &form), "[redacted]", "{form}");
        assert_eq!(marked(KEY, &format!("<{form}>")), "<[redacted]>", "{form}");
        assert_eq!(
            marked(KEY, &format!("{form}{form} {form}")),
            "[redacted][redacted] [redacted]"
        );
    }
}

#[test]
fn base64_is_found_at_every_alignment_padded_or_not_in_both_alphabets() {
    let searched = oracle(KEY);
    for lead in ["", "x", "xy", "user:", "Bearer "] {
        for tail in ["", "1", "12", "123"] {
            let text = format!("{lead}{KEY}{tail}");
            for form in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                for form in [form.replace('/', "\\/"), form.replace('+', "%2B"), form] {
                    let out = marked(KEY, &form);
                    assert!(out.contains("[redacted]"), "{form}");
                    assert!(!searched.is_match(out.as_bytes()), "{out}");
                }
            }
        }
    }
}

#[test]
fn what_only_resembles_the_secret_passes() {
    let almost = &KEY[..KEY.len() - 1];
    for text in [
        "",
        "Nothing of the kind.",
        almost,
        &hexadecimal(almost),
        &percent(almost, true),
        &KEY.to_uppercase(),
        "%73%6b%2d %7 %zz \\ \\u \\u00 \\u0073k-canar \\n \\\\",
    ] {
        assert_eq!(marked(KEY, text), text);
    }
    let halves = format!("{almost}{almost}{KEY}");
    assert_eq!(marked(KEY, &halves), format!("{almost}{almost}[redacted]"));
}

#[test]
fn what_is_not_declared_is_not_found() {
    for text in [
        KEY.chars().rev().collect::<String>(),
        KEY.replace('"', "&quot;"),
        KEY.chars().flat_map(|c| [c, '\0']).collect(),
        STANDARD.encode(STANDARD.encode(KEY)),
        percent(&percent(KEY, true), true),
        format!("{}\"}}\n\ndata: {{\"{}", &KEY[..9], &KEY[9..]),
    ] {
        assert_eq!(marked(KEY, &text), text);
    }
}

#[test]
fn only_what_may_become_the_secret_is_held_back() {
    let needles = needles(KEY);
    for (text, held) in [
        ("data: {}\n\n", 0),
        ("{\"id\":\"s\"}", 0),
        ("all is well.", 0),
        ("this is", 1),
        ("all is sk-can", 6),
        ("all is sk-cant", 0),
        ("100 %", 1),
        ("100 %7", 2),
        ("100 %9", 0),
        ("a line\\", 1),
        ("a line\\n", 0),
        ("s%6b\\u00", 8),
        ("s%6b\\u01", 0),
        ("736B2D", 6),
        ("736B2E", 0),
    ] {
        let mut scrubber = Scrubber::new(Arc::clone(&needles), Filling::Mark);
        let _passed = scrubber.feed(text.as_bytes());
        assert_eq!(scrubber.held.len(), held, "{text}");
        assert_eq!(scrubber.end(), text.as_bytes()[text.len() - held..]);
    }
}

#[test]
fn the_same_length_can_be_kept() {
    let keep = |key: &str, text: &str| {
        let (out, _) = scrubbed(&needles(key), Filling::SameLength, [text.as_bytes()]);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(keep(KEY, &format!("<{KEY}>")), "<[redacted]***********>");
    assert_eq!(keep("12345678", "<12345678>"), "<********>");
    assert!(!needles("12345678").has_room_for_mark());
    assert!(needles("1234567890").has_room_for_mark());
}

#[test]
fn a_secret_too_short_has_no_needles() {
    assert!(Needles::new(&secret("1234567")).is_none());
    assert!(Needles::new(&secret("12345678")).is_some());
}

#[test]
fn header_names_are_searched_in_either_case() {
    let needles = needles("Sk-Canary-7f3A");
    assert!(needles.are_in_name("x-sk-canary-7f3a-x"));
    assert!(
        needles.are_in_name(
            &STANDARD
                .encode("Sk-Canary-7f3A")
                .to_lowercase()
                .replace('=', "-")
        )
    );
    assert!(!needles.are_in_name("x-request-id"));
    assert!(!needles.are_in_name("x-sk-canary-7f3"));
}

#[test]
fn a_megabyte_of_decoys_and_then_the_secret() {
    let needles = needles(KEY);
    for decoy in [
        "sk-canary-",
        "%73%6b",
        "\\\\\\\\\\\\\\\\\\\\",
        "s\\u006",
        "c2stY2FuYX",
    ] {
        let mut text = decoy.repeat(1_000_000 / decoy.len());
        let clean = text.clone();
        text.push_str(KEY);
        let (out, hits) = scrubbed(&needles, Filling::Mark, text.as_bytes().chunks(16 * 1024));
        assert_eq!(hits, 1, "{decoy}");
        assert_eq!(out.len(), clean.len() + MARK.len());
        assert!(out.starts_with(clean.as_bytes()));
    }
}

/// A secret of letters, or of letters and what escapes are made of; nothing of the mark.
fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_-]{8,40}",
        "[a-c%\\\\/\"+ 0-4-]{8,16}",
        "[ab]{8,10}"
    ]
    .prop_filter("no blank at an end", |key| key.trim() == key)
}

/// `key` in one of its forms, any of its bytes escaped.
fn any_form(key: String) -> impl Strategy<Value = Vec<u8>> {
    (0..8_usize, prop::collection::vec(0..12_u8, 200)).prop_map(move |(form, escapes)| {
        let lead = &"xy"[..form % 3];
        let text = match form {
            0..3 => STANDARD.encode(format!("{lead}{key}")),
            3..5 => URL_SAFE_NO_PAD.encode(format!("{lead}{key}")),
            5 => hexadecimal(&key).to_uppercase(),
            _ => key.clone(),
        };
        let bytes = text.bytes().zip(escapes.iter().cycle());
        let spelt = bytes.map(|(byte, escape)| match (escape, byte) {
            (0, _) => format!("%{byte:02x}"),
            (1, _) => format!("%{byte:02X}"),
            (2, _) => format!("\\u{byte:04x}"),
            (3, _) => format!("\\\\\\u{byte:04X}"),
            (4..6, b'"' | b'/' | b'\\') => format!("\\{}", char::from(byte)),
            (4, b' ') => "+".to_owned(),
            _ => char::from(byte).to_string(),
        });
        spelt.collect::<String>().into_bytes()
    })
}

/// A secret and a text made of its forms, their beginnings and much that looks like them.
fn any_text() -> impl Strategy<Value = (String, Vec<u8>)> {
    any_key().prop_flat_map(|key| {
        let piece = prop_oneof![
            2 => any_form(key.clone()),
            2 => (any_form(key.clone()), 0..40_usize).prop_map(|(mut form, kept)| {
                form.truncate(kept);
                form
            }),
            3 => "[ -~\n]{0,12}".prop_map(String::into_bytes),
            1 => "[a-c%\\\\u0-4 +-]{0,12}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ];
        let text = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
        (Just(key), text)
    })
}

proptest! {
    #[test]
    fn no_needle_comes_out_and_without_one_nothing_changes((key, text) in any_text()) {
        let searched = oracle(&key);
        for filling in [Filling::Mark, Filling::SameLength] {
            let (out, hits) = scrubbed(&needles(&key), filling, [text.as_slice()]);
            prop_assert!(!searched.is_match(&out), "{}", String::from_utf8_lossy(&out));
            prop_assert_eq!(hits > 0, searched.is_match(&text));
            prop_assert!(hits > 0 || out == text);
            prop_assert!(filling == Filling::Mark || out.len() == text.len());
        }
        let whole = needles(&key).scrub(&text);
        prop_assert_eq!(whole.is_some(), searched.is_match(&text));
    }

    #[test]
    fn splits_do_not_matter((key, text) in any_text(), cuts in prop::collection::vec(1..9_usize, 1..9)) {
        let needles = needles(&key);
        let whole = scrubbed(&needles, Filling::Mark, [text.as_slice()]);
        prop_assert_eq!(&scrubbed(&needles, Filling::Mark, text.chunks(1)), &whole);
        let mut rest = text.as_slice();
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(&scrubbed(&needles, Filling::Mark, pieces), &whole);
        for cut in 0..=text.len() {
            let (one, other) = text.split_at(cut);
            prop_assert_eq!(&scrubbed(&needles, Filling::Mark, [one, other]), &whole);
        }
    }

    #[test]
    fn the_quick_search_finds_what_a_look_at_every_byte_does((key, text) in any_text()) {
        let slow = Arc::new(Needles::without_filters(&secret(&key)).unwrap());
        for pieces in [text.len().max(1), 1, 7] {
            let quick = scrubbed(&needles(&key), Filling::Mark, text.chunks(pieces));
            prop_assert_eq!(quick, scrubbed(&slow, Filling::Mark, text.chunks(pieces)));
        }
    }
}
