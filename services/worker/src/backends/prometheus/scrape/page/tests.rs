use std::sync::Arc;

use prost::Message as _;

use super::super::super::buckets::Bounds;
use super::super::super::client_proto::{self as proto, Histogram, MetricFamily};
use super::super::super::labels::Fixed;
use super::super::super::test_support::{FLUSH, counted, declared, set, settings, timed};
use super::super::text::Text;
use super::super::{LIMITS, body, protobuf, text};
use super::*;
use crate::backend::Content;
use crate::measurement::{Measurement, SeriesKey};

fn plain() -> Settings {
    Settings { fixed: Fixed::new(Vec::new()), ..settings(false) }
}

fn tell(page: &mut Page, settings: &Settings, measurements: &[Measurement], expired: &[Arc<SeriesKey>]) {
    for body in body::encode(&Content { measurements, expired, flush: FLUSH }, settings, &LIMITS).bodies {
        for change in body::read(&body.bytes).unwrap().1 {
            page.apply(change, settings);
        }
    }
}

fn page(measurements: &[Measurement]) -> Page {
    let mut page = Page::default();
    tell(&mut page, &plain(), measurements, &[]);
    page
}

fn families(page: &Page, settings: &Settings) -> Vec<MetricFamily> {
    let bytes = protobuf::write(page, settings);
    let mut rest = &bytes[..];
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

fn all() -> Vec<Measurement> {
    vec![
        timed("db.query", &[0, 500_000, 2_000_000, 5_000_000_000]),
        declared(counted("rx", 1.0, 3.0), "KiB", &[("if", "a\"b\\c")]),
        declared(counted("rx", 1.0, 0.5), "KiB", &[("if", "a")]),
        set("depth", 1e300),
        set("empty", f64::NAN),
        counted("hits", 1.0, 41.0),
    ]
}

#[test]
fn openmetrics_reads_byte_for_byte_as_its_standard_says() {
    let expected = r##"# HELP db_query_seconds The timer db.query of zibrato.
# TYPE db_query_seconds histogram
# UNIT db_query_seconds seconds
db_query_seconds_bucket{level="info",source="web",le="0.001"} 2
db_query_seconds_bucket{level="info",source="web",le="1.0"} 3
db_query_seconds_bucket{level="info",source="web",le="+Inf"} 4
db_query_seconds_count{level="info",source="web"} 4
db_query_seconds_sum{level="info",source="web"} 5.0025
# HELP depth The gauge depth of zibrato.
# TYPE depth gauge
depth{level="info",source="web"} 1e300
# HELP empty The gauge empty of zibrato.
# TYPE empty gauge
empty{level="info",source="web"} NaN
# HELP hits The counter hits of zibrato.
# TYPE hits counter
hits_total{level="info",source="web"} 41
# HELP rx_bytes The counter rx of zibrato, declared in KiB.
# TYPE rx_bytes counter
# UNIT rx_bytes bytes
rx_bytes_total{if="a",level="info",source="web"} 512
rx_bytes_total{if="a\"b\\c",level="info",source="web"} 3072
# EOF
"##;
    assert_eq!(text::write(&page(&all()), &plain(), Text::OpenMetrics), expected);
    let mut reversed = all();
    reversed.reverse();
    assert_eq!(text::write(&page(&reversed), &plain(), Text::OpenMetrics), expected, "the order is fixed");
    assert_eq!(text::write(&Page::default(), &plain(), Text::OpenMetrics), "# EOF\n");
}

#[test]
fn the_text_format_names_counters_by_their_samples_and_knows_no_units() {
    let page = page(&[declared(counted("rx", 1.0, 3.0), "B", &[])]);
    assert_eq!(
        text::write(&page, &plain(), Text::Prometheus),
        "# HELP rx_bytes_total The counter rx of zibrato, declared in B.\n# TYPE rx_bytes_total counter\n\
         rx_bytes_total{level=\"info\",source=\"web\"} 3\n"
    );
    assert_eq!(text::write(&Page::default(), &plain(), Text::Prometheus), "");
}

#[test]
fn a_counter_below_zero_makes_its_family_one_of_unknown_type() {
    let page = page(&[
        declared(counted("rx", 1.0, -3.0), "B", &[]),
        declared(counted("rx", 1.0, 2.0), "B", &[("k", "v")]),
    ]);
    let open = text::write(&page, &plain(), Text::OpenMetrics);
    assert!(open.contains("# TYPE rx_bytes_total unknown\nrx_bytes_total{k=\"v\""), "{open}");
    assert!(open.contains("} -3\n") && !open.contains("UNIT"), "{open}");
    assert!(text::write(&page, &plain(), Text::Prometheus).contains("# TYPE rx_bytes_total untyped\n"));
    let family = &families(&page, &plain())[0];
    assert_eq!((family.kind, family.metric[1].untyped.unwrap().value), (Some(proto::UNTYPED), Some(-3.0)));
}

#[test]
fn protobuf_says_the_same() {
    let families = families(&page(&all()), &plain());
    let names: Vec<_> =
        families.iter().map(|family| (family.name.as_deref().unwrap(), family.kind.unwrap())).collect();
    assert_eq!(
        names,
        [
            ("db_query_seconds", proto::HISTOGRAM),
            ("depth", proto::GAUGE),
            ("empty", proto::GAUGE),
            ("hits_total", proto::COUNTER),
            ("rx_bytes_total", proto::COUNTER)
        ]
    );
    let Histogram { sample_count, sample_sum, bucket, schema, .. } =
        families[0].metric[0].histogram.clone().unwrap();
    assert_eq!((sample_count, sample_sum, schema), (Some(4), Some(5.0025), None));
    let buckets: Vec<_> =
        bucket.iter().map(|bucket| (bucket.upper_bound.unwrap(), bucket.cumulative_count.unwrap())).collect();
    assert_eq!(buckets, [(0.001, 2), (1.0, 3)]);
    assert_eq!(families[1].metric[0].gauge.unwrap().value, Some(1e300));
    let rx = &families[4];
    assert_eq!((rx.unit.as_deref(), rx.metric[1].counter.unwrap().value), (Some("bytes"), Some(3_072.0)));
    let label = &rx.metric[1].label[0];
    assert_eq!((label.name.as_deref(), label.value.as_deref()), (Some("if"), Some("a\"b\\c")));
}

#[test]
fn native_histograms_are_in_protobuf_and_text_has_classic_ones() {
    let settings = Settings { is_native: true, ..plain() };
    let mut page = Page::default();
    tell(&mut page, &settings, &[timed("lat", &[0, 1_000_000_000])], &[]);
    let histogram = families(&page, &settings)[0].metric[0].histogram.clone().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema, histogram.zero_count), (Some(2), Some(5), Some(1)));
    assert_eq!((histogram.positive_delta, histogram.bucket.len()), (vec![1], 0));
    assert!(text::write(&page, &settings, Text::OpenMetrics).contains("lat_seconds_bucket{"));
}

#[test]
fn a_change_takes_the_place_of_the_last_and_what_expired_is_gone() {
    let settings = plain();
    let mut page = page(&[counted("hits", 1.0, 1.0), set("depth", 1.0)]);
    tell(&mut page, &settings, &[counted("hits", 4.0, 5.0)], &[]);
    let open = text::write(&page, &settings, Text::OpenMetrics);
    assert!(
        open.contains("hits_total{level=\"info\",source=\"web\"} 5\n") && open.contains("depth{"),
        "{open}"
    );
    let gone = [set("depth", 0.0), set("never", 0.0)].map(|measurement| measurement.series);
    tell(&mut page, &settings, &[], &gone);
    assert!(!text::write(&page, &settings, Text::OpenMetrics).contains("depth"));
}

#[test]
fn of_series_that_become_equal_one_is_shown_whichever_comes_first() {
    let settings = plain();
    let (dash, dot) = (counted("a-b", 1.0, 1.0), counted("a.b", 2.0, 2.0));
    for order in [[&dash, &dot], [&dot, &dash]] {
        let mut page = Page::default();
        for measurement in order {
            tell(&mut page, &settings, std::slice::from_ref(measurement), &[]);
        }
        let open = text::write(&page, &settings, Text::OpenMetrics);
        assert!(open.contains("# HELP a_b The counter a-b of zibrato.\n"), "{open}");
        assert!(open.contains("a_b_total{level=\"info\",source=\"web\"} 1\n# EOF"), "{open}");
        tell(&mut page, &settings, &[], &[Arc::clone(&dot.series)]);
        assert!(
            text::write(&page, &settings, Text::OpenMetrics).contains("} 1\n"),
            "its own is not forgotten"
        );
    }
}

#[test]
fn families_that_would_share_a_name_are_not_both_shown() {
    let settings = Settings { bounds: Bounds::parse("1").unwrap(), ..plain() };
    let measurements = [
        counted("x", 1.0, 1.0),
        set("x", 2.0),
        set("x_total", 3.0),
        timed("y", &[1]),
        set("y_seconds_sum", 4.0),
    ];
    let mut page = Page::default();
    for measurement in &measurements {
        tell(&mut page, &settings, std::slice::from_ref(measurement), &[]);
    }
    let open = text::write(&page, &settings, Text::OpenMetrics);
    let types: Vec<_> = open.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(types, ["# TYPE x counter", "# TYPE y_seconds histogram"]);
    assert_eq!(families(&page, &settings).len(), 2);
    // When one of them is forgotten the other one comes.
    tell(
        &mut page,
        &settings,
        &[],
        &[Arc::clone(&measurements[0].series), Arc::clone(&measurements[3].series)],
    );
    let names: Vec<_> = families(&page, &settings).into_iter().filter_map(|family| family.name).collect();
    assert_eq!(names, ["x", "x_total", "y_seconds_sum"]);
    let gone: Vec<_> = measurements.iter().map(|measurement| Arc::clone(&measurement.series)).collect();
    tell(&mut page, &settings, &[], &gone);
    assert!(page.families.is_empty() && page.claims.is_empty());
}
