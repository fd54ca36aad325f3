//! From a boot's state to brokers: windows, key frames for who subscribes, ends.

use std::time::{Duration, Instant};

use zibrato_core::frame::{PublisherId, TOPIC_STATE, topic};
use zibrato_std::links::{Links, Offered};
use zmq::{Context, Error};

use super::ending::{End, Ending};
use super::session::Sink;
use crate::boot::{Boot, FrameKind};
use crate::moment::{Clock, Moment};

/// Ends that wait for a broker; beyond it the oldest is given up, counted.
const ENDINGS_MAX: usize = 8;
/// Shortest time between two key frames of a level that subscriptions ask for, in milliseconds.
const KEY_SPACING_MS: u64 = 100;
/// Parts of a frame that go out between two readings of the sockets.
const PARTS_AT_ONCE: usize = 16;
/// How long a shutdown waits for a first connection.
const FIRST_CONNECTION: Duration = Duration::from_millis(250);
/// How long a closed socket goes on sending what it took, in milliseconds.
const LINGER_MS: i32 = 2_000;

/// Everything of a device that touches ZeroMQ.
pub(crate) struct Outlet {
    context: Context,
    endpoints: Vec<String>,
    links: Links,
    endings: Vec<Ending>,
    /// When the last window ended.
    window_at: Moment,
    /// Of sockets that are closed.
    messages_before: u64,
    pub(super) ends_unacknowledged: u64,
    /// Subscriptions changed since the last look.
    pub(super) has_news: bool,
    /// ZeroMQ failed; nothing can be sent any more.
    pub(super) failed: Option<Error>,
}

impl Outlet {
    pub(super) fn open(context: Context, endpoints: Vec<String>) -> Result<Self, (String, Error)> {
        // The publisher's id is known with the device's hello.
        let links = Links::open(&context, &endpoints, PublisherId([0; 16]))?;
        Ok(Self {
            context,
            endpoints,
            links,
            endings: Vec::new(),
            window_at: Moment::default(),
            messages_before: 0,
            ends_unacknowledged: 0,
            has_news: true,
            failed: None,
        })
    }

    /// All sockets, to be polled.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &zmq::Socket> {
        self.links.sockets().chain(self.endings.iter().flat_map(|ending| ending.links().sockets()))
    }

    /// Brokers that are connected.
    pub(super) fn brokers(&self) -> usize {
        self.links.connected()
    }

    pub(super) fn messages_sent(&self) -> u64 {
        let endings = self.endings.iter().map(|ending| ending.links().messages_sent);
        self.messages_before + self.links.messages_sent + endings.sum::<u64>()
    }

    /// Whether parts wait that no socket refused.
    pub(super) fn has_more(&self) -> bool {
        self.links.has_more
    }

    /// Whether somebody wants a level, by state frames or by samples.
    pub(super) fn is_wanted(&self, level: &str) -> bool {
        self.links.has_worker(level) || self.links.has_sampler(level)
    }

    /// Reads the sockets, and sends what is due by them.
    pub(super) fn exchange(&mut self, boot: Option<&mut Boot>, now: Moment) {
        let result = self.try_exchange(boot, now);
        self.note(result);
    }

    fn try_exchange(&mut self, boot: Option<&mut Boot>, now: Moment) -> Result<(), Error> {
        let news = self.links.read()?;
        self.has_news |= news.changed;
        self.links.retry(PARTS_AT_ONCE, || ())?;
        if let Some(boot) = boot {
            for level in boot.levels_mut() {
                let full = topic(TOPIC_STATE, &level.label);
                let is_of_level =
                    |prefix: &Vec<u8>| full.as_ref().is_some_and(|full| full.starts_with(prefix));
                level.wants_key |= news.subscribed.iter().any(is_of_level);
            }
            self.publish_wanted_keys(boot, now)?;
            self.end_late_window(boot, now)?;
            self.send_samples(boot);
        }
        let mut at = 0;
        while at < self.endings.len() {
            if self.endings[at].poll(now)? {
                let ending = self.endings.remove(at);
                self.close(ending);
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// Whoever just subscribed gets the whole state now instead of at the window's end.
    fn publish_wanted_keys(&mut self, boot: &mut Boot, now: Moment) -> Result<(), Error> {
        if boot.is_joining() {
            return Ok(());
        }
        for at in 0..boot.levels().len() {
            let level = &boot.levels()[at];
            let is_due = level.wants_key && level.since_frame_ms(now).is_some_and(|ms| ms >= KEY_SPACING_MS);
            if is_due && boot.has_number(at) && self.can_send(&boot.levels()[at].label) {
                self.publish(boot, at, FrameKind::Key, now)?;
            }
        }
        Ok(())
    }

    /// The device tells the end of its windows; if that frame is lost, what came before it does not wait.
    fn end_late_window(&mut self, boot: &mut Boot, now: Moment) -> Result<(), Error> {
        let late_ms = u64::from(boot.window_ms()) * 3 / 2;
        let is_late = now.ms_since(self.window_at) >= late_ms;
        if is_late && !boot.is_joining() && (0..boot.levels().len()).any(|level| boot.is_dirty(level)) {
            self.end_window(boot, now)?;
        }
        Ok(())
    }

    fn end_window(&mut self, boot: &mut Boot, now: Moment) -> Result<(), Error> {
        self.window_at = now;
        for at in 0..boot.levels().len() {
            let label = boot.levels()[at].label.clone();
            if !self.can_send(&label) {
                continue;
            }
            if self.links.take_behind(&label) {
                boot.levels_mut()[at].wants_key = true;
            }
            if let Some(kind) = boot.due(at) {
                self.publish(boot, at, kind, now)?;
            }
        }
        Ok(())
    }

    /// State goes first: a socket that could not take it gets no samples.
    fn send_samples(&mut self, boot: &mut Boot) {
        if !boot.has_samples() {
            return;
        }
        for mut message in boot.take_samples(|level| self.links.wants_samples(level)) {
            boot.number_samples(&mut message);
            let label = &boot.levels()[message.level].label;
            match self.links.offer_samples(label, &message.bytes) {
                Offered::Taken => boot.note_samples(&message, true),
                Offered::Refused => boot.note_samples(&message, false),
                Offered::Unwanted => {}
            }
        }
    }

    fn can_send(&self, label: &str) -> bool {
        self.links.wants_state(label) && !self.links.is_blocked(label)
    }

    fn publish(&mut self, boot: &mut Boot, at: usize, kind: FrameKind, now: Moment) -> Result<(), Error> {
        let frames = boot.encode(at, kind, now);
        self.links.offer(&boot.levels()[at].label, &frames, PARTS_AT_ONCE, || ())
    }

    /// Sockets of their own for the next boot. If there are none to be had, those of the oldest end are given up for them.
    fn open_links(&mut self) -> Result<Links, Error> {
        let open = |outlet: &Self| Links::open(&outlet.context, &outlet.endpoints, PublisherId([0; 16]));
        open(self).or_else(|failed| {
            if self.endings.is_empty() {
                return Err(failed.1);
            }
            self.close_oldest();
            open(self).map_err(|(_, error)| error)
        })
    }

    /// Sends the end of a boot once, by the sockets that the next boot goes on with: without others there is nobody who could
    /// wait until a broker has it.
    fn end_here(&mut self, ends: &[End], error: Error) -> Result<(), Error> {
        tracing::warn!(%error, "no sockets for the next boot: the end of the one before is sent once and not repeated");
        self.ends_unacknowledged += ends.len() as u64;
        for End { level, frames, .. } in ends {
            self.links.offer(level, frames, usize::MAX, || ())?;
        }
        Ok(())
    }

    fn close_oldest(&mut self) {
        let ending = self.endings.remove(0);
        self.close(ending);
    }

    fn close(&mut self, ending: Ending) {
        let (unacknowledged, sent) = ending.close(LINGER_MS);
        self.messages_before += sent;
        self.ends_unacknowledged += unacknowledged;
    }

    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            tracing::error!(%error, "ZeroMQ failed: nothing more can be sent");
            self.failed = Some(error);
        }
    }

    /// The gateway ends and the device goes on: its state as a key frame, and the ends that still wait.
    ///
    /// It is no end frame. An end frame is the last word on a level, after which a broker keeps nothing but
    /// another end and a worker asks for nothing; and the next gateway goes on as the same publisher.
    ///
    /// Ends that nobody acknowledged, messages sent, and why nothing could be sent any more.
    pub(super) fn finish(
        mut self,
        boot: Option<&mut Boot>,
        clock: Clock,
        deadline: Instant,
    ) -> (u64, u64, Option<Error>) {
        let result = self.try_finish(boot, clock, deadline);
        self.note(result);
        let linger_ms = deadline.saturating_duration_since(Instant::now()).as_millis().max(100) as i32;
        while let Some(ending) = self.endings.pop() {
            self.close(ending);
        }
        let sent = self.messages_before + self.links.messages_sent;
        self.links.close(linger_ms);
        (self.ends_unacknowledged, sent, self.failed)
    }

    fn try_finish(&mut self, boot: Option<&mut Boot>, clock: Clock, deadline: Instant) -> Result<(), Error> {
        let connect_by = deadline.min(Instant::now() + FIRST_CONNECTION);
        while self.links.connected() == 0 && Instant::now() < connect_by {
            self.links.read()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.links.retry(usize::MAX, || ())?;
        if let Some(boot) = boot.filter(|boot| !boot.is_joining()) {
            for at in 0..boot.levels().len() {
                if boot.has_number(at) && self.can_send(&boot.levels()[at].label) {
                    self.publish(boot, at, FrameKind::Key, clock.now())?;
                }
            }
        }
        loop {
            self.exchange(None, clock.now());
            self.links.retry(usize::MAX, || ())?;
            if self.failed.is_some()
                || (self.endings.is_empty() && !self.links.has_pending())
                || Instant::now() >= deadline
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Sink for Outlet {
    fn begin(&mut self, boot: &Boot, now: Moment) {
        self.links.publish_as(boot.id());
        (self.window_at, self.has_news) = (now, true);
    }

    fn window(&mut self, boot: &mut Boot, now: Moment) {
        let result = self.end_window(boot, now);
        self.note(result);
    }

    fn end(&mut self, boot: &mut Boot, now: Moment) {
        self.send_samples(boot);
        let mut ends = Vec::new();
        for at in 0..boot.levels().len() {
            if boot.is_published(at) {
                let frames = boot.encode(at, FrameKind::End, now);
                let level = boot.levels()[at].label.clone();
                ends.push(End { level, frames, is_acknowledged: false });
            }
        }
        match self.open_links() {
            Ok(fresh) => {
                let links = std::mem::replace(&mut self.links, fresh);
                self.endings.push(Ending::new(links, ends, now));
                if self.endings.len() > ENDINGS_MAX {
                    self.close_oldest();
                }
            }
            Err(error) => {
                let result = self.end_here(&ends, error);
                self.note(result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zibrato_core::link::{Hello, PROTOCOL};

    use super::*;
    use crate::boot::Setting;

    fn boot(number: u8) -> Boot {
        let setting = Setting { source: "dev".to_owned(), host: "lab".to_owned(), is_unfiltered: false };
        let hello = Hello {
            protocol: PROTOCOL,
            boot: number.into(),
            clock_hz: 1_000,
            overhead: 0,
            uptime: 0,
            window_ms: 1_000,
            metrics: 0,
            program: "",
        };
        Boot::new(PublisherId([number; 16]), setting, &hello, Moment::default())
    }

    #[test]
    fn a_boot_for_which_no_sockets_can_be_had_takes_those_of_the_one_before() {
        let mut outlet = Outlet::open(Context::new(), vec!["inproc://nowhere".to_owned()]).unwrap();
        let now = Moment::default();
        outlet.begin(&boot(1), now);
        outlet.end(&mut boot(1), now);
        assert_eq!((outlet.endings.len(), outlet.sockets().count()), (1, 2));
        outlet.endpoints = vec!["no endpoint".to_owned()];
        for number in 2..5 {
            outlet.begin(&boot(number), now);
            outlet.end(&mut boot(number), now);
            assert_eq!(outlet.failed, None, "the device goes on");
            assert_eq!((outlet.endings.len(), outlet.sockets().count()), (0, 1));
        }
    }
}
