use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::backends::statsd::Address;
use crate::measurement::GaugePoint;
use crate::merge::units_of;
use crate::numbers::Chosen;
use crate::test_support::{counter, gauge, raw_timer, timer};

const FLUSH: FlushTime = FlushTime { unix_ms: 1_700_000_060_250, interval: Duration::from_secs(10) };
const LIMITS: Limits = Limits {
    points_max: 2_000,
    body_bytes_max: 65_536,
    age_max: Duration::from_secs(60),
    points_per_series_max: 1,
};

fn config() -> StatsdConfig {
    StatsdConfig {
        address: Address::Udp("127.0.0.1:8125".to_owned()),
        chosen: Chosen { percentiles: vec![50.0, 99.9], rates: false },
        ..StatsdConfig::default()
    }
}

fn samples() -> StatsdConfig {
    StatsdConfig { timers: Timers::Samples, ..config() }
}

fn encode_with(config: &StatsdConfig, limits: &Limits, measurements: &[Measurement]) -> Encoded {
    let encoded = encode(&Content { measurements, expired: &[], flush: FLUSH }, config, limits);
    let mut told = encoded.refused.sum();
    for body in &encoded.bodies {
        assert_eq!(body.points.len(), body::points(&body.bytes).unwrap().len());
        told.add(&Units::of(&body.points));
    }
    assert!(told.same(&units_of(measurements)), "{told} of {}", units_of(measurements));
    encoded
}

fn text(config: &StatsdConfig, measurements: &[Measurement]) -> String {
    let encoded = encode_with(config, &LIMITS, measurements);
    encoded.bodies.iter().map(|body| String::from_utf8(body.bytes.clone()).unwrap()).collect()
}

fn with_tags(mut measurement: Measurement, tags: &[(&str, &str)]) -> Measurement {
    Arc::make_mut(&mut measurement.series).tags =
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    measurement
}

/// How many records a server counts that adds up 1 / rate.
fn counted(text: &str) -> f64 {
    text.split('\n')
        .filter(|line| line.contains("|ms"))
        .map(|line| line.split_once("|@").map_or(1.0, |(_, rate)| 1.0 / rate.parse::<f64>().unwrap()))
        .sum()
}

#[test]
fn counters_are_deltas_without_exponent() {
    let all = [5.0, -1.5, 0.0, -0.0, 1e21, 1e-7, 9_007_199_254_740_993.0]
        .map(|delta| counter("info", "hits", "not_specified", delta));
    assert_eq!(
        text(&config(), &all),
        "hits:5|c\n\nhits:-1.5|c\n\nhits:0|c\n\nhits:0|c\n\nhits:1000000000000000000000|c\n\n\
         hits:0.0000001|c\n\nhits:9007199254740992|c\n\n"
    );
    let rates = StatsdConfig { chosen: Chosen { rates: true, ..Chosen::default() }, ..config() };
    assert_eq!(
        text(&rates, &[counter("info", "hits", "web", -5.0)]),
        "hits.source.web:-5|c\nhits.source.web.rate:0|g\rhits.source.web.rate:-0.5|g\n\n"
    );
}

#[test]
fn a_negative_gauge_is_set_to_zero_first_in_the_same_unit() {
    let all = [5.5, -5.0, 0.0, -0.0].map(|value| gauge("info", "depth", "not_specified", &[(1, value)]));
    assert_eq!(text(&config(), &all), "depth:5.5|g\n\ndepth:0|g\rdepth:-5|g\n\ndepth:0|g\n\ndepth:0|g\n\n");
}

#[test]
fn dogstatsd_lines_end_in_tags() {
    let config = StatsdConfig { dialect: Dialect::Dogstatsd, timers: Timers::Samples, ..config() };
    let all = [
        with_tags(counter("info", "hits", "web", 2.0), &[("az", "e")]),
        gauge("info", "depth", "web", &[(1, -1.0)]),
        timer("info", "lat", "web", &[1_500_000; 65]),
    ];
    assert_eq!(
        text(&config, &all),
        "hits:2|c|#source:web,az:e\n\ndepth:0|g|#source:web\rdepth:-1|g|#source:web\n\n\
         lat:1.5|ms|@0.015625|#source:web\nlat:1.5|ms|#source:web\n\n"
    );
}

#[test]
fn percentiles_are_gauges_in_seconds_and_what_adds_up_are_counters() {
    let lat = timer("info", "lat", "not_specified", &[1_000_000_000, 3_000_000_000]);
    let text = text(&config(), &[lat]);
    let lines: Vec<_> = text.trim_end().split('\n').collect();
    assert_eq!(lines[..5], ["lat.count:2|c", "lat.sum:4|c", "lat.min:1|g", "lat.max:3|g", "lat.mean:2|g"]);
    assert!(lines[5].starts_with("lat.p50:1") && lines[6].starts_with("lat.p99_9:"), "{text}");
    assert_eq!(lines.len(), 7);
}

#[test]
fn few_samples_are_one_line_each_without_a_rate() {
    let lat = timer("info", "lat", "not_specified", &[0, 2_000_000, 2_000_000, 123_456_789_000]);
    let text = text(&samples(), &[lat]);
    let lines: Vec<_> = text.trim_end().split('\n').collect();
    assert_eq!(lines[0], "lat:0|ms");
    assert_eq!((lines.len(), lines[1]), (4, lines[2]));
    let value = |line: &str| line["lat:".len()..].split('|').next().unwrap().parse::<f64>().unwrap();
    assert!((value(lines[1]) - 2.0).abs() < 0.025, "{text}");
    assert!((value(lines[3]) / 123_456.789 - 1.0).abs() < 0.012 && value(lines[3]) <= 123_456.789, "{text}");
}

#[test]
fn rated_samples_count_to_the_unit() {
    for count in (1..300).chain([1_000, 4_095, 65_537, 1_000_003]) {
        let mut lat = timer("info", "lat", "web", &[2_000_000]);
        let Value::Timer(delta) = &mut lat.value else { panic!() };
        delta.histogram.record_ns(0, count / 3);
        delta.histogram.record_ns(7_000_000, count - count / 3);
        (delta.count, delta.min_ns, delta.max_ns) = (count + 1, 0, 7_000_000);
        let text = text(&samples(), &[lat]);
        assert_eq!(counted(&text), (count + 1) as f64);
        // The same in single precision, which some servers use.
        let rates = text.split("|@").skip(1).map(|rest| rest.split('\n').next().unwrap());
        assert!(rates.map(|rate| 1.0 / rate.parse::<f32>().unwrap()).all(|weight| weight.fract() == 0.0));
        assert!(!text.contains('e') || !text.contains("|@1"), "{text}");
        assert!(text.split('\n').count() <= 66, "{count}");
    }
}

#[test]
fn a_timer_whose_buckets_are_missing_counts_all_the_same() {
    for (buckets, count) in [(0, 5_u64), (3, 5), (3, 1_000), (900, 70)] {
        let mut lat = timer("info", "lat", "web", &vec![2_000_000; buckets]);
        let Value::Timer(delta) = &mut lat.value else { panic!() };
        (delta.count, delta.sum_ns) = (count, u128::from(count) * 2_000_000);
        (delta.min_ns, delta.max_ns) = (2_000_000, 2_000_000);
        let text = text(&samples(), &[lat]);
        assert_eq!(counted(&text), count as f64, "{text}");
        assert!(
            text.lines().all(|line| line.is_empty() || line.starts_with("lat.source.web:2|ms")),
            "{text}"
        );
    }
}

#[test]
fn timers_of_extreme_counts_and_durations_stay_numbers() {
    let mut lat = timer("info", "lat", "web", &[1, u64::MAX]);
    let Value::Timer(delta) = &mut lat.value else { panic!() };
    delta.histogram = Histogram::from_parts(-10, u64::MAX - 2, -1, [1, 1]);
    (delta.count, delta.min_ns) = (u64::MAX, 0);
    let text = text(&samples(), &[lat]);
    assert_eq!(counted(&text), u64::MAX as f64);
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
}

#[test]
fn what_the_server_could_not_read_is_left_out_and_counted() {
    let long = "x".repeat(200);
    let mut nothing = timer("info", "lat", "web", &[1]);
    let Value::Timer(delta) = &mut nothing.value else { panic!() };
    delta.count = 0;
    let config = StatsdConfig { mtu: Some(128), ..config() };
    let encoded = encode_with(
        &config,
        &LIMITS,
        &[
            gauge("info", "a", "web", &[(1, f64::NAN)]),
            gauge("info", "b", "web", &[(1, f64::INFINITY)]),
            gauge("info", "c", "web", &[(1, f64::NEG_INFINITY), (2, 1.0)]),
            counter("info", &long, "web", 3.0),
            timer("info", &long, "web", &[1, 2]),
            nothing,
        ],
    );
    assert_eq!(encoded.bodies.len(), 1);
    assert_eq!(encoded.bodies[0].bytes, b"c.source.web:1|g\n\n");
    let reasons: Vec<_> = encoded.refused.iter().map(|(reason, units)| (reason, units.points)).collect();
    assert_eq!(reasons, [("line_too_long", 2), ("not_finite", 3), ("zero_count", 1)]);
    // A sum that is no number adds up with nothing, so this one is apart.
    let sum = counter("info", "a", "web", f64::NAN);
    let content = Content { measurements: &[sum], expired: &[], flush: FLUSH };
    let encoded = encode(&content, &config, &LIMITS);
    assert_eq!((encoded.bodies.len(), encoded.refused.of("not_finite").points), (0, 1));
    // A stream has no packets that a line could be too long for.
    let tcp = StatsdConfig { address: Address::Tcp("127.0.0.1:8125".to_owned()), ..config };
    assert_eq!(encode_with(&tcp, &LIMITS, &[counter("info", &long, "web", 3.0)]).bodies.len(), 1);
}

#[test]
fn a_line_of_exactly_the_mtu_is_sent_and_a_pair_counts_whole() {
    let mtu = |mtu| StatsdConfig { mtu: Some(mtu), ..config() };
    let pair = [gauge("info", "depth", "not_specified", &[(1, -5.0)])];
    let bytes = "depth:0|g\ndepth:-5|g".len();
    assert_eq!(encode_with(&mtu(bytes), &LIMITS, &pair).bodies.len(), 1);
    assert_eq!(encode_with(&mtu(bytes - 1), &LIMITS, &pair).refused.of("line_too_long").gauge_sets, 1);
}

#[test]
fn bodies_end_at_their_points_and_bytes() {
    let many: Vec<_> = (0..5).map(|at| counter("info", &format!("n{at}"), "not_specified", 1.0)).collect();
    let lengths = |limits| {
        let bodies = encode_with(&config(), &limits, &many).bodies;
        bodies.iter().map(|body| (body.points.len(), body.bytes.len())).collect::<Vec<_>>()
    };
    assert_eq!(lengths(Limits { points_max: 2, ..LIMITS }), [(2, 16), (2, 16), (1, 8)]);
    assert_eq!(lengths(Limits { body_bytes_max: 31, ..LIMITS }), [(3, 24), (2, 16)]);
    // A point that is larger than the limit still goes, alone.
    assert_eq!(lengths(Limits { body_bytes_max: 1, ..LIMITS }), [(1, 8); 5]);
    assert!(encode_with(&config(), &LIMITS, &[]).bodies.is_empty());
}

#[test]
fn series_that_become_equal_are_counted_once_each() {
    let clashes = |config: &StatsdConfig, all: &[Measurement]| encode_with(config, &LIMITS, all).clashes;
    let dog = StatsdConfig { dialect: Dialect::Dogstatsd, ..config() };
    let (a, b) = (counter("info", "a:b", "web", 1.0), counter("info", "a_b", "web", 1.0));
    assert_eq!(clashes(&config(), &[a.clone(), b.clone()]), 1);
    assert_eq!(clashes(&dog, &[a.clone(), b.clone()]), 1);
    assert_eq!(clashes(&config(), &[a, gauge("info", "a_b", "web", &[(1, 1.0)])]), 0, "types are apart");
    let (lat, count) = (timer("info", "lat", "web", &[1]), counter("info", "lat", "web", 1.0));
    assert_eq!(clashes(&config(), &[lat.clone(), count.clone()]), 0);
    assert_eq!(
        clashes(&config(), &[lat.clone(), gauge("info", "lat.source.web.p50", "not_specified", &[(1, 1.0)])]),
        1
    );
    assert_eq!(clashes(&samples(), &[lat, raw_timer("info", "lat", "web", &[(1, 0.5)])]), 0, "one series");
    let upper = with_tags(count.clone(), &[("k", "V")]);
    let lower = with_tags(count, &[("k", "v")]);
    assert_eq!(clashes(&dog, &[upper.clone(), lower.clone()]), 1, "Datadog's tags have no case");
    assert_eq!(clashes(&config(), &[upper, lower]), 0);
}

#[test]
fn legacy_timers_that_come_one_by_one_are_lines() {
    let mut raw = raw_timer("info", "lat", "not_specified", &[(1, 0.5)]);
    let Value::RawTimer { points } = &mut raw.value else { panic!() };
    points.push(GaugePoint { time_ms: 2, value: 0.25 });
    assert_eq!(text(&config(), &[raw]), "lat:500|ms\n\nlat:250|ms\n\n");
}
