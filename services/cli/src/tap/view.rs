//! A message as it is shown: decoded, filtered, and with what changed since the state before.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use zibrato_core::frame::{About, Entry, Frame, Header, HistogramState, LossReason, State};
use zibrato_core::legacy::Message;

use super::filter::Filter;
use super::memory::{Change, Memory};

/// A message; with `--json` an object of this shape.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum View<'a> {
    Frame(Box<FrameView<'a>>),
    Legacy(LegacyView<'a>),
    Unreadable { reason: &'static str, error: String, bytes: usize },
}

/// A native frame.
#[derive(Debug, Serialize)]
pub(super) struct FrameView<'a> {
    pub(super) level: &'a str,
    pub(super) publisher: String,
    #[serde(flatten)]
    pub(super) about: Option<AboutView>,
    pub(super) seq: u64,
    pub(super) part: u16,
    pub(super) of: u16,
    pub(super) key: bool,
    pub(super) end: bool,
    pub(super) heartbeat: bool,
    pub(super) age_ms: u64,
    pub(super) window_end_ms: u64,
    pub(super) window_ms: u32,
    pub(super) bytes: usize,
    pub(super) losses: BTreeMap<String, u64>,
    pub(super) series: Vec<SeriesView<'a>>,
    /// Entries that cannot be read.
    pub(super) unreadable: u64,
}

/// Who publishes; known from the first key frame on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct AboutView {
    pub(super) program: String,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) library: String,
}

/// One series of a frame.
#[derive(Debug, Serialize)]
pub(super) struct SeriesView<'a> {
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) unit: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    pub(super) state: StateView,
    /// Since the newest state before; absent for the first one and for an old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delta: Option<Change>,
}

/// Cumulative state of a series.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum StateView {
    Counter { sum: u64 },
    Gauge { sets: u64, last: f64, last_ms: u64, min: f64, max: f64 },
    Timer { count: u64, sum_ns: u64, window_ns: Option<(u64, u64)>, buckets: BucketsView },
}

/// A distribution; with a base other than 0 the counts are differences to that key frame's.
#[derive(Debug, Serialize)]
pub(super) struct BucketsView {
    scale: i8,
    zero: u64,
    base: u64,
    offset: i32,
    counts: Vec<u64>,
}

/// A message of the original.
#[derive(Debug, Serialize)]
pub(super) struct LegacyView<'a> {
    pub(super) level: &'a str,
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) source: &'a str,
    pub(super) value: f64,
    pub(super) timestamp_s: u64,
}

impl<'a> View<'a> {
    /// Decodes a native frame; any bytes give a view.
    pub(super) fn frame(message: &'a [u8], filter: &Filter, memory: &mut Memory) -> Self {
        match Frame::parse(message) {
            Ok(frame) => Self::Frame(Box::new(FrameView::new(&frame, message.len(), filter, memory))),
            Err(error) => Self::unreadable(error.reason(), error, message),
        }
    }

    /// Decodes a legacy message; any bytes give a view.
    pub(super) fn legacy(message: &'a [u8]) -> Self {
        match Message::parse(message) {
            Ok(Message { level, kind, name, value, timestamp_s, source }) => {
                Self::Legacy(LegacyView { level, kind: kind.as_str(), name, source, value, timestamp_s })
            }
            Err(error) => Self::unreadable(error.reason(), error, message),
        }
    }

    /// A message, or what stands in it, that cannot be read.
    pub(super) fn unreadable(reason: &'static str, error: impl Display, message: &[u8]) -> Self {
        Self::Unreadable { reason, error: error.to_string(), bytes: message.len() }
    }
}

impl<'a> FrameView<'a> {
    fn new(frame: &Frame<'a>, bytes: usize, filter: &Filter, memory: &mut Memory) -> Self {
        let Header { publisher, seq, part, of, flags, age_ms, .. } = frame.header;
        let prelude = &frame.prelude;
        let about = memory.about(publisher, prelude.about.as_ref().map(AboutView::of));
        let (mut series, mut unreadable) = (Vec::new(), 0);
        for entry in frame.entries() {
            let Ok(entry) = entry else {
                unreadable += 1;
                continue;
            };
            let source = if entry.source.is_empty() { prelude.source } else { entry.source };
            if filter.matches(entry.name, source) {
                let delta = memory.change(&frame.header, frame.level, source, &entry);
                series.push(SeriesView::new(&entry, source, delta));
            }
        }
        Self {
            level: frame.level,
            publisher: publisher.to_string(),
            about,
            seq,
            part,
            of,
            key: flags.key,
            end: flags.end,
            heartbeat: flags.heartbeat,
            age_ms,
            window_end_ms: prelude.window_end_ms,
            window_ms: prelude.window_ms,
            bytes,
            losses: prelude.losses.iter().map(|loss| (loss_name(loss.reason), loss.count)).collect(),
            series,
            unreadable,
        }
    }
}

impl AboutView {
    fn of(about: &About<'_>) -> Self {
        let About { program, host, pid, library } = *about;
        Self { program: program.to_owned(), host: host.to_owned(), pid, library: library.to_owned() }
    }
}

impl<'a> SeriesView<'a> {
    fn new(entry: &Entry<'a>, source: &'a str, delta: Option<Change>) -> Self {
        let state = match entry.state {
            State::Counter { sum } => StateView::Counter { sum },
            State::Gauge { sets, last, last_ms, min, max } => {
                StateView::Gauge { sets, last, last_ms, min, max }
            }
            State::Timer { count, sum_ns, window_ns, histogram, .. } => {
                StateView::Timer { count, sum_ns, window_ns, buckets: BucketsView::of(&histogram) }
            }
        };
        Self {
            kind: entry.state.kind().as_str(),
            name: entry.name,
            source,
            unit: entry.unit,
            tags: entry.tags.iter().copied().collect(),
            state,
            delta,
        }
    }
}

impl BucketsView {
    fn of(histogram: &HistogramState<'_>) -> Self {
        let HistogramState { scale, zero, base, offset, .. } = *histogram;
        Self { scale, zero, base, offset, counts: histogram.buckets().collect() }
    }
}

/// The word for a reason of loss; a number for one of a later version.
fn loss_name(code: u8) -> String {
    let known = LossReason::ALL.into_iter().find(|reason| reason.code() == code);
    known.map_or_else(|| format!("reason_{code}"), |reason| reason.as_str().to_owned())
}
