//! A device's gauge as a native series.

/// Sets and the value set last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauge {
    /// What the device said last, wrapping.
    said: u32,
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
    /// It was set to what is no number, or infinite; the sets count all the same, for a gateway that is
    /// restarted knows their sum alone.
    NotFinite,
}

impl Gauge {
    pub(crate) fn apply(&mut self, sets: u32, value: f64, at_ms: u64) -> Set {
        let more = sets.wrapping_sub(std::mem::replace(&mut self.said, sets));
        self.sets = self.sets.wrapping_add(more.into());
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
    fn sets_widen_and_what_is_not_finite_leaves_the_value() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.apply(0, 0.0, 1), Set::Not);
        assert_eq!(gauge.last, None);
        assert_eq!(gauge.apply(u32::MAX, -1.5, 2), Set::To);
        assert_eq!(gauge.apply(u32::MAX, 7.0, 3), Set::Not, "not set, whatever stands there");
        assert_eq!(gauge.apply(2, f64::NAN, 4), Set::NotFinite);
        assert_eq!(gauge.apply(3, f64::INFINITY, 5), Set::NotFinite);
        assert_eq!((gauge.sets, gauge.last), ((1 << 32) + 3, Some((-1.5, 2))));
        gauge.rebase();
        assert_eq!((gauge.sets, gauge.last), (0, None));
        assert_eq!(gauge.apply(4, 8.0, 6), Set::To);
        assert_eq!((gauge.sets, gauge.last), (1, Some((8.0, 6))));
    }
}
