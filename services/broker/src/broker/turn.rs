//! What the broker's thread does: turn by turn, some of what workers ask for, some of what
//! publishers send, and what is due by the clock.

use std::time::{Duration, Instant};

use tracing::{debug, error, warn};
use zibrato_core::frame::{Ack, Forwarded, PublisherId, Replay, TOPIC_FORWARDED, TOPIC_REPLAY, topic};
use zibrato_service::Shutdown;
use zibrato_std::socket::{Sent, recv_now, send_now};
use zmq::{Error, Message, POLLIN, Socket};

use super::DRAIN_MAX;
use crate::classify::{Class, Refusal};
use crate::config::Config;
use crate::counts::{Counts, Totals, nonzero};
use crate::keep::Keep;
use crate::replay;
use crate::report::View;
use crate::self_metrics::{self, OwnFrame, SelfMetrics};
use crate::status::Status;
use crate::subscriptions::{Ignored, Subscriptions};

/// Longest wait for something to do. A socket handles new connections only inside a call, so the
/// thread may not sleep much longer.
const POLL_MAX: Duration = Duration::from_millis(50);
/// Most messages of publishers in one turn, so that a flood does not keep workers waiting.
const MESSAGES_PER_TURN: usize = 1_000;
/// Most messages of workers in one turn, so that they do not keep publishers waiting.
const REQUESTS_PER_TURN: usize = 1_000;
/// Most pages of a replay in one turn: each is up to 256 frames of 64 KiB.
const PAGES_PER_TURN: u64 = 4;
/// How often the counts are copied for the status page.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(200);

/// The thread's state.
pub(crate) struct Broker {
    from_publishers: Socket,
    to_workers: Socket,
    id: PublisherId,
    subscriptions: Subscriptions,
    keep: Keep,
    counts: Counts,
    own: SelfMetrics,
    status: Status,
    /// When this turn began.
    now: Instant,
    window_due: Instant,
    snapshot_due: Instant,
}

impl Broker {
    pub(crate) fn new(
        from_publishers: Socket,
        to_workers: Socket,
        id: PublisherId,
        config: &Config,
        status: Status,
    ) -> Self {
        let now = Instant::now();
        Self {
            from_publishers,
            to_workers,
            id,
            subscriptions: Subscriptions::default(),
            keep: Keep::new(config.keep_bytes_max, config.keep_age_max),
            counts: Counts::default(),
            own: SelfMetrics::new(id, now),
            status,
            now,
            window_due: now + self_metrics::WINDOW,
            snapshot_due: now,
        }
    }

    /// Forwards until an end is requested, then drains. Returns the final counts and closes the
    /// sockets.
    pub(crate) fn run(mut self, endpoint: &str, shutdown: &Shutdown) -> Totals {
        let result = self.forward(shutdown).and_then(|()| self.drain(endpoint, shutdown));
        let mut totals = self.totals();
        if let Err(error) = result {
            error!(%error, "the broker failed");
            totals.failed = Some(error);
        }
        if shutdown.is_immediate() {
            // Closing waits for nobody then. It cannot fail on an open socket.
            let _ = self.to_workers.set_linger(0);
            let _ = self.from_publishers.set_linger(0);
        }
        self.status.set_view(View::of(&self.subscriptions, &self.keep));
        self.status.set(totals.clone());
        totals
    }

    fn forward(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        // Frames are kept even while there is no worker, so this subscription never ends.
        self.upstream(b"\x01\x01")?;
        while !shutdown.is_requested() {
            self.wait(POLL_MAX)?;
            self.turn()?;
            self.attend_clock()?;
        }
        Ok(())
    }

    /// Stops intake, forwards the rest, and says goodbye.
    fn drain(&mut self, endpoint: &str, shutdown: &Shutdown) -> Result<(), Error> {
        // Closes the connections as well; what they brought stays queued here.
        if let Err(error) = self.from_publishers.unbind(endpoint) {
            warn!(%error, endpoint, "cannot stop listening");
        }
        let deadline = Instant::now() + DRAIN_MAX;
        while !shutdown.is_immediate() {
            let is_quiet = !self.wait(POLL_MAX)?;
            self.turn()?;
            if is_quiet {
                break;
            }
            if Instant::now() > deadline {
                warn!(
                    drain_ms = DRAIN_MAX.as_millis() as u64,
                    "gave up draining; what is still queued is lost"
                );
                break;
            }
        }
        let totals = self.totals();
        let frames = self.own.end(&totals, self.now);
        self.publish(frames)
    }

    /// Waits until there is something to read, at most `timeout`; says whether there is.
    fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        let mut items = [self.from_publishers.as_poll_item(POLLIN), self.to_workers.as_poll_item(POLLIN)];
        match zmq::poll(&mut items, timeout.as_millis() as i64) {
            Ok(ready) => Ok(ready > 0),
            // A signal may be the one to stop; the caller looks.
            Err(Error::EINTR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.now = Instant::now();
        let pages = self.counts.replay_pages;
        for _ in 0..REQUESTS_PER_TURN {
            let Some(message) = recv_now(&self.to_workers)? else { break };
            self.take_request(&message)?;
            if self.counts.replay_pages >= pages + PAGES_PER_TURN {
                break;
            }
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = recv_now(&self.from_publishers)? else { break };
            self.take_message(message)?;
        }
        Ok(())
    }

    /// Handles what the outgoing socket reports: a subscription, an unsubscription, or something
    /// that a worker has no business to send.
    fn take_request(&mut self, message: &[u8]) -> Result<(), Error> {
        let done = match message {
            [1, topic @ ..] => self.subscribe(topic, message)?,
            [0, topic @ ..] => self.unsubscribe(topic, message)?,
            _ => Err(Ignored::UserMessage),
        };
        if let Err(reason) = done {
            debug!(reason = reason.as_str(), bytes = message.len(), "ignored what a worker sent");
            self.counts.ignore(reason);
        }
        Ok(())
    }

    fn subscribe(&mut self, topic: &[u8], message: &[u8]) -> Result<Result<(), Ignored>, Error> {
        if topic.first() == Some(&TOPIC_REPLAY) {
            let Some(request) = Replay::parse(topic) else { return Ok(Err(Ignored::Malformed)) };
            let to_workers = &self.to_workers;
            let send = |message: &[u8]| send_now(to_workers, message).map(drop);
            self.counts.replayed += u64::from(replay::answer(&self.keep, topic, &request, self.now, send)?);
            self.counts.replay_pages += 1;
            return Ok(Ok(()));
        }
        let is_new = match self.subscriptions.add(topic) {
            Ok(is_new) => is_new,
            Err(reason) => return Ok(Err(reason)),
        };
        if topic.first() == Some(&TOPIC_FORWARDED) {
            self.answer_forwarded(topic)?;
        } else if is_new {
            self.upstream(message)?;
        }
        if is_new && SelfMetrics::is_subscription(topic) {
            self.own.ask_for_key();
        }
        Ok(Ok(()))
    }

    fn unsubscribe(&mut self, topic: &[u8], message: &[u8]) -> Result<Result<(), Ignored>, Error> {
        match topic.first() {
            // A request is not held, so there is nothing to cancel.
            Some(&TOPIC_REPLAY) => return Ok(Ok(())),
            first => match self.subscriptions.remove(topic) {
                Err(reason) => return Ok(Err(reason)),
                Ok(()) if first == Some(&TOPIC_FORWARDED) => {}
                Ok(()) => self.upstream(message)?,
            },
        }
        Ok(Ok(()))
    }

    fn take_message(&mut self, mut message: Message) -> Result<(), Error> {
        self.counts.received += 1;
        if message.get_more() {
            // All parts of a message arrive together.
            while message.get_more()
                && let Some(next) = recv_now(&self.from_publishers)?
            {
                message = next;
            }
            self.counts.refuse(Refusal::MultiPart);
            return Ok(());
        }
        let class = match Class::of(&message) {
            Ok(class) => class,
            Err(reason) => {
                debug!(reason = reason.as_str(), bytes = message.len(), "refused a message");
                self.counts.refuse(reason);
                return Ok(());
            }
        };
        if let Class::Native { level, header, untopiced } = &class
            && let Some(frame_seq) = self.keep.insert(level, header, untopiced, self.now)
        {
            let ack = Ack { publisher: header.publisher, level, frame_seq };
            self.upstream(&ack.encode())?;
            self.counts.acknowledged += 1;
        }
        // The socket is given every message, also one that our own set says nobody wants: it applies
        // a subscription a moment before it reports it, and after a stranger cancelled what he never
        // had it is right and the set is not.
        match send_now(&self.to_workers, &message)? {
            Sent::Accepted => self.counts.passed(&class, &message, &self.subscriptions),
            Sent::Full => self.counts.refuse(Refusal::Full),
        }
        Ok(())
    }

    /// What is due by the clock: the broker's own frames, forwarded counts, and the snapshot.
    fn attend_clock(&mut self) -> Result<(), Error> {
        if self.now >= self.snapshot_due {
            self.snapshot_due = self.now + SNAPSHOT_INTERVAL;
            self.status.set(self.totals());
        }
        if self.now < self.window_due {
            return Ok(());
        }
        // After a long turn the missed windows are skipped, not made up for.
        self.window_due = (self.window_due + self_metrics::WINDOW).max(self.now);
        self.keep.expire(self.now);
        let totals = self.totals();
        let frames = self.own.window(&totals, self.now);
        self.publish(frames)?;
        self.status.set_view(View::of(&self.subscriptions, &self.keep));
        for (level, messages) in self.counts.reported(&self.subscriptions) {
            if let Some(report) = (Forwarded { level, broker: self.id, messages }).encode() {
                let _: Sent = send_now(&self.to_workers, &report)?;
            }
        }
        Ok(())
    }

    /// Tells a new subscriber of a level's forwarded count where it stands.
    fn answer_forwarded(&self, subscribed: &[u8]) -> Result<(), Error> {
        let level = subscribed.get(1..subscribed.len().saturating_sub(1)).map(str::from_utf8);
        let Some(Ok(level)) = level else { return Ok(()) };
        if topic(TOPIC_FORWARDED, level).is_none_or(|topic| *topic != *subscribed) {
            // A shorter topic, which means several levels. Their counts come with the next window.
            return Ok(());
        }
        let messages = self.counts.legacy_forwarded(level);
        let report = messages.and_then(|messages| Forwarded { level, broker: self.id, messages }.encode());
        if let Some(report) = report {
            let _: Sent = send_now(&self.to_workers, &report)?;
        }
        Ok(())
    }

    /// Sends the broker's own frames, and keeps them like anybody's.
    fn publish(&mut self, frames: Vec<OwnFrame>) -> Result<(), Error> {
        for frame in frames {
            // An acknowledgement of our own end frame would reach nobody.
            let _ = self.keep.insert(self_metrics::LEVEL, &frame.header, frame.untopiced(), self.now);
            let _: Sent = send_now(&self.to_workers, &frame.message)?;
        }
        Ok(())
    }

    /// Sends a subscription or an acknowledgement to all publishers.
    fn upstream(&self, message: &[u8]) -> Result<(), Error> {
        let _: Sent = send_now(&self.from_publishers, message)?;
        Ok(())
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counts.write_to(&mut totals);
        let evicted = self.keep.evicted();
        totals.evicted = nonzero(
            ["bytes_live", "bytes_ended", "age_live", "age_ended"],
            [evicted.bytes_live, evicted.bytes_ended, evicted.age_live, evicted.age_ended],
        );
        totals.kept_frames = self.keep.frames();
        totals.kept_bytes = self.keep.bytes();
        totals.kept_publishers = self.keep.publishers();
        totals.topics = self.subscriptions.count();
        totals
    }
}
