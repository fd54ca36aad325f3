//! The end frames of a boot that is over, until a broker has stored them.

use zibrato_std::links::{Frames, Links};

use crate::moment::Moment;

/// How often an end frame is repeated until it is acknowledged, in microseconds.
const REPEAT_US: u64 = 100_000;
/// How long a connected broker may take to acknowledge, in microseconds. Without one the end waits, and counts are
/// not lost because a device and a broker happened to start again together.
const PATIENCE_US: u64 = 2_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ending {
    links: Links,
    ends: Vec<End>,
    offered: Option<Moment>,
    /// When it was looked at last, and for how long a broker was connected since the start.
    polled: Moment,
    connected_us: u64,
}

/// The end frame of a level.
#[derive(Debug)]
pub(super) struct End {
    pub(super) level: String,
    pub(super) frames: Frames,
    /// Whether a broker stored it.
    pub(super) is_acknowledged: bool,
}

impl Ending {
    pub(super) fn new(links: Links, ends: Vec<End>, now: Moment) -> Self {
        Self { links, ends, offered: None, polled: now, connected_us: 0 }
    }

    pub(super) const fn links(&self) -> &Links {
        &self.links
    }

    /// Offers and reads; whether it is over.
    pub(super) fn poll(&mut self, now: Moment) -> Result<bool, zmq::Error> {
        let news = self.links.read()?;
        for (level, seq) in news.acknowledged {
            for end in self.ends.iter_mut().filter(|end| end.level == level && end.frames.frame_seq == seq) {
                end.is_acknowledged = true;
            }
        }
        let passed_us = now.mono_us.saturating_sub(self.polled.mono_us);
        self.polled = now;
        if self.links.connected() > 0 {
            self.connected_us += passed_us;
        }
        // Every broker that is connected is to have it, and one at least.
        let is_stored = |end: &End| end.is_acknowledged && !self.links.awaits(&end.level, &end.frames);
        if self.ends.iter().all(is_stored) {
            return Ok(true);
        }
        if self.offered.is_none_or(|at| now.mono_us.saturating_sub(at.mono_us) >= REPEAT_US) {
            self.offered = Some(now);
            for End { level, frames, .. } in &self.ends {
                self.links.offer(level, frames, usize::MAX, || ())?;
            }
        }
        self.links.retry(usize::MAX, || ())?;
        Ok(self.connected_us >= PATIENCE_US)
    }

    /// Closes the sockets; how many levels were not acknowledged, and how many messages were sent.
    pub(super) fn close(self, linger_ms: i32) -> (u64, u64) {
        let sent = self.links.messages_sent;
        self.links.close(linger_ms);
        (self.ends.iter().filter(|end| !end.is_acknowledged).count() as u64, sent)
    }
}
