//! The unfinished piece at the end of what a cutter has been fed so far.
//!
//! Keeps it until the bytes that end it come, and hands it on whole. It does not know what ends a
//! piece. Worst case: a piece longer than the bound is handed on in parts, unread.

use super::framing::Piece;

/// At most `max_bytes` of one piece.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) kept: Vec<u8>,
    /// Whether the piece that is passing is too long to be read.
    oversized: bool,
    max_bytes: usize,
}

impl Unfinished {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            kept: Vec::new(),
            oversized: false,
            max_bytes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether nothing has come of the next piece.
    pub(super) fn is_idle(&self) -> bool {
        self.kept.is_empty() && !self.oversized
    }

    /// Takes more of a piece that does not end in `part`.
    pub(super) fn keep(&mut self, part: &[u8], piece: &mut impl FnMut(Piece<'_>)) {
        if self.oversized {
            if !part.is_empty() {
                piece(Piece::Oversized(part));
            }
            return;
        }
        self.kept.extend_from_slice(part);
        if self.kept.len() > self.max_bytes {
            self.oversized = true;
            piece(Piece::Oversized(&self.kept));
            self.kept = Vec::new();
        }
    }

    /// Hands on the piece that ends with `end`, as `whole` reads it.
    pub(super) fn complete(
        &mut self,
        end: &[u8],
        whole: fn(&[u8]) -> Piece<'_>,
        piece: &mut impl FnMut(Piece<'_>),
    ) {
        if std::mem::take(&mut self.oversized) {
            piece(Piece::Oversized(end));
        } else if self.kept.is_empty() {
            piece(whole(end));
        } else {
            self.kept.extend_from_slice(end);
            piece(whole(&self.kept));
            self.kept.clear();
        }
    }

    /// What is left at the end of the stream, as `rest` reads it, if there is anything.
    pub(super) fn end(&mut self, rest: fn(&[u8]) -> Piece<'_>, mut piece: impl FnMut(Piece<'_>)) {
        let kept = std::mem::take(&mut self.kept);
        if !kept.is_empty() {
            piece(rest(&kept));
        }
    }
}
