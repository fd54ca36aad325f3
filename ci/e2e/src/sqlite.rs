//! What a local store holds.

use std::collections::BTreeMap;
use std::ops::Index;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use zibrato_core::histogram::Histogram;

/// What a store holds of one metric and source.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Time in Unix seconds and value of each point, in the order of storing.
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
    /// The value of the point that was stored last.
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
    let connection = open(db);
    let mut statement = connection
        .prepare(
            "SELECT m.name, s.name, p.measure_time, p.value, p.count, p.sum, p.min, p.max, p.buckets
             FROM points p JOIN metrics m ON m.id = p.metric JOIN sources s ON s.id = p.source ORDER BY p.id",
        )
        .unwrap();
    let mut stored = Stored::default();
    let mut rows = statement.query(()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let first = || Totals { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Totals::default() };
        let key = (row.get(0).unwrap(), row.get(1).unwrap());
        let totals = stored.0.entry(key).or_insert_with(first);
        let number = |column| row.get::<_, f64>(column).unwrap();
        let (count, sum) = (number(4), number(5));
        totals.points.push((row.get(2).unwrap(), number(3)));
        totals.count += count;
        totals.sum += sum;
        totals.sum_ns += (sum * 1e9).round() as u64;
        totals.min = totals.min.min(row.get::<_, Option<f64>>(6).unwrap().unwrap_or(f64::INFINITY));
        totals.max = totals.max.max(row.get::<_, Option<f64>>(7).unwrap().unwrap_or(f64::NEG_INFINITY));
        if let Some(buckets) = row.get::<_, Option<String>>(8).unwrap() {
            let histogram = histogram(&buckets);
            assert_eq!(histogram.total() as f64, count, "buckets {buckets} of a count of {count}");
            totals.histogram.merge(&histogram);
        }
    }
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

fn histogram(buckets: &str) -> Histogram {
    let json: serde_json::Value = serde_json::from_str(buckets).unwrap();
    let number = |name: &str| json[name].as_i64().unwrap_or_else(|| panic!("{name} in {buckets}"));
    let counts = json["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap());
    Histogram::from_parts(number("scale") as i8, number("zero") as u64, number("offset") as i32, counts)
}
