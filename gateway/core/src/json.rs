//! Reads the top level of a JSON object in place, and changes one field of it by splicing.
//!
//! A body is never parsed into a tree and printed again: the provider receives the client's own
//! bytes except for the field that is spliced. Everything below the top level is checked to be
//! JSON and otherwise left alone. This module does not know what any field means.
//!
//! Worst case: one pass over the body, two over one of an unusual shape, and 40 bytes per field, of
//! which there may be [`MAX_FIELDS`].

mod glance;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use memchr::memmem::Finder;
use serde::de::{DeserializeSeed as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub(crate) use glance::{Glance, Watch, once};

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

/// A name, decoded, and the text of its value.
type Field<'a> = (Cow<'a, str>, &'a [u8]);

/// The fields of one JSON object, as they stand in its text.
#[derive(Debug)]
pub struct Fields<'a> {
    /// UTF-8, as every value in it is.
    text: &'a [u8],
    fields: Vec<Field<'a>>,
    /// The [`mark`]s of all names.
    marks: u64,
    may_hold_watched: bool,
}

impl<'a> Fields<'a> {
    /// Finds the fields of the object that `body` is.
    ///
    /// # Errors
    /// [`JsonFault`]: the body is no JSON object, or could be read in two ways.
    pub fn scan(body: &'a [u8]) -> Result<Self, JsonFault> {
        Self::of(body, Glance::at_bytes(body))
    }

    /// [`Fields::scan`] for text, such as the value of another object's field.
    ///
    /// # Errors
    /// As for [`Fields::scan`].
    pub fn scan_text(text: &'a str) -> Result<Self, JsonFault> {
        Self::of(text.as_bytes(), Glance::at(text))
    }

    /// [`Fields::scan`] that also looks through all strings; see [`Fields::may_hold_watched`].
    pub(crate) fn scan_watching<W: Watch>(body: &'a [u8]) -> Result<Self, JsonFault> {
        Self::of(body, Glance::<W>::watching(body))
    }

    fn of(text: &'a [u8], mut glance: Glance<'a, impl Watch>) -> Result<Self, JsonFault> {
        let (fields, may_hold_watched) = match glanced(&mut glance, text) {
            Some(fields) => (fields, glance.has_noticed()),
            None => (collected(text)?, true),
        };
        if fields.len() > MAX_FIELDS {
            return Err(JsonFault::TooManyFields);
        }
        if repeats_a_name(&fields) {
            return Err(JsonFault::DuplicateField);
        }
        let marks = fields.iter().fold(0, |marks, (name, _)| marks | mark(name));
        Ok(Self {
            text,
            fields,
            marks,
            may_hold_watched,
        })
    }

    /// Whether anything was noticed that was watched for, or the text has a shape in which nobody
    /// looked.
    pub(crate) const fn may_hold_watched(&self) -> bool {
        self.may_hold_watched
    }

    /// The JSON text of a field's value; `None` if there is no such field.
    #[must_use]
    #[inline]
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        // It is UTF-8. Values that are asked for are mostly short.
        str::from_utf8(self.value(name)?).ok()
    }

    #[inline]
    fn value(&self, name: &str) -> Option<&'a [u8]> {
        // Most fields that are asked for are not there.
        if self.marks & mark(name) == 0 {
            return None;
        }
        self.find(name)
    }

    fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|&(_, value)| value)
    }

    /// Like [`Fields::raw`], with `null` taken as absent.
    #[must_use]
    #[inline]
    pub fn given(&self, name: &str) -> Option<&'a str> {
        self.raw(name).filter(|&value| value != "null")
    }

    /// Whether it is there, and is not `null`.
    #[must_use]
    #[inline]
    pub fn is_given(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != b"null")
    }

    /// Where in the text a field's value stands.
    #[must_use]
    pub fn span(&self, name: &str) -> Option<Range<usize>> {
        let value = self.value(name)?;
        let start = offset(value, self.text)?;
        Some(start..start.checked_add(value.len())?)
    }

    /// Where a field that is not there yet goes, and what is written there.
    fn new_field(&self, name: &str, value: &str) -> (Range<usize>, String) {
        let after_brace = memchr::memchr(b'{', self.text)
            .map_or(self.text.len(), |brace| brace.saturating_add(1));
        let comma = if self.fields.is_empty() { "" } else { "," };
        (
            after_brace..after_brace,
            format!("{}:{value}{comma}", quoted(name)),
        )
    }

    /// The object with `name` set to the JSON text `value`; every other byte stays as it is.
    /// A new field goes first.
    #[must_use]
    pub fn splice(&self, name: &str, value: &str) -> Vec<u8> {
        let mut edits = Edits::of(self);
        edits.set(self, name, value);
        edits.apply()
    }

    /// The names of the fields, decoded, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_ref())
    }
}

/// Changes to fields of one JSON text and of the objects in it, made all at once.
#[derive(Debug)]
pub struct Edits<'a> {
    text: &'a [u8],
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    /// No changes yet to the text of `whole`.
    #[must_use]
    pub fn of(whole: &Fields<'a>) -> Self {
        Self {
            text: whole.text,
            edits: Vec::new(),
        }
    }

    /// Sets `name` to the JSON text `value` in `object`, which is the whole text or the value of a
    /// field somewhere in it. A new field goes first. No field may be set twice.
    pub fn set(&mut self, object: &Fields<'_>, name: &str, value: &str) {
        let Some(base) = offset(object.text, self.text) else {
            return;
        };
        let (within, with) = match object.span(name) {
            Some(span) => (span, value.to_owned()),
            None => object.new_field(name, value),
        };
        let start = within.start.saturating_add(base);
        let end = within.end.saturating_add(base);
        self.edits.push((start..end, with));
    }

    /// The changed text. Every byte that no change names stays as it is.
    #[must_use]
    pub fn apply(mut self) -> Vec<u8> {
        self.edits.sort_by_key(|(span, _)| span.start);
        let mut out = Vec::with_capacity(self.text.len().saturating_add(64));
        let mut copied = 0;
        for (span, with) in &self.edits {
            let kept = self.text.get(copied..span.start).unwrap_or_default();
            out.extend_from_slice(kept);
            out.extend_from_slice(with.as_bytes());
            copied = span.end;
        }
        let rest = self.text.get(copied..).unwrap_or_default();
        out.extend_from_slice(rest);
        out
    }
}

/// Where in `whole` its slice `part` begins; `None` if it is no slice of it.
pub(crate) fn offset(part: &[u8], whole: &[u8]) -> Option<usize> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (start.checked_add(part.len())? <= whole.len()).then_some(start)
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A bit that a name always has, and most others have not.
#[inline]
fn mark(name: &str) -> u64 {
    let mixed = match name.as_bytes() {
        [first, .., last] => *first ^ (*last << 2),
        [only] => *only,
        [] => 0,
    };
    1_u64.wrapping_shl(mixed.into())
}

/// Objects of so few fields are compared name by name, without sorting.
const FEW_FIELDS: usize = 16;

fn repeats_a_name(fields: &[Field<'_>]) -> bool {
    if fields.len() <= FEW_FIELDS {
        let mut rest = fields.iter();
        return std::iter::from_fn(|| rest.next().map(|(name, _)| (name, rest.as_slice())))
            .any(|(name, others)| others.iter().any(|(other, _)| other == name));
    }
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a == b))
}

/// The fields of an object of the usual shape, which has a usual number of them.
fn glanced<'a>(glance: &mut Glance<'a, impl Watch>, text: &'a [u8]) -> Option<Vec<Field<'a>>> {
    let mut fields = Vec::with_capacity(FEW_FIELDS);
    glance.object(|glance, name| {
        let name = str::from_utf8(name).ok()?;
        fields.push((Cow::Borrowed(name), text.get(glance.span()?)?));
        (fields.len() <= MAX_FIELDS).then_some(())
    })?;
    glance.end()?;
    Some(fields)
}

/// The fields of any object.
fn collected(text: &[u8]) -> Result<Vec<Field<'_>>, JsonFault> {
    let text = str::from_utf8(text).map_err(|_not_utf8| JsonFault::NotAnObject)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let fields = Collect
        .deserialize(&mut reader)
        .and_then(|fields| reader.end().map(|()| fields));
    fields.map_err(|_bad: serde_json::Error| JsonFault::NotAnObject)
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Collects names and raw values, stopping soon after the limit.
struct Collect;

impl<'de> serde::de::DeserializeSeed<'de> for Collect {
    type Value = Vec<Field<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Collect {
    type Value = Vec<Field<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            // One more than allowed is kept, so that the caller sees the excess.
            if fields.len() <= MAX_FIELDS {
                fields.push((name.0, value.get().as_bytes()));
            }
        }
        Ok(fields)
    }
}

/// A string that is looked for in JSON text as bytes, as a whole key or value at any depth.
///
/// Text that quotes the word (`\"word\"`) does not count. A word of ASCII letters, digits and `_`
/// can be missed only where [`disguises_ascii`] holds. The search is prepared once.
#[derive(Debug)]
pub struct Word {
    quoted: &'static str,
    finder: OnceLock<Finder<'static>>,
}

impl Word {
    /// The word that `quoted` is, given with its quotation marks. Most are made by `words!`.
    #[must_use]
    pub const fn new(quoted: &'static str) -> Self {
        Self {
            quoted,
            finder: OnceLock::new(),
        }
    }

    fn finder(&self) -> &Finder<'static> {
        self.finder.get_or_init(|| Finder::new(self.quoted))
    }

    /// Whether `body` contains it.
    #[must_use]
    pub fn occurs(&self, body: &[u8]) -> bool {
        self.finder().find(body).is_some()
    }

    /// Where in `body` it stands.
    pub fn positions(&self, body: &[u8]) -> impl Iterator<Item = usize> {
        self.finder().find_iter(body)
    }

    /// Whether `body` contains it as the value of a field named `type`.
    #[must_use]
    pub fn is_a_type(&self, body: &[u8]) -> bool {
        self.types(body).next().is_some()
    }

    /// Where in `body` it stands as the value of a field named `type`.
    fn types(&self, body: &[u8]) -> impl Iterator<Item = usize> {
        self.positions(body).filter(|&at| {
            body.get(..at)
                .map(<[u8]>::trim_ascii_end)
                .and_then(|before| before.strip_suffix(b":"))
                .is_some_and(|before| before.trim_ascii_end().ends_with(b"\"type\""))
        })
    }

    /// How many parts of a message in `body` it names: by their type, by a field, or by both.
    #[must_use]
    pub fn parts(&self, body: &[u8]) -> usize {
        let types = self.types(body).count();
        let others = self.positions(body).count().saturating_sub(types);
        types.max(others)
    }
}

/// A list of [`Word`]s: `words!["image_url", "file"]`.
macro_rules! words {
    [$($word:literal),+ $(,)?] => {
        [$($crate::json::Word::new(concat!("\"", $word, "\""))),+]
    };
}
pub(crate) use words;

/// Whether `body` spells an ASCII letter, digit or `_` as a `\u00XX` escape. No JSON library does.
#[must_use]
pub fn disguises_ascii(body: &[u8]) -> bool {
    static ESCAPE: OnceLock<Finder<'static>> = OnceLock::new();
    let escape = ESCAPE.get_or_init(|| Finder::new(br"\u00"));
    escape.find_iter(body).any(|at| {
        let digits = at.saturating_add(4)..at.saturating_add(6);
        body.get(digits)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// What stands between the quotes where JSON holds this text; mostly the text itself.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if glance::is_plain(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    // Text is always written.
    let mut quoted = serde_json::to_string(text).unwrap_or_default();
    quoted.pop();
    quoted.drain(..1.min(quoted.len()));
    Cow::Owned(quoted)
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
        static WORDS: [Word; 2] = words!["image_url", "image"];
        let [image_url, image] = &WORDS;
        assert!(image_url.occurs(br#"{"a":{"image_url":1}}"#));
        assert!(!image_url.occurs(br#"{"a":"\"image_url\""}"#));
        assert!(!image.occurs(br#"{"a":"image_url"}"#));
        assert!(image.is_a_type(b"{\"type\"\t:\r\n\"image\"}"));
        assert!(!image.is_a_type(br#"{"image":{"type":"string"}}"#));
        assert!(!image.is_a_type(br#"{"a":"\"type\":\"image\""}"#));
        assert!(disguises_ascii(br#"{"a":{"\u0069mage_url":1}}"#));
        assert!(disguises_ascii(br#"{"a":"\u005F"}"#));
        assert!(!disguises_ascii(
            br#"{"a":"\u003cb\u003e \u0026 \u00e9 \u007f"}"#
        ));
    }
}
