//! Legacy text: events that are folded here, because nobody upstream keeps state for them.
//!
//! What was folded since the last commit is in memory only and dies with a killed worker.

use std::borrow::Cow;
use std::sync::Arc;

use zibrato_core::frame::{Forwarded, PublisherId};
use zibrato_core::histogram::Histogram;
use zibrato_core::kind::Kind;
use zibrato_core::legacy::Message;
use zibrato_core::limits::{NAME_BYTES_MAX, SOURCE_BYTES_MAX, SOURCE_DEFAULT};
use zibrato_core::text::{Field, is_name_byte};

use super::points::HeldPoint;
use super::{Amounts, Applied, LEGACY_AHEAD_MS_MAX, Ledger, drop_reason, identity, refusal};
use crate::measurement::{GaugePoint, TimerDelta};

const MS_A_SECOND: u64 = 1_000;
const NS_A_SECOND: f64 = 1e9;

/// What a legacy series gathered since the last flush.
#[derive(Debug)]
pub(super) enum Folded {
    /// Sum of the values, and how many.
    Counter { sum: f64, messages: u64 },
    /// The distribution of the durations.
    Timer(Box<TimerDelta>),
    /// Its points are held elsewhere.
    Points,
}

impl Folded {
    /// What is folded here.
    pub(super) fn amounts(&self) -> Amounts {
        match self {
            Self::Counter { messages, .. } => {
                Amounts { legacy_counters: (*messages).into(), ..Amounts::default() }
            }
            Self::Timer(timer) => Amounts { timers: timer.count.into(), ..Amounts::default() },
            Self::Points => Amounts::default(),
        }
    }

    /// Adds what was gathered earlier.
    pub(super) fn merge(&mut self, earlier: Self) {
        match (self, earlier) {
            (Self::Counter { sum, messages }, Self::Counter { sum: more, messages: times }) => {
                *sum += more;
                *messages += times;
            }
            (Self::Timer(timer), Self::Timer(earlier)) => merge_timers(timer, &earlier),
            // The kind is part of the identity; points are put back elsewhere.
            _ => {}
        }
    }
}

/// Adds the records of `other` to `timer`.
pub(super) fn merge_timers(timer: &mut TimerDelta, other: &TimerDelta) {
    timer.count = timer.count.wrapping_add(other.count);
    timer.sum_ns = timer.sum_ns.saturating_add(other.sum_ns);
    timer.sum_squares_ns2 = timer.sum_squares_ns2.saturating_add(other.sum_squares_ns2);
    timer.min_ns = timer.min_ns.min(other.min_ns);
    timer.max_ns = timer.max_ns.max(other.max_ns);
    timer.histogram.merge(&other.histogram);
}

/// What arrived of one level over one broker connection.
#[derive(Debug, Default)]
pub(super) struct LegacyLink {
    /// The broker and its count at the last `Forwarded`.
    forwarded: Option<(PublisherId, u64)>,
    /// Messages received since.
    received: u64,
}

impl Ledger {
    /// Takes in one legacy message that came over connection `endpoint`.
    ///
    /// A message whose time stamp is older than the limit is dropped, whatever its kind. Names and
    /// sources are brought to the accepted characters, an empty source to `not_specified`.
    pub fn apply_legacy(&mut self, endpoint: usize, message: &Message<'_>, now_ms: u64) -> Applied {
        self.advance(now_ms);
        let Some(level) = self.level_at(message.level).filter(|&at| self.levels[at].subscribed) else {
            return self.refuse(refusal::LEVEL);
        };
        self.legacy_links.entry((endpoint, level)).or_default().received += 1;
        self.counts.legacy_messages += 1;
        let one = one(message.kind);
        let mut time_ms = message.timestamp_s.saturating_mul(MS_A_SECOND);
        if time_ms.saturating_add(self.config.legacy_age_ms_max) < now_ms {
            return self.drop_legacy(drop_reason::TOO_OLD, one);
        }
        if time_ms > now_ms.saturating_add(LEGACY_AHEAD_MS_MAX) {
            self.counts.legacy_ahead += 1;
            time_ms = now_ms;
        }
        let raw = message.kind == Kind::Timer && self.config.timers_raw;
        if message.kind == Kind::Timer && !raw && message.value < 0.0 {
            return self.drop_legacy(drop_reason::NEGATIVE_DURATION, one);
        }
        let Some(series) = self.legacy_series(message) else { return self.refuse(refusal::SERIES_LIMIT) };
        self.counts.accepted += one;
        match message.kind {
            Kind::Gauge => self.hold_point(series, time_ms, message.value),
            Kind::Timer if raw => self.hold_point(series, time_ms, message.value),
            kind => {
                let event = event(kind, message.value);
                match self.legacy.get_mut(&series) {
                    Some(folded) => folded.merge(event),
                    None => {
                        self.legacy.insert(series, event);
                    }
                }
            }
        }
        Applied::Taken
    }

    /// Takes in a broker's count of what it forwarded, and counts what did not arrive.
    ///
    /// Messages of one connection keep their order, so between two such counts everything that was
    /// forwarded has arrived or is lost. The first count of a broker only sets the mark.
    pub fn apply_forwarded(&mut self, endpoint: usize, forwarded: &Forwarded<'_>, now_ms: u64) -> Applied {
        self.advance(now_ms);
        let Some(level) = self.level_at(forwarded.level).filter(|&at| self.levels[at].subscribed) else {
            return self.refuse(refusal::LEVEL);
        };
        let link = self.legacy_links.entry((endpoint, level)).or_default();
        let received = std::mem::take(&mut link.received);
        if let Some((broker, messages)) = link.forwarded.replace((forwarded.broker, forwarded.messages))
            && broker == forwarded.broker
        {
            let expected = forwarded.messages.saturating_sub(messages);
            self.counts.legacy_lost += expected.saturating_sub(received);
        }
        Applied::Noted
    }

    /// Counts a legacy message that could not be read as arrived, if its level can be read.
    pub(super) fn count_legacy_arrival(&mut self, endpoint: usize, bytes: &[u8]) {
        let level =
            bytes.split(|&byte| byte == b'|').next().and_then(|level| std::str::from_utf8(level).ok());
        if let Some(level) =
            level.and_then(|level| self.level_at(level)).filter(|&at| self.levels[at].subscribed)
        {
            self.legacy_links.entry((endpoint, level)).or_default().received += 1;
        }
    }

    fn drop_legacy(&mut self, reason: &'static str, one: Amounts) -> Applied {
        self.counts.accepted += one;
        self.counts.drop_amounts(reason, one);
        Applied::Dropped(reason)
    }

    fn hold_point(&mut self, series: Arc<[u8]>, time_ms: u64, value: f64) {
        self.legacy.entry(series.clone()).or_insert(Folded::Points);
        let point = GaugePoint { time_ms, value };
        self.points.push(HeldPoint { series, point }, &mut self.counts);
    }

    /// The identity of the message's series; `None` if it is new and there is no room.
    fn legacy_series(&mut self, message: &Message<'_>) -> Option<Arc<[u8]>> {
        let name = sanitised(message.name, Field::Name, NAME_BYTES_MAX);
        let source = match message.source {
            "" => Cow::Borrowed(SOURCE_DEFAULT),
            source => sanitised(source, Field::Source, SOURCE_BYTES_MAX),
        };
        let changed = [&name, &source].into_iter().filter(|text| matches!(text, Cow::Owned(_)));
        self.counts.legacy_sanitised += changed.count() as u64;
        identity::write_legacy(&mut self.scratch, message.level, message.kind, &name, &source);
        if let Some((known, _)) = self.legacy.get_key_value(&self.scratch[..]) {
            return Some(known.clone());
        }
        (self.series() < self.config.series_max).then(|| self.scratch[..].into())
    }
}

/// `text` if the field accepts it; else a copy that is cut, each other character replaced by `_`.
fn sanitised(text: &str, field: Field, bytes_max: usize) -> Cow<'_, str> {
    if field.accepts(text) {
        return Cow::Borrowed(text);
    }
    let accepted = |c: char| u8::try_from(c).is_ok_and(is_name_byte);
    Cow::Owned(text.chars().take(bytes_max).map(|c| if accepted(c) { c } else { '_' }).collect())
}

/// What one message stands for.
fn one(kind: Kind) -> Amounts {
    let mut amounts = Amounts::default();
    *match kind {
        Kind::Counter => &mut amounts.legacy_counters,
        Kind::Gauge => &mut amounts.gauges,
        Kind::Timer => &mut amounts.timers,
    } = 1;
    amounts
}

/// One counter or timer message, folded.
fn event(kind: Kind, value: f64) -> Folded {
    if kind == Kind::Counter {
        return Folded::Counter { sum: value, messages: 1 };
    }
    // The cast saturates at 584 years.
    let ns = (value * NS_A_SECOND).round() as u64;
    let mut histogram = Histogram::new();
    histogram.record_ns(ns, 1);
    Folded::Timer(Box::new(TimerDelta {
        count: 1,
        sum_ns: ns.into(),
        sum_squares_ns2: u128::from(ns).pow(2),
        min_ns: ns,
        max_ns: ns,
        histogram,
    }))
}
