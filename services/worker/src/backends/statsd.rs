//! StatsD lines over UDP, TCP or a unix datagram socket.
//!
//! The protocol answers nothing, so a batch counts as delivered once the kernel took all of it: **at most once**. What
//! the kernel took is never sent again by the same process, since deltas that come twice count twice. A worker that
//! ended in the middle of a batch sends that batch again, whole, when it is back; those lines may count twice.
//!
//! | measurement | lines |
//! |---|---|
//! | counter | `name:DELTA\|c`; with `--rates` also `name.rate` as a gauge |
//! | gauge | `name:VALUE\|g`, the last value of the flush; a negative one is `name:0\|g`, `name:-5\|g` in one packet, since a sign means a change |
//! | timer, `percentiles` | counters `name.count` and `name.sum`, gauges `name.min`, `name.max`, `name.mean`, `name.p99`; in seconds |
//! | timer, `samples` | `name:MS\|ms` for each record if there are at most 64 in a flush, else `name:MS\|ms\|@RATE` for each power of two that a bucket's count is made of: 1 / RATE is then exact, and so is the server's count |
//!
//! Names, by dialect. What does not fit the characters given becomes `_`. Unit and level are not sent.
//!
//! | of a series | plain | DogStatsD |
//! |---|---|---|
//! | name | `A-Za-z0-9._-` | `A-Za-z0-9._-` |
//! | source | `.source.SOURCE` behind the name, of `A-Za-z0-9_-`; left out if it is `not_specified` and there are no tags | tag `source`, of letters, digits, `_-./:`; left out if it is `not_specified` |
//! | tag | `.KEY.VALUE` behind the source, both of `A-Za-z0-9_-` | tag, of letters, digits, `_-./`, and `:` in the value; the key `source` is `tag_source` |
//! | tags that had to be changed | `.` and eight hexadecimal digits behind them, a hash that keeps them apart | nothing |
//! | field (`rate`, `p99` …) | `.FIELD` at the end | `.FIELD` behind the name |
//!
//! Series whose lines cannot be told apart all the same are counted as clashes.
//!
//! What an attempt comes to has these statuses, as there are none in the protocol:
//!
//! | status | meaning | then |
//! |---|---|---|
//! | 200 | the kernel took all | delivered |
//! | 413 | lines of the spool are longer than `--mtu` now is | these points are dropped, `line_too_long` |
//! | 413 | the kernel takes no packet of that size | held |
//! | 422 | the batch cannot be read | dropped, `unreadable` |
//! | any other | is never made | retried |

mod args;
mod body;
mod encode;
mod link;
mod name;
mod pace;

use std::time::Duration;

use tokio::sync::Mutex;

use crate::backend::{Answer, Backend, Batch, Content, Encoded, Limits, Pending, Response, Verdict};
use crate::numbers::Chosen;

pub use args::{Address, Dialect, StatsdArgs, Timers};
use link::{Link, status};

/// Most points of one body.
pub const POINTS_MAX: usize = 2_000;
/// Most bytes of one body. A worker that ends in the middle of one sends it again, so it is small.
pub const BODY_BYTES_MAX: usize = 65_536;
/// Oldest batch that is sent unless `--max-age` says otherwise.
pub const AGE_MAX: Duration = Duration::from_secs(86_400);
/// Most bytes of a UDP packet unless `--mtu` says otherwise: what Ethernet carries in one piece.
pub const MTU_UDP: usize = 1_432;
/// Most bytes of a datagram on a unix socket unless `--mtu` says otherwise.
pub const MTU_UNIX: usize = 8_192;
/// Most UDP packets a second unless `--packets-per-second` says otherwise.
pub const PACKETS_PER_S_DEFAULT: u32 = 1_000;

/// What is sent, where and how.
#[derive(Clone, Debug)]
pub struct StatsdConfig {
    /// The server.
    pub address: Address,
    /// How source and tags are sent.
    pub dialect: Dialect,
    /// How timers are sent.
    pub timers: Timers,
    /// Most bytes of a packet; by default [`MTU_UDP`] or [`MTU_UNIX`].
    pub mtu: Option<usize>,
    /// Most UDP packets a second.
    pub packets_per_s: u32,
    /// Oldest batch that is sent.
    pub age_max: Duration,
    /// Which numbers of counters and timers are sent.
    pub chosen: Chosen,
}

impl Default for StatsdConfig {
    fn default() -> Self {
        Self {
            address: Address::Udp("127.0.0.1:8125".to_owned()),
            dialect: Dialect::default(),
            timers: Timers::default(),
            mtu: None,
            packets_per_s: PACKETS_PER_S_DEFAULT,
            age_max: AGE_MAX,
            chosen: Chosen::default(),
        }
    }
}

impl StatsdConfig {
    /// Most bytes of what is sent in one piece; a stream has no bound.
    fn packet_bytes_max(&self) -> usize {
        match self.address {
            Address::Udp(_) => self.mtu.unwrap_or(MTU_UDP),
            Address::Unix(_) => self.mtu.unwrap_or(MTU_UNIX),
            Address::Tcp(_) => usize::MAX,
        }
    }
}

/// The backend of `zibrato-statsd`.
#[derive(Debug)]
pub struct Statsd {
    config: StatsdConfig,
    link: Mutex<Link>,
}

impl Statsd {
    /// A backend that has opened no socket yet.
    #[must_use]
    pub fn new(config: StatsdConfig) -> Self {
        let link = Link::new(config.address.clone(), config.packet_bytes_max(), config.packets_per_s);
        Self { config, link: Mutex::new(link) }
    }

    /// The points of which a line is too long for a packet.
    fn too_long(&self, bytes: &[u8]) -> Vec<usize> {
        let points = body::points(bytes).unwrap_or_default();
        let is_long = |unit: &[u8]| unit.len() > self.config.packet_bytes_max();
        points
            .into_iter()
            .enumerate()
            .filter(|(_, point)| body::units(point).any(is_long))
            .map(|(at, _)| at)
            .collect()
    }
}

impl Backend for Statsd {
    fn name(&self) -> &'static str {
        "statsd"
    }

    fn target(&self) -> String {
        self.config.address.to_string()
    }

    fn limits(&self) -> Limits {
        Limits {
            points_max: POINTS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            age_max: self.config.age_max,
            // The protocol has no times: the server keeps the last value anyway.
            points_per_series_max: 1,
        }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        encode::encode(content, &self.config, &self.limits())
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async { self.link.lock().await.send(batch).await })
    }

    fn classify(&self, response: &Response, batch: &Batch, _: u64) -> Verdict {
        match response.status {
            status::TAKEN => Verdict::Delivered { odd: false },
            status::TOO_LONG => {
                let points = self.too_long(&batch.body.bytes);
                if points.is_empty() {
                    return Verdict::Hold;
                }
                Verdict::Poisoned { points, reason: encode::reason::LINE_TOO_LONG }
            }
            status::UNREADABLE => Verdict::Drop { reason: "unreadable" },
            _ => Verdict::Retry { after: None, outcome_unknown: true },
        }
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        body::select(bytes, keep)
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        let unit = body::units(body::points(bytes)?.get(point)?).next()?;
        let unit = String::from_utf8_lossy(unit);
        let line = unit.split(body::LINE_END).next()?;
        let (name, rest) = line.split_once(':')?;
        let tags = rest.split_once("|#").map(|(_, tags)| format!(" with tags {tags}"));
        Some(format!("{name}{}", tags.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Body, FlushTime};
    use crate::measurement::Measurement;
    use crate::test_support::{counter, gauge};

    fn encoded(statsd: &Statsd, measurements: &[Measurement]) -> Body {
        let flush = FlushTime { unix_ms: 1_700_000_000_000, interval: Duration::from_secs(60) };
        statsd.encode(&Content { measurements, expired: &[], flush }).bodies.remove(0)
    }

    fn batch(body: Body) -> Batch {
        Batch { row: 1, id: "a".to_owned(), flushed_ms: 0, attempts_unknown: 0, body }
    }

    #[test]
    fn a_body_can_be_cut_to_some_of_its_points_and_named() {
        let statsd = Statsd::new(StatsdConfig { dialect: Dialect::Dogstatsd, ..StatsdConfig::default() });
        let all = [
            counter("info", "a", "s", 0.1),
            gauge("info", "b", "s:1", &[(1, -1.5)]),
            counter("info", "c", "not_specified", 3.0),
        ];
        let body = encoded(&statsd, &all);
        let cut = statsd.select(&body.bytes, &[false, true, true]).unwrap();
        assert_eq!(cut, encoded(&statsd, &all[1..]).bytes);
        assert_eq!(statsd.describe(&cut, 0).unwrap(), "b with tags source:s:1");
        assert_eq!(statsd.describe(&cut, 1).unwrap(), "c");
        assert_eq!(statsd.describe(&cut, 2), None);
        assert_eq!(statsd.select(&body.bytes, &[true]), None);
        assert_eq!((statsd.select(b"x", &[true]), statsd.describe(b"x", 0)), (None, None));
    }

    #[test]
    fn every_status_from_100_to_599_has_its_verdict() {
        let statsd = Statsd::new(StatsdConfig::default());
        let batch = batch(encoded(&statsd, &[counter("info", "a", "s", 1.0)]));
        for status in 100..=599 {
            let expected = match status {
                200 => Verdict::Delivered { odd: false },
                413 => Verdict::Hold,
                422 => Verdict::Drop { reason: "unreadable" },
                _ => Verdict::Retry { after: None, outcome_unknown: true },
            };
            let response = Response { status, ..Response::default() };
            assert_eq!(statsd.classify(&response, &batch, 0), expected, "{status}");
        }
    }

    #[test]
    fn lines_of_the_spool_that_a_smaller_packet_cannot_hold_are_named() {
        let all = [
            counter("info", "a", "s", 1.0),
            counter("info", &"x".repeat(200), "s", 1.0),
            counter("info", "b", "s", 1.0),
        ];
        let body = encoded(&Statsd::new(StatsdConfig::default()), &all);
        let small = Statsd::new(StatsdConfig { mtu: Some(128), ..StatsdConfig::default() });
        let response = Response { status: 413, ..Response::default() };
        assert_eq!(
            small.classify(&response, &batch(body), 0),
            Verdict::Poisoned { points: vec![1], reason: "line_too_long" }
        );
    }
}
