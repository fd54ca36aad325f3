//! The frames of a device, built one at a time from cells and rings.
//!
//! [`Link`](super::Link) decides what is due when, and most firmware has one. Firmware with a schedule of its own and no
//! flash to spare builds the frames itself; `ci/size` has one that does.
//!
//! Invariant: what a cell held is counted as sent when its frame is built, and since state is cumulative a frame that is
//! lost is made good by the next.

use core::ptr;

use crate::link::{Form, History, LINE_BYTES_MAX, PROTOCOL, Writer, flags, kind, write_descriptor};

use super::cell::ENTRY_BYTES_MAX;
use super::clock::Clock;
use super::declare::Item;
use super::samples::Consumer;
use super::settings::Settings;

/// Most bytes of a sample: key, time, value.
const SAMPLE_BYTES_MAX: usize = 3 + 5 + 5;

/// The one frame that is being built or sent, and what numbers the next one. All zero at the start.
#[derive(Debug)]
pub struct Frames {
    line: [u8; LINE_BYTES_MAX],
    history: History,
    time: Time,
    seq: u16,
    /// Number of the next sample.
    sample: u32,
    /// Samples of metrics that are not listed.
    unlisted: u32,
}

/// What a state frame says of its window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its number; timers with buckets go out in every fourth.
    pub number: u32,
    /// Whether all metrics are said, changed or not.
    pub is_all: bool,
    /// Whether the device ends.
    pub is_end: bool,
    /// Records that full rings dropped since the boot, wrapping.
    pub lost: u32,
}

/// How far the state of a window is built.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// The next metric.
    metric: usize,
    /// The next part of it; 0 if nothing of it is out.
    part: usize,
}

impl Position {
    /// The start of a window.
    pub const START: Self = Self { metric: 0, part: 0 };
}

impl Frames {
    /// Before the first frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            line: [0; LINE_BYTES_MAX],
            history: History::new(),
            time: Time { is_started: false, ticks: 0, uptime: 0 },
            seq: 0,
            sample: 0,
            unlisted: 0,
        }
    }

    /// The bytes of the frame that was built last, of which its building said how many there are.
    #[must_use]
    pub fn line(&self, bytes: usize) -> &[u8] {
        self.line.get(..bytes).unwrap_or_default()
    }

    /// Ticks since the clock was read first.
    #[must_use]
    pub const fn uptime(&self) -> u64 {
        self.time.uptime
    }

    /// Whether the clock was read.
    pub(super) const fn is_started(&self) -> bool {
        self.time.is_started
    }

    /// Samples that went out, wrapping.
    pub(super) const fn samples_sent(&self) -> u32 {
        self.sample
    }

    /// Samples of metrics that are not listed, wrapping.
    pub(super) const fn unlisted(&self) -> u32 {
        self.unlisted
    }

    /// Reads the clock: at least once a round.
    pub fn advance<C: Clock>(&mut self, clock: C) {
        self.time.advance(clock);
    }

    fn build(&mut self, kind: u8, body: impl FnOnce(&mut Writer<'_>)) -> usize {
        let mut frame = Writer::new(&mut self.line);
        frame.start(kind, self.seq);
        body(&mut frame);
        self.seq = self.seq.wrapping_add(1);
        frame.finish().len()
    }

    /// Who the device is; the bytes of the frame.
    pub fn hello(&mut self, items: &[Item], settings: &Settings) -> usize {
        let uptime = self.time.uptime;
        self.build(kind::HELLO, |frame| {
            frame.byte(PROTOCOL);
            frame.varint(settings.boot);
            frame.varint(settings.clock_hz.into());
            frame.varint(settings.overhead.into());
            frame.varint(uptime);
            frame.varint(settings.window_ms.into());
            frame.varint(items.len() as u64);
            frame.text(settings.program);
        })
    }

    /// What the metric at a place of the list is; the bytes of the frame, 0 beyond the list's end.
    pub fn descriptor(&mut self, items: &[Item], at: usize) -> usize {
        let Some(item) = items.get(at) else { return 0 };
        self.build(kind::DESCRIPTOR, |frame| write_descriptor(frame, at as u16, item))
    }

    /// As much as fits of the state from a position on, which moves behind it; the bytes of the frame, and whether it was
    /// the last one of its window. Then the position is that of the next window's start.
    pub fn state(&mut self, items: &[Item], window: Window, position: &mut Position) -> (usize, bool) {
        let uptime = self.time.uptime;
        let mut is_last = false;
        let bytes = self.build(kind::STATE, |frame| {
            let bits_at = frame.mark();
            let mut bits = (u8::from(window.is_all) * flags::ALL) | (u8::from(window.is_end) * flags::END);
            frame.byte(bits);
            frame.varint(uptime);
            frame.varint(window.lost.into());
            loop {
                let Some(item) = items.get(position.metric) else {
                    bits |= flags::LAST;
                    frame.patch(bits_at, bits);
                    (*position, is_last) = (Position::START, true);
                    break;
                };
                if position.part != 0 || window.is_all || item.cell.is_due(window.number) {
                    if frame.room() < ENTRY_BYTES_MAX {
                        break;
                    }
                    position.part = item.cell.write(frame, position.metric as u16, item.form, position.part);
                    if position.part != 0 {
                        break;
                    }
                }
                position.metric += 1;
            }
        });
        (bytes, is_last)
    }

    /// As much as fits of what is in a ring; the bytes of the frame, 0 if there is nothing. `lost` is that of [`Window`].
    pub fn samples<C: Clock>(
        &mut self,
        items: &[Item],
        settings: &Settings,
        ring: &mut Consumer,
        lost: u32,
        clock: C,
    ) -> usize {
        let (first, shift) = (self.sample, settings.sample_shift);
        let mut frame = Writer::new(&mut self.line);
        // Time of the sample before; `None` before the first, with which the frame begins.
        let mut last = None;
        while frame.room() >= SAMPLE_BYTES_MAX {
            let Some(record) = ring.pop() else { break };
            // A cell begins with its gate.
            let find = |(_, item): &(usize, &Item)| ptr::addr_eq(item.cell, record.metric);
            let Some((id, item)) = items.iter().enumerate().find(find) else {
                self.unlisted = self.unlisted.wrapping_add(1);
                continue;
            };
            // Read behind the record's own time, so that that is in the past.
            self.time.advance(clock);
            let age = clock.elapsed(record.time, self.time.ticks);
            let time = (self.time.uptime as u32).wrapping_sub(age);
            let before = match last {
                Some(before) => before,
                None => {
                    self.history.clear();
                    frame.start(kind::SAMPLES, self.seq);
                    frame.varint(first.into());
                    frame.varint(lost.into());
                    frame.byte(shift);
                    frame.varint((time >> shift).into());
                    time >> shift << shift
                }
            };
            let later = time.wrapping_sub(before) >> shift;
            last = Some(before.wrapping_add(later << shift));
            frame.varint(item.form.key(id as u16).into());
            frame.varint(later.into());
            if item.form == Form::Float {
                frame.bytes(&record.bits.to_le_bytes());
            } else {
                let change = record.bits.wrapping_sub(self.history.replace(id as u16, record.bits));
                frame.zigzag(change.cast_signed());
            }
            self.sample = self.sample.wrapping_add(1);
        }
        if last.is_none() {
            return 0;
        }
        self.seq = self.seq.wrapping_add(1);
        frame.finish().len()
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

/// The device's time.
#[derive(Debug)]
struct Time {
    is_started: bool,
    /// The clock when it was read last.
    ticks: u32,
    /// Ticks since it was read first.
    uptime: u64,
}

impl Time {
    #[inline(never)]
    fn advance<C: Clock>(&mut self, clock: C) {
        let now = clock.ticks();
        if self.is_started {
            self.uptime += u64::from(clock.elapsed(self.ticks, now));
        }
        (self.is_started, self.ticks) = (true, now);
    }
}
