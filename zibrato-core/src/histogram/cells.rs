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

    /// Adds `n` to cell `at`, wrapping; nothing beyond the end.
    fn add(&mut self, at: usize, n: u64);

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

    fn add(&mut self, at: usize, n: u64) {
        if let Some(cell) = self.get_mut(at) {
            // Cells of a device are 32 bits and wrap; the reader widens by difference.
            *cell = cell.wrapping_add(n as u32);
        }
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

/// Cells that grow, 32 bits each until one of them needs more.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct HostCells(Width);

#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
enum Width {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

#[cfg(feature = "alloc")]
impl Default for HostCells {
    fn default() -> Self {
        Self(Width::Narrow(Vec::new()))
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
    fn widen(&mut self) -> &mut Vec<u64> {
        if let Width::Narrow(cells) = &self.0 {
            self.0 = Width::Wide(cells.iter().copied().map(u64::from).collect());
        }
        match &mut self.0 {
            Width::Wide(cells) => cells,
            Width::Narrow(_) => unreachable!("widened above"),
        }
    }
}

#[cfg(feature = "alloc")]
impl Cells for HostCells {
    fn len(&self) -> usize {
        match &self.0 {
            Width::Narrow(cells) => cells.len(),
            Width::Wide(cells) => cells.len(),
        }
    }

    fn at(&self, at: usize) -> u64 {
        match &self.0 {
            Width::Narrow(cells) => cells.get(at).copied().map_or(0, u64::from),
            Width::Wide(cells) => cells.get(at).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, at: usize, n: u64) {
        if at >= self.len() {
            return;
        }
        let sum = self.at(at).wrapping_add(n);
        if let (Width::Narrow(cells), Ok(sum)) = (&mut self.0, u32::try_from(sum)) {
            cells[at] = sum;
        } else {
            self.widen()[at] = sum;
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
        match &mut self.0 {
            Width::Narrow(cells) => zeros(cells, front, back),
            Width::Wide(cells) => zeros(cells, front, back),
        }
        true
    }

    fn halve(&mut self, first_alone: bool) {
        let narrow = match &self.0 {
            Width::Narrow(cells) => cells.iter().all(|&cell| cell < 1 << 31),
            Width::Wide(_) => false,
        };
        match &mut self.0 {
            Width::Narrow(cells) if narrow => {
                let left = halve_in_place(cells, first_alone, u32::wrapping_add);
                cells.truncate(left);
            }
            _ => {
                let cells = self.widen();
                let left = halve_in_place(cells, first_alone, u64::wrapping_add);
                cells.truncate(left);
            }
        }
    }
}
