//! Two cores: threads that stay on them, and how far they lie apart.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use crate::layout::Padded;
use crate::measure::median;

/// Turns of a line in a stretch that is timed.
const TURNS: u32 = 50;
/// Stretches in one measurement, of which the middle one counts: in some a thread has to wait for its core.
const STRETCHES: u32 = 41;

/// Numbers of two CPUs that this process may run on.
pub struct Cores {
    first: usize,
    second: usize,
}

impl Cores {
    /// The first two, or `None` if there are fewer.
    pub fn find() -> Option<Self> {
        let set = allowed();
        // SAFETY: reads bits of the set; the numbers are below its size.
        let mut numbers =
            (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) });
        Some(Self { first: numbers.next()?, second: numbers.next()? })
    }

    pub fn pin_to_first(&self) {
        pin(self.first);
    }

    pub fn pin_to_second(&self) {
        pin(self.second);
    }

    /// Nanoseconds in which a cache line goes to the other core and comes back.
    pub fn round_trip_ns(&self) -> f64 {
        let line = Padded(AtomicU32::new(0));
        let wait = |turn| {
            while line.load(Ordering::Acquire) != turn {
                spin_loop();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                self.pin_to_second();
                for turn in 0..=TURNS * STRETCHES {
                    wait(2 * turn + 1);
                    line.store(2 * turn + 2, Ordering::Release);
                }
            });
            // The first turn waits for the thread to come.
            line.store(1, Ordering::Release);
            wait(2);
            let stretches: Vec<f64> = (0..STRETCHES)
                .map(|stretch| {
                    let start = Instant::now();
                    for turn in (stretch * TURNS + 1)..=(stretch + 1) * TURNS {
                        line.store(2 * turn + 1, Ordering::Release);
                        wait(2 * turn + 2);
                    }
                    start.elapsed().as_nanos() as f64 / f64::from(TURNS)
                })
                .collect();
            median(&stretches)
        })
    }
}

fn allowed() -> libc::cpu_set_t {
    // SAFETY: all zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours, and its size is its own.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    assert_eq!(failed, 0, "sched_getaffinity: {}", std::io::Error::last_os_error());
    set
}

/// Keeps the calling thread on one CPU.
fn pin(cpu: usize) {
    // SAFETY: all zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` came out of such a set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is ours, and its size is its own.
    let failed = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    assert_eq!(failed, 0, "sched_setaffinity: {}", std::io::Error::last_os_error());
}
