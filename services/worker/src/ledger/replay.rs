//! When to ask the broker for kept frames, who has vanished, and who is forgotten.

use std::collections::HashSet;
use std::sync::Arc;

use super::{FORGOTTEN_MARGIN_MS, Ledger, rows};

/// Least distance of two replays of one level, in milliseconds of awake time.
pub const REPLAY_INTERVAL_MS: u64 = 5_000;

/// Replays of one level.
#[derive(Debug, Default)]
pub(super) struct Asking {
    wanted: bool,
    /// When one was asked for last, in awake time.
    asked_ms: Option<u64>,
    /// When one was complete last, in awake time.
    done_ms: Option<u64>,
}

impl Asking {
    /// A replay would help.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    fn is_due(&self, awake_ms: u64) -> bool {
        self.wanted && self.asked_ms.is_none_or(|asked| awake_ms - asked >= REPLAY_INTERVAL_MS)
    }
}

impl Ledger {
    /// The levels of which kept frames are to be asked for now.
    ///
    /// That is after a start and after each new connection, when a replay came short, when
    /// something has been missing for two key periods, and when a publisher falls silent; at most
    /// every [`REPLAY_INTERVAL_MS`] for each level. Call it about once a second: publishers that are
    /// silent although a replay brought nothing of them are counted as vanished here.
    pub fn replay_wanted(&mut self, now_ms: u64) -> Vec<Arc<str>> {
        self.advance(now_ms);
        self.look_at_publishers();
        let mut due = Vec::new();
        for (at, level) in self.levels.iter_mut().enumerate() {
            if level.subscribed && level.asking.is_due(self.awake_ms) {
                level.asking.wanted = false;
                level.asking.asked_ms = Some(self.awake_ms);
                due.push(at);
            }
        }
        for stream in self.streams.iter_mut().flatten() {
            if due.contains(&stream.level) && stream.is_silent(self.awake_ms, self.config.silence_ms) {
                stream.asked_ms.get_or_insert(self.awake_ms);
            }
        }
        due.into_iter().map(|at| self.levels[at].label.clone()).collect()
    }

    /// A connection to a broker came up, for the first time or again.
    pub fn connected(&mut self, now_ms: u64) {
        self.advance(now_ms);
        self.levels.iter_mut().for_each(|level| level.asking.want());
    }

    /// A replay ended; `complete` says whether every kept frame arrived.
    pub fn replay_done(&mut self, level: &str, complete: bool, now_ms: u64) {
        self.advance(now_ms);
        let Some(level) = self.level_at(level).map(|at| &mut self.levels[at]) else { return };
        if complete {
            level.asking.done_ms = Some(self.awake_ms);
        } else {
            level.asking.want();
        }
    }

    fn look_at_publishers(&mut self) {
        let Self { streams, levels, counts, awake_ms, config, .. } = self;
        for stream in streams.iter_mut().flatten() {
            let level = &mut levels[stream.level];
            if !level.subscribed || stream.vanished {
                continue;
            }
            if stream.ended {
                // Nothing comes after a complete end frame.
                stream.give_up_gaps_if_any(counts);
                continue;
            }
            if stream.gap_since_ms.is_some_and(|since| *awake_ms - since > stream.patience_ms()) {
                stream.gap_since_ms = Some(*awake_ms);
                level.asking.want();
            }
            if !stream.is_silent(*awake_ms, config.silence_ms) {
                continue;
            }
            match stream.asked_ms {
                None => level.asking.want(),
                Some(asked) if level.asking.done_ms.is_some_and(|done| done >= asked) => {
                    stream.vanished = true;
                    counts.vanished += 1;
                    stream.give_up_gaps(counts);
                }
                // The replay that was asked for came to nothing.
                Some(asked) if *awake_ms - asked > stream.patience_ms() => {
                    stream.asked_ms = None;
                    level.asking.want();
                }
                Some(_) => {}
            }
        }
    }

    /// Removes publishers that ended or vanished long ago. Their level's horizon moves behind their
    /// start, so that a frame that turns up after all does not count their life again.
    pub(super) fn forget_silent(&mut self) {
        let forget_ms = self.config.forget_ms;
        let gone: Vec<usize> = (0..self.streams.len())
            .filter(|&slot| {
                self.streams[slot].as_ref().is_some_and(|stream| {
                    let over = stream.is_over() || !self.levels[stream.level].subscribed;
                    over && stream.silent_ms(self.awake_ms) > forget_ms
                })
            })
            .collect();
        if gone.is_empty() {
            return;
        }
        let waiting: HashSet<usize> = self.dirty.iter().map(|place| place.slot).collect();
        for slot in gone.into_iter().filter(|slot| !waiting.contains(slot)) {
            self.forget(slot);
        }
        // What only this set still refers to has no series any more.
        self.names.retain(|name| Arc::strong_count(name) > 1);
    }

    fn forget(&mut self, slot: usize) {
        let Some(mut stream) = self.streams[slot].take() else { return };
        self.free_slots.push(slot);
        self.stream_slots.remove(&(stream.publisher, stream.level));
        if let Some(publisher) = self.publishers.get_mut(&stream.publisher) {
            publisher.slots.retain(|other| *other != slot);
            if publisher.slots.is_empty() {
                self.publishers.remove(&stream.publisher);
            }
        }
        stream.give_up_gaps(&mut self.counts);
        let level = &mut self.levels[stream.level];
        level.horizon_ms = level.horizon_ms.max(stream.start_ms.saturating_add(FORGOTTEN_MARGIN_MS));
        level.dirty = true;
        self.removed.push(rows::stream_key(stream.publisher, &level.label));
        self.native_series -= stream.series.len();
        self.counts.forgotten += 1;
        for (name, series) in &stream.series {
            self.counts.buckets_unknown += series.buckets_left();
            self.removed.push(rows::series_key(stream.publisher, name));
        }
    }
}
