//! Which jobs are under way on this worker, and which were terminated. No I/O.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::task::RoutingKey;

/// The jobs that a worker knows.
#[derive(Debug)]
pub(super) struct Jobs {
    state: Mutex<State>,
    remember: Duration,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<RoutingKey, Running>,
    terminated: HashMap<RoutingKey, Instant>,
}

#[derive(Debug, Default)]
struct Running {
    tasks: usize,
    cancel: CancellationToken,
}

/// A task under way. Dropping it says that the task has ended.
#[derive(Debug)]
pub(super) struct RunningTask<'a> {
    jobs: &'a Jobs,
    job: RoutingKey,
    cancel: CancellationToken,
}

impl RunningTask<'_> {
    /// Cancelled when the job is terminated.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }
}

impl Drop for RunningTask<'_> {
    fn drop(&mut self) {
        let mut state = self.jobs.state();
        if let Some(running) = state.running.get_mut(&self.job) {
            running.tasks -= 1;
            if running.tasks == 0 {
                state.running.remove(&self.job);
            }
        }
    }
}

impl Jobs {
    /// No jobs. A terminated one is remembered for a while.
    pub(super) fn new(remember: Duration) -> Self {
        Self { state: Mutex::default(), remember }
    }

    /// Begins a task of a job, unless the job was terminated.
    pub(super) fn start(&self, job: &RoutingKey) -> Option<RunningTask<'_>> {
        let mut state = self.state();
        if state.terminated.contains_key(job) {
            return None;
        }
        let running = state.running.entry(job.clone()).or_default();
        running.tasks += 1;
        Some(RunningTask { jobs: self, job: job.clone(), cancel: running.cancel.clone() })
    }

    /// Cancels the job's tasks under way, and says how many there were. Its later tasks do not start.
    pub(super) fn terminate(&self, job: &RoutingKey, now: Instant) -> usize {
        let mut state = self.state();
        state.terminated.insert(job.clone(), now);
        state.running.get(job).map_or(0, |running| {
            running.cancel.cancel();
            running.tasks
        })
    }

    /// Forgets jobs that were terminated long ago and have no tasks under way.
    pub(super) fn reap(&self, now: Instant) {
        let mut state = self.state();
        let running: HashSet<_> = state.running.keys().cloned().collect();
        state.terminated.retain(|job, at| running.contains(job) || now.duration_since(*at) < self.remember);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each section leaves the state whole, whatever panics.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminating_a_job_cancels_its_tasks_and_no_others() {
        let jobs = Jobs::new(Duration::from_secs(60));
        let (one, other) = (RoutingKey::from("one"), RoutingKey::from("other"));
        let (first, second) = (jobs.start(&one).unwrap(), jobs.start(&one).unwrap());
        let bystander = jobs.start(&other).unwrap();
        assert_eq!(jobs.terminate(&one, Instant::now()), 2);
        assert!(first.cancel().is_cancelled() && second.cancel().is_cancelled());
        assert!(!bystander.cancel().is_cancelled());
        assert!(jobs.start(&one).is_none());
        assert!(jobs.start(&other).is_some());
    }

    #[test]
    fn a_terminated_job_is_forgotten_after_a_while_but_not_while_its_tasks_run() {
        let jobs = Jobs::new(Duration::from_secs(60));
        let job = RoutingKey::from("job");
        let task = jobs.start(&job).unwrap();
        let now = Instant::now();
        jobs.terminate(&job, now);
        jobs.reap(now + Duration::from_secs(61));
        assert!(jobs.start(&job).is_none(), "a task of it is still running");
        drop(task);
        jobs.reap(now + Duration::from_secs(59));
        assert!(jobs.start(&job).is_none());
        jobs.reap(now + Duration::from_secs(61));
        assert!(jobs.start(&job).is_some());
    }

    #[test]
    fn a_job_without_tasks_leaves_nothing_behind() {
        let jobs = Jobs::new(Duration::from_secs(60));
        let job = RoutingKey::from("job");
        drop((jobs.start(&job).unwrap(), jobs.start(&job).unwrap()));
        assert!(jobs.state().running.is_empty());
    }
}
