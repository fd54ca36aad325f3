//! By which column a page is sorted.

/// Columns that a page can be sorted by.
pub(crate) trait Sortable: Copy + Eq {
    /// All of them, from left to right.
    fn all() -> Vec<Self>;

    /// Whether the largest comes first unless asked otherwise.
    fn is_descending(self) -> bool;
}

/// A column, and whether against its own direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sorting<C> {
    pub(crate) column: C,
    pub(crate) is_reversed: bool,
}

impl<C: Sortable> Sorting<C> {
    /// By a column in its own direction.
    pub(crate) fn by(column: C) -> Self {
        Self { column, is_reversed: false }
    }

    /// Whether the column's largest stands first.
    pub(crate) fn is_descending(&self) -> bool {
        self.column.is_descending() != self.is_reversed
    }

    /// The heading of a column, with an arrow if it is the one; the arrow stands before what is cut.
    pub(crate) fn heading(&self, column: C, title: &str) -> String {
        match (column == self.column, self.is_descending()) {
            (false, _) => title.to_owned(),
            (true, true) => format!("▼{title}"),
            (true, false) => format!("▲{title}"),
        }
    }

    /// Goes to the column `step` to the right, or to the left if it is negative.
    pub(crate) fn step(&mut self, step: isize) {
        let columns = C::all();
        let at = columns.iter().position(|column| *column == self.column).unwrap_or(0);
        // The step is one to the left or right of a handful.
        let at = (at as isize + step).rem_euclid(columns.len() as isize) as usize;
        *self = Self::by(columns[at]);
    }

    /// Goes to the column of a digit from 1, or turns it round if it is that one.
    pub(crate) fn pick(&mut self, digit: char) {
        let at = digit.to_digit(10).map_or(0, |digit| digit.saturating_sub(1));
        match C::all().get(at as usize) {
            Some(column) if *column == self.column => self.reverse(),
            Some(column) => *self = Self::by(*column),
            None => {}
        }
    }

    /// Turns the order round.
    pub(crate) fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
    }
}
