//! A small firmware, with metrics and without: ci/size takes the difference.
//!
//! Ten metrics of all kinds, a ring of samples, and the link over a UART, in a program that does its own work and has its
//! own UART either way. Feature `frames` records one metric of each kind and builds the frames of all itself, in a schedule of
//! its own; `sending` has a link for that; `metrics` records all, in two contexts, and takes masks from the gateway.
#![no_std]
#![no_main]

use core::convert::Infallible;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cortex_m_rt::{entry, exception};
use firmware_bench as _;

/// A CMSDK UART.
struct Uart;

impl Uart {
    const DATA: *mut u32 = 0x4000_4000 as *mut u32;
    const STATE: *mut u32 = 0x4000_4004 as *mut u32;
    const CONTROL: *mut u32 = 0x4000_4008 as *mut u32;

    fn start() -> Self {
        // SAFETY: a register of this board.
        unsafe { Self::CONTROL.write_volatile(3) };
        Self
    }

    #[inline(never)]
    fn send(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // SAFETY: a register of this board.
            while unsafe { Self::STATE.read_volatile() } & 1 != 0 {}
            // SAFETY: a register of this board.
            unsafe { Self::DATA.write_volatile(byte.into()) };
        }
    }

    #[inline(never)]
    fn receive(&mut self) -> Option<u8> {
        // SAFETY: a register of this board.
        let has_byte = unsafe { Self::STATE.read_volatile() } & 2 != 0;
        // SAFETY: a register of this board.
        has_byte.then(|| unsafe { Self::DATA.read_volatile() } as u8)
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

static WORK: AtomicU32 = AtomicU32::new(0);

#[inline(never)]
fn work() -> u32 {
    let next = WORK.load(Relaxed).wrapping_mul(3).wrapping_add(1);
    WORK.store(next, Relaxed);
    next
}

#[cfg(any(feature = "frames", feature = "sending"))]
mod measured {
    use zibrato_core::device::clock::Dwt;
    use zibrato_core::device::{Item, SampleRing, Settings};
    use zibrato_core::level::Level;
    use zibrato_core::{counter, gauge, local_counter, local_timer, metrics, timer};

    pub(crate) const CLOCK: Dwt = Dwt;
    pub(crate) const SETTINGS: Settings = Settings::new(25_000_000).boot(1).program("size");

    timer!(pub(crate) static FOC = "motor.foc_isr", Level::INFO);
    local_timer!(pub(crate) static ADC = "adc.dma_isr", Level::INFO);
    local_timer!(pub(crate) static LOOP = "ctrl.loop", Level::INFO);
    local_timer!(pub(crate) static IMU = "imu.spi_xfer", Level::DEBUG);
    local_timer!(pub(crate) static CAN = "can.rx_isr", Level::DEBUG);
    local_counter!(pub(crate) static POLLS = "net.polls", Level::INFO);
    counter!(pub(crate) static FRAMES = "can.rx_frames", Level::INFO);
    counter!(pub(crate) static DETAIL = "can.detail", Level::DEBUG);
    gauge!(pub(crate) static DEPTH: i32 = "net.tx_queue", Level::INFO);
    gauge!(pub(crate) static CURRENT: i32 = "motor.current", Level::INFO, unit = "mA");
    pub(crate) static METRICS: [Item; 10] =
        metrics![FOC, ADC, LOOP, IMU, CAN, POLLS, FRAMES, DETAIL, DEPTH, CURRENT];
    pub(crate) static RING: SampleRing<64> = SampleRing::new();
}

#[exception]
fn SysTick() {
    #[cfg(any(feature = "frames", feature = "sending"))]
    static mut RING: Option<zibrato_core::device::Producer<64>> = None;
    #[cfg(feature = "metrics")]
    static mut ADC: Option<zibrato_core::device::OwnedTimer<measured::ADC>> = None;
    #[cfg(any(feature = "frames", feature = "sending"))]
    let guard = measured::FOC.start(measured::CLOCK);
    let value = work();
    #[cfg(any(feature = "frames", feature = "sending"))]
    {
        measured::FRAMES.add(1);
        measured::CURRENT.set(value.cast_signed());
        if RING.is_none() {
            *RING = measured::RING.producer();
        }
        if let Some(ring) = RING {
            ring.push(&measured::CURRENT, value.cast_signed(), measured::CLOCK);
        }
        drop(guard);
    }
    #[cfg(feature = "metrics")]
    {
        measured::DETAIL.add(value);
        if ADC.is_none() {
            *ADC = measured::ADC.take();
        }
        if let Some(adc) = ADC {
            adc.record(value);
        }
    }
    let _ = value;
}

#[entry]
fn main() -> ! {
    #[cfg(feature = "frames")]
    static mut FRAMES: zibrato_core::device::Frames = zibrato_core::device::Frames::new();
    #[cfg(feature = "sending")]
    static mut STATE: zibrato_core::device::LinkState = zibrato_core::device::LinkState::new();
    let mut uart = Uart::start();
    uart.send(b"boot\n");
    #[cfg(feature = "sending")]
    let mut link = zibrato_core::device::Link::with_state(&measured::METRICS, measured::SETTINGS, STATE);
    #[cfg(feature = "sending")]
    link.add_ring(measured::RING.consumer());
    #[cfg(feature = "frames")]
    let Some(mut ring) = measured::RING.consumer() else { idle() };
    #[cfg(feature = "frames")]
    let (mut position, mut turn) = (zibrato_core::device::Position::START, 0);
    #[cfg(feature = "metrics")]
    let taken = (measured::LOOP.take(), measured::IMU.take(), measured::CAN.take(), measured::POLLS.take());
    #[cfg(feature = "metrics")]
    let (Some(mut turn), Some(mut imu), Some(mut can), Some(mut polls)) = taken else { idle() };
    loop {
        #[cfg(feature = "metrics")]
        let guard = turn.start(measured::CLOCK);
        let value = work();
        #[cfg(feature = "metrics")]
        {
            drop(guard);
            polls.add(1);
            imu.record(value);
            can.record(value);
            measured::DEPTH.set(value.cast_signed());
        }
        while let Some(byte) = uart.receive() {
            #[cfg(feature = "metrics")]
            link.receive(&[byte]);
            let _ = byte;
        }
        #[cfg(feature = "frames")]
        {
            say(FRAMES, &mut ring, &mut position, turn);
            uart.send(FRAMES.line());
            turn = turn.wrapping_add(1);
        }
        #[cfg(feature = "sending")]
        let Ok(_bytes) = link.poll(measured::CLOCK, &mut uart);
        let _ = value;
        cortex_m::asm::wfi();
    }
}

/// Nothing more to do.
#[cfg(any(feature = "frames", feature = "metrics"))]
fn idle() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}

/// One frame a turn: of 64 the first ones with the dictionary, every 16th with as much of the state as fits, and all others
/// with samples.
#[cfg(feature = "frames")]
fn say(
    frames: &mut zibrato_core::device::Frames,
    ring: &mut zibrato_core::device::Consumer,
    position: &mut zibrato_core::device::Position,
    turn: u16,
) {
    use zibrato_core::device::Window;

    frames.advance(measured::CLOCK);
    let id = turn % 64;
    if let Some(item) = measured::METRICS.get(usize::from(id)) {
        frames.descriptor(id, item);
    } else if id == 63 {
        frames.hello(&measured::METRICS, &measured::SETTINGS);
    } else if id % 16 == 15 {
        let window = Window { number: 0, is_all: true, is_end: false, lost: ring.lost() };
        frames.state(&measured::METRICS, window, position);
    } else {
        let lost = ring.lost();
        frames.samples(&measured::METRICS, &measured::SETTINGS, ring, lost, measured::CLOCK);
    }
}
