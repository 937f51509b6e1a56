//! Late tasks at the end of a job: of which ones idle slots get a second copy.

use std::{num::NonZeroUsize, time::Duration};

use arith::MultiplyBy;
use asker::{LookAtClocks, LookPlain, Seen};
use digest::Mine;
use futures::{StreamExt, future};
use palfrey_host::{
    Config, JobError, Runtime, WorkerRuntime,
    channel::Receiver,
    directive::*,
    plugin::DeployOptions,
    queue::Acker,
    task::{AnyTask, AnyTaskResult, TaskOutcome, WorkerReport},
};
use palfrey_sdk::{Blob, RemoteExecute};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{component, fixed, runtime};

type Delivered = (AnyTask, Box<dyn Acker>);

/// Executes a task for a process with so many slots, and says that it took some time.
async fn answer(worker: &WorkerRuntime, process: (&str, u32), (task, acker): Delivered, execution: Duration) {
    let (outcome, _) = worker.execute(&task, &CancellationToken::new()).await;
    answer_with(worker, process, (task, acker), execution, outcome).await;
}

async fn answer_with(
    worker: &WorkerRuntime,
    (process, slots): (&str, u32),
    (task, acker): Delivered,
    execution: Duration,
    outcome: TaskOutcome,
) {
    let report = WorkerReport { worker: process.to_owned(), slots, waited: Duration::ZERO, execution };
    let AnyTask { routing_key, id, metadata, serializer, .. } = task;
    let result = AnyTaskResult { routing_key, id, metadata, serializer, report, outcome };
    worker.get_result_sender(&result.routing_key).await.unwrap().publish(&result).await.unwrap();
    acker.ack().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_stands_still_does_not_hold_up_the_end_of_a_job() {
    let config = Config { workers: 0, slots: NonZeroUsize::new(2), ..Config::default() };
    let held = usize::from(config.prefetch());
    let runtime = runtime(config, &["arith"]).await;
    let still = runtime.worker_in_memory().unwrap();
    let mut tasks = still.get_task_receiver().await.unwrap();
    let results = IndexedStream::from(0..16_u64).map(&MultiplyBy(2)).options(fixed(1)).run(&runtime).await.unwrap();
    let stands_still = async {
        // It answers one task, so that it is heard of as a process of its own, and keeps all others that it is given for ever: as
        // many as both processes have slots.
        answer(&still, ("another process", 2), tasks.next().await.unwrap(), Duration::ZERO).await;
        let kept: Vec<_> = tasks.by_ref().take(held).collect().await;
        assert_eq!(kept.len(), 4);
        let other = runtime.worker_in_memory().unwrap();
        tokio::spawn(async move { other.main_loop(std::future::pending()).await });
        kept
    };
    // The time is for a machine that does a lot else.
    let both = tokio::time::timeout(Duration::from_secs(120), future::join(results.into_values_sorted(), stands_still));
    let (values, _kept) = both.await.expect("somebody else executes what it keeps");
    assert_eq!(values.unwrap(), (0..16).map(|n| n * 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_is_not_the_first_with_a_task_is_stopped_while_the_job_goes_on() {
    let config = Config { workers: 0, slots: NonZeroUsize::new(2), ..Config::default() };
    let runtime = runtime(config, &["digest"]).await;
    let hand = runtime.worker_in_memory().unwrap();
    let mut tasks = hand.get_task_receiver().await.unwrap();
    let hopeless = Mine { bits: 60 };
    let blocks = IndexedStream::from((0..4).map(|number| Blob::from(vec![number])).collect::<Vec<_>>());
    let results = blocks.options(fixed(1)).map(&hopeless).run(&runtime).await.unwrap();
    let answers = async {
        let found = async |process, delivered: Delivered| {
            let outputs = [delivered.0.serializer.to_bytes(&7_u64).unwrap()].into_iter().collect();
            let outcome = TaskOutcome::Executed { outputs, failed: Vec::new() };
            answer_with(&hand, process, delivered, Duration::ZERO, outcome).await;
        };
        for process in ["one", "other"] {
            found((process, 2), tasks.next().await.unwrap()).await;
        }
        let (third, fourth) = (tasks.next().await.unwrap(), tasks.next().await.unwrap());
        drop(tasks);
        // Whoever comes now is given second copies of both, and will never end.
        let loser = runtime.worker_in_memory().unwrap();
        tokio::spawn(async move { loser.main_loop(std::future::pending()).await });
        let executes = async |count| {
            while runtime.workers().await.unwrap().iter().map(|worker| worker.executing()).sum::<u32>() != count {}
        };
        executes(2).await;
        found(("one", 2), third).await;
        executes(1).await;
        found(("one", 2), fourth).await;
    };
    let both = tokio::time::timeout(Duration::from_secs(120), future::join(results.into_values_sorted(), answers));
    let (values, ()) = both.await.expect("the copies are stopped");
    assert_eq!(values.unwrap(), [7; 4]);
}

/// A job at its end: two processes have answered a task each, and have nothing to do but for the third.
struct Ending {
    job: JoinHandle<Result<Vec<Seen>, JobError>>,
    last: Delivered,
}

impl Ending {
    /// Of a job whose tasks are the only ones, and take so long each.
    async fn of<Op>(runtime: &Runtime, operation: &'static Op, each: Duration, tasks: &mut Receiver<AnyTask>) -> Self
    where
        Op: MapStage<Input = u64, Output = Seen> + RemoteExecute,
    {
        let worker = runtime.worker_in_memory().unwrap();
        let results = IndexedStream::from(0..3_u64).options(fixed(1)).map(operation).run(runtime).await.unwrap();
        let job = tokio::spawn(results.into_values_sorted());
        let mut next = async || {
            let (task, acker) = tasks.next().await.unwrap();
            assert_eq!(task.stages[0].operation.operation(), Op::NAME);
            (task, acker)
        };
        for process in ["one", "other"] {
            answer(&worker, (process, 1), next().await, each).await;
        }
        Self { job, last: next().await }
    }
}

#[tokio::test]
async fn an_operation_that_needs_a_grant_is_not_executed_a_second_time_in_advance() {
    let config = Config { workers: 0, allow: vec!["clocks".parse().unwrap()], ..Config::default() };
    let runtime = runtime(config, &[]).await;
    let grants = ["clocks", "entropy", "env:CARGO_PKG_NAME", "dir:/data"].map(|need| need.parse().unwrap());
    let options = DeployOptions { grants: grants.into(), ..DeployOptions::default() };
    runtime.deploy_with(component("asker"), &options).await.unwrap();
    let worker = runtime.worker_in_memory().unwrap();
    let mut tasks = worker.get_task_receiver().await.unwrap();
    // The last task of the second job is late after four tenths of a second, that of the first was a tenth after it was sent.
    let impure = Ending::of(&runtime, &LookAtClocks, Duration::ZERO, &mut tasks).await;
    let pure = Ending::of(&runtime, &LookPlain, Duration::from_millis(100), &mut tasks).await;
    let copy = tasks.next().await.unwrap();
    assert_eq!((&copy.0.routing_key, copy.0.id), (&pure.last.0.routing_key, pure.last.0.id), "the first copy");
    for (ending, answered) in [(pure.job, copy), (impure.job, impure.last)] {
        answer(&worker, ("one", 1), answered, Duration::ZERO).await;
        assert_eq!(ending.await.unwrap().unwrap().len(), 3);
    }
}
