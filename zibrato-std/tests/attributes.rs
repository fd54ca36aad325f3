//! The attributes with nothing but this crate: what they record reaches the client.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zibrato_std::{Client, Level, count_me, time_me};

/// Longest wait for the end; nobody listens, so it is not reached.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where a program may keep what it uses for its metrics.
mod metrics {
    pub(crate) use zibrato_std::{Counter, Level};
}

#[count_me(level = "info", name = "s.handled", value = bytes.len() as u64, unit = "B")]
#[time_me(level = Level::ERROR, name = "s.handle", tags(route = "/x"))]
fn handle(bytes: &[u8]) -> Option<u8> {
    let first = bytes.first()?;
    Some(*first)
}

#[time_me(level = "info")]
#[count_me(level = "info", name = "s.later", crate = crate::metrics)]
async fn handle_later(bytes: &[u8]) -> Option<u8> {
    handle(bytes)
}

#[count_me(level = "debug", name = "s.unheard")]
#[time_me(level = "trace", name = "s.unheard")]
fn unheard() {}

#[test]
fn what_the_attributes_record_reaches_the_client() {
    let client = Client::builder().endpoint("tcp://127.0.0.1:9").build().unwrap();
    assert_eq!(handle(&[7, 8, 9]), Some(7));
    assert_eq!(handle(&[]), None);
    let polled = pin!(handle_later(&[5])).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(Some(5)));
    drop(handle_later(&[6]));
    unheard();
    let stats = client.shutdown(DEADLINE).unwrap();
    assert!(stats.law_holds());
    // Bytes of `handle` and one call of `handle_later`; three ends of `handle` and one of the other.
    assert_eq!((stats.accepted.counters, stats.accepted.timers), (3 + 1 + 1, 3 + 1));
}
