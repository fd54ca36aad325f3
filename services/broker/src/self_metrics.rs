//! The broker's own publisher: series of level `zibrato` about the broker, once a window.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zibrato_core::frame::{
    About, EncodeError, Encoder, Entry, Flags, HEADER_BYTES, Header, Prelude, PublisherId, State,
    TOPIC_STATE, set_parts, topic,
};
use zibrato_core::limits::{
    FRAME_BYTES_MAX, KEY_FRAME_WINDOWS, PARTS_MAX, SOURCE_DEFAULT, WINDOW_MS_DEFAULT,
};
use zibrato_core::text::Field;

use crate::counts::Totals;

/// The level of every broker's own series.
pub(crate) const LEVEL: &str = "zibrato";
/// The window: the interval after which a frame is written.
pub(crate) const WINDOW: Duration = Duration::from_millis(WINDOW_MS_DEFAULT as u64);

/// Encodes the state frames of the broker's own series.
#[derive(Debug)]
pub(crate) struct SelfMetrics {
    id: PublisherId,
    start: Instant,
    seq: u64,
    windows: u32,
    wants_key: bool,
    source: String,
    host: String,
    /// Counters as they were last sent.
    sent: HashMap<(&'static str, String), u64>,
    /// How often the gauges were set.
    sets: u64,
}

/// One frame or part, as it goes over the wire.
#[derive(Debug)]
pub(crate) struct OwnFrame {
    /// Its header.
    pub(crate) header: Header,
    /// Topic, header and body.
    pub(crate) message: Vec<u8>,
}

impl OwnFrame {
    /// Header and body.
    pub(crate) fn untopiced(&self) -> &[u8] {
        &self.message[LEVEL.len() + 2..]
    }
}

/// What a series says, and by which tag it differs from others of its name.
struct Series<'a> {
    name: &'static str,
    tag: Option<(&'static str, &'a str)>,
    value: Value,
}

#[derive(Clone, Copy)]
enum Value {
    Counter(u64),
    Gauge(usize),
}

impl SelfMetrics {
    /// A publisher with a random id that starts now.
    pub(crate) fn new(id: PublisherId, now: Instant) -> Self {
        let host = host_name();
        let source = if Field::Source.accepts(&host) { host.clone() } else { SOURCE_DEFAULT.to_owned() };
        let sent = HashMap::new();
        Self { id, start: now, seq: 0, windows: 0, wants_key: true, source, host, sent, sets: 0 }
    }

    /// Makes the next window's frame a key frame, for a subscriber that has seen none.
    pub(crate) fn ask_for_key(&mut self) {
        self.wants_key = true;
    }

    /// Whether a subscription is one to these series.
    pub(crate) fn is_subscription(subscribed: &[u8]) -> bool {
        topic(TOPIC_STATE, LEVEL).is_some_and(|topic| topic.starts_with(subscribed))
    }

    /// The frames of a window that ends now: the counters that changed, all series every tenth
    /// time, or a heartbeat.
    pub(crate) fn window(&mut self, totals: &Totals, now: Instant) -> Vec<OwnFrame> {
        self.windows += 1;
        let key = self.wants_key || self.windows.is_multiple_of(KEY_FRAME_WINDOWS);
        self.frames(totals, Flags { key, end: false, heartbeat: false }, now)
    }

    /// The end frame.
    pub(crate) fn end(&mut self, totals: &Totals, now: Instant) -> Vec<OwnFrame> {
        self.frames(totals, Flags { key: true, end: true, heartbeat: false }, now)
    }

    fn frames(&mut self, totals: &Totals, flags: Flags, now: Instant) -> Vec<OwnFrame> {
        let series = series(totals);
        let is_due = |series: &&Series<'_>| match series.value {
            Value::Counter(sum) => flags.key || self.sent.get(&series.name_and_tag()) != Some(&sum),
            // A gauge goes along but makes no frame: the broker's own frames change what is kept.
            Value::Gauge(_) => true,
        };
        let due: Vec<_> = series.iter().filter(is_due).collect();
        let has_counter = due.iter().any(|series| matches!(series.value, Value::Counter(_)));
        if !has_counter {
            let heartbeat = Flags { heartbeat: true, ..Flags::default() };
            return self.encode(&[], heartbeat, now).into_iter().collect();
        }
        self.sets += 1;
        let mut frames = Vec::new();
        let mut rest = &due[..];
        while !rest.is_empty() && frames.len() < PARTS_MAX {
            let Some((frame, used)) = self.encode_some(rest, flags, now) else { break };
            rest = &rest[used..];
            frames.push(frame);
        }
        if flags.key {
            self.wants_key = false;
            // At most PARTS_MAX, which is the largest u16.
            let of = frames.len() as u16;
            for (part, frame) in (0..of).zip(&mut frames) {
                (frame.header.part, frame.header.of) = (part, of);
                set_parts(&mut frame.message, LEVEL, part, of);
            }
        }
        for series in due {
            if let Value::Counter(sum) = series.value {
                self.sent.insert(series.name_and_tag(), sum);
            }
        }
        frames
    }

    fn encode(&mut self, series: &[&Series<'_>], flags: Flags, now: Instant) -> Option<OwnFrame> {
        self.encode_some(series, flags, now).map(|(frame, _)| frame)
    }

    /// A frame with as many of the series as fit, and how many those are; `None` if not even one.
    fn encode_some(
        &mut self,
        series: &[&Series<'_>],
        flags: Flags,
        now: Instant,
    ) -> Option<(OwnFrame, usize)> {
        let wall_ms = unix_ms();
        let seq = if flags.heartbeat { self.seq } else { self.seq + 1 };
        let mut header = Header::new(self.id, seq);
        header.flags = flags;
        header.age_ms = now.saturating_duration_since(self.start).as_millis() as u64;
        let about = About {
            program: "zibrato-broker",
            host: &self.host,
            pid: std::process::id(),
            library: env!("CARGO_PKG_VERSION"),
        };
        let prelude = Prelude {
            window_end_ms: wall_ms,
            window_ms: if flags.heartbeat { 0 } else { WINDOW_MS_DEFAULT },
            source: &self.source,
            about: flags.key.then_some(about),
            ..Prelude::default()
        };
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let mut encoder = Encoder::new(&mut buffer, LEVEL, &header, &prelude).ok()?;
        let mut used = 0;
        let mut pushed = 0;
        for series in series {
            match encoder.push(&series.entry(self.sets, wall_ms)) {
                Err(EncodeError::Full) => break,
                Ok(()) => pushed += 1,
                // A level that no tag can carry is left out; its count is in `received`.
                Err(_) => {}
            }
            used += 1;
        }
        if pushed == 0 && used == 0 && !series.is_empty() {
            return None;
        }
        let message = encoder.finish().to_vec();
        debug_assert!(message.len() >= LEVEL.len() + 2 + HEADER_BYTES);
        self.seq = seq;
        Some((OwnFrame { header, message }, used))
    }
}

impl Series<'_> {
    fn name_and_tag(&self) -> (&'static str, String) {
        (self.name, self.tag.map_or_else(String::new, |(_, value)| value.to_owned()))
    }

    fn entry(&self, sets: u64, wall_ms: u64) -> Entry<'_> {
        let state = match self.value {
            Value::Counter(sum) => State::Counter { sum },
            Value::Gauge(value) => {
                let last = value as f64;
                State::Gauge { sets, last, last_ms: wall_ms, min: last, max: last }
            }
        };
        let mut entry = Entry::new(self.name, state);
        if let Some(tag) = self.tag {
            // One tag of at most TAGS_MAX.
            let _ = entry.tags.push(tag);
        }
        entry
    }
}

/// All series in a fixed order. Those with a tag sum up to the count of their name.
fn series(totals: &Totals) -> Vec<Series<'_>> {
    let counter = |name, sum| Series { name, tag: None, value: Value::Counter(sum) };
    let gauge = |name, value| Series { name, tag: None, value: Value::Gauge(value) };
    let mut all = vec![
        counter("zibrato.broker.received", totals.received),
        counter("zibrato.broker.acknowledged", totals.acknowledged),
        counter("zibrato.broker.replayed", totals.replayed),
        gauge("zibrato.broker.kept_frames", totals.kept_frames),
        gauge("zibrato.broker.kept_bytes", totals.kept_bytes),
        gauge("zibrato.broker.kept_publishers", totals.kept_publishers),
        gauge("zibrato.broker.topics", totals.topics),
    ];
    for (level, counts) in &totals.levels {
        for (name, sum) in [
            ("zibrato.broker.forwarded", counts.forwarded),
            ("zibrato.broker.no_subscriber", counts.no_subscriber),
        ] {
            all.push(Series { name, tag: Some(("level", level)), value: Value::Counter(sum) });
        }
    }
    for (name, counts) in [
        ("zibrato.broker.refused", &totals.refused),
        ("zibrato.broker.ignored", &totals.ignored),
        ("zibrato.broker.evicted", &totals.evicted),
    ] {
        let tagged = counts.iter().map(|(reason, sum)| (Some(("reason", *reason)), Value::Counter(*sum)));
        all.extend(tagged.map(|(tag, value)| Series { name, tag, value }));
    }
    all
}

/// The host's name, or nothing where the system does not tell it in a file.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

fn unix_ms() -> u64 {
    // A clock before 1970 is read as 1970; the value is only informative.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::Frame;

    use super::*;
    use crate::LevelTotals;

    fn totals(received: u64, levels: usize) -> Totals {
        let counts = LevelTotals { forwarded: 1, ..LevelTotals::default() };
        let levels = (0..levels).map(|level| (format!("level{level}"), counts)).collect();
        Totals { received, levels, ..Totals::default() }
    }

    fn publisher() -> (SelfMetrics, Instant) {
        let now = Instant::now();
        (SelfMetrics::new(PublisherId([5; 16]), now), now)
    }

    /// Name, first tag value and count of each counter in the frames, which must be well-formed.
    fn counters(frames: &[OwnFrame]) -> Vec<(String, String, u64)> {
        let mut all = Vec::new();
        for own in frames {
            let frame = Frame::parse(&own.message).unwrap();
            assert_eq!((frame.level, frame.header), (LEVEL, own.header));
            assert_eq!(Header::parse(own.untopiced()), Ok(own.header));
            for entry in frame.entries() {
                let entry = entry.unwrap();
                if let State::Counter { sum } = entry.state {
                    let tag = entry.tags.first().map_or("", |(_, value)| value);
                    all.push((entry.name.to_owned(), tag.to_owned(), sum));
                }
            }
        }
        all
    }

    #[test]
    fn the_first_and_every_tenth_frame_has_all_series_and_others_only_what_changed() {
        let (mut own, now) = publisher();
        let first = own.window(&totals(1, 1), now);
        assert!(first[0].header.flags.key && counters(&first).len() == 5);
        let second = own.window(&totals(2, 1), now);
        assert!(!second[0].header.flags.key);
        assert_eq!(counters(&second), [("zibrato.broker.received".to_owned(), String::new(), 2)]);
        let idle = own.window(&totals(2, 1), now);
        assert!(idle[0].header.flags.heartbeat);
        assert_eq!((idle[0].header.seq, idle.len()), (second[0].header.seq, 1));
        let keys: Vec<_> = (4..=20).map(|_| own.window(&totals(2, 1), now)[0].header.flags.key).collect();
        let expected: Vec<_> = (4..=20).map(|window| window % 10 == 0).collect();
        assert_eq!(keys, expected);
        own.ask_for_key();
        assert!(own.window(&totals(2, 1), now)[0].header.flags.key);
    }

    #[test]
    fn a_frame_that_is_too_long_is_split_into_parts_that_lose_nothing() {
        let (mut own, now) = publisher();
        let frames = own.end(&totals(7, 1_000), now);
        assert!(frames.len() > 1);
        let counters = counters(&frames);
        assert_eq!(counters.len(), 3 + 2 * 1_000);
        for (part, frame) in frames.iter().enumerate() {
            let header = frame.header;
            assert_eq!((header.seq, header.frame_seq()), (part as u64 + 1, 1));
            assert_eq!((header.part as usize, header.of as usize), (part, frames.len()));
            assert!(header.flags.key && header.flags.end && frame.message.len() <= FRAME_BYTES_MAX);
        }
    }

    #[test]
    fn a_subscription_to_this_level_is_told_from_one_to_another() {
        for (topic, expected) in [
            (&b"\x01zibrato\0"[..], true),
            (b"\x01", true),
            (b"", true),
            (b"\x01zib\0", false),
            (b"zibrato|", false),
        ] {
            assert_eq!(SelfMetrics::is_subscription(topic), expected, "{topic:?}");
        }
    }
}
