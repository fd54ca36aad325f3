use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zibrato_core::frame::{Frame, PublisherId, State};
use zibrato_core::level::Level;
use zibrato_core::metric::{Gauge, Timer};
use zibrato_core::{Drain, registry};

use crate::links::Frames;

use super::{FrameKind, GIVE_WAY, Identity, LegacyQueue, Publisher};

mod sampled;
mod samples;

/// One test at a time has a publisher and the drain.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A publisher whose always levels are on, and the drain.
fn publisher(series_max: usize, legacy: Option<LegacyQueue>) -> (Publisher, Drain) {
    let mut drain = Drain::claim().expect("the tests that claim it take turns");
    let identity = Identity {
        id: PublisherId([7; 16]),
        source: "test".to_owned(),
        program: "test".to_owned(),
        host: "test".to_owned(),
        pid: 1,
        started: Instant::now(),
    };
    let publisher = Publisher::new(identity, series_max, legacy, &mut drain);
    registry::switch(true, Vec::new());
    (publisher, drain)
}

/// Counts of the timers and sets of the gauges in a frame, by name.
fn units(frames: &Frames) -> Vec<(String, u64)> {
    let mut units = Vec::new();
    for part in &frames.parts {
        let frame = Frame::parse(part).expect("our own frame");
        for entry in frame.entries() {
            let entry = entry.expect("our own entry");
            match entry.state {
                State::Timer { count, .. } => units.push((entry.name.to_owned(), count)),
                State::Gauge { sets, min, max, .. } => {
                    assert_eq!((min, max), (1.0, 9.0), "the whole window's");
                    units.push((entry.name.to_owned(), sets));
                }
                State::Counter { .. } => {}
            }
        }
    }
    units
}

#[test]
fn records_that_come_while_a_frame_is_made_are_in_it_or_in_the_next_but_behind_the_end_in_none() {
    static FIRST: Timer = Timer::new("first", Level::INFO);
    static LAST: Timer = Timer::new("last", Level::INFO);
    static DEPTH: Gauge = Gauge::new("depth", Level::INFO);
    let _alone = alone();
    let (mut publisher, mut drain) = publisher(100, None);
    let ns = Duration::from_nanos(5);
    let wait_for_the_next_pass = |publisher: &mut Publisher| publisher.passed -= 2 * GIVE_WAY;

    FIRST.record(ns);
    LAST.record(ns);
    DEPTH.set(1.0);
    publisher.fold_rings(&mut drain);
    let wanted =
        |first, last, sets| vec![("first".into(), first), ("last".into(), last), ("depth".into(), sets)];
    // Not folded yet: encoding does so when it comes to its first series.
    LAST.record(ns);
    DEPTH.set(9.0);
    DEPTH.set(4.0);
    wait_for_the_next_pass(&mut publisher);
    let frames = publisher.encode(&mut drain, 0, FrameKind::Key);
    assert_eq!(units(&frames), wanted(1, 2, 3));
    assert_eq!(publisher.fold_rings(&mut drain), 0, "encoding took them");
    assert_eq!(publisher.due(0), Some(FrameKind::Heartbeat), "nothing is left to say");

    // While parts are sent; the next frame has them.
    FIRST.record(ns);
    wait_for_the_next_pass(&mut publisher);
    publisher.give_way(&mut drain);
    assert_eq!(publisher.due(0), Some(FrameKind::Delta));
    assert_eq!(units(&publisher.encode(&mut drain, 0, FrameKind::Delta)), [("first".into(), 2)]);

    LAST.record(ns);
    wait_for_the_next_pass(&mut publisher);
    assert_eq!(units(&publisher.encode(&mut drain, 0, FrameKind::End)), wanted(2, 2, 3));
    publisher.give_way(&mut drain);
    assert_eq!(publisher.accepted(0).timers, 4, "what no frame says is not accepted");
    assert_eq!(publisher.fold_rings(&mut drain), 1, "it stands in the ring still");
    registry::switch(false, Vec::new());
}
