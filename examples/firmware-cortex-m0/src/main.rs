//! A Cortex-M0 that measures its two interrupts and its main loop, and tells a gateway over a serial line.
//!
//! It runs as it is on a micro:bit (the first one), and in QEMU, for ten seconds:
//!
//! ```text
//! cargo run --release                          # here; -- -append 60 for a minute
//! zibrato-gateway --tcp m0=127.0.0.1:5561      # beside it, with `zibrato up` for the rest
//! ```
//!
//! This core changes no word in one step. Metrics of *one* context need no more than loads and stores, so
//! each interrupt takes its own; what several contexts record masks interrupts for a moment (feature
//! `critical-section`), and a metric can be had without that by giving each context one, told apart by a
//! tag or a source.
//!
//! **On a real board** change
//! - `memory.x` to the chip's memory, and the target in `.cargo/config.toml` to its core;
//! - `board.rs`: clock, serial line, priorities. Most chips of this core have SysTick, which `device::clock`
//!   reads;
//! - [`boot`] to something that differs from boot to boot: a count in flash, a random number. Without a
//!   debugger every use of `semihosting` has to go: it stops the core;
//! - `bytes_per_second` to what the line has left;
//! - the end: firmware seldom has one. Without [`Link::end`] the gateway notices the silence.
#![no_std]
#![no_main]

mod board;

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cortex_m::peripheral::SCB;
use cortex_m_rt::{entry, exception};
use nrf51_pac::interrupt;
use panic_halt as _;
use semihosting::println;
use zibrato_core::device::clock::{Clock as _, overhead};
use zibrato_core::device::{Item, Link, OwnedTimer, Producer, SampleRing, Settings};
use zibrato_core::level::Level;
use zibrato_core::{counter, gauge, local_counter, local_gauge, local_timer, metrics};

/// What every duration and sample is measured with.
const CLOCK: board::Timer = board::Timer;

// Of several contexts: interrupts are masked for some instructions.
counter!(static FRAMES = "radio.frames", Level::INFO);
gauge!(static DEPTH: i32 = "radio.queue", Level::INFO, unit = "frames");
// Of one context each.
local_timer!(static TICK = "demo.tick_isr", Level::INFO);
local_timer!(static PENDSV = "demo.pendsv_isr", Level::INFO);
local_counter!(static TURNS = "demo.turns", Level::INFO);
local_gauge!(static LOAD: f32 = "demo.load", Level::INFO);
// With a distribution, and only while somebody subscribes to debug. 64 buckets hold up to 2^17 ticks: 8 ms.
local_timer!(static LOOP = "demo.loop", Level::DEBUG, buckets = 64);

static METRICS: [Item; 7] = metrics![FRAMES, DEPTH, TICK, PENDSV, TURNS, LOAD, LOOP];
/// Of the timer's interrupt alone.
static TRACE: SampleRing<64> = SampleRing::new();
const SETTINGS: Settings =
    Settings::new(board::CLOCK_HZ).program("firmware-cortex-m0").bytes_per_second(11_520);

/// Turns without the link, of every 4 096.
const ERASE_TURNS: u32 = 100;

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

/// What the timer's interrupt owns.
struct Handles {
    tick: OwnedTimer<TICK>,
    trace: Producer<64>,
}

impl Handles {
    fn take() -> Option<Self> {
        Some(Self { tick: TICK.take()?, trace: TRACE.producer()? })
    }
}

#[interrupt]
fn TIMER1() {
    static mut HANDLES: Option<Handles> = None;
    static mut RANDOM: u32 = 0xACE1;
    board::acknowledge();
    if HANDLES.is_none() {
        *HANDLES = Handles::take();
    }
    let Some(Handles { tick: timer, trace }) = HANDLES else { return };

    let start = CLOCK.ticks();
    let tick = add(&TICKS, 1);
    *RANDOM = (*RANDOM >> 1) ^ (0u32.wrapping_sub(*RANDOM & 1) & 0xB400);
    let frames = *RANDOM & 3;
    add(&RECEIVED, frames);
    FRAMES.add(frames);
    if tick.is_multiple_of(2) {
        SCB::set_pendsv();
    }
    // What a guard does, with the duration in hand for the ring of samples.
    let took = CLOCK.elapsed(start, CLOCK.ticks());
    add(&TOOK, took);
    timer.record(took);
    trace.push(&TICK, took, CLOCK);
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
    DEPTH.set(RECEIVED.load(Relaxed).wrapping_sub(HANDLED.load(Relaxed)).cast_signed());
    while HANDLED.load(Relaxed) != RECEIVED.load(Relaxed) {
        add(&HANDLED, 1);
    }
    // The same counter as in the timer's interrupt: what arrives by itself is counted there, echoes here.
    FRAMES.add(1);
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
    seconds.unwrap_or(10).saturating_mul(board::TICK_HZ)
}

#[entry]
fn main() -> ! {
    let taken = (cortex_m::Peripherals::take(), TURNS.take(), LOAD.take(), LOOP.take());
    let (Some(mut peripherals), Some(mut turns), Some(mut load), Some(mut turn)) = taken else {
        panic!("main runs once")
    };
    board::Timer::start();
    let mut uart = board::Uart::start();
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
        let guard = turn.start(CLOCK);
        turns.add(1);
        turned += 1;
        if turned.is_multiple_of(128) {
            // A made-up load, in steps that an f32 has exactly.
            load.set((turned / 128 % 8) as f32 / 8.0);
            sets += 1;
        }
        let is_on = guard.stop().is_some();
        loops += u32::from(is_on);

        while let Some(byte) = uart.receive() {
            link.receive(&[byte]);
        }
        // Now and then something takes long, such as erasing flash: the ring runs full, and counts what it drops.
        if turned % 4_096 > ERASE_TURNS {
            let Ok(_bytes) = link.poll(CLOCK, &mut uart);
        }
        if is_on != was_on {
            println!("debug is {}", if is_on { "on" } else { "off" });
            was_on = is_on;
        }
        // Until the next interrupt.
        cortex_m::asm::wfi();
    }
    board::stop_interrupts();
    let Ok(()) = link.end(CLOCK, &mut uart);

    // What the program counted by itself, to compare with what arrives.
    let count = |cell: &AtomicU32| cell.load(Relaxed);
    println!("clock ticks overhead={overhead}");
    println!("counter radio.frames sum={}", count(&RECEIVED) + count(&PENDSVS));
    println!("counter demo.turns sum={turned}");
    println!("gauge radio.queue sets={}", count(&PENDSVS));
    println!("gauge demo.load sets={sets}");
    println!("timer demo.tick_isr count={} ticks={}", count(&TICKS), count(&TOOK));
    println!("timer demo.pendsv_isr count={}", count(&PENDSVS));
    println!("timer demo.loop count={loops}");
    println!("samples pushed={} lost={}", count(&TICKS) - TRACE.lost(), TRACE.lost());
    semihosting::process::exit(0)
}
