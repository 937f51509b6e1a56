//! The jobs of a worker against a model of them: what is said of every operation must be so after any number of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::time::Instant;

use super::{Jobs, RunningTask, Start};
use crate::{
    queue::{Acker, QueueError, QueueSpec},
    task::{RoutingKey, TaskId},
};

const REMEMBERED: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum Operation {
    /// A delivery comes. Its connection may be lost later.
    Start { job: u8, task: u8 },
    /// A task ends in order.
    End { job: u8, task: u8 },
    /// A task is dropped.
    Drop { job: u8, task: u8 },
    /// A job is terminated.
    Terminate { job: u8 },
    /// Somebody else has answered a task.
    Answer { job: u8, task: u8 },
    /// The connection is lost: every delivery so far is stale.
    Lose,
    /// Time passes, and terminated jobs are forgotten.
    Reap { seconds: u8 },
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let (job, task) = (0..3_u8, 0..3_u8);
    prop_oneof![
        6 => (job.clone(), task.clone()).prop_map(|(job, task)| Operation::Start { job, task }),
        3 => (job.clone(), task.clone()).prop_map(|(job, task)| Operation::End { job, task }),
        1 => (job.clone(), task.clone()).prop_map(|(job, task)| Operation::Drop { job, task }),
        1 => (job.clone(), task).prop_map(|(job, task)| Operation::Answer { job, task }),
        1 => job.prop_map(|job| Operation::Terminate { job }),
        1 => Just(Operation::Lose),
        1 => (0..50_u8).prop_map(|seconds| Operation::Reap { seconds }),
    ]
}

/// A delivery with a number. Dropping it tells that number.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: usize,
    pub(super) stale: Arc<AtomicBool>,
    pub(super) dropped: Arc<Mutex<BTreeSet<usize>>>,
}

impl Drop for Numbered {
    fn drop(&mut self) {
        assert!(self.dropped.lock().unwrap().insert(self.number), "a delivery is there once");
    }
}

#[async_trait]
impl Acker for Numbered {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        Ok(())
    }

    async fn nack(self: Box<Self>) -> Result<(), QueueError> {
        Ok(())
    }

    async fn move_to(self: Box<Self>, _queue: &QueueSpec, _reason: &str) -> Result<(), QueueError> {
        Ok(())
    }

    async fn dead_letter(self: Box<Self>, _reason: &str) -> Result<(), QueueError> {
        Ok(())
    }

    fn is_stale(&self) -> bool {
        self.stale.load(Ordering::SeqCst)
    }
}

/// What is to be so.
#[derive(Debug, Default)]
struct Model {
    /// The deliveries that each task under way holds.
    running: BTreeMap<(u8, u8), Vec<usize>>,
    /// When each job was terminated, in seconds.
    terminated: BTreeMap<u8, u64>,
    /// When each task was answered by somebody else.
    answered: BTreeMap<(u8, u8), u64>,
    /// Tasks that were under way when their job was terminated, or when they were answered.
    cancelled: BTreeSet<(u8, u8)>,
    /// Deliveries whose connection is lost.
    stale: BTreeSet<usize>,
    /// Deliveries that are nobody's any more.
    gone: BTreeSet<usize>,
    seconds: u64,
}

impl Model {
    fn of_job(&self, job: u8) -> impl Iterator<Item = (u8, u8)> + '_ {
        self.running.keys().copied().filter(move |&(other, _)| other == job)
    }
}

fn name(job: u8) -> RoutingKey {
    RoutingKey::from(["one", "two", "three"][usize::from(job)])
}

fn check(operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let jobs = Jobs::new(REMEMBERED);
    let (begun, dropped) = (Instant::now(), Arc::<Mutex<BTreeSet<usize>>>::default());
    let mut model = Model::default();
    let mut running: HashMap<(u8, u8), RunningTask<'_>> = HashMap::new();
    let mut connection = Arc::new(AtomicBool::new(false));
    for (number, operation) in operations.into_iter().enumerate() {
        let now = begun + Duration::from_secs(model.seconds);
        match operation {
            Operation::Start { job, task } => {
                let delivery = Numbered { number, stale: connection.clone(), dropped: dropped.clone() };
                let started = jobs.start(&name(job), TaskId(task.into()), Box::new(delivery));
                let held = model.running.get_mut(&(job, task));
                match (started, held) {
                    (Start::Terminated(delivery), _) => {
                        prop_assert!(
                            model.terminated.contains_key(&job) || model.answered.contains_key(&(job, task)),
                            "a job that nobody has terminated, and a task that nobody has answered"
                        );
                        drop(delivery);
                        model.gone.insert(number);
                    }
                    (Start::Adopted, Some(held)) => {
                        prop_assert!(!model.terminated.contains_key(&job));
                        prop_assert!(!model.answered.contains_key(&(job, task)));
                        // What can be settled no more is forgotten.
                        model.gone.extend(held.extract_if(.., |earlier| model.stale.contains(earlier)));
                        held.push(number);
                    }
                    (Start::Begun(task_under_way), None) => {
                        prop_assert!(!model.terminated.contains_key(&job));
                        prop_assert!(!model.answered.contains_key(&(job, task)));
                        model.running.insert((job, task), vec![number]);
                        running.insert((job, task), task_under_way);
                    }
                    (started, held) => prop_assert!(false, "{started:?}, although it holds {held:?}"),
                }
            }
            Operation::End { job, task } => {
                let Some(ends) = running.remove(&(job, task)) else { continue };
                let held = model.running.remove(&(job, task)).unwrap_or_default();
                model.cancelled.remove(&(job, task));
                let deliveries = ends.end();
                prop_assert_eq!(deliveries.len(), held.len(), "all of its deliveries are settled, and no others");
                drop(deliveries);
                model.gone.extend(held);
            }
            Operation::Drop { job, task } => {
                drop(running.remove(&(job, task)));
                model.cancelled.remove(&(job, task));
                model.gone.extend(model.running.remove(&(job, task)).unwrap_or_default());
            }
            Operation::Terminate { job } => {
                let under_way: Vec<_> = model.of_job(job).collect();
                prop_assert_eq!(jobs.terminate(&name(job), now), under_way.len());
                model.cancelled.extend(under_way);
                model.terminated.insert(job, model.seconds);
            }
            Operation::Answer { job, task } => {
                let under_way = model.running.contains_key(&(job, task));
                prop_assert_eq!(jobs.answered(&name(job), TaskId(task.into()), now), under_way);
                if under_way {
                    model.cancelled.insert((job, task));
                }
                model.answered.insert((job, task), model.seconds);
            }
            Operation::Lose => {
                connection.store(true, Ordering::SeqCst);
                connection = Arc::default();
                model.stale = (0..=number).collect();
            }
            Operation::Reap { seconds } => {
                model.seconds += u64::from(seconds);
                jobs.reap(begun + Duration::from_secs(model.seconds));
                let Model { running, terminated, answered, seconds, .. } = &mut model;
                answered.retain(|_, at| *seconds - *at < REMEMBERED.as_secs());
                terminated.retain(|job, at| {
                    running.keys().any(|(other, _)| other == job) || *seconds - *at < REMEMBERED.as_secs()
                });
            }
        }
        // What runs is cancelled if its job was terminated or it was answered meanwhile, and nothing else is.
        for (task, under_way) in &running {
            prop_assert_eq!(under_way.cancel().is_cancelled(), model.cancelled.contains(task), "{:?}", task);
        }
        prop_assert_eq!(&*dropped.lock().unwrap(), &model.gone, "deliveries are given back by nobody else");
        let mut under_way = jobs.under_way();
        under_way.sort_by_key(|(job, task)| (job.to_string(), task.0));
        let mut expected: Vec<_> = model.running.keys().map(|&(job, task)| (name(job), TaskId(task.into()))).collect();
        expected.sort_by_key(|(job, task)| (job.to_string(), task.0));
        prop_assert_eq!(under_way, expected);
        let state = jobs.state();
        prop_assert!(state.running.values().all(|job| !job.tasks.is_empty()), "a job without tasks leaves nothing");
        prop_assert_eq!(state.terminated.len(), model.terminated.len());
        prop_assert_eq!(state.answered.len(), model.answered.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_operations_leave_the_jobs_as_a_model_of_them_says(operations in prop::collection::vec(any_operation(), 0..60)) {
        check(operations)?;
    }
}
