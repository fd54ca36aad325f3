//! Where durations come from: a trait for any counter, and the host's raw ticks.
//!
//! On x86-64 a tick is one of the time stamp counter, on aarch64 one of the virtual counter; both
//! run at a constant rate on every CPU of this century. Elsewhere a tick is a nanosecond of the
//! monotonic clock. Reading is not serialising: instructions around a read may move across it, so
//! that durations of a few nanoseconds are read too short (measured: 22 ns for a 32 ns body).
#![cfg_attr(
    all(feature = "std", not(miri)),
    expect(unsafe_code, reason = "the counter is read by an instruction that has no safe wrapper")
)]

/// A counter that only goes up.
///
/// Differences are taken wrapping, so a counter narrower than 64 bits is to be widened first.
pub trait Clock {
    /// The present count.
    fn ticks(&self) -> u64;

    /// Ticks a second.
    fn frequency_hz(&self) -> u64;
}

#[cfg(feature = "std")]
pub use host::{Host, calibrate, refine, ticks, ticks_behind, to_ns};

#[cfg(feature = "std")]
mod host {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use super::Clock;

    /// How long the first calibration measures; its error is then some 100 parts in a million.
    const CALIBRATION: Duration = Duration::from_millis(2);
    const FRACTION_BITS: u32 = 40;
    /// A rate that differs from the known one by more than this part, 1 %, is not believed.
    const RATE_CHANGE_MAX: u64 = 100;

    /// Nanoseconds a tick, times 2^40; 0 until calibrated.
    static NS_PER_TICK: AtomicU64 = AtomicU64::new(0);
    /// Ticks and time at which the present measurement of the rate began.
    static ANCHOR: Mutex<Option<(u64, Instant)>> = Mutex::new(None);

    /// The host's raw tick counter.
    #[derive(Clone, Copy, Debug)]
    pub struct Host;

    impl Clock for Host {
        fn ticks(&self) -> u64 {
            ticks()
        }

        fn frequency_hz(&self) -> u64 {
            ((1_000_000_000u128 << FRACTION_BITS) / u128::from(rate().max(1))) as u64
        }
    }

    /// Reads the raw counter.
    #[inline(always)]
    #[must_use]
    pub fn ticks() -> u64 {
        #[cfg(test)]
        tests::READS.with(|reads| reads.set(reads.get() + 1));
        raw()
    }

    /// Reads the raw counter behind everything that stands before it in the program: the processor
    /// waits until that has happened. Elsewhere than on x86-64 and aarch64 the same as [`ticks`].
    #[inline(always)]
    #[must_use]
    pub fn ticks_behind() -> u64 {
        wait_for_all_before();
        ticks()
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    fn wait_for_all_before() {
        // SAFETY: part of every x86-64 CPU; waits until earlier instructions have completed locally.
        unsafe { core::arch::x86_64::_mm_lfence() };
    }

    #[cfg(all(target_arch = "aarch64", not(miri)))]
    #[inline(always)]
    fn wait_for_all_before() {
        // SAFETY: empties the pipeline; no memory, no flags.
        unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
    }

    #[cfg(not(any(all(target_arch = "x86_64", not(miri)), all(target_arch = "aarch64", not(miri)))))]
    const fn wait_for_all_before() {}

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    fn raw() -> u64 {
        // SAFETY: every x86-64 CPU has the instruction, and Linux lets user programs execute it.
        unsafe { core::arch::x86_64::_rdtsc() }
    }

    #[cfg(all(target_arch = "aarch64", not(miri)))]
    #[inline(always)]
    fn raw() -> u64 {
        let ticks: u64;
        // SAFETY: reads a register that Linux makes readable for user programs; no memory, no flags.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
        }
        ticks
    }

    #[cfg(miri)]
    fn raw() -> u64 {
        static TICKS: AtomicU64 = AtomicU64::new(0);
        TICKS.fetch_add(1, Relaxed)
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", miri)))]
    fn raw() -> u64 {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    /// Nanoseconds of a number of ticks, by the best rate known so far.
    #[inline]
    #[must_use]
    pub fn to_ns(ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(rate())) >> FRACTION_BITS) as u64
    }

    /// Learns the rate of the counter, once for the process; takes 2 ms the first time.
    pub fn calibrate() {
        if NS_PER_TICK.load(Relaxed) == 0 {
            refine();
            std::thread::sleep(CALIBRATION);
            refine();
        }
    }

    /// Measures the rate again, over all the time since the first calibration, or since the counter
    /// and the monotonic clock last parted company: a suspended machine, a counter that was reset.
    pub fn refine() {
        let mut anchor = ANCHOR.lock().unwrap_or_else(PoisonError::into_inner);
        let (ticks, now) = (raw(), Instant::now());
        let Some((first, start)) = *anchor else {
            *anchor = Some((ticks, now));
            return;
        };
        let known = NS_PER_TICK.load(Relaxed);
        match rate_of(known, ticks.wrapping_sub(first), now.duration_since(start)) {
            Some(rate) => NS_PER_TICK.store(rate, Relaxed),
            None => *anchor = Some((ticks, now)),
        }
    }

    /// The rate by `ticks` in `elapsed`, or `None` if it is impossible or far from the `known` one.
    fn rate_of(known: u64, ticks: u64, elapsed: Duration) -> Option<u64> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) || cfg!(miri) {
            return Some(1 << FRACTION_BITS);
        }
        let rate = (elapsed.as_nanos() << FRACTION_BITS).checked_div(u128::from(ticks))?;
        let rate = u64::try_from(rate).ok().filter(|&rate| rate != 0)?;
        let near = known == 0 || rate.abs_diff(known) <= known / RATE_CHANGE_MAX;
        near.then_some(rate)
    }

    fn rate() -> u64 {
        match NS_PER_TICK.load(Relaxed) {
            0 => {
                calibrate();
                NS_PER_TICK.load(Relaxed)
            }
            rate => rate,
        }
    }

    #[cfg(test)]
    pub(crate) mod tests {
        use core::cell::Cell;

        use super::*;

        std::thread_local! {
            /// Reads of the clock by this thread, so that a test can show that there were none.
            pub(crate) static READS: Cell<u64> = const { Cell::new(0) };
        }

        #[test]
        fn ticks_agree_with_the_monotonic_clock() {
            calibrate();
            let (ticks_before, before) = (ticks(), Instant::now());
            while before.elapsed() < Duration::from_millis(20) {
                core::hint::spin_loop();
            }
            let (ns, elapsed) =
                (to_ns(ticks().wrapping_sub(ticks_before)), before.elapsed().as_nanos() as f64);
            assert!((ns as f64 / elapsed - 1.0).abs() < 0.01, "{ns} ns by ticks, {elapsed} ns by the clock");
            refine();
            assert!(Host.frequency_hz() > 1_000_000);
        }

        #[test]
        #[cfg(not(miri))]
        fn a_counter_that_jumped_does_not_change_the_rate() {
            let second = Duration::from_secs(1);
            let rate = rate_of(0, 2_000_000_000, second).unwrap();
            assert_eq!(rate, 1 << (FRACTION_BITS - 1), "half a nanosecond a tick");
            assert!(
                rate_of(rate, 2_010_000_000, second).is_some(),
                "half a per cent is a better measurement"
            );
            assert_eq!(rate_of(rate, 1u64.wrapping_sub(1_000), second), None, "reset below the anchor");
            assert_eq!(rate_of(rate, 8_000_000_000, second), None, "ran on while the machine slept");
            assert_eq!(rate_of(rate, 0, second), None);
        }
    }
}
#[cfg(test)]
#[cfg(feature = "std")]
pub(crate) use host::tests::READS;
