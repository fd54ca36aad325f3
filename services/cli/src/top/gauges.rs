//! Gauges that were set before top began. A worker posts nothing of them, but their value stands in each
//! key frame, and the broker keeps the last one of each publisher.

use std::collections::HashSet;
use std::sync::Arc;

use zibrato_core::frame::{Frame, Header, State, TOPIC_STATE, split_topic};
use zibrato_worker::measurement::SeriesKey;
use zibrato_worker::subscription::Message;

/// Most gauges that are known; further ones appear when they are set.
const GAUGES_MAX: usize = 20_000;
/// Age of a kept frame from which on its publisher is taken to be gone, in milliseconds.
const HELD_MS_MAX: u32 = 60_000;

/// The value of a gauge.
pub(crate) type Known = (Arc<SeriesKey>, f64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    known: HashSet<Arc<SeriesKey>>,
    news: Vec<Known>,
}

impl Gauges {
    /// Looks for gauges in a message that came.
    pub(crate) fn look(&mut self, message: &Message) {
        match message {
            Message::Published(bytes) if bytes.first() == Some(&TOPIC_STATE) => {
                if let Ok((level, untopiced)) = split_topic(bytes) {
                    self.look_into(level, untopiced);
                }
            }
            Message::Replayed { level, untopiced } => self.look_into(level, untopiced),
            _ => {}
        }
    }

    /// The gauges that were not known when this was called last, with their values.
    pub(crate) fn news(&mut self) -> Vec<Known> {
        std::mem::take(&mut self.news)
    }

    fn look_into(&mut self, level: &str, untopiced: &[u8]) {
        let is_wanted = |header: Header| {
            header.flags.key && !header.flags.end && !header.flags.heartbeat && header.held_ms <= HELD_MS_MAX
        };
        if !Header::parse(untopiced).is_ok_and(is_wanted) {
            return;
        }
        // What cannot be read the ledger counts.
        let Ok(frame) = Frame::parse_untopiced(level, untopiced) else { return };
        for entry in frame.entries().map_while(Result::ok) {
            let State::Gauge { last, .. } = entry.state else { continue };
            if self.known.len() == GAUGES_MAX {
                return;
            }
            let source = if entry.source.is_empty() { frame.prelude.source } else { entry.source };
            let tags = entry.tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let key = Arc::new(SeriesKey {
                level: level.into(),
                kind: entry.state.kind(),
                name: entry.name.to_owned(),
                source: source.into(),
                unit: entry.unit.to_owned(),
                tags: tags.collect(),
            });
            if self.known.insert(Arc::clone(&key)) {
                self.news.push((key, last));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::{Encoder, Entry, Prelude, PublisherId, set_held_ms};

    use super::*;

    fn message(change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut header = Header::new(PublisherId([1; 16]), 1);
        header.flags.key = true;
        change(&mut header);
        let prelude = Prelude { source: "src", ..Prelude::default() };
        let mut encoder = Encoder::new(&mut buffer, "info", &header, &prelude).unwrap();
        encoder.push(&Entry::new("hits", State::Counter { sum: 7 })).unwrap();
        let gauge = State::Gauge { sets: 1, last: 4.5, last_ms: 0, min: 4.5, max: 4.5 };
        encoder.push(&Entry::new("depth", gauge)).unwrap();
        encoder.finish().to_vec()
    }

    fn seen(message: Message) -> Vec<(String, String, f64)> {
        let mut gauges = Gauges::default();
        gauges.look(&message);
        gauges.look(&message);
        let news = gauges.news();
        assert!(gauges.news().is_empty());
        news.into_iter().map(|(key, value)| (key.name.clone(), key.source.to_string(), value)).collect()
    }

    #[test]
    fn a_gauge_of_a_key_frame_is_known_once_with_its_value() {
        let expected = [("depth".to_owned(), "src".to_owned(), 4.5)];
        assert_eq!(seen(Message::Published(message(|_| {}))), expected);
        let bytes = message(|_| {});
        let (level, untopiced) = split_topic(&bytes).unwrap();
        let replayed = |held_ms| {
            let mut untopiced = untopiced.to_vec();
            set_held_ms(&mut untopiced, held_ms);
            seen(Message::Replayed { level: level.into(), untopiced })
        };
        assert_eq!(replayed(HELD_MS_MAX), expected);
        assert!(replayed(HELD_MS_MAX + 1).is_empty(), "a publisher that is gone");
    }

    #[test]
    fn other_frames_and_text_tell_nothing() {
        assert!(seen(Message::Published(message(|header| header.flags.key = false))).is_empty());
        assert!(seen(Message::Published(message(|header| header.flags.end = true))).is_empty());
        assert!(seen(Message::Published(b"info|Gauge|depth|1|1|s".to_vec())).is_empty());
        assert!(seen(Message::Published(message(|_| {})[..20].to_vec())).is_empty());
        assert!(seen(Message::Connected).is_empty());
    }
}
