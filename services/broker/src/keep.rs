//! Kept frames: what a worker that was away needs to catch up.
//!
//! For each publisher and level these are the parts of its last complete key frame and every frame
//! after it: deltas, and the parts of a newer key frame that is not complete yet. A key frame that
//! becomes complete replaces all that came before it. Once the end frame is complete the publisher
//! is *ended*, and nothing but another end frame changes what is kept of it.
//!
//! This is a plain structure: it opens no socket and reads no clock.

mod publisher;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zibrato_core::frame::{Header, PublisherId};

pub(crate) use publisher::KeptFrame;
use publisher::Publisher;

/// What a publisher of a level costs beside its frames, in bytes, so that many small ones are
/// bounded too.
const PUBLISHER_OVERHEAD_BYTES: usize = 512;

/// Kept frames of all publishers, bounded in bytes and age.
#[derive(Debug)]
pub(crate) struct Keep {
    bytes_max: usize,
    age_max: Duration,
    /// A publisher of two levels has two entries.
    entries: BTreeMap<EntryId, Entry>,
    levels: HashMap<Arc<str>, Level>,
    /// The entries of each publisher.
    publishers: HashMap<PublisherId, Vec<EntryId>>,
    /// Who is forgotten first: not ended before ended, then the one seen longest ago.
    order: BTreeSet<(IsEnded, Ticket, EntryId)>,
    ticket: Ticket,
    bytes: usize,
    frames: usize,
    evicted: Evicted,
}

/// Publishers of a level that were forgotten, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Evicted {
    /// For want of bytes, still running: it will send again.
    pub(crate) bytes_live: u64,
    /// For want of bytes, ended: what no worker had read is lost.
    pub(crate) bytes_ended: u64,
    /// Not ended, but not seen for the keep's age: it vanished.
    pub(crate) age_live: u64,
    /// Ended longer ago than the keep's age.
    pub(crate) age_ended: u64,
}

/// A publisher of which something is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) id: PublisherId,
    /// Its levels, as many as were asked for.
    pub(crate) levels: Vec<Arc<str>>,
    /// When something of it came last; of an ended one when its end came.
    pub(crate) seen: Instant,
    /// Whether it ended on all levels.
    pub(crate) is_ended: bool,
}

/// A page of kept frames of a level.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    /// The frames, in order.
    pub(crate) frames: Vec<&'a KeptFrame>,
    /// Position behind the last one.
    pub(crate) next: u32,
    /// Kept frames of the level.
    pub(crate) total: u32,
}

type EntryId = u64;
/// Stands for "when" where only the order matters.
type Ticket = u64;
type IsEnded = bool;
type IsLive = bool;

#[derive(Debug)]
struct Entry {
    id: PublisherId,
    level: Arc<str>,
    publisher: Publisher,
    seen: Instant,
    /// Its places in [`Keep::order`] and [`Level::positions`].
    order: (IsEnded, Ticket, EntryId),
    position: (IsLive, Ticket, EntryId),
}

#[derive(Debug, Default)]
struct Level {
    entries: HashMap<PublisherId, EntryId>,
    /// Order of a replay: ended ones first, because they change no more, so that a page behind them
    /// finds them where they were; else in the order of arrival.
    positions: BTreeSet<(IsLive, Ticket, EntryId)>,
    frames: usize,
}

impl Keep {
    /// Nothing kept yet.
    pub(crate) fn new(bytes_max: usize, age_max: Duration) -> Self {
        Self {
            bytes_max,
            age_max,
            entries: BTreeMap::new(),
            levels: HashMap::new(),
            publishers: HashMap::new(),
            order: BTreeSet::new(),
            ticket: 0,
            bytes: 0,
            frames: 0,
            evicted: Evicted::default(),
        }
    }

    /// Keeps what is worth keeping of a frame, and makes room for it.
    ///
    /// Returns the name (`seq` of part 0) of an end frame to acknowledge: all its parts are kept, and
    /// this one completed it or is the last part of a repetition.
    pub(crate) fn insert(
        &mut self,
        level: &str,
        header: &Header,
        untopiced: &[u8],
        now: Instant,
    ) -> Option<u64> {
        let known = self.levels.get(level).and_then(|level| level.entries.get(&header.publisher)).copied();
        if header.flags.heartbeat {
            if let Some(id) = known {
                self.refresh(id, now);
            }
            return None;
        }
        let id = known.unwrap_or_else(|| self.enter(level, header.publisher, now));
        let entry = self.entries.get_mut(&id)?;
        let (bytes, frames) = (entry.publisher.bytes(), entry.publisher.count());
        let acknowledge = entry.publisher.insert(header, untopiced, now);
        let (bytes_now, frames_now) = (entry.publisher.bytes(), entry.publisher.count());
        self.bytes = self.bytes + bytes_now - bytes;
        self.frames = self.frames + frames_now - frames;
        if let Some(level) = self.levels.get_mut(level) {
            level.frames = level.frames + frames_now - frames;
        }
        self.refresh(id, now);
        self.make_room();
        // An end frame for which there was no room is not kept, and must not be acknowledged.
        acknowledge.filter(|_| self.entries.contains_key(&id))
    }

    /// Forgets who was not seen for longer than the keep's age.
    pub(crate) fn expire(&mut self, now: Instant) {
        for is_ended in [false, true] {
            while let Some(&(_, _, id)) =
                self.order.range((is_ended, 0, 0)..=(is_ended, Ticket::MAX, 0)).next()
            {
                let seen = self.entries.get(&id).map(|entry| entry.seen);
                if seen.is_some_and(|seen| now.saturating_duration_since(seen) <= self.age_max) {
                    break;
                }
                self.remove(id);
                *if is_ended { &mut self.evicted.age_ended } else { &mut self.evicted.age_live } += 1;
            }
        }
    }

    /// At most `limit` kept frames of a level from position `from` on, publisher by publisher, each
    /// in the order of `seq`.
    ///
    /// A position is an index into the list as it is now. What changed since the page before was
    /// forwarded as well, so a subscribed worker has it. Only a publisher forgotten in between can
    /// move an unchanged one across the border of a page; then `total` has shrunk, and a worker that
    /// cares asks again from 0. Asking twice is harmless, because frames carry cumulative state.
    pub(crate) fn page(&self, level: &str, from: u32, limit: usize) -> Page<'_> {
        let Some(level) = self.levels.get(level) else {
            return Page { frames: Vec::new(), next: 0, total: 0 };
        };
        let mut skip = from as usize;
        let mut frames = Vec::new();
        for entry in level.positions.iter().filter_map(|(_, _, id)| self.entries.get(id)) {
            if skip >= entry.publisher.count() {
                skip -= entry.publisher.count();
                continue;
            }
            frames.extend(entry.publisher.frames().skip(skip).take(limit - frames.len()));
            skip = 0;
            if frames.len() == limit {
                break;
            }
        }
        let total = u32::try_from(level.frames).unwrap_or(u32::MAX);
        let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        Page { frames, next: from.saturating_add(count).min(total), total }
    }

    /// Frames kept.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes they take, overhead included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Publishers of which something is kept, once for each level.
    pub(crate) fn publishers(&self) -> usize {
        self.entries.len()
    }

    /// Publishers of which something is kept, each once.
    pub(crate) fn publishers_distinct(&self) -> usize {
        self.publishers.len()
    }

    /// At most `max` publishers with at most `levels_max` of their levels: those that run first, and
    /// of these who was heard last.
    pub(crate) fn latest(&self, max: usize, levels_max: usize) -> Vec<Kept> {
        let ended = (true, 0, 0);
        let by_seen = self.order.range(..ended).rev().chain(self.order.range(ended..).rev());
        let mut told = HashSet::new();
        let mut latest = Vec::new();
        for entry in by_seen.filter_map(|(_, _, id)| self.entries.get(id)) {
            if latest.len() == max {
                break;
            }
            if told.insert(entry.id) {
                latest.push(self.kept(entry, levels_max));
            }
        }
        latest
    }

    /// All of the publisher whose entry heard last is this one.
    fn kept(&self, last: &Entry, levels_max: usize) -> Kept {
        let mut kept = Kept { id: last.id, levels: Vec::new(), seen: last.seen, is_ended: true };
        let entries = self.publishers.get(&last.id).into_iter().flatten();
        for entry in entries.filter_map(|id| self.entries.get(id)) {
            kept.is_ended &= entry.publisher.is_ended();
            if kept.levels.len() < levels_max {
                kept.levels.push(Arc::clone(&entry.level));
            }
        }
        kept
    }

    /// Publishers forgotten so far.
    pub(crate) fn evicted(&self) -> Evicted {
        self.evicted
    }

    fn enter(&mut self, level: &str, publisher: PublisherId, now: Instant) -> EntryId {
        self.ticket += 1;
        let id = self.ticket;
        let name = match self.levels.get_key_value(level) {
            Some((name, _)) => Arc::clone(name),
            None => level.into(),
        };
        let (order, position) = ((false, id, id), (true, id, id));
        let level = self.levels.entry(Arc::clone(&name)).or_default();
        level.entries.insert(publisher, id);
        level.positions.insert(position);
        self.order.insert(order);
        self.publishers.entry(publisher).or_default().push(id);
        self.bytes += PUBLISHER_OVERHEAD_BYTES;
        let kept = Publisher::default();
        self.entries
            .insert(id, Entry { id: publisher, level: name, publisher: kept, seen: now, order, position });
        id
    }

    /// Notes that something came from a publisher, and whether it has ended meanwhile. An ended one
    /// keeps the time of its end: what comes late makes it no younger.
    fn refresh(&mut self, id: EntryId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (was_ended, ..) = entry.order;
        if was_ended {
            return;
        }
        self.ticket += 1;
        let is_ended = entry.publisher.is_ended();
        self.order.remove(&entry.order);
        entry.order = (is_ended, self.ticket, id);
        entry.seen = now;
        self.order.insert(entry.order);
        if is_ended && let Some(level) = self.levels.get_mut(&entry.level) {
            level.positions.remove(&entry.position);
            entry.position = (false, self.ticket, id);
            level.positions.insert(entry.position);
        }
    }

    fn make_room(&mut self) {
        while self.bytes > self.bytes_max
            && let Some(&(is_ended, _, id)) = self.order.first()
        {
            self.remove(id);
            *if is_ended { &mut self.evicted.bytes_ended } else { &mut self.evicted.bytes_live } += 1;
        }
    }

    fn remove(&mut self, id: EntryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.order.remove(&entry.order);
        self.bytes -= entry.publisher.bytes() + PUBLISHER_OVERHEAD_BYTES;
        self.frames -= entry.publisher.count();
        if let Some(entries) = self.publishers.get_mut(&entry.id) {
            entries.retain(|other| *other != id);
            if entries.is_empty() {
                self.publishers.remove(&entry.id);
            }
        }
        let Some(level) = self.levels.get_mut(&entry.level) else { return };
        level.frames -= entry.publisher.count();
        level.positions.remove(&entry.position);
        level.entries.remove(&entry.id);
        if level.entries.is_empty() {
            self.levels.remove(&entry.level);
        }
    }
}

#[cfg(test)]
mod tests;
