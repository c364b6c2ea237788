//! The forms of one secret, and where in a text one of them may begin.
//!
//! A form written without any escape is found by skipping (Wu and Manber, 1994): the three bytes
//! at the end of a window as long as the shortest form say how far it can move without missing
//! one, mostly by all its length. A form with escapes is found by its first escape, before which
//! it is written plainly; what the end of the text breaks off, among its last bytes. All three
//! only name candidates; [`Needles::judge`] decides. Libraries for many patterns are not used,
//! because their automata keep copies of the patterns that nobody wipes.
//!
//! Worst case: for a secret that itself holds `%`, a backslash or a blank, what is an escape and
//! what is not depends on the place, so every byte that can begin a form is a candidate.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::{memchr_iter, memchr2_iter};
use zeroize::Zeroizing;

use super::spelling::{Escape, MAX_SPELLING, escape, hex, spellings};
use super::{MARK, MIN_SECRET_BYTES};
use crate::secret::Secret;

/// The longest window. Its moves are kept in bytes, and a longer one saves little.
const MAX_WINDOW: usize = 32;
/// How many bytes decide how far the window moves.
const BLOCK: usize = 3;
/// Binary digits of a block's hash.
const HASH_BITS: u32 = 12;

/// The forms of one secret. Wiped when dropped.
pub struct Needles {
    forms: Vec<Form>,
    shortest: usize,
    longest: usize,
    window: usize,
    /// How far the window moves, by the hash of the block at its end.
    moves: Zeroizing<Vec<u8>>,
    /// Bytes that can begin a form.
    first: ByteSet,
    /// Bytes of all forms.
    inner: ByteSet,
    /// Whether the secret holds what could also be part of an escape.
    is_ambiguous: bool,
}

struct Form {
    bytes: Zeroizing<Vec<u8>>,
    in_any_case: bool,
}

/// What stands at a place of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A form, up to `end`.
    Match { end: usize },
    /// The beginning of one, at which the text breaks off.
    Open,
    /// Neither.
    None,
}

struct ByteSet(Zeroizing<[bool; 256]>);

impl ByteSet {
    fn of(bytes: impl IntoIterator<Item = u8>) -> Self {
        let mut set = Self(Zeroizing::new([false; 256]));
        for byte in bytes {
            if let Some(has) = set.0.get_mut(usize::from(byte)) {
                *has = true;
            }
        }
        set
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).is_some_and(|has| *has)
    }
}

impl Needles {
    /// The forms of `secret`, unless it is shorter than [`MIN_SECRET_BYTES`].
    #[must_use]
    pub fn new(secret: &Secret) -> Option<Self> {
        let secret = secret.expose();
        if secret.len() < MIN_SECRET_BYTES {
            return None;
        }
        let forms = forms(secret);
        let lengths = || forms.iter().map(|form| form.bytes.len());
        let shortest = lengths().min().unwrap_or(MIN_SECRET_BYTES);
        let longest = lengths().max().unwrap_or_default();
        let window = shortest.min(MAX_WINDOW);
        let escapes = [b'%', b'\\', b'+'];
        let first = forms.iter().flat_map(|form| form.cases(0));
        let all = forms
            .iter()
            .flat_map(|form| (0..form.bytes.len()).flat_map(|at| form.cases(at)));
        Some(Self {
            shortest,
            longest: longest.saturating_mul(MAX_SPELLING),
            window,
            moves: moves(&forms, window),
            first: ByteSet::of(first.chain(escapes)),
            inner: ByteSet::of(all),
            is_ambiguous: secret
                .iter()
                .any(|byte| matches!(byte, b'%' | b'\\' | b' ')),
            forms,
        })
    }

    /// The length of the shortest form, in bytes.
    pub(super) const fn shortest(&self) -> usize {
        self.shortest
    }

    /// The length of the longest form with every byte escaped, in bytes: no more is ever held.
    #[must_use]
    pub const fn longest(&self) -> usize {
        self.longest
    }

    /// Whether [`MARK`] fits into the place of every form.
    #[must_use]
    pub const fn has_room_for_mark(&self) -> bool {
        self.shortest >= MARK.len()
    }

    /// Whether a header's name holds the secret in any form. Names come in lower case, whatever
    /// case the upstream wrote them in.
    #[must_use]
    pub fn are_in_name(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let is_long_enough = name.len() >= self.shortest;
        is_long_enough
            && (0..name.len()).any(|at| {
                let mut forms = self.forms.iter();
                forms.any(|form| matches!(form.follow(name, at, true), Verdict::Match { .. }))
            })
    }

    /// What stands at `start` of the text: of several matches, the shortest.
    pub(super) fn judge(&self, text: &[u8], start: usize) -> Verdict {
        let verdicts = self
            .forms
            .iter()
            .map(|form| form.follow(text, start, form.in_any_case));
        verdicts.fold(Verdict::None, |best, verdict| match (best, verdict) {
            (Verdict::Match { end: one }, Verdict::Match { end: other }) => Verdict::Match {
                end: one.min(other),
            },
            (Verdict::Match { .. }, _) | (Verdict::Open, Verdict::None) => best,
            _ => verdict,
        })
    }

    /// The next place where a window of plain bytes may begin a form.
    fn next_plain(&self, text: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            let end = at.checked_add(self.window)?;
            let block = text.get(end.checked_sub(BLOCK)?..end)?;
            let step = self.moves.get(hash(block)).copied().unwrap_or_default();
            if step == 0 && self.may_begin(text, at) {
                return Some(at);
            }
            at = at.saturating_add(usize::from(step.max(1)));
        }
    }

    /// The first place from which plain bytes lead to an escape as in a form.
    fn next_escaped(&self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        memchr2_iter(b'%', b'\\', rest).find_map(|at| {
            let (before, escaped) = rest.split_at_checked(at)?;
            let led = match escape(escaped) {
                Escape::None => None,
                Escape::Of(byte) if !self.inner.has(byte) => None,
                Escape::Of(byte) => self.longest_lead(before, Some(byte)),
                Escape::Open => self.longest_lead(before, None),
            }?;
            from.checked_add(at)?.checked_sub(led)
        })
    }

    /// How many bytes at the end of `before` are the beginning of a form whose next byte is
    /// `next`, or any; at most.
    fn longest_lead(&self, before: &[u8], next: Option<u8>) -> Option<usize> {
        let leads = self.forms.iter().flat_map(|form| {
            let leads: Box<dyn Iterator<Item = usize>> = match next {
                Some(next) if form.in_any_case => Box::new(memchr2_iter(
                    next.to_ascii_lowercase(),
                    next.to_ascii_uppercase(),
                    &form.bytes,
                )),
                Some(next) => Box::new(memchr_iter(next, &form.bytes)),
                None => Box::new(0..form.bytes.len()),
            };
            leads.filter(|lead| {
                let plain = before
                    .len()
                    .checked_sub(*lead)
                    .and_then(|at| before.get(at..));
                let own = form.bytes.get(..*lead);
                own.zip(plain)
                    .is_some_and(|(own, plain)| form.same(own, plain))
            })
        });
        leads.max()
    }

    /// The next place among the last bytes, too few for a window, where a form may begin that the
    /// end breaks off.
    fn next_in_tail(&self, text: &[u8], from: usize) -> Option<usize> {
        let last = *text.last()?;
        if !self.inner.has(last)
            && !matches!(last, b'%' | b'\\' | b'+' | b'u')
            && !last.is_ascii_hexdigit()
        {
            return None;
        }
        let tail = text.len().saturating_sub(self.window.saturating_sub(1));
        (from.max(tail)..text.len()).find(|at| self.may_begin(text, *at))
    }

    fn next_at_all(&self, text: &[u8], from: usize) -> Option<usize> {
        (from..text.len()).find(|at| self.may_begin(text, *at))
    }

    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        text.get(at).is_some_and(|byte| self.first.has(*byte))
    }
}

impl Form {
    fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: Zeroizing::new(bytes.into()),
            in_any_case: false,
        }
    }

    /// The byte at a place, in every case it may have.
    fn cases(&self, at: usize) -> impl Iterator<Item = u8> {
        let byte = self.bytes.get(at).copied();
        let upper = byte.filter(|_| self.in_any_case);
        byte.into_iter()
            .chain(upper.map(|byte| byte.to_ascii_uppercase()))
    }

    fn same(&self, one: &[u8], other: &[u8]) -> bool {
        if self.in_any_case {
            one.eq_ignore_ascii_case(other)
        } else {
            one == other
        }
    }

    /// Reads the form from `start` on, in every way the text can be read.
    fn follow(&self, text: &[u8], start: usize, in_any_case: bool) -> Verdict {
        let mut is_open = false;
        let mut places = vec![];
        let mut next = vec![];
        let mut bytes = self.bytes.iter();
        let mut step = |byte: u8, at: usize, next: &mut Vec<usize>| {
            let found = spellings(byte, in_any_case, text.get(at..).unwrap_or_default());
            is_open |= found.is_open;
            next.extend(found.lengths().map(|length| at.saturating_add(length)));
        };
        if let Some(byte) = bytes.next() {
            step(*byte, start, &mut places);
        }
        for byte in bytes {
            for at in places.drain(..) {
                step(*byte, at, &mut next);
            }
            if next.len() > 1 {
                next.sort_unstable();
                next.dedup();
            }
            std::mem::swap(&mut places, &mut next);
            if places.is_empty() {
                break;
            }
        }
        match places.iter().min() {
            Some(end) => Verdict::Match { end: *end },
            None if is_open => Verdict::Open,
            None => Verdict::None,
        }
    }
}

fn forms(secret: &[u8]) -> Vec<Form> {
    let mut forms = vec![
        Form::new(secret),
        Form {
            bytes: Zeroizing::new(secret.iter().flat_map(|byte| hex(*byte)).collect()),
            in_any_case: true,
        },
    ];
    // What comes before the secret shares the first characters with it, and what comes after it
    // the last: neither are looked for.
    for (lead, shared) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = Zeroizing::new([[0; 2].get(..lead).unwrap_or_default(), secret].concat());
        for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = Zeroizing::new(alphabet.encode(&*bytes));
            let whole = text
                .len()
                .saturating_sub(usize::from(bytes.len().checked_rem(3) != Some(0)));
            let own = text.as_bytes().get(shared..whole).unwrap_or_default();
            if !forms.iter().any(|form| form.bytes.as_slice() == own) {
                forms.push(Form::new(own));
            }
        }
    }
    forms
}

/// For each hash: how far a window that ends with such a block can move without missing a form.
fn moves(forms: &[Form], window: usize) -> Zeroizing<Vec<u8>> {
    let furthest = window.saturating_sub(BLOCK).saturating_add(1);
    let furthest = u8::try_from(furthest).unwrap_or(u8::MAX);
    let mut moves = Zeroizing::new(vec![furthest; 1 << HASH_BITS]);
    for form in forms {
        let begin = form.bytes.get(..window).unwrap_or_default();
        for (at, block) in begin.windows(BLOCK).enumerate() {
            let left = window.saturating_sub(BLOCK).saturating_sub(at);
            if let Some(step) = moves.get_mut(hash(block)) {
                *step = (*step).min(u8::try_from(left).unwrap_or(u8::MAX));
            }
        }
    }
    moves
}

/// The same for either case of a letter.
fn hash(block: &[u8]) -> usize {
    let [a, b, c] = *block else { return 0 };
    let block = u32::from_le_bytes([a, b, c, 0]) | 0x0020_2020;
    let mixed = block.wrapping_mul(0x9E37_79B1) >> (u32::BITS - HASH_BITS);
    usize::try_from(mixed).unwrap_or_default()
}

/// The places of a text where a form may begin, in order.
pub(super) struct Candidates<'a> {
    needles: &'a Needles,
    text: &'a [u8],
    plain: Option<usize>,
    escaped: Option<usize>,
    tail: Option<usize>,
}

impl<'a> Candidates<'a> {
    /// `is_whole` is whether no form can be broken off by the end of the text.
    pub(super) fn new(needles: &'a Needles, text: &'a [u8], is_whole: bool) -> Self {
        let mut candidates = Self {
            needles,
            text,
            plain: None,
            escaped: None,
            tail: None,
        };
        if needles.is_ambiguous {
            candidates.plain = needles.next_at_all(text, 0);
        } else {
            candidates.plain = needles.next_plain(text, 0);
            candidates.escaped = needles.next_escaped(text, 0);
            if !is_whole {
                candidates.tail = needles.next_in_tail(text, 0);
            }
        }
        candidates
    }

    /// The first place at or after `from`, which never goes back.
    pub(super) fn next_from(&mut self, from: usize) -> Option<usize> {
        let Self { needles, text, .. } = *self;
        let is_behind = |place: &Option<usize>| place.is_some_and(|at| at < from);
        if is_behind(&self.plain) {
            self.plain = if needles.is_ambiguous {
                needles.next_at_all(text, from)
            } else {
                needles.next_plain(text, from)
            };
        }
        if is_behind(&self.escaped) {
            self.escaped = needles.next_escaped(text, from);
        }
        if is_behind(&self.tail) {
            self.tail = needles.next_in_tail(text, from);
        }
        [self.plain, self.escaped, self.tail]
            .into_iter()
            .flatten()
            .min()
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
impl Needles {
    /// The same needles, with every byte a candidate: what the quick search must agree with.
    pub(super) fn without_filters(secret: &Secret) -> Option<Self> {
        let needles = Self::new(secret)?;
        Some(Self {
            is_ambiguous: true,
            ..needles
        })
    }
}
