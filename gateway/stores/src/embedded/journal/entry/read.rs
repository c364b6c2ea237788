//! Reads the heads of intents and outcomes back, in the form in which `json.rs` writes them.
//!
//! Every call's lines pass here, in a fixed order of members and without escapes. A head that
//! differs in anything is left to `serde`. Worst case: a head is read twice.

use std::borrow::Cow;
use std::str::FromStr;

use tollgate_core::ids::RecordId;

use super::{Cost, Place, Taken};

/// The head of an intent.
pub(super) fn intent(head: &[u8]) -> Option<(Place<'_>, Taken<'_>)> {
    let mut rest = Rest::behind(r#"{"intent":[{"id":""#, head)?;
    let id = rest.parsed(b'"')?;
    rest.skip(r#","at":"#)?;
    let at = rest.parsed(b',')?;
    rest.skip(r#""tenant":""#)?;
    let partition = rest.text()?;
    rest.skip(r#","agent":""#)?;
    let agent = rest.text()?;
    let elevated = rest.skip(r#","elevated":true"#).is_some();
    rest.skip(r#"},{"keys":""#)?;
    let keys = rest.text()?;
    rest.skip(r#","pico":"#)?;
    let pico: i64 = rest.parsed(b'}')?;
    rest.end("]}")?;
    let place = Place {
        id,
        at,
        partition: Some(partition),
        agent: Some(agent),
        elevated,
    };
    let keys = Cow::Borrowed(keys);
    let pico = pico.into();
    Some((place, Taken { keys, pico }))
}

/// The head of an outcome.
pub(super) fn outcome(head: &[u8]) -> Option<(RecordId, Cost)> {
    let mut rest = Rest::behind(r#"{"outcome":[""#, head)?;
    let id = rest.parsed(b'"')?;
    rest.skip(r#",{"pico":"#)?;
    let pico: i64 = rest.parsed(b',')?;
    rest.skip(r#""at":"#)?;
    let at = rest.parsed(b'}')?;
    rest.end("]}")?;
    let pico = pico.into();
    Some((id, Cost { pico, at }))
}

/// What has not been read yet; nothing in it is escaped.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn behind(beginning: &str, head: &'a [u8]) -> Option<Self> {
        let rest = head.strip_prefix(beginning.as_bytes())?;
        let plain = memchr::memchr(b'\\', rest).is_none();
        plain.then(|| str::from_utf8(rest).ok()).flatten().map(Self)
    }

    fn skip(&mut self, expected: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn end(&self, expected: &str) -> Option<()> {
        (self.0 == expected).then_some(())
    }

    /// Up to `end`, which is skipped. It is ASCII.
    fn until(&mut self, end: u8) -> Option<&'a str> {
        let place = memchr::memchr(end, self.0.as_bytes())?;
        let (text, rest) = self.0.split_at_checked(place)?;
        self.0 = rest.get(1..)?;
        Some(text)
    }

    fn parsed<T: FromStr>(&mut self, end: u8) -> Option<T> {
        self.until(end)?.parse().ok()
    }

    /// The rest of a string.
    fn text(&mut self) -> Option<&'a str> {
        self.until(b'"')
    }
}
