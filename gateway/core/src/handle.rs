//! Handles: the names that stand where a secret will be.
//!
//! This module knows how a handle is written and what merely resembles one. [`bind()`] decides
//! whose credential goes into which place of a request, without seeing a secret; [`Bound`] is
//! the proof, and puts the secret in when it has been fetched.
//!
//! Forms: `$CRED{name}` and `$CRED<name>` everywhere, and in URLs also `CRED~name~`, which needs
//! no escaping there. Of a body only the fields are looked at that policy declares as places:
//! models quote handles, and a quoted handle is only text.
//!
//! Worst case: a caller learns that its own tenant's policy does not bind a handle to this
//! place. Whether the name exists, or belongs to somebody else, is not told: every denial is the
//! same answer.

mod bind;
mod field;
mod inject;
mod search;

#[cfg(test)]
mod tests;

pub use bind::{Asked, Bound, HeadBound, bind};
pub(crate) use inject::percent_encoded;
pub use inject::{InvalidSecret, MAX_SECRET_BYTES, check_sendable};
pub(crate) use search::decoded;

use std::sync::OnceLock;

use memchr::memmem::Finder;

use crate::ids::HandleName;

const MARK: &[u8] = b"CRED";

/// What finds the next one.
fn mark_finder() -> &'static Finder<'static> {
    static FINDER: OnceLock<Finder<'static>> = OnceLock::new();
    FINDER.get_or_init(|| Finder::new(MARK))
}

/// Where a text stands, which decides the forms a handle may take in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    Header,
    Url,
}

/// The complete handles of a text.
#[derive(Debug, PartialEq, Eq)]
struct Handles {
    first: Option<HandleName>,
    count: usize,
}

/// The handle that `text` consists of, with nothing around it.
fn whole(text: &[u8], surface: Surface) -> Option<HandleName> {
    let (name, rest) = match text.strip_prefix(b"$") {
        Some(rest) => after_mark(rest.strip_prefix(MARK)?)?,
        None if surface == Surface::Url => after_tilde(text.strip_prefix(MARK)?)?,
        None => return None,
    };
    rest.is_empty().then_some(name)
}

/// All complete handles in `text`, whatever surrounds them.
fn all(text: &[u8], surface: Surface) -> Handles {
    let mut handles = Handles {
        first: None,
        count: 0,
    };
    let mut rest = text;
    while let Some(at) = mark_finder().find(rest) {
        let (before, marked) = rest.split_at(at);
        let after = marked.strip_prefix(MARK).unwrap_or_default();
        let handle = if before.ends_with(b"$") {
            after_mark(after)
        } else {
            None
        };
        let handle = handle.or_else(|| match surface {
            Surface::Url => after_tilde(after),
            Surface::Header => None,
        });
        rest = match handle {
            Some((name, behind)) => {
                handles.first.get_or_insert(name);
                handles.count = handles.count.saturating_add(1);
                behind
            }
            None => after,
        };
    }
    handles
}

/// What follows `$CRED`: a name in braces or angle brackets, and the rest.
fn after_mark(text: &[u8]) -> Option<(HandleName, &[u8])> {
    match text.split_first()? {
        (b'{', rest) => name_before(b'}', rest),
        (b'<', rest) => name_before(b'>', rest),
        _ => None,
    }
}

/// What follows `CRED` in the URL form.
fn after_tilde(text: &[u8]) -> Option<(HandleName, &[u8])> {
    name_before(b'~', text.strip_prefix(b"~")?)
}

fn name_before(end: u8, text: &[u8]) -> Option<(HandleName, &[u8])> {
    let at = memchr::memchr(end, text)?;
    let (name, rest) = text.split_at(at);
    let name = std::str::from_utf8(name).ok()?.parse().ok()?;
    Some((name, rest.get(1..)?))
}

const FORM: &str =
    "write $CRED{name} or $CRED<name> with nothing around it; a name is 1 to 64 of a-z 0-9 - _";
const SHELL: &str =
    "the shell has replaced $CRED by nothing; put the value in single quotes: '$CRED{name}'";

/// A hint if `text` looks as if a handle had been meant. For places where a handle is expected
/// and `text` is not one; provider keys and tokens resemble nothing of this kind.
fn near_miss(text: &[u8]) -> Option<&'static str> {
    // No near miss does without one of these, and no key or token has one: the usual way out.
    if !holds_odd(text) {
        return None;
    }
    if has_mark(text) || !text.is_ascii() {
        return Some(FORM);
    }
    text.split(|byte| byte.is_ascii_whitespace() || *byte == b',')
        .find_map(|word| match (word.first(), word.last()) {
            (Some(b'{'), _) | (_, Some(b'}')) => Some(SHELL),
            (Some(b'<' | b'[' | b'(' | b'$'), _) | (_, Some(b'>' | b']' | b')')) => Some(FORM),
            _ => None,
        })
}

/// Whether a text may be a handle or resemble one: all those do, and few others.
fn holds_odd(text: &[u8]) -> bool {
    // As many bytes as are looked at in one step.
    const STEP: usize = 16;
    let (steps, rest) = text.as_chunks::<STEP>();
    // Zeros are not odd.
    let mut last = [0; STEP];
    if let Some(start) = last.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    let mut nearest = last.map(from_odd);
    for step in steps {
        for (nearest, byte) in nearest.iter_mut().zip(step) {
            *nearest = (*nearest).min(from_odd(*byte));
        }
    }
    nearest.into_iter().fold(u8::MAX, u8::min) == 0
}

/// Zero for brackets, `$`, `%`, `~` and what is no ASCII; and for the bytes between them, for the
/// sake of few comparisons.
fn from_odd(byte: u8) -> u8 {
    // Brackets and braces differ in this bit, and so do `^` and `~`.
    let from_bracket = (byte & !0x20)
        .wrapping_sub(b'[')
        .saturating_sub(b'^' - b'[');
    let from_dollar = byte.wrapping_sub(b'$').saturating_sub(b')' - b'$');
    let from_angle = (byte & !2) ^ b'<';
    let from_beyond_ascii = !byte & 0x80;
    from_bracket
        .min(from_dollar)
        .min(from_angle)
        .min(from_beyond_ascii)
}

/// `cred` in any case with a bracket or an escape behind it, or a `$` before it.
fn has_mark(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'c', b'C', text).any(|at| {
        let (before, marked) = text.split_at(at);
        let Some((mark, after)) = marked.split_at_checked(MARK.len()) else {
            return false;
        };
        mark.eq_ignore_ascii_case(MARK)
            && (before.ends_with(b"$")
                || matches!(after.first(), Some(b'{' | b'<' | b'[' | b'(' | b'~' | b'%')))
    })
}

/// Whether a body quotes a handle, plainly or with the `$` as a JSON escape. Only noted in the
/// record: nothing in a body is ever resolved by it.
#[must_use]
pub fn mentions_handle(body: &[u8]) -> bool {
    mark_finder().find_iter(body).any(|at| {
        let (before, marked) = body.split_at(at);
        let after = marked.strip_prefix(MARK).unwrap_or_default();
        let dollar = before.ends_with(b"$") || before.ends_with(b"\\u0024");
        let bracket = [
            &b"{"[..],
            b"<",
            b"\\u007b",
            b"\\u007B",
            b"\\u003c",
            b"\\u003C",
        ]
        .iter()
        .any(|open| after.starts_with(open));
        dollar && bracket
    })
}
