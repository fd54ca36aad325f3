//! A Cortex-M4 that measures its two interrupts and its main loop, and tells a gateway over a serial line.
//!
//! It runs as it is in QEMU, for ten seconds:
//!
//! ```text
//! cargo run --release                          # here; -- -append 60 for a minute
//! zibrato-gateway --tcp m4=127.0.0.1:5560      # beside it, with `zibrato up` for the rest
//! ```
//!
//! **On a real board** change
//! - `memory.x` to the chip's memory, and the target in `.cargo/config.toml` to its core;
//! - `board.rs`: clock, serial line, priorities. A chip whose cycle counter runs takes [`Dwt`] as the clock: then
//!   a guard costs two loads. Does the counter stop with the debugger or in sleep, take a timer, as here;
//! - [`boot`] to something that differs from boot to boot: a count in flash or backup registers, a random number;
//! - `bytes_per_second` to what the line has left, and the log to `defmt-rtt`, if a probe is attached;
//! - whatever uses `semihosting`, which without a debugger stops a real chip;
//! - the end: firmware seldom has one. Without [`Link::end`] the gateway notices the silence.
//!
//! The simulated work: each millisecond an interrupt receives up to three frames, every other one has a lower
//! one handle them, and the main loop does the rest.
#![no_std]
#![no_main]

mod board;
mod log;

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cortex_m::peripheral::SCB;
use cortex_m_rt::{entry, exception};
use panic_halt as _;
use semihosting::println;
use zibrato_core::device::clock::{Clock as _, Dwt, overhead};
use zibrato_core::device::{Item, Link, OwnedTimer, Settings, SharedSampleRing};
use zibrato_core::level::Level;
use zibrato_core::{counter, gauge, local_counter, local_timer, metrics, timer};

/// What every duration and sample is measured with.
const CLOCK: board::Timer = board::Timer;

// Of several contexts.
counter!(static FRAMES = "can.rx_frames", Level::INFO);
gauge!(static DEPTH: i32 = "can.queue", Level::INFO, unit = "frames");
timer!(static SYSTICK = "demo.systick_isr", Level::INFO);
// Of one context each, which takes its handle: the cheapest, and on every core.
local_timer!(static PENDSV = "demo.pendsv_isr", Level::INFO);
local_counter!(static TURNS = "demo.turns", Level::INFO);
gauge!(static LOAD: f32 = "demo.load", Level::INFO);
// With a distribution, and only while somebody subscribes to debug.
timer!(static LOOP = "demo.loop", Level::DEBUG, buckets = 124);

static METRICS: [Item; 7] = metrics![FRAMES, DEPTH, SYSTICK, PENDSV, TURNS, LOAD, LOOP];
static TRACE: SharedSampleRing<256> = SharedSampleRing::new();
const SETTINGS: Settings =
    Settings::new(board::CLOCK_HZ).program("firmware-cortex-m").bytes_per_second(11_520);

/// What the program itself knows, to compare with what arrives. Each has one writer.
static TICKS: AtomicU32 = AtomicU32::new(0);
static RECEIVED: AtomicU32 = AtomicU32::new(0);
static HANDLED: AtomicU32 = AtomicU32::new(0);
static TOOK: AtomicU32 = AtomicU32::new(0);
static PENDSVS: AtomicU32 = AtomicU32::new(0);

/// Adds to a cell that one context alone writes.
fn add(cell: &AtomicU32, amount: u32) -> u32 {
    let sum = cell.load(Relaxed).wrapping_add(amount);
    cell.store(sum, Relaxed);
    sum
}

#[exception]
fn SysTick() {
    static mut RANDOM: u32 = 0xACE1;
    let start = CLOCK.ticks();
    let tick = add(&TICKS, 1);
    *RANDOM = (*RANDOM >> 1) ^ (0u32.wrapping_sub(*RANDOM & 1) & 0xB400);
    let frames = *RANDOM & 3;
    let depth = add(&RECEIVED, frames).wrapping_sub(HANDLED.load(Relaxed)).cast_signed();
    FRAMES.add(frames);
    DEPTH.set(depth);
    TRACE.push(&DEPTH, depth, CLOCK);
    if tick.is_multiple_of(2) {
        SCB::set_pendsv();
    }
    // What a guard does, with the duration in hand for the ring of samples.
    let took = CLOCK.elapsed(start, CLOCK.ticks());
    add(&TOOK, took);
    SYSTICK.record(took);
    TRACE.push(&SYSTICK, took, CLOCK);
}

#[exception]
fn PendSV() {
    static mut HANDLE: Option<OwnedTimer<PENDSV>> = None;
    if HANDLE.is_none() {
        *HANDLE = PENDSV.take();
    }
    let Some(timer) = HANDLE else { return };
    let _guard = timer.start(CLOCK);
    add(&PENDSVS, 1);
    while HANDLED.load(Relaxed) != RECEIVED.load(Relaxed) {
        add(&HANDLED, 1);
    }
}

/// Something that differs from boot to boot: here the host's time.
fn boot() -> u64 {
    semihosting::sys::arm_compat::sys_time().unwrap_or(0) as u64
}

/// For how many interrupts to run: what follows `-append`, in seconds, or ten.
fn ticks_to_run() -> u32 {
    let seconds = semihosting::experimental::env::args::<128>().ok().and_then(|arguments| {
        let last = (&arguments).last()?.ok()?;
        last.parse::<u32>().ok()
    });
    seconds.unwrap_or(10).saturating_mul(board::SYSTICK_HZ)
}

#[entry]
fn main() -> ! {
    let (Some(mut peripherals), Some(mut turns)) = (cortex_m::Peripherals::take(), TURNS.take()) else {
        defmt::panic!("main runs once")
    };
    log::start(board::Uart::log());
    board::Timer::start();
    // On a chip whose counter runs this is the clock to take.
    match Dwt::start() {
        Ok(_) => defmt::info!("the cycle counter runs"),
        Err(error) => defmt::warn!("no cycle counter ({}): the timer it is", error),
    }
    let mut uart = board::Uart::link();
    // What two readings take is no duration: the gateway takes it off.
    let overhead = overhead(CLOCK);
    let mut link = Link::new(&METRICS, SETTINGS.boot(boot()).overhead(overhead));
    link.add_ring(TRACE.consumer());
    let ticks = ticks_to_run();
    println!("runs for {ticks} ticks");

    board::start_interrupts(&mut peripherals);
    let (mut turned, mut loops, mut sets) = (0u32, 0u32, 0u32);
    let mut was_on = false;
    while TICKS.load(Relaxed) < ticks {
        let guard = LOOP.start(CLOCK);
        turns.add(1);
        turned += 1;
        if turned.is_multiple_of(128) {
            // A made-up load, in steps that an f32 has exactly.
            LOAD.set((turned / 128 % 8) as f32 / 8.0);
            sets += 1;
        }
        let is_on = guard.stop().is_some();
        loops += u32::from(is_on);

        while let Some(byte) = uart.receive() {
            link.receive(&[byte]);
        }
        let Ok(_bytes) = link.poll(CLOCK, &mut uart);
        if is_on != was_on {
            println!("debug is {}", if is_on { "on" } else { "off" });
            defmt::info!("debug is {}", if is_on { "on" } else { "off" });
            was_on = is_on;
        }
        // Until the next interrupt.
        cortex_m::asm::wfi();
    }
    board::stop_interrupts(&mut peripherals);
    let Ok(()) = link.end(CLOCK, &mut uart);

    // What the program counted by itself, to compare with what arrives.
    let count = |cell: &AtomicU32| cell.load(Relaxed);
    println!("clock ticks overhead={overhead}");
    println!("counter can.rx_frames sum={}", count(&RECEIVED));
    println!("counter demo.turns sum={turned}");
    println!("gauge can.queue sets={}", count(&TICKS));
    println!("gauge demo.load sets={sets}");
    println!("timer demo.systick_isr count={} ticks={}", count(&TICKS), count(&TOOK));
    println!("timer demo.pendsv_isr count={}", count(&PENDSVS));
    println!("timer demo.loop count={loops}");
    println!("samples pushed={} lost={}", 2 * count(&TICKS) - TRACE.lost(), TRACE.lost());
    semihosting::process::exit(0)
}
