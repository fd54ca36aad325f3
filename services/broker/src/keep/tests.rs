use zibrato_core::frame::{Flags, HEADER_BYTES};

use super::publisher::FRAME_OVERHEAD_BYTES;
use super::*;
use crate::tests::frame;

const AGE_MAX: Duration = Duration::from_secs(60);
const KEY: Flags = Flags { key: true, end: false, heartbeat: false };
const END: Flags = Flags { key: true, end: true, heartbeat: false };
const HEARTBEAT: Flags = Flags { key: false, end: false, heartbeat: true };
const DELTA: Flags = Flags { key: false, end: false, heartbeat: false };

/// A keep and a clock to drive it by.
struct Fixture {
    keep: Keep,
    now: Instant,
}

impl Fixture {
    fn new(bytes_max: usize) -> Self {
        Self { keep: Keep::new(bytes_max, AGE_MAX), now: Instant::now() }
    }

    /// Inserts part `part` of `of` of the frame named `first` from publisher `id`.
    fn put(&mut self, id: u8, flags: Flags, first: u64, (part, of): (u16, u16)) -> Option<u64> {
        self.put_at("info", id, flags, first, (part, of))
    }

    fn put_at(&mut self, level: &str, id: u8, flags: Flags, first: u64, parts: (u16, u16)) -> Option<u64> {
        let (part, of) = parts;
        let message = frame([id; 16], level, first + u64::from(part), |header| {
            (header.flags, header.part, header.of) = (flags, part, of);
        });
        let untopiced = &message[level.len() + 2..];
        self.keep.insert(level, &Header::parse(untopiced).unwrap(), untopiced, self.now)
    }

    /// First byte, levels, seconds of silence and end of the latest publishers.
    fn latest(&self, max: usize, levels_max: usize) -> Vec<(u8, String, u64, bool)> {
        let latest = self.keep.latest(max, levels_max).into_iter();
        let silent_s = |kept: &Kept| self.now.duration_since(kept.seen).as_secs();
        latest.map(|kept| (kept.id.0[0], kept.levels.join(","), silent_s(&kept), kept.is_ended)).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.keep.expire(self.now);
    }

    /// First byte of the publisher and seq of each kept frame, in order of a replay.
    fn kept(&self) -> Vec<(u8, u64)> {
        let page = self.keep.page("info", 0, usize::MAX);
        assert_eq!((page.frames.len(), page.next), (page.total as usize, page.total));
        assert_eq!(self.keep.frames(), page.frames.len());
        let bytes: usize = page.frames.iter().map(|frame| frame.untopiced.len() + FRAME_OVERHEAD_BYTES).sum();
        assert_eq!(self.keep.bytes(), bytes + self.keep.publishers() * PUBLISHER_OVERHEAD_BYTES);
        let header = |frame: &&KeptFrame| Header::parse(&frame.untopiced).unwrap();
        page.frames.iter().map(header).map(|header| (header.publisher.0[0], header.seq)).collect()
    }
}

/// What a publisher with one frame costs.
fn one_frame() -> usize {
    let bytes = frame([0; 16], "info", 1, |_| {}).len() - "?info?".len();
    assert!(bytes > HEADER_BYTES);
    bytes + FRAME_OVERHEAD_BYTES + PUBLISHER_OVERHEAD_BYTES
}

#[test]
fn a_complete_key_frame_replaces_everything_before_it() {
    let mut keep = Fixture::new(1 << 20);
    keep.put(1, DELTA, 1, (0, 1));
    keep.put(1, KEY, 2, (0, 1));
    keep.put(1, DELTA, 3, (0, 1));
    keep.put(1, DELTA, 4, (0, 1));
    assert_eq!(keep.kept(), [(1, 2), (1, 3), (1, 4)]);
    keep.put(1, KEY, 5, (0, 2));
    keep.put(1, DELTA, 7, (0, 1));
    assert_eq!(keep.kept(), [(1, 2), (1, 3), (1, 4), (1, 5), (1, 7)], "not complete yet");
    keep.put(1, KEY, 5, (1, 2));
    assert_eq!(keep.kept(), [(1, 5), (1, 6), (1, 7)]);
}

#[test]
fn duplicates_and_older_frames_are_kept_once_or_not_at_all() {
    let mut keep = Fixture::new(1 << 20);
    keep.put(1, KEY, 5, (0, 1));
    for _ in 0..2 {
        keep.put(1, DELTA, 6, (0, 1));
        keep.put(1, DELTA, 4, (0, 1));
        keep.put(1, KEY, 3, (0, 1));
        keep.put(1, KEY, 5, (0, 1));
        keep.put(1, KEY, 7, (1, 3));
    }
    assert_eq!(keep.kept(), [(1, 5), (1, 6), (1, 8)]);
}

#[test]
fn parts_of_a_key_frame_that_never_became_complete_go_with_the_next_one() {
    let mut keep = Fixture::new(1 << 20);
    keep.put(1, KEY, 1, (0, 2));
    keep.put(1, DELTA, 3, (0, 1));
    keep.put(1, KEY, 4, (1, 2));
    assert_eq!(keep.kept(), [(1, 3), (1, 5)]);
    // A late part of the older one, and a part that contradicts the newer one.
    keep.put(1, KEY, 1, (1, 2));
    keep.put(1, KEY, 4, (0, 3));
    assert_eq!(keep.kept(), [(1, 3), (1, 5)]);
    keep.put(1, KEY, 4, (0, 2));
    assert_eq!(keep.kept(), [(1, 4), (1, 5)]);
}

#[test]
fn an_end_frame_is_acknowledged_when_its_last_part_is_kept_and_on_each_repetition() {
    let mut keep = Fixture::new(1 << 20);
    assert_eq!(keep.put(1, END, 3, (0, 3)), None);
    assert_eq!(keep.put(1, END, 3, (2, 3)), None);
    assert_eq!(keep.put(1, END, 3, (0, 3)), None, "a repeated part stands for no other");
    assert_eq!(keep.put(1, END, 3, (1, 3)), Some(3));
    let repetition: Vec<_> = (0..3).map(|part| keep.put(1, END, 3, (part, 3))).collect();
    assert_eq!(repetition, [None, None, Some(3)]);
    assert_eq!(keep.put(2, KEY, 3, (0, 1)), None, "no end frame");
    assert_eq!(keep.kept(), [(1, 3), (1, 4), (1, 5), (2, 3)]);
}

#[test]
fn late_frames_do_not_un_end_a_publisher() {
    let mut keep = Fixture::new(1 << 20);
    keep.put(1, END, 3, (0, 1));
    keep.put(1, DELTA, 4, (0, 1));
    keep.put(1, KEY, 5, (0, 1));
    keep.put(1, HEARTBEAT, 5, (0, 1));
    assert_eq!(keep.kept(), [(1, 3)]);
    assert_eq!(keep.put(1, END, 6, (0, 1)), Some(6), "a later end frame replaces it");
    assert_eq!(keep.kept(), [(1, 6)]);
}

#[test]
fn live_publishers_are_evicted_before_ended_ones_and_the_oldest_first() {
    let mut keep = Fixture::new(4 * one_frame());
    keep.put(1, END, 1, (0, 1));
    keep.put(2, KEY, 1, (0, 1));
    keep.put(3, KEY, 1, (0, 1));
    keep.put(4, END, 1, (0, 1));
    keep.put(2, HEARTBEAT, 1, (0, 1));
    assert_eq!(keep.kept(), [(1, 1), (4, 1), (2, 1), (3, 1)], "ended ones come first in a replay");
    keep.put(5, END, 1, (0, 1));
    assert_eq!(keep.kept(), [(1, 1), (4, 1), (5, 1), (2, 1)], "3 was seen longest ago");
    keep.put(6, END, 1, (0, 1));
    assert_eq!(keep.kept(), [(1, 1), (4, 1), (5, 1), (6, 1)]);
    assert_eq!(keep.put(7, END, 1, (0, 1)), Some(1));
    assert_eq!(keep.kept(), [(4, 1), (5, 1), (6, 1), (7, 1)], "1 ended first");
    keep.put(8, KEY, 1, (0, 1));
    assert_eq!(keep.kept(), [(4, 1), (5, 1), (6, 1), (7, 1)], "a live one does not push out an ended one");
    let expected = Evicted { bytes_live: 3, bytes_ended: 1, age_live: 0, age_ended: 0 };
    assert_eq!(keep.keep.evicted(), expected);
}

#[test]
fn an_end_frame_for_which_there_is_no_room_is_not_acknowledged() {
    let mut keep = Fixture::new(one_frame() - 1);
    assert_eq!(keep.put(1, END, 1, (0, 1)), None);
    assert_eq!((keep.kept(), keep.keep.bytes()), (vec![], 0));
}

#[test]
fn who_was_not_seen_for_longer_than_the_age_is_forgotten_and_a_heartbeat_is_a_sign_of_life() {
    let mut keep = Fixture::new(1 << 20);
    keep.put(1, KEY, 1, (0, 1));
    keep.put(2, KEY, 1, (0, 1));
    keep.put(3, END, 1, (0, 1));
    keep.pass(40);
    keep.put(1, HEARTBEAT, 1, (0, 1));
    keep.put(3, HEARTBEAT, 1, (0, 1));
    keep.put(9, HEARTBEAT, 1, (0, 1));
    keep.pass(20);
    assert_eq!(keep.kept(), [(3, 1), (1, 1), (2, 1)], "exactly the age is not longer than it");
    keep.pass(1);
    assert_eq!(keep.kept(), [(1, 1)]);
    let expected = Evicted { bytes_live: 0, bytes_ended: 0, age_live: 1, age_ended: 1 };
    assert_eq!(keep.keep.evicted(), expected);
    keep.pass(61);
    assert_eq!((keep.keep.levels.len(), keep.keep.bytes()), (0, 0));
}

#[test]
fn pages_of_any_size_are_the_list_cut_in_pieces() {
    let mut keep = Fixture::new(1 << 20);
    for id in 0..20 {
        keep.put(id, KEY, 1, (0, 2));
        keep.put(id, KEY, 1, (1, 2));
        for seq in 3..3 + u64::from(id) {
            keep.put(id, DELTA, seq, (0, 1));
        }
    }
    keep.put(4, END, 100, (0, 1));
    let all = keep.kept();
    assert_eq!(all[0], (4, 100));
    for limit in [1, 7, 256] {
        let (mut seen, mut from) = (0, 0);
        loop {
            let page = keep.keep.page("info", from, limit);
            assert_eq!((page.total as usize, page.next as usize), (all.len(), seen + page.frames.len()));
            for frame in page.frames {
                let header = Header::parse(&frame.untopiced).unwrap();
                assert_eq!((header.publisher.0[0], header.seq), all[seen]);
                seen += 1;
            }
            from = page.next;
            if page.next == page.total {
                break;
            }
        }
        assert_eq!(seen, all.len());
    }
    assert_eq!(keep.keep.page("info", 9_999, 256).next, all.len() as u32);
    assert_eq!(keep.keep.page("other", 0, 256).total, 0);
}

#[test]
fn sequence_numbers_at_the_end_of_their_range_are_kept_like_others() {
    let mut keep = Fixture::new(1 << 20);
    keep.put(1, KEY, u64::MAX - 1, (1, 2));
    keep.put(1, KEY, u64::MAX - 1, (0, 2));
    assert_eq!(keep.kept(), [(1, u64::MAX - 1), (1, u64::MAX)]);
    keep.put(2, KEY, u64::MAX, (0, 9));
    assert_eq!(keep.kept().len(), 3);
}

#[test]
fn the_latest_are_publishers_that_run_then_ended_ones_each_once_with_all_levels() {
    let mut keep = Fixture::new(1 << 20);
    for id in 1..=3 {
        keep.put(id, KEY, 1, (0, 1));
        keep.pass(1);
    }
    keep.put_at("debug", 1, KEY, 1, (0, 1));
    keep.put(2, END, 2, (0, 1));
    keep.pass(1);
    let all = [
        (1, "info,debug".to_owned(), 1, false),
        (3, "info".to_owned(), 2, false),
        (2, "info".to_owned(), 1, true),
    ];
    assert_eq!(keep.latest(9, 9), all);
    assert_eq!(keep.latest(1, 1), [(1, "info".to_owned(), 1, false)]);
    assert_eq!(keep.keep.publishers_distinct(), 3);
    // On one of its levels a publisher still runs.
    keep.put(1, END, 2, (0, 1));
    assert_eq!(keep.latest(1, 9)[0], (1, "info,debug".to_owned(), 1, false));
    keep.put_at("debug", 1, END, 2, (0, 1));
    assert_eq!(keep.latest(9, 9)[1], (1, "info,debug".to_owned(), 0, true));
    keep.pass(AGE_MAX.as_secs() + 1);
    assert_eq!((keep.latest(9, 9), keep.keep.publishers_distinct()), (Vec::new(), 0));
}
