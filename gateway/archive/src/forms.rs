//! The three forms a segment may have, and the way from one to another.
//!
//! Every form gives back the same lines, byte for byte. What a line says is looked at for the
//! columns of Parquet alone. Worst case: a Parquet segment is held in memory as it lies on its
//! shelf, [`MAX_PARQUET`] at most, and one group of its rows beside it.

mod columns;
mod parquet;

use std::io::{self, BufRead, BufReader, Read, Write};

use tollgate_core::audit::Form;

/// The longest Parquet segment that is read. The gateway seals segments at 64 MiB of lines, which
/// become about an eighth of that.
pub const MAX_PARQUET: u64 = 256 << 20;

/// Zstandard's own default: most of the gain for little of the work.
const ZSTD_LEVEL: i32 = 3;

/// The largest window that is decoded, as a power of two: 8 MiB. Level 3 uses two.
const ZSTD_WINDOW: u32 = 23;

/// How much is read at a time.
const CHUNK: usize = 256 << 10;

/// Writes the lines of a segment, JSON Lines as the gateway has them, in another form.
///
/// # Errors
/// If `lines` cannot be read, or end in the midst of a line.
pub fn encode(form: Form, mut lines: impl Read) -> io::Result<Vec<u8>> {
    match form {
        Form::JsonLines => {
            let mut bytes = Vec::new();
            lines.read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Form::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
            // Bits that rot are noticed when it is read, not when a chain is checked.
            encoder.include_checksum(true)?;
            io::copy(&mut lines, &mut encoder)?;
            encoder.flush()?;
            encoder.finish()
        }
        Form::Parquet => parquet::encode(BufReader::with_capacity(CHUNK, lines)),
    }
}

/// The lines of a segment in whatever form, as JSON Lines.
///
/// # Errors
/// If `bytes` are not of that form. Later on, reading fails where they are not.
pub(crate) fn decode(
    form: Form,
    bytes: Box<dyn Read + Send>,
) -> io::Result<Box<dyn BufRead + Send>> {
    match form {
        Form::JsonLines => Ok(Box::new(BufReader::with_capacity(CHUNK, bytes))),
        Form::Zstd => {
            let mut decoder = zstd::Decoder::new(bytes)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Ok(Box::new(BufReader::with_capacity(CHUNK, decoder)))
        }
        Form::Parquet => {
            let mut all = Vec::new();
            bytes.take(MAX_PARQUET + 1).read_to_end(&mut all)?;
            if all.len() as u64 > MAX_PARQUET {
                return Err(invalid("the segment is too long to be read"));
            }
            let lines = parquet::Lines::open(all.into())?;
            Ok(Box::new(BufReader::with_capacity(CHUNK, lines)))
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
