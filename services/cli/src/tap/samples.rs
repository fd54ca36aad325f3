//! Sample frames as they are shown: a line a sample, and what is missing between those that came.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;
use zibrato_core::frame::{PublisherId, Sample, SampleFrame, SampleMetric, SampleValue, SamplesError};

/// Numbers that jump by this or more are those of a gateway that was restarted, and no samples are missing (WIRE.md
/// section 14.1).
const RESTART: u64 = 1 << 28;
/// Most publishers whose samples are looked at for gaps, and most levels of each; those of others are shown.
const PUBLISHERS_MAX: usize = 10_000;
const LEVELS_MAX: usize = 256;

/// One sample; with `--json` an object of this shape.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "sample")]
pub(super) struct SampleView<'a> {
    pub(super) level: &'a str,
    pub(super) publisher: &'a str,
    pub(super) number: u64,
    pub(super) time_ns: u64,
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) unit: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    pub(super) value: ValueView,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ValueView {
    Counter { increment: u64 },
    Gauge { value: f64 },
    Timer { ns: u64 },
}

impl<'a> SampleView<'a> {
    fn new(
        frame: &SampleFrame<'a>,
        publisher: &'a str,
        metric: &SampleMetric<'a>,
        sample: &Sample,
        number: u64,
    ) -> Self {
        let SampleMetric { kind, name, source, unit, tags } = metric;
        Self {
            level: frame.level,
            publisher,
            number,
            time_ns: sample.time_ns,
            kind: kind.as_str(),
            name,
            source: if source.is_empty() { frame.source } else { source },
            unit,
            tags: tags.iter().copied().collect(),
            value: match sample.value {
                SampleValue::Counter { increment } => ValueView::Counter { increment },
                SampleValue::Gauge { value } => ValueView::Gauge { value },
                SampleValue::Timer { ns } => ValueView::Timer { ns },
            },
        }
    }
}

/// What came, and what is missing.
#[derive(Debug, Default)]
pub(super) struct SampleTally {
    frames: u64,
    /// Frames, and rests of frames, that cannot be read.
    unreadable: u64,
    samples: u64,
    /// Between those that came, by their numbers.
    missed: u64,
    /// What publishers say that they could not hand over, since their first frame that came.
    lost: u64,
    /// Came before, for instance by a second broker.
    repeated: u64,
    seen: HashMap<PublisherId, Vec<Seen>>,
}

/// What came of a publisher and level.
#[derive(Debug)]
struct Seen {
    level: Box<str>,
    /// Number behind the last sample that came.
    next: u64,
    lost: u64,
}

impl SampleTally {
    /// Shows each sample of a message to `show`, those left out that came before.
    ///
    /// # Errors
    /// Those of `show`. That a message, or what stands behind some of its samples, cannot be read is told to
    /// `show` as well.
    pub(super) fn take<E>(
        &mut self,
        message: &[u8],
        mut show: impl FnMut(Result<&SampleView<'_>, SamplesError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let frame = match SampleFrame::parse(message) {
            Ok(frame) => frame,
            Err(error) => {
                self.unreadable += 1;
                return show(Err(error));
            }
        };
        self.frames += 1;
        let known = self.note(&frame);
        let publisher = frame.header.publisher.to_string();
        let mut number = frame.header.first;
        let mut shown = Ok(());
        for sample in frame.samples() {
            let sample = match sample {
                Ok(sample) => sample,
                Err(error) => {
                    self.unreadable += 1;
                    shown = show(Err(error));
                    break;
                }
            };
            if number < known {
                self.repeated += 1;
            } else if let Some(metric) = frame.metric(sample.metric) {
                self.samples += 1;
                shown = show(Ok(&SampleView::new(&frame, &publisher, &metric, &sample, number)));
            }
            number = number.wrapping_add(1);
            if shown.is_err() {
                break;
            }
        }
        self.came(&frame, number);
        shown
    }

    /// Counts what is missing in front of a frame; the number behind what came before it.
    fn note(&mut self, frame: &SampleFrame<'_>) -> u64 {
        let (first, lost) = (frame.header.first, frame.header.lost);
        if self.seen.len() == PUBLISHERS_MAX && !self.seen.contains_key(&frame.header.publisher) {
            return 0;
        }
        let levels = self.seen.entry(frame.header.publisher).or_default();
        match levels.iter_mut().find(|seen| *seen.level == *frame.level) {
            Some(seen) => {
                let missed = first.saturating_sub(seen.next);
                self.missed += if missed < RESTART { missed } else { 0 };
                self.lost += lost.saturating_sub(seen.lost);
                seen.lost = seen.lost.max(lost);
                seen.next
            }
            None => {
                if levels.len() < LEVELS_MAX {
                    levels.push(Seen { level: frame.level.into(), next: first, lost });
                }
                0
            }
        }
    }

    fn came(&mut self, frame: &SampleFrame<'_>, next: u64) {
        let levels = self.seen.get_mut(&frame.header.publisher);
        if let Some(seen) = levels.and_then(|all| all.iter_mut().find(|seen| *seen.level == *frame.level)) {
            seen.next = seen.next.max(next);
        }
    }
}

impl fmt::Display for SampleTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, unreadable, samples, missed, lost, repeated, .. } = self;
        write!(f, "samples {samples} in {frames} frames, missed {missed}, lost at the source {lost}")?;
        if *repeated > 0 {
            write!(f, ", repeated {repeated}")?;
        }
        write!(f, "; unreadable {unreadable}")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use zibrato_core::frame::{SamplesEncoder, SamplesHeader};
    use zibrato_core::kind::Kind;

    use super::*;

    fn frame(publisher: u8, level: &str, first: u64, count: u64, lost: u64) -> Vec<u8> {
        let header = SamplesHeader::new(PublisherId([publisher; 16]), first, lost);
        let mut encoder = SamplesEncoder::new([0; 512], level, &header, 9, "src").unwrap();
        let metric = encoder.add_metric(&SampleMetric::new(Kind::Timer, "t")).unwrap();
        for ns in first..first + count {
            encoder.push(metric, 9, SampleValue::Timer { ns }).unwrap();
        }
        encoder.finish().to_vec()
    }

    #[test]
    fn gaps_repetitions_and_losses_are_counted_by_publisher_and_level() {
        let mut tally = SampleTally::default();
        let mut numbers = Vec::new();
        // What publishers lost before they were seen first is not told.
        for (message, missed, lost, repeated) in [
            (frame(1, "info", 100, 3, 7), 0, 0, 0),
            (frame(1, "info", 103, 2, 7), 0, 0, 0),
            (frame(1, "info", 110, 1, 9), 5, 2, 0),
            (frame(1, "info", 110, 2, 9), 5, 2, 1),
            (frame(1, "info", 103, 2, 7), 5, 2, 3),
            (frame(1, "info", 112, 0, 11), 5, 4, 3),
            (frame(1, "debug", 5, 1, 100), 5, 4, 3),
            (frame(2, "info", 0, 1, 0), 5, 4, 3),
            // A gateway was restarted.
            (frame(2, "info", RESTART + 1, 1, 0), 5, 4, 3),
        ] {
            let shown = tally.take(&message, |sample| {
                numbers.push(sample.unwrap().number);
                Ok::<_, Infallible>(())
            });
            shown.unwrap();
            assert_eq!((tally.missed, tally.lost, tally.repeated), (missed, lost, repeated), "{tally}");
        }
        assert_eq!(numbers, [100, 101, 102, 103, 104, 110, 111, 5, 0, RESTART + 1]);
        let text = "samples 10 in 9 frames, missed 5, lost at the source 4, repeated 3; unreadable 0";
        assert_eq!(tally.to_string(), text);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_counted_and_what_stands_in_front_of_it_is_shown() {
        let mut tally = SampleTally::default();
        let good = frame(1, "info", 0, 2, 0);
        let mut cut = good.clone();
        cut.truncate(good.len() - 1);
        let at = 6 + 33;
        let body = u32::from_le_bytes(cut[at..at + 4].try_into().unwrap()) - 1;
        cut[at..at + 4].copy_from_slice(&body.to_le_bytes());
        let mut told = Vec::new();
        for message in [&good[..4], &cut] {
            let shown = tally.take(message, |sample| {
                told.push(sample.map(|sample| sample.number));
                Ok::<_, Infallible>(())
            });
            shown.unwrap();
        }
        assert_eq!(told, [Err(SamplesError::Topic), Ok(0), Err(SamplesError::Sample)]);
        assert_eq!((tally.samples, tally.unreadable), (1, 2));
    }
}
