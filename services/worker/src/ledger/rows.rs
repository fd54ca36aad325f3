//! The ledger on disk: one row a level, publisher and series, so that a flush writes what changed.
//!
//! A key starts with the kind of the row and names it in full; a value is a version byte, fields in
//! postcard's encoding, and a checksum over key and rest. Rows need no order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zibrato_core::frame::{HistogramState, PublisherId, encode_buckets};
use zibrato_core::histogram::Histogram;
use zibrato_core::kind::Kind;
use zibrato_core::limits::HISTOGRAM_BUCKETS_MAX;
use zibrato_core::text::Field;

use super::identity;
use super::series::{Kept, KeptTimer};

/// Version of all rows; a row of another version is refused.
pub(super) const VERSION: u8 = 1;

const META: u8 = b'm';
const LEVEL: u8 = b'l';
const STREAM: u8 = b'p';
const SERIES: u8 = b's';
const CHECKSUM_BYTES: usize = 4;
const PUBLISHER_BYTES: usize = 16;
/// A count of 64 bits takes at most 10 bytes.
pub(crate) const BUCKET_BYTES_MAX: usize = HISTOGRAM_BUCKETS_MAX * 10;

/// One row to be kept: opaque to whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unique among the ledger's rows; a row replaces an earlier one of the same key.
    pub key: Vec<u8>,
    /// Content.
    pub value: Vec<u8>,
}

/// A row, read.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded {
    Meta { created_ms: u64 },
    Level { level: String, horizon_ms: u64 },
    Stream { publisher: PublisherId, level: String, kept: KeptStream },
    Series { publisher: PublisherId, identity: Vec<u8>, level: String, kept: Kept },
}

impl Decoded {
    /// Levels come before the publishers that name them, and these before their series.
    pub(super) const fn order(&self) -> u8 {
        match self {
            Self::Meta { .. } => 0,
            Self::Level { .. } => 1,
            Self::Stream { .. } => 2,
            Self::Series { .. } => 3,
        }
    }
}

/// What a row keeps of a publisher and level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptStream {
    pub(super) start_ms: u64,
    pub(super) received_to: u64,
    pub(super) rooted: bool,
    pub(super) window_ms: u32,
    pub(super) owed: bool,
    pub(super) synced: bool,
    pub(super) refused: bool,
    pub(super) ended: bool,
    pub(super) vanished: bool,
    /// How long it had been silent, in milliseconds of the ledger's awake time.
    pub(super) silent_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct TimerRow<'a> {
    seq: u64,
    count: u64,
    sum_ns: u64,
    sum_squares_ns2: u128,
    #[serde(borrow)]
    histogram: Option<HistogramState<'a>>,
    behind: bool,
}

pub(super) fn meta(created_ms: u64) -> Option<Row> {
    seal(vec![META], &created_ms)
}

pub(super) fn level(level: &str, horizon_ms: u64) -> Option<Row> {
    seal([&[LEVEL], level.as_bytes()].concat(), &horizon_ms)
}

pub(super) fn stream(publisher: PublisherId, level: &str, kept: &KeptStream) -> Option<Row> {
    seal(stream_key(publisher, level), kept)
}

pub(super) fn stream_key(publisher: PublisherId, level: &str) -> Vec<u8> {
    [&[STREAM], &publisher.0[..], level.as_bytes()].concat()
}

pub(super) fn series(publisher: PublisherId, identity: &[u8], kept: &Kept) -> Option<Row> {
    let key = series_key(publisher, identity);
    match kept {
        Kept::Counter { seq, sum } => seal(key, &(seq, sum)),
        Kept::Gauge { seq, sets } => seal(key, &(seq, sets)),
        Kept::Timer(kept) => {
            let mut counts = [0; BUCKET_BYTES_MAX];
            let histogram = match &kept.histogram {
                Some(histogram) => Some(histogram_state(histogram, &mut counts)?),
                None => None,
            };
            let KeptTimer { seq, count, sum_ns, sum_squares_ns2, behind, .. } = *kept;
            seal(key, &TimerRow { seq, count, sum_ns, sum_squares_ns2, histogram, behind })
        }
    }
}

pub(super) fn series_key(publisher: PublisherId, identity: &[u8]) -> Vec<u8> {
    [&[SERIES], &publisher.0[..], identity].concat()
}

pub(crate) fn histogram_state<'a>(histogram: &Histogram, out: &'a mut [u8]) -> Option<HistogramState<'a>> {
    let used = encode_buckets(histogram.cells_from_offset().map(|(_, count)| count), out)?;
    let (scale, zero, offset) = (histogram.scale(), histogram.zero(), histogram.offset());
    Some(HistogramState { scale, zero, base: 0, offset, counts: &out[..used] })
}

/// `None` cannot happen: nothing that is encoded here can be refused.
pub(crate) fn seal(key: Vec<u8>, fields: &impl Serialize) -> Option<Row> {
    let mut value = postcard::to_extend(fields, vec![VERSION]).ok()?;
    let checksum = checksum(&key, &value);
    value.extend_from_slice(&checksum);
    Some(Row { key, value })
}

/// The fields of a row that [`seal`] made; `None` if it is damaged or of another version.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (content, sum) = value.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (&version, fields) = content.split_first()?;
    (version == VERSION && *sum == checksum(key, content)).then_some(fields)
}

/// Reads a row; `None` if it is damaged or of another version.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Decoded> {
    let fields = unseal(key, value)?;
    let (&kind, name) = key.split_first()?;
    match kind {
        META => Some(Decoded::Meta { created_ms: postcard::from_bytes(fields).ok()? }),
        LEVEL => {
            Some(Decoded::Level { level: level_of(name)?, horizon_ms: postcard::from_bytes(fields).ok()? })
        }
        STREAM => {
            let (publisher, level) = name.split_first_chunk::<PUBLISHER_BYTES>()?;
            let kept = postcard::from_bytes(fields).ok()?;
            Some(Decoded::Stream { publisher: PublisherId(*publisher), level: level_of(level)?, kept })
        }
        SERIES => {
            let (publisher, identity) = name.split_first_chunk::<PUBLISHER_BYTES>()?;
            let level = identity::read(identity)?.level;
            let kept = decode_series(identity::kind(identity)?, fields)?;
            let publisher = PublisherId(*publisher);
            Some(Decoded::Series { publisher, identity: identity.to_vec(), level, kept })
        }
        _ => None,
    }
}

fn decode_series(kind: Kind, fields: &[u8]) -> Option<Kept> {
    Some(match kind {
        Kind::Counter => {
            let (seq, sum) = postcard::from_bytes(fields).ok()?;
            Kept::Counter { seq, sum }
        }
        Kind::Gauge => {
            let (seq, sets) = postcard::from_bytes(fields).ok()?;
            Kept::Gauge { seq, sets }
        }
        Kind::Timer => {
            let row: TimerRow<'_> = postcard::from_bytes(fields).ok()?;
            let read = |state: HistogramState<'_>| {
                Histogram::from_parts(state.scale, state.zero, state.offset, state.buckets())
            };
            Kept::Timer(KeptTimer {
                seq: row.seq,
                count: row.count,
                sum_ns: row.sum_ns,
                sum_squares_ns2: row.sum_squares_ns2,
                histogram: row.histogram.map(read).map(Arc::new),
                behind: row.behind,
            })
        }
    })
}

fn level_of(bytes: &[u8]) -> Option<String> {
    let level = std::str::from_utf8(bytes).ok()?;
    Field::Level.accepts(level).then(|| level.to_owned())
}

/// FNV-1a of 32 bits. It guards against damage, not against malice.
fn checksum(key: &[u8], content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = 0x811c_9dc5_u32;
    for byte in key.iter().chain(content) {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PublisherId = PublisherId([7; 16]);

    fn examples() -> Vec<Row> {
        let mut buckets = Histogram::new();
        for ns in [0, 5, 1_000_000, u64::MAX] {
            buckets.record_ns(ns, 3);
        }
        let timer = |histogram, behind| {
            Kept::Timer(KeptTimer {
                seq: u64::MAX,
                count: 9,
                sum_ns: u64::MAX,
                sum_squares_ns2: u128::MAX,
                histogram,
                behind,
            })
        };
        let kept = KeptStream {
            start_ms: 1,
            received_to: 2,
            rooted: true,
            window_ms: 4,
            owed: true,
            synced: false,
            refused: true,
            ended: false,
            vanished: true,
            silent_ms: 5,
        };
        vec![
            meta(1_700_000_000_000).unwrap(),
            level("info", u64::MAX).unwrap(),
            stream(ID, "info", &kept).unwrap(),
            series(ID, b"info\0\0n\0s\0", &Kept::Counter { seq: 3, sum: u64::MAX }).unwrap(),
            series(ID, b"info\0\x01n\0s\0u", &Kept::Gauge { seq: 3, sets: 9 }).unwrap(),
            series(ID, b"info\0\x02n\0s\0\0k\0v", &timer(Some(Arc::new(buckets)), false)).unwrap(),
            series(ID, b"info\0\x02n\0s\0", &timer(None, true)).unwrap(),
        ]
    }

    #[test]
    fn every_row_comes_back() {
        for row in examples() {
            let again = match decode(&row.key, &row.value).unwrap() {
                Decoded::Meta { created_ms } => meta(created_ms),
                Decoded::Level { level: label, horizon_ms } => level(&label, horizon_ms),
                Decoded::Stream { publisher, level, kept } => stream(publisher, &level, &kept),
                Decoded::Series { publisher, identity, kept, .. } => series(publisher, &identity, &kept),
            };
            assert_eq!(again.unwrap(), row);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for row in examples() {
            for length in 0..row.value.len() {
                assert_eq!(decode(&row.key, &row.value[..length]), None);
            }
            for bit in 0..row.value.len() * 8 {
                let mut value = row.value.clone();
                value[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&row.key, &value), None);
            }
            for bit in 0..row.key.len() * 8 {
                let mut key = row.key.clone();
                key[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&key, &row.value), None);
            }
        }
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        let mut row = meta(1).unwrap();
        let content = row.value.len() - CHECKSUM_BYTES;
        row.value[0] = VERSION + 1;
        let sum = checksum(&row.key, &row.value[..content]);
        row.value[content..].copy_from_slice(&sum);
        assert_eq!(decode(&row.key, &row.value), None);
    }
}
