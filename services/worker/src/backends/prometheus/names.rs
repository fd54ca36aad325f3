//! Names of families and samples.

use zibrato_core::kind::Kind;

use super::units::Unit;
use crate::measurement::SeriesKey;

/// What the name of a sample of a counter ends in.
const TOTAL: &str = "_total";

/// All series of one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    /// Counter, gauge or timer.
    pub(super) kind: Kind,
    /// The name as OpenMetrics has it: without `_total`.
    pub(super) name: String,
    /// Unit and scale.
    pub(super) unit: Unit,
}

impl Family {
    /// The family that a series belongs to.
    pub(super) fn of(series: &SeriesKey) -> Self {
        let mut name = spell(&series.name);
        let is_counter = series.kind == Kind::Counter;
        if is_counter && let Some(bare) = name.strip_suffix(TOTAL).filter(|bare| !bare.is_empty()) {
            name.truncate(bare.len());
        }
        let unit = if series.kind == Kind::Timer { Unit::seconds() } else { Unit::of(&series.unit) };
        if !unit.word.is_empty() && name != unit.word && !ends_in(&name, &unit.word) {
            name.push('_');
            name.push_str(&unit.word);
        }
        Self { kind: series.kind, name, unit }
    }

    /// The name of its samples; those of a timer have more behind it.
    pub(super) fn sample(&self) -> String {
        if self.kind == Kind::Counter { format!("{}{TOTAL}", self.name) } else { self.name.clone() }
    }

    /// The unit, if the name ends in it.
    pub(super) fn known_unit(&self) -> Option<&str> {
        Some(&*self.unit.word).filter(|word| !word.is_empty() && ends_in(&self.name, word))
    }

    /// Every name that no other family may have.
    pub(super) fn claims(&self) -> Vec<String> {
        let name = &self.name;
        match self.kind {
            Kind::Counter => vec![name.clone(), self.sample()],
            Kind::Gauge => vec![name.clone()],
            Kind::Timer => {
                vec![name.clone(), format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count")]
            }
        }
    }
}

/// A line about a metric of this name, which families of all stores say alike.
pub(super) fn help(series: &SeriesKey) -> String {
    let (kind, name) = (series.kind.as_str(), &series.name);
    match (series.kind, &series.unit[..]) {
        (Kind::Timer, _) | (_, "") => format!("The {kind} {name} of zibrato."),
        (_, unit) => format!("The {kind} {name} of zibrato, declared in {unit}."),
    }
}

/// The text with letters, digits and underscores alone, beginning with none of the digits. Colons are for rules of the
/// server's own.
pub(super) fn spell(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len() + 1);
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        spelled.push('_');
    }
    spelled.extend(text.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }));
    spelled
}

fn ends_in(name: &str, word: &str) -> bool {
    name.strip_suffix(word).is_some_and(|rest| rest.len() > 1 && rest.ends_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(kind: Kind, name: &str, unit: &str) -> Family {
        Family::of(&SeriesKey {
            level: "info".into(),
            kind,
            name: name.to_owned(),
            source: "web".into(),
            unit: unit.to_owned(),
            tags: Vec::new(),
        })
    }

    #[test]
    fn names_follow_kind_and_unit() {
        use Kind::{Counter, Gauge, Timer};
        for (kind, name, unit, expected, sample) in [
            (Counter, "web.requests", "", "web_requests", "web_requests_total"),
            (Counter, "requests_total", "", "requests", "requests_total"),
            (Counter, "total", "", "total", "total_total"),
            (Counter, "_total", "", "_total", "_total_total"),
            (Counter, "net.rx.bytes", "B", "net_rx_bytes", "net_rx_bytes_total"),
            (Counter, "rx.bytes.total", "KiB", "rx_bytes", "rx_bytes_total"),
            (Counter, "cpu", "ms", "cpu_seconds", "cpu_seconds_total"),
            (Gauge, "queue-depth:now", "", "queue_depth_now", "queue_depth_now"),
            (Gauge, "bytes", "B", "bytes", "bytes"),
            (Gauge, "disk", "%", "disk_ratio", "disk_ratio"),
            (Gauge, "speed", "req/s", "speed_req_per_s", "speed_req_per_s"),
            (Gauge, "4xx", "", "_4xx", "_4xx"),
            (Gauge, "items_total", "", "items_total", "items_total"),
            (Gauge, "megabytes", "B", "megabytes_bytes", "megabytes_bytes"),
            (Timer, "db.query", "", "db_query_seconds", "db_query_seconds"),
            (Timer, "db.query", "ms", "db_query_seconds", "db_query_seconds"),
            (Timer, "lat_seconds", "s", "lat_seconds", "lat_seconds"),
        ] {
            let family = family(kind, name, unit);
            assert_eq!((&family.name[..], &family.sample()[..]), (expected, sample), "{name} {unit}");
            assert!(!family.name.contains(|char: char| !char.is_ascii_alphanumeric() && char != '_'));
        }
    }

    #[test]
    fn a_unit_is_told_only_if_the_name_ends_in_it() {
        let unit = |name: &str, unit: &str| family(Kind::Gauge, name, unit).known_unit().map(str::to_owned);
        assert_eq!(unit("size", "B").as_deref(), Some("bytes"));
        assert_eq!(unit("speed", "req/s").as_deref(), Some("req_per_s"));
        assert_eq!(unit("bytes", "B"), None);
        assert_eq!(unit("size", ""), None);
        assert_eq!(family(Kind::Timer, "t", "").known_unit(), Some("seconds"));
    }

    #[test]
    fn help_names_the_metric_as_it_was_declared() {
        let help = |kind, unit: &str| {
            let tags = Vec::new();
            let (level, name, source) = ("info".into(), "a.b".to_owned(), "s".into());
            help(&SeriesKey { level, kind, name, source, unit: unit.to_owned(), tags })
        };
        assert_eq!(help(Kind::Counter, ""), "The counter a.b of zibrato.");
        assert_eq!(help(Kind::Gauge, "KiB"), "The gauge a.b of zibrato, declared in KiB.");
        assert_eq!(help(Kind::Timer, "ms"), "The timer a.b of zibrato.");
    }
}
