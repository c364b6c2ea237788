//! Sorted runs of rows in a temporary file, and their merge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use tollgate_core::money::PicoUsd;
use tollgate_core::report::{Order, Ranked, Row, Sums};
use tollgate_core::time::Timestamp;

/// How much of a run is read at once, in bytes: a few hundred rows.
const PIECE: usize = 64 << 10;

/// What stands for a time that there is not.
const NEVER: i64 = i64::MIN;

/// Runs in one file.
#[derive(Debug)]
pub(super) struct Runs {
    file: File,
    places: Vec<Range<u64>>,
}

impl Runs {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            places: Vec::new(),
        })
    }

    /// Writes a run of rows that are in their order.
    pub(super) fn write<'r>(&mut self, rows: impl IntoIterator<Item = &'r Row>) -> io::Result<()> {
        let start = self.places.last().map_or(0, |place| place.end);
        let mut end = start;
        let mut out = BufWriter::with_capacity(PIECE, &self.file);
        let mut bytes = Vec::new();
        for row in rows {
            bytes.clear();
            to_bytes(row, &mut bytes)?;
            out.write_all(&bytes)?;
            end += bytes.len() as u64;
        }
        out.flush()?;
        drop(out);
        if end > start {
            self.places.push(start..end);
        }
        Ok(())
    }

    /// Sorts rows and writes them; leaves none.
    pub(super) fn write_ranked(&mut self, rows: &mut Vec<Ranked>) -> io::Result<()> {
        rows.sort_unstable();
        self.write(rows.iter().map(|ranked| &ranked.row))?;
        rows.clear();
        Ok(())
    }
}

/// A part of a file, read without moving where others read.
struct Piece<'f> {
    file: &'f File,
    place: Range<u64>,
}

impl Read for Piece<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.place.end - self.place.start).unwrap_or(usize::MAX);
        let most = left.min(to.len());
        let read = self.file.read_at(&mut to[..most], self.place.start)?;
        self.place.start += read as u64;
        Ok(read)
    }
}

struct Head {
    ranked: Ranked,
    run: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.ranked, self.run).cmp(&(&other.ranked, other.run))
    }
}

/// Rows of many runs in one order; those of the same key summed.
pub(super) struct Merge<'f> {
    order: Order,
    runs: Vec<BufReader<Piece<'f>>>,
    heads: BinaryHeap<Reverse<Head>>,
}

impl<'f> Merge<'f> {
    pub(super) fn new(runs: &'f [Runs], order: Order) -> io::Result<Self> {
        let pieces = runs.iter().flat_map(|runs| {
            let place = move |place: &Range<u64>| Piece {
                file: &runs.file,
                place: place.clone(),
            };
            runs.places.iter().map(place)
        });
        let mut merge = Self {
            order,
            runs: pieces
                .map(|piece| BufReader::with_capacity(PIECE, piece))
                .collect(),
            heads: BinaryHeap::new(),
        };
        for run in 0..merge.runs.len() {
            merge.advance(run)?;
        }
        Ok(merge)
    }

    pub(super) fn next_row(&mut self) -> io::Result<Option<Row>> {
        let Some(mut row) = self.pop()? else {
            return Ok(None);
        };
        while let Some(Reverse(head)) = self.heads.peek()
            && head.ranked.row.key == row.key
        {
            if let Some(same) = self.pop()? {
                row.sums.add(&same.sums);
            }
        }
        Ok(Some(row))
    }

    fn pop(&mut self) -> io::Result<Option<Row>> {
        let Some(Reverse(Head { ranked, run })) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(run)?;
        Ok(Some(ranked.row))
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        if let Some(row) = from_bytes(&mut self.runs[run])? {
            let ranked = Ranked {
                order: self.order,
                row,
            };
            self.heads.push(Reverse(Head { ranked, run }));
        }
        Ok(())
    }
}

fn to_bytes(row: &Row, bytes: &mut Vec<u8>) -> io::Result<()> {
    let Row { key, sums } = row;
    let length = u32::try_from(key.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(key.as_bytes());
    let Sums {
        calls,
        refusals,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        cost,
        estimated,
        estimated_cost,
        asked,
        first,
        last,
    } = *sums;
    for count in [
        calls,
        refusals,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        estimated,
    ] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    for money in [cost, estimated_cost, asked] {
        bytes.extend_from_slice(&money.as_pico().to_le_bytes());
    }
    for time in [first, last] {
        let micros = time.map_or(NEVER, Timestamp::as_micros);
        bytes.extend_from_slice(&micros.to_le_bytes());
    }
    Ok(())
}

fn from_bytes(from: &mut BufReader<Piece<'_>>) -> io::Result<Option<Row>> {
    if from.get_ref().place.is_empty() && from.buffer().is_empty() {
        return Ok(None);
    }
    let mut key = vec![0; u32::from_le_bytes(array(from)?) as usize];
    from.read_exact(&mut key)?;
    let key = String::from_utf8(key).map_err(io::Error::other)?;
    let mut count = || array(from).map(u64::from_le_bytes);
    let mut sums = Sums {
        calls: count()?,
        refusals: count()?,
        input_tokens: count()?,
        cached_input_tokens: count()?,
        output_tokens: count()?,
        estimated: count()?,
        ..Sums::default()
    };
    let mut money = || array(from).map(|bytes| PicoUsd::new(i128::from_le_bytes(bytes)));
    sums.cost = money()?;
    sums.estimated_cost = money()?;
    sums.asked = money()?;
    let mut time = || {
        let micros = array(from).map(i64::from_le_bytes)?;
        io::Result::Ok((micros != NEVER).then(|| Timestamp::from_micros(micros)))
    };
    sums.first = time()?;
    sums.last = time()?;
    Ok(Some(Row {
        key: key.into(),
        sums,
    }))
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
