//! The ten lines of docs/FIRMWARE.md as a whole program, in QEMU: `cargo run --release --bin ten_lines`, and beside it
//! `zibrato up` and `zibrato-gateway --tcp 127.0.0.1:5560`.
//!
//! Its clock is the board's cycle counter, or where that stands still, as in QEMU, the system timer; so the loop polls
//! often enough for its 24 bits.
#![no_std]
#![no_main]

#[allow(dead_code, reason = "interrupts and the second line are the other program's")]
#[path = "../board.rs"]
mod board;

use cortex_m_rt::entry;
use panic_halt as _;

use zibrato_core::device::{Item, Link, Settings, clock::DwtOrSysTick};
use zibrato_core::{counter, level::Level, metrics, timer};

timer!(static CONTROL = "motor.control", Level::INFO, buckets = 124);
counter!(static FAULTS = "motor.faults", Level::INFO);
static METRICS: [Item; 2] = metrics![CONTROL, FAULTS];

#[entry]
fn main() -> ! {
    let mut uart = board::Uart::link();
    let Ok(clock) = DwtOrSysTick::start() else { panic!("no clock runs") };
    let mut link = Link::new(&METRICS, Settings::new(board::CLOCK_HZ));
    let mut turn = 0u32;
    loop {
        control(turn);
        turn = turn.wrapping_add(1);
        let Ok(_bytes) = link.poll(clock, &mut uart);
    }
}

/// What stands for an interrupt's work: some microseconds, now and then a fault.
#[inline(never)]
fn control(turn: u32) {
    let _guard = CONTROL.start(DwtOrSysTick);
    cortex_m::asm::delay(100 + turn % 64);
    if turn.is_multiple_of(1_000) {
        FAULTS.add(1);
    }
}
