//! Plain tables whose columns line up.

use std::fmt;

use ratatui::text::Span;

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Whether a column's texts end at the right.
    to_right: Vec<bool>,
    /// The heading first.
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows: headings, and whether the texts below end at the right.
    pub(crate) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, bool)>) -> Self {
        let (titles, to_right) =
            columns.into_iter().map(|(title, to_right)| (title.to_owned(), to_right)).unzip();
        Self { to_right, rows: vec![titles] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    /// One row a line. Two blanks stand between columns and none at the end of a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: &str| Span::raw(text).width();
        let widths: Vec<usize> = (0..self.to_right.len())
            .map(|at| {
                self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, column_width), to_right) in row.iter().zip(&widths).zip(&self.to_right) {
                let blanks = " ".repeat(column_width - width(cell));
                let (before, behind) = if *to_right { (&*blanks, "") } else { ("", &*blanks) };
                line += &format!("{before}{cell}{behind}  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_at_their_side() {
        let mut table = Table::new([("NAME", false), ("RATE", true), ("X", false)]);
        table.row(["a", "1", ""].map(str::to_owned));
        table.row(["länger", "12345", "y"].map(str::to_owned));
        assert_eq!(table.to_string(), "NAME     RATE  X\na           1\nlänger  12345  y\n");
    }
}
