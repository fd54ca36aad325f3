//! Takes batches from the spool, oldest first, and sends each until the backend decided about it: one at a time, or as many of
//! one flush as the backend wants.

mod settle;
mod tried;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use zibrato_service::Shutdown;

use crate::backend::{Answer, Backend, Batch, Probe, Response, Verdict};
use crate::clock::WallClock;
use crate::retry::{RETRY_FEW_MAX, RetryPolicy};
use crate::spool::{Next, Spool, SpoolError};
use crate::totals::Shared;

pub(crate) use tried::Tried;

/// Why batches or points of them are given up, beside what a backend's verdict names.
pub(crate) mod reason {
    /// Older than the backend takes.
    pub(crate) const TOO_OLD: &str = "too_old";
    /// Refused again and again by something that answers in the backend's place.
    pub(crate) const REFUSED_ON_THE_WAY: &str = "refused_on_the_way";
    /// Refused alone, without a reason that names it.
    pub(crate) const REFUSED: &str = "refused_by_backend";
    /// Not what was committed.
    pub(crate) const SPOOL_DAMAGED: &str = "spool_damaged";
    /// Refused in part, but its points cannot be told apart.
    pub(crate) const UNREADABLE: &str = "unreadable";
}

/// The most characters of what a backend says that are told.
const LINE_CHARS_MAX: usize = 240;
/// How long to wait before the disk is tried again.
const DISK_RETRY: Duration = Duration::from_millis(500);

/// Whether more flushes will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The worker runs.
    Running,
    /// The last flush is spooled; send until the instant.
    Finishing(Instant),
}

/// What the sender works with.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) spool: Arc<Mutex<Spool>>,
    pub(crate) totals: Shared,
    pub(crate) policy: RetryPolicy,
    pub(crate) clock: WallClock,
    /// Notified after each commit.
    pub(crate) committed: Arc<Notify>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) shutdown: Shutdown,
    /// Begins empty.
    pub(crate) tried: Tried,
}

/// Whether to go on, and after how long.
type Go = ControlFlow<(), Duration>;
const ON: Go = Go::Continue(Duration::ZERO);
const STOP: Go = Go::Break(());

impl Sender {
    /// Sends until the phase's deadline has passed or nothing is held in it, or an immediate end is
    /// requested. A batch that was not settled stays in the spool.
    pub(crate) async fn run(mut self) {
        self.probe().await;
        // The first batches of an earlier process may have been on their way when that ended.
        let mut is_restored = self.totals.lock().restored.points > 0;
        loop {
            if self.is_over() {
                return;
            }
            let go = match self.oldest().await {
                Ok(Some(Next::Batches(mut batches))) => {
                    let is_restored = std::mem::take(&mut is_restored);
                    for batch in &mut batches {
                        if is_restored {
                            self.tried.of_mut(&batch.id).unknown += 1;
                        }
                        batch.attempts_unknown = self.tried.of(&batch.id).unknown;
                    }
                    self.advance(&batches).await
                }
                Ok(Some(Next::Damaged { row, units })) => {
                    tracing::error!(%units, "a batch in the spool is damaged and was dropped");
                    self.give_up_row(row, units, reason::SPOOL_DAMAGED).await
                }
                Ok(None) => self.wait_for_work().await,
                Err(error) => {
                    tracing::error!(%error, "cannot read the spool; trying again");
                    self.sleep(DISK_RETRY).await
                }
            };
            match go {
                Go::Continue(Duration::ZERO) => {}
                Go::Continue(delay) => {
                    if self.sleep(delay).await.is_break() {
                        return;
                    }
                }
                Go::Break(()) => return,
            }
        }
    }

    /// Makes one attempt for each of the batches, which are of one flush, and does what the verdicts say.
    async fn advance(&mut self, batches: &[Batch]) -> Go {
        let now_ms = self.clock.now_ms();
        let [first, ..] = batches else { return ON };
        let age = Duration::from_millis(now_ms.saturating_sub(first.flushed_ms));
        if age > self.backend.limits().age_max {
            let age_s = age.as_secs();
            tracing::error!(batch = first.id, age_s, units = %first.units(), "a batch is older than the backend takes and was dropped");
            return self.give_up(first, reason::TOO_OLD).await;
        }
        let delivered = {
            let mut totals = self.totals.lock();
            totals.attempts += batches.len() as u64;
            totals.batches_delivered
        };
        let (backend, mut phase, shutdown) =
            (Arc::clone(&self.backend), self.phase.clone(), self.shutdown.clone());
        let mut sending: FuturesUnordered<_> = batches
            .iter()
            .map(|batch| {
                let answer = backend.send(batch);
                async move { (batch, answer.await) }
            })
            .collect();
        let (mut go, mut is_first) = (ON, true);
        loop {
            let answered = tokio::select! {
                answered = sending.next() => answered,
                () = shutdown.immediate() => return self.stop(sending.len()),
                () = deadline(&mut phase) => return self.stop(sending.len()),
            };
            let Some((batch, answer)) = answered else { break };
            let next = match answer {
                Answer::NotSent(error) => self.retry(batch, &error, None, false),
                Answer::Lost(error) => self.retry(batch, &error, None, true),
                Answer::Response(response) => {
                    // Of batches sent together one that arrives says nothing about what was wrong with another one.
                    if is_first {
                        let mut totals = self.totals.lock();
                        (totals.is_rejected, totals.backend_error) = (false, None);
                    }
                    self.obey(batch, &response, now_ms).await
                }
            };
            is_first = false;
            go = match (go, next) {
                (Go::Continue(one), Go::Continue(other)) => Go::Continue(one.max(other)),
                _ => STOP,
            };
        }
        let wants_probe = {
            let totals = self.totals.lock();
            totals.batches_delivered > delivered && !totals.probed
        };
        if wants_probe && go.is_continue() {
            self.probe().await;
        }
        go
    }

    /// The end came while so many batches were being sent.
    fn stop(&self, sending: usize) -> Go {
        self.totals.lock().ambiguous += sending as u64;
        tracing::warn!(batches = sending, "stopped while batches were being sent; they stay in the spool");
        STOP
    }

    async fn obey(&mut self, batch: &Batch, response: &Response, now_ms: u64) -> Go {
        let said = said(response);
        let verdict = self.backend.classify(response, batch, now_ms);
        if !matches!(verdict, Verdict::Delivered { .. }) {
            self.totals.lock().backend_error = Some(said.clone());
        }
        match verdict {
            Verdict::Delivered { odd } => {
                if odd {
                    tracing::warn!(batch = batch.id, said, "delivered, with a status that is not documented");
                }
                self.deliver(batch).await
            }
            Verdict::Partial { rejected, said } => {
                self.deliver_in_part(batch, rejected, &one_line(&said)).await
            }
            Verdict::Retry { after, outcome_unknown } => self.retry(batch, &said, after, outcome_unknown),
            Verdict::RetryFew => {
                let attempts = self.tried.of_mut(&batch.id);
                attempts.few += 1;
                if attempts.few < RETRY_FEW_MAX {
                    return self.retry(batch, &said, None, false);
                }
                tracing::error!(
                    batch = batch.id,
                    said,
                    "a batch was refused on the way to the backend and was dropped"
                );
                self.give_up(batch, reason::REFUSED_ON_THE_WAY).await
            }
            Verdict::Hold => {
                {
                    let mut totals = self.totals.lock();
                    totals.rejections += 1;
                    totals.is_rejected = true;
                    totals.retries += 1;
                }
                let delay = self.policy.hold_delay(random());
                let wait_s = delay.as_secs();
                tracing::error!(
                    target = self.backend.target(),
                    said,
                    wait_s,
                    "the backend refuses credentials or address; batches are kept"
                );
                Go::Continue(delay)
            }
            Verdict::Stop => {
                tracing::info!(target = self.backend.target(), said, "nobody takes batches any more; ending");
                // A second request would be one to end at once.
                if !self.shutdown.is_requested() {
                    self.shutdown.request();
                }
                STOP
            }
            Verdict::Poisoned { points, reason } => self.cut(batch, &points, reason, &said).await,
            Verdict::Bisect => self.bisect(batch, &said).await,
            Verdict::Drop { reason } => {
                tracing::error!(batch = batch.id, said, reason, units = %batch.units(), "the backend refuses a batch for good; it was dropped");
                self.give_up(batch, reason).await
            }
        }
    }

    fn retry(&mut self, batch: &Batch, why: &str, after: Option<Duration>, unknown: bool) -> Go {
        let attempts = self.tried.of_mut(&batch.id);
        attempts.failures = attempts.failures.saturating_add(1);
        attempts.unknown = attempts.unknown.saturating_add(unknown.into());
        let failures = attempts.failures;
        {
            let mut totals = self.totals.lock();
            totals.retries += 1;
            totals.ambiguous += u64::from(unknown);
            totals.backend_error = Some(one_line(why));
        }
        let delay = self.policy.delay(failures, after, random());
        let wait_ms = delay.as_millis() as u64;
        tracing::warn!(
            batch = batch.id,
            why,
            failures,
            wait_ms,
            may_be_stored = unknown,
            "a batch was not delivered; trying again"
        );
        Go::Continue(delay)
    }

    async fn probe(&mut self) {
        let (backend, mut phase, shutdown) =
            (Arc::clone(&self.backend), self.phase.clone(), self.shutdown.clone());
        let probe = tokio::select! {
            probe = backend.probe() => probe,
            () = shutdown.immediate() => return,
            () = deadline(&mut phase) => return,
        };
        let target = self.backend.target();
        match probe {
            Probe::Ready => tracing::info!(target, "the backend answers"),
            Probe::NotNeeded => {}
            Probe::Odd(said) => {
                tracing::warn!(target, said, "the backend answers, but not as it should; going on")
            }
            Probe::Unanswered(why) => {
                tracing::warn!(target, why, "the backend does not answer; batches are kept until it does");
                self.totals.lock().backend_error = Some(one_line(&why));
                return;
            }
        }
        self.totals.lock().probed = true;
    }

    /// Waits for the next commit or for the end.
    async fn wait_for_work(&mut self) -> Go {
        if matches!(*self.phase.borrow(), Phase::Finishing(_)) {
            return STOP;
        }
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = self.committed.notified() => ON,
            () = shutdown.immediate() => STOP,
            changed = self.phase.changed() => if changed.is_ok() { ON } else { STOP },
        }
    }

    /// Waits. The begin of the end cuts a wait short, for one more attempt; within the end a wait that
    /// would pass the deadline is the end.
    async fn sleep(&mut self, delay: Duration) -> Go {
        let phase = *self.phase.borrow_and_update();
        if matches!(phase, Phase::Finishing(deadline) if Instant::now() + delay >= deadline) {
            return STOP;
        }
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep(delay) => ON,
            () = shutdown.immediate() => STOP,
            changed = self.phase.changed() => if changed.is_ok() { ON } else { STOP },
        }
    }

    fn is_over(&self) -> bool {
        let is_late =
            matches!(*self.phase.borrow(), Phase::Finishing(deadline) if Instant::now() >= deadline);
        is_late || self.shutdown.is_immediate()
    }

    async fn oldest(&self) -> Result<Option<Next>, SpoolError> {
        let max = self.backend.requests_max();
        self.with_spool(move |spool| spool.oldest(max)).await.unwrap_or(Ok(None))
    }

    /// Runs a piece of work on the spool where it may block; `None` if the runtime is ending.
    async fn with_spool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> Option<T> {
        let spool = Arc::clone(&self.spool);
        let work = move || work(&mut spool.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// Resolves at the deadline of the end, once there is one.
async fn deadline(phase: &mut watch::Receiver<Phase>) {
    loop {
        let now = *phase.borrow_and_update();
        match now {
            Phase::Finishing(deadline) => return tokio::time::sleep_until(deadline).await,
            Phase::Running => {
                if phase.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Status and start of an answer, for the log.
fn said(response: &Response) -> String {
    let start = &response.body[..response.body.len().min(600)];
    one_line(&format!("status {}: {}", response.status, String::from_utf8_lossy(start)))
}

/// The start of a text that may come from anybody, fit for a line.
fn one_line(text: &str) -> String {
    let line: String =
        text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(LINE_CHARS_MAX).collect();
    line.trim().to_owned()
}

/// Evenly spread bits for jitter. Without a source of them the middle is taken.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests;
