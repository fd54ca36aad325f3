//! The device's end of the link: cells and rings into frames, frames into any writer, within a budget.
//!
//! Invariants: a frame is begun only if the budget has room for the longest; what a cell held is counted as sent when
//! its frame was handed to the writer, and since state is cumulative a frame that is lost is made good by the next;
//! nothing here waits but the writer, and nothing allocates.

use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use embedded_io::Write;

use crate::link::{
    ALL_EVERY_WINDOWS, CRC_BYTES, Form, Hello, History, LINE_BYTES_MAX, PROTOCOL, Receiver, Writer, flags,
    kind, write_descriptor,
};

use super::cell::ENTRY_BYTES_MAX;
use super::clock::Clock;
use super::declare::Item;
use super::samples::Consumer;
use super::settings::Settings;

/// Most rings of one link.
pub const RINGS_MAX: usize = 4;
/// Most bytes of a sample: key, time, value.
const SAMPLE_BYTES_MAX: usize = 3 + 5 + 5;
/// Longest frame to a device: kind, seq, mask, CRC.
const DOWN_BYTES_MAX: usize = 3 + 5 + CRC_BYTES;
/// [`Link::state`] while no window is going out.
const BETWEEN: usize = usize::MAX;

/// A device's end of the link. To be polled from the idle loop, or from wherever waiting for the writer does no harm.
///
/// It takes some 440 bytes, of which 255 are the one frame that is built and sent.
#[derive(Debug)]
pub struct Link {
    items: &'static [Item],
    settings: Settings,
    buffer: [u8; LINE_BYTES_MAX],
    receiver: Receiver<DOWN_BYTES_MAX>,
    rings: [Option<Consumer>; RINGS_MAX],
    time: Time,
    seq: u16,
    hello_at: u64,
    /// The next descriptor of those that are due, and how many are due.
    descriptor: usize,
    descriptors_due: usize,
    window_at: u64,
    windows: u32,
    /// The next metric of the window that is going out; [`BETWEEN`] two.
    state: usize,
    /// The next part of that metric; 0 if nothing of it is out.
    part: usize,
    mask: u32,
    mask_until: u64,
    /// Number of the next sample.
    sample: u32,
    /// Samples of metrics that are not listed.
    unlisted: u32,
}

impl Link {
    /// A link for these metrics; a metric's place is its id.
    #[must_use]
    pub const fn new(items: &'static [Item], settings: Settings) -> Self {
        Self {
            items,
            settings,
            buffer: [0; LINE_BYTES_MAX],
            receiver: Receiver::new(),
            rings: [const { None }; RINGS_MAX],
            time: Time { is_started: false, ticks: 0, uptime: 0, credit: settings.credit_max() },
            seq: 0,
            hello_at: 0,
            descriptor: 0,
            descriptors_due: items.len(),
            window_at: 0,
            windows: 0,
            state: BETWEEN,
            part: 0,
            mask: 0,
            mask_until: 0,
            sample: 0,
            unlisted: 0,
        }
    }

    /// Drains a ring from now on; false if `consumer` is `None` or there are [`RINGS_MAX`] already.
    pub fn add_ring(&mut self, consumer: Option<Consumer>) -> bool {
        let Some(place) = self.rings.iter_mut().find(|place| place.is_none()) else { return false };
        *place = consumer;
        place.is_some()
    }

    /// Ticks since the first poll.
    #[must_use]
    pub const fn uptime(&self) -> u64 {
        self.time.uptime
    }

    /// Whether a level is on, on demand or always.
    #[must_use]
    pub fn is_on(&self, level: crate::level::Level) -> bool {
        let known = self.items.iter().find(|item| item.level == level);
        known.is_some_and(|item| !level.is_on_demand() || self.mask >> item.level_number & 1 != 0)
    }

    /// Sends what is due and the budget has room for; the bytes that were sent.
    ///
    /// To be called more often than `clock` makes a round and any cell grows by 2^32.
    ///
    /// # Errors
    /// The writer's. The frame is lost then, and the next one is complete.
    pub fn poll<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<usize, W::Error> {
        self.advance(clock);
        let mut sent = 0;
        while self.time.credit >= self.settings.credit_frame() {
            let bytes = self.prepare(clock);
            if bytes == 0 {
                break;
            }
            self.time.credit -= self.settings.ticks_per_byte * bytes as u32;
            sent += bytes;
            self.write(bytes, writer)?;
        }
        Ok(sent)
    }

    /// Sends all there is, whatever the budget, and says that the device ends: before a reset or a deep sleep.
    ///
    /// # Errors
    /// As [`Link::poll`].
    pub fn end<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<(), W::Error> {
        self.advance(clock);
        self.state = BETWEEN;
        // No window is due in what comes first: hello, descriptors, samples.
        self.window_at = u64::MAX;
        loop {
            let bytes = self.prepare(clock);
            if bytes == 0 {
                break;
            }
            self.write(bytes, writer)?;
        }
        (self.state, self.part) = (0, 0);
        while self.state != BETWEEN {
            let bytes = self.prepare_state(flags::ALL | flags::END);
            self.write(bytes, writer)?;
        }
        writer.flush()
    }

    /// Takes what came from the gateway, in whatever pieces. What is no frame is ignored; a mask is repeated.
    pub fn receive(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let mask = match self.receiver.push(byte) {
                Some(Ok([kind::MASK, _, _, mask @ ..])) => short_varint(mask),
                Some(Ok([kind::ASK, ..])) => {
                    (self.hello_at, self.descriptors_due) = (0, self.items.len());
                    continue;
                }
                _ => continue,
            };
            self.mask_until = self.time.uptime.saturating_add(self.settings.hold_ticks);
            self.switch(mask);
        }
    }

    fn write<W: Write>(&mut self, bytes: usize, writer: &mut W) -> Result<(), W::Error> {
        writer.write_all(self.buffer.get(..bytes).unwrap_or_default())
    }

    /// Lets the time since the last call count, also against a mask that nobody repeats.
    fn advance<C: Clock>(&mut self, clock: C) {
        self.time.advance(clock, self.settings.credit_max());
        if self.mask != 0 && self.time.uptime >= self.mask_until {
            self.switch(0);
        }
    }

    /// Opens the gates of the on-demand levels in `mask`, and shuts the others.
    fn switch(&mut self, mask: u32) {
        self.mask = mask;
        for item in self.items.iter().filter(|item| item.level.is_on_demand()) {
            item.cell.gate().store(mask >> item.level_number & 1, Relaxed);
        }
    }

    /// Builds the next frame that is due; its bytes, 0 if none is.
    fn prepare<C: Clock>(&mut self, clock: C) -> usize {
        if self.time.uptime >= self.hello_at {
            self.hello_at = self.time.uptime.saturating_add(self.settings.hello_ticks);
            return self.prepare_hello();
        }
        if self.descriptors_due > 0 && !self.items.is_empty() {
            self.descriptors_due -= 1;
            return self.prepare_descriptor();
        }
        if self.state == BETWEEN && self.time.uptime >= self.window_at {
            self.window_at = self.time.uptime.saturating_add(self.settings.window_ticks);
            (self.state, self.part) = (0, 0);
            self.descriptors_due = usize::from(self.windows > 0);
        }
        if self.state != BETWEEN {
            let is_all = self.windows.is_multiple_of(ALL_EVERY_WINDOWS);
            return self.prepare_state(if is_all { flags::ALL } else { 0 });
        }
        self.prepare_samples(clock)
    }

    fn prepare_hello(&mut self) -> usize {
        let settings = &self.settings;
        let hello = Hello {
            protocol: PROTOCOL,
            boot: settings.boot,
            clock_hz: settings.clock_hz,
            overhead: settings.overhead,
            uptime: self.time.uptime,
            window_ms: settings.window_ms,
            metrics: self.items.len() as u16,
            program: settings.program,
        };
        let mut writer = Writer::new(&mut self.buffer);
        writer.start(kind::HELLO, next(&mut self.seq));
        hello.write(&mut writer);
        writer.finish().len()
    }

    fn prepare_descriptor(&mut self) -> usize {
        let at = self.descriptor;
        self.descriptor = if at + 1 < self.items.len() { at + 1 } else { 0 };
        let Some(item) = self.items.get(at) else { return 0 };
        let mut writer = Writer::new(&mut self.buffer);
        writer.start(kind::DESCRIPTOR, next(&mut self.seq));
        write_descriptor(&mut writer, at as u16, item);
        writer.finish().len()
    }

    /// Builds a frame of the window that is going out.
    fn prepare_state(&mut self, flags: u8) -> usize {
        let is_all = flags & flags::ALL != 0;
        let lost = self.lost();
        let mut writer = Writer::new(&mut self.buffer);
        writer.start(kind::STATE, next(&mut self.seq));
        let flags_at = writer.mark();
        writer.byte(flags);
        writer.varint(self.time.uptime);
        writer.varint(lost.into());
        loop {
            let Some(item) = self.items.get(self.state) else {
                writer.patch(flags_at, flags | flags::LAST);
                self.windows = self.windows.wrapping_add(1);
                self.state = BETWEEN;
                break;
            };
            let cell = item.cell;
            let is_due = || is_all || cell.is_changed() && self.windows % cell.every_windows() == 0;
            if self.part != 0 || is_due() {
                if writer.room() < ENTRY_BYTES_MAX {
                    break;
                }
                self.part = cell.write(&mut writer, self.state as u16, item.form, self.part);
                if self.part != 0 {
                    break;
                }
            }
            self.state += 1;
        }
        writer.finish().len()
    }

    fn lost(&self) -> u32 {
        self.rings.iter().flatten().fold(self.unlisted, |lost, ring| lost.wrapping_add(ring.lost()))
    }

    /// Builds a frame of what is in the rings; 0 if nothing is.
    fn prepare_samples<C: Clock>(&mut self, clock: C) -> usize {
        let lost = self.lost();
        let (first, shift) = (self.sample, self.settings.sample_shift);
        let history = History::new();
        let mut writer = Writer::new(&mut self.buffer);
        // Time of the sample before; `None` before the first, with which the frame begins.
        let mut last = None;
        for ring in self.rings.iter_mut().flatten() {
            while last.is_none() || writer.room() >= SAMPLE_BYTES_MAX {
                let Some(record) = ring.pop() else { break };
                // A cell begins with its gate.
                let find = |(_, item): &(usize, &Item)| ptr::addr_eq(item.cell, record.metric);
                let Some((id, item)) = self.items.iter().enumerate().find(find) else {
                    self.unlisted = self.unlisted.wrapping_add(1);
                    continue;
                };
                // Read behind the record's own time, so that that is in the past.
                self.time.advance(clock, self.settings.credit_max());
                let age = clock.elapsed(record.time, self.time.ticks);
                let time = (self.time.uptime as u32).wrapping_sub(age);
                let before = match last {
                    Some(before) => before,
                    None => {
                        writer.start(kind::SAMPLES, next(&mut self.seq));
                        writer.varint(first.into());
                        writer.varint(lost.into());
                        writer.byte(shift);
                        writer.varint((time >> shift).into());
                        time >> shift << shift
                    }
                };
                let later = time.wrapping_sub(before) >> shift;
                last = Some(before.wrapping_add(later << shift));
                writer.varint(item.form.key(id as u16).into());
                writer.varint(later.into());
                if item.form == Form::Float {
                    writer.bytes(&record.bits.to_le_bytes());
                } else {
                    let change = record.bits.wrapping_sub(history.replace(id as u16, record.bits));
                    writer.zigzag(change.cast_signed());
                }
                self.sample = self.sample.wrapping_add(1);
            }
        }
        if last.is_some() { writer.finish().len() } else { 0 }
    }
}

/// The device's time, and what it may send.
#[derive(Debug)]
struct Time {
    is_started: bool,
    /// The clock when it was read last.
    ticks: u32,
    /// Ticks since it was read first.
    uptime: u64,
    /// Ticks that were not used for sending.
    credit: u32,
}

impl Time {
    #[inline(never)]
    fn advance<C: Clock>(&mut self, clock: C, credit_max: u32) {
        let now = clock.ticks();
        let passed = if self.is_started { clock.elapsed(self.ticks, now) } else { 0 };
        (self.is_started, self.ticks) = (true, now);
        self.uptime += u64::from(passed);
        self.credit = self.credit.saturating_add(passed).min(credit_max);
    }
}

/// The present number, and counts on.
fn next(seq: &mut u16) -> u16 {
    let now = *seq;
    *seq = now.wrapping_add(1);
    now
}

/// A varint of u32 that ends its body; what is longer is cut.
fn short_varint(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 7 | u32::from(byte & 0x7f))
}
