//! Typed reading of TOML that collects every mistake with its place instead of stopping at the
//! first one.
//!
//! Knows TOML, lines and expected forms; does not know what a tenant or a provider is. At worst it
//! reports a mistake that follows from another one; it never panics and never guesses a value.

mod value;

use std::cell::RefCell;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use value::described;
pub use value::{Read, boolean, integer, money, one_of, parsed, shown, suggestion, text};

/// Something in a file that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file, as it was named to the reader.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The character in the line, counted from 1.
    pub column: usize,
    /// What is wrong and what is expected instead.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
        } = self;
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

/// One file being read, and the mistakes found in it so far.
#[derive(Debug)]
pub struct Source<'t> {
    file: &'t str,
    text: &'t str,
    /// Byte offset at which each line begins.
    lines: Vec<usize>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'t> Source<'t> {
    /// A file by name, with its text.
    #[must_use]
    pub fn new(file: &'t str, text: &'t str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at.saturating_add(1));
        Self {
            file,
            text,
            lines: std::iter::once(0).chain(ends).collect(),
            mistakes: RefCell::default(),
        }
    }

    /// Reads the whole document with `body`, or notes every syntax error and returns `None`.
    pub fn read<T>(&self, body: impl FnOnce(&Section<'_>) -> T) -> Option<T> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let start = error.span().map_or(0, |span| span.start);
            self.mistake(start, error.message().trim().replace('\n', ", "));
        }
        if !errors.is_empty() {
            return None;
        }
        let root = Section {
            source: self,
            table: document.get_ref(),
            start: 0,
            name: String::new(),
            asked: RefCell::default(),
        };
        let value = body(&root);
        root.finish();
        Some(value)
    }

    /// Notes a mistake at a byte offset of the text.
    pub fn mistake(&self, at: usize, message: impl Into<String>) {
        let (line, column) = self.place(at);
        self.mistakes.borrow_mut().push(Mistake {
            file: self.file.to_owned(),
            line,
            column,
            message: message.into(),
        });
    }

    /// Line and column of a byte offset, both counted from 1.
    #[must_use]
    pub fn place(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let end = at.min(self.text.len());
        let before = self.text.get(start..end).unwrap_or_default();
        (line, before.chars().count().saturating_add(1))
    }

    /// All mistakes, in the order of the text.
    #[must_use]
    pub fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort();
        mistakes.dedup();
        mistakes
    }
}

/// One table of the file. Remembers which keys it was asked for; the rest are unknown ones.
#[derive(Debug)]
pub struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    start: usize,
    name: String,
    asked: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    /// Where the table begins, as a byte offset.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Where the value of `key` begins; the table's own start if there is none.
    #[must_use]
    pub fn at(&self, key: &str) -> usize {
        self.table
            .get(key)
            .map_or(self.start, |value| value.span().start)
    }

    /// Whether the table holds `key` at all, well formed or not.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether `key` is a list without elements.
    #[must_use]
    pub fn is_empty_list(&self, key: &str) -> bool {
        let list = self
            .table
            .get(key)
            .and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// Whether `key` holds a table.
    #[must_use]
    pub fn is_table(&self, key: &str) -> bool {
        let value = self.table.get(key);
        value.is_some_and(|value| value.get_ref().is_table())
    }

    /// Notes a mistake at a byte offset.
    pub fn mistake(&self, at: usize, message: impl Into<String>) {
        self.source.mistake(at, message);
    }

    /// The value of `key`, if it is there and well formed.
    pub fn optional<T>(&self, key: &str, read: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<T> {
        let value = self.look(key)?;
        read(value.get_ref())
            .map_err(|wrong| self.mistake(value.span().start, format!("`{key}` {wrong}")))
            .ok()
    }

    /// The value of `key`; its absence is a mistake.
    pub fn required<T>(&self, key: &str, read: impl Fn(&DeValue<'_>) -> Read<T>) -> Option<T> {
        if !self.has(key) {
            let place = self.described();
            self.look(key);
            self.mistake(self.start, format!("{place} lacks `{key}`"));
        }
        self.optional(key, read)
    }

    /// The elements of the list `key`, each with its offset. Malformed elements are left out.
    pub fn list<T>(&self, key: &str, read: impl Fn(&DeValue<'_>) -> Read<T>) -> Vec<(T, usize)> {
        let Some(value) = self.look(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let found = described(value.get_ref());
            self.mistake(
                value.span().start,
                format!("`{key}` must be a list such as [\"a\", \"b\"], not {found}"),
            );
            return Vec::new();
        };
        let mut elements = Vec::new();
        for element in array.iter() {
            let at = element.span().start;
            match read(element.get_ref()) {
                Ok(good) => elements.push((good, at)),
                Err(wrong) => self.mistake(at, format!("`{key}` {wrong}")),
            }
        }
        elements
    }

    /// The table `key`, handed to `body`.
    pub fn table<T>(&self, key: &str, body: impl FnOnce(&Section<'_>) -> T) -> Option<T> {
        let value = self.look(key)?;
        self.inside(self.dotted(key), value, body)
    }

    /// Hands an empty table to `body`, for one that is not in the file.
    pub fn absent<T>(&self, body: impl FnOnce(&Section<'_>) -> T) -> T {
        body(&Section {
            source: self.source,
            table: &DeTable::new(),
            start: self.start,
            name: String::new(),
            asked: RefCell::default(),
        })
    }

    /// Every table of the array `[[key]]`, handed to `body` one by one.
    pub fn tables<T>(&self, key: &str, mut body: impl FnMut(&Section<'_>) -> T) -> Vec<T> {
        let Some(value) = self.look(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.mistake(
                value.span().start,
                format!(
                    "`{key}` must be written [[{}]], once for each",
                    self.dotted(key)
                ),
            );
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|element| {
                self.inside(format!("[{}]", self.dotted(key)), element, &mut body)
            })
            .collect()
    }

    /// Every value of the table `key`, whose keys are data: its name, the name's offset, and what
    /// was read. Malformed values are left out.
    pub fn values<T>(
        &self,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Read<T>,
    ) -> Vec<(&'a str, usize, T)> {
        let mut values = Vec::new();
        for (name, value) in self.map(key).into_iter().flatten() {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            match read(value.get_ref()) {
                Ok(good) => values.push((name, at, good)),
                Err(wrong) => self.mistake(
                    value.span().start,
                    format!("`{key}.{}` {wrong}", shown(name)),
                ),
            }
        }
        values
    }

    /// Every entry of the table `key`: its name, the name's offset, and its own table.
    pub fn entries<T>(
        &self,
        key: &str,
        mut body: impl FnMut(&str, usize, &Section<'_>) -> T,
    ) -> Vec<T> {
        let Some(table) = self.map(key) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let path = format!("{}.{name}", self.dotted(key));
            entries.extend(self.inside(path, value, |section| body(name, at, section)));
        }
        entries
    }

    /// The table `key`, whose keys are data.
    fn map(&self, key: &str) -> Option<&'a DeTable<'a>> {
        let value = self.look(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let found = described(value.get_ref());
            self.mistake(
                value.span().start,
                format!("`{key}` must be a table, not {found}"),
            );
        }
        table
    }

    /// Notes every key nobody asked for.
    fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if !asked.iter().any(|known| known == name) {
                let place = self.described();
                let hint = suggestion(name, asked.iter().map(String::as_str));
                self.mistake(
                    key.span().start,
                    format!("{place} has no key `{}`{hint}", shown(name)),
                );
            }
        }
    }

    fn look(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|known| known == key) {
            asked.push(key.to_owned());
        }
        self.table.get(key)
    }

    fn inside<T>(
        &self,
        name: String,
        value: &Spanned<DeValue<'_>>,
        body: impl FnOnce(&Section<'_>) -> T,
    ) -> Option<T> {
        let start = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let found = described(value.get_ref());
            self.mistake(start, format!("`{name}` must be a table, not {found}"));
            return None;
        };
        let section = Section {
            source: self.source,
            table,
            start,
            name,
            asked: RefCell::default(),
        };
        let made = body(&section);
        section.finish();
        Some(made)
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn described(&self) -> String {
        if self.name.is_empty() {
            "the file".to_owned()
        } else {
            format!("[{}]", self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let source = Source::new("f", "a\nüb\n");
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(2), (2, 1));
        assert_eq!(source.place(4), (2, 2));
        assert_eq!(source.place(999), (3, 1));
    }
}
