//! Where bucket counts are stored: growing on a host, fixed elsewhere.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

/// Storage for consecutive bucket counts.
pub trait Cells: Default {
    /// Number of cells.
    fn len(&self) -> usize;

    /// Whether there are no cells.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The count of cell `at`; 0 beyond the end.
    fn at(&self, at: usize) -> u64;

    /// Adds `n` to cell `at`, wrapping; false, and nothing done, beyond the end.
    fn add(&mut self, at: usize, n: u64) -> bool;

    /// Makes every count 0; the number of cells stays.
    fn clear(&mut self);

    /// Adds `front` zero cells before the first and `back` behind the last; if there is no room,
    /// changes nothing and returns false.
    fn grow(&mut self, front: usize, back: usize) -> bool;

    /// Adds each pair of neighbours into one cell; with `first_alone` the first cell is the second
    /// half of a pair whose first half is not stored.
    fn halve(&mut self, first_alone: bool);
}

/// Adds neighbours of `cells` in place and returns how many are left.
fn halve_in_place<T: Copy>(cells: &mut [T], first_alone: bool, add: impl Fn(T, T) -> T) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < cells.len() {
        let alone = (first_alone && from == 0) || from + 1 == cells.len();
        cells[to] = if alone { cells[from] } else { add(cells[from], cells[from + 1]) };
        from += if alone { 1 } else { 2 };
        to += 1;
    }
    to
}

impl<const N: usize> Cells for heapless::Vec<u32, N> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn at(&self, at: usize) -> u64 {
        self.get(at).copied().unwrap_or(0).into()
    }

    fn add(&mut self, at: usize, n: u64) -> bool {
        let cell = self.get_mut(at);
        // Cells of a device are 32 bits and wrap; the reader widens by difference.
        cell.map(|cell| *cell = cell.wrapping_add(n as u32)).is_some()
    }

    fn clear(&mut self) {
        self.fill(0);
    }

    fn grow(&mut self, front: usize, back: usize) -> bool {
        let old = self.as_slice().len();
        if old + front + back > N || self.resize(old + front + back, 0).is_err() {
            return false;
        }
        self.copy_within(..old, front);
        self[..front].fill(0);
        true
    }

    fn halve(&mut self, first_alone: bool) {
        let left = halve_in_place(self, first_alone, u32::wrapping_add);
        self.truncate(left);
    }
}

/// Cells that [`HostCells`] grow by, half an octave at the finest scale.
#[cfg(feature = "alloc")]
const GROWTH_CELLS: usize = 16;

/// Cells that grow, 16 bits each until one of them needs more.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct HostCells(Width);

#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
enum Width {
    Bits16(Vec<u16>),
    Bits32(Vec<u32>),
    Bits64(Vec<u64>),
}

/// Does the same with cells of any width.
#[cfg(feature = "alloc")]
macro_rules! with_cells {
    ($width:expr, $cells:ident => $body:expr) => {
        match $width {
            Width::Bits16($cells) => $body,
            Width::Bits32($cells) => $body,
            Width::Bits64($cells) => $body,
        }
    };
}

#[cfg(feature = "alloc")]
impl Default for HostCells {
    fn default() -> Self {
        Self(Width::Bits16(Vec::new()))
    }
}

#[cfg(feature = "alloc")]
impl PartialEq for HostCells {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (0..self.len()).all(|at| self.at(at) == other.at(at))
    }
}

#[cfg(feature = "alloc")]
impl HostCells {
    /// Doubles the width; 64 bits stay.
    #[cold]
    fn widen(&mut self) {
        self.0 = match &self.0 {
            Width::Bits16(cells) => Width::Bits32(cells.iter().copied().map(u32::from).collect()),
            Width::Bits32(cells) => Width::Bits64(cells.iter().copied().map(u64::from).collect()),
            Width::Bits64(_) => return,
        };
    }

    /// Stores a count, in wider cells if it needs them.
    fn set(&mut self, at: usize, count: u64) {
        loop {
            match &mut self.0 {
                Width::Bits16(cells) if count <= u16::MAX.into() => cells[at] = count as u16,
                Width::Bits32(cells) if count <= u32::MAX.into() => cells[at] = count as u32,
                Width::Bits64(cells) => cells[at] = count,
                Width::Bits16(_) | Width::Bits32(_) => {
                    self.widen();
                    continue;
                }
            }
            return;
        }
    }
}

/// Adds to a cell; false if it is not there or would overflow.
#[cfg(feature = "alloc")]
macro_rules! add_within {
    ($cells:expr, $at:expr, $n:expr) => {
        match ($cells.get_mut($at), $n.try_into()) {
            (Some(cell), Ok(n)) => cell.checked_add(n).map(|sum| *cell = sum).is_some(),
            _ => false,
        }
    };
}

#[cfg(feature = "alloc")]
impl Cells for HostCells {
    fn len(&self) -> usize {
        with_cells!(&self.0, cells => cells.len())
    }

    #[allow(clippy::useless_conversion, reason = "useless for the widest only")]
    fn at(&self, at: usize) -> u64 {
        with_cells!(&self.0, cells => cells.get(at).copied().map_or(0, u64::from))
    }

    #[inline]
    fn add(&mut self, at: usize, n: u64) -> bool {
        let added = match &mut self.0 {
            Width::Bits16(cells) => add_within!(cells, at, n),
            Width::Bits32(cells) => add_within!(cells, at, n),
            Width::Bits64(_) => false,
        };
        if !added {
            if at >= self.len() {
                return false;
            }
            self.set(at, self.at(at).wrapping_add(n));
        }
        true
    }

    /// The cells are narrow again: counts that fitted 16 bits once will mostly do so again.
    fn clear(&mut self) {
        match &mut self.0 {
            Width::Bits16(cells) => cells.fill(0),
            _ => self.0 = Width::Bits16(alloc::vec![0; self.len()]),
        }
    }

    fn grow(&mut self, front: usize, back: usize) -> bool {
        fn zeros<T: Copy + Default>(cells: &mut Vec<T>, front: usize, back: usize) {
            let (old, new) = (cells.len(), cells.len() + front + back);
            if new > cells.capacity() {
                // In small steps and not by doubling: a program has as many of these as timers.
                cells.reserve_exact(new.next_multiple_of(GROWTH_CELLS) - old);
            }
            cells.resize(new, T::default());
            if front > 0 {
                cells.copy_within(..old, front);
                cells[..front].fill(T::default());
            }
        }
        with_cells!(&mut self.0, cells => zeros(cells, front, back));
        true
    }

    fn halve(&mut self, first_alone: bool) {
        let has_room = match &self.0 {
            Width::Bits16(cells) => cells.iter().all(|&cell| cell < 1 << 15),
            Width::Bits32(cells) => cells.iter().all(|&cell| cell < 1 << 31),
            Width::Bits64(_) => true,
        };
        if !has_room {
            self.widen();
        }
        with_cells!(&mut self.0, cells => {
            let left = halve_in_place(cells, first_alone, |a, b| a.wrapping_add(b));
            cells.truncate(left);
        });
    }
}
