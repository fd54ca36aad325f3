//! Sending through the client library: what is recorded goes out as cumulative state, so a hundred
//! thousand lines are a few frames, and the end frame of each level stands for all of them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use zibrato_core::frame::{Header, PublisherId, split_topic, topic};
use zibrato_core::kind::Kind;
use zibrato_service::Shutdown;
use zibrato_std::{BuildError, Client, Counter, Gauge, Level, LossReason, Stats, Timer};
use zmq::Context;

use super::measurement::{Measurement, Value};
use crate::broker_args::BrokerArgs;
use crate::courier::{Courier, CourierError, LISTED_WITHIN};
use crate::feed::{Event, Feed, FeedError, POLL};

/// Records after which the window is ended. It is below what a ring holds: a record that spilled would
/// be placed in its histogram at the mean of others.
const RECORDS_MAX: usize = 2_000;
/// Most series of one run.
const SERIES_MAX: usize = 100_000;
/// Most levels of one run.
const LEVELS_MAX: usize = 1_000;

/// See the module.
pub(super) struct Native {
    client: Client,
    broker: BrokerArgs,
    feed: Feed,
    source: String,
    levels: BTreeMap<String, Level>,
    series: HashMap<Series, Handle>,
    records: usize,
}

/// What makes two measurements one series.
#[derive(PartialEq, Eq, Hash)]
struct Series {
    level: String,
    name: String,
    source: String,
    tags: BTreeMap<String, String>,
}

#[derive(Clone, Copy)]
enum Handle {
    Counter(&'static Counter),
    Gauge(&'static Gauge),
    Timer(&'static Timer),
}

impl Handle {
    fn kind(self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Timer(_) => Kind::Timer,
        }
    }
}

impl Native {
    /// Starts the client once a broker answers. `source` is the one of measurements without one.
    pub(super) fn open(
        broker: &BrokerArgs,
        source: &str,
        timeout: Duration,
        shutdown: &Shutdown,
    ) -> Result<Self, NativeError> {
        let context = Context::new();
        let mut feed = Feed::open(&context, &broker.workers())?;
        feed.confirm(timeout, || shutdown.is_requested(), |_| {})?;
        let client = Client::builder().endpoint(broker.publishers()).source(source).build()?;
        Ok(Self {
            client,
            broker: broker.clone(),
            feed,
            source: source.to_owned(),
            levels: BTreeMap::new(),
            series: HashMap::new(),
            records: 0,
        })
    }

    /// Records a measurement.
    ///
    /// # Errors
    /// Why this one cannot be recorded; others can.
    pub(super) fn record(&mut self, measurement: &Measurement) -> Result<(), String> {
        let handle = self.handle(measurement)?;
        match (handle, measurement.value) {
            (Handle::Counter(counter), Value::Whole(n)) => {
                counter.add(n);
                return Ok(());
            }
            (Handle::Gauge(gauge), Value::Number(value)) => gauge.set(value),
            (Handle::Timer(timer), Value::Duration(duration)) => timer.record(duration),
            (handle, _) => return Err(format!("the value is not one of a {}", handle.kind())),
        }
        self.records += 1;
        if self.records == RECORDS_MAX {
            self.records = 0;
            self.client.flush();
        }
        Ok(())
    }

    fn handle(&mut self, measurement: &Measurement) -> Result<Handle, String> {
        let Measurement { kind, name, level, source, unit, tags, .. } = measurement;
        let series =
            Series { level: level.clone(), name: name.clone(), source: source.clone(), tags: tags.clone() };
        if let Some(handle) = self.series.get(&series) {
            return if handle.kind() == *kind {
                Ok(*handle)
            } else {
                Err(format!("{name} is a {} already, at the same level and source", handle.kind()))
            };
        }
        if self.series.len() == SERIES_MAX {
            return Err(format!("more than {SERIES_MAX} series; send the rest in another run"));
        }
        let level = self.level(level)?;
        // The client's source needs not be repeated with each series.
        let source = if *source == self.source { "" } else { source };
        macro_rules! named {
            ($make:ident) => {{
                let named = self.client.$make(name, level).source(source).unit(unit);
                tags.iter().fold(named, |named, (key, value)| named.tag(key, value)).get()
            }};
        }
        let handle = match kind {
            Kind::Counter => Handle::Counter(named!(counter)),
            Kind::Gauge => Handle::Gauge(named!(gauge)),
            Kind::Timer => Handle::Timer(named!(timer)),
        };
        self.series.insert(series, handle);
        Ok(handle)
    }

    /// The level of a label. All are always on here: to be called is to be wanted.
    fn level(&mut self, label: &str) -> Result<Level, String> {
        if let Some(level) = self.levels.get(label) {
            return Ok(*level);
        }
        if self.levels.len() == LEVELS_MAX {
            return Err(format!("more than {LEVELS_MAX} levels; send the rest in another run"));
        }
        // The client keeps labels for the life of the process; the limit above bounds them.
        let level = Level::try_new(label.to_owned().leak()).map_err(|error| error.to_string())?;
        self.levels.insert(label.to_owned(), level);
        Ok(level)
    }

    /// Publishes the end frame of every level and waits until each came back; the levels that nobody
    /// subscribes to.
    ///
    /// # Errors
    /// [`NativeError`] if one did not within `timeout`.
    pub(super) fn finish(
        mut self,
        timeout: Duration,
        shutdown: &Shutdown,
    ) -> Result<Vec<String>, NativeError> {
        // Before the proof subscribes to them.
        let unheard = self.unheard(shutdown).unwrap_or_default();
        let is_stopped = || shutdown.is_immediate();
        // Only now: before, the frames of others would have come for nothing.
        for topic in self.levels.keys().filter_map(|level| topic(zibrato_core::frame::TOPIC_STATE, level)) {
            self.feed.subscribe(&topic)?;
        }
        self.feed.confirm(timeout, is_stopped, |_| {})?;
        let until = Instant::now() + timeout;
        for level in self.levels.values() {
            let left = until.saturating_duration_since(Instant::now());
            if !self.client.wait_subscribed(*level, left) {
                let (endpoint, timeout_s) = (self.broker.publishers(), timeout.as_secs());
                return Err(NativeError::NotConnected { endpoint, timeout_s });
            }
        }
        let mut ends = Ends::new(self.client.publisher(), self.levels.into_keys());
        let stats = self.client.shutdown(timeout).ok_or(NativeError::NoAccount)?;
        let until = Instant::now() + timeout;
        while let Some(level) = ends.missing() {
            if let Some(Event::Message(message)) = self.feed.next(POLL)? {
                ends.take(&message);
            } else if is_stopped() {
                return Err(NativeError::Stopped { level: level.to_owned() });
            } else if Instant::now() >= until {
                return Err(NativeError::NotBack { level: level.to_owned(), timeout_s: timeout.as_secs() });
            }
        }
        let lost: u64 = [LossReason::KindClash, LossReason::SeriesLimit, LossReason::NotFinite]
            .map(|reason| stats.losses.count(reason))
            .iter()
            .sum();
        if lost > 0 || !stats.law_holds() {
            return Err(NativeError::Account { stats: Box::new(stats) });
        }
        Ok(unheard)
    }

    /// The levels that nobody subscribes to, as another connection is told.
    fn unheard(&self, shutdown: &Shutdown) -> Result<Vec<String>, CourierError> {
        let mut courier = Courier::open(&self.broker, LISTED_WITHIN, shutdown)?;
        let mut unheard = Vec::new();
        for level in self.levels.keys() {
            let topic = topic(zibrato_core::frame::TOPIC_STATE, level);
            if let Some(topic) = topic
                && !courier.is_heard(&topic)?
            {
                unheard.push(level.clone());
            }
        }
        Ok(unheard)
    }
}

/// Which levels' end frames did not come back yet.
struct Ends {
    publisher: PublisherId,
    /// By level, which parts of the end frame came; empty before the first.
    parts: BTreeMap<String, Vec<bool>>,
}

impl Ends {
    fn new(publisher: PublisherId, levels: impl Iterator<Item = String>) -> Self {
        Self { publisher, parts: levels.map(|level| (level, Vec::new())).collect() }
    }

    /// Notes a message that was forwarded, of whomever.
    fn take(&mut self, message: &[u8]) {
        let Ok((level, untopiced)) = split_topic(message) else { return };
        let Ok(header) = Header::parse(untopiced) else { return };
        let Some(parts) = self.parts.get_mut(level) else { return };
        if header.publisher != self.publisher || !header.flags.end {
            return;
        }
        parts.resize(header.of.into(), false);
        parts[usize::from(header.part)] = true;
        if parts.iter().all(|came| *came) {
            self.parts.remove(level);
        }
    }

    fn missing(&self) -> Option<&str> {
        self.parts.keys().next().map(String::as_str)
    }
}

/// Why measurements are not known to be forwarded.
#[derive(Debug, thiserror::Error)]
pub(super) enum NativeError {
    /// Nothing comes from the broker.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The client does not start.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// The publishers' port does not answer.
    #[error("no broker takes publishers at {endpoint} within {timeout_s} s; check --host and --port")]
    NotConnected { endpoint: String, timeout_s: u64 },
    /// The client's thread died.
    #[error("the client ended without an account of itself")]
    NoAccount,
    /// An end frame did not come back.
    #[error(
        "level {level} did not come back from the broker within {timeout_s} s; it may be overloaded, or the level one too many for it"
    )]
    NotBack { level: String, timeout_s: u64 },
    /// A second Ctrl-C.
    #[error("stopped before level {level} came back")]
    Stopped { level: String },
    /// The client did not take everything.
    #[error("the client's account is not clean: {stats}")]
    Account { stats: Box<Stats> },
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::{Encoder, Prelude};

    use super::*;

    fn frame(publisher: u8, level: &str, part: u16, end: bool) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut header = Header::new(PublisherId([publisher; 16]), 1 + u64::from(part));
        (header.part, header.of, header.flags.key, header.flags.end) = (part, 2, true, end);
        Encoder::new(&mut buffer, level, &header, &Prelude::default()).unwrap().finish().to_vec()
    }

    #[test]
    fn a_level_is_back_when_every_part_of_our_end_frame_is() {
        let mut ends = Ends::new(PublisherId([7; 16]), ["debug", "info"].map(str::to_owned).into_iter());
        for not_it in [
            frame(8, "debug", 0, true),
            frame(7, "debug", 0, false),
            frame(7, "other", 0, true),
            b"debug|Counter|n|1|1|s".to_vec(),
            Vec::new(),
        ] {
            ends.take(&not_it);
        }
        ends.take(&frame(7, "debug", 1, true));
        ends.take(&frame(7, "debug", 1, true));
        assert_eq!(ends.missing(), Some("debug"));
        ends.take(&frame(7, "debug", 0, true));
        assert_eq!(ends.missing(), Some("info"));
        ends.take(&frame(7, "info", 0, true));
        ends.take(&frame(7, "info", 1, true));
        assert_eq!(ends.missing(), None);
    }
}
