//! Frames from a boot's state: delta, key, end and heartbeat.

use std::sync::Arc;

use zibrato_core::frame::{About, EncodeError, Encoder, Flags, Header, Prelude, set_parts};
use zibrato_core::limits::{FRAME_BYTES_MAX, KEY_FRAME_WINDOWS, PARTS_MAX};
use zibrato_std::links::Frames;

use super::Boot;
use crate::moment::Moment;

/// What kind of frame to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameKind {
    /// The series that changed.
    Delta,
    /// All series.
    Key,
    /// All series, for the last time.
    End,
    /// None: nothing changed.
    Heartbeat,
}

impl Boot {
    /// Which frame a level needs at the end of a window.
    pub(crate) fn due(&mut self, level: usize) -> Option<FrameKind> {
        if self.is_joining() {
            // A worker that knows the publisher is not to take it for dead meanwhile. A device that cannot tell its
            // boots apart becomes a new publisher.
            return (self.number != 0).then_some(FrameKind::Heartbeat);
        }
        if !self.has_number(level) {
            return None;
        }
        let state = &mut self.levels[level];
        state.windows_since_key += 1;
        let key = state.wants_key || state.windows_since_key >= KEY_FRAME_WINDOWS;
        Some(match key {
            true => FrameKind::Key,
            false if self.is_dirty(level) => FrameKind::Delta,
            false => FrameKind::Heartbeat,
        })
    }

    /// Whether any series of a level changed since a frame had it.
    pub(crate) fn is_dirty(&self, level: usize) -> bool {
        let metrics = self.levels[level].metrics.iter();
        metrics
            .filter_map(|&id| self.metrics[usize::from(id)].as_ref())
            .any(|metric| metric.is_dirty && metric.is_shown())
    }

    /// Whether a level may have another number: at most one a millisecond of the device's life, so that a
    /// gateway that is restarted, and begins with the uptime as its number, is never behind this one.
    pub(crate) fn has_number(&self, level: usize) -> bool {
        self.levels[level].seq <= self.clock.uptime_ms()
    }

    /// Makes a frame and counts its series as handed out.
    pub(crate) fn encode(&mut self, level: usize, kind: FrameKind, now: Moment) -> Frames {
        self.window_end_ms = self.window_end_ms.max(now.unix_ms());
        let is_key = matches!(kind, FrameKind::Key | FrameKind::End);
        let is_heartbeat = kind == FrameKind::Heartbeat;
        let state = &self.levels[level];
        let (frame_seq, window_ms) = match (is_heartbeat, state.has_frame) {
            (true, true) => (state.seq, 0),
            // Before the first frame no number is known that a reader could miss.
            (true, false) => (0, 0),
            (false, true) => (state.seq + 1, now.ms_since(state.handed_out)),
            (false, false) => (state.seq + 1, self.window_ms.into()),
        };
        let selected = if is_heartbeat { Vec::new() } else { self.selected(level, is_key) };
        let mut header = Header::new(self.id, frame_seq);
        header.flags = Flags { key: is_key, end: kind == FrameKind::End, heartbeat: is_heartbeat };
        header.age_ms = self.clock.age_ms(now);
        let label = state.label.clone();
        let parts = self.parts(&label, header, u32::try_from(window_ms).unwrap_or(u32::MAX), &selected);
        if !is_heartbeat {
            let state = &mut self.levels[level];
            (state.handed_out, state.has_frame) = (now, true);
            state.seq += parts.len() as u64;
            if is_key {
                (state.windows_since_key, state.wants_key) = (0, false);
            }
        }
        Frames { frame_seq, parts }
    }

    fn selected(&self, level: usize, all: bool) -> Vec<u16> {
        let is_selected = |id: &&u16| {
            let metric = self.metrics[usize::from(**id)].as_ref();
            metric.is_some_and(|metric| metric.is_shown() && (all || metric.is_dirty))
        };
        self.levels[level].metrics.iter().filter(is_selected).copied().collect()
    }

    fn parts(&mut self, label: &str, mut header: Header, window_ms: u32, ids: &[u16]) -> Vec<Arc<[u8]>> {
        let (source, host, program) =
            (self.setting.source.clone(), self.setting.host.clone(), self.program.clone());
        let about = About { program: &program, host: &host, pid: 0, library: env!("CARGO_PKG_VERSION") };
        let prelude = Prelude {
            window_end_ms: self.window_end_ms,
            window_ms,
            source: &source,
            losses: self.losses(),
            about: header.flags.key.then_some(about),
        };
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let mut parts = Vec::new();
        let mut left = ids;
        while parts.is_empty() || (!left.is_empty() && parts.len() < PARTS_MAX) {
            let Some((part, used)) = self.part(&mut buffer, label, &header, &prelude, left) else { break };
            parts.push(part);
            left = &left[used..];
            header.seq += 1;
        }
        let of = parts.len() as u16;
        for (part, bytes) in parts.iter_mut().enumerate() {
            set_parts(bytes, label, part as u16, of);
        }
        parts.into_iter().map(Arc::from).collect()
    }

    /// As many of `ids` as fit, and how many that were. `None` if not even the prelude fits, which texts
    /// within their limits rule out.
    fn part(
        &mut self,
        buffer: &mut [u8],
        label: &str,
        header: &Header,
        prelude: &Prelude<'_>,
        ids: &[u16],
    ) -> Option<(Vec<u8>, usize)> {
        let mut encoder = Encoder::new(buffer, label, header, prelude).ok()?;
        let mut used = 0;
        for &id in ids {
            let Some(metric) = self.metrics[usize::from(id)].as_mut() else { continue };
            match metric.push(&mut encoder) {
                Ok(()) => metric.hand_out(),
                Err(EncodeError::Full) if used > 0 => break,
                // Its texts were checked when the descriptor was read, so it always fits alone.
                Err(_) => return None,
            }
            used += 1;
        }
        Some((encoder.finish().to_vec(), used))
    }
}
