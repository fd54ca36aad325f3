//! What a local store holds.

use std::collections::BTreeMap;
use std::ops::Index;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use zibrato_core::histogram::Histogram;
use zibrato_local::StoredPoint;

/// What a store holds of one metric and source.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Time in Unix seconds and value of each point, in order of time.
    pub points: Vec<(i64, f64)>,
    /// Sum of the counts.
    pub count: f64,
    /// Sum of the sums.
    pub sum: f64,
    /// Sum of the sums in nanoseconds, each rounded by itself. A point's sum is a double of seconds,
    /// so up to 2^53 ns (104 days) in one point this is exact.
    pub sum_ns: u64,
    /// Smallest minimum.
    pub min: f64,
    /// Largest maximum.
    pub max: f64,
    /// The merged distribution of all points that have one.
    pub histogram: Histogram,
}

impl Totals {
    /// The value of the newest point.
    ///
    /// # Panics
    /// Without points.
    pub fn last(&self) -> f64 {
        self.points.last().unwrap().1
    }
}

/// What a store holds, by metric and source.
#[derive(Clone, Debug, Default)]
pub struct Stored(pub BTreeMap<(String, String), Totals>);

impl Stored {
    /// What it holds of a metric and source, if anything.
    pub fn get(&self, metric: &str, source: &str) -> Option<&Totals> {
        self.0.get(&(metric.to_owned(), source.to_owned()))
    }

    /// The sum of a metric and source; 0 if it holds nothing of them.
    pub fn sum(&self, metric: &str, source: &str) -> f64 {
        self.get(metric, source).map_or(0.0, |totals| totals.sum)
    }

    /// Points of all series.
    pub fn points(&self) -> usize {
        self.0.values().map(|totals| totals.points.len()).sum()
    }
}

impl Index<(&str, &str)> for Stored {
    type Output = Totals;

    fn index(&self, (metric, source): (&str, &str)) -> &Totals {
        let known = || self.0.keys().collect::<Vec<_>>();
        self.get(metric, source).unwrap_or_else(|| panic!("nothing of {metric} {source} among {:?}", known()))
    }
}

/// Reads a database, which a running `zibrato-local` may have open.
///
/// # Panics
/// If it cannot be read, or the buckets of a point do not sum to its count.
pub fn read(db: &Path) -> Stored {
    let mut stored = Stored::default();
    let add = |point: StoredPoint| {
        let first = || Totals { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Totals::default() };
        let totals = stored.0.entry((point.metric, point.source)).or_insert_with(first);
        totals.points.push((point.time, point.value));
        totals.count += point.count;
        totals.sum += point.sum;
        totals.sum_ns += (point.sum * 1e9).round() as u64;
        totals.min = totals.min.min(point.min.unwrap_or(f64::INFINITY));
        totals.max = totals.max.max(point.max.unwrap_or(f64::NEG_INFINITY));
        if let Some(histogram) = point.histogram {
            assert_eq!(histogram.total() as f64, point.count, "buckets do not sum to the count");
            totals.histogram.merge(&histogram);
        }
    };
    zibrato_local::read_points(db, add).unwrap();
    stored
}

/// How many batch ids a database knows.
///
/// # Panics
/// If it cannot be read.
pub fn batches(db: &Path) -> u64 {
    open(db).query_row("SELECT count(*) FROM batches", (), |row| row.get::<_, i64>(0)).unwrap() as u64
}

fn open(db: &Path) -> Connection {
    // Reading beside a writer needs the journal's shared memory, and so the right to write.
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    connection.pragma_update(None, "query_only", true).unwrap();
    connection
}
