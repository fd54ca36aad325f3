//! One publisher on one level: which of its frames came, and its series.

use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use zibrato_core::frame::{Header, PublisherId};
use zibrato_core::limits::WINDOW_MS_DEFAULT;

use super::rows::KeptStream;
use super::sequence::Sequence;
use super::{
    BUCKET_PATIENCE_KEY_PERIODS, BUCKET_PATIENCE_MS_MIN, Counts, Series, WINDOW_MS_MAX, two_key_periods_ms,
};

/// Windows of silence that are no sign of anything.
const SILENT_WINDOWS: u64 = 3;
/// How many series are compared with a state's before its identity is hashed: with one in eight changed still quicker.
const AHEAD: usize = 8;

/// Where a series is. It is held on to only while the stream is not forgotten: from the list of what changed until a flush
/// is committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The slot of its stream.
    pub(super) slot: usize,
    /// Where it is in [`Stream::series`].
    pub(super) at: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) publisher: PublisherId,
    pub(super) level: usize,
    /// When the publisher started, on the worker's clock.
    pub(super) start_ms: u64,
    /// Its whole life is to be counted: it started after the level's horizon or was young when
    /// first seen. Decided once, so that all its series are treated alike.
    owed: bool,
    /// A complete key frame was applied: a series that appears later is new.
    synced: bool,
    /// A series was refused, so one that appears later need not be new.
    pub(super) refused: bool,
    pub(super) ended: bool,
    pub(super) vanished: bool,
    pub(super) sequence: Sequence,
    /// Frames up to this number may be unknown although `sequence` has them: a restored ledger
    /// knows them only as far as their series had been flushed.
    walk_to: u64,
    window_ms: u32,
    /// When it was heard last, in awake time; negative if that was before the ledger's start.
    pub(super) heard_ms: i64,
    /// Since when something is missing, in awake time.
    pub(super) gap_since_ms: Option<u64>,
    /// When a replay was asked for because of silence, in awake time.
    pub(super) asked_ms: Option<u64>,
    /// Whether its row is to be written.
    pub(super) dirty: bool,
    /// In the order in which they were added. None is taken out, so each stays where it is.
    pub(super) series: IndexMap<Arc<[u8]>, Series, DefaultHashBuilder>,
    /// Where the series of the last state is.
    last: usize,
}

impl Stream {
    pub(super) fn new(
        publisher: PublisherId,
        level: usize,
        start_ms: u64,
        owed: bool,
        heard_ms: i64,
    ) -> Self {
        Self {
            publisher,
            level,
            start_ms,
            owed,
            synced: false,
            refused: false,
            ended: false,
            vanished: false,
            sequence: Sequence::new(owed),
            walk_to: 0,
            window_ms: WINDOW_MS_DEFAULT,
            heard_ms,
            gap_since_ms: None,
            asked_ms: None,
            dirty: true,
            series: IndexMap::default(),
            last: usize::MAX,
        }
    }

    /// Whether a series that is seen for the first time counts from zero.
    pub(super) const fn counts_from_zero(&self) -> bool {
        self.owed || (self.synced && !self.refused)
    }

    /// Where in [`Stream::series`] the one with this identity is. A publisher sends its series in one order and leaves out
    /// those that did not change, so the [`AHEAD`] that came behind the last one are looked at first: that is quicker than
    /// a hash. A guess that is wrong costs time alone.
    pub(super) fn find(&mut self, identity: &[u8]) -> Option<usize> {
        let mut next = self.next_of(self.last);
        for _ in 0..AHEAD {
            let Some((name, series)) = self.series.get_index(next) else { break };
            if **name == *identity {
                self.last = next;
                return Some(next);
            }
            next = series.next as usize;
        }
        let found = self.series.get_index_of(identity);
        // One that is not known comes to the end.
        let at = found.unwrap_or(self.series.len());
        if let Some((_, last)) = self.series.get_index_mut(self.last) {
            last.next = hint(at);
        }
        self.last = at;
        found
    }

    /// Adds a series that is not there; returns where it is.
    pub(super) fn add(&mut self, identity: Arc<[u8]>, mut series: Series) -> usize {
        series.next = hint(self.series.len() + 1);
        self.series.insert_full(identity, series).0
    }

    fn next_of(&self, at: usize) -> usize {
        self.series.get_index(at).map_or(0, |(_, series)| series.next as usize)
    }

    /// Whether nothing more is expected of it.
    pub(super) const fn is_over(&self) -> bool {
        self.ended || self.vanished
    }

    /// Notes a frame part; false if it was received before, or is not needed any more.
    pub(super) fn receive(&mut self, seq: u64, counts: &mut Counts) -> bool {
        let missing = self.sequence.missing();
        let fresh = self.sequence.insert(seq);
        self.account_gaps(missing, counts);
        self.dirty |= fresh;
        fresh
    }

    /// Whether a part that was received before may hold states that are not known.
    pub(super) const fn may_be_unknown(&self, seq: u64) -> bool {
        seq <= self.walk_to
    }

    /// Notes that a frame part exists.
    pub(super) fn announce(&mut self, seq: u64, counts: &mut Counts) {
        let missing = self.sequence.missing();
        self.sequence.announce(seq);
        self.account_gaps(missing, counts);
    }

    /// Notes that the part of a key frame was applied; true if it completed the end frame.
    pub(super) fn applied_key(&mut self, header: &Header, counts: &mut Counts) -> bool {
        let first = header.frame_seq();
        let last = first.saturating_add(u64::from(header.of) - 1);
        if !self.sequence.covers(first, last) {
            return false;
        }
        let missing = self.sequence.missing();
        self.sequence.heal_to(last);
        self.account_gaps(missing, counts);
        self.synced = true;
        self.dirty = true;
        header.flags.end && !std::mem::replace(&mut self.ended, true)
    }

    /// Notes the length of a window; 0 says nothing.
    pub(super) fn note_window(&mut self, window_ms: u32) {
        if window_ms > 0 {
            self.window_ms = window_ms.min(WINDOW_MS_MAX);
        }
    }

    /// How long a timer's flush waits for buckets, in milliseconds. Of a publisher that is gone
    /// nothing is to be waited for.
    pub(super) fn bucket_patience_ms(&self) -> u64 {
        if self.is_over() {
            return 0;
        }
        (BUCKET_PATIENCE_KEY_PERIODS / 2 * self.patience_ms()).max(BUCKET_PATIENCE_MS_MIN)
    }

    /// How long to wait for a key frame before asking for a replay, in milliseconds.
    pub(super) fn patience_ms(&self) -> u64 {
        two_key_periods_ms(self.window_ms)
    }

    /// How long it has been silent, in milliseconds of awake time.
    pub(super) fn silent_ms(&self, awake_ms: u64) -> u64 {
        u64::try_from(i128::from(awake_ms) - i128::from(self.heard_ms)).unwrap_or(0)
    }

    /// Whether it is silent for longer than three windows and `silence_ms`.
    pub(super) fn is_silent(&self, awake_ms: u64, silence_ms: u64) -> bool {
        self.silent_ms(awake_ms) > SILENT_WINDOWS * u64::from(self.window_ms) + silence_ms
    }

    /// Whether a complete key frame would tell something new.
    pub(super) fn wants_key(&self) -> bool {
        self.sequence.missing() > 0 || (!self.owed && !self.synced)
    }

    /// Counts what became missing or came back, and since when something is missing.
    fn account_gaps(&mut self, before: u64, counts: &mut Counts) {
        let after = self.sequence.missing();
        counts.gaps_seen += u128::from(after.saturating_sub(before));
        counts.gaps_healed += u128::from(before.saturating_sub(after));
    }

    /// Sets or clears the time since when something is missing.
    pub(super) fn watch_gap(&mut self, awake_ms: u64) {
        self.gap_since_ms = self.wants_key().then(|| self.gap_since_ms.unwrap_or(awake_ms));
    }

    /// As [`Stream::give_up_gaps`], without writing a row when nothing is missing.
    pub(super) fn give_up_gaps_if_any(&mut self, counts: &mut Counts) {
        if self.sequence.missing() > 0 {
            self.give_up_gaps(counts);
        }
    }

    /// Gives up what is missing.
    pub(super) fn give_up_gaps(&mut self, counts: &mut Counts) {
        counts.gaps_lost += u128::from(self.sequence.give_up());
        self.gap_since_ms = None;
        self.dirty = true;
    }

    pub(super) fn kept(&self, awake_ms: u64) -> KeptStream {
        KeptStream {
            start_ms: self.start_ms,
            received_to: self.sequence.base(),
            rooted: self.sequence.is_rooted(),
            window_ms: self.window_ms,
            owed: self.owed,
            synced: self.synced,
            refused: self.refused,
            ended: self.ended,
            vanished: self.vanished,
            silent_ms: self.silent_ms(awake_ms),
        }
    }

    pub(super) fn restored(publisher: PublisherId, level: usize, kept: &KeptStream) -> Self {
        let heard_ms = 0i64.saturating_sub_unsigned(kept.silent_ms);
        Self {
            synced: kept.synced,
            refused: kept.refused,
            ended: kept.ended,
            vanished: kept.vanished,
            sequence: Sequence::restored(kept.received_to, kept.rooted),
            walk_to: kept.received_to,
            window_ms: kept.window_ms.clamp(1, WINDOW_MS_MAX),
            dirty: false,
            ..Self::new(publisher, level, kept.start_ms, kept.owed, heard_ms)
        }
    }

    /// Forgets what it relied on: rows were damaged, so a series not seen yet need not be new.
    pub(super) fn doubt(&mut self) {
        (self.owed, self.synced, self.dirty) = (false, false, true);
        self.sequence = Sequence::new(false);
    }
}

/// What comes behind a series, as it keeps it; beyond 32 bits nothing does.
fn hint(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Whether no window is missing between the state of a series and part `seq`. `None` is a series that was not seen
/// before; the last complete key frame says when it was not there.
pub(super) fn follows(sequence: &Sequence, series_seq: Option<u64>, seq: u64) -> bool {
    let first = series_seq.unwrap_or(0).saturating_add(1);
    sequence.covers(first, seq.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::State;

    use super::*;

    fn name(at: usize) -> Vec<u8> {
        format!("series {at}").into_bytes()
    }

    fn hundred() -> Stream {
        let mut stream = Stream::new(PublisherId([7; 16]), 0, 0, true, 0);
        for at in 0..100 {
            assert_eq!(stream.find(&name(at)), None);
            assert_eq!(stream.add(name(at).into(), Series::zero(&State::Counter { sum: 0 })), at);
        }
        stream
    }

    #[test]
    fn a_series_is_found_in_any_order() {
        let mut stream = hundred();
        for step in [1, 3, AHEAD, AHEAD + 1, 37, 99, 1] {
            for at in (0..300).map(|place| place * step % 100) {
                assert_eq!(stream.find(&name(at)), Some(at), "in steps of {step}");
            }
        }
        assert_eq!(stream.find(&name(100)), None);
        assert_eq!(stream.find(&name(99)), Some(99), "behind an unknown one");
    }

    #[test]
    fn an_order_is_learned_and_kept_while_some_are_left_out() {
        let mut stream = hundred();
        let order = |place: usize| place * 37 % 100;
        for place in 0..200 {
            stream.find(&name(order(place)));
        }
        for place in (0..200).step_by(AHEAD) {
            stream.find(&name(order(place)));
        }
        for place in 0..99 {
            assert_eq!(stream.next_of(order(place)), order(place + 1));
        }
    }
}
