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
    let mut rest = Rest(head);
    rest.skip(br#"{"intent":[{"id":""#)?;
    let id = rest.parsed(b'"')?;
    rest.skip(br#","at":"#)?;
    let at = rest.parsed(b',')?;
    rest.skip(br#""tenant":""#)?;
    let partition = rest.text()?;
    rest.skip(br#","agent":""#)?;
    let agent = rest.text()?;
    let elevated = rest.skip(br#","elevated":true"#).is_some();
    rest.skip(br#"},{"keys":""#)?;
    let keys = rest.text()?;
    rest.skip(br#","pico":"#)?;
    let pico: i64 = rest.parsed(b'}')?;
    rest.end(b"]}")?;
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
    let mut rest = Rest(head);
    rest.skip(br#"{"outcome":[""#)?;
    let id = rest.parsed(b'"')?;
    rest.skip(br#",{"pico":"#)?;
    let pico: i64 = rest.parsed(b',')?;
    rest.skip(br#""at":"#)?;
    let at = rest.parsed(b'}')?;
    rest.end(b"]}")?;
    let pico = pico.into();
    Some((id, Cost { pico, at }))
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn end(&self, expected: &[u8]) -> Option<()> {
        (self.0 == expected).then_some(())
    }

    /// Up to `end`, which is skipped.
    fn until(&mut self, end: u8) -> Option<&'a str> {
        let place = memchr::memchr(end, self.0)?;
        let (text, rest) = self.0.split_at_checked(place)?;
        self.0 = rest.get(1..)?;
        str::from_utf8(text).ok()
    }

    fn parsed<T: FromStr>(&mut self, end: u8) -> Option<T> {
        self.until(end)?.parse().ok()
    }

    /// The rest of a string in which nothing is escaped.
    fn text(&mut self) -> Option<&'a str> {
        let text = self.until(b'"')?;
        memchr::memchr(b'\\', text.as_bytes())
            .is_none()
            .then_some(text)
    }
}
