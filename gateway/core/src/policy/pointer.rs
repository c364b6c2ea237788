//! The way to one member of a JSON text (RFC 6901).
//!
//! A pointer leads through objects only: a position in an array is no fixed place. Nothing is
//! known here of any JSON text.

use std::fmt;
use std::str::FromStr;

/// The most objects a pointer leads through; each costs one look at the text within it.
const MAX_DEPTH: usize = 8;

/// The longest pointer, in bytes.
const MAX_BYTES: usize = 256;

/// A pointer such as `/auth/api_key`, with at least one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer {
    text: String,
    way: Vec<String>,
    last: String,
}

/// Why a text is no pointer to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a JSON pointer such as \"/api_key\" or \"/auth/api_key\": `/` before each of 1 to {MAX_DEPTH} names, in a name `~0` for `~` and `~1` for `/`, {MAX_BYTES} bytes at most"
)]
pub struct InvalidJsonPointer;

impl JsonPointer {
    /// The names of the objects on the way, outermost first.
    #[must_use]
    pub fn way(&self) -> &[String] {
        &self.way
    }

    /// The name of the member itself.
    #[must_use]
    pub fn last(&self) -> &str {
        &self.last
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for JsonPointer {
    type Err = InvalidJsonPointer;

    fn from_str(text: &str) -> Result<Self, InvalidJsonPointer> {
        let names = text.strip_prefix('/').ok_or(InvalidJsonPointer)?;
        let is_plain = text.len() <= MAX_BYTES && !text.chars().any(char::is_control);
        let names: Option<Vec<String>> = names.split('/').map(unescaped).collect();
        let mut way = names.filter(|_| is_plain).ok_or(InvalidJsonPointer)?;
        let last = way.pop().ok_or(InvalidJsonPointer)?;
        if way.len() >= MAX_DEPTH {
            return Err(InvalidJsonPointer);
        }
        Ok(Self {
            text: text.to_owned(),
            way,
            last,
        })
    }
}

/// One name without its escapes; `None` for an empty one or an escape that does not exist.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('~');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(1)?;
        plain.push(match escaped {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        plain.push_str(rest);
    }
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_names_a_member_and_the_way_to_it() {
        for (text, way, last) in [
            ("/api_key", &[][..], "api_key"),
            ("/auth/api key", &["auth"], "api key"),
            ("/a~1b/~01/0", &["a/b", "~1"], "0"),
            (
                "/1/2/3/4/5/6/7/8",
                &["1", "2", "3", "4", "5", "6", "7"],
                "8",
            ),
        ] {
            let pointer: JsonPointer = text.parse().expect(text);
            assert_eq!(
                (pointer.way(), pointer.last()),
                (
                    way.iter()
                        .map(|name| (*name).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    last
                ),
                "{text}"
            );
            assert_eq!(pointer.to_string(), text);
        }
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        for text in [
            "",
            "/",
            "api_key",
            "//a",
            "/a/",
            "/a~",
            "/a~2",
            "/~é",
            "/a\nb",
            &long,
            "/1/2/3/4/5/6/7/8/9",
        ] {
            assert_eq!(
                text.parse::<JsonPointer>(),
                Err(InvalidJsonPointer),
                "{text}"
            );
        }
    }
}
