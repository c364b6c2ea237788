//! Tables as spreadsheets and dashboards write them (RFC 4180), with commas or tabs.
//!
//! Quoted fields may hold separators and line breaks. Columns are found by their names, so that
//! their order, and columns nobody asks for, do not matter.

/// A table: names of columns and rows, each with the line it begins in.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<String>,
    /// Line and cells.
    pub(super) rows: Vec<(usize, Vec<String>)>,
}

impl Table {
    /// Reads a table; says the line in which it breaks off, or in which cells are missing.
    pub(super) fn read(text: &str) -> Result<Self, usize> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let first = text.lines().next().unwrap_or_default();
        let separator = if first.contains('\t') && !first.contains(',') {
            '\t'
        } else {
            ','
        };
        let mut rows = cells(text, separator)?.into_iter();
        let (_, columns) = rows.next().ok_or(1_usize)?;
        let columns: Vec<String> = columns.iter().map(|name| name.trim().to_owned()).collect();
        let rows: Vec<(usize, Vec<String>)> = rows
            .filter(|(_, row)| row.iter().any(|cell| !cell.is_empty()))
            .collect();
        match rows.iter().find(|(_, row)| row.len() > columns.len()) {
            Some((line, _)) => Err(*line),
            None => Ok(Self { columns, rows }),
        }
    }

    /// Whether there is a column of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column == name)
    }

    /// The cell of a row in a column; empty if there is none.
    pub(super) fn cell<'r>(&self, row: &'r [String], name: &str) -> &'r str {
        let place = self.columns.iter().position(|column| column == name);
        let cell = place.and_then(|place| row.get(place));
        cell.map_or("", |cell| cell.trim())
    }
}

fn cells(text: &str, separator: char) -> Result<Vec<(usize, Vec<String>)>, usize> {
    let mut rows = Vec::new();
    let (mut row, mut cell) = (Vec::new(), String::new());
    let (mut line, mut began) = (1_usize, 1_usize);
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' {
            line = line.saturating_add(1);
        }
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            _ if quoted => cell.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                row.push(std::mem::take(&mut cell));
                rows.push((began, std::mem::take(&mut row)));
                began = line;
            }
            c if c == separator => row.push(std::mem::take(&mut cell)),
            other => cell.push(other),
        }
    }
    if quoted {
        return Err(began);
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push((began, row));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_name_whatever_stands_in_them() {
        let text = "\u{feff}a,b,c\r\n1,\"x, \"\"y\"\"\nz\",3\r\n\r\n4,5\n";
        let table = Table::read(text).expect("a table");
        let of = |row: usize, name| table.cell(&table.rows[row].1, name).to_owned();
        assert_eq!(
            (of(0, "b").as_str(), of(0, "c").as_str()),
            ("x, \"y\"\nz", "3")
        );
        assert_eq!((of(1, "a").as_str(), of(1, "c").as_str()), ("4", ""));
        assert_eq!(table.rows[1].0, 5, "its line");
        let tabs = Table::read("a\tb\n1\t2\n").expect("a table");
        assert_eq!(tabs.cell(&tabs.rows[0].1, "b"), "2");
        assert_eq!(Table::read("a,b\n1,\"2\n").map(|_| ()), Err(2));
        assert_eq!(Table::read("a\n1,2\n").map(|_| ()), Err(2));
        assert_eq!(Table::read("").map(|_| ()), Err(1));
    }
}
