//! Who publishes: what frames say of their publisher beside series, over all its levels.
//!
//! Nothing here is kept in rows. After a restart the next key frame says it again, and a replay brings
//! that of a publisher that ended.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use zibrato_core::frame::{About, Frame, Loss, LossReason, Prelude, PublisherId};
use zibrato_core::limits::LOSSES_MAX;
use zibrato_service::PublisherReport;

use super::stream::Stream;
use super::{Counts, Ledger};

/// Longest text about a publisher that is kept, in characters; what is longer is cut.
const ABOUT_CHARS_MAX: usize = 255;

/// What is known of a publisher.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    program: Box<str>,
    host: Box<str>,
    library: Box<str>,
    pid: u32,
    /// By how much its clock is ahead of the worker's, transit included.
    clock_skew_ms: Option<i64>,
    /// The highest count seen of each reason: frames may come late.
    losses: Vec<Loss>,
    /// Where its streams are.
    pub(super) slots: Vec<usize>,
}

impl Publisher {
    /// Takes in what a frame says.
    pub(super) fn note(&mut self, frame: &Frame<'_>, now_ms: u64, counts: &mut Counts) {
        let Prelude { window_end_ms, losses, about, .. } = &frame.prelude;
        if let Some(about) = about {
            self.note_about(about);
        }
        // How long a broker held a frame is known, how long a replay was under way is not.
        if *window_end_ms > 0 && (frame.header.held_ms == 0 || self.clock_skew_ms.is_none()) {
            let theirs = i128::from(*window_end_ms) + i128::from(frame.header.held_ms);
            self.clock_skew_ms = i64::try_from(theirs - i128::from(now_ms)).ok();
        }
        for loss in losses {
            self.note_loss(*loss, counts);
        }
    }

    fn note_about(&mut self, about: &About<'_>) {
        self.pid = about.pid;
        let texts = [
            (&mut self.program, about.program),
            (&mut self.host, about.host),
            (&mut self.library, about.library),
        ];
        for (known, said) in texts {
            // It hardly ever changes, so it is compared before it is copied.
            if **known != *said {
                *known = printable(said);
            }
        }
    }

    fn note_loss(&mut self, loss: Loss, counts: &mut Counts) {
        let known = match self.losses.iter().position(|known| known.reason == loss.reason) {
            Some(at) => &mut self.losses[at].count,
            None if self.losses.len() < LOSSES_MAX => {
                self.losses.push(Loss { reason: loss.reason, count: 0 });
                let at = self.losses.len() - 1;
                &mut self.losses[at].count
            }
            None => return,
        };
        if loss.count > *known {
            let sum = counts.publisher_losses.entry(loss.reason).or_default();
            *sum = sum.saturating_add(loss.count - *known);
            *known = loss.count;
        }
    }
}

impl Ledger {
    /// At most `max` publishers with at most `levels_max` of their levels each: those that run before
    /// those that ended or vanished, and of these who was heard last.
    ///
    /// It walks all streams, so it is meant for a status page.
    #[must_use]
    pub fn latest_publishers(&self, max: usize, levels_max: usize) -> Vec<PublisherReport> {
        let rank = |stream: &Stream| (!stream.is_over(), stream.heard_ms, Reverse(stream.publisher));
        let mut by_rank: BinaryHeap<_> = self.live_streams().map(rank).collect();
        let mut told = HashSet::new();
        let mut latest = Vec::new();
        while latest.len() < max
            && let Some((_, _, Reverse(id))) = by_rank.pop()
        {
            if told.insert(id)
                && let Some(publisher) = self.publishers.get(&id)
            {
                latest.push(self.publisher_report(&id, publisher, levels_max));
            }
        }
        latest
    }

    /// Publishers in memory, each once.
    #[must_use]
    pub fn publishers_distinct(&self) -> usize {
        self.publishers.len()
    }

    fn streams_of<'a>(&'a self, publisher: &'a Publisher) -> impl Iterator<Item = &'a Stream> {
        publisher.slots.iter().filter_map(|&slot| self.streams[slot].as_ref())
    }

    fn publisher_report(
        &self,
        id: &PublisherId,
        publisher: &Publisher,
        levels_max: usize,
    ) -> PublisherReport {
        let streams = || self.streams_of(publisher);
        let ended = streams().all(|stream| stream.ended);
        let start_ms = streams().map(|stream| stream.start_ms).min().unwrap_or(self.now_ms);
        let losses = publisher.losses.iter().filter(|loss| loss.count > 0);
        let (spilled, dropped): (Vec<&Loss>, Vec<&Loss>) = losses.partition(|loss| is_spilled(loss.reason));
        PublisherReport {
            id: id.to_string(),
            program: publisher.program.to_string(),
            host: publisher.host.to_string(),
            pid: publisher.pid,
            version: publisher.library.to_string(),
            levels: streams()
                .take(levels_max)
                .map(|stream| self.levels[stream.level].label.to_string())
                .collect(),
            series: streams().map(|stream| stream.series.len() as u64).sum(),
            silent_ms: streams().map(|stream| stream.silent_ms(self.awake_ms)).min().unwrap_or(0),
            age_ms: self.now_ms.saturating_sub(start_ms),
            ended,
            vanished: !ended && streams().all(Stream::is_over),
            clock_skew_ms: publisher.clock_skew_ms,
            gaps: streams().map(|stream| stream.sequence.missing()).sum(),
            dropped: dropped.into_iter().map(|loss| (loss_name(loss.reason), loss.count)).collect(),
            spilled: spilled.into_iter().map(|loss| loss.count).sum(),
        }
    }
}

/// Whether nothing was lost: the record was folded into its metric's spill cell.
pub(crate) const fn is_spilled(reason: u8) -> bool {
    reason == LossReason::Spilled.code()
}

/// The word for a reason; a later version's is told by its number.
pub(crate) fn loss_name(reason: u8) -> String {
    match LossReason::ALL.into_iter().find(|known| known.code() == reason) {
        Some(known) => known.as_str().to_owned(),
        None => format!("reason_{reason}"),
    }
}

/// `text`, cut to [`ABOUT_CHARS_MAX`], without control characters: it is shown on terminals.
fn printable(text: &str) -> Box<str> {
    text.chars().take(ABOUT_CHARS_MAX).map(|char| if char.is_control() { '_' } else { char }).collect()
}
