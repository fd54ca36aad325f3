//! The device's end of the link: which frame is due when, within a budget, and what comes from the gateway.
//!
//! Invariants: a frame is begun only if the budget has room for the longest; nothing here waits but the writer, and
//! nothing allocates.

use core::borrow::BorrowMut;
use core::sync::atomic::Ordering::Relaxed;

use embedded_io::Write;

use crate::link::{ALL_EVERY_WINDOWS, CRC_BYTES, Receiver, kind};

use super::clock::Clock;
use super::declare::Item;
use super::frames::{Frames, Position, Window};
use super::samples::Consumer;
use super::settings::Settings;

/// Most rings of one link.
pub const RINGS_MAX: usize = 4;
/// Bytes that a later version may append to a frame to a device.
const DOWN_BYTES_SPARE: usize = 16;
/// Longest frame to a device as it is encoded: code, kind, seq, mask, CRC.
const DOWN_BYTES_MAX: usize = 1 + 3 + 5 + CRC_BYTES + DOWN_BYTES_SPARE;

/// All of a link that changes: some 500 bytes on a device, of which 255 are the one frame that is built and sent. All zero
/// at the start.
#[derive(Debug)]
pub struct LinkState {
    schedule: Schedule,
    frames: Frames,
}

/// What is sent next, and when.
#[derive(Debug)]
struct Schedule {
    rings: [Option<Consumer>; RINGS_MAX],
    receiver: Receiver<DOWN_BYTES_MAX>,
    /// Ticks that were not used for sending, up to which uptime.
    credit: u32,
    credited_at: u64,
    hello_at: u64,
    is_hello_due: bool,
    /// A zero is to go out before the next frame.
    is_torn: bool,
    /// The next descriptor of those that are due, and how many are due.
    descriptor: u16,
    descriptors_due: usize,
    window_at: u64,
    windows: u32,
    /// Whether the state of a window is going out, and how far it is.
    is_state_due: bool,
    position: Position,
    is_ending: bool,
    mask: u32,
    mask_until: u64,
    /// How many samples this call may still take.
    samples_left: u32,
    /// Records that full rings dropped, when this call began.
    lost: u32,
}

// What docs/FIRMWARE.md says of it.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<LinkState>() <= 512);

impl LinkState {
    /// Before the first poll.
    #[must_use]
    pub const fn new() -> Self {
        let schedule = Schedule {
            rings: [const { None }; RINGS_MAX],
            receiver: Receiver::new(),
            credit: 0,
            credited_at: 0,
            hello_at: 0,
            is_hello_due: false,
            is_torn: false,
            descriptor: 0,
            descriptors_due: 0,
            window_at: 0,
            windows: 0,
            is_state_due: false,
            position: Position::START,
            is_ending: false,
            mask: 0,
            mask_until: 0,
            samples_left: 0,
            lost: 0,
        };
        Self { schedule, frames: Frames::new() }
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
        let schedule = &mut self.state.borrow_mut().schedule;
        let Some(place) = schedule.rings.iter_mut().find(|place| place.is_none()) else { return false };
        *place = consumer;
        place.is_some()
    }

    /// Ticks since the first poll.
    #[must_use]
    pub fn uptime(&self) -> u64 {
        self.state.borrow().frames.uptime()
    }

    /// Whether a level is on, on demand or always.
    #[must_use]
    pub fn is_on(&self, level: crate::level::Level) -> bool {
        let known = self.items.iter().find(|item| *item.level == level);
        known.is_some_and(|item| {
            !level.is_on_demand() || self.state.borrow().schedule.mask >> item.level_number & 1 != 0
        })
    }

    /// Sends what is due and the budget has room for; the bytes that were sent. Of samples these are at most as many as
    /// the rings hold, and a frame, however fast others come.
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
        while self.state.borrow().schedule.credit >= self.settings.credit_frame() {
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
        self.state.borrow_mut().schedule.start_window(true);
        while self.state.borrow().schedule.is_state_due {
            self.send(clock, writer)?;
        }
        self.state.borrow_mut().schedule.is_ending = false;
        writer.flush()
    }

    /// Takes what came from the gateway, in whatever pieces. What is no frame is ignored; a mask is repeated.
    pub fn receive(&mut self, bytes: &[u8]) {
        let LinkState { schedule, frames } = self.state.borrow_mut();
        for &byte in bytes {
            match schedule.receiver.push(byte) {
                Some(Ok([kind::MASK, _, _, body @ ..])) if !body.is_empty() => {
                    let mask = mask_of(body);
                    schedule.mask_until = frames.uptime().saturating_add(self.settings.hold_ticks);
                    schedule.switch(self.items, mask);
                }
                Some(Ok([kind::ASK, ..])) => {
                    (schedule.is_hello_due, schedule.descriptors_due) = (true, self.items.len());
                    // Whoever asks has nothing, so that the next window is one of all metrics, and so becomes the one
                    // that is going out.
                    (schedule.windows, schedule.position) = (0, Position::START);
                }
                _ => {}
            }
        }
    }

    /// Lets the time since the last call count, also against a mask that nobody repeats, and decides what is to be sent.
    /// What becomes due later waits for the next call, so that one always ends.
    fn advance<C: Clock>(&mut self, clock: C) {
        let Self { items, settings, state } = self;
        let LinkState { schedule, frames } = state.borrow_mut();
        if !frames.is_started() {
            (schedule.credit, schedule.descriptors_due, schedule.is_torn) =
                (settings.credit_max(), items.len(), true);
        }
        frames.advance(clock);
        let uptime = frames.uptime();
        let passed = u32::try_from(uptime - schedule.credited_at).unwrap_or(u32::MAX);
        schedule.credit = schedule.credit.saturating_add(passed).min(settings.credit_max());
        schedule.credited_at = uptime;
        if schedule.mask != 0 && uptime >= schedule.mask_until {
            schedule.switch(items, 0);
        }
        if !schedule.is_state_due && uptime >= schedule.window_at {
            schedule.window_at = uptime.saturating_add(settings.window_ticks);
            schedule.start_window(false);
            // One a window, in turn.
            schedule.descriptors_due = schedule.descriptors_due.max(usize::from(schedule.windows > 0));
        }
        if uptime >= schedule.hello_at {
            schedule.hello_at = uptime.saturating_add(settings.hello_ticks);
            schedule.is_hello_due = true;
        }
        (schedule.samples_left, schedule.lost) = (0, frames.unlisted());
        for ring in schedule.rings.iter().flatten() {
            schedule.samples_left = schedule.samples_left.saturating_add(ring.capacity());
            schedule.lost = schedule.lost.wrapping_add(ring.lost());
        }
    }

    /// Sends the next frame that is due; its bytes, 0 if none is.
    fn send<C: Clock, W: Write>(&mut self, clock: C, writer: &mut W) -> Result<usize, W::Error> {
        let Self { items, settings, state } = self;
        let LinkState { schedule, frames } = state.borrow_mut();
        schedule.build(frames, items, settings, clock);
        let line = frames.line();
        if line.is_empty() {
            return Ok(0);
        }
        // What ends goes out whatever it costs.
        schedule.credit = schedule.credit.saturating_sub(settings.ticks_per_byte * line.len() as u32);
        if schedule.is_torn {
            // Ends what the line still has of a frame that broke off, or of the boot before: it would take ours with it.
            writer.write_all(&[0])?;
        }
        let written = writer.write_all(line);
        schedule.is_torn = written.is_err();
        written.map(|()| line.len())
    }
}

impl Schedule {
    fn start_window(&mut self, is_ending: bool) {
        (self.is_state_due, self.is_ending, self.position) = (true, is_ending, Position::START);
    }

    /// Opens the gates of the on-demand levels in `mask`, and shuts the others.
    fn switch(&mut self, items: &[Item], mask: u32) {
        self.mask = mask;
        for item in items.iter().filter(|item| item.level.is_on_demand()) {
            item.cell.head().gate.store(mask >> item.level_number & 1, Relaxed);
        }
    }

    /// Builds the next frame that is due, or none.
    fn build<C: Clock>(&mut self, frames: &mut Frames, items: &[Item], settings: &Settings, clock: C) {
        frames.clear();
        if self.is_hello_due {
            self.is_hello_due = false;
            frames.hello(items, settings);
        } else if self.descriptors_due > 0
            && let Some(item) = items.get(usize::from(self.descriptor))
        {
            frames.descriptor(self.descriptor, item);
            self.descriptors_due -= 1;
            self.descriptor =
                if usize::from(self.descriptor) + 1 < items.len() { self.descriptor + 1 } else { 0 };
        } else if self.is_state_due {
            let window = Window {
                number: self.windows,
                is_all: self.is_ending || self.windows.is_multiple_of(ALL_EVERY_WINDOWS),
                is_end: self.is_ending,
                lost: self.lost,
            };
            if frames.state(items, window, &mut self.position) {
                self.is_state_due = false;
                self.windows = self.windows.wrapping_add(1);
            }
        } else {
            for ring in self.rings.iter_mut().flatten() {
                if self.samples_left == 0 || !frames.line().is_empty() {
                    break;
                }
                let before = frames.samples_sent();
                frames.samples(items, settings, ring, self.lost, clock);
                self.samples_left =
                    self.samples_left.saturating_sub(frames.samples_sent().wrapping_sub(before));
            }
        }
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
