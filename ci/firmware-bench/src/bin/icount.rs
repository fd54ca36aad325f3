//! Each recording operation as a function of its own, called a few times, for ci/icount to read in QEMU's trace.
//!
//! The value comes in a register, of which the compiler knows nothing, and so does where the handles are; what a guard
//! surrounds is empty. An operation at a level on demand is switched on, which is the longer way.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicU32, Ordering};

use firmware_bench::{Cycles, entry};
use zibrato_core::device::{
    Item, Link, OwnedCounter, OwnedGauge, OwnedTimer, Producer, SampleRing, Settings,
};
use zibrato_core::level::Level;
use zibrato_core::link::{Writer, kind};
use zibrato_core::{local_counter, local_gauge, local_timer, metrics};

local_counter!(static COUNTER = "counter", Level::INFO);
local_counter!(static COUNTER_GATED = "counter.gated", Level::DEBUG);
local_gauge!(static GAUGE: i32 = "gauge", Level::INFO);
local_timer!(static TIMER = "timer", Level::INFO);
local_timer!(static TIMER_GATED = "timer.gated", Level::DEBUG);
local_timer!(static TIMER_BUCKETS = "timer.buckets", Level::INFO, buckets = 124);
// What a guard or `measure` does at its end is a function of its metric, and inlined where it is the only one.
local_timer!(static GUARDED = "guarded", Level::INFO);
local_timer!(static GUARDED_GATED = "guarded.gated", Level::DEBUG);
local_timer!(static GUARDED_BUCKETS = "guarded.buckets", Level::INFO, buckets = 124);
local_timer!(static MEASURED = "measured", Level::INFO);
local_timer!(static MEASURED_GATED = "measured.gated", Level::DEBUG);
static RING: SampleRing<64> = SampleRing::new();

/// What one context owns.
struct Handles {
    counter: OwnedCounter<COUNTER>,
    counter_gated: OwnedCounter<COUNTER_GATED>,
    gauge: OwnedGauge<i32, GAUGE>,
    timer: OwnedTimer<TIMER>,
    timer_buckets: OwnedTimer<TIMER_BUCKETS, 124>,
    guarded: OwnedTimer<GUARDED>,
    guarded_gated: OwnedTimer<GUARDED_GATED>,
    guarded_buckets: OwnedTimer<GUARDED_BUCKETS, 124>,
    measured: OwnedTimer<MEASURED>,
    measured_gated: OwnedTimer<MEASURED_GATED>,
    ring: Producer<64>,
}

/// A use of a value that the compiler can neither move nor leave out. No two are the same, so that of two operations
/// with the same code both stay.
macro_rules! use_value {
    ($value:expr) => {
        // SAFETY: no instruction at all.
        unsafe {
            core::arch::asm!(concat!("/* {0} ", line!(), " */"), in(reg) $value, options(nostack, preserves_flags))
        }
    };
}

macro_rules! operations {
    ($($name:ident($value:ident, $handles:ident) $body:block)*) => {
        $(
            #[inline(never)]
            #[unsafe(no_mangle)]
            extern "C" fn $name($value: u32, $handles: &mut Handles) $body
        )*

        fn run(handles: &mut Handles) {
            $(measure($name, handles);)*
        }
    };
}

operations! {
    op_nothing(value, _handles) { use_value!(value) }
    // That ci/icount sees a panic at all.
    op_that_may_panic(value, _handles) {
        static WORDS: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
        WORDS[value as usize].store(value, Ordering::Relaxed);
    }
    op_counter_local(value, handles) { handles.counter.add(value) }
    op_counter_local_gated(value, handles) { handles.counter_gated.add(value) }
    op_gauge_local(value, handles) { handles.gauge.set(value.cast_signed()) }
    op_timer_local(value, handles) { handles.timer.record(value) }
    op_timer_local_buckets(value, handles) { handles.timer_buckets.record(value) }
    op_guard_local(value, handles) {
        let _guard = handles.guarded.start(Cycles);
        use_value!(value);
    }
    op_measure_local(value, handles) { handles.measured.measure(Cycles, || use_value!(value)) }
    op_measure_local_gated(value, handles) { handles.measured_gated.measure(Cycles, || use_value!(value)) }
    op_measure_shared(value, _handles) { shared::MEASURED.measure(Cycles, || use_value!(value)) }
    op_measure_shared_gated(value, _handles) { shared::MEASURED_GATED.measure(Cycles, || use_value!(value)) }
    op_guard_local_gated(value, handles) {
        let _guard = handles.guarded_gated.start(Cycles);
        use_value!(value);
    }
    op_guard_local_buckets(value, handles) {
        let _guard = handles.guarded_buckets.start(Cycles);
        use_value!(value);
    }
    op_push_single(value, handles) {
        let _ = handles.ring.push(&TIMER, value, Cycles);
    }
    op_push_single_gated(value, handles) {
        let _ = handles.ring.push(&TIMER_GATED, value, Cycles);
    }
    op_counter_shared(value, _handles) { shared::COUNTER.add(value) }
    op_counter_shared_gated(value, _handles) { shared::COUNTER_GATED.add(value) }
    op_gauge_shared(value, _handles) { shared::GAUGE.set(value.cast_signed()) }
    op_timer_shared(value, _handles) { shared::TIMER.record(value) }
    op_guard_shared(value, _handles) {
        let _guard = shared::GUARDED.start(Cycles);
        use_value!(value);
    }
    op_guard_shared_gated(value, _handles) {
        let _guard = shared::GUARDED_GATED.start(Cycles);
        use_value!(value);
    }
    op_push_shared(value, _handles) {
        let _ = shared::RING.push(&shared::TIMER, value, Cycles);
    }
    op_push_shared_gated(value, _handles) {
        let _ = shared::RING.push(&shared::TIMER_GATED, value, Cycles);
    }
}

/// What several contexts record; on a target without compare-and-swap within a critical section.
mod shared {
    use zibrato_core::device::SharedSampleRing;
    use zibrato_core::level::Level;
    use zibrato_core::{counter, gauge, timer};

    counter!(pub(crate) static COUNTER = "counter", Level::INFO);
    counter!(pub(crate) static COUNTER_GATED = "counter.gated", Level::DEBUG);
    gauge!(pub(crate) static GAUGE: i32 = "gauge", Level::INFO);
    timer!(pub(crate) static TIMER = "timer", Level::INFO);
    timer!(pub(crate) static TIMER_GATED = "timer.gated", Level::DEBUG);
    timer!(pub(crate) static GUARDED = "guarded", Level::INFO);
    timer!(pub(crate) static GUARDED_GATED = "guarded.gated", Level::DEBUG);
    timer!(pub(crate) static MEASURED = "measured", Level::INFO);
    timer!(pub(crate) static MEASURED_GATED = "measured.gated", Level::DEBUG);
    pub(crate) static RING: SharedSampleRing<64> = SharedSampleRing::new();
}

/// Calls an operation a few times; ci/icount takes the last one.
#[inline(never)]
#[unsafe(no_mangle)]
fn measure(operation: extern "C" fn(u32, &mut Handles), handles: &mut Handles) {
    for value in 1..4 {
        black_box(operation)(black_box(value), black_box(handles));
    }
}

fn handles() -> Option<Handles> {
    Some(Handles {
        counter: COUNTER.take()?,
        counter_gated: COUNTER_GATED.take()?,
        gauge: GAUGE.take()?,
        timer: TIMER.take()?,
        timer_buckets: TIMER_BUCKETS.take()?,
        guarded: GUARDED.take()?,
        guarded_gated: GUARDED_GATED.take()?,
        guarded_buckets: GUARDED_BUCKETS.take()?,
        measured: MEASURED.take()?,
        measured_gated: MEASURED_GATED.take()?,
        ring: RING.producer()?,
    })
}

/// Switches the levels on demand on, as a gateway does. All metrics are listed, as in any firmware: cells that nobody else
/// knew of would be taken apart into words with an address each.
fn open_gates() {
    use shared::{COUNTER as A, COUNTER_GATED as B, GAUGE as C, GUARDED as D, GUARDED_GATED as E};
    use shared::{MEASURED as F, MEASURED_GATED as G, TIMER as H, TIMER_GATED as I};
    static METRICS: [Item; 20] = metrics![
        COUNTER,
        COUNTER_GATED,
        GAUGE,
        TIMER,
        TIMER_GATED,
        TIMER_BUCKETS,
        GUARDED,
        GUARDED_GATED,
        GUARDED_BUCKETS,
        MEASURED,
        MEASURED_GATED,
        A,
        B,
        C,
        D,
        E,
        F,
        G,
        H,
        I
    ];
    let mut writer = Writer::new();
    writer.start(kind::MASK);
    writer.varint(u64::from(u32::MAX));
    Link::new(black_box(&METRICS), Settings::new(1)).receive(writer.finish());
}

#[entry]
fn main() -> ! {
    let Some(mut handles) = handles() else { semihosting::process::exit(1) };
    open_gates();
    run(&mut handles);
    semihosting::process::exit(0)
}
