//! What a worker knows of itself.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use super::load::LoadAverage;
use crate::{presence::Process, task::RoutingKey};

/// How far a worker is.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use palfrey_host::{Config, Runtime, worker::Phase};
///
/// let runtime = Runtime::from_config(&Config { workers: 0, ..Config::default() }).await?;
/// let worker = runtime.worker_in_memory().expect("it is in memory");
/// let mut phase = worker.phase();
/// assert_eq!(*phase.borrow(), Phase::Starting);
/// tokio::spawn(async move { worker.main_loop(std::future::pending()).await });
/// phase.wait_for(|phase| *phase == Phase::Taking).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It does not take tasks yet.
    Starting,
    /// It takes tasks.
    Taking,
    /// It takes no more tasks, and finishes those that it has.
    Draining,
}

/// What a worker is doing, for whoever asks. No I/O.
#[derive(Debug)]
pub(crate) struct Activity {
    process: Process,
    started: Instant,
    phase: watch::Sender<Phase>,
    /// When its loop last showed that it goes round.
    beat: watch::Sender<Instant>,
    tasks: Mutex<Tasks>,
}

#[derive(Debug)]
struct Tasks {
    running: HashMap<RoutingKey, u32>,
    total: usize,
    executed: u64,
    load: LoadAverage,
}

/// A task that occupies a slot. Dropping it says that it has ended.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    activity: &'a Activity,
    job: RoutingKey,
}

/// The tasks of a worker at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Executing {
    pub(crate) by_job: Vec<(RoutingKey, u32)>,
    pub(crate) executed: u64,
    /// Busy slots, on average of the last minute.
    pub(crate) load: f64,
}

impl Activity {
    /// That of a worker which begins now.
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        let tasks = Tasks { running: HashMap::new(), total: 0, executed: 0, load: LoadAverage::new(now) };
        Self {
            process: Process::here(),
            started: now,
            phase: watch::Sender::new(Phase::Starting),
            beat: watch::Sender::new(now),
            tasks: Mutex::new(tasks),
        }
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// How far it is, and whenever that changes.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.beat();
        self.phase.send_replace(phase);
    }

    /// The loop goes round.
    pub(crate) fn beat(&self) {
        self.beat.send_replace(Instant::now());
    }

    /// When the loop last went round, and whenever it does.
    pub(crate) fn beats(&self) -> watch::Receiver<Instant> {
        self.beat.subscribe()
    }

    /// A task of a job begins to occupy a slot.
    pub(crate) fn start(&self, job: &RoutingKey) -> Running<'_> {
        let mut tasks = self.tasks();
        *tasks.running.entry(job.clone()).or_default() += 1;
        tasks.total += 1;
        let total = tasks.total;
        tasks.load.set(total, Instant::now());
        Running { activity: self, job: job.clone() }
    }

    pub(crate) fn executing(&self) -> Executing {
        let tasks = self.tasks();
        let mut by_job: Vec<_> = tasks.running.iter().map(|(job, tasks)| (job.clone(), *tasks)).collect();
        by_job.sort();
        Executing { by_job, executed: tasks.executed, load: tasks.load.at(Instant::now()) }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        // Each section leaves the numbers whole, whatever panics.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut tasks = self.activity.tasks();
        if let Some(running) = tasks.running.get_mut(&self.job) {
            *running -= 1;
            if *running == 0 {
                tasks.running.remove(&self.job);
            }
        }
        tasks.executed += 1;
        tasks.total -= 1;
        let total = tasks.total;
        tasks.load.set(total, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_counted_by_job_until_it_has_ended() {
        let activity = Activity::begin();
        let (one, other) = (RoutingKey::from("one"), RoutingKey::from("other"));
        let (first, second, third) = (activity.start(&one), activity.start(&other), activity.start(&one));
        assert_eq!(activity.executing().by_job, [(one.clone(), 2), (other, 1)]);
        drop((first, second));
        assert_eq!(activity.executing().by_job, [(one, 1)]);
        drop(third);
        let Executing { by_job, executed, .. } = activity.executing();
        assert_eq!((by_job, executed), (Vec::new(), 3));
    }
}
