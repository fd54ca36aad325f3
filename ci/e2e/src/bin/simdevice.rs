//! A device: the firmware's own code on this machine, behind TCP or a terminal, told what to do on standard input.
//!
//! ```text
//! simdevice --boot 7 --listen            prints "listens ADDR"
//! simdevice --boot 7 --open /dev/pts/3
//! ```
//!
//! | line | effect | answer |
//! |---|---|---|
//! | `run N` | N rounds of random records, over some milliseconds | `ran` |
//! | `truth` | | one line of JSON: what was recorded |
//! | `noise N` | harms one byte in N that is sent; 0 none | `noisy` |
//! | `unplug`, `plug` | closes the connection and takes none; takes one again | `unplugged`, `plugged` |
//! | `trace` | counts once with an on-demand counter | `trace on` or `trace off` |
//! | `end` | says that it ends, and exits | |
//!
//! Killed, or without standard input, it ends without a word, as by a reset.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "support of tests: what fails here fails a test"
)]

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use zibrato_core::device::clock::Clock;
use zibrato_core::device::{Item, Link, SampleRing, Settings};
use zibrato_core::level::Level;
use zibrato_core::{counter, gauge, metrics, timer};
use zibrato_e2e::Random;

/// A tick is a microsecond.
const HZ: u32 = 1_000_000;
const OVERHEAD: u32 = 3;
const NS_A_TICK: u64 = 1_000;
/// Rounds between two pauses.
const BURST: u64 = 20;
const TURN: Duration = Duration::from_millis(1);

const AUDIT: Level = Level::new("audit");

counter!(static FRAMES = "dev.frames.counter", Level::INFO);
counter!(static BYTES = "dev.bytes.counter", AUDIT, unit = "B");
counter!(static TRACE = "dev.trace.counter", Level::DEBUG);
gauge!(static DEPTH: i32 = "dev.depth.gauge", Level::INFO);
gauge!(static CURRENT: f32 = "dev.current.gauge", AUDIT);
timer!(static LOOP = "dev.loop.timer", Level::INFO, buckets = 124);
timer!(static ISR = "dev.isr.timer", AUDIT);
timer!(static FEW = "dev.few.timer", AUDIT, buckets = 40);
static METRICS: [Item; 8] = metrics![FRAMES, BYTES, TRACE, DEPTH, CURRENT, LOOP, ISR, FEW];
static RING: SampleRing<64> = SampleRing::new();

static HARM_ONE_IN: AtomicU64 = AtomicU64::new(0);
static IS_UNPLUGGED: AtomicBool = AtomicBool::new(false);
static IS_TRACED: AtomicBool = AtomicBool::new(false);
static SAMPLES: AtomicU32 = AtomicU32::new(0);

/// Runs the firmware's code against a gateway.
#[derive(Clone, Debug, Parser)]
#[command(name = "simdevice")]
struct Args {
    /// Number of the boot.
    #[arg(long)]
    boot: u64,

    /// Listen on any free port of TCP.
    #[arg(long, conflicts_with = "open")]
    listen: bool,

    /// Open this terminal.
    #[arg(long)]
    open: Option<String>,

    /// Make a pseudo-terminal, as a serial port for the gateway, and print `listens PATH`.
    #[arg(long, conflicts_with = "open")]
    serial: bool,

    /// Length of a window, in milliseconds.
    #[arg(long, default_value_t = 50)]
    window_ms: u32,

    /// What the values depend on.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy)]
struct Ticks(Instant);

impl Clock for Ticks {
    fn ticks(self) -> u32 {
        self.0.elapsed().as_micros() as u32
    }
}

/// What is recorded, counted beside the metrics.
#[derive(Default)]
struct Truth {
    frames: u64,
    bytes: u64,
    depth: Option<i32>,
    current: Option<f32>,
    timers: [(u64, u64); 3],
}

fn main() {
    let args = Args::parse();
    let clock = Ticks(Instant::now());
    let (end, ended) = channel();
    let line = match &args.open {
        Some(path) => Line::Terminal(open_terminal(path)),
        None if args.serial => Line::Terminal(make_terminal()),
        None => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            println!("listens {}", listener.local_addr().unwrap());
            Line::Tcp { listener, stream: None }
        }
    };
    let settings = Settings::new(HZ).boot(args.boot).overhead(OVERHEAD).window_ms(args.window_ms);
    let settings = settings.bytes_per_second(HZ).program("simdevice");
    let harm = Random::new(args.seed + 1_000);
    let linked = thread::spawn(move || speak(line, settings, clock, harm, &ended));
    obey(&args, clock, &end);
    drop(end);
    let _ = linked.join();
}

/// Does what standard input says.
fn obey(args: &Args, clock: Ticks, end: &Sender<()>) {
    let mut random = Random::new(args.seed);
    let mut truth = Truth::default();
    let mut producer = RING.producer().unwrap();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (word, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u64 = number.parse().unwrap();
        match word {
            "run" => {
                for round in 0..number {
                    record(&mut random, &mut truth);
                    if round.is_multiple_of(BURST) {
                        // Its number is its value, as it comes out without the overhead.
                        let number = SAMPLES.load(Relaxed);
                        if producer.push(&LOOP, number + OVERHEAD, clock) {
                            SAMPLES.store(number + 1, Relaxed);
                        }
                        thread::sleep(TURN);
                    }
                }
                println!("ran");
            }
            "truth" => println!("{}", tell(&truth)),
            "noise" => {
                HARM_ONE_IN.store(number, Relaxed);
                println!("noisy");
            }
            "unplug" | "plug" => {
                IS_UNPLUGGED.store(word == "unplug", Relaxed);
                println!("{word}ged");
            }
            "trace" => {
                TRACE.add(1);
                println!("trace {}", if IS_TRACED.load(Relaxed) { "on" } else { "off" });
            }
            "end" => return end.send(()).unwrap(),
            _ => panic!("{line} is no command"),
        }
    }
    exit(0);
}

fn record(random: &mut Random, truth: &mut Truth) {
    let n = random.below(1_000);
    FRAMES.add(1);
    BYTES.add(n as u32);
    (truth.frames, truth.bytes) = (truth.frames + 1, truth.bytes + n);
    if n.is_multiple_of(7) {
        DEPTH.set(n as i32 - 500);
        CURRENT.set(n as f32 / 8.0);
        (truth.depth, truth.current) = (Some(n as i32 - 500), Some(n as f32 / 8.0));
    }
    for (at, bits) in [20, 10, 16].into_iter().enumerate() {
        let below = 1 << random.below(bits);
        let ticks = u64::from(OVERHEAD) + random.below(below);
        match at {
            0 => LOOP.record(ticks as u32),
            1 => ISR.record(ticks as u32),
            _ => FEW.record(ticks as u32),
        }
        truth.timers[at].0 += 1;
        truth.timers[at].1 += ticks - u64::from(OVERHEAD);
    }
}

fn tell(truth: &Truth) -> serde_json::Value {
    let timer = |at: usize| json!({"count": truth.timers[at].0, "sum_ns": truth.timers[at].1 * NS_A_TICK});
    json!({
        "counters": {"dev.frames.counter": truth.frames, "dev.bytes.counter": truth.bytes},
        "gauges": {"dev.depth.gauge": truth.depth, "dev.current.gauge": truth.current},
        "timers": {"dev.loop.timer": timer(0), "dev.isr.timer": timer(1), "dev.few.timer": timer(2)},
        "samples": SAMPLES.load(Relaxed),
    })
}

fn open_terminal(path: &str) -> File {
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(path).unwrap();
    let settings = rustix::termios::tcgetattr(&terminal).unwrap();
    assert!(!settings.local_modes.contains(rustix::termios::LocalModes::ECHO), "the gateway made it raw");
    terminal
}

fn make_terminal() -> File {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    rustix::io::ioctl_fionbio(&ours, true).unwrap();
    println!("listens {}", ptsname(&ours, Vec::new()).unwrap().to_str().unwrap());
    File::from(ours)
}

/// `O_NONBLOCK` of Linux.
const O_NONBLOCK: i32 = 0o4_000;

enum Line {
    Tcp { listener: TcpListener, stream: Option<TcpStream> },
    Terminal(File),
}

impl Line {
    /// Takes a connection, or closes the one there is.
    fn plug(&mut self) {
        let Self::Tcp { listener, stream } = self else { return };
        if IS_UNPLUGGED.load(Relaxed) {
            *stream = None;
            // Who comes now is sent away.
            drop(listener.accept());
        } else if let Ok((new, _)) = listener.accept() {
            new.set_nonblocking(true).unwrap();
            *stream = Some(new);
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let read = match self {
            Self::Tcp { stream: Some(stream), .. } => stream.read(buffer),
            Self::Tcp { .. } => return 0,
            Self::Terminal(terminal) => terminal.read(buffer),
        };
        read.unwrap_or(0)
    }

    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp { stream: Some(stream), .. } => stream.write(bytes),
                // Nobody is there: the line takes what comes and loses it, as a UART does.
                Self::Tcp { .. } => return,
                Self::Terminal(terminal) => terminal.write(bytes),
            };
            match written {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TURN),
                Err(_) => {
                    if let Self::Tcp { stream, .. } = self {
                        *stream = None;
                    }
                    return;
                }
            }
        }
    }
}

/// The line with its noise, as the firmware's writer.
struct Uart {
    line: Line,
    harm: Random,
}

impl embedded_io::ErrorType for Uart {
    type Error = Infallible;
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let one_in = HARM_ONE_IN.load(Relaxed);
        let mut harmed = Vec::new();
        for &byte in bytes {
            if one_in == 0 || self.harm.below(one_in) > 0 {
                harmed.push(byte);
                continue;
            }
            match self.harm.below(3) {
                0 => harmed.push(byte ^ 1 << self.harm.below(8)),
                1 => {}
                _ => harmed.extend([byte, byte]),
            }
        }
        self.line.send(&harmed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The idle loop of the firmware.
fn speak(line: Line, settings: Settings, clock: Ticks, harm: Random, ended: &Receiver<()>) {
    let mut link = Link::new(&METRICS, settings);
    assert!(link.add_ring(RING.consumer()));
    let mut uart = Uart { line, harm };
    let mut buffer = [0; 256];
    loop {
        uart.line.plug();
        let bytes = uart.line.receive(&mut buffer);
        link.receive(&buffer[..bytes]);
        IS_TRACED.store(link.is_on(Level::DEBUG), Relaxed);
        link.poll(clock, &mut uart).unwrap();
        if ended.try_recv().is_ok() {
            link.end(clock, &mut uart).unwrap();
            return;
        }
        thread::sleep(TURN);
    }
}
