//! Jobs: changes to more metrics than one answer can wait for.
//!
//! A job goes through its metrics in slices, so that POSTs get their turn in between. Jobs are of this
//! process: after a restart their ids are unknown, and what a job had not reached is as it was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::names::Path;
use super::{Answer, at, failed, json, no_content};
use crate::errors::ApiError;
use crate::server::{App, Shared};
use crate::store::StoreError;
use crate::validate::Changes;

/// The most metrics that are changed while the client waits, and that a job changes at once.
const SLICE: usize = 100;
/// The most jobs at work; a further one is answered with 503.
const WORKING_MAX: usize = 4;
/// The most jobs remembered; of those that have ended the oldest is forgotten first.
const JOBS_MAX: usize = 100;

/// What to do with each metric.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Delete,
    Update(Changes),
}

/// The jobs of this process.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    /// How many there were so far; the id of the newest.
    begun: u64,
    jobs: VecDeque<Job>,
}

#[derive(Clone, PartialEq, Debug)]
struct Job {
    id: u64,
    stage: Stage,
    /// From 0 to 100.
    progress: f64,
}

/// Librato's states, but for `queued`: a job begins at once or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Working,
    Complete,
    Failed,
    /// The receiver was stopped.
    Canceled,
}

impl Jobs {
    fn begin(&self) -> Result<u64, ApiError> {
        let mut list = self.lock();
        let working = list.jobs.iter().filter(|job| job.stage == Stage::Working).count();
        if working == WORKING_MAX {
            return Err(ApiError::busy("Too many jobs at once. Please resubmit the request later."));
        }
        if list.jobs.len() == JOBS_MAX
            && let Some(oldest) = list.jobs.iter().position(|job| job.stage != Stage::Working)
        {
            list.jobs.remove(oldest);
        }
        list.begun += 1;
        let id = list.begun;
        list.jobs.push_back(Job { id, stage: Stage::Working, progress: 0.0 });
        Ok(id)
    }

    fn set(&self, id: u64, stage: Stage, progress: f64) {
        if let Some(job) = self.lock().jobs.iter_mut().find(|job| job.id == id) {
            (job.stage, job.progress) = (stage, progress);
        }
    }

    fn find(&self, id: u64) -> Option<Job> {
        self.lock().jobs.iter().find(|job| job.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // Each change is whole, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn to_json(&self) -> Value {
        let state = match self.stage {
            Stage::Working => "working",
            Stage::Complete => "complete",
            Stage::Failed => "failed",
            Stage::Canceled => "canceled",
        };
        let mut job = json!({ "id": self.id, "state": state, "progress": self.progress });
        if self.stage == Stage::Failed {
            job["errors"] = json!({ "system": ["The store cannot be used at the moment."] });
        }
        job
    }
}

/// `GET /v1/jobs/:id`.
pub(super) async fn show(State(app): State<Shared>, path: Path) -> Answer {
    let id = path.part(0).parse().map_err(|_| ApiError::not_found())?;
    let job = app.jobs.find(id).ok_or_else(ApiError::not_found)?;
    Ok(json(&job.to_json()))
}

/// Does the work at once and answers 204, or begins a job and answers 202 with its place.
pub(super) async fn change(app: Shared, names: Vec<String>, work: Work) -> Answer {
    if names.len() <= SLICE {
        apply(&app, names, &work).await.map_err(failed)?;
        return Ok(no_content());
    }
    let id = app.jobs.begin()?;
    tokio::spawn(run(Arc::clone(&app), id, names, work));
    Ok((StatusCode::ACCEPTED, at(&format!("/v1/jobs/{id}"))).into_response())
}

async fn run(app: Shared, id: u64, names: Vec<String>, work: Work) {
    let all = names.len();
    let mut done = 0;
    let mut stage = Stage::Complete;
    for slice in names.chunks(SLICE) {
        if app.shutdown.is_requested() {
            stage = Stage::Canceled;
            break;
        }
        if let Err(error) = apply(&app, slice.to_vec(), &work).await {
            tracing::error!(error = %zibrato_service::chain(&error), job = id, "a job failed");
            stage = Stage::Failed;
            break;
        }
        done += slice.len();
        app.jobs.set(id, Stage::Working, percent(done, all));
    }
    app.jobs.set(id, stage, percent(done, all));
}

fn percent(done: usize, all: usize) -> f64 {
    done as f64 * 100.0 / all as f64
}

async fn apply(app: &App, names: Vec<String>, work: &Work) -> Result<(), StoreError> {
    match work {
        Work::Delete => app.store.delete_metrics(names).await,
        Work::Update(changes) => app.store.update_metrics(names, changes.clone()).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_jobs_work_at_once_and_the_oldest_ended_one_is_forgotten_first() {
        let jobs = Jobs::default();
        for id in 1..=WORKING_MAX as u64 {
            assert_eq!(jobs.begin(), Ok(id));
        }
        assert!(jobs.begin().is_err());
        jobs.set(2, Stage::Complete, 100.0);
        let mut last = 0;
        for _ in WORKING_MAX..JOBS_MAX + 1 {
            last = jobs.begin().unwrap();
            jobs.set(last, Stage::Failed, 1.0);
        }
        assert_eq!(jobs.lock().jobs.len(), JOBS_MAX);
        assert!(jobs.find(2).is_none() && jobs.find(1).is_some());
        assert_eq!(jobs.find(last).unwrap().to_json()["state"], "failed");
    }
}
