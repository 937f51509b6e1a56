//! Which jobs and tasks are under way on this worker, and which jobs were terminated. No I/O.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    queue::Acker,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{RoutingKey, TaskId},
};

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
    /// The deliveries of each task, to be settled when it has ended.
    tasks: HashMap<TaskId, Vec<Box<dyn Acker>>>,
    cancel: CancellationToken,
}

/// What becomes of a delivery.
#[derive(Debug)]
pub(super) enum Start<'a> {
    /// Its task begins.
    Begun(RunningTask<'a>),
    /// Its task is under way already: the broker took it back because it takes long, or because a channel was lost. Its
    /// end settles this delivery as well.
    Adopted,
    /// Its job was terminated.
    Terminated(Box<dyn Acker>),
}

/// A task under way. Dropping it says that the task has ended, and gives its deliveries back.
#[derive(Debug)]
pub(super) struct RunningTask<'a> {
    jobs: &'a Jobs,
    job: RoutingKey,
    task: TaskId,
    cancel: CancellationToken,
    ended: bool,
}

impl RunningTask<'_> {
    /// Cancelled when the job is terminated.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The task has ended, and these deliveries of it are to be settled. The latest one comes last; the others are stale,
    /// unless the task was sent twice.
    pub(super) fn end(mut self) -> Vec<Box<dyn Acker>> {
        self.take()
    }

    fn take(&mut self) -> Vec<Box<dyn Acker>> {
        // Once only: by now the same task may have begun again.
        if std::mem::replace(&mut self.ended, true) {
            return Vec::new();
        }
        let mut state = self.jobs.state();
        let Some(running) = state.running.get_mut(&self.job) else { return Vec::new() };
        let deliveries = running.tasks.remove(&self.task).unwrap_or_default();
        if running.tasks.is_empty() {
            state.running.remove(&self.job);
        }
        deliveries
    }
}

impl Drop for RunningTask<'_> {
    fn drop(&mut self) {
        // Outside the lock: giving back is somebody else's code.
        drop(self.take());
    }
}

impl Jobs {
    /// No jobs. A terminated one is remembered for a while.
    pub(super) fn new(remember: Duration) -> Self {
        Self { state: Mutex::default(), remember }
    }

    /// How long a terminated job is remembered, at the least.
    pub(super) fn remembers(&self) -> Duration {
        self.remember
    }

    /// Begins a task of a job with its delivery, unless the job was terminated or the task is under way.
    pub(super) fn start(&self, job: &RoutingKey, task: TaskId, delivery: Box<dyn Acker>) -> Start<'_> {
        let mut state = self.state();
        if state.terminated.contains_key(job) {
            return Start::Terminated(delivery);
        }
        let running = state.running.entry(job.clone()).or_default();
        if let Some(deliveries) = running.tasks.get_mut(&task) {
            let stale = deliveries.extract_if(.., |earlier| earlier.is_stale()).collect::<Vec<_>>();
            deliveries.push(delivery);
            drop(state);
            drop(stale);
            return Start::Adopted;
        }
        running.tasks.insert(task, vec![delivery]);
        Start::Begun(RunningTask { jobs: self, job: job.clone(), task, cancel: running.cancel.clone(), ended: false })
    }

    /// Cancels the job's tasks under way, and says how many there were. Its later tasks do not start.
    pub(super) fn terminate(&self, job: &RoutingKey, now: Instant) -> usize {
        let mut state = self.state();
        state.terminated.insert(job.clone(), now);
        state.running.get(job).map_or(0, |running| {
            running.cancel.cancel();
            running.tasks.len()
        })
    }

    /// The tasks under way.
    pub(super) fn under_way(&self) -> Vec<(RoutingKey, TaskId)> {
        let state = self.state();
        state.running.iter().flat_map(|(job, running)| running.tasks.keys().map(|&task| (job.clone(), task))).collect()
    }

    /// Forgets jobs that were terminated long ago and have no tasks under way.
    pub(super) fn reap(&self, now: Instant) {
        let mut state = self.state();
        let running: HashSet<_> = state.running.keys().cloned().collect();
        state.terminated.retain(|job, at| running.contains(job) || now.duration_since(*at) < self.remember);
    }

    /// Whether a terminated job is remembered.
    #[cfg(test)]
    pub(super) fn remembers_end_of(&self, job: &RoutingKey) -> bool {
        self.state().terminated.contains_key(job)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each section leaves the state whole, whatever panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{Arc, atomic::AtomicBool},
    };

    use super::{model::Numbered, *};
    use crate::queue::NothingToSettle;

    fn start<'a>(jobs: &'a Jobs, job: &RoutingKey, task: u64) -> Option<RunningTask<'a>> {
        match jobs.start(job, TaskId(task), Box::new(NothingToSettle)) {
            Start::Begun(running) => Some(running),
            Start::Adopted => panic!("task {task} is under way"),
            Start::Terminated(_) => None,
        }
    }

    #[test]
    fn terminating_a_job_cancels_its_tasks_and_no_others() {
        let jobs = Jobs::new(Duration::from_secs(60));
        let (one, other) = (RoutingKey::from("one"), RoutingKey::from("other"));
        let (first, second) = (start(&jobs, &one, 1).unwrap(), start(&jobs, &one, 2).unwrap());
        let bystander = start(&jobs, &other, 1).unwrap();
        assert_eq!(jobs.terminate(&one, Instant::now()), 2);
        assert!(first.cancel().is_cancelled() && second.cancel().is_cancelled());
        assert!(!bystander.cancel().is_cancelled());
        assert!(start(&jobs, &one, 3).is_none());
        assert!(start(&jobs, &other, 3).is_some());
    }

    #[test]
    fn a_terminated_job_is_forgotten_after_a_while_but_not_while_its_tasks_run() {
        let jobs = Jobs::new(Duration::from_secs(60));
        let job = RoutingKey::from("job");
        let task = start(&jobs, &job, 1).unwrap();
        let now = Instant::now();
        jobs.terminate(&job, now);
        jobs.reap(now + Duration::from_secs(61));
        assert!(start(&jobs, &job, 2).is_none(), "a task of it is still running");
        drop(task);
        jobs.reap(now + Duration::from_secs(59));
        assert!(start(&jobs, &job, 2).is_none());
        jobs.reap(now + Duration::from_secs(61));
        assert!(start(&jobs, &job, 2).is_some());
    }

    #[test]
    fn a_job_without_tasks_leaves_nothing_behind() {
        let jobs = Jobs::new(Duration::from_secs(60));
        let job = RoutingKey::from("job");
        drop((start(&jobs, &job, 1).unwrap(), start(&jobs, &job, 2).unwrap()));
        assert!(jobs.state().running.is_empty());
    }

    #[test]
    fn a_later_delivery_of_a_task_under_way_is_settled_with_it() {
        let jobs = Jobs::new(Duration::from_secs(60));
        let (job, other) = (RoutingKey::from("job"), RoutingKey::from("other"));
        let dropped = Arc::<Mutex<BTreeSet<usize>>>::default();
        let delivery = |number, stale| {
            Box::new(Numbered { number, stale: Arc::new(AtomicBool::new(stale)), dropped: dropped.clone() })
        };
        let given_back = || dropped.lock().unwrap().iter().copied().collect::<Vec<_>>();
        let Start::Begun(running) = jobs.start(&job, TaskId(1), delivery(1, true)) else { panic!("it is new") };
        assert!(matches!(jobs.start(&job, TaskId(1), delivery(2, false)), Start::Adopted));
        assert_eq!(given_back(), [1], "the stale one is forgotten");
        assert!(matches!(jobs.start(&job, TaskId(1), delivery(3, false)), Start::Adopted), "it was sent twice");
        assert!(start(&jobs, &job, 2).is_some() && start(&jobs, &other, 1).is_some(), "others begin");
        assert_eq!(running.end().len(), 2);

        // It may come again after its end: its result is then a duplicate.
        let Start::Begun(again) = jobs.start(&job, TaskId(1), delivery(4, false)) else { panic!("it has ended") };
        assert!(!given_back().contains(&4));
        drop(again);
        assert!(given_back().contains(&4), "what does not end in order is given back");
        assert!(jobs.state().running.is_empty());
    }
}
