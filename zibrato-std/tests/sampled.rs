//! Sampled timers through a real client: counts are those of the calls, to the last one.

mod support;

use std::time::Duration;

use support::{Broker, DEADLINE, alone, builder};
use zibrato_core::frame::{Frame, State};
use zibrato_std::{Level, LossReason, SampledTimer, Timer, time_me};

/// Calls of each thread; not a multiple of any `n`.
const CALLS: u64 = 1_000_003;

#[time_me(level = "info", name = "sampled.attribute", sampled = 16)]
fn step() -> Option<u8> {
    None?;
    Some(1)
}

/// Held across an `await`, the guard makes no future less `Send`.
#[time_me(level = "info", name = "sampled.async", sampled = 2)]
async fn later() {
    std::future::ready(()).await;
}

#[test]
fn counts_of_three_threads_are_exact_through_the_shutdown() {
    static STEP: SampledTimer = Timer::new("sampled.step", Level::INFO).sampled(64);
    static OFF: SampledTimer = Timer::new("sampled.off", Level::DEBUG).sampled(64);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).window(Duration::from_millis(20)).build().unwrap();
    let thread = || {
        std::thread::spawn(|| {
            for _ in 0..CALLS {
                drop(STEP.start());
                drop(OFF.start());
                step();
            }
        })
    };
    let threads = [thread(), thread(), thread()];
    while !threads.iter().all(|thread| thread.is_finished()) {
        let stats = client.stats().unwrap();
        assert!(stats.law_holds(), "{stats}");
        // Windows end meanwhile, and their frames are taken.
        broker.read();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    fn is_send(_: impl Send) {}
    is_send(later());

    let stopper = std::thread::spawn(move || client.shutdown(DEADLINE).unwrap());
    let end = broker.next("end frame", |message| {
        broker.acknowledge(message);
        Frame::parse(message).is_ok_and(|frame| frame.header.flags.end).then(|| message.to_vec())
    });
    let stats = stopper.join().unwrap();
    assert!(stats.law_holds(), "{stats}");
    assert_eq!((stats.accepted.timers, stats.delivered.timers), (6 * CALLS, 6 * CALLS));
    assert_eq!((stats.held, stats.refused), Default::default());
    assert_eq!(stats.losses.count(LossReason::ClockBackwards), 0, "{stats}");
    for name in ["sampled.step", "sampled.attribute"] {
        let frame = Frame::parse(&end).unwrap();
        let entry = frame.entries().flatten().find(|entry| entry.name == name).unwrap();
        let State::Timer { count, sum_ns, histogram, .. } = entry.state else { panic!("no timer") };
        assert_eq!((count, histogram.zero + histogram.buckets().sum::<u64>()), (3 * CALLS, 3 * CALLS));
        assert!(sum_ns > 0);
    }
}
