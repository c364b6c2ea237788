//! Lenient readers for numbers and text in answers.
//!
//! A provider's odd value must not cost us the rest of its usage: what is not understood is taken
//! as absent, and no reader here ever fails on well-formed JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A count; absent if it is missing, null, negative, fractional or no number.
/// Whole numbers written as floats (`10.0`) count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count(pub(super) Option<u64>);

impl Count {
    /// This count, or the earlier one if this says nothing.
    pub(super) fn or(self, earlier: Self) -> Self {
        Self(self.0.or(earlier.0))
    }

    /// The count, zero if it is absent.
    pub(super) fn known(self) -> u64 {
        self.0.unwrap_or(0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Count, E> {
        Ok(Count(Some(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Count, E> {
        // Through text, since a cast would turn nonsense into a number.
        Ok(Count(format!("{value}").parse().ok()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Count, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Count, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Count(None))
    }
}

/// How many bytes of generated text a value holds: the lengths of its strings at any depth,
/// leaving out those that name things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TextBytes(pub(super) u64);

/// Keys whose strings are not generated text.
const LABELS: [&str; 11] = [
    "role",
    "type",
    "id",
    "item_id",
    "call_id",
    "status",
    "finish_reason",
    "signature",
    "encrypted_content",
    "annotations",
    "logprobs",
];

impl<'de> Deserialize<'de> for TextBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = TextBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, value: &str) -> Result<TextBytes, E> {
        Ok(TextBytes(u64::try_from(value.len()).unwrap_or(u64::MAX)))
    }

    fn visit_u64<E>(self, _: u64) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_bool<E>(self, _: bool) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_unit<E>(self) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TextBytes, A::Error> {
        let mut sum = 0_u64;
        while let Some(TextBytes(bytes)) = seq.next_element()? {
            sum = sum.saturating_add(bytes);
        }
        Ok(TextBytes(sum))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextBytes, A::Error> {
        let mut sum = 0_u64;
        while let Some(key) = map.next_key::<Label>()? {
            if key.0 {
                map.next_value::<IgnoredAny>()?;
            } else {
                sum = sum.saturating_add(map.next_value::<TextBytes>()?.0);
            }
        }
        Ok(TextBytes(sum))
    }
}

/// Whether a key is one of [`LABELS`], without keeping it.
struct Label(bool);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Label;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Label, E> {
                Ok(Label(LABELS.contains(&key)))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Text, or absent if the value is anything else.
pub(super) fn text_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_are_absent_and_never_an_error() {
        for (text, expected) in [
            ("7", Some(7)),
            ("10.0", Some(10)),
            ("1.5", None),
            ("-1", None),
            ("null", None),
            ("\"7\"", None),
            ("true", None),
            ("[1]", None),
            ("{\"a\":1}", None),
            ("1e400", None),
        ] {
            let count = serde_json::from_str::<Count>(text).unwrap_or_default();
            assert_eq!(count.0, expected, "{text}");
        }
    }

    #[test]
    fn text_is_measured_at_any_depth() {
        let delta = r#"{"role":"assistant","content":"h\u00e9","tool_calls":[{"id":"call_1",
            "function":{"name":"f","arguments":"{}"}}],"n":1,"x":null}"#;
        let bytes: TextBytes = serde_json::from_str(delta).expect("JSON");
        assert_eq!(bytes, TextBytes(3 + 1 + 2));
    }
}
