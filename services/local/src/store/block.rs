//! Packed points: the columns of up to [`POINTS_MAX`] points of one series, compressed.
//!
//! A block is one byte for the format, a CRC-32 (little-endian) of the rest, and postcard's bytes of
//! [`Packed`]. Each column is stored in the smallest of three forms: one value for all, plain
//! little-endian, or compressed by pco. Only complex points have a count and what follows it; what a
//! simple point has follows from its value. SQLite keeps no checksums, so the CRC is what tells a
//! damaged page from numbers.

use std::io::Read;

use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use pco::ChunkConfig;
use pco::data_types::Number;
use serde::{Deserialize, Serialize};

use super::distribution;
use super::model::{Complex, RawPoint};

/// The seconds of a block; blocks begin at multiples of it.
pub(super) const BLOCK_S: i64 = 600;
/// The most points of one part of a block; a series with more has several parts at one start.
pub(super) const POINTS_MAX: usize = 8_192;
/// The only format so far.
const FORMAT: u8 = 1;
/// The format and the CRC.
const HEADER_BYTES: usize = 5;
/// pco's effort: 4 of 12 is twice as fast as its default 8 and gives up under 1 % on such short
/// columns.
const LEVEL: usize = 4;
/// Deflate's effort for histograms.
const DEFLATE: Compression = Compression::new(5);
/// The most bytes that the histograms of one part may inflate to: [`POINTS_MAX`] of the largest.
const HISTOGRAMS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A part of a block cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a block does not decode")]
pub(super) struct Damaged;

#[derive(Deserialize, Serialize)]
struct Packed<'a> {
    points: u32,
    /// The first time, in seconds from the block's start, and the steps to the next ones.
    first: u32,
    #[serde(borrow)]
    steps: Column<'a>,
    values: Column<'a>,
    complex: Option<ComplexColumns<'a>>,
}

/// What the complex points among the points have. `flags` has a value for each point, `counts` and
/// `sums` one for each complex point, the others one for each that has the flag.
#[derive(Deserialize, Serialize)]
struct ComplexColumns<'a> {
    #[serde(borrow)]
    flags: Column<'a>,
    counts: Column<'a>,
    sums: Column<'a>,
    mins: Column<'a>,
    maxs: Column<'a>,
    sum_squares: Column<'a>,
    histograms: Histograms<'a>,
}

#[derive(Deserialize, Serialize)]
enum Column<'a> {
    Same(u64),
    Plain(&'a [u8]),
    Pco(&'a [u8]),
}

/// The bytes of all histograms, one after the other.
#[derive(Deserialize, Serialize)]
enum Histograms<'a> {
    Plain(&'a [u8]),
    Deflated(&'a [u8]),
}

const COMPLEX: u32 = 1;
const MIN: u32 = 2;
const MAX: u32 = 4;
const SUM_SQUARES: u32 = 8;
const HISTOGRAM: u32 = 16;

/// Packs points. Kept from block to block, because what deflate works in takes longer to set up than
/// to use.
#[derive(Debug)]
pub(super) struct Encoder {
    deflate: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { deflate: Compress::new(DEFLATE, false) }
    }
}

impl Encoder {
    /// Packs points, which must be in order of time and lie in the block that begins at `start`.
    pub(super) fn encode(&mut self, start: i64, points: &[RawPoint]) -> Vec<u8> {
        let offsets: Vec<u32> = points.iter().map(|point| (point.t - start) as u32).collect();
        let steps: Vec<u32> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let values: Vec<f64> =
            points.iter().filter(|point| point.complex.is_none()).map(|point| point.value).collect();
        let steps = Owned::of(&steps);
        let values = Owned::of(&values);
        let complex = points
            .iter()
            .any(|point| point.complex.is_some())
            .then(|| OwnedComplex::of(points, &mut self.deflate));
        let packed = Packed {
            points: points.len() as u32,
            first: offsets.first().copied().unwrap_or_default(),
            steps: steps.column(),
            values: values.column(),
            complex: complex.as_ref().map(OwnedComplex::columns),
        };
        // Writing to a Vec cannot fail.
        let mut bytes = postcard::to_extend(&packed, vec![FORMAT, 0, 0, 0, 0]).unwrap_or_default();
        if let Some((header, packed)) = bytes.split_at_mut_checked(HEADER_BYTES) {
            header[1..].copy_from_slice(&crc(packed));
        }
        bytes
    }
}

/// Unpacks what [`Encoder::encode`] packed.
///
/// # Errors
///
/// [`Damaged`] for anything that `encode` does not write; any bytes are safe.
pub(super) fn decode(start: i64, bytes: &[u8]) -> Result<Vec<RawPoint>, Damaged> {
    let (header, bytes) = bytes.split_at_checked(HEADER_BYTES).ok_or(Damaged)?;
    if header[0] != FORMAT || header[1..] != crc(bytes) {
        return Err(Damaged);
    }
    let packed: Packed<'_> = postcard::from_bytes(bytes).map_err(|_| Damaged)?;
    let length = packed.points as usize;
    if length > POINTS_MAX {
        return Err(Damaged);
    }
    let flags = match &packed.complex {
        Some(complex) => complex.flags.read::<u32>(length)?,
        None => vec![0; length],
    };
    let with = |flag| flags.iter().filter(|flags| **flags & flag != 0).count();
    let mut values = packed.values.read::<f64>(length - with(COMPLEX))?.into_iter();
    let mut complex = match &packed.complex {
        Some(columns) => Some(Unpacked {
            counts: columns.counts.read::<f64>(with(COMPLEX))?.into_iter(),
            sums: columns.sums.read::<f64>(with(COMPLEX))?.into_iter(),
            mins: columns.mins.read::<f64>(with(MIN))?.into_iter(),
            maxs: columns.maxs.read::<f64>(with(MAX))?.into_iter(),
            sum_squares: columns.sum_squares.read::<f64>(with(SUM_SQUARES))?.into_iter(),
            histograms: columns.histograms.read()?,
            histograms_read: 0,
        }),
        None => None,
    };
    let steps = packed.steps.read::<u32>(length.saturating_sub(1))?;
    let mut t = start + i64::from(packed.first);
    let mut points = Vec::with_capacity(length);
    for (place, flags) in flags.into_iter().enumerate() {
        if place > 0 {
            t += i64::from(steps[place - 1]);
        }
        if !(start..start + BLOCK_S).contains(&t) {
            return Err(Damaged);
        }
        points.push(match &mut complex {
            Some(complex) if flags & COMPLEX != 0 => complex.next(t, flags).ok_or(Damaged)?,
            _ => RawPoint { t, value: values.next().ok_or(Damaged)?, complex: None },
        });
    }
    Ok(points)
}

struct Unpacked {
    counts: std::vec::IntoIter<f64>,
    sums: std::vec::IntoIter<f64>,
    mins: std::vec::IntoIter<f64>,
    maxs: std::vec::IntoIter<f64>,
    sum_squares: std::vec::IntoIter<f64>,
    histograms: Vec<u8>,
    histograms_read: usize,
}

impl Unpacked {
    fn next(&mut self, t: i64, flags: u32) -> Option<RawPoint> {
        fn take(flag: bool, column: &mut std::vec::IntoIter<f64>) -> Option<Option<f64>> {
            if flag { column.next().map(Some) } else { Some(None) }
        }
        let (count, sum) = (self.counts.next()?, self.sums.next()?);
        let histogram = if flags & HISTOGRAM != 0 {
            let bytes = self.histograms.get(self.histograms_read..)?;
            let (histogram, rest) = distribution::split_from(bytes)?;
            self.histograms_read = self.histograms.len() - rest.len();
            Some(histogram)
        } else {
            None
        };
        let complex = Complex {
            count,
            sum,
            min: take(flags & MIN != 0, &mut self.mins)?,
            max: take(flags & MAX != 0, &mut self.maxs)?,
            sum_squares: take(flags & SUM_SQUARES != 0, &mut self.sum_squares)?,
            histogram,
        };
        Some(RawPoint { t, value: sum / count, complex: Some(Box::new(complex)) })
    }
}

/// The bytes of a column in its smallest form.
enum Owned {
    Same(u64),
    Plain(Vec<u8>),
    Pco(Vec<u8>),
}

impl Owned {
    fn of<T: Cell>(cells: &[T]) -> Self {
        let first = cells.first().map_or(0, |cell| cell.to_bits());
        if cells.iter().all(|cell| cell.to_bits() == first) {
            return Self::Same(first);
        }
        let mut plain = Vec::with_capacity(size_of_val(cells));
        for cell in cells {
            plain.extend_from_slice(&cell.to_bits().to_le_bytes()[..size_of::<T>()]);
        }
        let config = ChunkConfig::default().with_compression_level(LEVEL);
        match pco::standalone::simple_compress(cells, &config) {
            Ok(packed) if packed.len() < plain.len() => Self::Pco(packed),
            _ => Self::Plain(plain),
        }
    }

    fn column(&self) -> Column<'_> {
        match self {
            Self::Same(bits) => Column::Same(*bits),
            Self::Plain(bytes) => Column::Plain(bytes),
            Self::Pco(bytes) => Column::Pco(bytes),
        }
    }
}

impl Column<'_> {
    /// The column's cells, which are so many.
    fn read<T: Cell>(&self, length: usize) -> Result<Vec<T>, Damaged> {
        match self {
            Self::Same(bits) => Ok(vec![T::from_bits(*bits); length]),
            Self::Plain(bytes) if bytes.len() == length * size_of::<T>() => {
                let cells = bytes.chunks_exact(size_of::<T>()).map(|bytes| {
                    let mut bits = [0; 8];
                    bits[..bytes.len()].copy_from_slice(bytes);
                    T::from_bits(u64::from_le_bytes(bits))
                });
                Ok(cells.collect())
            }
            Self::Plain(_) => Err(Damaged),
            Self::Pco(bytes) => {
                // One more than expected, so that a longer column is noticed.
                let mut cells = vec![T::from_bits(0); length + 1];
                let read = pco::standalone::simple_decompress_into(bytes, &mut cells).map_err(|_| Damaged)?;
                cells.truncate(length);
                if read.n_processed == length { Ok(cells) } else { Err(Damaged) }
            }
        }
    }
}

impl Histograms<'_> {
    fn read(&self) -> Result<Vec<u8>, Damaged> {
        match self {
            Self::Plain(bytes) => Ok(bytes.to_vec()),
            Self::Deflated(bytes) => {
                let mut plain = Vec::new();
                let mut inflated = DeflateDecoder::new(*bytes).take(HISTOGRAMS_BYTES_MAX);
                inflated.read_to_end(&mut plain).map_err(|_| Damaged)?;
                Ok(plain)
            }
        }
    }
}

struct OwnedComplex {
    flags: Owned,
    counts: Owned,
    sums: Owned,
    mins: Owned,
    maxs: Owned,
    sum_squares: Owned,
    histograms: Vec<u8>,
    deflated: Option<Vec<u8>>,
}

impl OwnedComplex {
    fn of(points: &[RawPoint], deflate: &mut Compress) -> Self {
        let complex: Vec<&Complex> = points.iter().filter_map(|point| point.complex.as_deref()).collect();
        let flags: Vec<u32> = points.iter().map(|point| point.complex.as_deref().map_or(0, flags)).collect();
        let column = |pick: fn(&Complex) -> Option<f64>| {
            Owned::of(&complex.iter().filter_map(|complex| pick(complex)).collect::<Vec<_>>())
        };
        let mut histograms = Vec::new();
        for histogram in complex.iter().filter_map(|complex| complex.histogram.as_ref()) {
            histograms = distribution::append(histogram, histograms);
        }
        // With room for no more than the plain bytes it ends early if it does not pay.
        let mut deflated = Vec::with_capacity(histograms.len());
        deflate.reset();
        let status = deflate.compress_vec(&histograms, &mut deflated, FlushCompress::Finish);
        Self {
            flags: Owned::of(&flags),
            counts: column(|complex| Some(complex.count)),
            sums: column(|complex| Some(complex.sum)),
            mins: column(|complex| complex.min),
            maxs: column(|complex| complex.max),
            sum_squares: column(|complex| complex.sum_squares),
            deflated: matches!(status, Ok(Status::StreamEnd)).then_some(deflated),
            histograms,
        }
    }

    fn columns(&self) -> ComplexColumns<'_> {
        ComplexColumns {
            flags: self.flags.column(),
            counts: self.counts.column(),
            sums: self.sums.column(),
            mins: self.mins.column(),
            maxs: self.maxs.column(),
            sum_squares: self.sum_squares.column(),
            histograms: match &self.deflated {
                Some(bytes) => Histograms::Deflated(bytes),
                None => Histograms::Plain(&self.histograms),
            },
        }
    }
}

fn flags(complex: &Complex) -> u32 {
    let mut flags = COMPLEX;
    for (flag, is_set) in [
        (MIN, complex.min.is_some()),
        (MAX, complex.max.is_some()),
        (SUM_SQUARES, complex.sum_squares.is_some()),
        (HISTOGRAM, complex.histogram.is_some()),
    ] {
        if is_set {
            flags |= flag;
        }
    }
    flags
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// What columns are made of.
trait Cell: Number {
    fn to_bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;
}

impl Cell for f64 {
    fn to_bits(self) -> u64 {
        f64::to_bits(self)
    }

    fn from_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
}

impl Cell for u32 {
    fn to_bits(self) -> u64 {
        self.into()
    }

    fn from_bits(bits: u64) -> Self {
        bits as u32
    }
}

#[cfg(test)]
mod tests;
