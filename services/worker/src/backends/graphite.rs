//! Carbon, Graphite's receiver, over TCP: its plaintext or its pickle protocol.
//!
//! | Zibrato | Graphite | with `--tagged` |
//! |---|---|---|
//! | series | `NAME.SOURCE`, then `.KEY.VALUE` for each tag in the order of the keys | `NAME;KEY=VALUE...` with the tag `source`, and `unit` if there is one |
//! | counter | one number a flush: `.count` behind the path, and `.rate` with `--rates` | `.count` behind the name |
//! | gauge | the path itself, one number for each second in which it was set, with its own time | the same |
//! | timer | `.count`, `.sum`, `.min`, `.max`, `.mean`, `.p50`... behind the path, in seconds | behind the name |
//! | level | none: series that differ in their level alone are merged | none |
//!
//! The dots of a name part it into nodes. A source, a key and a value are one node each: what is not a letter, a digit,
//! `_`, `-` or `:` becomes `_`. An empty node becomes `_`, and one above [`NODE_BYTES_MAX`] bytes is cut and ends in a
//! hash of all of it, since it is the name of a file or directory over there. With `--tagged` values keep what is
//! printable ASCII but for `;`, quotes and the backslash, and do not begin with `~`; a tag whose key we or Graphite use
//! ourselves ([`OWN_KEYS`]) gets an underscore more. Series that become equal are counted as clashes.
//!
//! Times are whole seconds. Of several points of a gauge in one second carbon would keep the last one, so only that one
//! is sent, and the others are counted as merged sets.
//!
//! # What is known to have arrived
//!
//! Carbon answers nothing, and what the kernel took is lost when carbon dies. But it reads all and closes when the other
//! side has closed its half, so a batch has a connection of its own: all of it is written, our half is closed, and the
//! batch is delivered once carbon has closed its half too, our side's last byte was acknowledged, and no reset came. That
//! costs one round trip: 0.3 ms on loopback. What breaks off before is sent again as a whole; carbon keeps one number for
//! a path and second, so that a number that comes twice counts once.
//!
//! That is what carbon has read, not what it has on its disk: what its cache holds dies with it. It says nothing about
//! relays behind it either.
//!
//! # What each status means
//!
//! The protocol has none; these are [`Graphite`]'s own.
//!
//! | status | of | verdict |
//! |---|---|---|
//! | 200 | carbon has closed after all was read | delivered |
//! | 422 | what lies in the spool cannot be read | drop, `unreadable` |
//! | 421 | the other side said something, so it is not carbon | hold |
//! | any other | none | hold |

mod args;
mod connection;
mod encode;
mod path;
mod pickle;
mod wire;

use std::time::Duration;

use crate::backend::{Answer, Backend, Batch, Content, Encoded, Limits, Pending, Response, Verdict};
use crate::numbers::Chosen;

pub use args::{GraphiteArgs, PICKLE_ADDRESS_DEFAULT, PLAINTEXT_ADDRESS_DEFAULT};
pub use connection::Waits;
pub use path::{NODE_BYTES_MAX, OWN_KEYS};
pub use wire::Protocol;

/// Most points of one batch.
pub const POINTS_MAX: usize = 5_000;
/// Most bytes of the numbers of one batch; carbon 1.1 reads as much in a tenth of a second.
pub const BODY_BYTES_MAX: usize = 512 << 10;
/// The longest pickle that carbon takes, unless its `PICKLE_RECEIVER_MAX_LENGTH` says otherwise.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Default of the oldest accepted age: the day that carbon's own default keeps, less five minutes. What is older than it
/// keeps carbon drops unseen.
pub const AGE_MAX: Duration = Duration::from_secs(86_400 - 300);
/// How far ahead of the flush a point may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(600);

/// Carbon has read all.
const DELIVERED: u16 = 200;
/// Something else than carbon listens there.
const NOT_CARBON: u16 = 421;
/// What is to be sent cannot be read.
const UNREADABLE: u16 = 422;

/// The backend of `zibrato-graphite`.
#[derive(Debug)]
pub struct Graphite {
    address: String,
    protocol: Protocol,
    tagged: bool,
    chosen: Chosen,
    age_max: Duration,
    waits: Waits,
}

impl Backend for Graphite {
    fn name(&self) -> &'static str {
        "graphite"
    }

    fn target(&self) -> String {
        format!("{}://{}", self.protocol.as_str(), self.address)
    }

    fn limits(&self) -> Limits {
        Limits {
            points_max: POINTS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            age_max: self.age_max,
            points_per_series_max: usize::MAX,
        }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        encode::encode(content, &self.limits(), &self.chosen, self.protocol, self.tagged)
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async {
            match wire::payload(&batch.body.bytes, self.protocol) {
                Some(payload) => connection::deliver(&self.address, &payload, &self.waits).await,
                None => Answer::Response(Response { status: UNREADABLE, ..Response::default() }),
            }
        })
    }

    fn classify(&self, response: &Response, _: &Batch, _: u64) -> Verdict {
        match response.status {
            DELIVERED => Verdict::Delivered { odd: false },
            UNREADABLE => Verdict::Drop { reason: "unreadable" },
            _ => Verdict::Hold,
        }
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        wire::select(bytes, keep)
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        wire::Body::read(bytes)?
            .points()?
            .into_iter()
            .nth(point)?
            .into_iter()
            .next()
            .map(|number| number.path)
    }
}

#[cfg(test)]
mod tests;
