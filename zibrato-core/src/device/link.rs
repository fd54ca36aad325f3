//! The device's end of the link: cells and rings into frames, frames into any writer, within a budget.
//!
//! Invariants: a frame is begun only if the budget has room for the longest; what a cell held is counted as sent when
//! its frame was handed to the writer, and since state is cumulative a frame that is lost is made good by the next;
//! nothing here waits but the writer, and nothing allocates.

use core::borrow::BorrowMut;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use embedded_io::Write;

use crate::link::{
    ALL_EVERY_WINDOWS, CRC_BYTES, Form, History, LINE_BYTES_MAX, PROTOCOL, Receiver, Writer, flags, kind,
    write_descriptor,
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
/// Longest frame to a device as it is encoded: code, kind, seq, mask, CRC.
const DOWN_BYTES_MAX: usize = 1 + 3 + 5 + CRC_BYTES;
/// [`Link::state`] while no window is going out.
const BETWEEN: usize = usize::MAX;

/// What a link builds its frames in, all zero.
#[derive(Debug)]
pub struct LineBuffer {
    line: [u8; LINE_BYTES_MAX],
    history: History,
}

impl LineBuffer {
    /// Without a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { line: [0; LINE_BYTES_MAX], history: History::new() }
    }
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A device's end of the link. To be polled from the idle loop, or from wherever waiting for the writer does no harm.
///
/// It takes some 190 bytes, and 320 for the one frame that is built and sent: in itself, or in a buffer that it is given.
#[derive(Debug)]
pub struct Link<B = LineBuffer> {
    items: &'static [Item],
    settings: Settings,
    buffer: B,
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
    is_ending: bool,
    /// Number of the next sample.
    sample: u32,
    /// Samples of metrics that are not listed.
    unlisted: u32,
}

impl Link {
    /// A link for these metrics; a metric's place is its id.
    #[must_use]
    pub const fn new(items: &'static [Item], settings: Settings) -> Self {
        Self::with_buffer(items, settings, LineBuffer::new())
    }
}

impl<B> Link<B> {
    /// As [`Link::new`], with a buffer that is somewhere else, such as a `&'static mut LineBuffer`: one that lies in
    /// `.bss` need not be cleared by code, which saves 400 bytes of flash where nothing else is.
    #[must_use]
    pub const fn with_buffer(items: &'static [Item], settings: Settings, buffer: B) -> Self {
        Self {
            items,
            settings,
            buffer,
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
            is_ending: false,
            sample: 0,
            unlisted: 0,
        }
    }
}

impl<B: BorrowMut<LineBuffer>> Link<B> {
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
        let mut total = 0;
        while self.time.credit >= self.settings.credit_frame() {
            let sent = self.send(clock, writer)?;
            if sent == 0 {
                break;
            }
            total += sent;
        }
        Ok(total)
    }

    /// Sends all there is, whatever the budget, and says that the device ends: before a reset or a deep sleep.
    ///
    /// # Errors
    /// As [`Link::poll`].
    pub fn end<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<(), W::Error> {
        self.advance(clock);
        // The window that is going out, if any, then no other one, so that hello, descriptors and samples come.
        self.window_at = u64::MAX;
        while self.send(clock, writer)? > 0 {}
        (self.is_ending, self.state) = (true, 0);
        while self.state != BETWEEN {
            self.send(clock, writer)?;
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

    /// Sends the next frame that is due; its bytes, 0 if none is.
    fn send<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<usize, W::Error> {
        let bytes = self.prepare(clock);
        // What ends goes out whatever it costs.
        self.time.credit = self.time.credit.saturating_sub(self.settings.ticks_per_byte * bytes as u32);
        writer.write_all(self.buffer.borrow_mut().line.get(..bytes).unwrap_or_default())?;
        Ok(bytes)
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
        let lost =
            self.rings.iter().flatten().fold(self.unlisted, |lost, ring| lost.wrapping_add(ring.lost()));
        let Self { items, settings, time, .. } = self;
        let LineBuffer { line, history } = self.buffer.borrow_mut();
        let mut frame = Writer::new(line);
        let uptime = time.uptime;
        if self.state == BETWEEN && uptime >= self.window_at {
            self.window_at = uptime.saturating_add(settings.window_ticks);
            self.state = 0;
            // One a window, in turn.
            self.descriptors_due = self.descriptors_due.max(usize::from(self.windows > 0));
        }
        if uptime >= self.hello_at {
            self.hello_at = uptime.saturating_add(settings.hello_ticks);
            frame.start(kind::HELLO, self.seq);
            frame.byte(PROTOCOL);
            frame.varint(settings.boot);
            frame.varint(settings.clock_hz.into());
            frame.varint(settings.overhead.into());
            frame.varint(uptime);
            frame.varint(settings.window_ms.into());
            frame.varint(items.len() as u64);
            frame.text(settings.program);
        } else if self.descriptors_due > 0
            && let Some(item) = items.get(self.descriptor)
        {
            frame.start(kind::DESCRIPTOR, self.seq);
            write_descriptor(&mut frame, self.descriptor as u16, item);
            self.descriptors_due -= 1;
            self.descriptor = if self.descriptor + 1 < items.len() { self.descriptor + 1 } else { 0 };
        } else if self.state != BETWEEN {
            let is_all = self.is_ending || self.windows.is_multiple_of(ALL_EVERY_WINDOWS);
            let mut bits = u8::from(is_all) * flags::ALL | u8::from(self.is_ending) * flags::END;
            frame.start(kind::STATE, self.seq);
            let bits_at = frame.mark();
            frame.byte(0);
            frame.varint(uptime);
            frame.varint(lost.into());
            loop {
                let Some(item) = items.get(self.state) else {
                    bits |= flags::LAST;
                    self.windows = self.windows.wrapping_add(1);
                    self.state = BETWEEN;
                    break;
                };
                if self.part != 0 || is_all || item.cell.is_due(self.windows) {
                    if frame.room() < ENTRY_BYTES_MAX {
                        break;
                    }
                    self.part = item.cell.write(&mut frame, self.state as u16, item.form, self.part);
                    if self.part != 0 {
                        break;
                    }
                }
                self.state += 1;
            }
            frame.patch(bits_at, bits);
        } else {
            let (first, shift) = (self.sample, settings.sample_shift);
            // Time of the sample before; `None` before the first, with which the frame begins.
            let mut last = None;
            for ring in self.rings.iter_mut().flatten() {
                while frame.room() >= SAMPLE_BYTES_MAX {
                    let Some(record) = ring.pop() else { break };
                    // A cell begins with its gate.
                    let find = |(_, item): &(usize, &Item)| ptr::addr_eq(item.cell, record.metric);
                    let Some((id, item)) = items.iter().enumerate().find(find) else {
                        self.unlisted = self.unlisted.wrapping_add(1);
                        continue;
                    };
                    // Read behind the record's own time, so that that is in the past.
                    time.advance(clock, settings.credit_max());
                    let when = (time.uptime as u32).wrapping_sub(clock.elapsed(record.time, time.ticks));
                    let before = match last {
                        Some(before) => before,
                        None => {
                            history.clear();
                            frame.start(kind::SAMPLES, self.seq);
                            frame.varint(first.into());
                            frame.varint(lost.into());
                            frame.byte(shift);
                            frame.varint((when >> shift).into());
                            when >> shift << shift
                        }
                    };
                    let later = when.wrapping_sub(before) >> shift;
                    last = Some(before.wrapping_add(later << shift));
                    frame.varint(item.form.key(id as u16).into());
                    frame.varint(later.into());
                    if item.form == Form::Float {
                        frame.bytes(&record.bits.to_le_bytes());
                    } else {
                        let change = record.bits.wrapping_sub(history.replace(id as u16, record.bits));
                        frame.zigzag(change.cast_signed());
                    }
                    self.sample = self.sample.wrapping_add(1);
                }
            }
            if last.is_none() {
                return 0;
            }
        }
        self.seq = self.seq.wrapping_add(1);
        frame.finish().len()
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

/// A varint of u32 that ends its body; what is longer is cut.
fn short_varint(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 7 | u32::from(byte & 0x7f))
}
