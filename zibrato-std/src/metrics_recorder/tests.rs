use super::*;

#[test]
fn a_rule_fits_a_target_and_what_is_below_it_and_the_longest_counts() {
    let recorder = MetricsRecorder::new()
        .level("hyper", Level::WARNING)
        .level("hyper::client::pool", Level::TRACE)
        .level("hyper::client", Level::ERROR)
        .level("hyper::client", Level::DEBUG);
    let level = |target| recorder.level_of(&Metadata::new(target, metrics::Level::INFO, None));
    assert_eq!(level("hyper"), Level::WARNING);
    assert_eq!(level("hyper::server"), Level::WARNING);
    assert_eq!(level("hyper::client"), Level::DEBUG);
    assert_eq!(level("hyper::client::pool::idle"), Level::TRACE);
    assert_eq!(level("hyper_util::client"), Level::INFO);
    assert_eq!(level("my::hyper"), Level::INFO);
}

#[test]
fn without_a_rule_the_metrics_own_level_counts_unless_there_is_a_default() {
    let plain = MetricsRecorder::new();
    let strict = MetricsRecorder::new().default_level(Level::CRITICAL);
    for (theirs, ours) in [
        (metrics::Level::TRACE, Level::TRACE),
        (metrics::Level::DEBUG, Level::DEBUG),
        (metrics::Level::INFO, Level::INFO),
        (metrics::Level::WARN, Level::WARNING),
        (metrics::Level::ERROR, Level::ERROR),
    ] {
        let metadata = Metadata::new("t", theirs, None);
        assert_eq!(plain.level_of(&metadata), ours);
        assert_eq!(strict.level_of(&metadata), Level::CRITICAL);
    }
}

#[test]
fn a_unit_counts_until_its_first_use() {
    let units = Units::default();
    units.describe(Kind::Timer, "u", Some(Unit::Bytes));
    units.describe(Kind::Counter, "u", Some(Unit::Count));
    units.describe(Kind::Timer, "u", Some(Unit::Milliseconds));
    units.describe(Kind::Timer, "u", None);
    let first = units.of(Kind::Timer, "u");
    assert_eq!((first.unit, first.is_first), (Some(Unit::Milliseconds), true));
    units.describe(Kind::Timer, "u", Some(Unit::Bytes));
    let again = units.of(Kind::Timer, "u");
    assert_eq!((again.unit, again.is_first), (Some(Unit::Milliseconds), false));
}

#[test]
fn beyond_the_limit_keys_share_one_handle_a_level_that_keeps_the_total() {
    let handles = AddOnlyMap::new();
    let made = std::cell::Cell::new(0);
    let make = |key: &Key, _| {
        made.set(made.get() + 1);
        key.name().to_owned()
    };
    let get = |name: String, level| shared(&handles, Kind::Counter, &Key::from_name(name), level, make);
    for i in 0..RUN_TIME_METRICS_MAX {
        assert_eq!(get(format!("k{i}"), Level::INFO), format!("k{i}"));
    }
    for i in 0..3 {
        assert_eq!(get(format!("more{i}"), Level::INFO), "zibrato.overflow.counter");
        assert_eq!(get(format!("more{i}"), Level::DEBUG), "zibrato.overflow.counter");
    }
    assert_eq!(get("k7".to_owned(), Level::INFO), "k7");
    assert_eq!(made.get(), RUN_TIME_METRICS_MAX + 2);
    assert_eq!(remembered(&handles, &Key::from_name("new"), Level::INFO, make), None);
}
