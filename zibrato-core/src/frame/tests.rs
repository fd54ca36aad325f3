use std::prelude::v1::*;
use std::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::limits::{HISTOGRAM_BUCKETS_MAX, TAGS_MAX};

fn example() -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut header = Header::new(PublisherId(*b"0123456789abcdef"), 42);
    header.flags.key = true;
    (header.part, header.of, header.age_ms) = (1, 3, 61_000);
    let mut prelude = Prelude {
        window_end_ms: 1_700_000_001_000,
        window_ms: 1_000,
        source: "deathstar",
        ..Prelude::default()
    };
    prelude.losses.push(Loss { reason: LossReason::Spilled.code(), count: 3 }).unwrap();
    prelude.about = Some(About { program: "demo", host: "h", pid: 7, library: "1.0.0" });
    let mut encoder = Encoder::new(&mut buffer, "info", &header, &prelude).unwrap();
    for entry in entries() {
        encoder.push(&entry).unwrap();
    }
    encoder.finish().to_vec()
}

fn entries() -> Vec<Entry<'static>> {
    let mut counter = Entry::new("web.requests", State::Counter { sum: 300 });
    counter.tags.push(("route", "/api")).unwrap();
    counter.tags.push(("verb", "GET")).unwrap();
    let gauge = State::Gauge { sets: 2, last: -1.5, last_ms: 1_700_000_000_900, min: -1.5, max: 1e9 };
    let mut gauge = Entry::new("queue.depth", gauge);
    gauge.source = "own";
    let histogram = HistogramState { scale: 5, zero: 1, base: 0, offset: -320, counts: &[1, 0, 3, 2] };
    let timer = State::Timer {
        count: 4,
        sum_ns: 4_000_000,
        sum_squares_ns2: 6_000_000_000_000,
        window_ns: Some((0, 2_000_000)),
        histogram,
    };
    let mut timer = Entry::new("web.latency", timer);
    timer.unit = "s";
    vec![counter, gauge, timer]
}

#[test]
fn a_frame_comes_back_as_it_was_written() {
    let bytes = example();
    let frame = Frame::parse(&bytes).unwrap();
    assert_eq!(frame.level, "info");
    assert_eq!((frame.header.seq, frame.header.frame_seq(), frame.header.of), (42, 41, 3));
    assert!(frame.header.flags.key && !frame.header.flags.end && !frame.header.flags.heartbeat);
    assert_eq!(frame.prelude.about.unwrap().program, "demo");
    assert_eq!(frame.prelude.losses[0].count, 3);
    let read: Vec<_> = frame.entries().map(Result::unwrap).collect();
    assert_eq!(read, entries());
    let State::Timer { histogram, .. } = read[2].state else { unreachable!() };
    assert_eq!(histogram.buckets().collect::<Vec<_>>(), [1, 0, 0, 0, 2]);
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let bytes = example();
    for length in 0..bytes.len() {
        assert!(Frame::parse(&bytes[..length]).is_err(), "{length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Frame::parse(&longer).unwrap_err(), FrameError::Length);
}

#[test]
fn every_bit_flip_is_refused_or_another_valid_frame() {
    let bytes = example();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(frame) = Frame::parse(&flipped) {
            for entry in frame.entries().flatten() {
                entry.check().unwrap();
            }
        }
    }
}

#[test]
fn what_can_be_set_behind_a_topic_is_what_is_read() {
    let mut bytes = example();
    let untopiced = &mut bytes["info".len() + 2..];
    set_publisher(untopiced, PublisherId([9; 16]));
    set_age_ms(untopiced, u64::MAX - 1);
    set_held_ms(untopiced, 77);
    let header = Frame::parse(&bytes).unwrap().header;
    assert_eq!((header.publisher, header.age_ms, header.held_ms), (PublisherId([9; 16]), u64::MAX - 1, 77));
    assert_eq!((header.seq, header.part, header.of), (42, 1, 3));
    // What is too short for a header is left as it is.
    set_publisher(&mut [0; HEADER_BYTES - 1], PublisherId([9; 16]));
    set_age_ms(&mut [], 1);
}

#[test]
fn one_bad_entry_costs_only_itself() {
    let bytes = example();
    let at = bytes.windows(5).position(|window| window == b"queue").unwrap();
    let mut bad = bytes.clone();
    bad[at] = b'|';
    let read: Vec<_> = Frame::parse(&bad).unwrap().entries().collect();
    assert_eq!(read[1], Err(EntryError::Text));
    assert!(read[0].is_ok() && read[2].is_ok() && read.len() == 3);
    drop(read);
    // The byte before the name's length is the kind.
    bad[at - 2] = 9;
    let read: Vec<_> = Frame::parse(&bad).unwrap().entries().collect();
    assert_eq!(read[1], Err(EntryError::UnknownKind { code: 9 }));
}

#[test]
fn a_newer_minor_version_is_read_and_a_newer_major_refused() {
    let mut bytes = example();
    let version_at = "info".len() + 2;
    bytes[version_at] = 0x1f;
    assert!(Frame::parse(&bytes).is_ok());
    bytes[version_at] = 0x20;
    assert_eq!(Frame::parse(&bytes).unwrap_err(), FrameError::Version { version: 0x20 });
}

#[test]
fn part_numbers_out_of_range_are_refused() {
    for (seq, part, of, ok) in
        [(1, 0, 1, true), (1, 0, 0, false), (1, 1, 1, false), (1, 1, 2, false), (0, 0, 1, false)]
    {
        let mut buffer = [0; 256];
        let mut header = Header::new(PublisherId([1; 16]), seq);
        (header.part, header.of) = (part, of);
        let bytes = Encoder::new(&mut buffer, "info", &header, &Prelude::default()).unwrap().finish();
        assert_eq!(Frame::parse(bytes).is_ok(), ok, "seq {seq} part {part} of {of}");
    }
}

#[test]
fn an_entry_that_does_not_fit_leaves_the_frame_as_it_was() {
    let mut buffer = [0; 160];
    let header = Header::new(PublisherId([1; 16]), 1);
    let mut encoder = Encoder::new(&mut buffer, "info", &header, &Prelude::default()).unwrap();
    let entry = Entry::new("a.counter.with.twenty", State::Counter { sum: u64::MAX });
    let mut pushed = 0;
    while encoder.push(&entry).is_ok() {
        pushed += 1;
    }
    assert_eq!(encoder.push(&entry), Err(EncodeError::Full));
    let length = encoder.length();
    let bytes = encoder.finish();
    assert_eq!(bytes.len(), length);
    assert_eq!(Frame::parse(bytes).unwrap().entries().filter(Result::is_ok).count(), pushed);
    assert!(pushed > 0);
}

#[test]
fn texts_tags_and_values_that_no_decoder_takes_are_not_written() {
    let counter = State::Counter { sum: 1 };
    let mut unsorted = Entry::new("n", counter);
    unsorted.tags.push(("b", "1")).unwrap();
    unsorted.tags.push(("a", "1")).unwrap();
    let mut twice = Entry::new("n", counter);
    twice.tags.push(("a", "1")).unwrap();
    twice.tags.push(("a", "2")).unwrap();
    let nan = Entry::new("n", State::Gauge { sets: 1, last: f64::NAN, last_ms: 0, min: 0.0, max: 0.0 });
    for bad in [Entry::new("a|b", counter), unsorted, twice, nan] {
        assert!(bad.check().is_err());
        let mut buffer = [0; 256];
        let header = Header::new(PublisherId([1; 16]), 1);
        let mut encoder = Encoder::new(&mut buffer, "info", &header, &Prelude::default()).unwrap();
        assert_eq!(encoder.push(&bad), Err(EncodeError::Text));
    }
}

#[test]
fn histograms_out_of_range_are_refused() {
    fn of(scale: i8, offset: i32, counts: &[u8]) -> bool {
        let histogram = HistogramState { scale, zero: 0, base: 0, offset, counts };
        let state = State::Timer { count: 0, sum_ns: 0, sum_squares_ns2: 0, window_ns: None, histogram };
        Entry::new("t", state).check().is_ok()
    }
    assert!(of(5, 0, &[]) && of(-10, 0, &[1]) && of(5, -34_400, &[0, 0x80, 0x05]));
    assert!(!of(6, 0, &[]) && !of(-11, 0, &[]) && !of(5, i32::MIN, &[]));
    assert!(!of(5, 0, &[0x80]) && !of(5, 0, &[0, 0]) && !of(5, 0, &[0]));
    let counts = vec![1; HISTOGRAM_BUCKETS_MAX + 1];
    assert!(of(5, 0, &counts[1..]));
    assert!(!of(5, 0, &counts));
}

#[test]
fn control_messages_come_back_and_nothing_else_is_one() {
    let ack = Ack { publisher: PublisherId([3; 16]), level: "info", frame_seq: 77 };
    assert_eq!(Ack::parse(&ack.encode()), Some(ack));
    let request = Replay { level: "debug", nonce: *b"\0nonce\0!", from: 256 };
    let topic_bytes = request.topic().unwrap();
    assert_eq!(Replay::parse(&topic_bytes), Some(request));
    let trailer = [&topic_bytes[..], &ReplayMessage::trailer(4, 260, 300)].concat();
    let expected = ReplayMessage::Trailer { request, count: 4, next: 260, total: 300 };
    assert_eq!(ReplayMessage::parse(&trailer), Some(expected));
    let frame = [&topic_bytes[..], &[ReplayMessage::FRAME_MARK], b"rest"].concat();
    assert_eq!(ReplayMessage::parse(&frame), Some(ReplayMessage::Frame { request, untopiced: b"rest" }));
    let forwarded = Forwarded { level: "info", broker: PublisherId([9; 16]), messages: 20_000 };
    assert_eq!(Forwarded::parse(&forwarded.encode().unwrap()), Some(forwarded));
    for junk in [&b""[..], b"\x06", b"\x02info", b"\x02info\0short", b"\x03info\0", b"info|Counter"] {
        assert!(Ack::parse(junk).is_none() && Replay::parse(junk).is_none());
        assert!(ReplayMessage::parse(junk).is_none() && Forwarded::parse(junk).is_none());
    }
}

#[test]
fn topics_of_one_level_never_match_another() {
    let info = topic(TOPIC_STATE, "info").unwrap();
    let information = topic(TOPIC_STATE, "information").unwrap();
    assert!(!information.starts_with(&info));
    assert_eq!(&info[..], b"\x01info\0");
    assert_eq!(&legacy_topic("info").unwrap()[..], b"info|");
    assert!(topic(TOPIC_STATE, "a|b").is_none() && legacy_topic("").is_none());
}

proptest! {
    #[test]
    fn any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let behind_topic = [&b"\x01info\0"[..], &bytes].concat();
        for message in [&bytes[..], &behind_topic] {
            if let Ok(frame) = Frame::parse(message) {
                frame.entries().for_each(drop);
            }
            let _ = (Ack::parse(message), ReplayMessage::parse(message), Forwarded::parse(message));
        }
    }

    #[test]
    fn damaged_bodies_decode_without_a_panic(at in 52usize..200, byte in any::<u8>(), end in 0usize..40) {
        let mut bytes = example();
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        bytes.truncate(bytes.len() - end);
        let body = (bytes.len() - 6 - HEADER_BYTES) as u32;
        bytes[6 + 42..6 + 46].copy_from_slice(&body.to_le_bytes());
        if let Ok(frame) = Frame::parse(&bytes) {
            for entry in frame.entries().flatten() {
                prop_assert!(entry.check().is_ok());
            }
        }
    }

    #[test]
    fn bucket_counts_come_back(counts in proptest::collection::vec(prop_oneof![Just(0u64), any::<u64>(), 1u64..200], 0..HISTOGRAM_BUCKETS_MAX)) {
        let mut out = [0; HISTOGRAM_BUCKETS_MAX * 10];
        let used = encode_buckets(counts.iter().copied(), &mut out).unwrap();
        prop_assert_eq!(BucketRuns::count_all(&out[..used]), Some(counts.len()));
        let read: Vec<_> = BucketRuns::new(&out[..used]).collect();
        prop_assert_eq!(read, counts);
    }

    #[test]
    fn names_and_tags_of_any_accepted_text_come_back(
        name in "[A-Za-z0-9.:_-]{1,255}",
        tags in proptest::collection::btree_map("[A-Za-z0-9.:_-]{1,64}", "[^\\p{Cc}]{1,80}", 0..=TAGS_MAX),
    ) {
        let mut entry = Entry::new(&name, State::Counter { sum: 1 });
        for (key, value) in &tags {
            let _ = entry.tags.push((key, value));
        }
        let mut buffer = vec![0; 8192];
        let mut encoder = Encoder::new(&mut buffer, "info", &Header::new(PublisherId([1; 16]), 1), &Prelude::default()).unwrap();
        encoder.push(&entry).unwrap();
        let frame = Frame::parse(encoder.finish()).unwrap();
        prop_assert_eq!(frame.entries().next().unwrap().unwrap(), entry);
    }
}

/// Golden vectors are files that are never edited; a new version adds some. They decode to what
/// their listing says, and today's encoder writes them byte for byte.
#[test]
fn golden_vectors_are_what_is_written_and_read() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v1");
    for (name, written) in vectors() {
        let file = |ending| {
            let path = format!("{directory}/{name}.{ending}");
            std::fs::read_to_string(&path).expect(&path)
        };
        let bytes = unhex(&file("hex"));
        assert_eq!(bytes, written, "{name}: {written:02x?}");
        assert_eq!(list(&bytes), file("txt"), "{name}");
    }
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 2 * vectors().len());
}

/// One message of every kind, and one that must be refused.
fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let id = PublisherId(*b"0123456789abcdef");
    let mut buffer = [0; 256];
    let mut heartbeat = Header::new(id, 42);
    heartbeat.flags.heartbeat = true;
    let heartbeat =
        Encoder::new(&mut buffer, "debug", &heartbeat, &Prelude::default()).unwrap().finish().to_vec();
    let mut buffer = [0; 256];
    let mut end = Header::new(id, 43);
    (end.flags.key, end.flags.end) = (true, true);
    let mut end = Encoder::new(&mut buffer, "info", &end, &Prelude::default()).unwrap();
    end.push(&entries()[0]).unwrap();
    let end = end.finish().to_vec();
    let mut newer = example();
    newer[6] = 0x20;
    let request = Replay { level: "info", nonce: [1, 2, 3, 4, 5, 6, 7, 8], from: 256 };
    let trailer = [&request.topic().unwrap()[..], &ReplayMessage::trailer(256, 512, 5_000)].concat();
    let ack = Ack { publisher: id, level: "info", frame_seq: 43 }.encode().to_vec();
    let forwarded = Forwarded { level: "info", broker: id, messages: 20_000 }.encode().unwrap().to_vec();
    let mut samples_newer = samples::tests::example();
    samples_newer[6] = 0x20;
    vec![
        ("key-frame", example()),
        ("heartbeat", heartbeat),
        ("end-frame", end),
        ("newer-major", newer),
        ("replay-trailer", trailer),
        ("acknowledgement", ack),
        ("forwarded", forwarded),
        ("samples", samples::tests::example()),
        ("samples-newer-major", samples_newer),
    ]
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.lines().map(|line| line.split('#').next().unwrap()).collect();
    let digits: Vec<_> = digits.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn list(bytes: &[u8]) -> String {
    if let Some(ack) = Ack::parse(bytes) {
        return format!("{ack:?}\n");
    }
    if let Some(replay) = ReplayMessage::parse(bytes) {
        return format!("{replay:?}\n");
    }
    if let Some(forwarded) = Forwarded::parse(bytes) {
        return format!("{forwarded:?}\n");
    }
    if bytes[0] == TOPIC_SAMPLES {
        return list_samples(bytes);
    }
    let frame = match Frame::parse(bytes) {
        Ok(frame) => frame,
        Err(error) => return format!("{error}\n"),
    };
    let mut out = format!("level {}\n{:?}\n{:?}\n", frame.level, frame.header, frame.prelude);
    for entry in frame.entries() {
        out += &format!("{entry:?}\n");
    }
    out
}

fn list_samples(bytes: &[u8]) -> String {
    let frame = match SampleFrame::parse(bytes) {
        Ok(frame) => frame,
        Err(error) => return format!("{error}\n"),
    };
    let mut out = format!("level {}\n{:?}\n", frame.level, frame.header);
    out += &format!("time_ns {} source {}\n", frame.time_ns, frame.source);
    for metric in frame.metrics() {
        out += &format!("{metric:?}\n");
    }
    for sample in frame.samples() {
        out += &format!("{sample:?}\n");
    }
    out
}
