//! The drain's work by hand, without a thread or a socket, for `benches/drain.rs`. No promise to anybody.

use std::time::Instant;

use zibrato_core::frame::PublisherId;
use zibrato_core::{Drain, registry};

use crate::publisher::{Identity, Publisher};

/// A drain and the state that it fills.
#[expect(missing_debug_implementations, reason = "for a bench")]
pub struct Folding {
    drain: Drain,
    publisher: Publisher,
}

impl Folding {
    /// Turns all always levels on. `None` if a client runs.
    #[must_use]
    pub fn start() -> Option<Self> {
        let mut drain = Drain::claim()?;
        zibrato_core::clock::calibrate();
        let identity = Identity {
            id: PublisherId([1; 16]),
            source: String::new(),
            program: String::new(),
            host: String::new(),
            pid: 0,
            started: Instant::now(),
        };
        let publisher = Publisher::new(identity, usize::MAX, None, &mut drain);
        registry::switch(true, Vec::new());
        Some(Self { drain, publisher })
    }

    /// Takes what is in the rings; returns the most records that one had.
    pub fn fold_rings(&mut self) -> usize {
        self.publisher.fold_rings(&mut self.drain)
    }

    /// Takes what is in the cells.
    pub fn fold_cells(&mut self) {
        self.publisher.fold_cells(&mut self.drain);
    }

    /// Adds up the cells of all threads, the first half of [`Folding::fold_cells`].
    pub fn read_cells(&mut self, totals: &mut Vec<u64>) {
        self.drain.counters(totals);
    }
}
