//! Reads the top level of a JSON object in place, and changes one field of it by splicing.
//!
//! A body is never parsed into a tree and printed again: the provider receives the client's own
//! bytes except for the field that is spliced. Everything below the top level is checked to be
//! JSON and otherwise left alone. This module does not know what any field means.
//!
//! Worst case: one pass over the body and 40 bytes per field, of which there may be
//! [`MAX_FIELDS`].

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The most fields an object may have. Provider APIs define fewer than a hundred; the bound keeps
/// a body of nothing but fields from costing more memory than itself.
pub const MAX_FIELDS: usize = 4_096;

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not UTF-8, not JSON, not an object, or something follows it.
    #[error("not a JSON object")]
    NotAnObject,
    /// One name twice: two readers could take two different values.
    #[error("a field occurs twice")]
    DuplicateField,
    /// More than [`MAX_FIELDS`].
    #[error("more than {MAX_FIELDS} fields")]
    TooManyFields,
}

/// The fields of one JSON object, as they stand in its text.
#[derive(Debug)]
pub struct Fields<'a> {
    text: &'a str,
    fields: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Fields<'a> {
    /// Finds the fields of the object that `body` is.
    ///
    /// # Errors
    /// [`JsonFault`]: the body is no JSON object, or could be read in two ways.
    pub fn scan(body: &'a [u8]) -> Result<Self, JsonFault> {
        let text = std::str::from_utf8(body)
            .map_err(|_not_utf8: std::str::Utf8Error| JsonFault::NotAnObject)?;
        Self::scan_text(text)
    }

    /// [`Fields::scan`] for text, such as the value of another object's field.
    ///
    /// # Errors
    /// As for [`Fields::scan`].
    pub fn scan_text(text: &'a str) -> Result<Self, JsonFault> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let fields = Collect
            .deserialize(&mut reader)
            .map_err(|_bad: serde_json::Error| JsonFault::NotAnObject)?;
        reader
            .end()
            .map_err(|_trailing: serde_json::Error| JsonFault::NotAnObject)?;
        if fields.len() > MAX_FIELDS {
            return Err(JsonFault::TooManyFields);
        }
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        if names
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a == b))
        {
            return Err(JsonFault::DuplicateField);
        }
        Ok(Self { text, fields })
    }

    /// The JSON text of a field's value; `None` if there is no such field.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|&(_, value)| value)
    }

    /// Like [`Fields::raw`], with `null` taken as absent.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<&'a str> {
        self.raw(name).filter(|&value| value != "null")
    }

    /// Where in the text a field's value stands.
    #[must_use]
    pub fn span(&self, name: &str) -> Option<Range<usize>> {
        let value = self.raw(name)?;
        // Both pointers are into `text`, so the difference is an offset.
        let start = value
            .as_ptr()
            .addr()
            .checked_sub(self.text.as_ptr().addr())?;
        Some(start..start.checked_add(value.len())?)
    }

    /// The object with `name` set to the JSON text `value`; every other byte stays as it is.
    /// A new field goes first.
    #[must_use]
    pub fn splice(&self, name: &str, value: &str) -> Vec<u8> {
        if let Some(span) = self.span(name) {
            return splice_at(self.text, span, value);
        }
        let after_brace = self
            .text
            .find('{')
            .map_or(self.text.len(), |brace| brace.saturating_add(1));
        let comma = if self.fields.is_empty() { "" } else { "," };
        let field = format!("{}:{value}{comma}", quoted(name));
        splice_at(self.text, after_brace..after_brace, &field)
    }
}

/// `text` with the bytes of `span` replaced.
fn splice_at(text: &str, span: Range<usize>, with: &str) -> Vec<u8> {
    let head = text.get(..span.start).unwrap_or_default();
    let tail = text.get(span.end..).unwrap_or_default();
    [head, with, tail].concat().into_bytes()
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Collects names and raw values, stopping soon after the limit.
struct Collect;

impl<'de> serde::de::DeserializeSeed<'de> for Collect {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Collect {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            // One more than allowed is kept, so that the caller sees the excess.
            if fields.len() <= MAX_FIELDS {
                fields.push((name.0, value.get()));
            }
        }
        Ok(fields)
    }
}

/// Whether the JSON text `body` contains the string `word`, spelled plainly, as a whole key or
/// value at any depth. Text that quotes the word (`\"word\"`) does not count.
///
/// A word of ASCII letters, digits and `_` can be missed only where [`disguises_ascii`] holds.
#[must_use]
pub fn contains_word(body: &[u8], word: &str) -> bool {
    let needle = format!("\"{word}\"");
    memchr::memmem::find(body, needle.as_bytes()).is_some()
}

/// Whether the JSON text `body` contains the field `name` with the string `value` at any depth,
/// both spelled plainly (see [`disguises_ascii`]).
#[must_use]
pub fn contains_field(body: &[u8], name: &str, value: &str) -> bool {
    let name = format!("\"{name}\"");
    let value = format!("\"{value}\"");
    memchr::memmem::find_iter(body, value.as_bytes()).any(|at| {
        body.get(..at)
            .map(<[u8]>::trim_ascii_end)
            .and_then(|before| before.strip_suffix(b":"))
            .is_some_and(|before| before.trim_ascii_end().ends_with(name.as_bytes()))
    })
}

/// Whether `body` spells an ASCII letter, digit or `_` as a `\u00XX` escape. No JSON library does.
#[must_use]
pub fn disguises_ascii(body: &[u8]) -> bool {
    memchr::memmem::find_iter(body, br"\u00").any(|at| {
        let digits = at.saturating_add(4)..at.saturating_add(6);
        body.get(digits)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(text: &str, name: &str, value: &str) -> String {
        let fields = Fields::scan(text.as_bytes()).expect("an object");
        String::from_utf8(fields.splice(name, value)).expect("UTF-8")
    }

    #[test]
    fn only_an_unambiguous_object_is_read() {
        for (body, fault) in [
            (&b""[..], JsonFault::NotAnObject),
            (b"[]", JsonFault::NotAnObject),
            (b"1", JsonFault::NotAnObject),
            (b"{\"a\":1", JsonFault::NotAnObject),
            (b"{\"a\":1}x", JsonFault::NotAnObject),
            (b"{\"a\":nul}", JsonFault::NotAnObject),
            (b"{'a':1}", JsonFault::NotAnObject),
            (b"{\"a\":1,}", JsonFault::NotAnObject),
            (b"{\"a\":\"\xff\"}", JsonFault::NotAnObject),
            (b"\xef\xbb\xbf{}", JsonFault::NotAnObject),
            (b"{\"a\":1,\"a\":1}", JsonFault::DuplicateField),
            (br#"{"a":1,"\u0061":2}"#, JsonFault::DuplicateField),
        ] {
            assert_eq!(Fields::scan(body).map(|_| ()), Err(fault), "{body:?}");
        }
    }

    #[test]
    fn an_object_of_nothing_but_fields_is_refused() {
        let many = (0..=MAX_FIELDS).map(|i| format!("\"f{i}\":0"));
        let body = format!("{{{}}}", many.collect::<Vec<_>>().join(","));
        assert_eq!(
            Fields::scan(body.as_bytes()).map(|_| ()),
            Err(JsonFault::TooManyFields)
        );
    }

    #[test]
    fn fields_are_found_in_place_by_their_decoded_name() {
        let text = r#" { "mo\u0064el" : "x" , "n":[1, {"n":2}],"z":null } "#;
        let fields = Fields::scan(text.as_bytes()).expect("an object");
        assert_eq!(fields.raw("model"), Some("\"x\""));
        assert_eq!(fields.raw("n"), Some("[1, {\"n\":2}]"));
        assert_eq!(fields.raw("z"), Some("null"));
        assert_eq!(fields.given("z"), None);
        let span = fields.span("n").expect("a span");
        assert_eq!(text.get(span), Some("[1, {\"n\":2}]"));
    }

    #[test]
    fn splicing_changes_one_field_and_no_other_byte() {
        let text = " {\n \"a\" : 1.50e0, \"b\":\t\"\\u00e9\" }\n";
        assert_eq!(
            spliced(text, "a", "2"),
            " {\n \"a\" : 2, \"b\":\t\"\\u00e9\" }\n"
        );
        assert_eq!(
            spliced(text, "c", "{}"),
            " {\"c\":{},\n \"a\" : 1.50e0, \"b\":\t\"\\u00e9\" }\n"
        );
        assert_eq!(spliced("{ }", "c", "true"), "{\"c\":true }");
    }

    #[test]
    fn words_are_found_where_they_stand_and_not_where_they_are_quoted() {
        assert!(contains_word(br#"{"a":{"image_url":1}}"#, "image_url"));
        assert!(!contains_word(br#"{"a":"\"image_url\""}"#, "image_url"));
        assert!(!contains_word(br#"{"a":"image_url"}"#, "image"));
        assert!(contains_field(
            b"{\"type\"\t:\r\n\"image\"}",
            "type",
            "image"
        ));
        assert!(!contains_field(
            br#"{"image":{"type":"string"}}"#,
            "type",
            "image"
        ));
        assert!(!contains_field(
            br#"{"a":"\"type\":\"image\""}"#,
            "type",
            "image"
        ));
        assert!(disguises_ascii(br#"{"a":{"\u0069mage_url":1}}"#));
        assert!(disguises_ascii(br#"{"a":"\u005F"}"#));
        assert!(!disguises_ascii(
            br#"{"a":"\u003cb\u003e \u0026 \u00e9 \u007f"}"#
        ));
    }
}
