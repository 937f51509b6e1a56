//! What an orchestrator knows of its jobs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inbox::Loss;
use crate::{
    channel::{ChannelFactory, Receiver, Sender},
    directive::JobError,
    presence::{Answer, JobStatus, PATIENCE, Process},
    task::{OperationId, RoutingKey},
    worker::WorkerIpc,
};

/// The jobs of one runtime.
#[derive(Debug)]
pub(crate) struct JobBoard {
    process: Process,
    bus: String,
    jobs: Mutex<HashMap<RoutingKey, Arc<JobEntry>>>,
}

/// A job on the board.
pub(crate) struct JobEntry {
    id: RoutingKey,
    operations: Vec<OperationId>,
    started: Instant,
    /// Counts the tasks that were sent and have no result.
    in_flight: Box<dyn Fn() -> usize + Send + Sync>,
    counts: Mutex<JobCounts>,
    /// Ends its results.
    end: CancellationToken,
    cancelled_by: OnceLock<String>,
}

/// What a job tells of itself as it goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobCounts {
    pub(crate) done: u64,
    pub(crate) taken: u64,
    pub(crate) total: Option<u64>,
    pub(crate) retried: u64,
    pub(crate) failed: u64,
}

/// Keeps a job on the board.
#[derive(Debug)]
pub(crate) struct Listed {
    board: Arc<JobBoard>,
    entry: Arc<JobEntry>,
    loss: Loss,
}

impl JobBoard {
    pub(crate) fn new(bus: &str) -> Self {
        Self { process: Process::here(), bus: bus.to_owned(), jobs: Mutex::default() }
    }

    /// Puts a job on the board. Cancelling it cancels `end`, which has to end the job's results.
    pub(crate) fn list(
        self: &Arc<Self>,
        id: RoutingKey,
        operations: Vec<OperationId>,
        in_flight: impl Fn() -> usize + Send + Sync + 'static,
        end: CancellationToken,
        loss: Loss,
    ) -> Listed {
        let entry = Arc::new(JobEntry {
            id: id.clone(),
            operations,
            started: Instant::now(),
            in_flight: Box::new(in_flight),
            counts: Mutex::default(),
            end,
            cancelled_by: OnceLock::new(),
        });
        self.jobs().insert(id, entry.clone());
        Listed { board: self.clone(), entry, loss }
    }

    /// The jobs that go on.
    pub(crate) fn status(&self) -> Vec<JobStatus> {
        let entries: Vec<_> = self.jobs().values().cloned().collect();
        entries.iter().filter(|entry| entry.cancelled_by.get().is_none()).map(|entry| self.describe(entry)).collect()
    }

    fn describe(&self, entry: &JobEntry) -> JobStatus {
        let JobCounts { done, taken, total, retried, failed } = *entry.counts();
        JobStatus {
            id: entry.id.clone(),
            process: self.process.clone(),
            bus: self.bus.clone(),
            operations: entry.operations.clone(),
            done,
            taken,
            total,
            in_flight: (entry.in_flight)() as u64,
            running: 0,
            retried,
            failed,
            age: entry.started.elapsed(),
        }
    }

    /// Ends a job for somebody, and says whether it is here.
    pub(crate) fn cancel(&self, id: &RoutingKey, by: &str) -> bool {
        let Some(entry) = self.jobs().get(id).cloned() else { return false };
        // Whoever was first is named.
        _ = entry.cancelled_by.set(by.to_owned());
        entry.end.cancel();
        true
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<RoutingKey, Arc<JobEntry>>> {
        // Each section leaves the jobs whole, whatever panics.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers for the jobs on a board, and ends those that are cancelled.
pub(super) async fn answer_for(
    board: Arc<JobBoard>,
    channels: ChannelFactory,
    ipc: Sender<WorkerIpc>,
    mut messages: Receiver<WorkerIpc>,
) {
    let answer = async |reply_to: RoutingKey, answer: Answer| {
        let answered = async { channels.leased(&reply_to).sender().await?.publish(&answer).await };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "whoever asked is gone"),
            Err(_) => tracing::debug!("an answer could not be sent in time"),
        }
    };
    while let Some((message, acker)) = messages.next().await {
        // There is nobody to deliver it to again.
        _ = acker.ack().await;
        match message {
            WorkerIpc::Report { reply_to } => match board.status() {
                jobs if jobs.is_empty() => {}
                jobs => answer(reply_to, Answer::Jobs(jobs)).await,
            },
            WorkerIpc::Cancel { routing_key, by, reply_to } if board.cancel(&routing_key, &by) => {
                tracing::warn!(job = %routing_key, by, "the job was cancelled");
                // At once, even if nobody asks for the job's results just now.
                let terminate = WorkerIpc::Terminate { routing_key: routing_key.clone() };
                if let Err(error) = ipc.publish(&terminate).await {
                    tracing::debug!(job = %routing_key, %error, "could not tell the workers to stop a job");
                }
                answer(reply_to, Answer::Accepted).await;
            }
            // To others, or to workers.
            WorkerIpc::Cancel { .. }
            | WorkerIpc::Terminate { .. }
            | WorkerIpc::Drain { .. }
            | WorkerIpc::Answered { .. }
            | WorkerIpc::Accuse(_)
            | WorkerIpc::Vouch(_) => {}
        }
    }
}

impl JobEntry {
    pub(crate) fn counts(&self) -> MutexGuard<'_, JobCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for JobEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Listed {
    /// The job's entry, for whoever counts.
    pub(crate) fn entry(&self) -> &Arc<JobEntry> {
        &self.entry
    }

    /// Why the job's results have ended before they were complete.
    pub(crate) fn why_it_ended(&self) -> JobError {
        match self.entry.cancelled_by.get() {
            Some(by) => JobError::Cancelled { by: by.clone() },
            None => self.loss.error().into(),
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.board.jobs().remove(&self.entry.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::QueueError;

    #[test]
    fn a_job_is_on_the_board_until_it_is_dropped_or_cancelled() {
        let board = Arc::new(JobBoard::new("bus"));
        let end = CancellationToken::new();
        let list = |id: &str| board.list(id.into(), Vec::new(), || 3, end.child_token(), Loss::of(id));
        let (one, other) = (list("one"), list("other"));
        one.entry().counts().done = 7;
        let mut status = board.status();
        status.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!((status.len(), status[0].done, status[0].in_flight), (2, 7, 3));

        assert!(matches!(one.why_it_ended(), JobError::Queue(QueueError::Closed)));
        assert!(board.cancel(&"one".into(), "ada") && board.cancel(&"one".into(), "bob"));
        assert!(!board.cancel(&"another".into(), "ada"));
        assert!(matches!(one.why_it_ended(), JobError::Cancelled { by } if by == "ada"));
        assert_eq!(board.status().len(), 1);
        drop((one, other));
        assert!(board.status().is_empty() && !board.cancel(&"one".into(), "ada"));
    }
}
