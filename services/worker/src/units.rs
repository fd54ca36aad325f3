//! What a point stands for, so that losses can be added up in the units of the law.

use std::collections::BTreeMap;
use std::fmt;

/// What one point of a body stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PointUnits {
    /// The sum of a counter's increments.
    Counter(f64),
    /// How many sets of a gauge.
    Gauge(u64),
    /// How many records of a timer.
    Timer(u64),
}

/// Bytes of one point in [`encode_units`]: a kind and eight bytes of number.
const POINT_BYTES: usize = 9;

/// Amounts in the units of the law.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Points of bodies. Not part of the law before encoding, where series are merged.
    pub points: u64,
    /// Sum of counter increments.
    pub counter_sum: f64,
    /// Sum of the magnitudes of those increments; it scales the tolerance of [`Units::same`].
    pub counter_magnitude: f64,
    /// Records of timers.
    pub timer_records: u64,
    /// Sets of gauges, one a window.
    pub gauge_sets: u64,
}

/// Sums of floats taken in different orders differ by a few units in the last place.
const SUM_TOLERANCE: f64 = 1e-9;

impl Units {
    /// The units of these points.
    pub fn of(points: &[PointUnits]) -> Self {
        let mut units = Self::default();
        for point in points {
            units.add_point(*point);
        }
        units
    }

    /// Adds one point.
    pub fn add_point(&mut self, point: PointUnits) {
        self.points += 1;
        match point {
            PointUnits::Counter(sum) => {
                self.counter_sum += sum;
                self.counter_magnitude += sum.abs();
            }
            PointUnits::Gauge(sets) => self.gauge_sets += sets,
            PointUnits::Timer(records) => self.timer_records = self.timer_records.saturating_add(records),
        }
    }

    /// Adds other amounts.
    pub fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.counter_sum += other.counter_sum;
        self.counter_magnitude += other.counter_magnitude;
        self.timer_records = self.timer_records.saturating_add(other.timer_records);
        self.gauge_sets += other.gauge_sets;
    }

    /// Takes amounts away that were added before.
    pub fn subtract(&mut self, other: &Self) {
        self.points = self.points.saturating_sub(other.points);
        self.counter_sum -= other.counter_sum;
        self.counter_magnitude -= other.counter_magnitude;
        self.timer_records = self.timer_records.saturating_sub(other.timer_records);
        self.gauge_sets = self.gauge_sets.saturating_sub(other.gauge_sets);
    }

    /// Whether both are the same amounts, points left aside. Counter sums may differ by a billionth
    /// of what was added up.
    pub fn same(&self, other: &Self) -> bool {
        let scale = self.counter_magnitude.abs().max(other.counter_magnitude.abs()).max(1.0);
        self.timer_records == other.timer_records
            && self.gauge_sets == other.gauge_sets
            && (self.counter_sum - other.counter_sum).abs() <= scale * SUM_TOLERANCE
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "points {} {}", self.points, self.without_points())
    }
}

/// Units for where points do not add up, because several become one.
struct WithoutPoints<'a>(&'a Units);

impl fmt::Display for WithoutPoints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Units { counter_sum, timer_records, gauge_sets, .. } = self.0;
        write!(f, "counter_sum {counter_sum} timer_records {timer_records} gauge_sets {gauge_sets}")
    }
}

impl Units {
    /// The same without the points.
    pub(crate) fn without_points(&self) -> impl fmt::Display + '_ {
        WithoutPoints(self)
    }
}

/// Amounts by a closed set of reasons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByReason(BTreeMap<&'static str, Units>);

impl ByReason {
    /// Adds amounts to a reason.
    pub fn add(&mut self, reason: &'static str, units: &Units) {
        self.0.entry(reason).or_default().add(units);
    }

    /// Adds all amounts of another tally.
    pub fn merge(&mut self, other: &Self) {
        for (reason, units) in &other.0 {
            self.add(reason, units);
        }
    }

    /// The amounts of one reason.
    pub fn of(&self, reason: &str) -> Units {
        self.0.get(reason).copied().unwrap_or_default()
    }

    /// The sum over all reasons.
    pub fn sum(&self) -> Units {
        let mut sum = Units::default();
        self.0.values().for_each(|units| sum.add(units));
        sum
    }

    /// Reasons and amounts, in the order of the reasons.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Units)> {
        self.0.iter().map(|(reason, units)| (*reason, units))
    }
}

impl fmt::Display for ByReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, (reason, units)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{reason}: {units}")?;
        }
        Ok(())
    }
}

/// The units of a body's points as the spool keeps them: a kind byte and a little-endian number each.
pub(crate) fn encode_units(points: &[PointUnits]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(points.len() * POINT_BYTES);
    for point in points {
        let (kind, number) = match *point {
            PointUnits::Counter(sum) => (0, sum.to_bits()),
            PointUnits::Gauge(sets) => (1, sets),
            PointUnits::Timer(records) => (2, records),
        };
        bytes.push(kind);
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Reads what [`encode_units`] wrote; `None` for anything else.
pub(crate) fn decode_units(bytes: &[u8]) -> Option<Vec<PointUnits>> {
    let (chunks, rest) = bytes.as_chunks::<POINT_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    chunks
        .iter()
        .map(|&[kind, a, b, c, d, e, f, g, h]| {
            let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            match kind {
                0 => Some(PointUnits::Counter(f64::from_bits(number))),
                1 => Some(PointUnits::Gauge(number)),
                2 => Some(PointUnits::Timer(number)),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [PointUnits; 3] =
        [PointUnits::Counter(-2.5), PointUnits::Gauge(1), PointUnits::Timer(u64::MAX)];

    #[test]
    fn units_survive_the_spool_and_damaged_ones_are_refused() {
        let bytes = encode_units(&POINTS);
        assert_eq!(decode_units(&bytes).unwrap(), POINTS);
        assert_eq!(decode_units(&bytes[1..]), None);
        assert_eq!(decode_units(&[3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(decode_units(&[]).unwrap(), []);
    }

    #[test]
    fn sums_add_and_subtract_and_compare_within_the_tolerance() {
        let mut units = Units::of(&POINTS);
        assert_eq!((units.points, units.counter_sum, units.counter_magnitude), (3, -2.5, 2.5));
        assert_eq!((units.gauge_sets, units.timer_records), (1, u64::MAX));
        units.subtract(&Units::of(&POINTS[..1]));
        assert!(units.same(&Units::of(&POINTS[1..])));
        units.add_point(PointUnits::Counter(1e-12));
        assert!(units.same(&Units::of(&POINTS[1..])));
        units.add_point(PointUnits::Counter(0.001));
        assert!(!units.same(&Units::of(&POINTS[1..])));
    }

    #[test]
    fn reasons_are_kept_apart_and_summed() {
        let mut tally = ByReason::default();
        tally.add("too_old", &Units::of(&POINTS[..1]));
        tally.add("bad_name", &Units::of(&POINTS[1..2]));
        tally.add("too_old", &Units::of(&POINTS[..1]));
        assert_eq!(tally.of("too_old").counter_sum, -5.0);
        assert_eq!(tally.of("other").points, 0);
        assert_eq!(tally.sum().points, 3);
        assert_eq!(tally.iter().map(|(reason, _)| reason).collect::<Vec<_>>(), ["bad_name", "too_old"]);
    }
}
