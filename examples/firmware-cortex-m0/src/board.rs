//! The board: what to write anew for another one.
//!
//! A micro:bit, that is an nRF51822: a Cortex-M0 at 16 MHz, without SysTick, cycle counter and
//! compare-and-swap. Every register that this program writes is named here.
#![expect(unsafe_code, reason = "registers are memory, and only the board knows their addresses")]

use core::convert::Infallible;

use cortex_m::Peripherals;
use cortex_m::peripheral::NVIC;
use cortex_m::peripheral::scb::SystemHandler;
use nrf51_pac::Interrupt;

/// Ticks a second of [`Timer`].
pub const CLOCK_HZ: u32 = 16_000_000;
/// Interrupts of the timer a second.
pub const TICK_HZ: u32 = 1_000;

/// The registers from one address on.
#[derive(Clone, Copy)]
struct Block(usize);

const UART0: Block = Block(0x4000_2000);
const TIMER0: Block = Block(0x4000_8000);
const TIMER1: Block = Block(0x4000_9000);

const TASKS_START: usize = 0x000;
const TASKS_STOP: usize = 0x004;
const BITMODE: usize = 0x508;
const PRESCALER: usize = 0x510;
const INTENSET: usize = 0x304;

impl Block {
    fn read(self, offset: usize) -> u32 {
        let register = (self.0 + offset) as *const u32;
        // SAFETY: the constants above name blocks of registers of this chip, aligned and always mapped.
        unsafe { register.read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        let register = (self.0 + offset) as *mut u32;
        // SAFETY: as for reading; none of them changes memory that Rust knows of.
        unsafe { register.write_volatile(value) }
    }
}

/// The clock that durations are measured with: the first timer, 32 bits wide.
#[derive(Clone, Copy)]
pub struct Timer;

impl Timer {
    const TASKS_CAPTURE0: usize = 0x040;
    const CC0: usize = 0x540;

    /// Starts it.
    pub fn start() -> Self {
        TIMER0.write(BITMODE, 3);
        TIMER0.write(PRESCALER, 0);
        TIMER0.write(TASKS_START, 1);
        Self
    }
}

impl zibrato_core::device::clock::Clock for Timer {
    /// An interrupt between the two steps makes the answer later, not wrong.
    #[inline(always)]
    fn ticks(self) -> u32 {
        TIMER0.write(Self::TASKS_CAPTURE0, 1);
        TIMER0.read(Self::CC0)
    }
}

/// The UART, on the pins that go to the micro:bit's USB side; waits until it can send.
pub struct Uart {
    is_sending: bool,
}

impl Uart {
    const TASKS_STARTRX: usize = 0x000;
    const TASKS_STARTTX: usize = 0x008;
    const EVENTS_RXDRDY: usize = 0x108;
    const EVENTS_TXDRDY: usize = 0x11c;
    const ENABLE: usize = 0x500;
    const PSELTXD: usize = 0x50c;
    const PSELRXD: usize = 0x514;
    const RXD: usize = 0x518;
    const TXD: usize = 0x51c;
    const BAUDRATE: usize = 0x524;
    /// 115 200 baud.
    const BAUD_115200: u32 = 0x01d7_e000;

    /// Starts it.
    pub fn start() -> Self {
        UART0.write(Self::PSELTXD, 24);
        UART0.write(Self::PSELRXD, 25);
        UART0.write(Self::BAUDRATE, Self::BAUD_115200);
        UART0.write(Self::ENABLE, 4);
        UART0.write(Self::TASKS_STARTRX, 1);
        UART0.write(Self::TASKS_STARTTX, 1);
        Self { is_sending: false }
    }

    /// A byte that came.
    pub fn receive(&mut self) -> Option<u8> {
        if UART0.read(Self::EVENTS_RXDRDY) == 0 {
            return None;
        }
        UART0.write(Self::EVENTS_RXDRDY, 0);
        Some(UART0.read(Self::RXD) as u8)
    }

    fn finish_byte(&mut self) {
        while self.is_sending && UART0.read(Self::EVENTS_TXDRDY) == 0 {}
        self.is_sending = false;
        UART0.write(Self::EVENTS_TXDRDY, 0);
    }
}

impl embedded_io::ErrorType for Uart {
    type Error = Infallible;
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            self.finish_byte();
            UART0.write(Self::TXD, u32::from(byte));
            self.is_sending = true;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        self.finish_byte();
        Ok(())
    }
}

/// Starts the timer's interrupt, above PendSV.
pub fn start_interrupts(peripherals: &mut Peripherals) {
    const SHORTS: usize = 0x200;
    const CC0: usize = 0x540;
    const COMPARE0: u32 = 1 << 16;
    TIMER1.write(BITMODE, 3);
    TIMER1.write(PRESCALER, 0);
    TIMER1.write(CC0, CLOCK_HZ / TICK_HZ);
    // Begins again with each event.
    TIMER1.write(SHORTS, 1);
    TIMER1.write(INTENSET, COMPARE0);
    let irq = Interrupt::TIMER1;
    // SAFETY: no critical section relies on these priorities; all of them mask every interrupt.
    unsafe { peripherals.NVIC.set_priority(irq, 0x40) };
    // SAFETY: as above.
    unsafe { peripherals.SCB.set_priority(SystemHandler::PendSV, 0x80) };
    // SAFETY: it breaks no critical section: none is open.
    unsafe { NVIC::unmask(irq) };
    TIMER1.write(TASKS_START, 1);
}

/// Ends the interrupt that is being served.
pub fn acknowledge() {
    const EVENTS_COMPARE0: usize = 0x140;
    TIMER1.write(EVENTS_COMPARE0, 0);
}

/// Stops the timer's interrupt.
pub fn stop_interrupts() {
    TIMER1.write(TASKS_STOP, 1);
    NVIC::mask(Interrupt::TIMER1);
}
