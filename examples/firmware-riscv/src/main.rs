//! A RISC-V core that measures its two interrupts and its main loop, and tells a gateway over a serial line.
//!
//! It runs as it is in QEMU, for ten seconds:
//!
//! ```text
//! cargo run --release                          # here; -- -append 60 for a minute
//! zibrato-gateway --tcp riscv=127.0.0.1:5562   # beside it, with `zibrato up` for the rest
//! ```
//!
//! **On a real board** change
//! - `memory.x` to the chip's memory, and the target in `.cargo/config.toml` to its core. One without the `A`
//!   extension (riscv32imc) is as a Cortex-M0: feature `critical-section`, and handles of one context;
//! - `board.rs`: clock, serial line, interrupts. Does `mcycle` stop in sleep or have a clock that changes, take a
//!   timer: `device::clock::Register` reads one at an address;
//! - [`boot`] to something that differs from boot to boot: a count in flash, a random number. Without a
//!   debugger every use of `semihosting` has to go: it stops the core;
//! - `bytes_per_second` to what the line has left;
//! - the end: firmware seldom has one. Without [`Link::end`] the gateway notices the silence.
#![no_std]
#![no_main]

mod board;

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use panic_halt as _;
use riscv::interrupt::Interrupt;
use riscv_rt::{core_interrupt, entry};
use semihosting::println;
use zibrato_core::device::clock::{Clock as _, Mcycle, overhead};
use zibrato_core::device::{Item, Link, Settings, SharedSampleRing};
use zibrato_core::level::Level;
use zibrato_core::{counter, gauge, local_counter, metrics, timer};

/// What every duration and sample is measured with.
const CLOCK: Mcycle = Mcycle;

// Of several contexts: an instruction each, thanks to the `A` extension.
counter!(static FRAMES = "eth.rx_frames", Level::INFO);
gauge!(static DEPTH: i32 = "eth.queue", Level::INFO, unit = "frames");
timer!(static TICK = "demo.tick_isr", Level::INFO);
timer!(static SOFTWARE = "demo.software_isr", Level::INFO);
gauge!(static LOAD: f32 = "demo.load", Level::INFO);
// Of the main loop alone.
local_counter!(static TURNS = "demo.turns", Level::INFO);
// With a distribution, and only while somebody subscribes to debug.
timer!(static LOOP = "demo.loop", Level::DEBUG, buckets = 124);

static METRICS: [Item; 7] = metrics![FRAMES, DEPTH, TICK, SOFTWARE, LOAD, TURNS, LOOP];
static TRACE: SharedSampleRing<256> = SharedSampleRing::new();
const SETTINGS: Settings = Settings::new(board::CLOCK_HZ).program("firmware-riscv").bytes_per_second(11_520);

/// What the program itself knows, to compare with what arrives. Each has one writer.
static TICKS: AtomicU32 = AtomicU32::new(0);
static RECEIVED: AtomicU32 = AtomicU32::new(0);
static HANDLED: AtomicU32 = AtomicU32::new(0);
static TOOK: AtomicU32 = AtomicU32::new(0);
static SOFTWARES: AtomicU32 = AtomicU32::new(0);

/// Adds to a cell that one context alone writes.
fn add(cell: &AtomicU32, amount: u32) -> u32 {
    let sum = cell.load(Relaxed).wrapping_add(amount);
    cell.store(sum, Relaxed);
    sum
}

#[core_interrupt(Interrupt::MachineTimer)]
fn tick() {
    static RANDOM: AtomicU32 = AtomicU32::new(0xACE1);
    let start = CLOCK.ticks();
    board::next_tick();
    let tick = add(&TICKS, 1);
    let random = RANDOM.load(Relaxed);
    let random = (random >> 1) ^ (0u32.wrapping_sub(random & 1) & 0xB400);
    RANDOM.store(random, Relaxed);
    let frames = random & 3;
    let depth = add(&RECEIVED, frames).wrapping_sub(HANDLED.load(Relaxed)).cast_signed();
    FRAMES.add(frames);
    DEPTH.set(depth);
    TRACE.push(&DEPTH, depth, CLOCK);
    if tick.is_multiple_of(2) {
        board::pend_software(true);
    }
    // What a guard does, with the duration in hand for the ring of samples.
    let took = CLOCK.elapsed(start, CLOCK.ticks());
    add(&TOOK, took);
    TICK.record(took);
    TRACE.push(&TICK, took, CLOCK);
}

#[core_interrupt(Interrupt::MachineSoft)]
fn software() {
    let _guard = SOFTWARE.start(CLOCK);
    board::pend_software(false);
    add(&SOFTWARES, 1);
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
    seconds.unwrap_or(10).saturating_mul(board::TICK_HZ)
}

#[entry]
fn main() -> ! {
    let Some(mut turns) = TURNS.take() else { panic!("main runs once") };
    let mut uart = board::Uart::start();
    // What two readings take is no duration: the gateway takes it off.
    let overhead = overhead(CLOCK);
    let mut link = Link::new(&METRICS, SETTINGS.boot(boot()).overhead(overhead));
    link.add_ring(TRACE.consumer());
    let ticks = ticks_to_run();
    println!("runs for {ticks} ticks");

    board::start_interrupts();
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
            was_on = is_on;
        }
        // Until the next interrupt.
        riscv::asm::wfi();
    }
    board::stop_interrupts();
    let Ok(()) = link.end(CLOCK, &mut uart);

    // What the program counted by itself, to compare with what arrives.
    let count = |cell: &AtomicU32| cell.load(Relaxed);
    println!("clock ticks overhead={overhead}");
    println!("counter eth.rx_frames sum={}", count(&RECEIVED));
    println!("counter demo.turns sum={turned}");
    println!("gauge eth.queue sets={}", count(&TICKS));
    println!("gauge demo.load sets={sets}");
    println!("timer demo.tick_isr count={} ticks={}", count(&TICKS), count(&TOOK));
    println!("timer demo.software_isr count={}", count(&SOFTWARES));
    println!("timer demo.loop count={loops}");
    println!("samples pushed={} lost={}", 2 * count(&TICKS) - TRACE.lost(), TRACE.lost());
    semihosting::process::exit(0)
}
