//! Reads intents and outcomes back, in the form in which `json.rs` writes them.
//!
//! Every call's lines pass here, in a fixed order of members and without escapes. A head that
//! differs in anything is left to `serde`. Worst case: a head is read twice.

use std::borrow::Cow;

use tollgate_core::ids::RecordId;
use uuid::Uuid;
use uuid::fmt::Simple;

use super::{Cost, Place, Taken};

const INTENT: &[u8] = br#"{"intent":[{"id":""#;

/// The id of an intent; whether the rest can be read is not looked at.
pub(crate) fn id_of_intent(body: &[u8]) -> Option<RecordId> {
    Rest::behind(INTENT, body)?.id()
}

/// An intent, with its part.
pub(super) fn intent(body: &[u8]) -> Option<(Place<'_>, Taken<'_>, &[u8])> {
    let mut rest = Rest::behind(INTENT, body)?;
    let id = rest.id()?;
    rest.skip(br#","at":"#)?;
    let at = rest.number()?;
    rest.skip(br#","tenant":""#)?;
    let partition = rest.text()?;
    rest.skip(br#","agent":""#)?;
    let agent = rest.text()?;
    let elevated = rest.skip(br#","elevated":true"#).is_some();
    rest.skip(br#"},{"keys":""#)?;
    let keys = rest.text()?;
    rest.skip(br#","pico":"#)?;
    let pico = rest.number()?;
    rest.skip(b"}]}\t")?;
    let place = Place {
        id,
        at,
        partition: Some(partition),
        agent: Some(agent),
        elevated,
    };
    let taken = Taken {
        keys: Cow::Borrowed(keys),
        pico: pico.into(),
    };
    Some((place, taken, rest.0))
}

/// An outcome, with its part.
pub(super) fn outcome(body: &[u8]) -> Option<(RecordId, Cost, &[u8])> {
    let mut rest = Rest::behind(br#"{"outcome":[""#, body)?;
    let id = rest.id()?;
    rest.skip(br#",{"pico":"#)?;
    let pico = rest.number()?;
    rest.skip(br#","at":"#)?;
    let at = rest.number()?;
    rest.skip(b"}]}\t")?;
    let pico = pico.into();
    Some((id, Cost { pico, at }, rest.0))
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn behind(beginning: &[u8], body: &'a [u8]) -> Option<Self> {
        body.strip_prefix(beginning).map(Self)
    }

    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// The rest of a string, with its quote.
    fn text(&mut self) -> Option<&'a str> {
        // A head ends at its tab, and what is escaped is not borrowed.
        let end = memchr::memchr3(b'"', b'\\', b'\t', self.0)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        self.skip(b"\"")?;
        str::from_utf8(text).ok()
    }

    /// The same of an id's 32 digits.
    fn id(&mut self) -> Option<RecordId> {
        let (digits, rest) = self.0.split_at_checked(Simple::LENGTH)?;
        self.0 = rest;
        self.skip(b"\"")?;
        Uuid::try_parse_ascii(digits).ok().map(RecordId::new)
    }

    fn number(&mut self) -> Option<i64> {
        let negative = self.skip(b"-").is_some();
        let mut number = 0_i64;
        let mut digits = 0;
        while let Some((digit @ b'0'..=b'9', rest)) = self.0.split_first() {
            number = number.checked_mul(10)?.checked_add((digit - b'0').into())?;
            digits += 1;
            self.0 = rest;
        }
        (digits > 0).then_some(if negative { -number } else { number })
    }
}
