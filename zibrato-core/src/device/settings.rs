//! What a link is told once.

use crate::link::{HELLO_EVERY_MS, LINE_BYTES_MAX, MASK_HOLD_MS, PROGRAM_BYTES_MAX, WINDOW_MS_DEFAULT};

/// Default budget in bytes a second: what a line of 115 200 baud carries.
pub const BYTES_PER_SECOND_DEFAULT: u32 = 11_520;
/// Smallest budget in bytes a second.
pub const BYTES_PER_SECOND_MIN: u32 = 100;
/// Shortest window, in milliseconds.
pub const WINDOW_MS_MIN: u32 = 10;
/// Longest window, in milliseconds.
pub const WINDOW_MS_MAX: u32 = 3_600_000;
/// Bytes that may go out at once after a pause: two frames.
const BURST_BYTES: u32 = 2 * LINE_BYTES_MAX as u32;

/// Settings of a [`super::Link`], best made by a `const`, so that no division is left to the device.
///
/// | setting | default | accepted | effect |
/// |---|---|---|---|
/// | `clock_hz` | | from 1 | ticks a second of the clock that timers, rings and the link are given |
/// | `boot` | 0 | any | differs from boot to boot (random, or a counter in flash); with 0 a gateway that was restarted counts on from what it finds |
/// | `overhead` | 0 | any | ticks that the gateway takes off each duration; see [`super::clock::overhead`] |
/// | `window_ms` | 1 000 ms | 10 ms to 1 h | how often changed state is sent |
/// | `bytes_per_second` | 11 520 | from 100 | what goes out, state before samples; rounded down to whole ticks a byte; a budget above a byte a tick is none |
/// | `sample_shift` | 1 us at most | 0 to 31 | times of samples are rounded down to a multiple of `1 << sample_shift` ticks, which saves a byte or two a sample |
/// | `program` | none | 64 bytes without control characters of ASCII | what the device is called |
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Settings {
    pub(super) clock_hz: u32,
    pub(super) boot: u64,
    pub(super) overhead: u32,
    pub(super) window_ms: u32,
    pub(super) window_ticks: u64,
    pub(super) hello_ticks: u64,
    pub(super) hold_ticks: u64,
    pub(super) ticks_per_byte: u32,
    pub(super) sample_shift: u8,
    pub(super) program: &'static str,
}

impl Settings {
    /// Of a clock of so many ticks a second.
    ///
    /// # Panics
    /// If that is 0.
    #[must_use]
    pub const fn new(clock_hz: u32) -> Self {
        assert!(clock_hz > 0, "clock_hz: accepted is from 1");
        let settings = Self {
            clock_hz,
            boot: 0,
            overhead: 0,
            window_ms: 0,
            window_ticks: 0,
            hello_ticks: ticks(clock_hz, HELLO_EVERY_MS),
            hold_ticks: ticks(clock_hz, MASK_HOLD_MS),
            ticks_per_byte: 0,
            sample_shift: shift_of_microsecond(clock_hz),
            program: "",
        };
        settings.window_ms(WINDOW_MS_DEFAULT).bytes_per_second(BYTES_PER_SECOND_DEFAULT)
    }

    /// What tells this boot from others.
    #[must_use]
    pub const fn boot(mut self, boot: u64) -> Self {
        self.boot = boot;
        self
    }

    /// Ticks that two readings of the clock take.
    #[must_use]
    pub const fn overhead(mut self, ticks: u32) -> Self {
        self.overhead = ticks;
        self
    }

    /// How often changed state is sent.
    ///
    /// # Panics
    /// If it is not 10 ms to 1 h.
    #[must_use]
    pub const fn window_ms(mut self, window_ms: u32) -> Self {
        assert!(
            window_ms >= WINDOW_MS_MIN && window_ms <= WINDOW_MS_MAX,
            "window_ms: accepted are 10 to 3600000"
        );
        self.window_ms = window_ms;
        self.window_ticks = ticks(self.clock_hz, window_ms);
        self
    }

    /// The most bytes a second.
    ///
    /// # Panics
    /// If it is below 100.
    #[must_use]
    pub const fn bytes_per_second(mut self, bytes: u32) -> Self {
        assert!(bytes >= BYTES_PER_SECOND_MIN, "bytes_per_second: accepted is from 100");
        // Rounded up, so that no more goes out than was asked for.
        let ticks_per_byte = if bytes > self.clock_hz { 0 } else { self.clock_hz.div_ceil(bytes) };
        // Else a burst would be more ticks than are counted.
        let most = u32::MAX / BURST_BYTES;
        self.ticks_per_byte = if ticks_per_byte < most { ticks_per_byte } else { most };
        self
    }

    /// How many bits of the times of samples are left out.
    ///
    /// # Panics
    /// If they are more than 31.
    #[must_use]
    pub const fn sample_shift(mut self, shift: u8) -> Self {
        assert!(shift < 32, "sample_shift: accepted are 0 to 31");
        self.sample_shift = shift;
        self
    }

    /// Name of the program.
    ///
    /// # Panics
    /// If it is longer than 64 bytes or has a control character of ASCII.
    #[must_use]
    pub const fn program(mut self, program: &'static str) -> Self {
        assert!(program.len() <= PROGRAM_BYTES_MAX, "program: accepted are at most 64 bytes");
        let mut at = 0;
        while at < program.len() {
            assert!(
                !program.as_bytes()[at].is_ascii_control(),
                "program: accepted are no control characters"
            );
            at += 1;
        }
        self.program = program;
        self
    }

    /// The most ticks of budget that are saved up.
    pub(super) const fn credit_max(&self) -> u32 {
        self.ticks_per_byte * BURST_BYTES
    }

    /// What a frame needs before it is begun.
    pub(super) const fn credit_frame(&self) -> u32 {
        self.ticks_per_byte * LINE_BYTES_MAX as u32
    }
}

/// The largest shift by which a unit is at most a microsecond.
const fn shift_of_microsecond(clock_hz: u32) -> u8 {
    let mut shift = 0;
    while 2_000_000 << shift <= clock_hz as u64 {
        shift += 1;
    }
    shift
}

const fn ticks(clock_hz: u32, ms: u32) -> u64 {
    clock_hz as u64 * ms as u64 / 1_000
}
