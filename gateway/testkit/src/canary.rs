//! Looks for a secret in text where none may be.
//!
//! Finds it plain, in hexadecimal, reversed, percent-escaped whole, and in base64 at each of the
//! three alignments. Knows nothing about where the text comes from; an encoding not listed here is
//! not found.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The forms of `secret` that stand in `text`, each by the name of its encoding.
#[must_use]
pub fn sightings(text: &str, secret: &str) -> Vec<&'static str> {
    forms(secret)
        .into_iter()
        .filter(|(_, form)| text.contains(form.as_str()))
        .map(|(name, _)| name)
        .collect()
}

fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let mut forms = vec![
        ("plain", secret.to_owned()),
        ("reversed", secret.chars().rev().collect()),
        ("hex", secret.bytes().map(|b| format!("{b:02x}")).collect()),
        ("HEX", secret.bytes().map(|b| format!("{b:02X}")).collect()),
        (
            "percent",
            secret.bytes().map(|b| format!("%{b:02x}")).collect(),
        ),
        (
            "PERCENT",
            secret.bytes().map(|b| format!("%{b:02X}")).collect(),
        ),
    ];
    for lead in 0..3_usize {
        let mut padded = vec![0; lead];
        padded.extend_from_slice(secret.as_bytes());
        // The first characters mix in the bytes before the secret, the last one those after it.
        let skip = [0, 2, 3][lead];
        for (name, engine) in [
            ("base64", &STANDARD_NO_PAD),
            ("base64url", &URL_SAFE_NO_PAD),
        ] {
            let text = engine.encode(&padded);
            let end = text.len() - usize::from(padded.len() % 3 != 0);
            forms.push((name, text[skip..end].to_owned()));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_and_at_every_alignment() {
        let secret = "sk-canary-7f3a9c";
        for lead in ["", "x", "xy", "xyz"] {
            for tail in ["", "1", "12", "123"] {
                let text = format!("{lead}{secret}{tail}");
                assert!(
                    sightings(&STANDARD_NO_PAD.encode(&text), secret).contains(&"base64"),
                    "{text}"
                );
            }
        }
        assert_eq!(sightings("no secret here", secret), Vec::<&str>::new());
        assert_eq!(sightings("<sk-canary-7f3a9c>", secret), ["plain"]);
    }
}
