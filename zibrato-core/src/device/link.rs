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
/// Bytes that a later version may append to a frame to a device.
const DOWN_BYTES_SPARE: usize = 16;
/// Longest frame to a device as it is encoded: code, kind, seq, mask, CRC.
const DOWN_BYTES_MAX: usize = 1 + 3 + 5 + CRC_BYTES + DOWN_BYTES_SPARE;

/// All of a link that changes: some 500 bytes on a device, of which 255 are the one frame that is built and sent. All zero
/// at the start.
#[derive(Debug)]
pub struct LinkState {
    line: [u8; LINE_BYTES_MAX],
    sender: Sender,
}

/// What is sent next, and when.
#[derive(Debug)]
struct Sender {
    history: History,
    receiver: Receiver<DOWN_BYTES_MAX>,
    rings: [Option<Consumer>; RINGS_MAX],
    time: Time,
    seq: u16,
    hello_at: u64,
    is_hello_due: bool,
    /// A zero is to go out before the next frame.
    is_torn: bool,
    /// The next descriptor of those that are due, and how many are due.
    descriptor: usize,
    descriptors_due: usize,
    window_at: u64,
    windows: u32,
    /// 1 more than the next metric of the window that is going out; 0 between two windows.
    place: usize,
    /// The next part of that metric; 0 if nothing of it is out.
    part: usize,
    mask: u32,
    mask_until: u64,
    is_ending: bool,
    /// Number of the next sample, and how many this call may still take.
    sample: u32,
    samples_left: u32,
    /// Samples of metrics that are not listed.
    unlisted: u32,
}

// What docs/FIRMWARE.md says of it.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<LinkState>() <= 512);

impl LinkState {
    /// Before the first poll.
    #[must_use]
    pub const fn new() -> Self {
        let sender = Sender {
            history: History::new(),
            receiver: Receiver::new(),
            rings: [const { None }; RINGS_MAX],
            time: Time { is_started: false, ticks: 0, uptime: 0, credit: 0 },
            seq: 0,
            hello_at: 0,
            is_hello_due: false,
            is_torn: false,
            descriptor: 0,
            descriptors_due: 0,
            window_at: 0,
            windows: 0,
            place: 0,
            part: 0,
            mask: 0,
            mask_until: 0,
            is_ending: false,
            sample: 0,
            samples_left: 0,
            unlisted: 0,
        };
        Self { line: [0; LINE_BYTES_MAX], sender }
    }
}

impl Default for LinkState {
    fn default() -> Self {
        Self::new()
    }
}

/// A device's end of the link. To be polled from the idle loop, or from wherever waiting for the writer does no harm.
#[derive(Debug)]
pub struct Link<S = LinkState> {
    items: &'static [Item],
    settings: Settings,
    state: S,
}

impl Link {
    /// A link for these metrics, which no other link has; a metric's place is its id.
    #[must_use]
    pub const fn new(items: &'static [Item], settings: Settings) -> Self {
        Self::with_state(items, settings, LinkState::new())
    }
}

impl<S> Link<S> {
    /// As [`Link::new`], with a state that is somewhere else, such as a `&'static mut LinkState`: one that lies in `.bss`
    /// is not cleared by code of its own, which saves 500 bytes of flash where nothing else has such code.
    #[must_use]
    pub const fn with_state(items: &'static [Item], settings: Settings, state: S) -> Self {
        Self { items, settings, state }
    }
}

impl<S: BorrowMut<LinkState>> Link<S> {
    /// Drains a ring from now on; false if `consumer` is `None` or there are [`RINGS_MAX`] already.
    pub fn add_ring(&mut self, consumer: Option<Consumer>) -> bool {
        let sender = &mut self.state.borrow_mut().sender;
        let Some(place) = sender.rings.iter_mut().find(|place| place.is_none()) else { return false };
        *place = consumer;
        place.is_some()
    }

    /// Ticks since the first poll.
    #[must_use]
    pub fn uptime(&self) -> u64 {
        self.state.borrow().sender.time.uptime
    }

    /// Whether a level is on, on demand or always.
    #[must_use]
    pub fn is_on(&self, level: crate::level::Level) -> bool {
        let known = self.items.iter().find(|item| item.level == level);
        known.is_some_and(|item| {
            !level.is_on_demand() || self.state.borrow().sender.mask >> item.level_number & 1 != 0
        })
    }

    /// Sends what is due and the budget has room for; the bytes that were sent. Of samples these are at most as many as
    /// the rings hold, however fast others come.
    ///
    /// To be called more often than `clock` makes a round, and so that no cell grows by 2^32 between two states that have
    /// it: one window, or four for a timer with buckets, and more where the budget is short.
    ///
    /// # Errors
    /// The writer's. The frame is lost then; what it had comes with the next change, or in the next window of all
    /// metrics.
    ///
    /// # Panics
    /// If the writer takes no byte and reports no error, as `embedded_io::Write::write_all` does.
    pub fn poll<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<usize, W::Error> {
        self.advance(clock);
        let mut total = 0;
        while self.state.borrow().sender.time.credit >= self.settings.credit_frame() {
            let sent = self.send(clock, writer)?;
            if sent == 0 {
                break;
            }
            total += sent;
        }
        Ok(total)
    }

    /// Sends all there is, whatever the budget, and says that the device ends: before a reset or a deep sleep. A device
    /// that goes on afterwards needs a new link with another boot.
    ///
    /// # Errors
    /// As [`Link::poll`].
    pub fn end<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<(), W::Error> {
        self.advance(clock);
        while self.send(clock, writer)? > 0 {}
        let sender = &mut self.state.borrow_mut().sender;
        (sender.is_ending, sender.place) = (true, 1);
        while self.state.borrow().sender.place != 0 {
            self.send(clock, writer)?;
        }
        self.state.borrow_mut().sender.is_ending = false;
        writer.flush()
    }

    /// Takes what came from the gateway, in whatever pieces. What is no frame is ignored; a mask is repeated.
    pub fn receive(&mut self, bytes: &[u8]) {
        let sender = &mut self.state.borrow_mut().sender;
        for &byte in bytes {
            let mask = match sender.receiver.push(byte) {
                Some(Ok([kind::MASK, _, _, body @ ..])) if !body.is_empty() => mask_of(body),
                Some(Ok([kind::ASK, ..])) => {
                    // Whoever asks has nothing, so that the next window is one of all metrics.
                    (sender.is_hello_due, sender.descriptors_due, sender.windows) =
                        (true, self.items.len(), 0);
                    if sender.place != 0 {
                        // The one that is going out becomes that.
                        (sender.place, sender.part) = (1, 0);
                    }
                    continue;
                }
                _ => continue,
            };
            sender.mask_until = sender.time.uptime.saturating_add(self.settings.hold_ticks);
            sender.switch(self.items, mask);
        }
    }

    /// Sends the next frame that is due; its bytes, 0 if none is.
    fn send<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<usize, W::Error> {
        let bytes = self.prepare(clock);
        // What ends goes out whatever it costs.
        let LinkState { line, sender } = self.state.borrow_mut();
        sender.time.credit = sender.time.credit.saturating_sub(self.settings.ticks_per_byte * bytes as u32);
        if sender.is_torn {
            // Ends what the line still has of a frame that broke off, or of the boot before: it would take ours with it.
            writer.write_all(&[0])?;
        }
        let written = writer.write_all(line.get(..bytes).unwrap_or_default());
        sender.is_torn = written.is_err();
        written.map(|()| bytes)
    }

    /// Lets the time since the last call count, also against a mask that nobody repeats, and decides what is to be sent.
    /// What becomes due later waits for the next call, so that one always ends.
    fn advance<C: Clock>(&mut self, clock: C) {
        let sender = &mut self.state.borrow_mut().sender;
        if !sender.time.is_started {
            sender.is_torn = true;
            sender.time.credit = self.settings.credit_max();
            sender.descriptors_due = self.items.len();
        }
        sender.time.advance(clock, self.settings.credit_max());
        if sender.mask != 0 && sender.time.uptime >= sender.mask_until {
            sender.switch(self.items, 0);
        }
        let uptime = sender.time.uptime;
        if sender.place == 0 && uptime >= sender.window_at {
            sender.window_at = uptime.saturating_add(self.settings.window_ticks);
            sender.place = 1;
            // One a window, in turn.
            sender.descriptors_due = sender.descriptors_due.max(usize::from(sender.windows > 0));
        }
        if uptime >= sender.hello_at {
            sender.hello_at = uptime.saturating_add(self.settings.hello_ticks);
            sender.is_hello_due = true;
        }
        sender.samples_left =
            sender.rings.iter().flatten().fold(0, |sum, ring| sum.saturating_add(ring.capacity()));
    }

    /// Builds the next frame that is due; its bytes, 0 if none is.
    fn prepare<C: Clock>(&mut self, clock: C) -> usize {
        let Self { items, settings, state } = self;
        let LinkState { line, sender } = state.borrow_mut();
        let mut frame = Writer::new(line);
        if sender.is_hello_due {
            sender.is_hello_due = false;
            frame.start(kind::HELLO, sender.seq);
            write_hello(&mut frame, items, settings, sender.time.uptime);
        } else if sender.descriptors_due > 0
            && let Some(item) = items.get(sender.descriptor)
        {
            frame.start(kind::DESCRIPTOR, sender.seq);
            write_descriptor(&mut frame, sender.descriptor as u16, item);
            sender.descriptors_due -= 1;
            sender.descriptor = if sender.descriptor + 1 < items.len() { sender.descriptor + 1 } else { 0 };
        } else if sender.place != 0 {
            frame.start(kind::STATE, sender.seq);
            sender.write_metrics(&mut frame, items);
        } else if !sender.write_samples(&mut frame, items, settings, clock) {
            return 0;
        }
        sender.seq = sender.seq.wrapping_add(1);
        frame.finish().len()
    }
}

fn write_hello(frame: &mut Writer<'_>, items: &[Item], settings: &Settings, uptime: u64) {
    frame.byte(PROTOCOL);
    frame.varint(settings.boot);
    frame.varint(settings.clock_hz.into());
    frame.varint(settings.overhead.into());
    frame.varint(uptime);
    frame.varint(settings.window_ms.into());
    frame.varint(items.len() as u64);
    frame.text(settings.program);
}

impl Sender {
    /// Opens the gates of the on-demand levels in `mask`, and shuts the others.
    fn switch(&mut self, items: &[Item], mask: u32) {
        self.mask = mask;
        for item in items.iter().filter(|item| item.level.is_on_demand()) {
            item.cell.gate().store(mask >> item.level_number & 1, Relaxed);
        }
    }

    /// Writes as much as fits of the window that is going out.
    fn write_metrics(&mut self, frame: &mut Writer<'_>, items: &[Item]) {
        let lost = self.lost();
        let is_all = self.is_ending || self.windows.is_multiple_of(ALL_EVERY_WINDOWS);
        let mut bits = (u8::from(is_all) * flags::ALL) | (u8::from(self.is_ending) * flags::END);
        let bits_at = frame.mark();
        frame.byte(0);
        frame.varint(self.time.uptime);
        frame.varint(lost.into());
        loop {
            let at = self.place - 1;
            let Some(item) = items.get(at) else {
                bits |= flags::LAST;
                self.windows = self.windows.wrapping_add(1);
                self.place = 0;
                break;
            };
            if self.part != 0 || is_all || item.cell.is_due(self.windows) {
                if frame.room() < ENTRY_BYTES_MAX {
                    break;
                }
                self.part = item.cell.write(frame, at as u16, item.form, self.part);
                if self.part != 0 {
                    break;
                }
            }
            self.place += 1;
        }
        frame.patch(bits_at, bits);
    }

    /// Begins a frame and writes as much as fits of what is in the rings; false if nothing is.
    fn write_samples<C: Clock>(
        &mut self,
        frame: &mut Writer<'_>,
        items: &[Item],
        settings: &Settings,
        clock: C,
    ) -> bool {
        let lost = self.lost();
        let (first, shift) = (self.sample, settings.sample_shift);
        // Time of the sample before; `None` before the first, with which the frame begins.
        let mut last = None;
        for ring in self.rings.iter_mut().flatten() {
            while frame.room() >= SAMPLE_BYTES_MAX && self.samples_left > 0 {
                let Some(record) = ring.pop() else { break };
                self.samples_left -= 1;
                // A cell begins with its gate.
                let find = |(_, item): &(usize, &Item)| ptr::addr_eq(item.cell, record.metric);
                let Some((id, item)) = items.iter().enumerate().find(find) else {
                    self.unlisted = self.unlisted.wrapping_add(1);
                    continue;
                };
                // Read behind the record's own time, so that that is in the past.
                self.time.advance(clock, settings.credit_max());
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
        }
        last.is_some()
    }

    fn lost(&self) -> u32 {
        self.rings.iter().flatten().fold(self.unlisted, |lost, ring| lost.wrapping_add(ring.lost()))
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

/// The varint at the start of a body, its low 32 bits; what stands behind it is a later version's.
fn mask_of(body: &[u8]) -> u32 {
    let mut mask = 0;
    let mut shift = 0;
    for &byte in body {
        mask |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    mask
}
