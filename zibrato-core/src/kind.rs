//! The three kinds of metric.

use core::fmt;

/// What a metric measures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Kind {
    /// A sum of non-negative whole numbers.
    Counter = 0,
    /// A value that is set; the last one counts.
    Gauge = 1,
    /// Durations: count, sum and distribution.
    Timer = 2,
}

impl Kind {
    /// The kind with this wire code (WIRE.md section 5), or `None` for a kind of a later version.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Counter),
            1 => Some(Self::Gauge),
            2 => Some(Self::Timer),
            _ => None,
        }
    }

    /// The wire code of this kind.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Lower-case English name: `counter`, `gauge` or `timer`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Timer => "timer",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
