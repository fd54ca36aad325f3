#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::prelude::v1::*;
use std::{format, fs, vec};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

/// A frame for the line, its body written by `body`.
fn line(kind: u8, seq: u16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::numbered(seq);
    writer.start(kind);
    body(&mut writer);
    writer.finish().to_vec()
}

/// What a receiver makes of a line: payloads and errors.
fn receive(line: &[u8]) -> Vec<Result<Vec<u8>, LinkError>> {
    let mut receiver: Receiver = Receiver::new();
    line.iter().filter_map(|&byte| receiver.push(byte).map(|taken| taken.map(<[u8]>::to_vec))).collect()
}

fn payload(line: &[u8]) -> Vec<u8> {
    let [Ok(payload)] = &receive(line)[..] else { unreachable!("not one frame: {line:02x?}") };
    payload.clone()
}

const HELLO: Hello<'static> = Hello {
    protocol: PROTOCOL,
    boot: 0xdead_beef,
    clock_hz: 168_000_000,
    overhead: 2,
    uptime: 1_000_000_000_000,
    window_ms: 1_000,
    metrics: 3,
    program: "motor",
};

/// One frame of every kind, as a line, and what is in it.
fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    use crate::level::Level;
    crate::counter!(static COUNTER = "can.rx_frames", Level::INFO);
    crate::timer!(static TIMER = "motor.foc_isr", Level::DEBUG, buckets = 1, source = "left", unit = "s",
        tags = &[("axis", "x"), ("board", "07")]);
    let [counter, timer] = crate::metrics![COUNTER, TIMER];
    let state = |writer: &mut Writer| {
        writer.byte(flags::ALL | flags::LAST);
        for number in [25_000_000, 7, Form::Counter.key(0).into(), 300] {
            writer.varint(number);
        }
        writer.varint(Form::Whole.key(1).into());
        writer.varint(4);
        writer.zigzag(-17);
        writer.varint(Form::Float.key(300).into());
        writer.varint(2);
        writer.bytes(&1.5f32.to_le_bytes());
        for number in [Form::Timer.key(2).into(), 1_000, 1_450_000, 1_401, 100] {
            writer.varint(number);
        }
        writer.varint(Form::Buckets.key(2).into());
        writer.bytes(&[37, 3]);
        for number in [900, 0, 100] {
            writer.varint(number);
        }
        for number in [Form::Timer.key(3).into(), 0, 0, 0] {
            writer.varint(number);
        }
    };
    let samples = |writer: &mut Writer| {
        for number in [70_000, 0, 4, 250_000_000, Form::Timer.key(2).into(), 0] {
            writer.varint(number);
        }
        writer.zigzag(1_450);
        writer.varint(Form::Whole.key(18).into());
        writer.varint(130);
        writer.zigzag(-17 - 1_450);
        writer.varint(Form::Float.key(300).into());
        writer.varint(u64::from(0u32.wrapping_sub(16) >> 4));
        writer.bytes(&0.25f32.to_le_bytes());
        writer.varint(Form::Counter.key(0).into());
        writer.varint(0);
        writer.zigzag(3);
        writer.varint(Form::Counter.key(0).into());
        writer.varint(1);
        writer.zigzag(-2);
    };
    vec![
        ("hello", line(kind::HELLO, 0, |writer| HELLO.write(writer))),
        ("descriptor", line(kind::DESCRIPTOR, 1, |writer| write_descriptor(writer, 0, &counter))),
        ("descriptor-tags", line(kind::DESCRIPTOR, 2, |writer| write_descriptor(writer, 2, &timer))),
        ("state", line(kind::STATE, 0x0103, state)),
        ("samples", line(kind::SAMPLES, 0xffff, samples)),
        ("mask", line(kind::MASK, 0, |writer| writer.varint(0b10))),
        ("ask", line(kind::ASK, 1, |_| ())),
        ("unknown", line(0x7f, 2, |writer| writer.bytes(&[0, 0, 1, 0]))),
    ]
}

fn list(line: &[u8]) -> String {
    let payload = payload(line);
    let frame = Frame::parse(&payload).unwrap();
    let mut text = format!("seq {}\n", frame.seq);
    match frame.body {
        Body::State(state) => {
            let State { is_all, is_last, is_end, uptime, lost, .. } = state;
            text += &format!("State all {is_all} last {is_last} end {is_end} uptime {uptime} lost {lost}\n");
            for entry in state.entries().map(Result::unwrap) {
                text += &match entry.value {
                    StateValue::Buckets(buckets) => {
                        format!("{} buckets {:?}\n", entry.id, buckets.iter().collect::<Vec<_>>())
                    }
                    value => format!("{} {value:?}\n", entry.id),
                };
            }
        }
        Body::Samples(samples) => {
            let Samples { first, lost, shift, time, .. } = samples;
            text += &format!("Samples first {first} lost {lost} shift {shift} time {time}\n");
            for sample in samples.iter().map(Result::unwrap) {
                text += &format!("{sample:?}\n");
            }
        }
        Body::Descriptor(descriptor) => {
            let tags: Vec<_> = descriptor.tags.iter().collect();
            let Descriptor { id, form, level_number, on_demand, level, name, source, unit, .. } = descriptor;
            text +=
                &format!("Descriptor {id} {form:?} level {level_number} {level:?} on demand {on_demand}\n");
            text += &format!("{name:?} source {source:?} unit {unit:?} tags {tags:?}\n");
        }
        body => text += &format!("{body:?}\n"),
    }
    text
}

/// Golden vectors are files that are never edited; a new version adds some.
#[test]
fn golden_vectors_are_what_is_written_and_read() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/link-v1");
    for (name, written) in vectors() {
        let file = |ending| {
            let path = format!("{directory}/{name}.{ending}");
            fs::read_to_string(&path).expect(&path)
        };
        let digits = file("hex");
        let bytes: Vec<_> =
            digits.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(bytes, written, "{name}: {written:02x?}");
        assert_eq!(list(&bytes), file("txt"), "{name}");
    }
    assert_eq!(fs::read_dir(directory).unwrap().count(), 2 * vectors().len());
}

/// The hand-written encoder against the one that it stands for.
#[test]
fn what_is_written_is_what_postcard_writes() {
    #[derive(Serialize, Deserialize)]
    struct SerdeHello<'a>(u8, u64, u32, u32, u64, u32, u16, &'a str);
    #[derive(Serialize)]
    struct SerdeDescriptor<'a> {
        id: u16,
        form: u8,
        level_number: u8,
        flags: u8,
        texts: (&'a str, &'a str, &'a str, &'a str),
        tags: &'a [(&'a str, &'a str)],
    }
    #[derive(Serialize)]
    struct SerdeState(u8, u64, u32, (u32, u64), (u32, u32, i32), (u32, u32, f32), (u32, u64, u64, u64, u32));
    #[derive(Serialize)]
    struct SerdeSamples(u32, u32, u8, u32, [(u32, u32, i32); 2], (u32, u32, f32), [(u32, u32, i32); 2]);
    fn bytes(value: impl Serialize) -> Vec<u8> {
        let mut buffer = [0; 512];
        postcard::to_slice(&value, &mut buffer).unwrap().to_vec()
    }
    let written = |name| {
        let found = vectors().into_iter().find(|(known, _)| *known == name);
        payload(&found.unwrap().1)[HEAD_BYTES..].to_vec()
    };
    let Hello { protocol, boot, clock_hz, overhead, uptime, window_ms, metrics, program } = HELLO;
    let hello = SerdeHello(protocol, boot, clock_hz, overhead, uptime, window_ms, metrics, program);
    assert_eq!(written("hello"), bytes(hello));
    let descriptor = SerdeDescriptor {
        id: 2,
        form: 4,
        level_number: 1,
        flags: 1,
        texts: ("debug", "motor.foc_isr", "left", "s"),
        tags: &[("axis", "x"), ("board", "07")],
    };
    assert_eq!(written("descriptor-tags"), bytes(descriptor));
    let state = SerdeState(
        3,
        25_000_000,
        7,
        (Form::Counter.key(0), 300),
        (Form::Whole.key(1), 4, -17),
        (Form::Float.key(300), 2, 1.5),
        (Form::Timer.key(2), 1_000, 1_450_000, 1_401, 100),
    );
    let state = bytes(state);
    assert_eq!(written("state")[..state.len()], state);
    let buckets = bytes((Form::Buckets.key(2), 37u8, [900u32, 0, 100].as_slice()));
    assert_eq!(written("state")[state.len()..][..buckets.len()], buckets);
    let samples = SerdeSamples(
        70_000,
        0,
        4,
        250_000_000,
        [(Form::Timer.key(2), 0, 1_450), (Form::Whole.key(18), 130, -17 - 1_450)],
        (Form::Float.key(300), 0u32.wrapping_sub(16) >> 4, 0.25),
        [(Form::Counter.key(0), 0, 3), (Form::Counter.key(0), 1, -2)],
    );
    assert_eq!(written("samples"), bytes(samples));
}

#[test]
fn the_check_sum_is_the_one_that_is_named() {
    // The check value of CRC-16/CCITT-FALSE.
    assert_eq!(crc16(b"123456789"), 0x29b1);
}

#[test]
fn every_duration_has_one_bucket_and_lies_within_it() {
    let mut next = 0u64;
    for bucket in 0..BUCKETS_MAX {
        let (low, high) = bucket_bounds(bucket).unwrap();
        assert_eq!(u64::from(low), next, "{bucket}");
        assert_eq!((bucket_of(low), bucket_of(high)), (bucket, bucket));
        next = u64::from(high) + 1;
    }
    assert_eq!(next, 1 << 32, "all of u32");
    assert_eq!(bucket_bounds(BUCKETS_MAX), None);
}

#[test]
fn the_longest_frame_fits_and_a_longer_one_is_cut() {
    for filler in [0, 1, 0xff] {
        let longest = line(0x7f, 0, |writer| writer.bytes(&[filler; BODY_BYTES_MAX]));
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        assert_eq!(payload(&longest)[HEAD_BYTES..], [filler; BODY_BYTES_MAX]);
        let longer = line(0x7f, 0, |writer| writer.bytes(&[filler; BODY_BYTES_MAX + 9]));
        assert_eq!(longer, longest);
    }
}

#[test]
fn a_receiver_with_a_short_buffer_refuses_what_is_longer() {
    let mut receiver = Receiver::<11>::new();
    let mut push = |line: &[u8]| {
        line.iter().find_map(|&byte| receiver.push(byte).map(|taken| taken.map(<[u8]>::to_vec)))
    };
    assert_eq!(push(&line(0x7f, 0, |writer| writer.bytes(&[7; 6]))), Some(Err(LinkError::Long)));
    assert_eq!(push(&line(0x7f, 0, |writer| writer.bytes(&[7; 5]))).unwrap().unwrap().len(), 8);
}

#[test]
fn each_reason_to_refuse_is_reached() {
    let frame = |kind, body: &[u8]| payload(&line(kind, 0, |writer| writer.bytes(body)));
    let error = |kind, body: &[u8]| match Frame::parse(&frame(kind, body)) {
        Err(error) => error.reason(),
        Ok(Frame { body: Body::State(state), .. }) => {
            state.entries().find_map(Result::err).map_or("none", LinkError::reason)
        }
        Ok(Frame { body: Body::Samples(samples), .. }) => {
            samples.iter().find_map(Result::err).map_or("none", LinkError::reason)
        }
        Ok(_) => "none",
    };
    let hello = frame(kind::HELLO, &payload(&vectors()[0].1)[HEAD_BYTES..])[HEAD_BYTES..].to_vec();
    let descriptor = payload(&vectors()[2].1)[HEAD_BYTES..].to_vec();
    let changed = |bytes: &[u8], at: usize, byte: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        bytes
    };
    let at = |needle: &[u8]| descriptor.windows(needle.len()).position(|window| window == needle).unwrap();
    let cases: Vec<(u8, Vec<u8>, &str)> = vec![
        (kind::HELLO, hello.clone(), "none"),
        (kind::HELLO, [&hello[..], b"newer"].concat(), "none"),
        (kind::HELLO, changed(&hello, 0, 0x20), "version"),
        (kind::HELLO, changed(&hello, 0, 0x1f), "none"),
        (kind::HELLO, hello[..4].to_vec(), "number"),
        (kind::HELLO, vec![PROTOCOL, 0, 0, 0, 0, 0, 0, 0], "clock"),
        (kind::HELLO, vec![PROTOCOL, 0, 1, 0, 0, 0, 0, 1, 7], "text"),
        (kind::HELLO, vec![PROTOCOL, 0, 1, 0, 0, 0, 0, 9, b'x'], "short"),
        (kind::HELLO, Vec::new(), "short"),
        (kind::DESCRIPTOR, descriptor.clone(), "none"),
        (kind::DESCRIPTOR, changed(&descriptor, 1, 5), "form"),
        (kind::DESCRIPTOR, changed(&descriptor, 2, 32), "level"),
        (kind::DESCRIPTOR, changed(&descriptor, at(b"motor"), b'|'), "text"),
        (kind::DESCRIPTOR, changed(&descriptor, at(b"motor"), 0xff), "text"),
        (kind::DESCRIPTOR, changed(&descriptor, at(b"axis"), b'z'), "tags"),
        (kind::DESCRIPTOR, changed(&descriptor, at(b"axis"), b' '), "text"),
        (kind::DESCRIPTOR, changed(&descriptor, at(b"axis") - 2, 9), "tags"),
        (kind::MASK, vec![0xff, 0xff, 0xff, 0xff, 0x1f], "number"),
        (kind::MASK, vec![0xff, 0xff, 0xff, 0xff, 0x0f], "none"),
        (kind::STATE, vec![0, 0, 0, 5], "form"),
        (kind::STATE, vec![0, 0, 0, 0x80, 0x80, 0x20, 1], "id"),
        (kind::STATE, vec![0, 0, 0, 0], "number"),
        (kind::STATE, vec![0, 0, 0, 4, 120, 5], "buckets"),
        (kind::STATE, vec![0, 0, 0, 4, 120, 4, 1, 1, 1], "number"),
        (kind::STATE, vec![0, 0, 0, 3, 1, 0, 0, 0], "short"),
        (kind::SAMPLES, vec![0, 0, 0, 0, 7, 0, 0], "form"),
        (kind::SAMPLES, vec![0, 0, 0, 0, 0, 0], "number"),
        (kind::SAMPLES, vec![0, 0, 32, 0], "number"),
        (kind::SAMPLES, vec![0, 0], "short"),
        (kind::SAMPLES, vec![0, 0, 31], "number"),
    ];
    for (kind, body, reason) in cases {
        assert_eq!(error(kind, &body), reason, "{kind} {body:02x?}");
    }
    let crc = line(kind::MASK, 0, |writer| writer.varint(1));
    let mut broken = crc.clone();
    broken[1] ^= 1;
    assert_eq!(receive(&broken), [Err(LinkError::Crc)]);
    assert_eq!(receive(&[9, 1, 0]), [Err(LinkError::Cobs)]);
    assert_eq!(receive(&[1, 0]), [Err(LinkError::Short)]);
    assert_eq!(receive(&[4, 1, 2, 3, 0]), [Err(LinkError::Short)]);
    assert_eq!(receive(&[&[1; 300][..], &[0]].concat()), [Err(LinkError::Long)]);
    for (index, error) in [LinkError::Long, LinkError::Short, LinkError::Cobs, LinkError::Crc]
        .into_iter()
        .chain([LinkError::Number, LinkError::Text, LinkError::Tags])
        .chain([LinkError::Version { protocol: 0x20 }, LinkError::Clock, LinkError::Id])
        .chain([LinkError::Form { code: 5 }, LinkError::Level, LinkError::Buckets])
        .enumerate()
    {
        assert_eq!(error.index(), index);
        assert!(!format!("{error}").is_empty());
    }
}

/// Reads all that a payload has.
fn read_all(payload: &[u8]) {
    match Frame::parse(payload) {
        Ok(Frame { body: Body::State(state), .. }) => {
            for entry in state.entries().flatten() {
                if let StateValue::Buckets(buckets) = entry.value {
                    assert!(buckets.iter().all(|(bucket, _)| bucket < BUCKETS_MAX));
                }
            }
        }
        Ok(Frame { body: Body::Samples(samples), .. }) => drop(samples.iter().collect::<Vec<_>>()),
        Ok(Frame { body: Body::Descriptor(descriptor), .. }) => {
            drop(descriptor.tags.iter().collect::<Vec<_>>())
        }
        _ => {}
    }
}

#[test]
fn every_truncation_and_bit_flip_is_refused_or_another_frame_and_never_a_panic() {
    for (name, line) in vectors() {
        let whole = payload(&line);
        for length in 0..whole.len() {
            read_all(&whole[..length]);
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            read_all(&flipped);
        }
        // On the line every single flip is seen: by the check sum, or as another number of frames.
        for bit in 0..line.len() * 8 {
            let mut flipped = line.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let received = receive(&[&flipped[..], &[0]].concat());
            assert!(received.iter().all(Result::is_err), "{name} bit {bit}");
        }
    }
}

#[test]
fn noise_costs_the_frame_it_hits_and_the_next_is_whole() {
    let good = line(kind::MASK, 9, |writer| writer.varint(77));
    let victim = vectors()[3].1.clone();
    for at in 0..victim.len() - 1 {
        let cut = victim[..at].to_vec();
        let lost = [&victim[..at], &victim[at + 1..]].concat();
        let repeated = [&victim[..=at], &victim[at..]].concat();
        let mut zeroed = victim.clone();
        zeroed[at] = 0;
        for broken in [cut, lost, repeated, zeroed] {
            // A frame that lost its end takes the next one with it, and no more.
            let received = receive(&[&broken[..], &good, &good].concat());
            assert_eq!(received.last().unwrap().as_ref().unwrap(), &payload(&good), "{at}");
            let good = received.iter().filter(|frame| frame.as_ref() == Ok(&payload(&good))).count();
            let is_ended = broken.last().is_none_or(|&byte| byte == 0);
            assert_eq!(good, if is_ended { 2 } else { 1 }, "{at}: {received:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_body_comes_back_in_any_pieces(
        kind in any::<u8>(),
        seq in any::<u16>(),
        body in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..=BODY_BYTES_MAX),
        noise in proptest::collection::vec(1u8.., 0..40),
    ) {
        let line = line(kind, seq, |writer| writer.bytes(&body));
        prop_assert_eq!(line.len(), body.len() + HEAD_BYTES + CRC_BYTES + 2);
        prop_assert!(!line[..line.len() - 1].contains(&0));
        let expected = [&[kind][..], &seq.to_le_bytes(), &body].concat();
        prop_assert_eq!(receive(&line), vec![Ok(expected.clone())]);
        let after_noise = receive(&[&noise[..], &[0], &line].concat());
        prop_assert_eq!(after_noise.last().cloned(), Some(Ok(expected)));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for payload in receive(&bytes).into_iter().flatten() {
            read_all(&payload);
        }
        read_all(&bytes);
    }
}
