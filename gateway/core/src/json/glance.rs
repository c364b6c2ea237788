//! Reads JSON of the usual shape in one pass, without a tree and without a copy.
//!
//! A [`Glance`] takes less than JSON allows: what it gives is what any reader would give, and
//! whatever is unusual (escapes in names, exponents, great depth, mistakes) is `None`, which says
//! nothing about the text. Whoever sees `None` reads the text again with care.
//!
//! It does not know what the text means. Worst case: unusual text is read twice.

use std::marker::PhantomData;
use std::ops::Range;

/// The deepest nesting that is usual.
const MAX_DEPTH: u8 = 16;
/// The digits of the longest number that is usual. Without an exponent it is far within every
/// reader's range.
const MAX_DIGITS: usize = 24;
/// In how many words of eight bytes the end of a string is looked for first: most strings are names
/// and short values.
const NEAR_WORDS: usize = 5;
/// The larger steps behind these, in bytes.
const STEP: usize = 64;
/// The digits of the longest count that is usual: so many are exact in every reader.
const MAX_COUNT_DIGITS: usize = 15;

/// A text that is being read, and how far.
#[derive(Debug, Clone)]
pub(crate) struct Glance<'a, W = Unwatched> {
    /// How many bytes it has.
    length: usize,
    /// What is left of it.
    rest: &'a [u8],
    depth: u8,
    /// Whether it is known to be UTF-8, which else every string is shown to be: nothing but
    /// strings can hold other bytes than ASCII.
    is_utf8: bool,
    has_noticed: bool,
    watch: PhantomData<W>,
}

/// What is looked for in the strings of a text, names included, while it is read.
pub(crate) trait Watch {
    /// Whether a string is such a one, as it stands between its quotation marks.
    fn string(written: &[u8]) -> bool;

    /// Whether an escape is, given with all that follows it.
    fn escape(text: &[u8]) -> bool;
}

/// Nothing is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    fn string(_: &[u8]) -> bool {
        false
    }

    fn escape(_: &[u8]) -> bool {
        false
    }
}

/// A string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted<'a> {
    /// What stands between its quotation marks.
    pub(crate) written: &'a [u8],
    /// How many bytes long it is when its escapes are resolved.
    pub(crate) bytes: usize,
}

impl<'a> Quoted<'a> {
    /// The text, if it has no escapes.
    pub(crate) fn plain(self) -> Option<&'a [u8]> {
        (self.bytes == self.written.len()).then_some(self.written)
    }
}

impl<'a> Glance<'a> {
    pub(crate) const fn at(text: &'a str) -> Self {
        Self {
            is_utf8: true,
            ..Self::at_bytes(text.as_bytes())
        }
    }

    /// The same for bytes that need not be UTF-8.
    pub(crate) const fn at_bytes(bytes: &'a [u8]) -> Self {
        Self::watching(bytes)
    }
}

impl<'a, W: Watch> Glance<'a, W> {
    /// The same with something to look for on the way.
    pub(crate) const fn watching(bytes: &'a [u8]) -> Self {
        Self {
            length: bytes.len(),
            rest: bytes,
            depth: 0,
            is_utf8: false,
            has_noticed: false,
            watch: PhantomData,
        }
    }

    /// Whether anything that was watched for has been read.
    pub(crate) const fn has_noticed(&self) -> bool {
        self.has_noticed
    }

    /// Nothing but space is left.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// The first byte of what comes next. What programs write for programs has no space before it.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        match self.rest {
            [first, ..] if *first > b' ' => Some(*first),
            _ => self.peek_behind_space(),
        }
    }

    fn peek_behind_space(&mut self) -> Option<u8> {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Takes one byte of punctuation, which must come next.
    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.pass_one())
    }

    /// Passes over the byte that was peeked at.
    #[inline]
    fn pass_one(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// An object. `member` is given each name and must read the value behind it.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>,
    ) -> Option<()> {
        self.items(b'{', b'}', |inner| {
            let name = inner.quoted()?.plain()?;
            inner.take(b':')?;
            member(inner, name)
        })
    }

    /// A list. `item` must read one item.
    pub(crate) fn list(&mut self, item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.items(b'[', b']', item)
    }

    /// What stands between two brackets, with commas between.
    #[inline]
    fn items(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.take(open)?;
        if self.peek()? == close {
            self.pass_one();
            return Some(());
        }
        self.depth = self
            .depth
            .checked_add(1)
            .filter(|depth| *depth < MAX_DEPTH)?;
        loop {
            item(self)?;
            if self.peek()? != b',' {
                break;
            }
            self.pass_one();
        }
        self.depth = self.depth.saturating_sub(1);
        self.take(close)
    }

    /// A string.
    pub(crate) fn quoted(&mut self) -> Option<Quoted<'a>> {
        self.take(b'"')?;
        let inside = self.rest;
        let plain = plain_at_start(inside);
        let (written, rest) = inside.split_at_checked(plain)?;
        let [b'"', rest @ ..] = rest else {
            return self.quoted_at_length(inside, rest);
        };
        self.rest = rest;
        self.has_noticed |= W::string(written);
        Some(Quoted {
            written,
            bytes: plain,
        })
    }

    /// A string that is read up to `rest`, and is long or has something else in it than ASCII that
    /// stands for itself.
    #[inline(never)]
    fn quoted_at_length(&mut self, inside: &'a [u8], rest: &'a [u8]) -> Option<Quoted<'a>> {
        self.rest = rest;
        let (mut saved, mut only_ascii) = (0_usize, !self.is_utf8);
        loop {
            self.rest = if only_ascii {
                after_plain_ascii(self.rest)
            } else {
                after_plain(self.rest)
            };
            match self.rest {
                [b'"', rest @ ..] => {
                    let length = inside.len().saturating_sub(self.rest.len());
                    self.rest = rest;
                    let written = inside.get(..length)?;
                    if !only_ascii && !self.is_utf8 {
                        str::from_utf8(written).ok()?;
                    }
                    self.has_noticed |= W::string(written);
                    return Some(Quoted {
                        written,
                        bytes: length.saturating_sub(saved),
                    });
                }
                [b'\\', ..] => {
                    let (text, (written, meant)) = (self.rest, escape(self.rest)?);
                    self.has_noticed |= W::escape(text);
                    self.rest = text.get(written..)?;
                    saved = saved.saturating_add(written.saturating_sub(meant));
                }
                [0x80..=0xff, ..] if only_ascii => only_ascii = false,
                _ => return None,
            }
        }
    }

    /// A count, or `null`.
    pub(crate) fn count(&mut self) -> Option<Option<u64>> {
        if self.peek()? == b'n' {
            return self.word(b"null").map(|()| None);
        }
        let (count, digits) = self.digits()?;
        let is_whole = self.rest.first() != Some(&b'.');
        (digits <= MAX_COUNT_DIGITS && is_whole).then_some(Some(count))
    }

    /// Passes over a value of any kind and says where it stands.
    pub(crate) fn span(&mut self) -> Option<Range<usize>> {
        self.peek()?;
        let start = self.passed();
        self.skip()?;
        Some(start..self.passed())
    }

    /// How many bytes have been read.
    pub(crate) const fn passed(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    /// Passes over a value of any kind.
    pub(crate) fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.quoted().map(drop),
            b'{' => self.object(|inner, _name| inner.skip()),
            b'[' => self.list(Self::skip),
            b'n' => self.word(b"null"),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            _ => self.number(),
        }
    }

    /// These bytes and nothing before them.
    pub(crate) fn verbatim(&mut self, bytes: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(bytes)?;
        Some(())
    }

    fn word<const LENGTH: usize>(&mut self, word: &[u8; LENGTH]) -> Option<()> {
        let (first, rest) = self.rest.split_first_chunk::<LENGTH>()?;
        self.rest = rest;
        (first == word).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if let [b'-', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let (_, mut digits) = self.digits()?;
        if let [b'.', fraction @ ..] = self.rest {
            let behind = fraction.iter().position(|byte| !byte.is_ascii_digit());
            let length = behind.unwrap_or(fraction.len());
            (length > 0).then_some(())?;
            digits = digits.saturating_add(length);
            self.rest = fraction.get(length..)?;
        }
        (digits <= MAX_DIGITS).then_some(())
    }

    /// An integer without a sign, and how many digits it has; the number itself is only right for
    /// few.
    fn digits(&mut self) -> Option<(u64, usize)> {
        let (before, mut number) = (self.rest, 0_u64);
        while let [digit @ b'0'..=b'9', rest @ ..] = self.rest {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit & 0xf));
            self.rest = rest;
        }
        let digits = before.len().saturating_sub(self.rest.len());
        let usual = digits == 1 || before.first() != Some(&b'0');
        (usual && digits > 0).then_some((number, digits))
    }
}

/// How many bytes at the start are ASCII that stands for itself in a string: all of them where
/// the end is near, as it mostly is.
#[inline]
fn plain_at_start(text: &[u8]) -> usize {
    let (words, _rest) = text.as_chunks::<8>();
    let mut plain = 0_usize;
    for word in words.iter().take(NEAR_WORDS) {
        let found = ends_in::<ASCII>(*word);
        if found != 0 {
            return plain.saturating_add(first_marked(found));
        }
        plain = plain.saturating_add(8);
    }
    plain
}

/// What follows the bytes at the start that stand for themselves in a string.
fn after_plain(text: &[u8]) -> &[u8] {
    after_run::<ANY>(text)
}

/// The same for those of them that are ASCII.
fn after_plain_ascii(text: &[u8]) -> &[u8] {
    after_run::<ASCII>(text)
}

/// Which bytes stand for themselves: all that do in a string.
const ANY: bool = false;
/// Only those that are ASCII.
const ASCII: bool = true;

/// What follows a run of such bytes at the start. Escapes often come close together, so that large
/// steps are not the first that are tried.
#[inline]
fn after_run<const OF: bool>(text: &[u8]) -> &[u8] {
    let (mut text, ended) = after_words::<OF>(text, NEAR_WORDS);
    if ended {
        return text;
    }
    while let Some((chunk, rest)) = text.split_first_chunk::<STEP>() {
        let nearest = chunk
            .iter()
            .fold(u8::MAX, |nearest, byte| nearest.min(from_end::<OF>(*byte)));
        if nearest == 0 {
            break;
        }
        text = rest;
    }
    let (text, ended) = after_words::<OF>(text, STEP);
    if ended {
        return text;
    }
    let plain = text.iter().position(|byte| from_end::<OF>(*byte) == 0);
    text.get(plain.unwrap_or(text.len())..).unwrap_or_default()
}

/// The same within so many words of eight bytes, and whether the run ends in them.
#[inline]
fn after_words<const OF: bool>(mut text: &[u8], words: usize) -> (&[u8], bool) {
    for _ in 0..words {
        let Some((word, rest)) = text.split_first_chunk::<8>() else {
            break;
        };
        let found = ends_in::<OF>(*word);
        if found != 0 {
            let end = text.get(first_marked(found)..).unwrap_or_default();
            return (end, true);
        }
        text = rest;
    }
    (text, false)
}

/// Whether text stands for itself in a string from its start to its end.
pub(super) fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    // The last eight bytes are the rest and some that are looked at twice.
    let rest_is_plain = match text.last_chunk::<8>() {
        Some(last) => ends_in::<ANY>(*last) == 0,
        None => rest.iter().all(|byte| from_end::<ANY>(*byte) != 0),
    };
    rest_is_plain && words.iter().all(|word| ends_in::<ANY>(*word) == 0)
}

/// Zero for a byte that ends a run: quotation mark, backslash, control character. The least of
/// many is found without a branch.
#[inline]
fn from_end<const OF: bool>(byte: u8) -> u8 {
    let from_other = if OF == ASCII {
        // The upper half comes first, then the control characters.
        (byte ^ 0x80).saturating_sub(0x80 | (b' ' - 1))
    } else {
        byte & !(b' ' - 1)
    };
    (byte ^ b'"').min(byte ^ b'\\').min(from_other)
}

const EACH: u64 = u64::from_le_bytes([1; 8]);
/// What is marked of a byte: its highest bit.
const HIGHEST: u64 = EACH << 7;

/// Marks the first of eight bytes that ends a run, and perhaps some behind it, without a branch.
///
/// An ASCII byte below a bound of at most 128 is one whose highest bit is set by subtracting the
/// bound. Borrowing disturbs only bytes behind the first such byte.
#[inline]
const fn ends_in<const OF: bool>(bytes: [u8; 8]) -> u64 {
    const fn minus(bytes: u64, bound: u8) -> u64 {
        bytes.wrapping_sub(EACH.wrapping_mul(bound as u64))
    }
    const fn equal(bytes: u64, byte: u8) -> u64 {
        minus(bytes ^ EACH.wrapping_mul(byte as u64), 1)
    }
    let bytes = u64::from_le_bytes(bytes);
    let below = minus(bytes, b' ') | equal(bytes, b'"') | equal(bytes, b'\\');
    let found = if OF == ASCII {
        below | bytes
    } else {
        below & !bytes
    };
    found & HIGHEST
}

/// Which byte is the first that is marked.
const fn first_marked(marks: u64) -> usize {
    (marks.trailing_zeros() >> 3) as usize
}

/// Puts a value where there is none yet. What comes twice is unusual.
pub(crate) fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// How many bytes the escape that `text` begins with is written in, and how many it means.
fn escape(text: &[u8]) -> Option<(usize, usize)> {
    match text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some((2, 1)),
        b'u' => {
            let mut code = 0;
            for digit in text.get(2..6)? {
                code = code << 4 | char::from(*digit).to_digit(16)?;
            }
            // Halves of a pair are no characters: unusual.
            Some((6, char::from_u32(code)?.len_utf8()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
