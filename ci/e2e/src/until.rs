//! Waiting for a condition.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything that should happen. Generous, because it is only reached by a failure
/// and a machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Polls until `look` answers something, within [`DEADLINE`].
///
/// # Panics
/// After the deadline, with `what`.
pub fn until<T>(what: impl Display, look: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, look)
}

/// Polls until `look` answers something, within `deadline`.
///
/// # Panics
/// After the deadline, with `what`.
pub fn until_within<T>(deadline: Duration, what: impl Display, mut look: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + deadline;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < by, "no {what} within {deadline:?}");
        thread::sleep(PAUSE);
    }
}
