//! A device's gauge as a native series.

/// Sets and the value set last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauge {
    /// What the device said last.
    said: u64,
    pub(crate) sets: u64,
    /// Value and unix milliseconds; none if nothing finite was set since our zero.
    pub(crate) last: Option<(f64, u64)>,
}

/// What a state of a gauge brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Set {
    /// It was not set since.
    Not,
    /// It was.
    To,
    /// It is said to have been set less often than before.
    Back,
    /// It was set to what is no number, or infinite; the sets count all the same, for a gateway that is
    /// restarted knows their sum alone.
    NotFinite,
}

impl Gauge {
    pub(crate) fn apply(&mut self, sets: u64, value: f64, at_ms: u64) -> Set {
        let more = sets.wrapping_sub(self.said);
        if (more as i64) < 0 {
            return Set::Back;
        }
        self.said = sets;
        self.sets = self.sets.wrapping_add(more);
        if more == 0 {
            return Set::Not;
        }
        if !value.is_finite() {
            return Set::NotFinite;
        }
        self.last = Some((value, at_ms));
        Set::To
    }

    pub(crate) const fn rebase(&mut self) {
        (self.sets, self.last) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_leaves_the_value() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.apply(0, 0.0, 1), Set::Not);
        assert_eq!(gauge.last, None);
        assert_eq!(gauge.apply(5, -1.5, 2), Set::To);
        assert_eq!(gauge.apply(5, 7.0, 3), Set::Not, "not set, whatever stands there");
        assert_eq!(gauge.apply(6, f64::NAN, 4), Set::NotFinite);
        assert_eq!(gauge.apply(9, f64::INFINITY, 5), Set::NotFinite);
        assert_eq!(gauge.apply(8, 1.0, 5), Set::Back);
        assert_eq!((gauge.sets, gauge.last), (9, Some((-1.5, 2))));
        gauge.rebase();
        assert_eq!((gauge.sets, gauge.last), (0, None));
        assert_eq!(gauge.apply(10, 8.0, 6), Set::To);
        assert_eq!((gauge.sets, gauge.last), (1, Some((8.0, 6))));
    }
}
