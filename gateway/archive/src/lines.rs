//! The lines of a segment or object, whatever form it has.
//!
//! A line is given as the gateway wrote it, byte for byte, since its hash is over those bytes. A
//! last line without its newline is one the gateway is writing at this moment, and is left out.
//! Worst case: a line longer than [`MAX_LINE`] ends the reading with an error; the gateway writes
//! none.

use std::io::{self, BufRead, Read};

use tollgate_core::audit::{Form, Item, Name};

use crate::forms;
use crate::shelf::{Shelf, ShelfError};

/// The longest line that is read. Records are some hundred bytes, a few KiB at most.
pub const MAX_LINE: usize = 16 << 20;

/// Lines of one file or object, in their order.
pub struct Lines {
    place: String,
    from: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens what `name` stands for.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(shelf: &dyn Shelf, name: &Name) -> Result<Self, ShelfError> {
        let bytes = shelf.open(name)?;
        let form = match name.item {
            Item::Segment { form, .. } => form,
            Item::Object { .. } | Item::Checkpoint { .. } => Form::JsonLines,
        };
        let place = name.to_string();
        let from = forms::decode(form, bytes).map_err(|cause| ShelfError {
            place: place.clone(),
            cause,
        })?;
        Ok(Self {
            place,
            from,
            line: Vec::new(),
            number: 0,
        })
    }

    /// The next line without its newline, and its number, from one.
    ///
    /// # Errors
    /// If the bytes cannot be read or decoded.
    pub fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, ShelfError> {
        self.line.clear();
        let limit = MAX_LINE as u64 + 1;
        let read = self
            .from
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.line)
            .map_err(|cause| self.failed(cause))?;
        if read > MAX_LINE {
            let cause = io::Error::new(io::ErrorKind::InvalidData, "a line is too long");
            return Err(self.failed(cause));
        }
        self.number += 1;
        Ok(self
            .line
            .strip_suffix(b"\n")
            .map(|line| (self.number, line)))
    }

    fn failed(&self, cause: io::Error) -> ShelfError {
        ShelfError {
            place: self.place.clone(),
            cause,
        }
    }
}

#[cfg(test)]
mod tests;
