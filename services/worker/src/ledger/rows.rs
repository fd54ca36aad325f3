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
/// Most rows that are in memory at once while a flush is written: some 1 MiB of counters.
const PIECE_ROWS: usize = 8_192;
const PUBLISHER_BYTES: usize = 16;
/// A count of 64 bits takes at most 10 bytes.
pub(crate) const BUCKET_BYTES_MAX: usize = HISTOGRAM_BUCKETS_MAX * 10;

/// Rows to be kept: opaque to whoever keeps them. They lie one behind the other, since a flush may have millions.
///
/// A row has a key, unique among all rows, and a value; it replaces an earlier one of the same key.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    /// Where a row begins, its value begins, and its value ends.
    bounds: Vec<[usize; 3]>,
}

impl Rows {
    /// Key and value of each row.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.bounds.iter().map(|&[key, value, end]| (&self.bytes[key..value], &self.bytes[value..end]))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Adds a row whose key is these parts behind one another, with a version and a checksum.
    pub(crate) fn seal(&mut self, key: &[&[u8]], fields: &impl Serialize) {
        let key_at = self.bytes.len();
        key.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let value_at = self.bytes.len();
        self.bytes.push(VERSION);
        // It cannot fail: nothing that is encoded here can be refused.
        if postcard::to_extend(fields, Appended(&mut self.bytes)).is_err() {
            self.bytes.truncate(key_at);
            return;
        }
        let checksum = checksum(&self.bytes[key_at..]);
        self.bytes.extend_from_slice(&checksum);
        self.bounds.push([key_at, value_at, self.bytes.len()]);
    }
}

/// Rows of all of these, [`PIECE_ROWS`] at a time: of millions they would take as much memory as the ledger. They come in the
/// order of the list; a file is written to soonest in that of their keys.
pub(crate) fn in_pieces<T>(all: Vec<T>, add: impl Fn(&mut Rows, T)) -> impl Iterator<Item = Rows> {
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let mut rows = Rows::default();
        (all.len() > 0).then(|| {
            all.by_ref().take(PIECE_ROWS).for_each(|one| add(&mut rows, one));
            rows
        })
    })
}

/// Bytes behind those that are there.
struct Appended<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Appended<'_> {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        self.0.extend(bytes);
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for Rows {
    /// Rows as they are.
    fn from_iter<T: IntoIterator<Item = (&'a [u8], &'a [u8])>>(rows: T) -> Self {
        let mut all = Self::default();
        for (key, value) in rows {
            let key_at = all.bytes.len();
            all.bytes.extend_from_slice(key);
            let value_at = all.bytes.len();
            all.bytes.extend_from_slice(value);
            all.bounds.push([key_at, value_at, all.bytes.len()]);
        }
        all
    }
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

pub(super) fn meta(rows: &mut Rows, created_ms: u64) {
    rows.seal(&[&[META]], &created_ms);
}

pub(super) fn level(rows: &mut Rows, level: &str, horizon_ms: u64) {
    rows.seal(&[&[LEVEL], level.as_bytes()], &horizon_ms);
}

pub(super) fn stream(rows: &mut Rows, publisher: PublisherId, level: &str, kept: &KeptStream) {
    rows.seal(&[&[STREAM], &publisher.0, level.as_bytes()], kept);
}

pub(super) fn stream_key(publisher: PublisherId, level: &str) -> Vec<u8> {
    [&[STREAM], &publisher.0[..], level.as_bytes()].concat()
}

pub(super) fn series(rows: &mut Rows, publisher: PublisherId, identity: &[u8], kept: &Kept) {
    let key: [&[u8]; 3] = [&[SERIES], &publisher.0, identity];
    match kept {
        Kept::Counter { seq, sum } => rows.seal(&key, &(seq, sum)),
        Kept::Gauge { seq, sets } => rows.seal(&key, &(seq, sets)),
        Kept::Timer(kept) => {
            let mut counts = [0; BUCKET_BYTES_MAX];
            let histogram =
                kept.histogram.as_ref().and_then(|histogram| histogram_state(histogram, &mut counts));
            // All buckets fit; one that did not must not come back as one that has none.
            if histogram.is_none() && kept.histogram.is_some() {
                return;
            }
            let KeptTimer { seq, count, sum_ns, sum_squares_ns2, behind, .. } = *kept;
            rows.seal(&key, &TimerRow { seq, count, sum_ns, sum_squares_ns2, histogram, behind });
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

/// The fields of a row that [`Rows::seal`] made; `None` if it is damaged or of another version.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (content, sum) = value.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (&version, fields) = content.split_first()?;
    (version == VERSION && *sum == checksum(key.iter().chain(content))).then_some(fields)
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
            let level = identity::read(identity)?.level.to_string();
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
fn checksum<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> [u8; CHECKSUM_BYTES] {
    let mut hash = 0x811c_9dc5_u32;
    for byte in bytes {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PublisherId = PublisherId([7; 16]);

    fn examples() -> Rows {
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
        let mut rows = Rows::default();
        meta(&mut rows, 1_700_000_000_000);
        level(&mut rows, "info", u64::MAX);
        stream(&mut rows, ID, "info", &kept);
        series(&mut rows, ID, b"info\0\0n\0s\0", &Kept::Counter { seq: 3, sum: u64::MAX });
        series(&mut rows, ID, b"info\0\x01n\0s\0u", &Kept::Gauge { seq: 3, sets: 9 });
        series(&mut rows, ID, b"info\0\x02n\0s\0\0k\0v", &timer(Some(Arc::new(buckets)), false));
        series(&mut rows, ID, b"info\0\x02n\0s\0", &timer(None, true));
        assert_eq!(rows.len(), 7);
        rows
    }

    #[test]
    fn every_row_comes_back() {
        let mut again = Rows::default();
        for (key, value) in examples().iter() {
            match decode(key, value).unwrap() {
                Decoded::Meta { created_ms } => meta(&mut again, created_ms),
                Decoded::Level { level: label, horizon_ms } => level(&mut again, &label, horizon_ms),
                Decoded::Stream { publisher, level, kept } => stream(&mut again, publisher, &level, &kept),
                Decoded::Series { publisher, identity, kept, .. } => {
                    series(&mut again, publisher, &identity, &kept);
                }
            }
        }
        assert!(again.iter().eq(examples().iter()));
        assert!(Rows::from_iter(again.iter()).iter().eq(again.iter()));
    }

    #[test]
    fn rows_in_pieces_are_all_of_them_in_their_order() {
        for many in [0, 1, PIECE_ROWS, 2 * PIECE_ROWS + 1] {
            let series = |rows: &mut Rows, seq: u64| series(rows, ID, b"n", &Kept::Gauge { seq, sets: 0 });
            let mut all = Rows::default();
            (0..many as u64).for_each(|seq| series(&mut all, seq));
            let pieces = Vec::from_iter(in_pieces((0..many as u64).collect(), series));
            assert_eq!(pieces.len(), many.div_ceil(PIECE_ROWS));
            assert!(pieces.iter().all(|piece| (1..=PIECE_ROWS).contains(&piece.len())));
            assert!(pieces.iter().flat_map(Rows::iter).eq(all.iter()));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for (key, value) in examples().iter() {
            for length in 0..value.len() {
                assert_eq!(decode(key, &value[..length]), None);
            }
            let flipped = |bytes: &[u8], bit: usize| {
                let mut bytes = bytes.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            for bit in 0..value.len() * 8 {
                assert_eq!(decode(key, &flipped(value, bit)), None);
            }
            for bit in 0..key.len() * 8 {
                assert_eq!(decode(&flipped(key, bit), value), None);
            }
        }
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        let mut rows = Rows::default();
        meta(&mut rows, 1);
        let (key, mut value) = rows.iter().next().map(|(key, value)| (key, value.to_vec())).unwrap();
        let content = value.len() - CHECKSUM_BYTES;
        value[0] = VERSION + 1;
        let sum = checksum(key.iter().chain(&value[..content]));
        value[content..].copy_from_slice(&sum);
        assert_eq!(decode(key, &value), None);
    }
}
