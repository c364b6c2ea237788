//! Segments as Parquet: typed columns for SQL, and every record's line among them.
//!
//! The hashes of a chain are over lines, so the columns are only as good as their agreement with
//! the lines. Whoever reads the lines compares all columns with what the lines say; a file in
//! which somebody changed the figures for SQL and left the lines alone is not read. Worst case: a
//! file made to harm may ask for as much memory as its page headers claim.

use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::Int64Type;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::columns::{Column, LINE, Rows, Values, schema};
use super::{ZSTD_LEVEL, invalid};
use crate::lines::MAX_LINE;

/// Which columns there are, and what they mean. Stands in each file's metadata.
const SCHEMA: &str = "tollgate.parquet/1";
const SCHEMA_KEY: &str = "tollgate.schema";

/// How many rows a group has at most, and about how many bytes of lines. A group is what is held
/// in memory, by whoever writes and by whoever reads.
const GROUP_ROWS: usize = 32 << 10;
const GROUP_BYTES: usize = 16 << 20;

/// How many values are asked for at a time.
const BATCH: usize = 4096;

/// Columns whose values are hardly ever the same twice.
const UNLIKE: [&str; 4] = ["record_id", "seq", "prev_hash", LINE];

/// Writes lines as a Parquet file.
pub(super) fn encode(mut lines: impl BufRead) -> io::Result<Vec<u8>> {
    let mut writer = writer()?;
    let mut rows = Rows::none();
    while let Some(line) = next_line(&mut lines)? {
        rows.add(line.into());
        if rows.count >= GROUP_ROWS || rows.bytes >= GROUP_BYTES {
            write_group(&mut writer, &rows)?;
            rows = Rows::none();
        }
    }
    if rows.count > 0 {
        write_group(&mut writer, &rows)?;
    }
    writer.into_inner().map_err(invalid)
}

fn writer() -> io::Result<SerializedFileWriter<Vec<u8>>> {
    let schema = parse_message_type(&schema()).map_err(invalid)?;
    SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties()?).map_err(invalid)
}

/// Writes rows that need not agree with their lines.
#[cfg(test)]
pub(super) fn encode_rows(groups: &[Rows]) -> io::Result<Vec<u8>> {
    let mut writer = writer()?;
    for rows in groups {
        write_group(&mut writer, rows)?;
    }
    writer.into_inner().map_err(invalid)
}

fn next_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = MAX_LINE as u64 + 1;
    lines.by_ref().take(limit).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        // It could not be told from a whole one when it is read back.
        Some(_) => Err(invalid("the segment ends in the midst of a line")),
    }
}

fn properties() -> io::Result<WriterPropertiesPtr> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(invalid)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by("tollgate".to_owned())
        .set_key_value_metadata(Some(vec![KeyValue::new(
            SCHEMA_KEY.to_owned(),
            SCHEMA.to_owned(),
        )]));
    for name in UNLIKE {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    Ok(Arc::new(properties.build()))
}

fn write_group(writer: &mut SerializedFileWriter<Vec<u8>>, rows: &Rows) -> io::Result<()> {
    let mut group = writer.next_row_group().map_err(invalid)?;
    for (_, column) in &rows.columns {
        match &column.values {
            Values::Bytes(values) => write::<ByteArrayType>(&mut group, values, &column.levels),
            Values::Numbers(values) => write::<Int64Type>(&mut group, values, &column.levels),
            Values::Money(values) => {
                write::<FixedLenByteArrayType>(&mut group, values, &column.levels)
            }
            Values::Flags(values) => write::<BoolType>(&mut group, values, &column.levels),
        }
        .map_err(invalid)?;
    }
    group.close().map_err(invalid)?;
    Ok(())
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: &[i16],
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General(
            "the schema has too few columns".to_owned(),
        ));
    };
    let levels = (!levels.is_empty()).then_some(levels);
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

/// The lines of a Parquet file, each followed by a newline.
pub(super) struct Lines {
    file: SerializedFileReader<Bytes>,
    group: usize,
    lines: std::vec::IntoIter<ByteArray>,
    line: Bytes,
}

impl Lines {
    /// Reads what the file says of itself.
    pub(super) fn open(bytes: Bytes) -> io::Result<Self> {
        let file = guarded(|| SerializedFileReader::new(bytes).map_err(invalid))?;
        let pairs = file.metadata().file_metadata().key_value_metadata();
        let ours = pairs
            .into_iter()
            .flatten()
            .any(|pair| pair.key == SCHEMA_KEY && pair.value.as_deref() == Some(SCHEMA));
        if !ours {
            return Err(invalid("the columns are not those this version writes"));
        }
        Ok(Self {
            file,
            group: 0,
            lines: Vec::new().into_iter(),
            line: Bytes::new(),
        })
    }

    /// Goes on to the next line; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            if let Some(line) = self.lines.next() {
                let mut whole = Vec::with_capacity(line.len() + 1);
                whole.extend_from_slice(line.data());
                whole.push(b'\n');
                self.line = whole.into();
                return Ok(true);
            }
            if self.group >= self.file.num_row_groups() {
                return Ok(false);
            }
            let lines = guarded(|| {
                let group = self.file.get_row_group(self.group).map_err(invalid)?;
                group_lines(&*group)
            })?;
            self.lines = lines.into_iter();
            self.group += 1;
        }
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.line.is_empty() && !self.advance()? {
            return Ok(0);
        }
        let some = self.line.len().min(buffer.len());
        let (to, from) = (&mut buffer[..some], self.line.split_to(some));
        to.copy_from_slice(&from);
        Ok(some)
    }
}

/// The library panics at some files that nobody sound has written.
fn guarded<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let read = catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|_panic| Err(invalid("this is no Parquet that can be read")))
}

/// The lines of a group, once its columns have been found to say the same.
fn group_lines(group: &dyn RowGroupReader) -> io::Result<Vec<ByteArray>> {
    let mut read = Column::none();
    let columns = group.num_columns();
    if columns != read.len() {
        return Err(invalid("the file has other columns than it says"));
    }
    for (index, (name, column)) in read.iter_mut().enumerate() {
        let found = group.metadata().column(index).column_path().string();
        if found != *name {
            return Err(invalid(format!(
                "column {found} stands where {name} should"
            )));
        }
        let reader = group.get_column_reader(index).map_err(invalid)?;
        fill(reader, column).map_err(invalid)?;
    }
    let Some((
        _,
        Column {
            values: Values::Bytes(lines),
            ..
        },
    )) = read.last()
    else {
        return Err(invalid("there is no column of lines"));
    };
    let mut rows = Rows::none();
    for line in lines {
        rows.add(line.clone());
    }
    for ((name, read), (_, said)) in read.iter().zip(&rows.columns) {
        if read != said {
            let why = format!("column {name} says something else than the lines beside it");
            return Err(invalid(why));
        }
    }
    match read.pop() {
        Some((
            _,
            Column {
                values: Values::Bytes(lines),
                ..
            },
        )) => Ok(lines),
        _ => Ok(Vec::new()),
    }
}

fn fill(reader: ColumnReader, column: &mut Column) -> Result<(), ParquetError> {
    let levels = &mut column.levels;
    match (reader, &mut column.values) {
        (ColumnReader::ByteArrayColumnReader(reader), Values::Bytes(to)) => all(reader, to, levels),
        (ColumnReader::Int64ColumnReader(reader), Values::Numbers(to)) => all(reader, to, levels),
        (ColumnReader::FixedLenByteArrayColumnReader(reader), Values::Money(to)) => {
            all(reader, to, levels)
        }
        (ColumnReader::BoolColumnReader(reader), Values::Flags(to)) => all(reader, to, levels),
        _ => Err(ParquetError::General(
            "a column has another type than it should".to_owned(),
        )),
    }
}

fn all<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    values: &mut Vec<T::T>,
    levels: &mut Vec<i16>,
) -> Result<(), ParquetError> {
    loop {
        let (records, ..) = reader.read_records(BATCH, Some(levels), None, values)?;
        if records == 0 {
            return Ok(());
        }
    }
}
