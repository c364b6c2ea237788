//! The ways in which one byte of a secret can be written: as it is, or escaped for a URL or for
//! JSON.
//!
//! Worst case: a run of more backslashes than [`MAX_BACKSLASHES`] is read from its middle on.

/// Backslashes before an escaped character in JSON that is quoted in JSON that is quoted in JSON.
const MAX_BACKSLASHES: usize = 7;

/// The longest way to write one byte: all the backslashes and `u0073`.
pub(super) const MAX_SPELLING: usize = 12;

/// How the beginning of a text writes a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spellings {
    /// Bit n: the first n bytes do.
    lengths: u16,
    /// The text breaks off within what may become one.
    pub(super) is_open: bool,
}

impl Spellings {
    const NONE: Self = Self {
        lengths: 0,
        is_open: false,
    };

    /// Each number of bytes that writes it.
    pub(super) fn lengths(self) -> impl Iterator<Item = usize> {
        (1..=MAX_SPELLING).filter(move |length| self.lengths & (1 << length) != 0)
    }

    fn with(self, length: usize) -> Self {
        Self {
            lengths: self.lengths | (1 << length),
            ..self
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            lengths: self.lengths | other.lengths,
            is_open: self.is_open || other.is_open,
        }
    }
}

/// How `text` begins with `byte`; in either case of it, if `in_any_case`.
pub(super) fn spellings(byte: u8, in_any_case: bool, text: &[u8]) -> Spellings {
    let Some(first) = text.first() else {
        return Spellings {
            is_open: true,
            ..Spellings::NONE
        };
    };
    // Most texts write most bytes as another one; this is all they cost.
    let is_escape = matches!(first, b'%' | b'\\');
    if !is_escape && !first.eq_ignore_ascii_case(&byte) && *first != b'+' {
        return Spellings::NONE;
    }
    if in_any_case && byte.is_ascii_alphabetic() {
        let lower = exact(byte.to_ascii_lowercase(), *first, text);
        return lower.or(exact(byte.to_ascii_uppercase(), *first, text));
    }
    exact(byte, *first, text)
}

fn exact(byte: u8, first: u8, text: &[u8]) -> Spellings {
    let mut found = Spellings::NONE;
    if first == byte || (first == b'+' && byte == b' ') {
        found = found.with(1);
    }
    match first {
        b'%' => found.or(digits(text, 1, byte, &[])),
        b'\\' => found.or(backslashed(byte, text)),
        _ => found,
    }
}

/// How many backslashes the text begins with, as far as they count.
fn backslashes(text: &[u8]) -> usize {
    let counted = text.iter().take(MAX_BACKSLASHES.saturating_add(1));
    counted.take_while(|byte| **byte == b'\\').count()
}

fn backslashed(byte: u8, text: &[u8]) -> Spellings {
    let run = backslashes(text);
    let mut found = Spellings::NONE;
    if byte == b'\\' {
        found = (2..=run.min(MAX_BACKSLASHES)).fold(found, Spellings::with);
    }
    if run > MAX_BACKSLASHES {
        return found;
    }
    let behind = run.saturating_add(1);
    match text.get(run) {
        None => found.is_open = true,
        Some(b'u') => found = found.or(digits(text, behind, byte, b"00")),
        Some(b'"' | b'/') if text.get(run) == Some(&byte) => found = found.with(behind),
        Some(_) => {}
    }
    found
}

/// Whether `zeros` and the two hexadecimal digits of `byte` stand `at` a place of the text.
fn digits(text: &[u8], at: usize, byte: u8, zeros: &[u8]) -> Spellings {
    let expected = zeros.iter().copied().chain(hex(byte));
    let mut there = text.get(at..).unwrap_or_default().iter();
    let mut length = at;
    for digit in expected {
        match there.next() {
            None => {
                return Spellings {
                    is_open: true,
                    ..Spellings::NONE
                };
            }
            Some(found) if found.eq_ignore_ascii_case(&digit) => length = length.saturating_add(1),
            Some(_) => return Spellings::NONE,
        }
    }
    Spellings::NONE.with(length)
}

/// Both hexadecimal digits of a byte, in lower case.
pub(super) fn hex(byte: u8) -> [u8; 2] {
    let digit = |value: u8| match value {
        0..=9 => b'0'.saturating_add(value),
        _ => b'a'.saturating_add(value.saturating_sub(10)),
    };
    [digit(byte >> 4), digit(byte & 15)]
}

/// What an escape stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// This byte.
    Of(u8),
    /// The text breaks off within it.
    Open,
    /// None of a byte that can be in a needle.
    None,
}

/// Reads `text`, which begins with `%` or a backslash.
pub(super) fn escape(text: &[u8]) -> Escape {
    if text.first() == Some(&b'%') {
        return read(text.get(1..).unwrap_or_default(), b"");
    }
    let run = backslashes(text);
    match text.get(run) {
        // What they escape is found from a later one of them.
        Some(_) if run > MAX_BACKSLASHES => Escape::None,
        None => Escape::Open,
        Some(b'u') => read(text.get(run.saturating_add(1)..).unwrap_or_default(), b"00"),
        Some(quoted @ (b'"' | b'/')) => Escape::Of(*quoted),
        Some(_) => Escape::None,
    }
}

/// Reads `zeros` and two digits.
fn read(text: &[u8], zeros: &[u8]) -> Escape {
    let (there, digits) = text.split_at(zeros.len().min(text.len()));
    if !zeros.starts_with(there) {
        return Escape::None;
    }
    let mut value = 0;
    for at in 0..2 {
        let Some(digit) = digits.get(at) else {
            return Escape::Open;
        };
        let Some(digit) = char::from(*digit).to_digit(16) else {
            return Escape::None;
        };
        value = (value << 4) | digit;
    }
    u8::try_from(value).map_or(Escape::None, Escape::Of)
}
