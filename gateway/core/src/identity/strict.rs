//! Reads the parts of a token in one way only, whoever signed it.
//!
//! Base64url is canonical, a part is a JSON object, and no name stands twice at any depth: what
//! two readers could take for two different things is refused. Knows no key and no claim. Worst
//! case: one pass over a part whose length the caller has bounded.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::CertificateDigest;

/// The latest time that is believed: the end of the year 9999, in seconds since the epoch.
const LAST_SECOND: i64 = 253_402_300_799;

/// A part that is not of the one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotStrict;

pub(super) fn decode(part: &str) -> Result<Vec<u8>, NotStrict> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_not_canonical| NotStrict)
}

/// Reads a part that must be a JSON object: serde would take an array for a struct, too.
pub(super) fn read_object<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, NotStrict> {
    let bytes = decode(part)?;
    if bytes.first() != Some(&b'{') {
        return Err(NotStrict);
    }
    serde_json::from_slice(&bytes).map_err(|_not_this_form| NotStrict)
}

/// Names and their values; each name at most once, at every depth.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Members(Map<String, Value>);

/// A member that is absent where it must not be, or not of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongMember;

impl Members {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, WrongMember> {
        self.get(name).and_then(Value::as_str).ok_or(WrongMember)
    }

    pub(super) fn name<T: FromStr>(&self, name: &str) -> Result<T, WrongMember> {
        self.text(name)?.parse().map_err(|_not_a_name| WrongMember)
    }

    /// A time in whole seconds. Fractions, exponents, texts and `null` are refused even where
    /// the member is optional.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<i64>, WrongMember> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_i64()
            .filter(|seconds| (0..=LAST_SECOND).contains(seconds))
            .map(Some)
            .ok_or(WrongMember)
    }

    /// The certificate that the token must come with (`cnf`, RFC 8705 section 3.1). Any other
    /// confirmation (a key, a proof of possession) asks for what is not checked here, so that a
    /// token that has one is refused.
    pub(super) fn confirmation(&self) -> Result<Option<CertificateDigest>, WrongMember> {
        let Some(confirmation) = self.get("cnf") else {
            return Ok(None);
        };
        let members = confirmation.as_object().ok_or(WrongMember)?;
        match (
            members.get("x5t#S256").and_then(Value::as_str),
            members.len(),
        ) {
            (Some(digest), 1) => digest.parse().map(Some).map_err(|_invalid| WrongMember),
            _ => Err(WrongMember),
        }
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match Strict::deserialize(input)?.0 {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(D::Error::custom("not an object")),
        }
    }
}

/// Any JSON value in which no name stands twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Unique).map(Self)
    }
}

struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    /// Nothing here reads a fraction, so that it may stand in a token and means nothing.
    #[expect(clippy::disallowed_types, reason = "the name the trait gives it")]
    fn visit_f64<E>(self, _fraction: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = input.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = input.next_entry::<String, Strict>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(members))
    }
}
