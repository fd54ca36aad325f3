//! A device, and what stands in for a broker and its workers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use zibrato_core::device::clock::Clock;
use zibrato_core::device::{Item, Link, Settings};
use zibrato_core::frame::{Frame as NativeFrame, HistogramState, State};
use zibrato_core::histogram::Histogram;
use zibrato_core::link::{PROTOCOL, Receiver, Writer, kind};

use super::super::*;
use crate::boot::FrameKind;

/// Ticks a second of the simulated device.
const HZ: u32 = 1_000_000;

thread_local! {
    static TICKS: Cell<u32> = const { Cell::new(0) };
}

#[derive(Clone, Copy)]
struct SimClock;

impl Clock for SimClock {
    fn ticks(self) -> u32 {
        TICKS.get()
    }
}

struct Uart(Vec<u8>);

impl embedded_io::ErrorType for Uart {
    type Error = Infallible;
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A device with the real code, and the clock of this thread.
pub(super) struct Sim {
    pub(super) link: Link,
}

impl Sim {
    pub(super) fn new(items: &'static [Item], boot: u64) -> Self {
        let settings = Settings::new(HZ).boot(boot).overhead(2).window_ms(250).program("sim");
        Self { link: Link::new(items, settings.bytes_per_second(HZ)) }
    }

    /// Lets so many milliseconds pass, and returns what was sent meanwhile.
    pub(super) fn run(&mut self, ms: u32) -> Vec<u8> {
        let mut uart = Uart(Vec::new());
        for _ in 0..ms {
            while self.link.poll(SimClock, &mut uart).unwrap() > 0 {}
            TICKS.set(TICKS.get().wrapping_add(HZ / 1_000));
        }
        uart.0
    }

    /// Lets so many milliseconds pass without a poll.
    pub(super) fn wait(&self, ms: u32) {
        TICKS.set(TICKS.get().wrapping_add(ms * (HZ / 1_000)));
    }

    pub(super) fn clock(&self) -> impl Clock + use<> {
        SimClock
    }

    pub(super) fn end(&mut self, session: &mut Session, now: Moment, broker: &mut Broker) {
        let mut uart = Uart(Vec::new());
        self.link.end(SimClock, &mut uart).unwrap();
        session.take(&uart.0, now, broker);
    }

    /// Takes in what the session has to tell.
    pub(super) fn hear(&mut self, session: &mut Session) {
        let link = &mut self.link;
        let heard = session.line.flush(|bytes| {
            link.receive(bytes);
            Ok::<_, Infallible>(bytes.len())
        });
        heard.unwrap();
    }
}

pub(super) fn at(ms: u64) -> Moment {
    Moment { mono_us: ms * 1_000, unix_us: 1_700_000_000_000_000 + ms * 1_000 }
}

pub(super) fn session() -> Session {
    let setting = Setting { source: "dev".to_owned(), host: "lab".to_owned(), is_unfiltered: false };
    Session::new("site".to_owned(), setting)
}

/// Kinds of the frames that a session has to send.
pub(super) fn sent(session: &mut Session) -> Vec<u8> {
    let (mut receiver, mut kinds) = (Receiver::<253>::new(), Vec::new());
    let flushed = session.line.flush(|bytes| {
        for &byte in bytes {
            if let Some(Ok(payload)) = receiver.push(byte) {
                kinds.push(payload[0]);
            }
        }
        Ok::<_, Infallible>(bytes.len())
    });
    flushed.unwrap();
    kinds
}

pub(super) fn frame_of(kind: u8, seq: u16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::numbered(seq);
    writer.start(kind);
    body(&mut writer);
    writer.finish().to_vec()
}

pub(super) fn hello(seq: u16, boot: u64, uptime: u64, metrics: u16) -> Vec<u8> {
    let hello = Hello {
        protocol: PROTOCOL,
        boot,
        clock_hz: HZ,
        overhead: 0,
        uptime,
        window_ms: 1_000,
        metrics,
        program: "",
    };
    frame_of(kind::HELLO, seq, |writer| hello.write(writer))
}

pub(super) fn descriptor(
    writer: &mut Writer,
    id: u64,
    form: u8,
    (number, level): (u8, &str),
    name: &str,
    source: &str,
) {
    writer.varint(id);
    for byte in [form, number, 0] {
        writer.byte(byte);
    }
    for text in [level, name, source, ""] {
        writer.text(text);
    }
    writer.varint(0);
}

/// What a frame said.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) level: String,
    pub(super) publisher: PublisherId,
    pub(super) seq: u64,
    pub(super) age_ms: u64,
    pub(super) is_key: bool,
    pub(super) is_end: bool,
    pub(super) is_heartbeat: bool,
    pub(super) source: String,
    pub(super) program: String,
    pub(super) host: String,
    pub(super) entries: usize,
}

/// Takes frames at each window and checks what must hold of every one.
#[derive(Default)]
pub(super) struct Broker {
    said: Vec<Said>,
    /// The last state of each series, and its identity.
    states: BTreeMap<String, (State<'static>, Texts)>,
    histograms: BTreeMap<(PublisherId, String), Histogram>,
    pub(super) begun: usize,
    pub(super) ended: usize,
}

#[derive(Clone, Debug)]
struct Texts {
    source: String,
    unit: String,
    tags: usize,
    level: String,
}

impl Broker {
    pub(super) fn frames(&self, level: &str) -> Vec<Said> {
        self.said.iter().filter(|said| said.level == level).cloned().collect()
    }

    pub(super) fn known(&self, name: &str) -> Option<State<'static>> {
        self.states.get(name).map(|(state, _)| *state)
    }

    pub(super) fn state(&self, name: &str) -> State<'static> {
        self.known(name).unwrap_or_else(|| panic!("nothing of {name} among {:?}", self.states.keys()))
    }

    /// Name, source, unit and number of tags of each series of level info.
    pub(super) fn sources(&self) -> Vec<(&str, &str, &str, usize)> {
        let info = self.states.iter().filter(|(_, (_, texts))| texts.level == "info");
        info.map(|(name, (_, it))| (&**name, &*it.source, &*it.unit, it.tags)).collect()
    }

    fn take(&mut self, message: &[u8]) {
        let frame = NativeFrame::parse(message).unwrap();
        let (header, about) = (frame.header, frame.prelude.about);
        let entries: Vec<_> = frame.entries().map(Result::unwrap).collect();
        self.said.push(Said {
            level: frame.level.to_owned(),
            publisher: header.publisher,
            seq: header.seq,
            age_ms: header.age_ms,
            is_key: header.flags.key,
            is_end: header.flags.end,
            is_heartbeat: header.flags.heartbeat,
            source: frame.prelude.source.to_owned(),
            program: about.map_or_else(String::new, |about| about.program.to_owned()),
            host: about.map_or_else(String::new, |about| about.host.to_owned()),
            entries: entries.len(),
        });
        for entry in &entries {
            let name = entry.name.to_owned();
            let state = match entry.state {
                State::Counter { sum } => State::Counter { sum },
                State::Gauge { sets, last, last_ms, min, max } => {
                    State::Gauge { sets, last, last_ms, min, max }
                }
                State::Timer { count, sum_ns, sum_squares_ns2, window_ns, histogram } => {
                    self.check_buckets(header.publisher, &name, count, &histogram);
                    let histogram = HistogramState::EMPTY;
                    State::Timer { count, sum_ns, sum_squares_ns2, window_ns, histogram }
                }
            };
            let texts = Texts {
                source: entry.source.to_owned(),
                unit: entry.unit.to_owned(),
                tags: entry.tags.len(),
                level: frame.level.to_owned(),
            };
            self.states.insert(name, (state, texts));
        }
    }

    /// Buckets add up to the count, and none of them ever falls.
    fn check_buckets(&mut self, publisher: PublisherId, name: &str, count: u64, state: &HistogramState<'_>) {
        let histogram = Histogram::from_parts(state.scale, state.zero, state.offset, state.buckets());
        assert_eq!(histogram.total(), count, "{name}");
        let key = (publisher, name.to_owned());
        if let Some(before) = self.histograms.get(&key) {
            let mut grown: Histogram = histogram.clone();
            grown.subtract(before);
            assert!(grown.counts().all(|(_, count)| count < 1 << 63), "{name}: a bucket fell");
        }
        self.histograms.insert(key, histogram);
    }

    fn publish(&mut self, boot: &mut Boot, level: usize, kind: FrameKind, now: Moment) {
        let frames = boot.encode(level, kind, now);
        frames.parts.iter().for_each(|part| self.take(part));
    }
}

impl Sink for Broker {
    fn begin(&mut self, _boot: &Boot, _now: Moment) {
        self.begun += 1;
    }

    fn window(&mut self, boot: &mut Boot, now: Moment) {
        for level in 0..boot.levels().len() {
            if let Some(kind) = boot.due(level) {
                self.publish(boot, level, kind, now);
            }
        }
    }

    fn end(&mut self, boot: &mut Boot, now: Moment) {
        self.ended += 1;
        for level in 0..boot.levels().len() {
            if boot.is_published(level) {
                self.publish(boot, level, FrameKind::End, now);
            }
        }
    }
}

/// A generator of its own, so that a test is the same every time.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Flips, drops or repeats one byte in `one_in`.
    pub(super) fn harm(&mut self, bytes: &[u8], one_in: u64) -> Vec<u8> {
        let mut harmed = Vec::new();
        for &byte in bytes {
            if !self.next().is_multiple_of(one_in) {
                harmed.push(byte);
                continue;
            }
            match self.next() % 3 {
                0 => harmed.push(byte ^ 1 << (self.next() % 8)),
                1 => {}
                _ => harmed.extend([byte, byte]),
            }
        }
        harmed
    }
}
