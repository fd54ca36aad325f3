//! The frames of a device, built one at a time from cells and rings.
//!
//! [`Link`](super::Link) decides what is due when, and most firmware has one. Firmware with a schedule of its own and no
//! flash to spare builds the frames itself; `ci/size` has one that does.
//!
//! Invariant: what a cell held is counted as sent when its frame is built, and since state is cumulative a frame that is
//! lost is made good by the next.

use core::ptr;

use crate::link::{BUCKETS_EVERY_WINDOWS, Form, History, PROTOCOL, Writer, flags, kind, write_descriptor};

use super::cell::ENTRY_BYTES_MAX;
use super::clock::Clock;
use super::declare::Item;
use super::samples::Consumer;
use super::settings::Settings;

/// Most bytes of a sample: key, time, value.
const SAMPLE_BYTES_MAX: usize = 3 + 5 + 5;

/// The one frame that is being built or sent, and what numbers the next one. All zero at the start.
// The writer first, so that it is where all of it is.
#[derive(Debug)]
#[repr(C)]
pub struct Frames {
    writer: Writer,
    time: Time,
    /// Number of the next sample.
    sample: u32,
    /// Samples of metrics that are not listed.
    unlisted: u32,
    history: History,
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
    metric: u16,
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
            writer: Writer::new(),
            history: History::new(),
            time: Time { is_started: false, ticks: 0, uptime: 0 },
            sample: 0,
            unlisted: 0,
        }
    }

    /// The bytes of the frame that was built last; none if there was nothing to build it from.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        self.writer.line()
    }

    /// Forgets the frame that was built last.
    pub(super) const fn clear(&mut self) {
        self.writer.clear();
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

    /// Builds the frame that says who the device is.
    // Not inlined, as its neighbours: where the state lies in a static, its address would be built at each place.
    #[inline(never)]
    pub fn hello(&mut self, items: &[Item], settings: &Settings) {
        let frame = &mut self.writer;
        frame.start(kind::HELLO);
        frame.byte(PROTOCOL);
        frame.varint(settings.boot);
        frame.varint(settings.clock_hz.into());
        frame.varint(settings.overhead.into());
        frame.varint(self.time.uptime);
        frame.varint(settings.window_ms.into());
        frame.varint(items.len() as u64);
        frame.text(settings.program);
        frame.finish();
    }

    /// Builds the frame that says what a metric is, whose place in the list is its id.
    #[inline(never)]
    pub fn descriptor(&mut self, id: u16, item: &Item) {
        self.writer.start(kind::DESCRIPTOR);
        write_descriptor(&mut self.writer, id, item);
        self.writer.finish();
    }

    /// Builds a frame of as much as fits of the state from a position on, which moves behind it; whether it was the last
    /// one of its window. Then the position is that of the next window's start.
    #[inline(never)]
    pub fn state(&mut self, items: &[Item], window: Window, position: &mut Position) -> bool {
        let frame = &mut self.writer;
        frame.start(kind::STATE);
        let bits_at = frame.mark();
        let mut bits = (u8::from(window.is_all) * flags::ALL) | (u8::from(window.is_end) * flags::END);
        frame.byte(bits);
        frame.varint(self.time.uptime);
        frame.varint(window.lost.into());
        let is_last = loop {
            let Some(item) = items.get(usize::from(position.metric)) else {
                bits |= flags::LAST;
                frame.patch(bits_at, bits);
                *position = Position::START;
                break true;
            };
            if position.part != 0 || window.is_all || is_due(item, window.number) {
                if !frame.has_room(ENTRY_BYTES_MAX) {
                    break false;
                }
                position.part = write_entry(frame, item, position);
                if position.part != 0 {
                    break false;
                }
            }
            position.metric += 1;
        };
        frame.finish();
        is_last
    }

    /// Builds a frame of as much as fits of what is in a ring, or none if there is nothing. `lost` is that of [`Window`].
    #[inline(never)]
    pub fn samples<C: Clock>(
        &mut self,
        items: &[Item],
        settings: &Settings,
        ring: &mut Consumer,
        lost: u32,
        clock: C,
    ) {
        let shift = settings.sample_shift;
        let frame = &mut self.writer;
        frame.clear();
        // Time of the sample before; the frame begins with the first one's.
        let mut last = 0;
        while frame.has_room(SAMPLE_BYTES_MAX) {
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
            if !frame.is_begun() {
                self.history.clear();
                frame.start(kind::SAMPLES);
                frame.varint(self.sample.into());
                frame.varint(lost.into());
                frame.byte(shift);
                frame.varint((time >> shift).into());
                last = time >> shift << shift;
            }
            let later = time.wrapping_sub(last) >> shift;
            last = last.wrapping_add(later << shift);
            let key = item.form.key(id as u16);
            frame.varint(key.into());
            frame.varint(later.into());
            let last =
                if item.form == Form::Float { 0 } else { self.history.replace(id as u16, record.bits) };
            frame.value(key, record.bits.wrapping_sub(last));
            self.sample = self.sample.wrapping_add(1);
        }
        if frame.is_begun() {
            frame.finish();
        }
    }
}

/// Writes what the metric at a position has come to; the part to go on with, 0 if there is none.
#[inline(never)]
fn write_entry(frame: &mut Writer, item: &Item, position: &Position) -> usize {
    let key = item.form.key(position.metric);
    if position.part == 0 {
        // Buckets come behind the timer that they are of.
        let form = if item.form == Form::Buckets { Form::Timer } else { item.form };
        frame.varint(form.in_key(key).into());
        frame.varint(item.cell.head().count.total());
    }
    item.cell.write(frame, key, position.part)
}

/// Whether something was recorded since the metric was sent last, and one of its form goes out in the window of this
/// number.
fn is_due(item: &Item, window: u32) -> bool {
    item.cell.head().count.is_changed()
        && (item.form != Form::Buckets || window.is_multiple_of(BUCKETS_EVERY_WINDOWS))
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
