//! Time as a device's thread sees it: one reading of both clocks at a time, handed down, so that what is computed
//! from it can be tested.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A reading of this machine's clocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Moment {
    /// Microseconds of the monotonic clock since the [`Clock`]'s start.
    pub(crate) mono_us: u64,
    /// The wall clock, in unix microseconds.
    pub(crate) unix_us: u64,
}

impl Moment {
    /// The wall clock, in unix milliseconds.
    pub(crate) const fn unix_ms(self) -> u64 {
        self.unix_us / 1_000
    }

    /// Milliseconds of the monotonic clock since `earlier`.
    pub(crate) const fn ms_since(self, earlier: Self) -> u64 {
        self.mono_us.saturating_sub(earlier.mono_us) / 1_000
    }
}

/// Where moments come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn now(self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment {
            mono_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            unix_us: u64::try_from(unix.as_micros()).unwrap_or(u64::MAX),
        }
    }
}
