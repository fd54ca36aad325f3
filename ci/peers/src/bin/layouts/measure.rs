//! One layout in its three situations, sample by sample.

use std::arch::asm;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::cores::Cores;
use crate::layout::{Layout, Padded};

/// Pushes between two drains, or in a stretch beside one that never rests; half a ring, so that none is refused.
const BURST: u64 = 2_048;
/// Bursts in a sample.
const BURSTS: u64 = 8;
/// Stretches of work in a sample beside a drain that never rests, each between two without pushes.
const STRETCHES: u64 = 16;
/// Work beside each of them, in nanoseconds.
const WORK_NS: f64 = 32.0;
/// Pauses of the processor between two passes of a drain that never rests.
const PAUSES: usize = 200;

/// From this way there and back on, cores are far from each other.
const FAR_NS: f64 = 150.0;
/// Fewer samples than this say nothing.
const SAMPLES_MIN: usize = 10;

/// A row of the table.
pub trait Measured {
    fn name(&self) -> &'static str;
    /// Takes one sample of each situation; `place` says where the other core is now.
    fn sample(&mut self, cores: &Cores, place: Place, work_steps: u32);
    fn own(&self) -> Figure;
    /// Drained by another core at `place`: between bursts, and what a push adds to some work while it drains
    /// all the time. `None` if the other core was hardly ever there.
    fn remote(&self, place: Place) -> Option<(Figure, f64)>;
    /// Whether all that was pushed was drained, by the sum of the values.
    fn is_exact(&self) -> bool;
}

/// Where the other core is, by the time that a cache line takes there and back. A host moves its guests' cores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind the same cache.
    Near,
    Far,
}

impl Place {
    pub fn of(trip_ns: f64) -> Self {
        if trip_ns < FAR_NS { Self::Near } else { Self::Far }
    }
}

/// Medians: nanoseconds a push, and its ratio to a `fetch_add` next to it.
pub struct Figure {
    pub ns: f64,
    pub ratio: f64,
}

impl Figure {
    fn of(samples: &[(f64, f64)]) -> Self {
        let (ns, ratios): (Vec<f64>, Vec<f64>) = samples.iter().copied().unzip();
        Self { ns: median(&ns), ratio: median(&ratios) }
    }
}

pub struct Row<L: Layout> {
    /// On lines of their own, as two threads have them.
    producer: Padded<L::Producer>,
    consumer: Padded<L::Consumer>,
    sums: Sums,
    own: Vec<(f64, f64)>,
    remote: Places,
}

/// What was drained by another core, by its place.
#[derive(Default)]
struct Places([Remote; 2]);

#[derive(Default)]
struct Remote {
    bursts: Vec<(f64, f64)>,
    live_ns: Vec<f64>,
}

/// Of all values of a row.
#[derive(Default)]
struct Sums {
    offered: u64,
    refused: u64,
    drained: u64,
    refusals: u64,
}

impl<L: Layout> Row<L> {
    pub fn new() -> Self {
        let (producer, consumer) = L::make();
        let (own, remote) = Default::default();
        Self { producer: Padded(producer), consumer: Padded(consumer), sums: Sums::default(), own, remote }
    }

    /// Nanoseconds a push, drained by the same thread between bursts.
    fn own_ns(&mut self) -> f64 {
        let mut ns = 0.0;
        for _ in 0..BURSTS {
            ns += burst::<L>(&mut self.producer.0, &mut self.sums);
            L::drain(&mut self.consumer.0, |value| self.sums.drained += value);
        }
        ns / BURSTS as f64
    }

    /// Nanoseconds a push, drained by the other core between bursts.
    fn remote_ns(&mut self, cores: &Cores) -> f64 {
        const PUSH: u32 = 0;
        const DRAIN: u32 = 1;
        const END: u32 = 2;
        let turn = Padded(AtomicU32::new(PUSH));
        let Self { producer: Padded(producer), consumer: Padded(consumer), sums, .. } = self;
        thread::scope(|scope| {
            let drain = scope.spawn(|| {
                cores.pin_to_second();
                let mut drained = 0;
                loop {
                    match turn.load(Ordering::Acquire) {
                        PUSH => spin_loop(),
                        DRAIN => {
                            L::drain(consumer, |value| drained += value);
                            turn.store(PUSH, Ordering::Release);
                        }
                        _ => break drained,
                    }
                }
            });
            let let_drain = || {
                turn.store(DRAIN, Ordering::Release);
                while turn.load(Ordering::Acquire) != PUSH {
                    spin_loop();
                }
            };
            // Waits for the thread to come.
            let_drain();
            let mut ns = 0.0;
            for _ in 0..BURSTS {
                ns += burst::<L>(producer, sums);
                let_drain();
            }
            turn.store(END, Ordering::Release);
            sums.drained += drain.join().expect("the drain ends");
            ns / BURSTS as f64
        })
    }

    /// Nanoseconds that a push adds to some work while the other core drains all the time, stretch by
    /// stretch. One in which the ring was full is left out: then the drain was not there.
    fn live_ns(&mut self, cores: &Cores, place: Place, work_steps: u32) {
        const COMING: u32 = 0;
        const DRAINING: u32 = 1;
        const END: u32 = 2;
        let state = Padded(AtomicU32::new(COMING));
        let Self { producer: Padded(producer), consumer: Padded(consumer), sums, remote, .. } = self;
        let live_ns = &mut remote.0[place as usize].live_ns;
        thread::scope(|scope| {
            let drain = scope.spawn(|| {
                cores.pin_to_second();
                state.store(DRAINING, Ordering::Release);
                let mut drained = 0;
                loop {
                    let last = state.load(Ordering::Acquire) == END;
                    L::drain(consumer, |value| drained += value);
                    if last {
                        break drained;
                    }
                    (0..PAUSES).for_each(|_| spin_loop());
                }
            });
            while state.load(Ordering::Acquire) == COMING {
                spin_loop();
            }
            let mut before = work_ns(work_steps, |_| ());
            for _ in 0..STRETCHES {
                let refusals = sums.refusals;
                let beside = work_ns(work_steps, |value| sums.push::<L>(producer, value));
                let behind = work_ns(work_steps, |_| ());
                sums.take_beside::<L>();
                sums.offered += (0..BURST).sum::<u64>();
                if sums.refusals == refusals {
                    live_ns.push(beside - (before + behind) / 2.0);
                }
                before = behind;
            }
            state.store(END, Ordering::Release);
            sums.drained += drain.join().expect("the drain ends");
        });
    }
}

impl<L: Layout> Measured for Row<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn sample(&mut self, cores: &Cores, place: Place, work_steps: u32) {
        let before = fetch_add_ns();
        let own = self.own_ns();
        let between = fetch_add_ns();
        let remote = self.remote_ns(cores);
        let behind = fetch_add_ns();
        self.own.push((own, own / ((before + between) / 2.0)));
        self.remote.0[place as usize].bursts.push((remote, remote / ((between + behind) / 2.0)));
        self.live_ns(cores, place, work_steps);
    }

    fn own(&self) -> Figure {
        Figure::of(&self.own)
    }

    fn remote(&self, place: Place) -> Option<(Figure, f64)> {
        let Remote { bursts, live_ns } = &self.remote.0[place as usize];
        (bursts.len() >= SAMPLES_MIN).then(|| (Figure::of(bursts), median(live_ns)))
    }

    fn is_exact(&self) -> bool {
        self.sums.offered == self.sums.drained + self.sums.refused
    }
}

impl Sums {
    #[inline(always)]
    fn push<L: Layout>(&mut self, producer: &mut L::Producer, value: u64) {
        if !L::push(producer, value) {
            self.refuse(value);
        }
    }

    /// Counts what pushes took although the ring was full.
    fn take_beside<L: Layout>(&mut self) {
        let (records, sum) = L::beside();
        self.refusals += records;
        self.refused += sum;
    }

    #[cold]
    fn refuse(&mut self, value: u64) {
        self.refusals += 1;
        self.refused += value;
    }
}

/// Nanoseconds a push of a burst.
#[inline(never)]
fn burst<L: Layout>(producer: &mut L::Producer, sums: &mut Sums) -> f64 {
    let start = Instant::now();
    for value in 0..BURST {
        sums.push::<L>(producer, opaque(value));
    }
    let ns = start.elapsed().as_nanos() as f64 / BURST as f64;
    sums.offered += (0..BURST).sum::<u64>();
    ns
}

/// Nanoseconds a turn of a loop that works, and does `beside` in each turn.
#[inline(always)]
fn work_ns(work_steps: u32, mut beside: impl FnMut(u64)) -> f64 {
    let mut state = 1;
    let start = Instant::now();
    for value in 0..BURST {
        state = work(state ^ opaque(value), work_steps);
        beside(value);
    }
    let ns = start.elapsed().as_nanos() as f64 / BURST as f64;
    opaque(state);
    ns
}

/// Steps of which each needs the one before.
#[inline(always)]
fn work(mut state: u64, steps: u32) -> u64 {
    for _ in 0..steps {
        state = opaque(state.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    state
}

/// The number of steps that take [`WORK_NS`].
pub fn calibrate_work() -> u32 {
    let few = 8;
    let ns: Vec<f64> = (0..50).map(|_| work_ns(few, |_| ())).collect();
    ((f64::from(few) * WORK_NS / median(&ns)) as u32).max(1)
}

fn fetch_add_ns() -> f64 {
    static SUM: AtomicU64 = AtomicU64::new(0);
    let start = Instant::now();
    for value in 0..BURST {
        SUM.fetch_add(opaque(value), Ordering::Relaxed);
    }
    start.elapsed().as_nanos() as f64 / BURST as f64
}

/// The same value, of which the compiler knows nothing, behind everything stored before.
#[inline(always)]
fn opaque(mut value: u64) -> u64 {
    // SAFETY: does nothing.
    unsafe { asm!("/* {0} */", inout(reg) value, options(nostack, preserves_flags)) };
    value
}

pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
