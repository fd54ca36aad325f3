//! What frames of a device mean for its boots. No port, no socket, no clock.
//!
//! A state counts only if it is clear of which boot it is. What goes back (a number, an uptime) may be another
//! boot or an old frame; until a hello tells, states are left out and the device is asked. That costs
//! nothing, for the next state says the same and more. Only a hello ends a boot: a checksum of 16 bits lets one
//! damaged frame in 65 536 pass, and a boot that ended by mistake would be counted again. For the same reason what is far
//! from what is expected (an uptime, the number of a sample) counts only once a second frame goes on from there.

use zibrato_core::frame::PublisherId;
use zibrato_core::link::{Body, Frame, Hello, Samples};

use crate::boot::{Boot, Setting, Verdict, Withheld};
use crate::counts::DeviceCounts;
use crate::identity::{publisher_id, random_id};
use crate::line::{Jump, Line, LineCounts, Order};
use crate::moment::Moment;

/// How often the device is asked at most, in milliseconds.
const ASK_EVERY_MS: u64 = 1_000;
/// Most samples that one frame is believed to be missing in front of it.
const SAMPLES_MISSED_MAX: i32 = 1 << 16;

/// Who is told of windows and boots.
pub(crate) trait Sink {
    /// A boot began; nothing of it is published yet.
    fn begin(&mut self, boot: &Boot, now: Moment);
    /// A window of the device came to its end.
    fn window(&mut self, boot: &mut Boot, now: Moment);
    /// A boot is over.
    fn end(&mut self, boot: &mut Boot, now: Moment);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    site: String,
    setting: Setting,
    pub(super) line: Line,
    known: Known,
    pub(super) counts: DeviceCounts,
}

/// What is known of the device.
#[derive(Debug, Default)]
struct Known {
    boot: Option<Boot>,
    /// It is not clear of which boot the next state is.
    needs_hello: bool,
    /// The first number that was before the one expected, or that of a hello behind it, since the last hello that
    /// was clear.
    jump: Option<Jump>,
    wants_ask: bool,
    asked: Option<Moment>,
    /// Number of the next sample.
    next_sample: Option<u32>,
    /// Of a sample frame that was left out, since its number cannot be: the number behind it and how many it had.
    odd_samples: Option<(u32, u32)>,
    /// A valid frame came at this moment last.
    heard: Option<Moment>,
    /// A boot began: the device is to be told everything again.
    is_new: bool,
}

impl Session {
    pub(crate) fn new(site: String, setting: Setting) -> Self {
        let known = Known { needs_hello: true, wants_ask: true, ..Known::default() };
        Self { site, setting, line: Line::default(), known, counts: DeviceCounts::default() }
    }

    pub(crate) fn boot(&self) -> Option<&Boot> {
        self.known.boot.as_ref()
    }

    pub(crate) fn boot_mut(&mut self) -> Option<&mut Boot> {
        self.known.boot.as_mut()
    }

    /// When a valid frame came last.
    pub(crate) fn heard(&self) -> Option<Moment> {
        self.known.heard
    }

    /// Whether a boot began since the last call.
    pub(crate) fn take_is_new(&mut self) -> bool {
        std::mem::take(&mut self.known.is_new)
    }

    /// A connection came up: who is there now is to be asked.
    pub(crate) fn connected(&mut self) {
        self.line.reconnect();
        self.counts.connections += 1;
        (self.known.needs_hello, self.known.wants_ask, self.known.asked) = (true, true, None);
    }

    /// Takes in bytes.
    pub(crate) fn take(&mut self, bytes: &[u8], now: Moment, sink: &mut impl Sink) {
        let Self { site, setting, line, known, counts } = self;
        line.take(bytes, |order, frame, line_counts| {
            counts.line = *line_counts;
            known.heard = Some(now);
            if order == Order::Repeated {
                return;
            }
            if order == Order::Back {
                known.jump = known.jump.or(Some(Jump { seq: frame.seq, lost: 0 }));
                (known.needs_hello, known.wants_ask) = (true, true);
            }
            if let Order::Later(lost) = order {
                if matches!(frame.body, Body::Hello(_)) {
                    known.jump = known.jump.or(Some(Jump { seq: frame.seq, lost }));
                }
                known.frames_lost();
            }
            let identify = |hello: &Hello<'_>| identify(site, setting, hello);
            known.frame(frame, now, counts, line_counts, setting, identify, sink);
        });
        counts.line = line.counts;
    }

    /// Queues what the device is to be asked, if that is due.
    pub(crate) fn ask(&mut self, now: Moment) {
        let Known { wants_ask, asked, .. } = &mut self.known;
        if *wants_ask && asked.is_none_or(|at| now.ms_since(at) >= ASK_EVERY_MS) {
            *wants_ask = !self.line.send_ask();
            *asked = Some(now);
        }
    }
}

impl Known {
    #[expect(clippy::too_many_arguments, reason = "parts of one session, borrowed apart")]
    fn frame(
        &mut self,
        frame: &Frame<'_>,
        now: Moment,
        counts: &mut DeviceCounts,
        line_counts: &mut LineCounts,
        setting: &Setting,
        identify: impl Fn(&Hello<'_>) -> Option<PublisherId>,
        sink: &mut impl Sink,
    ) {
        match &frame.body {
            Body::Hello(hello) => {
                let verdict = self.boot.as_mut().map_or(Verdict::Other, |boot| boot.judge(hello, now));
                if verdict == Verdict::Unclear {
                    (self.needs_hello, self.wants_ask) = (true, true);
                    return;
                }
                let jump = self.jump.take();
                if verdict == Verdict::Other {
                    // A boot of which nothing was told has not taken its id from this one.
                    let is_same = |boot: &Boot| boot.number() == hello.boot && boot.was_published();
                    let is_twice = self.boot.as_ref().is_some_and(is_same);
                    self.end(now, sink, |boot| {
                        tracing::info!(
                            device = setting.source,
                            boot = boot.number(),
                            "the device started again"
                        );
                        counts.resets += 1;
                        if let Some(jump) = jump {
                            Line::started_again(line_counts, jump);
                        }
                    });
                    self.begin(hello, is_twice, now, setting, identify, sink);
                } else if let Some(boot) = &mut self.boot {
                    boot.hello(hello, now);
                }
                self.needs_hello = self.boot.is_none();
            }
            Body::Descriptor(descriptor) => match self.boot.as_mut().filter(|_| !self.needs_hello) {
                Some(boot) => boot.describe(descriptor, counts),
                None => self.wants_ask = true,
            },
            Body::State(state) => {
                let taken = match self.boot.as_mut().filter(|_| !self.needs_hello) {
                    Some(boot) => boot.state(state, now, counts),
                    None => Err(Withheld::Back),
                };
                let closed = match taken {
                    Ok(closed) => closed,
                    Err(why) => {
                        counts.states_withheld += 1;
                        self.needs_hello |= why == Withheld::Back;
                        self.wants_ask = true;
                        return self.frames_lost();
                    }
                };
                self.wants_ask |= closed.is_unknown;
                if closed.boot {
                    self.end(now, sink, |boot| {
                        tracing::info!(device = setting.source, boot = boot.number(), "the device ended");
                    });
                    // Whatever comes next begins with a hello, for which nobody needs to be asked.
                    self.needs_hello = true;
                } else if closed.window
                    && let Some(boot) = &mut self.boot
                {
                    sink.window(boot, now);
                }
            }
            Body::Samples(samples) => self.samples(samples, now, counts),
            // Counted by the line.
            _ => {}
        }
    }

    fn begin(
        &mut self,
        hello: &Hello<'_>,
        is_twice: bool,
        now: Moment,
        setting: &Setting,
        identify: impl Fn(&Hello<'_>) -> Option<PublisherId>,
        sink: &mut impl Sink,
    ) {
        if is_twice && hello.boot != 0 {
            tracing::warn!(
                device = setting.source,
                boot = hello.boot,
                "two boots have one number: a gateway that is restarted takes them for one; give each its own, or 0"
            );
        }
        // The id of the boot before would be the same, and that one has ended.
        let hello_of_its_own = Hello { boot: if is_twice { 0 } else { hello.boot }, ..*hello };
        let Some(id) = identify(&hello_of_its_own) else { return };
        let boot = Boot::new(id, setting.clone(), hello, now);
        tracing::info!(
            device = setting.source,
            program = boot.program(),
            boot = hello.boot,
            publisher = %id,
            uptime_ms = boot.clock().uptime_ms(),
            metrics = hello.metrics,
            "a device said hello"
        );
        sink.begin(&boot, now);
        (self.boot, self.next_sample, self.odd_samples, self.is_new) = (Some(boot), None, None, true);
    }

    /// Frames did not come or were left out.
    fn frames_lost(&mut self) {
        if let Some(boot) = &mut self.boot {
            boot.frames_lost();
        }
    }

    /// Ends the boot, if there is one.
    fn end(&mut self, now: Moment, sink: &mut impl Sink, note: impl FnOnce(&Boot)) {
        if let Some(mut boot) = self.boot.take() {
            note(&boot);
            sink.end(&mut boot, now);
        }
    }

    /// Samples are events: what the line lost of them is counted, and nothing more can be done about it.
    fn samples(&mut self, samples: &Samples<'_>, now: Moment, counts: &mut DeviceCounts) {
        let Some(boot) = self.boot.as_mut().filter(|_| !self.needs_hello) else { return };
        let missed = samples.first.wrapping_sub(self.next_sample.unwrap_or(samples.first)).cast_signed();
        let missed = match (missed, self.odd_samples.take()) {
            (0..=SAMPLES_MISSED_MAX, _) => missed.unsigned_abs(),
            // Two frames in a row are right, and it was the one before them that was not.
            (_, Some((next, left_out))) if next == samples.first => {
                if missed > 0 {
                    missed.unsigned_abs()
                } else {
                    left_out
                }
            }
            // What goes back is an old frame, and what is far ahead a damaged one.
            _ => {
                let count = samples.iter().filter(Result::is_ok).count() as u32;
                self.odd_samples = Some((samples.first.wrapping_add(count), count));
                return;
            }
        };
        boot.note_missing(samples.lost, missed.into(), counts);
        let came = boot.samples(samples, now);
        counts.samples += came;
        self.next_sample = Some(samples.first.wrapping_add(came as u32));
    }
}

fn identify(site: &str, setting: &Setting, hello: &Hello<'_>) -> Option<PublisherId> {
    if hello.boot != 0 {
        return Some(publisher_id(site, &setting.source, hello.boot));
    }
    random_id()
        .map_err(
            |error| tracing::error!(device = setting.source, %error, "no random numbers for a publisher id"),
        )
        .ok()
}

#[cfg(test)]
mod tests;
