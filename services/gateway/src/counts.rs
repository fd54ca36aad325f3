//! What a device's thread counts, and the law of it.

use std::collections::BTreeMap;
use std::fmt;

use zibrato_core::link::LinkError;

use crate::line::LineCounts;

/// Counts of one device since the gateway's start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceCounts {
    pub(crate) line: LineCounts,
    /// Entries of state frames that came.
    pub entries_offered: u64,
    /// Those that were taken in.
    pub entries_accepted: u64,
    /// Those that were not, by reason.
    pub entries_refused: BTreeMap<&'static str, u64>,
    /// Descriptors that were refused, by reason.
    pub descriptors_refused: BTreeMap<&'static str, u64>,
    /// State frames that were left out because it was not clear of which boot they are; the next ones say the same.
    pub states_withheld: u64,
    /// Samples that came.
    pub samples: u64,
    /// Samples that the device sent and that did not come.
    pub samples_lost: u64,
    /// Records that full rings on the device dropped, of all boots seen.
    pub lost_on_device: u64,
    /// How often it started again while we listened.
    pub resets: u64,
    /// Connections that came up.
    pub connections: u64,
    /// Levels of a boot that ended and whose end frame no broker acknowledged.
    pub ends_unacknowledged: u64,
    /// Messages given to sockets.
    pub messages_sent: u64,
}

impl DeviceCounts {
    /// Bytes that came.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.line.bytes
    }

    /// Frames of the device that came whole.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.line.frames
    }

    /// Frames that the device sent and that did not come, by their numbers.
    #[must_use]
    pub fn frames_lost(&self) -> u64 {
        self.line.lost
    }

    /// Frames that came again and were not taken in twice.
    #[must_use]
    pub fn frames_repeated(&self) -> u64 {
        self.line.repeated
    }

    /// Frames of a kind that is not known.
    #[must_use]
    pub fn frames_unknown(&self) -> u64 {
        self.line.unknown
    }

    /// Pieces of the line that were no frame, by reason, without those that never were.
    pub fn bad(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        LinkError::REASONS.into_iter().zip(self.line.bad).filter(|&(_, count)| count > 0)
    }

    /// All of [`DeviceCounts::bad`].
    #[must_use]
    pub fn bad_total(&self) -> u64 {
        self.line.bad_total()
    }

    pub(crate) fn refuse(&mut self, reason: &'static str) {
        *self.entries_refused.entry(reason).or_default() += 1;
    }

    pub(crate) fn refuse_descriptor(&mut self, reason: &'static str) {
        *self.descriptors_refused.entry(reason).or_default() += 1;
    }

    /// `offered = accepted + refused`.
    #[must_use]
    pub fn law_holds(&self) -> bool {
        self.entries_offered == self.entries_accepted + self.entries_refused.values().sum::<u64>()
    }
}

impl fmt::Display for DeviceCounts {
    /// One line: the law with its numbers, then what was lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.entries_refused.values().sum();
        write!(
            f,
            "entries: offered {} = accepted {} + refused {refused}",
            self.entries_offered, self.entries_accepted
        )?;
        for (reason, count) in &self.entries_refused {
            write!(f, " ({reason} {count})")?;
        }
        write!(
            f,
            "; bytes {} frames {} lost {} repeated {} bad {}",
            self.line.bytes,
            self.line.frames,
            self.line.lost,
            self.line.repeated,
            self.bad_total()
        )?;
        for (reason, count) in self.bad() {
            write!(f, " ({reason} {count})")?;
        }
        write!(
            f,
            "; samples {} lost {}; lost on device {}; resets {}; messages {}",
            self.samples, self.samples_lost, self.lost_on_device, self.resets, self.messages_sent
        )?;
        match self.ends_unacknowledged {
            0 => Ok(()),
            1 => f.write_str("; the end frame of 1 level was not acknowledged"),
            levels => write!(f, "; the end frames of {levels} levels were not acknowledged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_and_every_loss_are_on_one_line() {
        let mut counts = DeviceCounts { entries_offered: 5, entries_accepted: 3, ..DeviceCounts::default() };
        counts.refuse("unknown_id");
        assert!(!counts.law_holds());
        counts.refuse("unknown_id");
        counts.line.bad[LinkError::Crc.index()] = 4;
        counts.ends_unacknowledged = 1;
        assert!(counts.law_holds());
        assert_eq!(
            counts.to_string(),
            "entries: offered 5 = accepted 3 + refused 2 (unknown_id 2); bytes 0 frames 0 lost 0 repeated 0 \
             bad 4 (crc 4); samples 0 lost 0; lost on device 0; resets 0; messages 0; the end frame of 1 level \
             was not acknowledged"
        );
    }
}
