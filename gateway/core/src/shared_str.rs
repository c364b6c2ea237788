//! Text of which there are many copies: one that is short is kept in place, and of a longer one
//! another copy is a count. Neither is an allocation, and most are not even a count, which takes
//! its time where several threads share it.
//!
//! Worst case: a short text takes the room of the longest that is kept in place.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest text that is kept in place, in bytes: most names of tenants, agents, providers and
/// models. A text takes 24 bytes with these; with ids of 32 digits it would take 40, of which
/// counters have many for each tenant.
const MAX_BYTES_IN_PLACE: usize = 16;

/// Immutable text.
#[derive(Clone)]
pub struct SharedStr(Kept);

#[derive(Clone)]
enum Kept {
    InPlace(ArrayString<MAX_BYTES_IN_PLACE>),
    Shared(Arc<str>),
}

impl Default for SharedStr {
    fn default() -> Self {
        Self(Kept::InPlace(ArrayString::new()))
    }
}

impl Deref for SharedStr {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        match &self.0 {
            Kept::InPlace(text) => text,
            Kept::Shared(text) => text,
        }
    }
}

impl From<&str> for SharedStr {
    fn from(text: &str) -> Self {
        Self(match ArrayString::from(text) {
            Ok(text) => Kept::InPlace(text),
            Err(_too_long) => Kept::Shared(Arc::from(text)),
        })
    }
}

impl From<String> for SharedStr {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl PartialEq for SharedStr {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedStr {}

impl PartialEq<str> for SharedStr {
    fn eq(&self, text: &str) -> bool {
        **self == *text
    }
}

impl PartialOrd for SharedStr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SharedStr {
    fn cmp(&self, other: &Self) -> Ordering {
        str::cmp(self, other)
    }
}

/// As text itself is hashed, so that a map of such texts is searched with plain text.
impl Hash for SharedStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(self, state);
    }
}

impl fmt::Display for SharedStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for SharedStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for SharedStr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for SharedStr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn text_of_any_length_is_the_same_text() {
        let hash = foldhash::fast::FixedState::default();
        for length in [0, 1, 15, 16, 17, 300] {
            let plain = "a".repeat(length);
            let text = SharedStr::from(plain.as_str());
            let copy = text.clone();
            assert_eq!(&*copy, plain);
            assert_eq!(copy, SharedStr::from(plain.clone()));
            assert_eq!(hash.hash_one(&text), hash.hash_one(plain.as_str()));
            assert!(text < SharedStr::from(format!("{plain}a")));
            let later = SharedStr::from("b");
            assert!(text < later);
        }
    }
}
