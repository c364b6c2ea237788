//! Looks for secrets in output where none may be.
//!
//! Finds them plain, in hexadecimal, reversed, percent-escaped (whole or where needed), as JSON and
//! as the numbers that `Debug` makes of bytes, and in base64 at each of the three alignments; and
//! task tokens, which nobody has to name. Knows nothing about where the output comes from; an
//! encoding not listed here is not found.

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What is shown around a find, in bytes on either side.
const AROUND: usize = 80;

/// The forms of `secret` that stand in `text`, each by the name of its encoding.
#[must_use]
pub fn sightings(text: &str, secret: &str) -> Vec<&'static str> {
    forms(secret)
        .into_iter()
        .filter(|(_, form)| text.contains(form.as_str()))
        .map(|(name, _)| name)
        .collect()
}

/// Looks for many secrets at once, at the same cost as for one.
pub struct Lookout {
    automaton: AhoCorasick,
    forms: Vec<(String, &'static str)>,
}

/// A secret where none may be.
#[derive(Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which secret.
    pub secret: String,
    /// The name of its encoding.
    pub form: &'static str,
    /// What stands around it, the find itself left out.
    pub context: String,
}

impl Lookout {
    /// A lookout for `secrets`.
    #[must_use]
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let mut names = Vec::new();
        let mut patterns = Vec::new();
        for secret in secrets {
            for (name, form) in forms(secret) {
                names.push((secret.to_owned(), name));
                patterns.push(form);
            }
        }
        let automaton = AhoCorasick::new(patterns).expect("a few hundred short patterns");
        Self {
            automaton,
            forms: names,
        }
    }

    /// The first place of each secret's forms.
    #[must_use]
    pub fn sightings(&self, output: &[u8]) -> Vec<Sighting> {
        let mut seen: Vec<Sighting> = Vec::new();
        for found in self.automaton.find_overlapping_iter(output) {
            let (secret, form) = &self.forms[found.pattern()];
            let known = |of: &Sighting| of.secret == *secret && of.form == *form;
            if !seen.iter().any(known) {
                seen.push(Sighting {
                    secret: secret.clone(),
                    form,
                    context: around(output, found.start(), found.end()),
                });
            }
        }
        seen
    }
}

/// The first task token in `output`, or any other JWT: what stands around it.
#[must_use]
pub fn token(output: &[u8]) -> Option<String> {
    let is_text = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut from = 0;
    while let Some(at) = output[from..].windows(3).position(|three| three == b"eyJ") {
        let start = from + at;
        let part = |from: usize| {
            let length = output[from..].iter().take_while(|b| is_text(b)).count();
            from + length
        };
        let header = part(start);
        if output[header..].starts_with(b".eyJ") {
            let payload = part(header + 1);
            if output.get(payload) == Some(&b'.') {
                return Some(around(output, start, part(payload + 1)));
            }
        }
        from = header.max(start + 3);
    }
    None
}

fn around(output: &[u8], start: usize, end: usize) -> String {
    let before = &output[start.saturating_sub(AROUND)..start];
    let after = &output[end..output.len().min(end + AROUND)];
    format!(
        "{} <<< >>> {}",
        String::from_utf8_lossy(before),
        String::from_utf8_lossy(after)
    )
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
    for separator in [", ", ","] {
        let numbers: Vec<String> = secret.bytes().map(|b| b.to_string()).collect();
        forms.push(("numbers", numbers.join(separator)));
    }
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_matches('"');
    let escaped: String = secret.bytes().map(escape).collect();
    for (name, form) in [("JSON", json), ("escaped", escaped.as_str())] {
        if form != secret {
            forms.push((name, form.to_owned()));
        }
    }
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

/// A byte as a URL has it.
fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
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

    #[test]
    fn a_lookout_finds_what_is_looked_for_one_by_one() {
        let lookout = Lookout::new(["sk-canary-one/7f3a", "sk-canary-two"]);
        for (name, form) in forms("sk-canary-one/7f3a") {
            let seen = lookout.sightings(format!("before {form} after").as_bytes());
            assert!(
                seen.iter()
                    .any(|seen| seen.form == name && seen.secret.ends_with("7f3a")),
                "{name}: {seen:?}"
            );
            assert!(seen.iter().all(|seen| seen.context.starts_with("before ")));
        }
        assert_eq!(lookout.sightings(b"sk-canary-three"), Vec::new());
        let leaked = format!("{:?}", b"sk-canary-two");
        assert_eq!(lookout.sightings(leaked.as_bytes()).len(), 1);
        let listed = format!("{:?}", b"sk-canary-two".to_vec());
        assert_eq!(lookout.sightings(listed.as_bytes())[0].form, "numbers");
    }

    #[test]
    fn tokens_are_known_by_their_form() {
        let whole = b"a eyJhbGciOiJFZERTQSJ9.eyJ0ZW5hbnQiOiJhY21lIn0.c2ln b";
        assert_eq!(token(whole).as_deref(), Some("a  <<< >>>  b"));
        for other in [
            &b"eyJ"[..],
            b"",
            b"eyJh.eyJh",
            b"eyJhbGci.e30.c2ln",
            b"xeyJ.eyJ eyJ.",
        ] {
            assert_eq!(token(other), None, "{other:?}");
        }
    }
}
