use std::prelude::v1::*;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::{EncodeError, topic};
use super::*;

const ID: PublisherId = PublisherId(*b"0123456789abcdef");
const TIME_NS: u64 = 1_700_000_000_000_000_000;
/// Where the body of an example starts: behind `0x04 "info" 0x00` and the header.
const BODY_AT: usize = 6 + SAMPLES_HEADER_BYTES;

fn metrics() -> Vec<SampleMetric<'static>> {
    let mut latency = SampleMetric::new(Kind::Timer, "web.latency");
    latency.tags.push(("route", "/api")).unwrap();
    latency.tags.push(("verb", "GET")).unwrap();
    let depth = SampleMetric { source: "own", unit: "jobs", ..SampleMetric::new(Kind::Gauge, "queue.depth") };
    vec![latency, depth, SampleMetric::new(Kind::Counter, "web.requests")]
}

fn samples() -> Vec<Sample> {
    let timer = |ns| SampleValue::Timer { ns };
    let gauge = |value| SampleValue::Gauge { value };
    let values = [
        (0, 0, timer(41_300)),
        (0, 0, timer(0)),
        (1, 250, gauge(17.0)),
        (1, 1_000, gauge(-3.0)),
        (1, 1_000, gauge(0.25)),
        (2, 2_000_000, SampleValue::Counter { increment: 5 }),
        (0, 2_000_001, timer(u64::MAX)),
    ];
    values.map(|(metric, after, value)| Sample { metric, time_ns: TIME_NS + after, value }).to_vec()
}

/// A frame with these samples, whose metrics are added when they are needed first.
fn encode(metrics: &[SampleMetric<'_>], samples: &[Sample], buffer: usize) -> Result<Vec<u8>, EncodeError> {
    let header = SamplesHeader::new(ID, 4_711, 12);
    let start = samples.first().map_or(TIME_NS, |sample| sample.time_ns);
    let mut encoder = SamplesEncoder::new(vec![0; buffer], "info", &header, start, "deathstar")?;
    let mut added = 0;
    for sample in samples {
        while added <= sample.metric {
            assert_eq!(usize::from(encoder.add_metric(&metrics[added])?), added);
            added += 1;
        }
        encoder.push(sample.metric as u16, sample.time_ns, sample.value)?;
    }
    assert_eq!(encoder.samples(), samples.len() as u64);
    Ok(encoder.finish().to_vec())
}

pub(crate) fn example() -> Vec<u8> {
    encode(&metrics(), &samples(), 1_024).unwrap()
}

/// The example with another body, whose length fits.
fn with_body(body: &[u8]) -> Vec<u8> {
    let mut bytes = example();
    bytes.truncate(BODY_AT);
    bytes[BODY_AT - 4..].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn read(message: &[u8]) -> Result<Vec<Sample>, SamplesError> {
    SampleFrame::parse(message)?.samples().collect()
}

#[test]
fn a_frame_comes_back_as_it_was_written() {
    let bytes = example();
    let frame = SampleFrame::parse(&bytes).unwrap();
    assert_eq!((frame.level, frame.source, frame.time_ns), ("info", "deathstar", TIME_NS));
    assert_eq!(frame.header, SamplesHeader::new(ID, 4_711, 12));
    assert_eq!(frame.metrics().collect::<Vec<_>>(), metrics());
    assert_eq!(frame.metric(1).unwrap().unit, "jobs");
    assert_eq!(frame.metric(3), None);
    assert_eq!(frame.samples().map(Result::unwrap).collect::<Vec<_>>(), samples());
    assert!(bytes.starts_with(&topic(TOPIC_SAMPLES, "info").unwrap()));
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let bytes = example();
    for length in 0..bytes.len() {
        assert!(SampleFrame::parse(&bytes[..length]).is_err(), "{length}");
    }
    assert_eq!(SampleFrame::parse(&[&bytes[..], &[0]].concat()).unwrap_err(), SamplesError::Length);
    let long = [&bytes[..], &vec![0; FRAME_BYTES_MAX]].concat();
    assert_eq!(SampleFrame::parse(&long).unwrap_err(), SamplesError::Oversize { bytes: long.len() });
}

#[test]
fn a_body_that_is_cut_anywhere_is_refused_or_ends_behind_whole_samples() {
    let bytes = example();
    for length in 0..bytes.len() - BODY_AT {
        let message = with_body(&bytes[BODY_AT..BODY_AT + length]);
        let Ok(frame) = SampleFrame::parse(&message) else { continue };
        let read: Vec<_> = frame.samples().collect();
        for (at, sample) in read.iter().enumerate() {
            match sample {
                Ok(sample) => assert_eq!(*sample, samples()[at]),
                Err(error) => assert_eq!((at + 1, *error), (read.len(), SamplesError::Sample), "{length}"),
            }
        }
    }
}

#[test]
fn every_bit_flip_is_refused_or_another_valid_frame() {
    let bytes = example();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(frame) = SampleFrame::parse(&flipped) else { continue };
        for metric in frame.metrics() {
            check_texts(metric.name, metric.source, metric.unit, &metric.tags).unwrap();
        }
        for sample in frame.samples().flatten() {
            assert_eq!(frame.metric(sample.metric).unwrap().kind, sample.value.kind());
        }
    }
}

#[test]
fn each_reason_to_refuse_is_reached_and_has_a_word() {
    let good = example();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    // Time 1, source "s", one gauge "g" without anything else; then samples.
    let gauge = |samples: &[u8]| with_body(&[&[1, 1, b's', 1, 1, 1, b'g', 0, 0, 0], samples].concat());
    let timer = |samples: &[u8]| with_body(&[&[1, 1, b's', 1, 2, 1, b't', 0, 0, 0], samples].concat());
    assert_eq!(read(&gauge(&[1, 0, 3])).unwrap()[0].value, SampleValue::Gauge { value: -2.0 });
    let nan = [&[0, 0][..], &f64::NAN.to_le_bytes()].concat();
    let cases = [
        (vec![b'x'; FRAME_BYTES_MAX + 1], "oversize"),
        (b"\x01info\0".to_vec(), "topic"),
        (b"\x04in|fo\0".to_vec(), "topic"),
        (changed(6, 0x20), "version"),
        (good[..BODY_AT - 1].to_vec(), "length"),
        (with_body(&[]), "samples_head"),
        (with_body(&[1]), "samples_head"),
        (with_body(&[1, 0, 0]), "samples_head"),
        (with_body(&[1, 1, b'|', 0]), "samples_head"),
        (with_body(&[1, 1, b's', 0x80]), "samples_head"),
        (with_body(&[1, 1, b's', 0x81, 8]), "metric_count"),
        (with_body(&[1, 1, b's', 1, 3, 1, b'g', 0, 0, 0]), "unknown_kind"),
        (with_body(&[1, 1, b's', 1, 1, 1, b'|', 0, 0, 0]), "metric_text"),
        (with_body(&[1, 1, b's', 1, 1, 1, b'g', 0, 0, 2, 1, b'b', 1, b'x', 1, b'a', 1, b'x']), "metric_tags"),
        (with_body(&[1, 1, b's', 1, 1, 9, b'g']), "metric"),
        (gauge(&[2, 0, 0]), "sample_index"),
        (gauge(&[1, 0x80]), "sample"),
        (gauge(&[0, 0, 0]), "sample"),
        (gauge(&nan), "not_finite"),
        (timer(&[1, 0, 0]), "sample"),
        (timer(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]), "sample"),
    ];
    for (message, reason) in cases {
        let error = read(&message).unwrap_err();
        assert_eq!(error.reason(), reason, "{message:?}");
        assert!(!error.to_string().contains('\n'));
    }
    // A list of the limit's length is read: 1 024 metrics in as few bytes as there can be.
    let metric = [1, 1, b'g', 0, 0, 0];
    let most = [&[1, 1, b's', 0x80, 8][..], &metric.repeat(SAMPLE_METRICS_MAX)].concat();
    assert_eq!(SampleFrame::parse(&with_body(&most)).unwrap().metrics().count(), SAMPLE_METRICS_MAX);
}

#[test]
fn what_stands_in_front_of_a_bad_sample_is_read_and_a_newer_minor_version_too() {
    let mut body = example()[BODY_AT..].to_vec();
    body.push(0x80);
    let message = with_body(&body);
    let frame = SampleFrame::parse(&message).unwrap();
    let read: Vec<_> = frame.samples().collect();
    assert_eq!(read.len(), samples().len() + 1);
    assert_eq!(*read.last().unwrap(), Err(SamplesError::Sample));
    assert!(read[..samples().len()].iter().all(Result::is_ok));
    let mut newer = example();
    newer[6] = 0x1f;
    assert!(SampleFrame::parse(&newer).is_ok());
}

#[test]
fn what_does_not_fit_leaves_the_frame_as_it_was() {
    let header = SamplesHeader::new(ID, 0, 0);
    for bytes in 0..400 {
        let Ok(mut encoder) = SamplesEncoder::new(vec![0; bytes], "info", &header, TIME_NS, "s") else {
            assert!(bytes < BODY_AT + 9 + 2 + COUNT_ROOM, "{bytes}");
            continue;
        };
        let Ok(first) = encoder.add_metric(&metrics()[0]) else { continue };
        let mut pushed = 0;
        while encoder.push(first, TIME_NS + pushed, SampleValue::Timer { ns: 300 }).is_ok() {
            pushed += 1;
        }
        let more = metrics()[1..].iter().take_while(|metric| encoder.add_metric(metric).is_ok()).count();
        let message = encoder.finish().to_vec();
        assert!(message.len() <= bytes);
        let frame = SampleFrame::parse(&message).unwrap();
        assert_eq!(frame.metrics().count(), 1 + more);
        assert_eq!(frame.samples().map(Result::unwrap).count() as u64, pushed);
        assert_eq!(encoder.push(first, TIME_NS, SampleValue::Timer { ns: 1 }), Err(EncodeError::Full));
        assert_eq!(encoder.add_metric(&metrics()[1]), Err(EncodeError::Full));
        assert_eq!(encoder.finish(), message, "it ended already");
    }
    let large = encode(&metrics(), &samples().repeat(20_000), 1 << 20);
    assert_eq!(large, Err(EncodeError::Full), "a frame has a limit, whatever the buffer's");
}

/// What the encoder keeps for the number of metrics.
const COUNT_ROOM: usize = 2;

#[test]
fn a_frame_has_so_many_metrics_and_no_more() {
    let header = SamplesHeader::new(ID, 0, 0);
    let mut encoder = SamplesEncoder::new(vec![0; 1 << 20], "info", &header, TIME_NS, "s").unwrap();
    let metric = |at: usize| SampleMetric::new([Kind::Counter, Kind::Gauge, Kind::Timer][at % 3], "m");
    for at in 0..SAMPLE_METRICS_MAX {
        assert_eq!(encoder.add_metric(&metric(at)), Ok(at as u16));
    }
    assert_eq!(encoder.add_metric(&metric(0)), Err(EncodeError::Full));
    let last = (SAMPLE_METRICS_MAX - 1) as u16;
    encoder.push(last, TIME_NS, SampleValue::Counter { increment: 7 }).unwrap();
    let message = encoder.finish();
    let frame = SampleFrame::parse(message).unwrap();
    assert_eq!(frame.metrics().count(), SAMPLE_METRICS_MAX);
    assert_eq!(frame.samples().next().unwrap().unwrap().metric, usize::from(last));
}

#[test]
fn what_no_decoder_takes_is_not_written() {
    let header = SamplesHeader::new(ID, 0, 0);
    let new = |level: &str, source: &str| SamplesEncoder::new([0; 512], level, &header, 0, source).map(drop);
    assert_eq!(new("a|b", "s"), Err(EncodeError::Text));
    assert_eq!(new("info", ""), Err(EncodeError::Text));
    let mut encoder = SamplesEncoder::new([0; 512], "info", &header, 9, "s").unwrap();
    let mut unsorted = SampleMetric::new(Kind::Gauge, "n");
    unsorted.tags.push(("b", "1")).unwrap();
    unsorted.tags.push(("a", "1")).unwrap();
    for bad in [SampleMetric::new(Kind::Gauge, "a b"), unsorted] {
        assert_eq!(encoder.add_metric(&bad), Err(EncodeError::Text));
    }
    let gauge = encoder.add_metric(&SampleMetric::new(Kind::Gauge, "g")).unwrap();
    for (metric, value) in [
        (gauge, SampleValue::Timer { ns: 1 }),
        (gauge, SampleValue::Gauge { value: f64::INFINITY }),
        (gauge + 1, SampleValue::Gauge { value: 1.0 }),
    ] {
        assert_eq!(encoder.push(metric, 9, value), Err(EncodeError::Sample));
    }
    encoder.push(gauge, 7, SampleValue::Gauge { value: 1.0 }).unwrap();
    let message = encoder.finish();
    assert_eq!(read(message).unwrap()[0].time_ns, 9, "time does not go back");
}

#[test]
fn numbers_are_set_in_a_message_that_was_written() {
    let mut bytes = example();
    set_numbers(&mut bytes, "info", u64::MAX, 77);
    let header = SampleFrame::parse(&bytes).unwrap().header;
    assert_eq!((header.first, header.lost, header.publisher), (u64::MAX, 77, ID));
    set_numbers(&mut bytes, "info", 4_711, 12);
    assert_eq!(bytes, example());
    // What is too short is left as it is.
    set_numbers(&mut [0; 8], "info", 1, 1);
}

fn value() -> impl Strategy<Value = SampleValue> {
    let gauges = prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
        any::<i64>().prop_map(|whole| whole as f64),
        (-100_000i32..100_000).prop_map(f64::from),
        Just(-0.0),
    ];
    prop_oneof![
        any::<u64>().prop_map(|increment| SampleValue::Counter { increment }),
        (0u64..1_000_000).prop_map(|ns| SampleValue::Timer { ns }),
        gauges.prop_map(|value| SampleValue::Gauge { value }),
    ]
}

proptest! {
    #[test]
    fn any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for message in [&bytes[..], &with_body(&bytes)] {
            if let Ok(frame) = SampleFrame::parse(message) {
                frame.metrics().for_each(drop);
                frame.samples().for_each(drop);
            }
        }
    }

    #[test]
    fn damaged_bodies_decode_without_a_panic(at in 0usize..200, byte in any::<u8>(), end in 0usize..40) {
        let mut body = example()[BODY_AT..].to_vec();
        let at = at.min(body.len() - 1);
        body[at] = byte;
        body.truncate(body.len() - end);
        if let Ok(frame) = SampleFrame::parse(&with_body(&body)) {
            for sample in frame.samples().flatten() {
                prop_assert_eq!(frame.metric(sample.metric).unwrap().kind, sample.value.kind());
            }
        }
    }

    #[test]
    fn samples_of_any_value_and_time_come_back_to_the_bit(
        values in proptest::collection::vec((value(), 0u64..1 << 40), 0..200),
    ) {
        let metrics = [Kind::Counter, Kind::Gauge, Kind::Timer].map(|kind| SampleMetric::new(kind, kind.as_str()));
        let mut time_ns = TIME_NS;
        let samples: Vec<_> = values.into_iter().map(|(value, since)| {
            time_ns += since;
            Sample { metric: usize::from(value.kind().code()), time_ns, value }
        }).collect();
        let message = encode(&metrics, &samples, FRAME_BYTES_MAX).unwrap();
        let read = read(&message).unwrap();
        prop_assert_eq!(&read, &samples);
        for (read, written) in read.iter().zip(&samples) {
            if let (SampleValue::Gauge { value: a }, SampleValue::Gauge { value: b }) = (read.value, written.value) {
                prop_assert_eq!(a.to_bits(), b.to_bits());
            }
        }
    }
}
