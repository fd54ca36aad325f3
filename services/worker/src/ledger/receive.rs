//! Taking in messages: native frames here, legacy text in its neighbour.

use zibrato_core::frame::{Forwarded, Frame, TOPIC_FORWARDED, TOPIC_STATE};
use zibrato_core::legacy::Message as LegacyMessage;

use super::points::HeldPoint;
use super::series::{Arrival, Series};
use super::stream::{Place, Stream, follows};
use super::{Amounts, Ledger, drop_reason, identity, refusal};
use crate::subscription::{Incoming, Message};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was new and was taken in.
    Taken,
    /// It was known before.
    Duplicate,
    /// It says that a publisher or broker lives, or what it forwarded.
    Noted,
    /// It was dropped, as counted under this reason.
    Dropped(&'static str),
    /// It was refused, as counted under this reason.
    Refused(&'static str),
}

impl Ledger {
    /// Takes in whatever a subscription hands over; what is malformed is counted and dropped.
    pub fn receive(&mut self, incoming: &Incoming, now_ms: u64) -> Applied {
        match &incoming.message {
            Message::Published(bytes) => self.receive_published(incoming.endpoint, bytes, now_ms),
            Message::Replayed { level, untopiced } => match Frame::parse_untopiced(level, untopiced) {
                Ok(frame) => self.apply_frame(&frame, now_ms),
                Err(error) => self.refuse(error.reason()),
            },
            Message::ReplayDone { level, complete } => {
                self.replay_done(level, *complete, now_ms);
                Applied::Noted
            }
            Message::Connected => {
                self.connected(now_ms);
                Applied::Noted
            }
        }
    }

    fn receive_published(&mut self, endpoint: usize, bytes: &[u8], now_ms: u64) -> Applied {
        match bytes.first() {
            Some(&TOPIC_STATE) => match Frame::parse(bytes) {
                Ok(frame) => self.apply_frame(&frame, now_ms),
                Err(error) => self.refuse(error.reason()),
            },
            Some(&TOPIC_FORWARDED) => match Forwarded::parse(bytes) {
                Some(forwarded) => self.apply_forwarded(endpoint, &forwarded, now_ms),
                None => self.refuse(refusal::UNKNOWN),
            },
            _ => match LegacyMessage::parse(bytes) {
                Ok(message) => self.apply_legacy(endpoint, &message, now_ms),
                Err(error) => {
                    // It came through the broker like any other, so it is not lost on the way.
                    self.count_legacy_arrival(endpoint, bytes);
                    self.refuse(error.reason())
                }
            },
        }
    }

    /// Takes in a native frame, live or replayed.
    ///
    /// Of each series only a state newer than the known one counts. A frame of a level that is not
    /// subscribed, or of one publisher more than [`Config::publishers_max`](super::Config), is refused whole; a series
    /// more than [`Config::series_max`](super::Config) is refused by itself.
    pub fn apply_frame(&mut self, frame: &Frame<'_>, now_ms: u64) -> Applied {
        self.advance(now_ms);
        self.counts.frames += 1;
        let Some(level) = self.level_at(frame.level).filter(|&at| self.levels[at].subscribed) else {
            return self.refuse(refusal::LEVEL);
        };
        let Some(slot) = self.slot_of(frame, level) else { return self.refuse(refusal::PUBLISHER_LIMIT) };
        let Some(stream) = &mut self.streams[slot] else { return self.refuse(refusal::PUBLISHER_LIMIT) };
        if let Some(publisher) = self.publishers.get_mut(&stream.publisher) {
            publisher.note(frame, now_ms, &mut self.counts);
        }

        let header = &frame.header;
        stream.note_window(frame.prelude.window_ms);
        let fresh = if header.flags.heartbeat {
            self.counts.heartbeats += 1;
            stream.announce(header.seq, &mut self.counts);
            false
        } else {
            stream.receive(header.seq, &mut self.counts)
        };
        let to_walk = !header.flags.heartbeat && (fresh || stream.may_be_unknown(header.seq));
        // A copy of an old frame is no sign of life, a copy that another broker just sent is.
        if fresh || header.held_ms == 0 {
            stream.heard_ms = stream.heard_ms.max(heard_ms(self.awake_ms, header.held_ms));
            (stream.asked_ms, stream.vanished) = (None, false);
        }
        if to_walk {
            self.apply_entries(frame, slot);
        }
        if !fresh && !header.flags.heartbeat {
            self.counts.duplicate_frames += 1;
        }
        let Some(stream) = &mut self.streams[slot] else { return Applied::Noted };
        if to_walk && header.flags.key && stream.applied_key(header, &mut self.counts) {
            self.counts.ended += 1;
        }
        stream.watch_gap(self.awake_ms);
        match (fresh, header.flags.heartbeat) {
            (true, _) => Applied::Taken,
            (false, true) => Applied::Noted,
            (false, false) => Applied::Duplicate,
        }
    }

    pub(super) fn refuse(&mut self, reason: &'static str) -> Applied {
        self.counts.refuse(reason);
        Applied::Refused(reason)
    }

    /// The slot of the frame's publisher and level, new if need be; `None` at the limit.
    fn slot_of(&mut self, frame: &Frame<'_>, level: usize) -> Option<usize> {
        let header = &frame.header;
        if let Some(&slot) = self.stream_slots.get(&(header.publisher, level)) {
            return Some(slot);
        }
        if self.stream_slots.len() >= self.config.publishers_max {
            return None;
        }
        let age_ms = header.age_ms.saturating_add(u64::from(header.held_ms));
        let start_ms = self.now_ms.saturating_sub(age_ms);
        let young = age_ms < self.config.join_age_ms && start_ms > self.doubt_ms;
        let owed = start_ms > self.levels[level].horizon_ms || young;
        let heard_ms = heard_ms(self.awake_ms, header.held_ms);
        Some(self.add_stream(Stream::new(header.publisher, level, start_ms, owed, heard_ms)))
    }

    fn apply_entries(&mut self, frame: &Frame<'_>, slot: usize) {
        let series_in_memory = self.series();
        let Self { streams, names, counts, points, dirty, scratch, native_series, awake_ms, config, .. } =
            self;
        let Some(stream) = &mut streams[slot] else { return };
        let header = &frame.header;
        let key = header.flags.key.then(|| header.frame_seq());
        let mut room = config.series_max.saturating_sub(series_in_memory);
        for entry in frame.entries() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    counts.refuse(error.reason());
                    continue;
                }
            };
            identity::write_entry(scratch, frame.level, frame.prelude.source, &entry);
            let from_zero = stream.counts_from_zero();
            let known = stream.find(scratch);
            let at = match known {
                Some(at) => at,
                None if room == 0 => {
                    (stream.refused, stream.dirty) = (true, true);
                    counts.refuse(refusal::SERIES_LIMIT);
                    continue;
                }
                None => {
                    room -= 1;
                    *native_series += 1;
                    let name = names.get(&scratch[..]).cloned().unwrap_or_else(|| scratch[..].into());
                    names.insert(name.clone());
                    stream.add(name, Series::zero(&entry.state))
                }
            };
            let Some((name, series)) = stream.series.get_index_mut(at) else { continue };
            let known_seq = known.map(|_| series.seq);
            let arrival = Arrival {
                seq: header.seq,
                key,
                follows: follows(&stream.sequence, known_seq, header.seq),
                awake_ms: *awake_ms,
            };
            if known_seq.is_some_and(|seq| header.seq <= seq) {
                counts.old_states += 1;
                if let Some(key) = key {
                    counts.buckets_unknown += series.offer_key(&entry.state, key).buckets_unknown;
                }
                continue;
            }
            let change = series.apply(&entry.state, arrival);
            counts.buckets_waiting += u64::from(change.waits);
            counts.buckets_unknown += change.buckets_unknown;
            let is_new_in_flush = !std::mem::replace(&mut series.dirty, true);
            if known_seq.is_none() && !from_zero {
                series.settle();
                counts.joined_late += change.amounts;
                counts.joined_late_series += 1;
            } else {
                counts.accepted += change.amounts;
                if change.overflow != Amounts::default() {
                    counts.drop_amounts(drop_reason::OVERFLOW, change.overflow);
                }
                if let Some(point) = change.point {
                    // All sets but the one that the point shows.
                    counts.merged.gauges += change.amounts.gauges - 1;
                    points.push(HeldPoint { series: name.clone(), point }, counts);
                }
            }
            if is_new_in_flush {
                dirty.push(Place { slot, at });
            }
        }
    }
}

/// When a frame that was held for so long was sent, in awake time.
fn heard_ms(awake_ms: u64, held_ms: u32) -> i64 {
    i64::try_from(awake_ms).unwrap_or(i64::MAX).saturating_sub(i64::from(held_ms))
}
