//! The board: what to write anew for another one.
//!
//! QEMU's virt: one hart, a CLINT and an NS16550. Every register that this program writes is named here.
#![expect(unsafe_code, reason = "registers are memory, and only the board knows their addresses")]

use core::convert::Infallible;

use riscv::interrupt::Interrupt;
use riscv::register::mie;

/// Ticks a second of `mcycle`: what QEMU's `-icount shift=0` makes of an instruction.
pub const CLOCK_HZ: u32 = 1_000_000_000;
/// Interrupts of the timer a second.
pub const TICK_HZ: u32 = 1_000;
/// Ticks a second of the CLINT's `mtime`.
const MTIME_HZ: u32 = 10_000_000;

const MSIP: usize = 0x0200_0000;
const MTIMECMP: usize = 0x0200_4000;
const MTIME: usize = 0x0200_bff8;

fn read(address: usize) -> u32 {
    // SAFETY: the constants here name registers of this board, aligned and always mapped.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as for reading; none of them changes memory that Rust knows of.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// The NS16550, which waits until it can send.
pub struct Uart(());

impl Uart {
    /// Data; one byte wide, as the others.
    const DATA: *mut u8 = 0x1000_0000 as *mut u8;
    const FIFO: *mut u8 = 0x1000_0002 as *mut u8;
    const STATUS: *mut u8 = 0x1000_0005 as *mut u8;
    const RECEIVED: u8 = 0x01;
    const ROOM: u8 = 0x20;

    /// Starts it. QEMU's needs no baud rate; a real one does.
    pub fn start() -> Self {
        // SAFETY: a register of this board, always mapped: switches the FIFO on.
        unsafe { Self::FIFO.write_volatile(1) };
        Self(())
    }

    fn has(&self, bit: u8) -> bool {
        // SAFETY: a register of this board, always mapped.
        unsafe { Self::STATUS.read_volatile() & bit != 0 }
    }

    /// A byte that came.
    pub fn receive(&mut self) -> Option<u8> {
        // SAFETY: a register of this board, always mapped.
        self.has(Self::RECEIVED).then(|| unsafe { Self::DATA.read_volatile() })
    }
}

impl embedded_io::ErrorType for Uart {
    type Error = Infallible;
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            while !self.has(Self::ROOM) {}
            // SAFETY: a register of this board, always mapped; only `&mut self` sends.
            unsafe { Self::DATA.write_volatile(byte) };
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Starts the timer's and the software interrupt.
pub fn start_interrupts() {
    next_tick();
    // SAFETY: both have handlers, and no critical section is open.
    unsafe { mie::enable(Interrupt::MachineTimer) };
    // SAFETY: as above.
    unsafe { mie::enable(Interrupt::MachineSoft) };
    // SAFETY: as above.
    unsafe { riscv::interrupt::enable() };
}

/// Ends the timer's interrupt that is being served: asks for the next one.
pub fn next_tick() {
    let now = loop {
        let high = read(MTIME + 4);
        let low = read(MTIME);
        if read(MTIME + 4) == high {
            break u64::from(high) << 32 | u64::from(low);
        }
    };
    let then = now + u64::from(MTIME_HZ / TICK_HZ);
    // In this order no time in between has passed already.
    write(MTIMECMP, u32::MAX);
    write(MTIMECMP + 4, (then >> 32) as u32);
    write(MTIMECMP, then as u32);
}

/// Asks for the software interrupt, or ends the one that is being served.
pub fn pend_software(is_pending: bool) {
    write(MSIP, is_pending.into());
}

/// Stops both interrupts.
pub fn stop_interrupts() {
    riscv::interrupt::disable();
}
