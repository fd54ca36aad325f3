//! The board: what to write anew for another one.
//!
//! mps2-an386 as QEMU has it: a Cortex-M4 at 25 MHz with CMSDK timers and UARTs. Every register that
//! this program writes is named here.
#![expect(unsafe_code, reason = "registers are memory, and only the board knows their addresses")]

use core::convert::Infallible;

use cortex_m::Peripherals;
use cortex_m::peripheral::scb::SystemHandler;
use cortex_m::peripheral::syst::SystClkSource;

/// Ticks a second of the core's clock and of [`Timer`].
pub const CLOCK_HZ: u32 = 25_000_000;
/// Interrupts of SysTick a second.
pub const SYSTICK_HZ: u32 = 1_000;

/// The registers from one address on.
#[derive(Clone, Copy)]
struct Block(usize);

const TIMER0: Block = Block(0x4000_0000);
const UART0: Block = Block(0x4000_4000);
const UART1: Block = Block(0x4000_5000);

impl Block {
    fn read(self, offset: usize) -> u32 {
        let register = (self.0 + offset) as *const u32;
        // SAFETY: the constants above name blocks of registers of this board, aligned and always mapped.
        unsafe { register.read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        let register = (self.0 + offset) as *mut u32;
        // SAFETY: as for reading; none of them changes memory that Rust knows of.
        unsafe { register.write_volatile(value) }
    }
}

/// The clock that durations are measured with: the first CMSDK timer, which counts down through all of
/// its 32 bits.
#[derive(Clone, Copy)]
pub struct Timer;

impl Timer {
    /// Starts it.
    pub fn start() -> Self {
        TIMER0.write(0x08, u32::MAX);
        TIMER0.write(0x00, 1);
        Self
    }
}

impl zibrato_core::device::clock::Clock for Timer {
    fn ticks(self) -> u32 {
        !TIMER0.read(0x04)
    }
}

/// A CMSDK UART that waits until it can send.
pub struct Uart(Block);

impl Uart {
    /// The line to the gateway.
    pub fn link() -> Self {
        Self::start(UART0)
    }

    /// The line for the log.
    pub fn log() -> Self {
        Self::start(UART1)
    }

    fn start(block: Block) -> Self {
        // 115 200 baud; the receiver and the transmitter are on.
        block.write(0x10, CLOCK_HZ / 115_200);
        block.write(0x08, 3);
        Self(block)
    }

    /// A byte that came.
    pub fn receive(&mut self) -> Option<u8> {
        (self.0.read(0x04) & 2 != 0).then(|| self.0.read(0x00) as u8)
    }

    /// Sends these bytes, waiting for room before each.
    pub fn send(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            while self.0.read(0x04) & 1 != 0 {}
            self.0.write(0x00, u32::from(byte));
        }
    }
}

impl embedded_io::ErrorType for Uart {
    type Error = Infallible;
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.send(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Starts SysTick, above PendSV.
pub fn start_interrupts(peripherals: &mut Peripherals) {
    // SAFETY: no critical section relies on these priorities; all of them mask every interrupt.
    unsafe { peripherals.SCB.set_priority(SystemHandler::SysTick, 0x40) };
    // SAFETY: as above.
    unsafe { peripherals.SCB.set_priority(SystemHandler::PendSV, 0x80) };
    peripherals.SYST.set_clock_source(SystClkSource::Core);
    peripherals.SYST.set_reload(CLOCK_HZ / SYSTICK_HZ - 1);
    peripherals.SYST.clear_current();
    peripherals.SYST.enable_counter();
    peripherals.SYST.enable_interrupt();
}

/// Stops SysTick.
pub fn stop_interrupts(peripherals: &mut Peripherals) {
    peripherals.SYST.disable_interrupt();
}
