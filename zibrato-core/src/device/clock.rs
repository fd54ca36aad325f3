//! Where a device's durations come from: any counter of 32 bits, or of less.
//!
//! | clock | what it counts | an own start | costs a read |
//! |---|---|---|---|
//! | `Dwt` | cycles of a Cortex-M3 or better | `Dwt::start`, which also tests it | 2 instructions |
//! | `SysTick` | cycles of any Cortex-M, down, 24 bits at most | `SysTick::start`, or whoever has it | 2, and 2 to 5 for a difference |
//! | `DwtOrSysTick` | as the first, or the second where there is none | `DwtOrSysTick::start` | 3, and some 8 for a difference |
//! | `Mcycle` | cycles of a RISC-V hart | none | 1 |
//! | `Register` | whatever stands at an address, up or down | yours | 2 |
//! | `Embassy` | ticks of `embassy-time` | its driver's | a call |
//!
//! QEMU's DWT reads zero for ever, and so does that of many boards until a debugger was there; that is what the test at the
//! start is for. A clock's rounds bound more than durations: a link reads it at each poll and while it sends, so one that makes
//! a round in less than it takes to send a frame, as the tick of an operating system does, serves timers and no link; and
//! samples are to leave their ring within a round. Counters of a core are that core's own.
//!
//! # Invariants
//! - **K1** Every address that is read or written here is a register of 32 bits that the core's manual has at that place, or that
//!   the caller of `Register::new` promised, and reading it has no effect; firmware runs privileged.
#![cfg_attr(
    any(target_arch = "arm", target_arch = "riscv32", target_arch = "riscv64"),
    expect(
        unsafe_code,
        reason = "counters are registers at fixed addresses, or read by an instruction of their own"
    )
)]

use core::fmt;

/// Readings of the clock from which [`overhead`] takes the smallest difference.
const OVERHEAD_READS: u32 = 16;

/// A counter that a device has.
///
/// A clock is a value without size, so that a guard keeps only what it read.
pub trait Clock: Copy {
    /// The present count.
    fn ticks(self) -> u32;

    /// Ticks from one count to a later one, less than one round of the counter later.
    #[inline(always)]
    fn elapsed(self, start: u32, end: u32) -> u32 {
        end.wrapping_sub(start)
    }
}

/// Ticks that two readings take with nothing between them, the smallest of 16.
///
/// The gateway takes it off each duration; give it to [`super::Settings::overhead`].
#[must_use]
pub fn overhead(clock: impl Clock) -> u32 {
    (0..OVERHEAD_READS)
        .map(|_| {
            let start = clock.ticks();
            clock.elapsed(start, clock.ticks())
        })
        .min()
        .unwrap_or(0)
}

/// Why a clock is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ClockError {
    /// It was switched on and stands still: an emulator, a core without it, or one that a debugger has to unlock.
    StandsStill,
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the clock was switched on and stands still: use another one")
    }
}

impl core::error::Error for ClockError {}

/// Readings within which a clock has to have moved.
#[cfg(any(test, target_arch = "arm"))]
const LOOKS_MAX: u32 = 64;

/// Whether a clock moves at all within some instructions.
#[cfg(any(test, target_arch = "arm"))]
fn check(clock: impl Clock) -> Result<(), ClockError> {
    let start = clock.ticks();
    // The hint keeps the loop and costs an instruction or so.
    for _ in 0..LOOKS_MAX {
        core::hint::spin_loop();
        if clock.elapsed(start, clock.ticks()) != 0 {
            return Ok(());
        }
    }
    Err(ClockError::StandsStill)
}

/// Any counter of 32 bits at an address: `Register<0x4000_0004>` counts up, `Register<0x4000_0004, true>` down.
///
/// # Safety of use
/// The address is part of the type, and made into one by `Register::new`, which is where the promise is made that it
/// may be read at any time.
#[derive(Clone, Copy, Debug)]
pub struct Register<const ADDRESS: usize, const DOWN: bool = false>(());

#[cfg(any(target_arch = "arm", target_arch = "riscv32", target_arch = "riscv64"))]
impl<const ADDRESS: usize, const DOWN: bool> Register<ADDRESS, DOWN> {
    /// The counter at `ADDRESS`.
    ///
    /// # Safety
    /// At `ADDRESS` there must be an aligned register of 32 bits that may be read at any time, without effect.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

#[cfg(any(target_arch = "arm", target_arch = "riscv32", target_arch = "riscv64"))]
impl<const ADDRESS: usize, const DOWN: bool> Clock for Register<ADDRESS, DOWN> {
    #[inline(always)]
    fn ticks(self) -> u32 {
        read(ADDRESS)
    }

    #[inline(always)]
    fn elapsed(self, start: u32, end: u32) -> u32 {
        if DOWN { start.wrapping_sub(end) } else { end.wrapping_sub(start) }
    }
}

/// Reads a register of this module's, or one that [`Register::new`] promised.
#[cfg(any(target_arch = "arm", target_arch = "riscv32", target_arch = "riscv64"))]
#[inline(always)]
fn read(address: usize) -> u32 {
    // SAFETY: K1: every caller's address is one of the core's own registers, or was promised.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

#[cfg(target_arch = "arm")]
pub use arm::{Dwt, DwtOrSysTick, SysTick};

#[cfg(target_arch = "arm")]
mod arm {
    //! Counters of Cortex-M cores. Source: ARMv6-M, ARMv7-M and ARMv8-M Architecture Reference Manuals.

    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::{Clock, ClockError, check, read};

    /// Debug exception and monitor control: bit 24 powers the DWT.
    const DEMCR: usize = 0xe000_edfc;
    const DEMCR_TRCENA: u32 = 1 << 24;
    const DWT_CTRL: usize = 0xe000_1000;
    const DWT_CTRL_CYCCNTENA: u32 = 1;
    const DWT_CYCCNT: usize = 0xe000_1004;
    /// Lock of the DWT on some cores; this word opens it.
    const DWT_LAR: usize = 0xe000_1fb0;
    const DWT_LAR_KEY: u32 = 0xc5ac_ce55;
    const SYST_CSR: usize = 0xe000_e010;
    const SYST_RVR: usize = 0xe000_e014;
    const SYST_CVR: usize = 0xe000_e018;
    /// Processor clock, enabled, without interrupt.
    const SYST_CSR_ON: u32 = 0b101;
    const SYST_ROUND: u32 = 0x00ff_ffff;

    /// Writes a register of the core.
    fn write(address: usize, value: u32) {
        // SAFETY: K1: the address is one of the registers above, and each is written as its manual says.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
    }

    /// The cycle counter of Cortex-M3, M4, M7, M33 and M55. Cortex-M0, M0+ and M23 have none.
    #[derive(Clone, Copy, Debug)]
    pub struct Dwt;

    impl Dwt {
        /// Switches it on and looks whether it counts.
        ///
        /// # Errors
        /// [`ClockError::StandsStill`]; then every duration would be 0.
        pub fn start() -> Result<Self, ClockError> {
            write(DEMCR, read(DEMCR) | DEMCR_TRCENA);
            write(DWT_LAR, DWT_LAR_KEY);
            write(DWT_CYCCNT, 0);
            write(DWT_CTRL, read(DWT_CTRL) | DWT_CTRL_CYCCNTENA);
            check(Self)?;
            Ok(Self)
        }
    }

    impl Clock for Dwt {
        #[inline(always)]
        fn ticks(self) -> u32 {
            read(DWT_CYCCNT)
        }
    }

    /// The system timer, which counts down from `RELOAD`, at most and by default 2^24 - 1, and starts again.
    ///
    /// Durations from one round on are read too short, and so are intervals between two polls of a link: at 16 MHz
    /// the longest round takes one second.
    #[derive(Clone, Copy, Debug)]
    pub struct SysTick<const RELOAD: u32 = SYST_ROUND>;

    impl<const RELOAD: u32> SysTick<RELOAD> {
        const ROUND: u32 = {
            assert!(
                RELOAD > 0 && RELOAD <= SYST_ROUND,
                "SysTick: accepted are reload values of 1 to 16777215"
            );
            RELOAD
        };

        /// Has it count cycles of the processor, without interrupts. Where it is the system's tick already, leave
        /// this out and name its reload value.
        ///
        /// # Errors
        /// [`ClockError::StandsStill`].
        pub fn start() -> Result<Self, ClockError> {
            write(SYST_RVR, Self::ROUND);
            write(SYST_CVR, 0);
            write(SYST_CSR, SYST_CSR_ON);
            check(Self)?;
            Ok(Self)
        }
    }

    impl<const RELOAD: u32> Clock for SysTick<RELOAD> {
        #[inline(always)]
        fn ticks(self) -> u32 {
            read(SYST_CVR)
        }

        #[inline(always)]
        fn elapsed(self, start: u32, end: u32) -> u32 {
            let passed = start.wrapping_sub(end);
            if Self::ROUND == SYST_ROUND {
                return passed & SYST_ROUND;
            }
            if start >= end { passed } else { passed.wrapping_add(RELOAD + 1) }
        }
    }

    /// Address of the counter that [`DwtOrSysTick`] reads, with the bits of [`DWT_CYCCNT`] reversed: so that it is
    /// that one's at first, and all zero.
    static COUNTER: AtomicUsize = AtomicUsize::new(0);

    /// [`Dwt`] if it counts, else [`SysTick`]: for firmware that is to run on a board and in an emulator.
    #[derive(Clone, Copy, Debug)]
    pub struct DwtOrSysTick;

    impl DwtOrSysTick {
        /// Switches on the first, and the second only if that stands still; then it takes the system timer.
        ///
        /// # Errors
        /// [`ClockError::StandsStill`] if both do.
        pub fn start() -> Result<Self, ClockError> {
            if Dwt::start().is_err() {
                SysTick::<SYST_ROUND>::start()?;
                COUNTER.store(SYST_CVR ^ DWT_CYCCNT, Relaxed);
            }
            Ok(Self)
        }

        /// Whether it is the DWT that counts.
        #[must_use]
        pub fn is_dwt(self) -> bool {
            COUNTER.load(Relaxed) == 0
        }
    }

    impl Clock for DwtOrSysTick {
        #[inline(always)]
        fn ticks(self) -> u32 {
            read(COUNTER.load(Relaxed) ^ DWT_CYCCNT)
        }

        #[inline(always)]
        fn elapsed(self, start: u32, end: u32) -> u32 {
            if self.is_dwt() { Dwt.elapsed(start, end) } else { SysTick::<SYST_ROUND>.elapsed(start, end) }
        }
    }
}

/// The low 32 bits of a RISC-V hart's cycle counter.
#[cfg(any(target_arch = "riscv32", target_arch = "riscv64"))]
#[derive(Clone, Copy, Debug)]
pub struct Mcycle;

#[cfg(any(target_arch = "riscv32", target_arch = "riscv64"))]
impl Clock for Mcycle {
    #[inline(always)]
    fn ticks(self) -> u32 {
        let ticks: usize;
        // SAFETY: K1: firmware runs in machine mode, where every hart has the register; no memory, no flags.
        unsafe {
            core::arch::asm!("csrr {}, mcycle", out(reg) ticks, options(nomem, nostack, preserves_flags));
        }
        ticks as u32
    }
}

/// Ticks of `embassy-time`, the low 32 bits: `embassy_time::TICK_HZ` a second.
#[cfg(feature = "embassy-time")]
#[derive(Clone, Copy, Debug)]
pub struct Embassy;

#[cfg(feature = "embassy-time")]
impl Clock for Embassy {
    #[inline]
    fn ticks(self) -> u32 {
        embassy_time::Instant::now().as_ticks() as u32
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    #[derive(Clone, Copy)]
    struct Steps<'a>(&'a Cell<u32>, u32);

    impl Clock for Steps<'_> {
        fn ticks(self) -> u32 {
            self.0.set(self.0.get().wrapping_add(self.1));
            self.0.get()
        }
    }

    #[test]
    fn the_overhead_is_what_two_readings_take_also_where_the_counter_wraps() {
        let count = Cell::new(0u32.wrapping_sub(100));
        assert_eq!(overhead(Steps(&count, 7)), 7);
    }

    #[test]
    fn a_clock_that_stands_still_is_found_out() {
        let count = Cell::new(3);
        assert_eq!(check(Steps(&count, 0)), Err(ClockError::StandsStill));
        assert_eq!(check(Steps(&count, 1)), Ok(()));
    }
}
