//! What the ledger took in and what became of it, in the units of the law.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{AddAssign, SubAssign};

/// Amounts in the units of the law: a counter's unit is its sum, a timer's a record, a gauge's a set.
///
/// Legacy counters are counted in messages: their values may be fractions and negatives, whose sums
/// depend on the order of the additions and would never add up exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Sum of the increments of native counters.
    pub counters: u128,
    /// Records of timers, native and legacy.
    pub timers: u128,
    /// Sets of gauges, native and legacy.
    pub gauges: u128,
    /// Messages of legacy counters.
    pub legacy_counters: u128,
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.counters += other.counters;
        self.timers += other.timers;
        self.gauges += other.gauges;
        self.legacy_counters += other.legacy_counters;
    }
}

impl SubAssign for Amounts {
    /// Takes away what was added before.
    fn sub_assign(&mut self, other: Self) {
        self.counters = self.counters.saturating_sub(other.counters);
        self.timers = self.timers.saturating_sub(other.timers);
        self.gauges = self.gauges.saturating_sub(other.gauges);
        self.legacy_counters = self.legacy_counters.saturating_sub(other.legacy_counters);
    }
}

impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counters, timers, gauges, legacy_counters } = self;
        write!(f, "counters {counters} timers {timers} gauges {gauges} legacy_counters {legacy_counters}")
    }
}

/// Why a message, frame or state was refused; keys of [`Counts::refused`] beside the decoders' own.
pub mod refusal {
    /// The ledger has as many series as it may have. Counted in states: the state stays with its
    /// publisher, and arrives whole if there is room later.
    pub const SERIES_LIMIT: &str = "series_limit";
    /// The ledger has as many publishers as it may have. Counted in frames.
    pub const PUBLISHER_LIMIT: &str = "publisher_limit";
    /// A level the ledger did not subscribe to. Counted in messages.
    pub const LEVEL: &str = "level";
    /// A message of no known form. Counted in messages.
    pub const UNKNOWN: &str = "unknown_message";
}

/// Why accepted amounts were dropped; keys of [`Counts::dropped`].
pub mod drop_reason {
    /// A legacy message older than backends take.
    pub const TOO_OLD: &str = "too_old";
    /// More points between two flushes than are held; the oldest go.
    pub const POINTS_LIMIT: &str = "points_limit";
    /// More than 64 bits between two flushes, as by a publisher whose sum goes down: 2^64 each time.
    pub const OVERFLOW: &str = "overflow";
    /// A legacy timer below zero.
    pub const NEGATIVE_DURATION: &str = "negative_duration";
}

/// Counters of one run of a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes taken in.
    pub accepted: Amounts,
    /// Changes handed over in committed flushes.
    pub flushed: Amounts,
    /// Changes that wait for the next flush, or for the commit of a prepared one.
    pub held: Amounts,
    /// Sets of gauges beyond the one that a state shows: nothing but the last value is to be kept.
    pub merged: Amounts,
    /// Changes given up, by reason.
    pub dropped: BTreeMap<&'static str, Amounts>,
    /// States, frames or messages not taken in, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// History of publishers that ran before the ledger subscribed, which is not posted.
    pub joined_late: Amounts,
    /// Series with such history.
    pub joined_late_series: u64,

    /// Native frames, heartbeats and duplicates included.
    pub frames: u64,
    /// Frames whose number was received before.
    pub duplicate_frames: u64,
    /// States that were not newer than the one known.
    pub old_states: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Frames found missing. At any time equal to healed, lost and open ones together.
    pub gaps_seen: u128,
    /// Missing frames that came late or that a complete key frame made needless.
    pub gaps_healed: u128,
    /// Missing frames of publishers that ended or vanished first.
    pub gaps_lost: u128,
    /// Missing frames that may still be healed.
    pub gaps_open: u128,
    /// Timer states whose buckets had to wait for a key frame.
    pub buckets_waiting: u64,
    /// Timer records that were flushed without their buckets for good.
    pub buckets_unknown: u64,
    /// Publishers, by level, whose end frame was applied.
    pub ended: u64,
    /// Publishers, by level, that fell silent and of which a replay brought nothing.
    pub vanished: u64,
    /// Publishers, by level, that were removed from memory.
    pub forgotten: u64,

    /// What publishers said they refused, dropped or spilled, by the wire's code of the reason; of
    /// publishers that are forgotten too.
    pub publisher_losses: BTreeMap<u8, u64>,

    /// Legacy messages taken in or dropped.
    pub legacy_messages: u64,
    /// Legacy messages that a broker forwarded and that did not arrive.
    pub legacy_lost: u64,
    /// Names and sources of legacy messages that were changed to the accepted characters.
    pub legacy_sanitised: u64,
    /// Legacy time stamps in the future that were set to the present.
    pub legacy_ahead: u64,
    /// Rows that could not be read when the ledger was restored.
    pub rows_damaged: u64,
}

impl fmt::Display for Counts {
    /// The law with its numbers as one line, in the words of every stage: what came in was offered, and
    /// what a flush took is delivered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted: offered, flushed, held, merged, dropped, .. } = self;
        let mut accepted = *offered;
        accepted -= *merged;
        write!(
            f,
            "offered [{offered}] = accepted [{accepted}] + merged [gauges {}]; \
             accepted [{accepted}] = delivered [{flushed}] + held [{held}] + dropped [",
            merged.gauges
        )?;
        if dropped.is_empty() {
            f.write_str("none")?;
        }
        for (at, (reason, amounts)) in dropped.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{reason}: {amounts}")?;
        }
        f.write_str("]")
    }
}

impl Counts {
    /// Whether everything accepted is accounted for: `accepted = flushed + held + merged + dropped`,
    /// and the gaps add up as well.
    #[must_use]
    pub fn law_holds(&self) -> bool {
        let mut sum = self.flushed;
        sum += self.held;
        sum += self.merged;
        for dropped in self.dropped.values() {
            sum += *dropped;
        }
        sum == self.accepted && self.gaps_seen == self.gaps_healed + self.gaps_lost + self.gaps_open
    }

    /// Counts of one refusal reason, 0 if it never occurred.
    #[must_use]
    pub fn refused(&self, reason: &str) -> u64 {
        self.refused.get(reason).copied().unwrap_or(0)
    }

    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    pub(super) fn drop_amounts(&mut self, reason: &'static str, amounts: Amounts) {
        *self.dropped.entry(reason).or_default() += amounts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_is_told_in_the_words_of_every_stage() {
        let gauges = |gauges| Amounts { gauges, ..Amounts::default() };
        let counts = Counts {
            accepted: gauges(9),
            merged: gauges(4),
            flushed: gauges(3),
            held: gauges(1),
            dropped: [("too_old", gauges(1))].into(),
            ..Counts::default()
        };
        assert!(counts.law_holds());
        let short = counts.to_string().replace("counters 0 timers 0 ", "").replace(" legacy_counters 0", "");
        assert_eq!(
            short,
            "offered [gauges 9] = accepted [gauges 5] + merged [gauges 4]; \
             accepted [gauges 5] = delivered [gauges 3] + held [gauges 1] + dropped [too_old: gauges 1]"
        );
    }
}
