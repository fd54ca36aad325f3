//! One boot of a device: what its ids mean, and what its metrics have come to.
//!
//! A boot is a publisher. Nothing here opens a port or a socket, or reads a clock.

mod describe;
mod frames;
mod metric;
mod samples;

use std::collections::HashSet;

use zibrato_core::frame::{Loss, LossReason, PublisherId};
use zibrato_core::limits::LOSSES_MAX;
use zibrato_core::link::{Hello, State, StateEntry, StateValue};

use crate::DESCRIPTORS_MAX;
use crate::counts::DeviceCounts;
use crate::device_clock::{DeviceClock, Doubt};
use crate::moment::Moment;
use metric::{Metric, SeriesKey};

pub(crate) use frames::FrameKind;

/// A boot that is not older at the first contact is published at once: what of it did not come yet is its
/// beginning, from which it counts in any case.
const YOUNG_MS: u64 = 2_000;
/// Windows after which a boot is published although its state may not be complete: a device sends all metrics
/// every tenth, and that may be lost twice.
const JOIN_WINDOWS_MIN: u64 = 25;
/// As many and one for each metric if that is longer: a device that cannot be asked describes one a window.
const JOIN_WINDOWS_MORE: u64 = 20;
/// Shortest and longest window that is believed, in milliseconds.
const WINDOW_MS: (u32, u32) = (10, 3_600_000);

/// What stays the same, whatever boots.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Source of the device's metrics.
    pub(crate) source: String,
    /// The gateway's host.
    pub(crate) host: String,
    /// Times are those of arrival, see [`DeviceClock`].
    pub(crate) is_unfiltered: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Boot {
    id: PublisherId,
    setting: Setting,
    /// As the hello has it; 0 if boots cannot be told apart.
    number: u64,
    program: String,
    /// Descriptors that the device has.
    metrics_said: u16,
    window_ms: u32,
    clock: DeviceClock,
    /// An uptime that is too far ahead, and one of a hello that went back.
    ahead: Option<Doubt>,
    behind: Option<Doubt>,
    /// By id.
    metrics: Vec<Option<Metric>>,
    metrics_known: usize,
    /// Ids whose descriptor was refused.
    refused: HashSet<u16>,
    keys: HashSet<SeriesKey>,
    levels: Vec<Level>,
    joining: Option<Joining>,
    /// What the device counted before we joined is not ours, since it cannot tell its boots apart.
    has_zero: bool,
    /// A timer whose totals came and whose buckets follow, without any frame missing so far.
    coming: Option<u16>,
    /// What the device said last of records that it lost, and since our zero.
    lost_said: u32,
    lost: u64,
    not_finite: u64,
    /// Samples that the line lost.
    samples_missed: u64,
    /// Samples that wait for the next turn.
    waiting: Vec<samples::Waiting>,
    /// End of the last window: a wall clock that is set back does not take windows with it.
    window_end_ms: u64,
    is_ended: bool,
}

/// One level of a boot.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) label: String,
    /// Its bit in a mask.
    pub(crate) number: u8,
    pub(crate) is_on_demand: bool,
    /// `seq` of the last part handed out.
    seq: u64,
    has_frame: bool,
    windows_since_key: u32,
    handed_out: Moment,
    /// Somebody needs a key frame before anything else.
    pub(crate) wants_key: bool,
    /// Ids of its metrics.
    metrics: Vec<u16>,
    /// Samples that sockets took, and that they did not.
    samples_sent: u64,
    samples_lost: u64,
}

impl Level {
    /// Milliseconds since the last frame of it; none before the first.
    pub(crate) fn since_frame_ms(&self, now: Moment) -> Option<u64> {
        self.has_frame.then(|| now.ms_since(self.handed_out))
    }
}

/// A boot that ran before we came is published from the first state that is whole: what a worker sees first
/// is where it begins to count, unless it knows the publisher.
#[derive(Clone, Copy, Debug)]
struct Joining {
    since: Moment,
    /// Frames lost before the window of all metrics began that is coming in; `None` if none is.
    all_since: Option<u64>,
}

/// What a state frame was the last one of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Closed {
    /// A window.
    pub(crate) window: bool,
    /// The boot.
    pub(crate) boot: bool,
    /// An entry was of an id that is not known.
    pub(crate) is_unknown: bool,
}

impl Boot {
    /// A boot by its hello. `id` is a random one if boots cannot be told apart.
    pub(crate) fn new(id: PublisherId, setting: Setting, hello: &Hello<'_>, now: Moment) -> Self {
        let clock =
            DeviceClock::new(hello.clock_hz, hello.overhead, hello.uptime, now, setting.is_unfiltered);
        let is_young = clock.first_uptime_ms() <= YOUNG_MS;
        Self {
            id,
            setting,
            number: hello.boot,
            program: if hello.program.is_empty() { "device" } else { hello.program }.to_owned(),
            metrics_said: hello.metrics,
            window_ms: hello.window_ms.clamp(WINDOW_MS.0, WINDOW_MS.1),
            clock,
            ahead: None,
            behind: None,
            metrics: Vec::new(),
            metrics_known: 0,
            refused: HashSet::new(),
            keys: HashSet::new(),
            levels: Vec::new(),
            has_zero: false,
            coming: None,
            joining: (!is_young).then_some(Joining { since: now, all_since: None }),
            lost_said: 0,
            lost: 0,
            not_finite: 0,
            samples_missed: 0,
            waiting: Vec::new(),
            window_end_ms: 0,
            is_ended: false,
        }
    }

    pub(crate) fn id(&self) -> PublisherId {
        self.id
    }

    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn window_ms(&self) -> u32 {
        self.window_ms
    }

    /// Whether anything of it was handed out.
    pub(crate) fn was_published(&self) -> bool {
        self.levels.iter().any(|level| level.has_frame)
            || (0..self.levels.len()).any(|at| self.is_published(at))
    }

    pub(crate) const fn clock(&self) -> &DeviceClock {
        &self.clock
    }

    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    pub(crate) fn levels_mut(&mut self) -> &mut [Level] {
        &mut self.levels
    }

    /// Descriptors known, and how many the device has.
    pub(crate) const fn descriptors(&self) -> (usize, u16) {
        (self.metrics_known, self.metrics_said)
    }

    /// Whether its state is not yet whole, so that nothing is to be published.
    pub(crate) const fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// Whether a level has anything that is ours to publish. Of a boot that cannot be told from others it is not
    /// before its zero is known.
    pub(crate) fn is_published(&self, level: usize) -> bool {
        let is_ours = self.number != 0 || !self.is_joining();
        let mut metrics =
            self.levels[level].metrics.iter().filter_map(|&id| self.metrics[usize::from(id)].as_ref());
        is_ours && metrics.any(Metric::is_shown)
    }

    /// Of which boot a hello is. An uptime that went back is of another boot of the same number, or of an old frame that
    /// came once more: a second hello that goes on from there tells.
    pub(crate) fn judge(&mut self, hello: &Hello<'_>, now: Moment) -> Verdict {
        if hello.boot != self.number {
            return Verdict::Other;
        }
        if hello.uptime >= self.clock.uptime() {
            if !self.believes(hello.uptime, now) {
                return Verdict::Unclear;
            }
            self.behind = None;
            return Verdict::Same;
        }
        // Without a number nothing is counted twice by a boot too many.
        let slack_us = self.slack_us();
        let is_confirmed = self.behind.is_some_and(|before| {
            hello.uptime > before.uptime && self.clock.confirms(before, hello.uptime, slack_us, now)
        });
        if self.number == 0 || is_confirmed {
            return Verdict::Other;
        }
        if self.clock.is_far_behind(hello.uptime, slack_us) {
            self.behind = Some(Doubt { uptime: hello.uptime, at: now });
        }
        Verdict::Unclear
    }

    /// Whether an uptime is credible, or the second of its kind: this machine may have slept, or much came at once.
    fn believes(&mut self, uptime: u64, now: Moment) -> bool {
        let (clock, slack_us) = (&self.clock, self.slack_us());
        let is_confirmed =
            |before: Option<Doubt>| before.is_some_and(|it| clock.confirms(it, uptime, slack_us, now));
        let is_believed = clock.is_credible(uptime, slack_us, now) || is_confirmed(self.ahead);
        self.ahead = (!is_believed).then_some(Doubt { uptime, at: now });
        is_believed
    }

    /// States come a window apart, and of those that come at once the next may be one ahead.
    fn slack_us(&self) -> u64 {
        2_000 * u64::from(self.window_ms)
    }

    /// Takes in another hello of this boot.
    pub(crate) fn hello(&mut self, hello: &Hello<'_>, now: Moment) {
        self.metrics_said = hello.metrics;
        self.window_ms = hello.window_ms.clamp(WINDOW_MS.0, WINDOW_MS.1);
        self.clock.note(hello.uptime, now);
    }

    /// Link frames were lost, and with them perhaps ranges of a window.
    pub(crate) fn frames_lost(&mut self) {
        self.coming = None;
        for metric in self.metrics.iter_mut().flatten() {
            metric.break_range();
        }
    }

    /// Takes in a state frame. An uptime that went back is refused: then it is not of this boot, and a hello
    /// will say so. One that is too far ahead is as well, for all that come after it would have gone back.
    ///
    /// # Errors
    /// [`Withheld`].
    pub(crate) fn state(
        &mut self,
        state: &State<'_>,
        now: Moment,
        counts: &mut DeviceCounts,
    ) -> Result<Closed, Withheld> {
        if state.uptime < self.clock.uptime() {
            return Err(Withheld::Back);
        }
        if !self.believes(state.uptime, now) {
            return Err(Withheld::Ahead);
        }
        self.clock.note(state.uptime, now);
        self.note_lost(state.lost, counts);
        self.begin_all(state.is_all, counts.frames_lost());
        let at_ms = self.clock.unix_ms(state.uptime, now);
        let mut closed = Closed { window: state.is_last, boot: false, is_unknown: false };
        for entry in state.entries() {
            counts.entries_offered += 1;
            match entry {
                Ok(entry) => closed.is_unknown |= !self.entry(&entry, at_ms, counts),
                Err(error) => {
                    self.coming = None;
                    counts.refuse(error.reason());
                }
            }
        }
        if state.is_last {
            self.complete();
        }
        if state.is_end && state.is_last {
            self.end();
            closed.boot = true;
        } else {
            // Who speaks has not ended.
            self.is_ended = false;
        }
        self.try_to_join(state, now, counts.frames_lost());
        Ok(closed)
    }

    /// Takes in one metric's state; false if its id is not known.
    fn entry(&mut self, entry: &StateEntry<'_>, at_ms: u64, counts: &mut DeviceCounts) -> bool {
        let are_buckets = matches!(entry.value, StateValue::Buckets(_));
        if !are_buckets || self.coming != Some(entry.id) {
            self.complete();
        }
        let Some(Some(metric)) = self.metrics.get_mut(usize::from(entry.id)) else {
            let is_refused = self.refused.contains(&entry.id) || usize::from(entry.id) >= DESCRIPTORS_MAX;
            counts.refuse(if is_refused { "descriptor" } else { "unknown_id" });
            return is_refused;
        };
        match metric.apply(&entry.value, at_ms, &self.clock) {
            Ok(()) => {
                counts.entries_accepted += 1;
                if metric.has_buckets() && !are_buckets {
                    self.coming = Some(entry.id);
                }
            }
            Err(reason) => {
                self.coming = None;
                self.not_finite += u64::from(reason == metric::NOT_FINITE);
                counts.refuse(reason);
            }
        }
        true
    }

    /// The state that was coming in is over: a device writes all of one metric before anything of the next.
    fn complete(&mut self) {
        let metric = self.coming.take().and_then(|id| self.metrics.get_mut(usize::from(id))?.as_mut());
        if let Some(metric) = metric {
            metric.complete(&self.clock);
        }
    }

    fn note_lost(&mut self, lost: u32, counts: &mut DeviceCounts) {
        let more = lost.wrapping_sub(self.lost_said);
        // It never falls: one of the two frames is damaged, or an old one.
        if more.cast_signed() < 0 {
            return;
        }
        self.lost_said = lost;
        let more = u64::from(more);
        self.lost += more;
        counts.lost_on_device += more;
    }

    /// Notes what a sample frame says is missing: records that the device lost, and samples that the line did.
    pub(crate) fn note_missing(&mut self, lost: u32, missed: u64, counts: &mut DeviceCounts) {
        self.note_lost(lost, counts);
        self.samples_missed += missed;
        counts.samples_lost += missed;
    }

    fn begin_all(&mut self, is_all: bool, frames_lost: u64) {
        if let Some(joining) = &mut self.joining {
            joining.all_since = if is_all { joining.all_since.or(Some(frames_lost)) } else { None };
        }
    }

    /// Ends the joining when a window of all metrics came whole, or when that takes too long.
    fn try_to_join(&mut self, state: &State<'_>, now: Moment, frames_lost: u64) {
        let Some(joining) = self.joining else { return };
        let known = self.metrics_known + self.refused.len();
        let knows_all = known >= usize::from(self.metrics_said).min(DESCRIPTORS_MAX);
        let is_whole = state.is_all && state.is_last && joining.all_since == Some(frames_lost) && knows_all;
        let metrics = u64::from(self.metrics_said).min(DESCRIPTORS_MAX as u64);
        let patience_ms = JOIN_WINDOWS_MIN.max(metrics + JOIN_WINDOWS_MORE) * u64::from(self.window_ms);
        if !is_whole && now.ms_since(joining.since) < patience_ms && !self.is_ended {
            if state.is_last
                && let Some(joining) = &mut self.joining
            {
                joining.all_since = None;
            }
            return;
        }
        self.joining = None;
        if self.number == 0 {
            tracing::warn!(
                device = self.setting.source,
                uptime_ms = self.clock.uptime_ms(),
                "the device ran before and cannot tell its boots apart: what it counted up to now is its zero"
            );
            (self.lost, self.not_finite, self.has_zero) = (0, 0, true);
            for metric in self.metrics.iter_mut().flatten() {
                metric.set_zero(is_whole);
            }
        }
    }

    fn end(&mut self) {
        self.is_ended = true;
        for metric in self.metrics.iter_mut().flatten() {
            metric.end(&self.clock);
        }
    }

    fn losses(&self) -> heapless::Vec<Loss, LOSSES_MAX> {
        let samples = self.samples_missed + self.samples_lost();
        let all = [
            (LossReason::NotFinite, self.not_finite),
            (LossReason::RingFull, self.lost),
            (LossReason::Samples, samples),
        ];
        all.into_iter()
            .filter(|&(_, count)| count > 0)
            .map(|(reason, count)| Loss { reason: reason.code(), count })
            .collect()
    }
}

/// Why a state frame is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Withheld {
    /// It is older than one that came before.
    Back,
    /// It is further ahead than can be.
    Ahead,
}

/// Of which boot a hello is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Same,
    Other,
    /// The device is to be asked again.
    Unclear,
}
