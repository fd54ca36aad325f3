//! What a client says of itself: units in, units out, losses by reason.

use std::fmt;

use zibrato_core::frame::{Loss, LossReason, PublisherId};
use zibrato_core::kind::Kind;

/// Units by kind: a counter's are the sum of its values, a timer's its records, a gauge's its sets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flow {
    /// Sum of the values added to counters, wrapping.
    pub counters: u64,
    /// Times that gauges were set, wrapping.
    pub gauges: u64,
    /// Records of timers, wrapping.
    pub timers: u64,
}

impl Flow {
    pub(crate) fn add(&mut self, kind: Kind, units: u64) {
        let sum = match kind {
            Kind::Counter => &mut self.counters,
            Kind::Gauge => &mut self.gauges,
            Kind::Timer => &mut self.timers,
        };
        *sum = sum.wrapping_add(units);
    }

    /// Adds each kind.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            counters: self.counters.wrapping_add(other.counters),
            gauges: self.gauges.wrapping_add(other.gauges),
            timers: self.timers.wrapping_add(other.timers),
        }
    }

    /// Takes each kind away.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            counters: self.counters.wrapping_sub(other.counters),
            gauges: self.gauges.wrapping_sub(other.gauges),
            timers: self.timers.wrapping_sub(other.timers),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counters {} timers {} gauges {}", self.counters, self.timers, self.gauges)
    }
}

/// Counts by [`LossReason`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Losses([u64; LossReason::ALL.len()]);

impl Losses {
    pub(crate) fn add(&mut self, reason: LossReason, count: u64) {
        let sum = &mut self.0[usize::from(reason.code())];
        *sum = sum.wrapping_add(count);
    }

    /// How many measurements were counted for `reason`.
    #[must_use]
    pub fn count(&self, reason: LossReason) -> u64 {
        self.0[usize::from(reason.code())]
    }

    /// Reasons with a count, in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (LossReason, u64)> + '_ {
        LossReason::ALL.into_iter().zip(self.0).filter(|&(_, count)| count != 0)
    }

    pub(crate) fn to_wire(self) -> heapless::Vec<Loss, { zibrato_core::limits::LOSSES_MAX }> {
        self.iter().map(|(reason, count)| Loss { reason: reason.code(), count }).collect()
    }
}

/// A client's account of itself. [`Stats::law_holds`] at every moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// This run's random id.
    pub publisher: PublisherId,
    /// Measurements made at levels that were on, by the last pass of the drain.
    pub offered: Flow,
    /// Those that were counted.
    pub accepted: Flow,
    /// Those that were not: not finite, or of a second kind under one name.
    pub refused: Flow,
    /// Accepted ones whose end frame a broker acknowledged; with wire `legacy` those given to the socket.
    pub delivered: Flow,
    /// Accepted ones that are in the client's state: sent or not, a later frame repeats them.
    pub held: Flow,
    /// Accepted ones that no later frame can bring: with wire `legacy`, beyond its queue.
    pub dropped: Flow,
    /// Measurements that took another way, by reason.
    pub losses: Losses,
    /// Series, overflow series included.
    pub series: usize,
    /// Messages given to sockets, each socket counted.
    pub messages_sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Times that a socket was at its high-water mark.
    pub refused_by_socket: u64,
    /// Brokers that are connected now.
    pub connected: usize,
    /// Levels whose end frame is not acknowledged; only after a shutdown above 0.
    pub unacknowledged: usize,
}

impl Stats {
    /// `offered = accepted + refused` and `accepted = delivered + held + dropped`, for each kind.
    #[must_use]
    pub fn law_holds(&self) -> bool {
        self.offered == self.accepted.plus(self.refused)
            && self.accepted == self.delivered.plus(self.held).plus(self.dropped)
    }
}

impl fmt::Display for Stats {
    /// One line: the law with its numbers, then losses by reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, accepted, refused, delivered, held, dropped, .. } = self;
        write!(
            f,
            "offered [{offered}] = accepted [{accepted}] + refused [{refused}]; \
             accepted = delivered [{delivered}] + held [{held}] + dropped [{dropped}]; \
             series {} messages {} bytes {}",
            self.series, self.messages_sent, self.bytes_sent
        )?;
        for (reason, count) in self.losses.iter() {
            write!(f, " {} {count}", reason.as_str())?;
        }
        match self.unacknowledged {
            0 => {}
            1 => f.write_str("; the end frame of 1 level was not acknowledged")?,
            levels => write!(f, "; the end frames of {levels} levels were not acknowledged")?,
        }
        if self.connected == 0 { f.write_str("; no broker is connected") } else { Ok(()) }
    }
}
