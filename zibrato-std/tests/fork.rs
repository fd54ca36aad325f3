//! A forked child: the inherited client does nothing, and its own one starts from zero.
#![expect(unsafe_code, reason = "fork, waitpid and _exit have no safe wrapper")]

use std::time::Duration;

use zibrato_std::{Client, Counter, Level, Timer};

static HITS: Counter = Counter::new("fork.hits", Level::INFO);
static TOOK: Timer = Timer::new("fork.took", Level::INFO);

fn builder() -> zibrato_std::Builder {
    Client::builder().endpoint("tcp://127.0.0.1:9").window(Duration::from_millis(50))
}

/// What the child does; 0 if all is as it should be, else the number of the check that failed.
fn child(inherited: Client) -> i32 {
    HITS.add(1_000);
    TOOK.record(Duration::from_secs(1));
    inherited.flush();
    if inherited.stats().is_some() || inherited.wait_subscribed(Level::INFO, Duration::from_secs(9)) {
        return 1;
    }
    if inherited.shutdown(Duration::from_secs(9)).is_some() {
        return 2;
    }
    let Ok(own) = builder().build() else { return 3 };
    HITS.add(3);
    TOOK.record(Duration::from_secs(1));
    let Some(stats) = own.shutdown(Duration::ZERO) else { return 4 };
    if (stats.accepted.counters, stats.accepted.timers) == (3, 1) && stats.law_holds() { 0 } else { 5 }
}

#[test]
fn a_child_counts_only_its_own_and_the_parent_only_its() {
    let client = builder().build().unwrap();
    HITS.add(5);
    TOOK.record(Duration::from_secs(1));
    // SAFETY: the child calls only code that takes no lock which another thread of the parent may
    // have held, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = child(client);
        // SAFETY: ends the child without running destructors that belong to the parent.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child was killed: status {status}");
    assert_eq!(libc::WEXITSTATUS(status), 0, "number of the child's check that failed");
    HITS.add(2);
    let stats = client.shutdown(Duration::ZERO).unwrap();
    assert_eq!((stats.accepted.counters, stats.accepted.timers), (7, 1));
}
