//! SysTick at odd moments, PendSV below it, and the non-maskable interrupt above.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cortex_m_rt::exception;

use super::{jitter, produce};

const SYST_CSR: usize = 0xe000_e010;
const SYST_RVR: usize = 0xe000_e014;
const SYST_CVR: usize = 0xe000_e018;
const ICSR: usize = 0xe000_ed04;
const ICSR_NMIPENDSET: u32 = 1 << 31;
const ICSR_PENDSVSET: u32 = 1 << 28;
const SHPR3: usize = 0xe000_ed20;
/// Shortest time between two interrupts, in ticks of SysTick: as long as it takes to serve one, and some more.
const TICKS_MIN: u32 = 250;
/// A critical section masks all interrupts but this one, so that where shared metrics need one it must not record.
const HAS_NMI: bool = cfg!(target_has_atomic = "32");

fn write(address: usize, value: u32) {
    // SAFETY: a register of the core, written as its manual says.
    unsafe { (address as *mut u32).write_volatile(value) }
}

pub(crate) fn start() {
    // SysTick above PendSV.
    write(SHPR3, 0x4080_0000);
    write(SYST_RVR, TICKS_MIN);
    write(SYST_CVR, 0);
    write(SYST_CSR, 7);
}

pub(crate) fn stop() {
    write(SYST_CSR, 0);
}

#[exception]
fn SysTick() {
    static TURNS: AtomicU32 = AtomicU32::new(0);
    write(SYST_RVR, TICKS_MIN + jitter());
    let turn = TURNS.load(Relaxed);
    TURNS.store(turn.wrapping_add(1), Relaxed);
    produce(2);
    write(ICSR, ICSR_PENDSVSET);
    if HAS_NMI && turn.is_multiple_of(3) {
        write(ICSR, ICSR_NMIPENDSET);
    }
    produce(2);
}

#[exception]
fn PendSV() {
    produce(1);
    if HAS_NMI {
        write(ICSR, ICSR_NMIPENDSET);
    }
    produce(1);
}

#[exception]
unsafe fn NonMaskableInt() {
    produce(3);
}
