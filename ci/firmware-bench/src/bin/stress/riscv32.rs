//! The timer's interrupt at odd moments.

use riscv::interrupt::Interrupt;
use riscv::register::mie;
use riscv_rt::core_interrupt;

use super::{jitter, produce};

const MTIMECMP: usize = 0x0200_4000;
const MTIME: usize = 0x0200_bff8;
/// Shortest time between two interrupts, in ticks of 100 ns: as long as it takes to serve one, and some more.
const TICKS_MIN: u32 = 60;

fn read(address: usize) -> u32 {
    // SAFETY: a register of this board.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: a register of this board.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// The high half stays 0: this program is over long before.
fn next() {
    write(MTIMECMP, read(MTIME) + TICKS_MIN + jitter());
    write(MTIMECMP + 4, 0);
}

pub(crate) fn start() {
    next();
    // SAFETY: it has a handler, and no critical section is open.
    unsafe { mie::enable(Interrupt::MachineTimer) };
    // SAFETY: as above.
    unsafe { riscv::interrupt::enable() };
}

pub(crate) fn stop() {
    riscv::interrupt::disable();
}

#[core_interrupt(Interrupt::MachineTimer)]
fn tick() {
    next();
    produce(2);
    produce(2);
}
