//! Takes a secret out of what comes back, however it is written and wherever the bytes are split.
//!
//! [`Needles`] are the forms of one secret that are looked for; a [`Scrubber`] looks for them in
//! one answer, piece by piece, and puts [`MARK`] in their place. The forms:
//!
//! - as it is;
//! - hexadecimal, in either case;
//! - base64, of the standard or the URL-safe alphabet, at each of the three places it can have in
//!   longer base64 (`user:secret` of Basic authentication is one): the characters that the
//!   secret alone decides, so that padding and neighbours do not matter;
//! - each of these with any of its bytes escaped: `%73`, `\u0073`, `\/`, `\"`, `\\`, with as many
//!   backslashes as JSON within JSON within JSON takes, and `+` for a blank.
//!
//! Of all matches the one that starts first is replaced, of those that start together the one
//! that ends first; so the result does not depend on how the bytes were split. Held back is only
//! what may still become a match: from the first byte on that begins a form which the end of the
//! bytes breaks off. Everything else is passed on at once, and without a match byte for byte.
//!
//! It does not know what the bytes are: headers, JSON, events. What it does not look for: other
//! encodings (HTML entities, UTF-16, base64 with line breaks, encodings of encodings but for the
//! escapes above), parts of the secret, and a secret spread over several events or headers.
//!
//! Worst case: at most [`Needles::longest`] bytes are held; of base64 that is not aligned with the
//! secret, some bits of its first and last byte stay behind; bytes that begin a secret of n bytes
//! over and over cost up to n steps each. A secret under [`MIN_SECRET_BYTES`] has no needles.

mod needles;
mod spelling;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use zeroize::Zeroizing;

pub use needles::Needles;

use needles::{Candidates, Verdict};

/// Secrets shorter than this, in bytes, would be found by chance in answers that do not hold them.
pub const MIN_SECRET_BYTES: usize = 8;

/// What stands in place of a secret.
pub const MARK: &[u8] = b"[redacted]";

/// How long what stands in place of a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// [`MARK`] alone.
    Mark,
    /// [`MARK`], and `*` up to the length of what it replaces, for bytes whose number has been
    /// announced. A match shorter than the mark becomes `*` alone.
    SameLength,
}

impl Filling {
    fn put(self, out: &mut Vec<u8>, replaced_bytes: usize) {
        let stars = match self {
            Self::Mark => 0,
            Self::SameLength if replaced_bytes < MARK.len() => replaced_bytes,
            Self::SameLength => replaced_bytes.saturating_sub(MARK.len()),
        };
        if self == Self::Mark || replaced_bytes >= MARK.len() {
            out.extend_from_slice(MARK);
        }
        out.resize(out.len().saturating_add(stars), b'*');
    }
}

/// What to pass on for the bytes just fed to a [`Scrubber`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what the scrubber says is what may be passed on"]
pub enum Passed {
    /// Those bytes.
    All,
    /// The first so many of them; the rest is held back.
    First(usize),
    /// These bytes in their place.
    Instead(Vec<u8>),
}

/// Looks for one secret in one answer.
pub struct Scrubber {
    needles: Arc<Needles>,
    filling: Filling,
    held: Zeroizing<Vec<u8>>,
    hits: u64,
}

/// What was found in some bytes.
struct Found {
    /// Start and end of each match.
    hits: Vec<(usize, usize)>,
    /// Where what may still become a match begins.
    open_at: usize,
}

impl Scrubber {
    /// A scrubber for one answer.
    #[must_use]
    pub fn new(needles: Arc<Needles>, filling: Filling) -> Self {
        Self {
            needles,
            filling,
            held: Zeroizing::default(),
            hits: 0,
        }
    }

    /// How many matches have been replaced.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }

    /// Takes in the next bytes of the answer and says what to pass on.
    pub fn feed(&mut self, bytes: &[u8]) -> Passed {
        if !self.held.is_empty() {
            let text = self.after_held(bytes);
            return Passed::Instead(self.pass(&text, false));
        }
        let found = find(&self.needles, bytes, false);
        if !found.hits.is_empty() {
            return Passed::Instead(self.replace(bytes, &found));
        }
        let open = bytes.get(found.open_at..).unwrap_or_default();
        if open.is_empty() {
            return Passed::All;
        }
        self.held = Zeroizing::new(open.to_vec());
        Passed::First(found.open_at)
    }

    /// The answer is over: what was held back, in which no match can end any more.
    #[must_use]
    pub fn end(&mut self) -> Vec<u8> {
        let text = self.after_held(&[]);
        self.pass(&text, true)
    }

    /// What is held, and `bytes` behind it. Made at its full length, for a buffer that grows
    /// leaves copies behind.
    fn after_held(&mut self, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        let held = std::mem::take(&mut self.held);
        Zeroizing::new([held.as_slice(), bytes].concat())
    }

    fn pass(&mut self, text: &[u8], is_last: bool) -> Vec<u8> {
        let found = find(&self.needles, text, is_last);
        self.replace(text, &found)
    }

    /// `text` up to what may become a match, which is held, with every match replaced.
    fn replace(&mut self, text: &[u8], found: &Found) -> Vec<u8> {
        let (settled, open) = text.split_at_checked(found.open_at).unwrap_or((text, &[]));
        self.held = Zeroizing::new(open.to_vec());
        let count = u64::try_from(found.hits.len()).unwrap_or(u64::MAX);
        self.hits = self.hits.saturating_add(count);
        replaced(settled, &found.hits, self.filling)
    }
}

impl Needles {
    /// `text`, which is whole, without the secret; `None` if it is not in it.
    #[must_use]
    pub fn scrub(&self, text: &[u8]) -> Option<Vec<u8>> {
        if text.len() < self.shortest() {
            return None;
        }
        let found = find(self, text, true);
        let is_hit = !found.hits.is_empty();
        is_hit.then(|| replaced(text, &found.hits, Filling::Mark))
    }
}

fn replaced(text: &[u8], hits: &[(usize, usize)], filling: Filling) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    for &(start, end) in hits {
        out.extend_from_slice(text.get(from..start).unwrap_or_default());
        filling.put(&mut out, end.saturating_sub(start));
        from = end;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    out
}

/// `is_last` is whether nothing follows `text`.
fn find(needles: &Needles, text: &[u8], is_last: bool) -> Found {
    let mut found = Found {
        hits: Vec::new(),
        open_at: text.len(),
    };
    let mut candidates = Candidates::new(needles, text, is_last);
    let mut from = 0;
    while let Some(start) = candidates.next_from(from) {
        match needles.judge(text, start) {
            Verdict::Match { end } => {
                found.hits.push((start, end));
                from = end;
            }
            Verdict::Open if !is_last => {
                found.open_at = start;
                break;
            }
            Verdict::Open | Verdict::None => from = start.saturating_add(1),
        }
    }
    found
}
