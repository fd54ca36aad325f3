//! Three tasks of Embassy on a Raspberry Pi Pico: two that work and measure, and one that tells a gateway over UART0.
//!
//! ```text
//! cargo run --release                               # with a debug probe
//! zibrato-gateway --serial pico=/dev/ttyUSB0        # GP0 is TX, GP1 is RX, 115 200 baud
//! ```
//!
//! Tasks of one executor do not interrupt each other, so that each may own its metrics: loads and stores, no critical
//! section. What an interrupt, a second executor or the second core records as well is shared.
//!
//! **On another board** change `memory.x`, the target in `.cargo/config.toml`, the HAL's features and the pins in [`main`].
//! A chip with a cycle counter measures finer with [`Dwt`](zibrato_core::device::clock::Dwt) than with Embassy's clock,
//! which here has microseconds. Take a [`boot`] that differs from boot to boot.
#![no_std]
#![no_main]

use cortex_m::singleton;
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_rp::bind_interrupts;
use embassy_rp::clocks::RoscRng;
use embassy_rp::peripherals::UART0;
use embassy_rp::uart::{BufferedInterruptHandler, BufferedUart, Config};
use embassy_time::{Duration, TICK_HZ, Ticker, Timer};
use embedded_io::{Read as _, ReadReady as _};
use panic_halt as _;
use zibrato_core::device::clock::{Embassy, overhead};
use zibrato_core::device::{Item, Link, OwnedTimer, SampleRing, Settings};
use zibrato_core::level::Level;
use zibrato_core::{counter, gauge, local_counter, local_timer, metrics};

/// What every duration and sample is measured with: microseconds.
const CLOCK: Embassy = Embassy;

// Of several tasks.
counter!(static FRAMES = "radio.frames", Level::INFO);
gauge!(static DEPTH: i32 = "radio.queue", Level::INFO, unit = "frames");
// Of one task each.
local_timer!(static CONTROL = "control.loop", Level::INFO);
local_counter!(static SENT = "link.bytes", Level::INFO, unit = "B");
// With a distribution, and only while somebody subscribes to debug.
local_timer!(static HANDLE = "radio.handle", Level::DEBUG, buckets = 124);

static METRICS: [Item; 5] = metrics![FRAMES, DEPTH, CONTROL, SENT, HANDLE];
/// Of the control loop alone.
static TRACE: SampleRing<128> = SampleRing::new();
const SETTINGS: Settings = Settings::new(TICK_HZ as u32).program("firmware-embassy").bytes_per_second(11_520);

bind_interrupts!(struct Irqs {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
});

/// Each millisecond some control; every duration is a sample as well.
#[embassy_executor::task]
async fn control(mut timer: OwnedTimer<CONTROL>) {
    let Some(mut trace) = TRACE.producer() else { return };
    let mut ticker = Ticker::every(Duration::from_millis(1));
    loop {
        let guard = timer.start(CLOCK);
        cortex_m::asm::delay(1_000);
        if let Some(took) = guard.stop() {
            trace.push(&CONTROL, took, CLOCK);
        }
        ticker.next().await;
    }
}

/// Receives a frame now and then, and handles it: with what it waits for, the timer's guard takes the waiting in.
#[embassy_executor::task]
async fn radio(mut timer: OwnedTimer<HANDLE, 124>) {
    let mut random = RoscRng;
    loop {
        Timer::after_micros(u64::from(random.next_u32() % 20_000)).await;
        let _guard = timer.start(CLOCK);
        FRAMES.add(1);
        DEPTH.set(1);
        Timer::after_micros(300).await;
        DEPTH.set(0);
    }
}

/// Tells the gateway, and hears from it.
#[embassy_executor::task]
async fn tell(mut uart: BufferedUart) {
    let Some(mut sent) = SENT.take() else { return };
    // What two readings take is no duration: the gateway takes it off.
    let overhead = overhead(CLOCK);
    let mut link = Link::new(&METRICS, SETTINGS.boot(boot()).overhead(overhead));
    link.add_ring(TRACE.consumer());
    let mut ticker = Ticker::every(Duration::from_millis(5));
    let mut bytes = [0; 16];
    loop {
        while uart.read_ready() == Ok(true) {
            let Ok(length) = uart.read(&mut bytes) else { break };
            link.receive(&bytes[..length]);
        }
        // The UART's buffer takes two frames, which is what a poll sends at most after a pause: nobody waits.
        match link.poll(CLOCK, &mut uart) {
            Ok(bytes) => sent.add(bytes as u32),
            Err(error) => defmt::warn!("the link: {}", error),
        }
        ticker.next().await;
    }
}

/// Something that differs from boot to boot.
fn boot() -> u64 {
    RoscRng.next_u64()
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let p = embassy_rp::init(Default::default());
    let buffers = (singleton!(: [u8; 512] = [0; 512]), singleton!(: [u8; 64] = [0; 64]));
    let ((Some(tx), Some(rx)), Some(control_timer), Some(handle_timer)) =
        (buffers, CONTROL.take(), HANDLE.take())
    else {
        defmt::panic!("main runs once")
    };
    // 115 200 baud.
    let uart = BufferedUart::new(p.UART0, p.PIN_0, p.PIN_1, Irqs, tx, rx, Config::default());
    spawner.spawn(defmt::unwrap!(control(control_timer)));
    spawner.spawn(defmt::unwrap!(radio(handle_timer)));
    spawner.spawn(defmt::unwrap!(tell(uart)));
    defmt::info!("measures with {} Hz", TICK_HZ);
}
