use std::time::{Duration, Instant};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "no {what} within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_link_that_could_not_take_state_gets_no_samples_until_it_did() {
    let context = Context::new();
    let reader = context.socket(zmq::XSUB).unwrap();
    // As little as can be between a publisher and who does not read.
    reader.set_rcvhwm(1).unwrap();
    reader.set_rcvbuf(4_096).unwrap();
    reader.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = reader.get_last_endpoint().unwrap().unwrap();
    let mut links = Links::open(&context, &[endpoint], PublisherId([1; 16])).unwrap();
    for first in [TOPIC_STATE, TOPIC_SAMPLES] {
        reader.send(vec![1, first], 0).unwrap();
    }
    assert_eq!(links.offer_samples("info", b"\x04info\0"), Offered::Unwanted);
    until("subscriptions", || {
        drop(recv_now(&reader).unwrap());
        links.read().unwrap();
        links.wants_state("info") && links.sample_topics() == [[TOPIC_SAMPLES]]
    });
    let (mut samples, state) = (b"\x04info\0".to_vec(), b"\x01info\0 state".to_vec());
    samples.resize(16_384, b'x');
    let mut taken = 0;
    until("full socket", || {
        let offered = links.offer_samples("info", &samples);
        taken += usize::from(offered == Offered::Taken);
        offered == Offered::Refused
    });
    let frames = Frames { frame_seq: 1, parts: vec![state.clone().into()] };
    links.offer("info", &frames, usize::MAX, || ()).unwrap();
    assert!(links.is_blocked("info"));
    let mut read = Vec::new();
    until("reader that has read all", || {
        read.extend(recv_now(&reader).unwrap().map(|message| message.to_vec()));
        read.len() == taken
    });
    // There is room again, but not for samples. A socket learns of room when it is called.
    until("room", || {
        assert_eq!(links.offer_samples("info", &samples), Offered::Refused);
        links.read().unwrap();
        links.retry(usize::MAX, || ()).unwrap();
        !links.is_blocked("info")
    });
    assert_eq!(links.offer_samples("info", &samples), Offered::Taken);
    read.clear();
    until("state and samples", || {
        read.extend(recv_now(&reader).unwrap().map(|message| message.to_vec()));
        read.len() == 2
    });
    assert_eq!(read, [state, samples]);
}
