//! How fast datagrams leave: a server that is sent a whole flush at once drops what its socket cannot hold.

use std::time::Duration;

use tokio::time::Instant;

/// Packets that may leave back to back. The receive buffer that Linux gives a socket holds some 90 of 1432 bytes.
const BURST_PACKETS: u32 = 10;

/// A bound on packets a second.
#[derive(Debug)]
pub(super) struct Pace {
    per_packet: Duration,
    /// When all that left is paid for.
    paid: Instant,
}

impl Pace {
    /// At most so many packets a second, at least 1.
    pub(super) fn new(packets_per_s: u32) -> Self {
        Self { per_packet: Duration::from_secs(1) / packets_per_s.max(1), paid: Instant::now() }
    }

    /// Waits until one more packet may leave.
    pub(super) async fn wait(&mut self) {
        let delay = self.delay(Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// How long one more packet has to wait; it is counted as sent.
    fn delay(&mut self, now: Instant) -> Duration {
        self.paid = self.paid.max(now) + self.per_packet;
        self.paid.saturating_duration_since(now + self.per_packet * BURST_PACKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_then_the_rate_holds() {
        let mut pace = Pace::new(1_000);
        let mut now = Instant::now();
        for _ in 0..BURST_PACKETS {
            assert_eq!(pace.delay(now), Duration::ZERO);
        }
        let begun = now;
        for _ in 0..1_000 {
            now += pace.delay(now);
        }
        assert_eq!(now - begun, Duration::from_secs(1));
        // What was not used is not saved up beyond a burst.
        now += Duration::from_secs(60);
        for _ in 0..BURST_PACKETS {
            assert_eq!(pace.delay(now), Duration::ZERO);
        }
        assert_eq!(pace.delay(now), Duration::from_millis(1));
    }
}
