//! The wire `legacy`: text messages as the original sends them (WIRE.md section 8).
//!
//! Text carries events, so it cannot be de-duplicated or healed: one endpoint only. Counters go as
//! one increment a window, gauges as their last value, timers as one message a record through a
//! queue. Without a subscriber counters add up, gauges keep, and timers are not offered.

use std::collections::VecDeque;

use zibrato_core::frame::LossReason;
use zibrato_core::kind::Kind;
use zibrato_core::legacy::Message;

use crate::publisher::{Publisher, SeriesKey, now_ms};
use crate::stats::{Flow, Losses};

/// Timer messages that wait for the socket; further records are dropped and counted.
pub const LEGACY_QUEUE_MAX: usize = 10_000;

/// Messages that wait for the socket, and what became of the others.
#[derive(Debug)]
pub(crate) struct LegacyQueue {
    source: String,
    messages: VecDeque<Text>,
    timers_waiting: usize,
    /// Topics that somebody subscribes to. Topics and not labels: a level may get its first metric long
    /// after its subscriber, and its first record must find it.
    subscribed: Vec<Vec<u8>>,
    sent: Flow,
    dropped: Flow,
}

/// One message and the units it carries.
#[derive(Debug)]
pub(crate) struct Text {
    level: String,
    kind: Kind,
    units: u64,
    text: String,
}

impl LegacyQueue {
    /// `source` stands in messages of series that have none of their own.
    pub(crate) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            messages: VecDeque::new(),
            timers_waiting: 0,
            subscribed: Vec::new(),
            sent: Flow::default(),
            dropped: Flow::default(),
        }
    }

    /// Says what somebody subscribes to.
    pub(crate) fn set_subscribed(&mut self, topics: Vec<Vec<u8>>) {
        self.subscribed = topics;
    }

    /// Whether a topic is a prefix of `label|`.
    fn is_subscribed(&self, label: &str) -> bool {
        let label = label.as_bytes();
        let matches = |topic: &Vec<u8>| label.starts_with(topic) || topic.strip_suffix(b"|") == Some(label);
        self.subscribed.iter().any(matches)
    }

    /// Queues `n` records of `ns` nanoseconds; false if nobody subscribes and they are not offered.
    pub(crate) fn offer_timer(
        &mut self,
        label: &str,
        key: SeriesKey,
        ns: u64,
        n: u64,
        losses: &mut Losses,
    ) -> bool {
        if !self.is_subscribed(label) {
            return false;
        }
        let room = (LEGACY_QUEUE_MAX - self.timers_waiting) as u64;
        let (queued, beyond) = (n.min(room), n.saturating_sub(room));
        let seconds = ns as f64 / 1e9;
        for _ in 0..queued {
            self.push(Kind::Timer, 1, label, key, seconds);
        }
        self.timers_waiting += queued as usize;
        losses.add(LossReason::LegacyQueue, beyond);
        self.dropped.timers += beyond;
        true
    }

    /// Queues the message of a window for a counter or gauge.
    pub(crate) fn push(&mut self, kind: Kind, units: u64, level: &str, key: SeriesKey, value: f64) {
        let source = if key.source().is_empty() { self.source.as_str() } else { key.source() };
        let message = Message { level, kind, name: key.name(), value, timestamp_s: now_ms() / 1_000, source };
        self.messages.push_back(Text { level: level.to_owned(), kind, units, text: message.to_string() });
    }

    /// Offers the waiting messages in order to `send`, until it refuses one. Those whose level lost
    /// its subscribers wait: the socket would drop them without a word.
    pub(crate) fn send_with(&mut self, mut send: impl FnMut(&[u8]) -> bool) {
        if self.messages.is_empty() {
            return;
        }
        let mut refused = false;
        for message in std::mem::take(&mut self.messages) {
            refused = refused || (self.is_subscribed(&message.level) && !send(message.text.as_bytes()));
            if refused || !self.is_subscribed(&message.level) {
                self.messages.push_back(message);
            } else {
                self.sent.add(message.kind, message.units);
                self.timers_waiting -= usize::from(message.kind == Kind::Timer);
            }
        }
    }

    /// Levels whose last window is still waiting: their next one is merged into state instead.
    fn levels_waiting(&self) -> Vec<String> {
        let windows = self.messages.iter().filter(|message| message.kind != Kind::Timer);
        let mut levels: Vec<_> = windows.map(|message| message.level.clone()).collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    /// Whether every message was given to the socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Units given to the socket.
    pub(crate) const fn sent(&self) -> Flow {
        self.sent
    }

    /// Units beyond the queue.
    pub(crate) const fn dropped(&self) -> Flow {
        self.dropped
    }
}

impl Publisher {
    /// Queues the messages of a window: for each counter that changed its increment, for each gauge
    /// that was set its last value. Levels without a subscriber, and those whose last window still
    /// waits for the socket, keep theirs.
    pub(crate) fn queue_legacy_window(&mut self) {
        let Some(mut queue) = self.legacy.take() else { return };
        let waiting = queue.levels_waiting();
        self.each_legacy_change(|level, key, kind, units, value| {
            let goes = queue.is_subscribed(level) && !waiting.iter().any(|waiting| waiting == level);
            if goes {
                queue.push(kind, units, level, key, value);
            }
            goes
        });
        self.legacy = Some(queue);
    }
}
