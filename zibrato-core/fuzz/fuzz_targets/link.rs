//! Any bytes on a line: no panic, nothing beyond its bounds, and the same frames in whatever pieces they come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zibrato_core::device::{Item, Link, Settings};
use zibrato_core::level::Level;
use zibrato_core::link::{
    BUCKETS_MAX, Body, Frame, LINE_BYTES_MAX, LinkError, PAYLOAD_BYTES_MAX, Receiver, StateValue, Writer,
};

zibrato_core::counter!(static COUNTER = "fuzz", Level::DEBUG);
static METRICS: [Item; 1] = zibrato_core::metrics![COUNTER];

/// Reads all that a payload has, and says it again where there is a way to.
fn read(payload: &[u8]) {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    let Ok(Frame { seq, body }) = Frame::parse(payload) else { return };
    match body {
        Body::Hello(hello) => {
            let mut writer = Writer::numbered(seq);
            writer.start(payload[0]);
            hello.write(&mut writer);
            let mut receiver: Receiver = Receiver::new();
            for &byte in writer.finish() {
                if let Some(again) = receiver.push(byte) {
                    let again = Frame::parse(again.expect("our own")).expect("our own");
                    assert_eq!(again, Frame { seq, body });
                }
            }
        }
        Body::Descriptor(descriptor) => assert!(descriptor.tags.iter().is_sorted_by(|a, b| a.0 < b.0)),
        Body::State(state) => {
            for entry in state.entries().flatten() {
                match entry.value {
                    StateValue::Buckets(buckets) => {
                        assert!(buckets.iter().all(|(bucket, _)| bucket < BUCKETS_MAX));
                    }
                    StateValue::Timer { range: Some((min, max)), .. } => assert!(min <= max),
                    _ => {}
                }
            }
        }
        Body::Samples(samples) => assert!(samples.iter().count() <= payload.len()),
        _ => {}
    }
}

fn receive<const N: usize>(
    receiver: &mut Receiver<N>,
    bytes: &[u8],
    into: &mut Vec<Result<Vec<u8>, LinkError>>,
) {
    for &byte in bytes {
        into.extend(receiver.push(byte).map(|taken| taken.map(<[u8]>::to_vec)));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (whole, pieces, short) = (&mut Vec::new(), &mut Vec::new(), &mut Vec::new());
    receive(&mut Receiver::<{ LINE_BYTES_MAX - 1 }>::new(), bytes, whole);
    // The first byte says how long the pieces are.
    let length = bytes.first().map_or(1, |&byte| usize::from(byte).max(1));
    let mut receiver: Receiver = Receiver::new();
    for piece in bytes.chunks(length) {
        receive(&mut receiver, piece, pieces);
    }
    assert_eq!(whole, pieces);
    // The device's end, which reads fewer kinds by itself.
    let mut link = Link::new(&METRICS, Settings::new(1_000));
    bytes.chunks(length).for_each(|piece| link.receive(piece));
    let masks = whole.iter().flatten().filter(|payload| payload.len() <= 8).filter_map(|payload| {
        if let Ok(Frame { body: Body::Mask(mask), .. }) = Frame::parse(payload) { Some(mask) } else { None }
    });
    if let Some(mask) = masks.last()
        && whole.iter().flatten().all(|payload| payload.len() <= 8)
    {
        assert_eq!(link.is_on(Level::DEBUG), mask & 1 != 0);
    }
    receive(&mut Receiver::<10>::new(), bytes, short);
    assert_eq!(whole.len(), short.len(), "a short buffer refuses and counts the same frames");
    for payload in whole.iter().flatten() {
        read(payload);
    }
    // As if the check sum had been right.
    if bytes.len() <= PAYLOAD_BYTES_MAX {
        read(bytes);
    }
});
