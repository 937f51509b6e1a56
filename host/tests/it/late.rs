//! Late tasks at the end of a job: of which ones idle slots get a second copy.

use std::time::Duration;

use arith::MultiplyBy;
use asker::{LookAtClocks, LookPlain, Seen};
use futures::{StreamExt, future};
use palfrey_host::{
    Config, JobError, Runtime, WorkerRuntime,
    channel::Receiver,
    directive::*,
    plugin::DeployOptions,
    queue::Acker,
    task::{AnyTask, AnyTaskResult, WorkerReport},
};
use palfrey_sdk::RemoteExecute;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{component, fixed, runtime};

type Delivered = (AnyTask, Box<dyn Acker>);

/// Answers for a process with one slot, and says that the task took some time.
async fn answer(worker: &WorkerRuntime, process: &str, (task, acker): Delivered, execution: Duration) {
    let (outcome, _) = worker.execute(&task, &CancellationToken::new()).await;
    let report = WorkerReport { worker: process.to_owned(), slots: 1, waited: Duration::ZERO, execution };
    let AnyTask { routing_key, id, metadata, serializer, .. } = task;
    let result = AnyTaskResult { routing_key, id, metadata, serializer, report, outcome };
    worker.get_result_sender(&result.routing_key).await.unwrap().publish(&result).await.unwrap();
    acker.ack().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_stands_still_does_not_hold_up_the_end_of_a_job() {
    let config = Config { workers: 0, prefetch: Some(1), ..Config::default() };
    let runtime = runtime(config, &["arith"]).await;
    let still = runtime.worker_in_memory().unwrap();
    let mut tasks = still.get_task_receiver().await.unwrap();
    let results = IndexedStream::from(0..8_u64).map(&MultiplyBy(2)).options(fixed(1)).run(&runtime).await.unwrap();
    let stands_still = async {
        // It answers one task, so that it is heard of as a process of its own, and keeps the next one for ever.
        answer(&still, "another process", tasks.next().await.unwrap(), Duration::ZERO).await;
        let kept = tasks.next().await.unwrap();
        let other = runtime.worker_in_memory().unwrap();
        tokio::spawn(async move { other.main_loop(std::future::pending()).await });
        kept
    };
    // The time is for a machine that does a lot else.
    let both = tokio::time::timeout(Duration::from_secs(120), future::join(results.into_values_sorted(), stands_still));
    let (values, _kept) = both.await.expect("somebody else executes what it keeps");
    assert_eq!(values.unwrap(), (0..8).map(|n| n * 2).collect::<Vec<_>>());
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
            answer(&worker, process, next().await, each).await;
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
        answer(&worker, "one", answered, Duration::ZERO).await;
        assert_eq!(ending.await.unwrap().unwrap().len(), 3);
    }
}
