//! The ledger: the last seen cumulative state of each series of each publisher, and what of it was
//! not flushed yet.
//!
//! Frames carry state, not events. So a frame that is lost, repeated or late changes no count, sum
//! or bucket once the next one arrives, and the ledger's work is to take differences: of a state to
//! the one before, and of the present to the last committed flush. The rules are in ARCHITECTURE.md,
//! section "State, not events".
//!
//! Nothing here opens a socket, reads a clock or starts a thread: every call carries the time, in
//! Unix milliseconds of the worker's clock. That clock is used only to tell a publisher's start and
//! a legacy message's age. Silence and patience are measured in *awake time*, which grows with the
//! clock but by at most [`AWAKE_STEP_MS_MAX`] a call: so a clock that jumps, a stopped process or a
//! sleeping machine makes nobody vanish.

mod counts;
mod flush;
pub(crate) mod identity;
mod legacy;
mod points;
mod publishers;
mod receive;
mod replay;
pub(crate) mod rows;
mod sequence;
mod series;
mod stream;
mod timer;

use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

use zibrato_core::frame::PublisherId;
use zibrato_core::limits::KEY_FRAME_WINDOWS;

pub use counts::{Amounts, Counts, drop_reason, refusal};
pub use flush::{Changes, Flush};
pub(crate) use publishers::{is_spilled, loss_name};
pub use receive::Applied;
pub use replay::REPLAY_INTERVAL_MS;
pub use rows::Rows;

use flush::InFlight;
use legacy::{Folded, LegacyLink};
use points::Points;
use publishers::Publisher;
use replay::Asking;
use series::Series;
use stream::{Place, Stream};

/// Age up to which a publisher counts as seen from its start, in milliseconds.
pub const JOIN_AGE_MS_DEFAULT: u64 = 60_000;
/// Most series: of each publisher its own, and the legacy ones since the last flush.
pub const SERIES_MAX_DEFAULT: usize = 1_000_000;
/// Most publishers, each level counted by itself.
pub const PUBLISHERS_MAX_DEFAULT: usize = 100_000;
/// Most gauge points and raw timer points held between two flushes; at most 32 bytes each.
pub const POINTS_MAX_DEFAULT: usize = 500_000;
/// How long a broker keeps frames for replay, in milliseconds.
pub const BROKER_KEEP_MS_DEFAULT: u64 = 3_600_000;
/// Silence beyond three windows after which a replay is asked for, in milliseconds.
pub const SILENCE_MS_DEFAULT: u64 = 5_000;
/// Oldest accepted legacy time stamp, in milliseconds: 1 h 55, what Librato takes with a margin.
pub const LEGACY_AGE_MS_MAX_DEFAULT: u64 = 6_900_000;
/// Legacy time stamps further ahead than this, in milliseconds, are set to the present.
pub const LEGACY_AHEAD_MS_MAX: u64 = 600_000;
/// By how much one call may advance awake time, in milliseconds. The ledger's owner has to ask
/// [`Ledger::replay_wanted`] more often than this.
pub const AWAKE_STEP_MS_MAX: u64 = 5_000;
/// Longest window a publisher may claim, in milliseconds; what is longer counts as this.
pub const WINDOW_MS_MAX: u32 = 3_600_000;
/// By how much a forgotten publisher's start is moved into the future when it becomes a horizon,
/// in milliseconds: a publisher's start is known only as exactly as its frames travel.
pub const FORGOTTEN_MARGIN_MS: u64 = 60_000;

/// How many key periods a timer is held back when the key frame that its buckets refer to was
/// lost. A backend has no place for buckets whose count it already has, so the count waits for them.
/// One key frame or replay that arrives ends the wait.
pub const BUCKET_PATIENCE_KEY_PERIODS: u64 = 30;
/// How long it is held back at least, in milliseconds, however short the windows are. If the last
/// frames of a publisher were lost, the wait ends with a replay: silence has to be noticed first, and
/// over a lossy connection several replays of 10 s each may be needed.
pub const BUCKET_PATIENCE_MS_MIN: u64 = 60_000;

/// Settings of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// See [`JOIN_AGE_MS_DEFAULT`]. At 0 only the horizon decides.
    pub join_age_ms: u64,
    /// See [`SERIES_MAX_DEFAULT`].
    pub series_max: usize,
    /// See [`PUBLISHERS_MAX_DEFAULT`].
    pub publishers_max: usize,
    /// See [`POINTS_MAX_DEFAULT`].
    pub points_max: usize,
    /// See [`SILENCE_MS_DEFAULT`].
    pub silence_ms: u64,
    /// Silence after which an ended or vanished publisher is forgotten, in milliseconds. It must
    /// exceed the broker's keep age: a kept frame of a forgotten publisher would count again.
    pub forget_ms: u64,
    /// See [`LEGACY_AGE_MS_MAX_DEFAULT`].
    pub legacy_age_ms_max: u64,
    /// Hand over legacy timers one by one instead of folded into a distribution.
    pub timers_raw: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            join_age_ms: JOIN_AGE_MS_DEFAULT,
            series_max: SERIES_MAX_DEFAULT,
            publishers_max: PUBLISHERS_MAX_DEFAULT,
            points_max: POINTS_MAX_DEFAULT,
            silence_ms: SILENCE_MS_DEFAULT,
            forget_ms: 2 * BROKER_KEEP_MS_DEFAULT,
            legacy_age_ms_max: LEGACY_AGE_MS_MAX_DEFAULT,
            timers_raw: false,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    config: Config,
    created_ms: u64,
    created_dirty: bool,
    /// A publisher that started before is joined late even if it is young: rows were damaged then.
    doubt_ms: u64,
    now_ms: u64,
    awake_ms: u64,

    levels: Vec<Level>,
    streams: Vec<Option<Stream>>,
    free_slots: Vec<usize>,
    stream_slots: HashMap<(PublisherId, usize), usize>,
    /// Each publisher of a stream.
    publishers: HashMap<PublisherId, Publisher>,
    /// One copy of each native series' identity, shared by publishers, lists and points.
    names: HashSet<Arc<[u8]>>,
    native_series: usize,
    /// Native series that the next flush looks at.
    dirty: Vec<Place>,

    legacy: HashMap<Arc<[u8]>, Folded>,
    legacy_links: HashMap<(usize, usize), LegacyLink>,
    points: Points,

    in_flight: Option<InFlight>,
    /// Keys of rows that are to be removed with the next commit.
    removed: Vec<Vec<u8>>,
    counts: Counts,
    scratch: Vec<u8>,
}

/// What the ledger knows of a level.
#[derive(Debug)]
struct Level {
    label: Arc<str>,
    /// A publisher that started before is joined late, unless it is young.
    horizon_ms: u64,
    subscribed: bool,
    dirty: bool,
    asking: Asking,
}

impl Ledger {
    /// An empty ledger, created now.
    #[must_use]
    pub fn new(config: Config, now_ms: u64) -> Self {
        Self {
            points: Points::new(config.points_max),
            config,
            created_ms: now_ms,
            created_dirty: true,
            doubt_ms: 0,
            now_ms,
            awake_ms: 0,
            levels: Vec::new(),
            streams: Vec::new(),
            free_slots: Vec::new(),
            stream_slots: HashMap::new(),
            publishers: HashMap::new(),
            names: HashSet::new(),
            native_series: 0,
            dirty: Vec::new(),
            legacy: HashMap::new(),
            legacy_links: HashMap::new(),
            in_flight: None,
            removed: Vec::new(),
            counts: Counts::default(),
            scratch: Vec::new(),
        }
    }

    /// Starts to take in a level; its horizon is now, unless the ledger knew the level before.
    pub fn subscribe_level(&mut self, level: &str, now_ms: u64) {
        self.advance(now_ms);
        let at = match self.level_at(level) {
            Some(at) => at,
            None => self.add_level(level, now_ms.max(self.created_ms), true),
        };
        self.levels[at].subscribed = true;
        self.levels[at].asking.want();
    }

    /// Counters of this run, with what is held computed anew.
    ///
    /// It walks what waits for the next flush, so it is meant for a flush or a status page, not for
    /// each message.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        counts.held = self.held();
        counts.gaps_open = self.live_streams().map(|stream| u128::from(stream.sequence.missing())).sum();
        counts
    }

    /// Publishers in memory, each level counted by itself.
    #[must_use]
    pub fn publishers(&self) -> usize {
        self.stream_slots.len()
    }

    /// Series in memory: of each publisher its own, and the legacy ones since the last flush.
    #[must_use]
    pub fn series(&self) -> usize {
        self.native_series + self.legacy.len()
    }

    /// The one copy of a native series' identity, if the ledger has the series.
    pub fn name(&self, identity: &[u8]) -> Option<Arc<[u8]>> {
        self.names.get(identity).cloned()
    }

    fn held(&self) -> Amounts {
        let mut held = self.points.amounts();
        for place in &self.dirty {
            if let Some((_, series)) = self.series_at(*place) {
                held += series.pending();
            }
        }
        self.legacy.values().for_each(|folded| held += folded.amounts());
        if let Some(in_flight) = &self.in_flight {
            held += in_flight.amounts;
        }
        held
    }

    fn series_at(&self, place: Place) -> Option<(&Arc<[u8]>, &Series)> {
        self.streams[place.slot].as_ref()?.series.get_index(place.at)
    }

    fn live_streams(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().flatten()
    }

    fn advance(&mut self, now_ms: u64) {
        self.awake_ms += now_ms.saturating_sub(self.now_ms).min(AWAKE_STEP_MS_MAX);
        self.now_ms = now_ms;
    }

    fn level_at(&self, level: &str) -> Option<usize> {
        // A worker has a handful of levels.
        self.levels.iter().position(|known| *known.label == *level)
    }

    fn add_level(&mut self, level: &str, horizon_ms: u64, dirty: bool) -> usize {
        self.levels.push(Level {
            label: level.into(),
            horizon_ms,
            subscribed: false,
            dirty,
            asking: Asking::default(),
        });
        self.levels.len() - 1
    }

    fn add_stream(&mut self, stream: Stream) -> usize {
        let name = (stream.publisher, stream.level);
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.streams.push(None);
            self.streams.len() - 1
        });
        self.publishers.entry(stream.publisher).or_default().slots.push(slot);
        self.streams[slot] = Some(stream);
        self.stream_slots.insert(name, slot);
        slot
    }
}

/// How long to wait for a key frame of a publisher with this window, in milliseconds.
fn two_key_periods_ms(window_ms: u32) -> u64 {
    2 * u64::from(KEY_FRAME_WINDOWS) * u64::from(window_ms)
}

#[cfg(test)]
mod tests;
