//! Checked names. An existing value is a valid one, so no other module checks it again.
//!
//! Names reach file paths, metric labels and log lines; their alphabets are chosen so that none
//! can be escaped from: no `/`, no `:`, no control character, no leading dot.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use crate::shared_str::SharedStr;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}")]
pub struct InvalidName {
    what: &'static str,
    form: &'static str,
}

/// Reads a name from a text without a copy of the text.
struct Parse<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidName>> Visitor<'_> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SharedStr);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse(PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(SharedStr::from(text)))
                } else {
                    Err(InvalidName { what: $what, form: $form })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        /// Lets a map keyed by this name be searched with plain text, without an allocation.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }
    };
}

fn starts_alphanumeric(text: &str, lower_only: bool) -> bool {
    text.bytes().next().is_some_and(|first| {
        first.is_ascii_digit()
            || first.is_ascii_lowercase()
            || (!lower_only && first.is_ascii_uppercase())
    })
}

fn is_slug(text: &str) -> bool {
    text.len() <= 64
        && starts_alphanumeric(text, true)
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn is_short_slug(text: &str) -> bool {
    text.len() <= 32 && is_slug(text)
}

fn is_opaque_id(text: &str) -> bool {
    text.len() <= 128
        && starts_alphanumeric(text, false)
        && !text.contains("..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control)
}

name! {
    /// A customer of the platform: the unit of isolation.
    TenantId, "a tenant id", "1 to 64 of a-z 0-9 - _, starting with a letter or digit", is_slug
}
name! {
    /// An agent of a tenant (`sub` in the task token).
    AgentId, "an agent id", "1 to 128 of A-Z a-z 0-9 - _ . without \"..\", starting with a letter or digit", is_opaque_id
}
name! {
    /// One piece of work an agent does (`task` in the task token).
    TaskId, "a task id", "1 to 128 of A-Z a-z 0-9 - _ . without \"..\", starting with a letter or digit", is_opaque_id
}
name! {
    /// The id of one task token (`jti`).
    TokenId, "a token id", "1 to 128 of A-Z a-z 0-9 - _ . without \"..\", starting with a letter or digit", is_opaque_id
}

impl TokenId {
    /// Takes over an id that the caller has drawn: of version 7, so that ids sort by the time
    /// they were made. Its 32 hexadecimal digits are a name of every kind.
    #[must_use]
    pub fn new(id: uuid::Uuid) -> Self {
        let mut digits = [0; uuid::fmt::Simple::LENGTH];
        Self(SharedStr::from(&*id.simple().encode_lower(&mut digits)))
    }
}

name! {
    /// The name a handle such as `$CRED{name}` carries.
    HandleName, "a credential name", "1 to 64 of a-z 0-9 - _, starting with a letter or digit", is_slug
}
name! {
    /// One gateway process among several; it writes chains of its own. Short, since it is in every
    /// record and file name.
    ReplicaId, "a replica id", "1 to 32 of a-z 0-9 - _, starting with a letter or digit", is_short_slug
}
name! {
    /// The name of somebody who may use the admin API.
    AdminName, "an admin's name", "1 to 64 of a-z 0-9 - _, starting with a letter or digit", is_slug
}
name! {
    /// The name of a provider or tool, which is also the first path segment of its routes.
    ProviderName, "a provider name", "1 to 64 of a-z 0-9 - _, starting with a letter or digit", is_slug
}
name! {
    /// A model as a client or a provider names it.
    ModelName, "a model name", "1 to 256 characters without control characters", is_printable
}

/// The id of one record, one hold and one journal entry: a UUID of version 7, so ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RecordId(uuid::Uuid);

impl RecordId {
    /// Takes over an id that the caller has drawn.
    #[must_use]
    pub const fn new(id: uuid::Uuid) -> Self {
        Self(id)
    }

    /// 32 hexadecimal digits, on the stack.
    #[must_use]
    pub fn text(self) -> impl Deref<Target = str> {
        let mut digits = [0; uuid::fmt::Simple::LENGTH];
        self.0.as_simple().encode_lower(&mut digits);
        // Digits are UTF-8.
        ArrayString::from_byte_string(&digits).unwrap_or_default()
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FromStr for RecordId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        uuid::Uuid::try_parse(text)
            .map(Self)
            .map_err(|_not_a_uuid| InvalidName {
                what: "a record id",
                form: "a UUID",
            })
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl serde::de::Visitor<'_> for Text {
            type Value = RecordId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a UUID")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RecordId, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl Serialize for RecordId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in [
            "", "/", "a/b", "a:b", "a\0", "*", "..", "a..b", ".a", "A b", "\u{ff04}",
        ] {
            assert!(bad.parse::<TenantId>().is_err(), "tenant {bad:?}");
            assert!(bad.parse::<TaskId>().is_err(), "task {bad:?}");
        }
        assert!(
            "Acme".parse::<TenantId>().is_err(),
            "tenants are lower case"
        );
        assert!("acme-1".parse::<TenantId>().is_ok());
        assert!("T.1_a-B".parse::<TaskId>().is_ok());
    }
}
