//! The one trait that a backend implements; flush, retry, spool, metrics and flags are the library's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::measurement::{Measurement, SeriesKey};
use crate::retry::retry_after;
use crate::units::{ByReason, PointUnits, Units};

/// A store that batches are sent to.
///
/// # What the library guarantees
/// - **Once a flush**: [`Backend::encode`] is called once for what changed since the last committed flush, each series once,
///   names and limits applied. If the spool does not take the bodies, the same changes come with the next flush.
/// - **Frozen bytes**: what was encoded is committed to disk before it is sent, and each attempt sends exactly these bytes,
///   also after a restart. A body that points are cut out of is another one, with an id of its own.
/// - **Order**: batches go out in the order of their flushes, one at a time; the next one begins when this one is settled. Where
///   [`Backend::requests_max`] allows it several are under way at a time, but all of one flush, in which each series is once.
/// - **At least once**: a batch is sent until [`Backend::classify`] says that it arrived or never will, or it is older than
///   [`Limits::age_max`]. One whose answer was lost is sent again, and counted as ambiguous.
/// - **Bounded**: waits between attempts grow with jitter up to a minute, a Retry-After is capped, and what does not fit the
///   spool stays with the ledger.
/// - **Accounted for**: every unit of a flush ends as delivered, held, refused or dropped with a reason.
///
/// # What its author must do
/// - Encode everything of [`Content::measurements`], or count it in [`Encoded::refused`]; nothing is left out unseen.
/// - Give each element that can be taken out of a body alone one entry of [`Body::points`], in their order.
/// - Bound each attempt in time, and the answer in bytes.
/// - Decide for every answer, also for those that the store does not document. When in doubt whether a batch was stored,
///   say so (`outcome_unknown`).
/// - Keep no queue, wait for no retry, and never panic: what comes may be anything that a publisher can send.
/// - Show no credentials in [`Backend::target`], answers or errors.
pub trait Backend: Send + Sync + 'static {
    /// Short lower-case name, as in `zibrato-<name>`.
    fn name(&self) -> &'static str;

    /// Where it sends to, for the log; never with credentials.
    fn target(&self) -> String;

    /// What the store accepts.
    fn limits(&self) -> Limits;

    /// Most batches that are sent at a time, which are of one flush; 0 is as 1.
    fn requests_max(&self) -> usize {
        1
    }

    /// The shape in which a flush is handed to [`Backend::encode`].
    fn shape(&self) -> Shape {
        Shape::default()
    }

    /// Asks the store what it understands. A worker calls it at its start, and again until it was
    /// answered; what it finds applies to what is encoded later.
    fn probe(&self) -> Pending<'_, Probe> {
        Box::pin(std::future::ready(Probe::NotNeeded))
    }

    /// Encodes a flush. Points that the store would refuse are left out and counted, so that they
    /// cannot poison a body. A body is never empty. The spool waits for it, and so does what was flushed before.
    fn encode(&self, content: &Content<'_>) -> Encoded;

    /// Makes one attempt to send a batch, bounded in time and in bytes of the answer.
    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer>;

    /// What an answer means for the batch.
    fn classify(&self, response: &Response, batch: &Batch, now_ms: u64) -> Verdict;

    /// The body with only those points whose flag is set, which are at least one; `None` if the
    /// bytes cannot be read.
    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>>;

    /// Name and source of a point of a body, for the log; `None` if there is no such point.
    fn describe(&self, bytes: &[u8], point: usize) -> Option<String>;
}

/// A boxed future of a backend.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a store accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most points of one body.
    pub points_max: usize,
    /// Most bytes of one body; one point may exceed it alone.
    pub body_bytes_max: usize,
    /// Oldest accepted age of a point. A batch that is older is dropped whole as `too_old`.
    pub age_max: Duration,
    /// Most points of one series in one body; the last ones are kept.
    pub points_per_series_max: usize,
}

/// In which shape a store wants a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Series that differ in their level alone stay apart. Else they are merged.
    pub keeps_levels: bool,
    /// Each measurement comes with what its series has come to in all; series that do not change are told again every
    /// minute, and series that expire are told.
    pub totals: bool,
    /// Legacy timers come one by one instead of as a distribution. Not with totals.
    pub raw_timers: bool,
}

/// What a flush carries.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Series that changed since the last committed flush, each once.
    pub measurements: &'a [Measurement],
    /// Series that have not changed for so long that they are forgotten. Only with [`Shape::totals`].
    pub expired: &'a [Arc<SeriesKey>],
    /// When.
    pub flush: FlushTime,
}

/// When a flush took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushTime {
    /// Unix milliseconds. It never goes back.
    pub unix_ms: u64,
    /// The interval between flushes.
    pub interval: Duration,
}

/// The bodies of a flush, and what was left out of them.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// In the order in which they are to be sent.
    pub bodies: Vec<Body>,
    /// Points left out, by a closed set of reasons.
    pub refused: ByReason,
    /// Different series that the store cannot tell apart, because their names became equal.
    pub clashes: u64,
    /// Sets of gauges given up because a later one of their series falls on the same instant of the store.
    pub merged_sets: u64,
}

/// One encoded request, before it has an identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The frozen bytes.
    pub bytes: Vec<u8>,
    /// Their MIME type.
    pub content_type: String,
    /// What each point stands for, in the order of the points.
    pub points: Vec<PointUnits>,
}

/// A body that the spool holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Row of the spool.
    pub row: i64,
    /// 128 random bits in lower-case hex. The same on each attempt, so that a receiver can store
    /// a batch once.
    pub id: String,
    /// When it was flushed, in Unix milliseconds.
    pub flushed_ms: u64,
    /// How many earlier attempts may have stored it, those for a batch that it is a part of included. Those that a
    /// restarted worker finds and sends first have one: nobody knows what the process before came to.
    pub attempts_unknown: u32,
    /// What is sent.
    pub body: Body,
}

impl Batch {
    /// What all points stand for.
    pub fn units(&self) -> Units {
        Units::of(&self.body.points)
    }
}

/// What came of one attempt to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The store answered.
    Response(Response),
    /// Nothing of the batch left this machine, with the reason: no address, no connection, no TLS.
    NotSent(String),
    /// The batch was sent, wholly or in part, and the answer is missing. It may have been stored.
    Lost(String),
}

/// An answer of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP status, or 200 where a protocol has none.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Start of the body, cut at [`crate::http::ANSWER_BYTES_MAX`].
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// To be sent again, when the store says so in a header, else as the retry policy has it.
    #[must_use]
    pub fn retry(&self, now_ms: u64, outcome_unknown: bool) -> Verdict {
        let after = self.header("retry-after").and_then(|value| retry_after(value, now_ms));
        Verdict::Retry { after, outcome_unknown }
    }
}

/// What to do with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived. `odd` asks for a warning: a success that the store does not document.
    Delivered {
        /// Whether the status is not the documented one.
        odd: bool,
    },
    /// It arrived but for some points, and the store does not say which. What is dropped is therefore an
    /// estimate: the last points of the body are taken for them, and count as `refused_by_backend`. The
    /// numbers of points delivered and dropped are exact.
    Partial {
        /// How many points were refused; 0 if the store only has something to say, all if there are not that many.
        rejected: u64,
        /// What the store says about it.
        said: String,
    },
    /// Send the same bytes again.
    Retry {
        /// How long the store asked to wait.
        after: Option<Duration>,
        /// Whether the batch may have been stored.
        outcome_unknown: bool,
    },
    /// Send the same bytes again a few times, then drop them: something between us and the store
    /// answered for it.
    RetryFew,
    /// The batch is not at fault: credentials or address are. Wait long, say so loudly, keep it.
    Hold,
    /// These points must go (indexes into the body's points, at least one); the rest is sent.
    Poisoned {
        /// Their indexes, ascending.
        points: Vec<usize>,
        /// What they count as.
        reason: &'static str,
    },
    /// Some points must go, but the store does not say which: send halves.
    Bisect,
    /// Whoever took batches is gone and will not come back: the worker ends in order, and the batch is kept.
    Stop,
    /// The batch will never be accepted.
    Drop {
        /// What it counts as.
        reason: &'static str,
    },
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The store answered as it should.
    Ready,
    /// The store answered, but not as it should; the text says what.
    Odd(String),
    /// No answer; ask again.
    Unanswered(String),
    /// This backend has nothing to ask.
    NotNeeded,
}
