//! Lenient readers for numbers and text in answers.
//!
//! A provider's odd value must not cost us the rest of its usage: what is not understood is taken
//! as absent, and no reader here ever fails on well-formed JSON.

mod glance;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The largest integer that JSON writers and readers agree on: 2^53 - 1 (RFC 8259, section 6).
/// What is larger is no count, nor is any sum of counts then too large for a `u64`.
const MAX_COUNT: u64 = 9_007_199_254_740_991;

/// Visits that make nothing of values of these kinds.
macro_rules! nothing_from {
    ($($kind:ident)*) => { $(nothing_from!(@$kind);)* };
    (@bool) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@numbers) => {
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@text) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@null) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@list) => {
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_seq(seq).map(|_| Self::Value::default())
        }
    };
    (@object) => {
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_map(map).map(|_| Self::Value::default())
        }
    };
}

/// A count; absent if it is missing, null, negative, fractional, too large or no number.
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
        Ok(Count((value <= MAX_COUNT).then_some(value)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Count, E> {
        // Through text, since a cast would turn nonsense into a number.
        let whole = format!("{value}").parse().ok();
        Ok(Count(whole.filter(|&count| count <= MAX_COUNT)))
    }

    nothing_from!(bool text null list object);
}

/// Text, borrowed where it can be; absent if the value is anything else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text<'a>(pub(super) Option<Cow<'a, str>>);

impl Text<'_> {
    /// The text, if there is one.
    pub(super) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Puts the text into `place`, if there is one that is not empty.
    pub(super) fn put_into(&self, place: &mut Option<String>) {
        if let Some(text) = self.as_deref()
            && !text.is_empty()
            && place.as_deref() != Some(text)
        {
            *place = Some(text.to_owned());
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Borrowed(value))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Owned(value.to_owned()))))
    }

    nothing_from!(bool numbers null list object);
}

/// Text, or absent if the value is anything else.
pub(super) fn text_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Text::deserialize(deserializer)?.0.map(Cow::into_owned))
}

/// Reads a part of an answer; nothing if it is missing, null or of another shape.
pub(super) fn part<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Whether a statement of usage is an object in which every count is one, or null. What is taken
/// as absent could else make a statement look whole that is not.
pub(super) fn is_sound(statement: &RawValue) -> bool {
    is_sound_text(statement.get())
}

/// The same for its text.
pub(super) fn is_sound_text(statement: &str) -> bool {
    let Sound(sound) = serde_json::from_str(statement).unwrap_or(Sound(false));
    sound && statement.starts_with('{')
}

struct Sound(bool);

impl Default for Sound {
    fn default() -> Self {
        Self(true)
    }
}

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SoundVisitor)
    }
}

struct SoundVisitor;

impl<'de> Visitor<'de> for SoundVisitor {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Sound, A::Error> {
        let mut sound = true;
        while let Some(Sound(part)) = seq.next_element()? {
            sound &= part;
        }
        Ok(Sound(sound))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sound, A::Error> {
        let mut sound = true;
        while let Some(Text(key)) = map.next_key()? {
            sound &= if key.is_some_and(|key| names_a_count(&key)) {
                !matches!(map.next_value()?, Some(Count(None)))
            } else {
                map.next_value::<Sound>()?.0
            };
        }
        Ok(Sound(sound))
    }

    nothing_from!(bool numbers text null);
}

fn names_a_count(key: &str) -> bool {
    const ENDINGS: [&str; 8] = [
        "_tokens",
        "_requests",
        "_calls",
        "_units",
        "_count",
        "Tokens",
        "TokenCount",
        "tokenCount",
    ];
    key != "billed_units" && ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// A part that is understood, or nothing: for fields whose oddness must not cost their siblings.
pub(super) fn if_understood<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    Ok(part(Some(<&RawValue>::deserialize(deserializer)?)))
}

/// How many bytes of generated text a value holds: the lengths of its strings at any depth,
/// leaving out those that name things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TextBytes(pub(super) u64);

impl<'de> Deserialize<'de> for TextBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextBytesVisitor)
    }
}

struct TextBytesVisitor;

impl<'de> Visitor<'de> for TextBytesVisitor {
    type Value = TextBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, value: &str) -> Result<TextBytes, E> {
        Ok(TextBytes(u64::try_from(value.len()).unwrap_or(u64::MAX)))
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
        while let Some(key) = map.next_key::<Key>()? {
            if key == Key::Content {
                sum = sum.saturating_add(map.next_value::<TextBytes>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(TextBytes(sum))
    }

    nothing_from!(bool numbers null);
}

/// What a key of an object announces, without keeping the key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Why a choice is finished.
    FinishReason,
    /// Strings that are not generated text.
    Label,
    Content,
}

impl Key {
    fn of(key: &[u8]) -> Self {
        match key {
            b"finish_reason" => Self::FinishReason,
            b"role"
            | b"type"
            | b"id"
            | b"item_id"
            | b"call_id"
            | b"status"
            | b"signature"
            | b"encrypted_content"
            | b"annotations"
            | b"logprobs"
            | b"stop_reason"
            | b"native_finish_reason"
            | b"content_filter_results" => Self::Label,
            _ => Self::Content,
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key::of(key.as_bytes()))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The choices of a chunk, of which nothing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Choices {
    /// Whether there is a list, and it is empty.
    pub(super) empty: bool,
    /// Whether one of them is said to be finished.
    pub(super) finished: bool,
    /// How many bytes of generated text they hold.
    pub(super) text: TextBytes,
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChoicesVisitor)
    }
}

struct ChoicesVisitor;

impl<'de> Visitor<'de> for ChoicesVisitor {
    type Value = Choices;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices, A::Error> {
        let mut all = Choices {
            empty: true,
            ..Choices::default()
        };
        while let Some(Choice { finished, text }) = seq.next_element()? {
            all.empty = false;
            all.finished |= finished;
            all.text.0 = all.text.0.saturating_add(text.0);
        }
        Ok(all)
    }

    nothing_from!(bool numbers text null object);
}

#[derive(Default)]
struct Choice {
    finished: bool,
    text: TextBytes,
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = Choice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Choice, A::Error> {
        let mut choice = Choice::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::FinishReason => {
                    choice.finished |= map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                Key::Label => {
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Content => {
                    let TextBytes(bytes) = map.next_value()?;
                    choice.text.0 = choice.text.0.saturating_add(bytes);
                }
            }
        }
        Ok(choice)
    }

    nothing_from!(bool numbers text null list);
}

/// The most significant digits of a number that are read; `u128` holds any number of so many.
const MAX_DIGITS: usize = 38;

/// A decimal number, such as `4.1400000000000003e-05`, scaled by ten to the `places` and rounded to
/// the nearest integer, without a float on the way. Absent if it is negative, too large or no
/// number.
pub(super) fn scaled(number: &str, places: i32) -> Option<u64> {
    let (digits, exponent) = match number.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse().ok()?),
        None => (number, 0_i32),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut value = 0_u128;
    let mut power = exponent.checked_add(places)?;
    let (mut any, mut significant) = (false, 0_usize);
    for (digit, after_point) in whole
        .bytes()
        .map(|digit| (digit, false))
        .chain(fraction.bytes().map(|digit| (digit, true)))
    {
        if !digit.is_ascii_digit() {
            return None;
        }
        any = true;
        if significant >= MAX_DIGITS {
            power = if after_point {
                power
            } else {
                power.checked_add(1)?
            };
            continue;
        }
        let digit = u128::from(digit.wrapping_sub(b'0'));
        value = value.checked_mul(10)?.checked_add(digit)?;
        significant = significant.saturating_add(usize::from(value > 0));
        power = power.checked_sub(i32::from(after_point))?;
    }
    if !any {
        return None;
    }
    let factor = 10_u128.checked_pow(power.unsigned_abs());
    let rounded = match factor {
        _ if value == 0 => 0,
        Some(factor) if power >= 0 => value.checked_mul(factor)?,
        Some(factor) => {
            let half = factor.checked_div(2)?;
            value.checked_add(half)?.checked_div(factor)?
        }
        None if power >= 0 => return None,
        None => 0,
    };
    u64::try_from(rounded).ok()
}

#[cfg(test)]
mod tests;
