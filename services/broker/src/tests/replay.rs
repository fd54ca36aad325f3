//! Kept frames, acknowledgements and replay.

use zibrato_core::frame::{Ack, Frame, Replay, ReplayMessage};

use super::*;
use crate::PAGE_FRAMES_MAX;

/// A replayed frame: first byte of the publisher, seq, `held_ms`.
type Replayed = (u8, u64, u32);

/// Asks for a page; its frames, and its trailer as (count, next, total).
fn page(worker: &Socket, level: &str, from: u32) -> (Vec<Replayed>, (u32, u32, u32)) {
    let asked = Replay { level, nonce: *b"nonce123", from };
    let topic = asked.topic().unwrap();
    worker.set_subscribe(&topic).unwrap();
    let mut frames = Vec::new();
    loop {
        let message = receive(worker);
        match ReplayMessage::parse(&message) {
            Some(ReplayMessage::Frame { request, untopiced }) => {
                assert_eq!(request, asked);
                let header = Frame::parse_untopiced(level, untopiced).unwrap().header;
                frames.push((header.publisher.0[0], header.seq, header.held_ms));
            }
            Some(ReplayMessage::Trailer { request, count, next, total }) => {
                assert_eq!(request, asked);
                worker.set_unsubscribe(&topic).unwrap();
                return (frames, (count, next, total));
            }
            None => {}
        }
    }
}

fn seqs(frames: &[Replayed]) -> Vec<(u8, u64)> {
    frames.iter().map(|(id, seq, _)| (*id, *seq)).collect()
}

#[test]
fn a_worker_that_was_away_gets_the_last_complete_key_frame_and_what_came_after_it() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    for message in [
        part(1, "info", DELTA, 1, 0, 1),
        part(1, "info", KEY, 2, 0, 2),
        part(1, "info", KEY, 2, 1, 2),
        part(1, "info", DELTA, 4, 0, 1),
        part(1, "info", DELTA, 4, 0, 1),
        // Of this one, part 1 is missing.
        part(1, "info", KEY, 5, 0, 3),
        part(1, "info", KEY, 5, 2, 3),
        part(1, "debug", KEY, 9, 0, 1),
    ] {
        send(&publisher, &message);
    }
    broker.until("received", |totals| totals.received == 8);
    let worker = broker.worker(&[]);
    let (frames, trailer) = page(&worker, "info", 0);
    assert_eq!(seqs(&frames), [(1, 2), (1, 3), (1, 4), (1, 5), (1, 7)]);
    assert_eq!(trailer, (5, 5, 5));
    send(&publisher, &part(1, "info", KEY, 5, 1, 3));
    broker.until("received", |totals| totals.received == 9);
    let (frames, trailer) = page(&worker, "info", 0);
    assert_eq!((seqs(&frames), trailer), (vec![(1, 5), (1, 6), (1, 7)], (3, 3, 3)));
    assert_eq!(page(&worker, "unknown", 7), (vec![], (0, 0, 0)));
    let totals = broker.end();
    assert_eq!(totals.replayed, 8);
}

#[test]
fn an_end_frame_is_acknowledged_when_all_its_parts_are_kept_and_on_each_repetition() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let ack = Ack { publisher: PublisherId([7; 16]), level: "info", frame_seq: 3 }.encode();
    let marker = b"\x01marker".to_vec();
    send(&publisher, &part(7, "info", END, 3, 0, 2));
    broker.until("received", |totals| totals.received == 1);
    let worker = broker.worker(&[b"marker"]);
    assert_eq!(receive_until(&publisher, &marker), Vec::<Vec<u8>>::new(), "half an end frame");
    send(&publisher, &part(7, "info", END, 3, 1, 2));
    assert_eq!(receive(&publisher)[..], ack[..]);
    for index in 0..2 {
        send(&publisher, &part(7, "info", END, 3, index, 2));
    }
    assert_eq!(receive(&publisher)[..], ack[..]);
    let (frames, _) = page(&worker, "info", 0);
    assert_eq!(seqs(&frames), [(7, 3), (7, 4)]);
    assert_eq!(broker.end().acknowledged, 2);
}

#[test]
fn six_hundred_publishers_come_page_by_page_to_the_asker_alone() {
    const COUNT: u32 = 600;
    let broker = Fixture::new();
    let publisher = broker.publisher();
    for index in 0..COUNT {
        let id = u128::from(index).to_le_bytes();
        send(&publisher, &frame(id, "info", 1, |header| header.flags = END));
    }
    broker.until("received", |totals| totals.received == u64::from(COUNT));
    let bystander = broker.worker(&[b"\x01info\0", b"\x02info\0bystander"]);
    let asker = broker.worker(&[]);
    let (mut seen, mut from) = (Vec::new(), 0);
    let mut trailers = Vec::new();
    loop {
        let (frames, (count, next, total)) = page(&asker, "info", from);
        assert_eq!(frames.len(), count as usize);
        seen.extend(frames);
        trailers.push((count, next, total));
        from = next;
        if next == total {
            break;
        }
    }
    let page_max = PAGE_FRAMES_MAX as u32;
    let rest = COUNT - 2 * page_max;
    let expected = [(page_max, page_max, COUNT), (page_max, 2 * page_max, COUNT), (rest, COUNT, COUNT)];
    assert_eq!(trailers, expected);
    let expected: Vec<_> = (0..COUNT).map(|index| index as u8).collect();
    assert_eq!(seen.iter().map(|frame| frame.0).collect::<Vec<_>>(), expected);
    send(&publisher, &part(1, "info", DELTA, 1, 0, 1));
    assert_eq!(receive(&bystander)[..], part(1, "info", DELTA, 1, 0, 1), "the first thing it gets");
    let totals = broker.end();
    assert_eq!(totals.replayed, u64::from(COUNT));
}

#[test]
fn a_replayed_frame_says_how_long_it_was_held() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let sent = Instant::now();
    send(&publisher, &part(1, "info", KEY, 1, 0, 1));
    broker.until("kept", |totals| totals.received == 1);
    let received = Instant::now();
    let worker = broker.worker(&[]);
    let end = Instant::now() + DEADLINE;
    loop {
        let least = received.elapsed().as_millis();
        let (frames, _) = page(&worker, "info", 0);
        let held = u128::from(frames[0].2);
        // A turn's messages share the time at which the turn began.
        assert!(held + 1 >= least.saturating_sub(200) && held <= sent.elapsed().as_millis(), "{held} ms");
        if held >= 400 {
            break;
        }
        assert!(Instant::now() < end);
    }
    broker.end();
}

#[test]
fn frames_are_kept_and_acknowledged_while_no_worker_is_there() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    send(&publisher, &part(1, "info", END, 1, 0, 1));
    assert_eq!(Ack::parse(&receive(&publisher)).unwrap().frame_seq, 1);
    let totals = broker.end();
    assert_eq!((totals.no_subscriber(), totals.kept_publishers), (1, 2), "the other is the broker itself");
}

#[test]
fn a_burst_of_requests_does_not_keep_messages_waiting() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    for seq in 1..=300 {
        send(&publisher, &part(1, "info", DELTA, seq, 0, 1));
    }
    broker.until("received", |totals| totals.received == 300);
    let worker = broker.worker(&[b"\x01info\0"]);
    let asker = broker.worker(&[]);
    for index in 0..100_u64 {
        let request = Replay { level: "info", nonce: index.to_le_bytes(), from: 0 };
        asker.set_subscribe(&request.topic().unwrap()).unwrap();
    }
    send(&publisher, &part(1, "info", DELTA, 301, 0, 1));
    assert_eq!(receive(&worker)[..], part(1, "info", DELTA, 301, 0, 1));
    // The fixture's own requests, for a level without frames, are two more.
    broker.until("answered", |totals| totals.replay_pages == 102);
    let totals = broker.end();
    assert_eq!(totals.replayed, 100 * PAGE_FRAMES_MAX as u64);
}
