//! The drain thread: rings and cells into state, state into frames, frames into sockets.
//!
//! It is the only thread that touches the sockets, and the only one that reads rings. Producers
//! never wake it; flush, statistics and shutdown do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zibrato_core::{Drain, RING_RECORDS, clock, registry};

use crate::builder::{Config, Wire};
use crate::gates::{self, Gates};
use crate::links::{Frames, Links, News};
use crate::publisher::{FrameKind, Publisher};
use crate::shared::{Request, Shared};
use crate::stats::{Flow, Stats};

/// Shortest pause between passes, when rings fill fast.
const PAUSE_MIN: Duration = Duration::from_micros(20);
/// Longest pause behind a pass that came late.
const PAUSE_BUSY: Duration = Duration::from_micros(100);
/// Longest pause while few records come in, which costs 1 % of a core.
const PAUSE_LIGHT: Duration = Duration::from_millis(5);
/// A ring that is fuller than this between two passes makes them come sooner, and one that is less than
/// half as full later.
const FULL_ENOUGH: usize = RING_RECORDS / 8;
/// The share of a window over which the parts of a large frame are handed to the sockets, some at each
/// reading: a steady stream. All at once they would take the CPU from this thread on a small machine,
/// while broker and worker read them, and rings would run full.
const SENDING_SHARE: u32 = 4;
/// Longest pause, reached when nothing happens: 0.3 % of a core.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// How often sockets are read while records come in.
const READ_EVERY: Duration = Duration::from_millis(5);
/// How long a shutdown waits for a first connection.
const FIRST_CONNECTION: Duration = Duration::from_millis(250);
/// How often an end frame is repeated until it is acknowledged.
const REPEAT_END: Duration = Duration::from_millis(100);
/// How long a client may be without any broker before the log says so.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Shortest time between two key frames of a level that subscriptions ask for: whoever subscribes
/// and cancels all the time does not make us encode all the time.
const KEY_SPACING: Duration = Duration::from_millis(100);

/// The last frame of a level.
pub(crate) struct End {
    frames: Frames,
    /// Whether a broker stored it.
    acknowledged: bool,
}

/// The state of the thread.
pub(crate) struct Worker {
    pub(crate) config: Config,
    pub(crate) drain: Drain,
    pub(crate) publisher: Publisher,
    pub(crate) links: Links,
    pub(crate) gates: Gates,
    pub(crate) shared: Arc<Shared>,
    /// End frames by level.
    pub(crate) ends: HashMap<&'static str, End>,
    pub(crate) delivered: Flow,
    /// When a broker was connected last, or the start; `None` once the log said that none is.
    pub(crate) alone_since: Option<Instant>,
    /// Parts of a level that a socket gets at one reading, in this window.
    pub(crate) parts_at_once: usize,
    /// Until when sockets may go on sending behind the end.
    pub(crate) close_by: Instant,
}

impl Worker {
    /// Runs until a shutdown is requested, and through it.
    pub(crate) fn run(mut self) {
        let mut window_end = Instant::now() + self.config.window;
        let mut pause = PAUSE_MIN;
        let mut read_at = Instant::now();
        loop {
            let fullest = self.publisher.fold_rings(&mut self.drain);
            pause = next_pause(pause, fullest);
            self.send_samples(false);
            let now = Instant::now();
            if now >= read_at {
                read_at = now + READ_EVERY;
                if !self.exchange() {
                    self.give_up();
                    break;
                }
            }
            if now >= window_end {
                self.end_window();
                // A thread that was held up skips the windows it missed.
                while window_end <= now {
                    window_end += self.config.window;
                }
            }
            let pause = if self.links.has_more { pause.min(READ_EVERY) } else { pause };
            let wait = pause.min(window_end.saturating_duration_since(now));
            match self.shared.wait(wait) {
                None => {}
                Some(Request::Stats(ticket)) => {
                    self.publisher.fold_rings(&mut self.drain);
                    self.publisher.fold_cells(&mut self.drain);
                    self.shared.answer(ticket, self.stats());
                }
                Some(Request::Flush(ticket)) => {
                    self.exchange();
                    // The rest of the last frame goes first: what is asked for is in one behind it.
                    self.retry(usize::MAX);
                    self.publisher.fold_rings(&mut self.drain);
                    self.send_samples(true);
                    self.end_window();
                    self.retry(usize::MAX);
                    self.shared.answer(ticket, self.stats());
                }
                Some(Request::Tell) => {
                    self.exchange();
                    self.tell_subscriptions();
                }
                Some(Request::Shutdown(deadline)) => {
                    self.close_by = deadline;
                    self.shutdown(deadline);
                    break;
                }
            }
        }
        registry::switch(false, Vec::new());
        let stats = self.stats();
        tracing::info!(%stats, "client ended");
        let Self { links, drain, shared, close_by, .. } = self;
        drop(drain);
        shared.end(stats);
        // What sockets took is theirs to send: an acknowledgement speaks for one broker only, and
        // text is never acknowledged.
        links.close(close_by.saturating_duration_since(Instant::now()).as_millis() as i32);
    }

    /// The sockets are gone: no level's end will be acknowledged.
    fn give_up(&mut self) {
        let levels = self.publisher.levels().iter().filter(|level| level.has_series());
        let none = || End { frames: Frames { frame_seq: 0, parts: Vec::new() }, acknowledged: false };
        self.ends = levels.map(|level| (level.label, none())).collect();
    }

    /// Reads the sockets, moves the gates and offers again what was refused. False if the sockets
    /// are gone, because the context they came from ended.
    fn exchange(&mut self) -> bool {
        match self.links.read() {
            Ok(news) => self.take_news(news),
            Err(error) => {
                tracing::error!(%error, "the ZeroMQ context ended: nothing more can be sent");
                return false;
            }
        }
        let sent = self.retry(self.parts_at_once);
        // Early, so that there are few at a time.
        self.publisher.meet_new_metrics();
        self.send_legacy();
        self.tell_connection();
        sent
    }

    /// Offers `most` parts of what sockets still have to take; false if they are gone.
    fn retry(&mut self, most: usize) -> bool {
        let Self { links, publisher, drain, .. } = self;
        links.retry(most, || publisher.give_way(drain)).is_ok()
    }

    /// Says once that no broker can be reached, and once that one can again.
    fn tell_connection(&mut self) {
        let endpoints = || self.config.endpoints.join(",");
        match (self.links.connected() > 0, self.alone_since) {
            (true, None) => {
                tracing::info!(endpoints = endpoints(), "connected to a broker again");
                self.alone_since = Some(Instant::now());
            }
            (true, Some(_)) => self.alone_since = Some(Instant::now()),
            (false, Some(since)) if since.elapsed() >= SILENCE_MAX => {
                tracing::warn!(
                    endpoints = endpoints(),
                    "no broker is connected: state is kept; check host and port"
                );
                self.alone_since = None;
            }
            (false, _) => {}
        }
    }

    fn take_news(&mut self, news: News) {
        self.gates.update(&self.links, news.changed, Instant::now());
        for topic in &news.subscribed {
            for at in 0..self.publisher.levels().len() {
                let label = self.publisher.levels()[at].label;
                let full = zibrato_core::frame::topic(zibrato_core::frame::TOPIC_STATE, label);
                if full.is_some_and(|full| full.starts_with(topic)) {
                    self.publisher.level_mut(at).wants_key = true;
                }
            }
        }
        if !news.subscribed.is_empty() {
            // Whoever just subscribed gets the whole state now instead of at the window's end.
            self.publish_wanted_keys();
        }
        if news.changed {
            self.tell_subscriptions();
        }
    }

    /// Lets `wait_subscribed`, the legacy queue and the samples know who subscribes.
    fn tell_subscriptions(&mut self) {
        let wire = self.config.wire;
        if wire == Wire::Samples {
            self.tell_samples();
        }
        if let Some(queue) = self.publisher.legacy.as_mut() {
            queue.set_subscribed(self.links.text_topics());
        }
        self.shared.update_subscribed(|label| gates::wanted(wire, &self.links, label));
    }

    /// Lets the samples know who subscribes to them. What was recorded before is not asked for: it is taken
    /// first.
    fn tell_samples(&mut self) {
        let topics = self.links.sample_topics();
        if self.publisher.samples_differ(&topics) {
            self.publisher.fold_rings(&mut self.drain);
            self.publisher.fold_cells(&mut self.drain);
            self.publisher.set_samples_subscribed(topics);
        }
    }

    /// Offers the sockets the sample frames that are full or waited long enough, or all there are.
    fn send_samples(&mut self, all: bool) {
        if self.publisher.samples.is_none() {
            return;
        }
        self.publisher.end_sample_frames(all);
        // More may come while these go out, for the next time.
        for _ in 0..Publisher::SAMPLE_MESSAGES_MAX {
            let Some(message) = self.publisher.take_sample_message() else { break };
            let offered = self.links.offer_samples(message.label, &message.bytes);
            self.publisher.note_sample_message(&message, offered);
            self.publisher.give_way(&mut self.drain);
        }
    }

    fn end_window(&mut self) {
        clock::refine();
        self.parts_at_once = 1;
        self.publisher.fold_cells(&mut self.drain);
        self.tell_subscriptions();
        if self.config.wire == Wire::Legacy {
            self.publisher.queue_legacy_window();
            self.send_legacy();
            return;
        }
        for at in 0..self.publisher.levels().len() {
            let label = self.publisher.levels()[at].label;
            if !self.links.wants_state(label) || self.links.is_blocked(label) {
                continue;
            }
            if self.links.take_behind(label) {
                self.publisher.level_mut(at).wants_key = true;
            }
            if let Some(kind) = self.publisher.due(at) {
                self.publish(at, kind);
            }
        }
    }

    fn publish_wanted_keys(&mut self) {
        if self.config.wire == Wire::Legacy {
            return;
        }
        for at in 0..self.publisher.levels().len() {
            let level = &self.publisher.levels()[at];
            let is_due = level.wants_key && level.has_series() && level.since_handed_out() >= KEY_SPACING;
            if is_due && self.links.wants_state(level.label) && !self.links.is_blocked(level.label) {
                self.publish(at, FrameKind::Key);
            }
        }
    }

    fn publish(&mut self, at: usize, kind: FrameKind) {
        let label = self.publisher.levels()[at].label;
        let frames = self.publisher.encode(&mut self.drain, at, kind);
        self.parts_at_once = self.parts_at_once.max(parts_at_once(frames.parts.len(), self.config.window));
        let Self { links, publisher, drain, parts_at_once, .. } = self;
        if let Err(error) = links.offer(label, &frames, *parts_at_once, || publisher.give_way(drain)) {
            tracing::error!(%error, level = label, "a frame could not be offered");
        }
    }

    fn send_legacy(&mut self) {
        let links = &mut self.links;
        if let Some(queue) = self.publisher.legacy.as_mut().filter(|_| links.connected() > 0) {
            queue.send_with(|message| links.send_legacy(message));
        }
    }

    fn legacy_is_empty(&self) -> bool {
        self.publisher.legacy.as_ref().is_none_or(|queue| queue.is_empty())
    }

    /// Ends all levels: last records, end frames, and their acknowledgements until `deadline`.
    fn shutdown(&mut self, deadline: Instant) {
        let started = Instant::now();
        self.publisher.fold_rings(&mut self.drain);
        self.publisher.fold_cells(&mut self.drain);
        registry::switch(false, Vec::new());
        // What other threads recorded until they saw the switch.
        self.publisher.fold_rings(&mut self.drain);
        self.publisher.fold_cells(&mut self.drain);
        let connect_by = deadline.min(started + FIRST_CONNECTION);
        while self.links.connected() == 0 && Instant::now() < connect_by {
            if !self.read_only() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Guards that were running at the switch may have ended meanwhile.
        self.publisher.fold_rings(&mut self.drain);
        self.publisher.fold_cells(&mut self.drain);
        if self.config.wire == Wire::Legacy {
            self.end_legacy(deadline);
            return;
        }
        self.send_samples(true);
        // The end goes behind the rest of the last frames.
        self.retry(usize::MAX);
        // What guards recorded meanwhile.
        self.send_samples(true);
        self.publisher.end_samples();
        for at in 0..self.publisher.levels().len() {
            if self.publisher.levels()[at].has_series() {
                let frames = self.publisher.encode(&mut self.drain, at, FrameKind::End);
                self.ends.insert(self.publisher.levels()[at].label, End { frames, acknowledged: false });
            }
        }
        let mut repeat_at = Instant::now();
        // At least one offer is made, whatever the deadline.
        while self.ends.iter().any(|(label, end)| self.links.awaits(label, &end.frames)) {
            if Instant::now() >= repeat_at {
                repeat_at = Instant::now() + REPEAT_END;
                for (label, end) in &self.ends {
                    if self.links.offer(label, &end.frames, usize::MAX, || ()).is_err() {
                        return;
                    }
                }
            }
            if Instant::now() >= deadline || !self.read_only() || !self.retry(usize::MAX) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads the sockets during the shutdown, when gates stay shut.
    fn read_only(&mut self) -> bool {
        let Ok(news) = self.links.read() else { return false };
        for (level, frame_seq) in &news.acknowledged {
            self.acknowledge(level, *frame_seq);
        }
        if news.changed {
            self.tell_subscriptions();
        }
        true
    }

    /// A broker stored the end frame of a level: all that the level counted is delivered.
    fn acknowledge(&mut self, level: &str, frame_seq: u64) {
        let first = |end: &&mut End| end.frames.frame_seq == frame_seq && !end.acknowledged;
        if let Some(end) = self.ends.get_mut(level).filter(first) {
            end.acknowledged = true;
            if let Some(at) = self.publisher.levels().iter().position(|known| known.label == level) {
                self.delivered = self.delivered.plus(self.publisher.accepted(at));
            }
        }
    }

    fn end_legacy(&mut self, deadline: Instant) {
        self.tell_subscriptions();
        self.publisher.queue_legacy_window();
        while self.links.connected() > 0 {
            self.send_legacy();
            if self.legacy_is_empty() || Instant::now() >= deadline || !self.read_only() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stats(&self) -> Stats {
        let refused = self.publisher.refused();
        let levels = 0..self.publisher.levels().len();
        let accepted = levels.fold(Flow::default(), |sum, at| sum.plus(self.publisher.accepted(at)));
        let (delivered, dropped) = match self.publisher.legacy.as_ref() {
            Some(queue) => (queue.sent(), queue.dropped()),
            None => (self.delivered, Flow::default()),
        };
        Stats {
            publisher: self.publisher.identity().id,
            offered: accepted.plus(refused),
            accepted,
            refused,
            delivered,
            held: accepted.minus(delivered).minus(dropped),
            dropped,
            losses: *self.publisher.losses(),
            series: self.publisher.series_count(),
            messages_sent: self.links.messages_sent,
            bytes_sent: self.links.bytes_sent,
            refused_by_socket: self.links.refused_by_socket,
            connected: self.links.connected(),
            unacknowledged: self.ends.values().filter(|end| !end.acknowledged).count(),
        }
    }
}

/// How long to pause behind a pass in which the fullest ring had so many records.
fn next_pause(pause: Duration, fullest: usize) -> Duration {
    match fullest {
        0 => (pause * 2).min(PAUSE_MAX),
        _ if fullest > FULL_ENOUGH => (pause.min(PAUSE_BUSY) / 2).max(PAUSE_MIN),
        _ if fullest < FULL_ENOUGH / 2 => (pause * 2).min(PAUSE_LIGHT),
        _ => pause.min(PAUSE_LIGHT),
    }
}

/// How many of a frame's parts are handed over at each reading of the sockets.
fn parts_at_once(parts: usize, window: Duration) -> usize {
    let readings = (window / SENDING_SHARE).as_nanos() / READ_EVERY.as_nanos();
    parts.div_ceil(usize::try_from(readings).unwrap_or(usize::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_come_sooner_the_faster_rings_fill_and_seldom_when_nothing_happens() {
        let steps = |pause, fullest, times| (0..times).fold(pause, |pause, _| next_pause(pause, fullest));
        assert_eq!(steps(PAUSE_MIN, 0, 20), PAUSE_MAX);
        assert_eq!((next_pause(PAUSE_MAX, 1), steps(PAUSE_MIN, 1, 20)), (PAUSE_LIGHT, PAUSE_LIGHT));
        assert_eq!(next_pause(PAUSE_LIGHT, RING_RECORDS), PAUSE_BUSY / 2);
        assert_eq!(steps(PAUSE_MAX, RING_RECORDS, 3), PAUSE_MIN);
        assert_eq!(next_pause(PAUSE_MIN, FULL_ENOUGH), PAUSE_MIN);
    }

    #[test]
    fn a_frame_is_handed_over_within_its_share_of_the_window() {
        let second = Duration::from_secs(1);
        assert_eq!(parts_at_once(1, second), 1);
        assert_eq!((parts_at_once(50, second), parts_at_once(51, second)), (1, 2));
        assert_eq!(parts_at_once(1_000, second), 20);
        assert_eq!(parts_at_once(64, Duration::from_millis(10)), 64);
        assert_eq!(parts_at_once(64, Duration::from_secs(3_600)), 1);
    }
}
