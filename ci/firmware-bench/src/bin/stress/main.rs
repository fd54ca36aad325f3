//! Interrupts at whatever instruction, while every context records: nothing is lost, torn or out of order.
//!
//! A main loop, PendSV above it, SysTick above that and on a Cortex-M4 the non-maskable interrupt above all push numbered
//! samples into one ring and record shared and own metrics; on RISC-V a main loop and the timer's interrupt. The moment of
//! the next interrupt comes from a shift register. What goes out over the link is read as a gateway would read it, and has
//! to be what went in. A ring that is wrong on purpose shows that the reading would see it.
#![no_std]
#![no_main]

mod check;
#[cfg(target_arch = "arm")]
#[path = "arm.rs"]
mod platform;
#[cfg(target_arch = "riscv32")]
#[path = "riscv32.rs"]
mod platform;

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use check::Check;
use firmware_bench::entry;
use semihosting::println;
use zibrato_core::device::clock::Clock;
use zibrato_core::device::{
    Item, Link, OwnedCounter, OwnedTimer, Producer, SampleRing, Sampled, Settings, SharedSampleRing,
};
use zibrato_core::level::Level;
use zibrato_core::{counter, gauge, local_counter, local_timer, metrics, timer};

/// Slots of a ring: few, so that it is full at times.
const SLOTS: usize = 16;
/// Samples of each way to be put into a ring, at least.
const PUSHES: u32 = 100_000;
/// Main loop, PendSV, SysTick and the non-maskable interrupt, as far as a target has them.
const CONTEXTS: usize = 4;
/// Smallest and largest duration that is recorded.
const TICKS: (u32, u32) = (3, 1_026);

// What is pushed, one of each context: its number.
counter!(static MAIN = "main", Level::INFO);
counter!(static PENDSV = "pendsv", Level::INFO);
counter!(static SYSTICK = "systick", Level::INFO);
counter!(static NMI = "nmi", Level::INFO);
// What all record.
counter!(static COUNT = "count", Level::INFO);
gauge!(static VALUE: i32 = "value", Level::INFO);
timer!(static TIMER = "timer", Level::INFO, buckets = 64);
// What each records alone.
local_counter!(static OWN_MAIN = "own.main", Level::INFO);
local_counter!(static OWN_PENDSV = "own.pendsv", Level::INFO);
local_counter!(static OWN_SYSTICK = "own.systick", Level::INFO);
local_counter!(static OWN_NMI = "own.nmi", Level::INFO);
local_timer!(static OWN_TIMER = "own.timer", Level::INFO);

static METRICS: [Item; 12] = metrics![
    MAIN,
    PENDSV,
    SYSTICK,
    NMI,
    COUNT,
    VALUE,
    TIMER,
    OWN_MAIN,
    OWN_PENDSV,
    OWN_SYSTICK,
    OWN_NMI,
    OWN_TIMER
];
const ID_COUNT: u16 = 4;
const ID_VALUE: u16 = 5;
const ID_TIMER: u16 = 6;
const ID_OWN: u16 = 7;
const ID_OWN_TIMER: u16 = 11;

static WRONG_RING: SampleRing<SLOTS> = SampleRing::new();
static SHARED_RING: SharedSampleRing<SLOTS> = SharedSampleRing::new();
static OWN_RINGS: [SampleRing<SLOTS>; CONTEXTS] = [const { SampleRing::new() }; CONTEXTS];

/// How samples are pushed.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Nobody pushes.
    None,
    /// One context's end of a ring in the hands of all: wrong.
    Wrong,
    /// A ring of several contexts.
    Shared,
    /// A ring for each.
    Own,
}

static WAY: AtomicU32 = AtomicU32::new(Way::None as u32);

/// Words that each has one writer, a context.
struct Words([AtomicU32; CONTEXTS]);

impl Words {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; CONTEXTS])
    }

    fn add(&self, context: usize, n: u32) {
        let word = &self.0[context];
        word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
    }

    fn of(&self, context: usize) -> u32 {
        self.0[context].load(Relaxed)
    }

    fn sum(&self) -> u32 {
        (0..CONTEXTS).map(|context| self.of(context)).sum()
    }
}

/// Samples that each context got into a ring, of the present way.
static PUSHED: Words = Words::new();
/// Samples that found it full.
static FULL: Words = Words::new();
/// What each context added to the shared counter, and how often it recorded.
static ADDED: Words = Words::new();
static RECORDED: Words = Words::new();
/// The ticks that each context recorded.
static TOOK: Words = Words::new();

/// What one context owns, in a static that no other touches.
struct Own<T>(UnsafeCell<Option<T>>);

// SAFETY: `with` is called by the context that owns it alone, but for the ring that is wrong on purpose.
unsafe impl<T> Sync for Own<T> {}

impl<T> Own<T> {
    const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    fn put(&self, own: Option<T>) {
        // SAFETY: only called before there are interrupts.
        unsafe { *self.0.get() = own };
    }

    #[inline(always)]
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        // SAFETY: as for Sync; a context does not interrupt itself.
        unsafe { &mut *self.0.get() }.as_mut().map(work)
    }
}

static WRONG: Own<Producer<SLOTS>> = Own::new();
static OWN_PRODUCERS: [Own<Producer<SLOTS>>; CONTEXTS] = [const { Own::new() }; CONTEXTS];
static COUNTER_MAIN: Own<OwnedCounter<OWN_MAIN>> = Own::new();
static COUNTER_PENDSV: Own<OwnedCounter<OWN_PENDSV>> = Own::new();
static COUNTER_SYSTICK: Own<OwnedCounter<OWN_SYSTICK>> = Own::new();
static COUNTER_NMI: Own<OwnedCounter<OWN_NMI>> = Own::new();
static TIMER_MAIN: Own<OwnedTimer<OWN_TIMER>> = Own::new();

/// A clock for samples that says what it is told: with it their time tells whether they are whole.
#[derive(Clone, Copy)]
struct Stamp(u32);

impl Clock for Stamp {
    fn ticks(self) -> u32 {
        self.0
    }
}

/// The time that belongs to a context's sample.
fn stamp(context: usize, number: u32) -> Stamp {
    Stamp((number ^ (context as u32) << 28).wrapping_mul(2_654_435_761))
}

/// Pushes a sample in the present way; whether it went in.
#[inline(always)]
fn push<M: Sampled<Value = u32>>(
    way: u32,
    context: usize,
    metric: &'static M,
    number: u32,
    time: Stamp,
) -> Option<bool> {
    if way == Way::Wrong as u32 {
        WRONG.with(|ring| ring.push(metric, number, time))
    } else if way == Way::Shared as u32 {
        Some(SHARED_RING.push(metric, number, time))
    } else {
        OWN_PRODUCERS[context].with(|ring| ring.push(metric, number, time))
    }
}

/// What each context does, several times in a row.
#[inline(never)]
fn produce(context: usize) {
    let number = PUSHED.of(context);
    let time = stamp(context, number);
    let way = WAY.load(Relaxed);
    if way == Way::None as u32 {
        return;
    }
    let pushed = match context {
        0 => push(way, context, &MAIN, number, time),
        1 => push(way, context, &PENDSV, number, time),
        2 => push(way, context, &SYSTICK, number, time),
        _ => push(way, context, &NMI, number, time),
    };
    if pushed == Some(true) { &PUSHED } else { &FULL }.add(context, 1);

    let ticks = TICKS.0 + (time.0 >> 22);
    COUNT.add(number & 7);
    VALUE.set(number.cast_signed());
    TIMER.record(ticks);
    match context {
        0 => COUNTER_MAIN.with(|counter| counter.add(1)),
        1 => COUNTER_PENDSV.with(|counter| counter.add(1)),
        2 => COUNTER_SYSTICK.with(|counter| counter.add(1)),
        _ => COUNTER_NMI.with(|counter| counter.add(1)),
    };
    if context == 0 {
        TIMER_MAIN.with(|timer| timer.record(ticks));
    }
    ADDED.add(context, number & 7);
    RECORDED.add(context, 1);
    TOOK.add(context, ticks);
}

/// Ticks to the next interrupt.
fn jitter() -> u32 {
    static STATE: AtomicU32 = AtomicU32::new(0xACE1);
    let state = STATE.load(Relaxed);
    let next = (state >> 1) ^ (0u32.wrapping_sub(state & 1) & 0xB400);
    STATE.store(next, Relaxed);
    next & 15
}

/// The link's clock, which the main loop moves on. The samples' times are told.
static TIME: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy)]
struct Turns;

impl Clock for Turns {
    fn ticks(self) -> u32 {
        TIME.load(Relaxed)
    }
}

/// A tick a byte. With no limit the link would send for as long as interrupts bring more.
const SETTINGS: Settings = Settings::new(1_000).bytes_per_second(1_000).window_ms(20_000);
/// What a turn of the main loop takes: as long as the longest frame.
const TURN_TICKS: u32 = 255;

/// Runs one way until there are enough samples; the errors that were seen in it.
fn run(name: &str, way: Way, check: &mut Check) -> u32 {
    for context in 0..CONTEXTS {
        PUSHED.0[context].store(0, Relaxed);
        FULL.0[context].store(0, Relaxed);
    }
    let mut link = Link::new(&METRICS, SETTINGS);
    match way {
        Way::Wrong => {
            WRONG.put(WRONG_RING.producer());
            link.add_ring(WRONG_RING.consumer());
        }
        Way::Shared => {
            link.add_ring(SHARED_RING.consumer());
        }
        Way::Own => {
            for (producer, ring) in core::iter::zip(&OWN_PRODUCERS, &OWN_RINGS) {
                producer.put(ring.producer());
                link.add_ring(ring.consumer());
            }
        }
        Way::None => {}
    }
    (check.next, check.samples, check.out_of_order, check.torn) = ([0; CONTEXTS], 0, 0, 0);
    (check.bad_frames, check.bad_states) = (0, 0);
    // A link's time begins with its first poll.
    TIME.store(0, Relaxed);
    WAY.store(way as u32, Relaxed);
    platform::start();
    // The wrong ring may be full for good.
    while PUSHED.sum() + if way == Way::Wrong { FULL.sum() } else { 0 } < PUSHES {
        produce(0);
        let Ok(_bytes) = link.poll(Turns, check);
        TIME.store(TIME.load(Relaxed).wrapping_add(TURN_TICKS), Relaxed);
    }
    platform::stop();
    WAY.store(Way::None as u32, Relaxed);
    let Ok(()) = link.end(Turns, check);

    let (pushed, full) = (PUSHED.sum(), FULL.sum());
    // The wrong ring counts wrong as well.
    let gone = pushed.abs_diff(check.samples) + full.abs_diff(check.lost);
    let [main, pendsv, systick, nmi] = [0, 1, 2, 3].map(|context| PUSHED.of(context));
    println!(
        "{name}: pushed {pushed} ({main} {pendsv} {systick} {nmi}), full {full}, out of order {}, torn {}, \
         gone {gone}, bad frames {}, bad states {}",
        check.out_of_order, check.torn, check.bad_frames, check.bad_states
    );
    check.out_of_order + check.torn + gone + check.bad_frames + check.bad_states
}

#[entry]
fn main() -> ! {
    COUNTER_MAIN.put(OWN_MAIN.take());
    COUNTER_PENDSV.put(OWN_PENDSV.take());
    COUNTER_SYSTICK.put(OWN_SYSTICK.take());
    COUNTER_NMI.put(OWN_NMI.take());
    TIMER_MAIN.put(OWN_TIMER.take());
    let mut check = Check::new();
    let caught = run("one context's ring in all of them, wrong on purpose", Way::Wrong, &mut check);
    let errors =
        run("a shared ring", Way::Shared, &mut check) + run("a ring for each context", Way::Own, &mut check);

    // All that was recorded, in all three ways, is in the last state.
    let recorded = u64::from(RECORDED.sum());
    let expected = [u64::from(ADDED.sum()), recorded, u64::from(TOOK.sum()), recorded, recorded];
    let found = [check.count, check.records, check.ticks, check.in_buckets, check.sets];
    println!("count, records, ticks, in buckets, sets: recorded {expected:?}, in the last state {found:?}");
    let own_expected = [0, 1, 2, 3].map(|context| u64::from(RECORDED.of(context)));
    println!("own: recorded {own_expected:?}, in the last state {:?}", check.own);
    let is_exact = expected == found && own_expected == check.own && check.own_records == own_expected[0];
    println!(
        "wrong ring {}, errors {errors}, exact {is_exact}",
        if caught > 0 { "caught" } else { "not caught" }
    );
    semihosting::process::exit(i32::from(!(caught > 0 && errors == 0 && is_exact)))
}
