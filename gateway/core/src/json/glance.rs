//! Reads JSON of the usual shape in one pass, without a tree and without a copy.
//!
//! A [`Glance`] takes less than JSON allows: what it gives is what any reader would give, and
//! whatever is unusual (escapes in names, exponents, great depth, mistakes) is `None`, which says
//! nothing about the text. Whoever sees `None` reads the text again with care.
//!
//! It does not know what the text means. Worst case: unusual text is read twice.

/// The deepest nesting that is usual.
const MAX_DEPTH: u8 = 16;
/// The digits of the longest number that is usual. Without an exponent it is far within every
/// reader's range.
const MAX_DIGITS: usize = 24;
/// The digits of the longest count that is usual: so many are exact in every reader.
const MAX_COUNT_DIGITS: usize = 15;

/// A text that is being read, and how far.
#[derive(Debug, Clone)]
pub(crate) struct Glance<'a> {
    text: &'a str,
    /// What is left of it.
    rest: &'a [u8],
    depth: u8,
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
            text,
            rest: text.as_bytes(),
            depth: 0,
        }
    }

    /// Nothing but space is left.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// The first byte of what comes next.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Takes one byte of punctuation if it comes next.
    #[inline]
    fn takes(&mut self, byte: u8) -> bool {
        self.peek();
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
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
        if self.takes(close) {
            return Some(());
        }
        self.depth = self
            .depth
            .checked_add(1)
            .filter(|depth| *depth < MAX_DEPTH)?;
        loop {
            item(self)?;
            if !self.takes(b',') {
                break;
            }
        }
        self.depth = self.depth.saturating_sub(1);
        self.take(close)
    }

    /// A string.
    pub(crate) fn quoted(&mut self) -> Option<Quoted<'a>> {
        self.take(b'"')?;
        let inside = self.rest;
        let mut saved = 0_usize;
        loop {
            self.rest = after_plain(self.rest);
            match self.rest {
                [b'"', rest @ ..] => {
                    let length = inside.len().saturating_sub(self.rest.len());
                    self.rest = rest;
                    return Some(Quoted {
                        written: inside.get(..length)?,
                        bytes: length.saturating_sub(saved),
                    });
                }
                [b'\\', ..] => {
                    let (written, meant) = escape(self.rest)?;
                    self.rest = self.rest.get(written..)?;
                    saved = saved.saturating_add(written.saturating_sub(meant));
                }
                _ => return None,
            }
        }
    }

    /// A count, or `null`.
    pub(crate) fn count(&mut self) -> Option<Option<u64>> {
        if self.peek()? == b'n' {
            return self.word("null").map(|()| None);
        }
        let (count, digits) = self.digits()?;
        let is_whole = self.rest.first() != Some(&b'.');
        (digits <= MAX_COUNT_DIGITS && is_whole).then_some(Some(count))
    }

    /// A value of any kind, as it is written.
    pub(crate) fn raw(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.text.len().checked_sub(self.rest.len())?;
        self.skip()?;
        let end = self.text.len().checked_sub(self.rest.len())?;
        self.text.get(start..end)
    }

    /// Passes over a value of any kind.
    pub(crate) fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.quoted().map(drop),
            b'{' => self.object(|inner, _name| inner.skip()),
            b'[' => self.list(Self::skip),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(word.as_bytes())?;
        Some(())
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

/// What follows the bytes at the start that stand for themselves in a string. Most strings are
/// short: their end is looked for in eight bytes at a time, and in sixteen only from the fifth
/// step on.
#[inline]
fn after_plain(mut text: &[u8]) -> &[u8] {
    for _ in 0..4 {
        let Some((word, rest)) = text.split_first_chunk::<8>() else {
            break;
        };
        let plain = plain_of_eight(*word);
        if plain < 8 {
            return text.get(plain..).unwrap_or_default();
        }
        text = rest;
    }
    while let Some((chunk, rest)) = text.split_first_chunk::<16>() {
        if chunk.iter().fold(false, |found, byte| found | ends(*byte)) {
            break;
        }
        text = rest;
    }
    let plain = text.iter().position(|byte| ends(*byte));
    text.get(plain.unwrap_or(text.len())..).unwrap_or_default()
}

/// Whether a byte does not stand for itself in a string. Without branches, so that many bytes are
/// looked at in one step.
const fn ends(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// How many of eight bytes come before the first that [`ends`] the run, without a branch.
///
/// A byte below a bound of at most 128 is one whose highest bit is set by subtracting the bound
/// and was not before. Borrowing disturbs only bytes behind the first such byte.
#[inline]
const fn plain_of_eight(bytes: [u8; 8]) -> usize {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = EACH << 7;
    const fn below(bytes: u64, bound: u8) -> u64 {
        bytes.wrapping_sub(EACH.wrapping_mul(bound as u64)) & !bytes & HIGHEST
    }
    const fn equal(bytes: u64, byte: u8) -> u64 {
        below(bytes ^ EACH.wrapping_mul(byte as u64), 1)
    }
    let bytes = u64::from_le_bytes(bytes);
    let found = below(bytes, b' ') | equal(bytes, b'"') | equal(bytes, b'\\');
    (found.trailing_zeros() >> 3) as usize
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
