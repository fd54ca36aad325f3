//! What becomes of a batch once the backend decided, on disk and in the totals.

use super::{DISK_RETRY, Go, ON, STOP, Sender, reason};
use crate::backend::{Batch, Body};
use crate::batch_id::batch_id;
use crate::units::{PointUnits, Units};

/// How many offenders one line of the log names.
const NAMED_MAX: usize = 5;

impl Sender {
    pub(super) async fn deliver(&mut self, batch: &Batch) -> Go {
        self.totals.lock().last_success_ms = Some(self.clock.now_ms());
        self.settle(batch, Vec::new(), Outcome::Delivered(batch.units())).await
    }

    /// Counts as many points as the backend refused as dropped, from the end, and the others as delivered.
    pub(super) async fn deliver_in_part(&mut self, batch: &Batch, rejected: u64, said: &str) -> Go {
        let points = &batch.body.points;
        let rejected = usize::try_from(rejected).map_or(points.len(), |rejected| rejected.min(points.len()));
        let (delivered, dropped) = points.split_at(points.len() - rejected);
        let (delivered, dropped) = (Units::of(delivered), Units::of(dropped));
        {
            let mut totals = self.totals.lock();
            totals.last_success_ms = Some(self.clock.now_ms());
            totals.backend_error = (rejected > 0).then(|| format!("{rejected} points refused: {said}"));
        }
        if rejected == 0 {
            tracing::warn!(batch = batch.id, said, "delivered, and the backend has something to say");
            return self.settle(batch, Vec::new(), Outcome::Delivered(delivered)).await;
        }
        tracing::error!(
            batch = batch.id,
            rejected,
            reason = reason::REFUSED,
            said,
            "the backend refuses some points and does not say which; the last ones of the batch are counted as dropped"
        );
        let outcome = if delivered.points == 0 {
            Outcome::Dropped(reason::REFUSED, dropped)
        } else {
            Outcome::Partial { delivered, dropped }
        };
        self.settle(batch, Vec::new(), outcome).await
    }

    pub(super) async fn give_up(&mut self, batch: &Batch, reason: &'static str) -> Go {
        self.settle(batch, Vec::new(), Outcome::Dropped(reason, batch.units())).await
    }

    /// Gives up what cannot be read any more.
    pub(super) async fn give_up_row(&mut self, row: i64, units: Units, reason: &'static str) -> Go {
        self.settle_row(row, Vec::new(), Outcome::Dropped(reason, units)).await
    }

    /// Drops the points and keeps the rest as a batch of its own, with its own id: its content is
    /// another one.
    pub(super) async fn cut(
        &mut self,
        batch: &Batch,
        points: &[usize],
        reason: &'static str,
        said: &str,
    ) -> Go {
        let count = batch.body.points.len();
        let keep: Vec<bool> = (0..count).map(|at| !points.contains(&at)).collect();
        let dropped = chosen(&batch.body.points, &keep, false);
        if dropped.is_empty() {
            return self.give_up(batch, reason::UNREADABLE).await;
        }
        let units = Units::of(&dropped);
        let named = self.names(batch, points);
        tracing::error!(batch = batch.id, reason, named, %units, said, "the backend refuses some points; they were dropped");
        if dropped.len() == count {
            return self.give_up(batch, reason).await;
        }
        match self.part(batch, &keep) {
            Some(rest) => {
                self.tried.split(&batch.id, [&rest.0[..]]);
                self.settle(batch, vec![rest], Outcome::Dropped(reason, units)).await
            }
            None => self.give_up(batch, reason::UNREADABLE).await,
        }
    }

    /// Halves the batch; a single point is dropped.
    pub(super) async fn bisect(&mut self, batch: &Batch, said: &str) -> Go {
        let count = batch.body.points.len();
        if count <= 1 {
            let named = self.names(batch, &[0]);
            tracing::error!(batch = batch.id, named, said, "the backend refuses a point; it was dropped");
            return self.give_up(batch, reason::REFUSED).await;
        }
        tracing::warn!(
            batch = batch.id,
            points = count,
            said,
            "the backend refuses a batch and names no point; sending halves"
        );
        let first: Vec<bool> = (0..count).map(|at| at < count / 2).collect();
        let second: Vec<bool> = first.iter().map(|keep| !keep).collect();
        match (self.part(batch, &first), self.part(batch, &second)) {
            (Some(first), Some(second)) => {
                self.tried.split(&batch.id, [&first.0[..], &second.0]);
                self.settle(batch, vec![first, second], Outcome::Split).await
            }
            _ => self.give_up(batch, reason::UNREADABLE).await,
        }
    }

    fn part(&self, batch: &Batch, keep: &[bool]) -> Option<(String, Body)> {
        let bytes = self.backend.select(&batch.body.bytes, keep)?;
        let points = chosen(&batch.body.points, keep, true);
        let id = batch_id().ok()?;
        Some((id, Body { bytes, content_type: batch.body.content_type.clone(), points }))
    }

    fn names(&self, batch: &Batch, points: &[usize]) -> String {
        let mut names: Vec<_> = points
            .iter()
            .take(NAMED_MAX)
            .filter_map(|at| self.backend.describe(&batch.body.bytes, *at))
            .collect();
        if points.len() > NAMED_MAX {
            names.push(format!("and {} more", points.len() - NAMED_MAX));
        }
        names.join(", ")
    }

    async fn settle(&mut self, batch: &Batch, bodies: Vec<(String, Body)>, outcome: Outcome) -> Go {
        let go = self.settle_row(batch.row, bodies, outcome).await;
        if go.is_continue() {
            self.tried.forget(&batch.id);
        }
        go
    }

    /// Replaces the row and counts the outcome, both or none. A disk that does not take it stops the
    /// queue: the batch must neither be sent twice for that reason nor be counted twice.
    async fn settle_row(&mut self, row: i64, bodies: Vec<(String, Body)>, outcome: Outcome) -> Go {
        loop {
            let (bodies, totals) = (bodies.clone(), self.totals.clone());
            let settled = self
                .with_spool(move |spool| {
                    spool.replace(row, &bodies)?;
                    let oldest_ms = spool.oldest_ms().unwrap_or(None);
                    let mut totals = totals.lock();
                    outcome.count(&mut totals);
                    (totals.held, totals.oldest_ms) = (spool.held(), oldest_ms);
                    Ok::<_, crate::spool::SpoolError>(())
                })
                .await;
            match settled {
                Some(Ok(())) => return ON,
                Some(Err(error)) => tracing::error!(%error, "cannot write the spool; trying again"),
                None => return STOP,
            }
            if self.is_over() || self.sleep(DISK_RETRY).await.is_break() {
                if matches!(outcome, Outcome::Delivered(_) | Outcome::Partial { .. }) {
                    // It will be sent once more by the next process.
                    self.totals.lock().ambiguous += 1;
                }
                return STOP;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    Delivered(Units),
    Partial { delivered: Units, dropped: Units },
    Dropped(&'static str, Units),
    Split,
}

impl Outcome {
    fn count(&self, totals: &mut crate::totals::Totals) {
        match self {
            Self::Delivered(units) => {
                totals.delivered.add(units);
                totals.batches_delivered += 1;
            }
            Self::Partial { delivered, dropped } => {
                totals.delivered.add(delivered);
                totals.batches_delivered += 1;
                totals.dropped.add(reason::REFUSED, dropped);
            }
            Self::Dropped(reason, units) => totals.dropped.add(reason, units),
            Self::Split => {}
        }
    }
}

fn chosen(points: &[PointUnits], keep: &[bool], wanted: bool) -> Vec<PointUnits> {
    points.iter().zip(keep).filter(|(_, keep)| **keep == wanted).map(|(point, _)| *point).collect()
}
