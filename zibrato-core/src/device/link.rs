//! The device's end of the link: cells and rings into frames, frames into any writer, within a budget.
//!
//! Invariants: a frame is begun only if the budget has room for the longest; what a cell held is counted as sent when
//! its frame was handed to the writer, and since state is cumulative a frame that is lost is made good by the next;
//! nothing here waits but the writer, and nothing allocates.

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use embedded_io::Write;

use crate::link::{
    ALL_EVERY_WINDOWS, BUCKETS_EVERY_WINDOWS, CRC_BYTES, Form, Hello, History, LINE_BYTES_MAX, PROTOCOL,
    Receiver, Writer, flags, kind, write_descriptor,
};

use super::clock::Clock;
use super::declare::{Cell, Item, level_number};
use super::samples::Consumer;
use super::settings::Settings;

/// Most rings of one link.
pub const RINGS_MAX: usize = 4;
/// Most bytes of a state entry: key, two u64, two u32.
const ENTRY_BYTES_MAX: usize = 3 + 10 + 10 + 5 + 5;
/// Most bytes of a sample: key, time, value.
const SAMPLE_BYTES_MAX: usize = 3 + 5 + 5;
/// Most bytes of a count.
const COUNT_BYTES_MAX: usize = 5;
/// Longest frame to a device: kind, seq, mask, CRC.
const DOWN_BYTES_MAX: usize = 3 + 5 + CRC_BYTES;

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
    is_started: bool,
    last_ticks: u32,
    uptime: u64,
    credit: u32,
    seq: u16,
    hello_at: u64,
    /// The next descriptor of those that are due, and how many are due.
    descriptor: usize,
    descriptors_due: usize,
    window_at: u64,
    windows: u32,
    /// The next metric of the window that is going out; `None` between two.
    state: Option<usize>,
    /// The next bucket of that metric, if its buckets are going out.
    bucket: Option<usize>,
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
            is_started: false,
            last_ticks: 0,
            uptime: 0,
            credit: 0,
            seq: 0,
            hello_at: 0,
            descriptor: 0,
            descriptors_due: items.len(),
            window_at: 0,
            windows: 0,
            state: None,
            bucket: None,
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
        self.uptime
    }

    /// Whether a level is on, on demand or always.
    #[must_use]
    pub fn is_on(&self, level: crate::level::Level) -> bool {
        let of_level = |at: &usize| self.items.get(*at).is_some_and(|item| item.descriptor.level == level);
        match (0..self.items.len()).find(of_level) {
            Some(at) if level.is_on_demand() => self.mask >> level_number(self.items, at) & 1 != 0,
            at => at.is_some(),
        }
    }

    /// Sends what is due and the budget has room for; the bytes that were sent.
    ///
    /// To be called more often than `clock` makes a round and any cell grows by 2^32.
    ///
    /// # Errors
    /// The writer's. The frame is lost then, and the next one is complete.
    pub fn poll<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<usize, W::Error> {
        if !self.is_started {
            // Ends whatever the line still has of the boot before, which would take our first frame with it.
            writer.write_all(&[0])?;
        }
        self.advance(clock);
        let mut sent = 0;
        while self.credit >= self.settings.credit_frame() {
            let bytes = self.prepare(clock);
            if bytes == 0 {
                break;
            }
            self.credit = self.credit.saturating_sub(self.settings.ticks_per_byte * bytes as u32);
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
        self.state = None;
        // No window is due in what comes first: hello, descriptors, samples.
        self.window_at = u64::MAX;
        loop {
            let bytes = self.prepare(clock);
            if bytes == 0 {
                break;
            }
            self.write(bytes, writer)?;
        }
        (self.state, self.bucket, self.windows) = (Some(0), None, 0);
        while self.state.is_some() {
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
                    // Whoever asks has nothing, so that the next window is one of all metrics.
                    (self.hello_at, self.descriptors_due, self.windows) = (0, self.items.len(), 0);
                    continue;
                }
                _ => continue,
            };
            self.mask_until = self.uptime.saturating_add(self.settings.hold_ticks);
            self.switch(mask);
        }
    }

    fn write<W: Write>(&mut self, bytes: usize, writer: &mut W) -> Result<(), W::Error> {
        writer.write_all(self.buffer.get(..bytes).unwrap_or_default())
    }

    /// Lets the time since the last call count.
    fn advance<C: Clock>(&mut self, clock: C) {
        let now = clock.ticks();
        let passed =
            if self.is_started { clock.elapsed(self.last_ticks, now) } else { self.settings.credit_max() };
        self.credit = self.credit.saturating_add(passed).min(self.settings.credit_max());
        if self.is_started {
            self.uptime += u64::from(passed);
        }
        (self.is_started, self.last_ticks) = (true, now);
        if self.mask != 0 && self.uptime >= self.mask_until {
            self.switch(0);
        }
    }

    /// Opens the gates of the on-demand levels in `mask`, and shuts the others.
    fn switch(&mut self, mask: u32) {
        self.mask = mask;
        for (at, item) in self.items.iter().enumerate() {
            if item.descriptor.level.is_on_demand() {
                item.cell.gate().store(mask >> level_number(self.items, at) & 1, Relaxed);
            }
        }
    }

    /// Builds the next frame that is due; its bytes, 0 if none is.
    fn prepare<C: Clock>(&mut self, clock: C) -> usize {
        if self.uptime >= self.hello_at {
            self.hello_at = self.uptime.saturating_add(self.settings.hello_ticks);
            return self.prepare_hello();
        }
        if self.descriptors_due > 0 && !self.items.is_empty() {
            self.descriptors_due -= 1;
            return self.prepare_descriptor();
        }
        if self.state.is_none() && self.uptime >= self.window_at {
            self.window_at = self.uptime.saturating_add(self.settings.window_ticks);
            (self.state, self.bucket) = (Some(0), None);
            self.descriptors_due = usize::from(self.windows > 0);
        }
        if self.state.is_some() {
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
            uptime: self.uptime,
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
        write_descriptor(&mut writer, at as u16, level_number(self.items, at), item.descriptor);
        writer.finish().len()
    }

    /// Builds a frame of the window that is going out.
    fn prepare_state(&mut self, flags: u8) -> usize {
        let is_all = flags & flags::ALL != 0;
        let has_buckets = is_all || self.windows.is_multiple_of(BUCKETS_EVERY_WINDOWS);
        let lost = self.lost();
        let mut at = self.state.unwrap_or(0);
        let mut writer = Writer::new(&mut self.buffer);
        writer.start(kind::STATE, next(&mut self.seq));
        let flags_at = writer.mark();
        writer.byte(flags);
        writer.varint(self.uptime);
        writer.varint(lost.into());
        self.state = loop {
            let Some(item) = self.items.get(at) else {
                writer.patch(flags_at, flags | flags::LAST);
                self.windows = self.windows.wrapping_add(1);
                break None;
            };
            let buckets: &[AtomicU32] = match &item.cell {
                Cell::Timer(_, buckets) => buckets,
                Cell::Counter(_) | Cell::Gauge(_) => &[],
            };
            if self.bucket.is_none()
                && (is_all || item.cell.is_changed() && (buckets.is_empty() || has_buckets))
            {
                if writer.room() < ENTRY_BYTES_MAX {
                    break Some(at);
                }
                write_entry(&mut writer, at as u16, item);
                self.bucket = (!buckets.is_empty()).then_some(0);
            }
            if let Some(bucket) = self.bucket {
                self.bucket = write_buckets(&mut writer, at as u16, buckets, bucket);
                if self.bucket.is_some() {
                    break Some(at);
                }
            }
            at += 1;
        };
        writer.finish().len()
    }

    fn lost(&self) -> u32 {
        self.rings.iter().flatten().fold(self.unlisted, |lost, ring| lost.wrapping_add(ring.lost()))
    }

    /// Builds a frame of what is in the rings; 0 if nothing is.
    fn prepare_samples<C: Clock>(&mut self, clock: C) -> usize {
        let lost = self.lost();
        let (first, shift) = (self.sample, self.settings.sample_shift);
        let mut history = History::default();
        let mut writer = Writer::new(&mut self.buffer);
        let mut last = None;
        for ring in self.rings.iter_mut().flatten() {
            // The first sample comes behind a head that is begun with it.
            while last.is_none() || writer.room() >= SAMPLE_BYTES_MAX {
                let Some(record) = ring.pop() else { break };
                // Read behind the record's own time, so that that is in the past.
                let now = clock.ticks();
                self.uptime += u64::from(clock.elapsed(self.last_ticks, now));
                self.last_ticks = now;
                let Some(id) = self.items.iter().position(|item| ptr::eq(item.descriptor, record.metric))
                else {
                    self.unlisted = self.unlisted.wrapping_add(1);
                    continue;
                };
                let time = (self.uptime as u32).wrapping_sub(clock.elapsed(record.time, now));
                let before = last.unwrap_or_else(|| {
                    writer.start(kind::SAMPLES, next(&mut self.seq));
                    writer.varint(first.into());
                    writer.varint(lost.into());
                    writer.byte(shift);
                    writer.varint((time >> shift).into());
                    time >> shift << shift
                });
                let later = time.wrapping_sub(before) >> shift;
                last = Some(before.wrapping_add(later << shift));
                let (form, id) = (record.metric.form, id as u16);
                writer.varint(form.key(id).into());
                writer.varint(later.into());
                if form == Form::Float {
                    writer.bytes(&record.bits.to_le_bytes());
                } else {
                    let value = history.last(id);
                    writer.zigzag(record.bits.wrapping_sub(*value).cast_signed());
                    *value = record.bits;
                }
                self.sample = self.sample.wrapping_add(1);
            }
        }
        if last.is_some() { writer.finish().len() } else { 0 }
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

fn write_entry(writer: &mut Writer<'_>, id: u16, item: &Item) {
    match &item.cell {
        Cell::Counter(cell) => {
            writer.varint(Form::Counter.key(id).into());
            writer.varint(cell.total());
        }
        Cell::Gauge(cell) => {
            let form = item.descriptor.form;
            let (sets, bits) = cell.total();
            writer.varint(form.key(id).into());
            writer.varint(sets.into());
            match form {
                Form::Float => writer.bytes(&bits.to_le_bytes()),
                _ => writer.zigzag(bits.cast_signed()),
            }
        }
        Cell::Timer(words, _) => {
            let total = words.total();
            writer.varint(Form::Timer.key(id).into());
            writer.varint(total.count);
            writer.varint(total.sum);
            match total.range {
                None => writer.byte(0),
                Some((min, max)) => {
                    writer.varint(u64::from(min) + 1);
                    writer.varint((max - min).into());
                }
            }
        }
    }
}

/// Writes buckets from `first` on, as many as there is room for; where to go on, `None` if all that are not 0 are out.
fn write_buckets(writer: &mut Writer<'_>, id: u16, buckets: &[AtomicU32], first: usize) -> Option<usize> {
    let count = |at: usize| buckets.get(at).map_or(0, |bucket| bucket.load(Relaxed));
    let end = (first..buckets.len()).rev().find(|&at| count(at) != 0)? + 1;
    let first = (first..end).find(|&at| count(at) != 0)?;
    if writer.room() < 3 + 2 + COUNT_BYTES_MAX {
        return Some(first);
    }
    writer.varint(Form::Buckets.key(id).into());
    writer.byte(first as u8);
    let length_at = writer.mark();
    writer.byte(0);
    let mut at = first;
    while at < end && writer.room() >= COUNT_BYTES_MAX {
        writer.varint(count(at).into());
        at += 1;
    }
    writer.patch(length_at, (at - first) as u8);
    (at < end).then_some(at)
}
