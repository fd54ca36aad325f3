//! What a device's metrics cost on the line: `cargo test -p zibrato-core --features std --test link_size -- --nocapture`.
#![allow(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use zibrato_core::device::clock::Clock;
use zibrato_core::device::{Item, Link, SampleRing, Settings};
use zibrato_core::level::Level;
use zibrato_core::link::{Body, Frame, Receiver};
use zibrato_core::{counter, gauge, metrics, timer};

const CLOCK_HZ: u32 = 168_000_000;
const SAMPLES: usize = 1_000;

#[derive(Clone, Copy)]
struct Cycles;

static NOW: AtomicU32 = AtomicU32::new(0x1234_5678);

impl Clock for Cycles {
    fn ticks(self) -> u32 {
        NOW.load(Relaxed)
    }
}

/// Counts the bytes of frames by kind.
#[derive(Default)]
struct Line {
    receiver: Receiver,
    frame: usize,
    state: usize,
    samples: usize,
    samples_seen: usize,
    dictionary: usize,
}

impl embedded_io::ErrorType for Line {
    type Error = Infallible;
}

impl embedded_io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            self.frame += 1;
            let Some(payload) = self.receiver.push(byte) else { continue };
            let length = std::mem::take(&mut self.frame);
            match Frame::parse(payload.expect("whole")).expect("a frame").body {
                Body::State(_) => self.state += length,
                Body::Samples(samples) => {
                    self.samples += length;
                    self.samples_seen += samples.iter().count();
                }
                _ => self.dictionary += length,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Numbers that repeat from run to run: xorshift, and a sum of twelve as a normal deviate.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Lognormal around `mean`.
    fn around(&mut self, mean: f64, sigma: f64) -> f64 {
        mean * (self.normal() * sigma).exp()
    }
}

// What a motor controller measures: cycles of two interrupts, of loops and transfers, frames, a queue, a current.
timer!(static FOC = "motor.foc_isr", Level::INFO);
timer!(static ADC = "adc.dma_isr", Level::INFO);
timer!(static LOOP = "ctrl.loop", Level::INFO, buckets = 124);
timer!(static JITTER = "ctrl.jitter", Level::INFO);
timer!(static SPI = "imu.spi_xfer", Level::INFO);
timer!(static CAN = "can.rx_isr", Level::INFO);
timer!(static NET = "net.poll", Level::INFO);
counter!(static FRAMES = "can.rx_frames", Level::INFO);
gauge!(static QUEUE: i32 = "net.tx_queue_depth", Level::INFO);
gauge!(static CURRENT: i32 = "motor.current_ma", Level::INFO);
static METRICS: [Item; 10] = metrics![FOC, ADC, LOOP, JITTER, SPI, CAN, NET, FRAMES, QUEUE, CURRENT];
static RING: SampleRing<2_048> = SampleRing::new();

/// Rate in Hz, mean and sigma of each, in the order of the list.
const LOADS: [(f64, f64, f64); 10] = [
    (20_000.0, 1_450.0, 0.06),
    (20_000.0, 310.0, 0.08),
    (1_000.0, 38_000.0, 0.12),
    (1_000.0, 220.0, 0.7),
    (1_000.0, 16_800.0, 0.02),
    (2_500.0, 900.0, 0.25),
    (500.0, 120_000.0, 0.5),
    (2_500.0, 1.0, 0.0),
    (500.0, 6.0, 0.5),
    (1_000.0, 1_850.0, 0.1),
];

/// The first samples of all loads, merged by time in cycles: at their own rates, or all at 1 kHz.
fn events(random: &mut Random, is_even: bool) -> Vec<(f64, usize, f64)> {
    let mut events = Vec::new();
    for (metric, &(rate, mean, sigma)) in LOADS.iter().enumerate() {
        let rate = if is_even { 1_000.0 } else { rate };
        let mut at = random.unit() / rate;
        for _ in 0..SAMPLES {
            let late = random.normal().abs() * 2e-7;
            events.push((
                (at + late) * f64::from(CLOCK_HZ),
                metric,
                random.around(mean, sigma).round().max(1.0),
            ));
            at += 1.0 / rate;
        }
    }
    events.sort_by(|a, b| a.0.total_cmp(&b.0));
    events.truncate(SAMPLES);
    events
}

/// One test, since the clock and the metrics are one device's.
#[test]
fn samples_and_states_take_few_bytes() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut link = Link::new(&METRICS, Settings::new(CLOCK_HZ).bytes_per_second(200_000_000));
    assert!(link.add_ring(RING.consumer()));
    let mut ring = RING.producer().expect("the only one");
    let mut line = Line::default();
    link.poll(Cycles, &mut line).expect("never fails");
    println!("dictionary of 10 metrics, with hello: {} B", line.dictionary);

    for is_even in [true, false] {
        let mut line = Line::default();
        let start = NOW.load(Relaxed);
        for (cycles, metric, value) in events(&mut random, is_even) {
            NOW.store(start.wrapping_add(cycles as u32), Relaxed);
            let (ticks, whole) = (value as u32, value as i32);
            let pushed = match metric {
                0 => ring.push(&FOC, ticks, Cycles),
                1 => ring.push(&ADC, ticks, Cycles),
                2 => ring.push(&LOOP, ticks, Cycles),
                3 => ring.push(&JITTER, ticks, Cycles),
                4 => ring.push(&SPI, ticks, Cycles),
                5 => ring.push(&CAN, ticks, Cycles),
                6 => ring.push(&NET, ticks, Cycles),
                7 => ring.push(&FRAMES, 1, Cycles),
                8 => ring.push(&QUEUE, whole, Cycles),
                _ => ring.push(&CURRENT, whole, Cycles),
            };
            assert!(pushed);
        }
        link.poll(Cycles, &mut line).expect("never fails");
        assert_eq!(line.samples_seen, SAMPLES);
        let each = line.samples as f64 / SAMPLES as f64;
        // At the same rate no sample has a neighbour of its own metric, and each is far from the one before it.
        let (name, most) =
            if is_even { ("10 metrics at 1 kHz each", 4.4) } else { ("10 metrics at their own rates", 3.7) };
        println!("{name}: {each:.2} B a sample, frames included, at most {most}");
        assert!(each <= most, "{name}: {each} B a sample");
    }

    // A day's worth of numbers first, so that they are as long as they get; then an hour of seconds.
    let rounds = 3_600;
    let second = |random: &mut Random| {
        for _ in 0..1_000 {
            FOC.record(random.around(1_450.0, 0.06) as u32);
            ADC.record(random.around(310.0, 0.08) as u32);
            JITTER.record(random.around(220.0, 0.7) as u32);
            SPI.record(random.around(16_800.0, 0.02) as u32);
            CAN.record(random.around(900.0, 0.25) as u32);
            NET.record(random.around(120_000.0, 0.5) as u32);
        }
        NOW.fetch_add(CLOCK_HZ, Relaxed);
    };
    let mut line = Line::default();
    for _ in 0..rounds {
        second(&mut random);
        link.poll(Cycles, &mut line).expect("never fails");
    }
    let each = line.state as f64 / f64::from(rounds) / 6.0;
    println!(
        "six timers of 1 000 records a second, the other four metrics idle: {each:.1} B a timer and second"
    );
    assert!(each <= 17.0, "{each} B a timer and second");

    let mut line = Line::default();
    for _ in 0..rounds {
        for _ in 0..1_000 {
            LOOP.record(random.around(38_000.0, 0.12) as u32);
        }
        NOW.fetch_add(CLOCK_HZ, Relaxed);
        link.poll(Cycles, &mut line).expect("never fails");
    }
    // Without it the line still has frames, and all metrics every tenth window.
    let with_it = line.state;
    let mut line = Line::default();
    for _ in 0..rounds {
        NOW.fetch_add(CLOCK_HZ, Relaxed);
        link.poll(Cycles, &mut line).expect("never fails");
    }
    let each = (with_it - line.state) as f64 / f64::from(rounds);
    println!("a timer of 1 000 records a second with 124 buckets, all that it adds: {each:.1} B a second");
    assert!(each <= 8.0, "{each} B a second");
}
