//! Workers: their main loop, a loop made of its parts, and what they tell each other.

use std::{num::NonZeroUsize, time::Duration};

use arith::{Divide, MultiplyBy, Sum};
use bytes::Bytes;
use digest::Mine;
use futures::{StreamExt, future::join_all};
use palfrey_host::{
    Config, JobError, Runtime, WorkerRuntime,
    channel::ChannelType,
    directive::*,
    queue::{QueueError, QueueKind, QueueSpec},
    runtime::Task,
    task::{AnyTask, AnyTaskResult, Apply, Cause, RoutingKey, TaskId, TaskOutcome, WorkerReport, wire::Message as _},
    worker::{ExecutionErr, ExecutionOk, WorkerIpc},
};
use palfrey_sdk::FatalStrategy;
use text::{CharToString, Concat};
use tokio_util::sync::CancellationToken;

use crate::{no_workers, runtime, two_workers};

/// A main loop of one's own: takes tasks in groups, and answers each group in reverse order and twice.
async fn contrary_loop(worker: WorkerRuntime) {
    let mut tasks = worker.get_task_receiver().await.unwrap().ready_chunks(3);
    while let Some(group) = tasks.next().await {
        for (task, acker) in group.into_iter().rev() {
            let (outcome, execution) = worker.execute(&task, &CancellationToken::new()).await;
            for _ in 0..2 {
                match outcome.clone() {
                    TaskOutcome::Executed { outputs, failed } => {
                        worker.dispatch_ok(ExecutionOk { task: &task, outputs, failed, execution }).await.unwrap();
                    }
                    TaskOutcome::Failed(err) => {
                        worker.dispatch_fatal(ExecutionErr { task: &task, err, execution }).await.unwrap();
                    }
                }
            }
            acker.ack().await.unwrap();
        }
    }
}

#[tokio::test]
async fn duplicated_and_reordered_results_change_nothing() {
    let runtime = no_workers().await;
    for _ in 0..2 {
        tokio::spawn(contrary_loop(runtime.worker_in_memory().unwrap()));
    }
    let letters: String = ('a'..='z').cycle().take(1000).collect();
    let options = JobOptions::default().batch_size(BatchSize::Fixed(5.try_into().unwrap()));
    let source = IndexedStream::from(letters.chars().collect::<Vec<_>>()).options(options);
    assert_eq!(source.map(&CharToString).fold(&Concat).run(&runtime).await.unwrap(), letters);

    let results = IndexedStream::from(0..200_u64).map(&MultiplyBy(2)).run(&runtime).await.unwrap();
    assert_eq!(results.into_values_sorted().await.unwrap(), (0..200).map(|n| n * 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn consecutive_stages_travel_as_one_task() {
    let runtime = no_workers().await;
    let worker = runtime.worker_in_memory().unwrap();
    let mut tasks = worker.get_task_receiver().await.unwrap();
    let options = JobOptions::default().batch_size(BatchSize::Fixed(10.try_into().unwrap()));
    let source = IndexedStream::from(1..=10_u64).options(options);
    let job = source.map(&MultiplyBy(2)).map(&MultiplyBy(3)).fold(&Sum).run(&runtime);
    let only_task = async {
        let (task, acker) = tasks.next().await.unwrap();
        let applied: Vec<_> = task.stages.iter().map(|stage| (stage.operation.to_string(), stage.apply)).collect();
        let named = |name: &str, apply| (name.to_owned(), apply);
        assert_eq!(
            applied,
            [
                named("arith/multiply-by", Apply::Map),
                named("arith/multiply-by", Apply::Map),
                named("arith/sum", Apply::Fold)
            ]
        );
        let (outcome, execution) = worker.execute(&task, &CancellationToken::new()).await;
        let TaskOutcome::Executed { outputs, failed } = outcome else { panic!("{outcome:?}") };
        assert_eq!(outputs.len(), 1, "only the partial result comes back");
        worker.dispatch_ok(ExecutionOk { task: &task, outputs, failed, execution }).await.unwrap();
        acker.ack().await.unwrap();
    };
    let (sum, ()) = futures::join!(job, only_task);
    assert_eq!(sum.unwrap(), 330);
}

#[tokio::test]
async fn every_worker_hears_what_is_told_to_all() {
    let runtime = no_workers().await;
    let workers = [(); 3].map(|()| runtime.worker_in_memory().unwrap());
    let receivers = join_all(workers.iter().map(WorkerRuntime::get_ipc_receiver)).await;
    let terminate = WorkerIpc::Terminate { routing_key: RoutingKey::from("job") };
    workers[0].get_ipc_sender().await.unwrap().publish(&terminate).await.unwrap();
    for receiver in receivers {
        assert_eq!(receiver.unwrap().next().await, Some(terminate.clone()));
    }
}

#[tokio::test]
async fn a_loop_that_dispatches_a_fatal_failure_ends_the_job_and_tells_all_workers() {
    let runtime = no_workers().await;
    let [worker, other] = [(); 2].map(|()| runtime.worker_in_memory().unwrap());
    let mut ipc = other.get_ipc_receiver().await.unwrap();
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<Divide, u8>().await.unwrap();
    let divide = Task { routing_key: routing_key.clone(), metadata: 9, op: &Divide, input: (7, 0) };
    sender.publish(&divide).await.unwrap();
    let (task, acker) = worker.get_task_receiver().await.unwrap().next().await.unwrap();
    let (outcome, execution) = worker.execute(&task, &CancellationToken::new()).await;
    // A map comes with what was finished before the element at which it ends: nothing, here.
    let TaskOutcome::Executed { mut failed, .. } = outcome else { panic!("{outcome:?}") };
    let err = failed.pop().expect("nobody can do that").error;
    worker.dispatch_fatal(ExecutionErr { task: &task, err, execution }).await.unwrap();
    acker.ack().await.unwrap();
    // Nobody has looked at the result yet who could have told them.
    let heard = tokio::time::timeout(Duration::from_secs(20), ipc.next()).await.expect("all workers are told");
    assert_eq!(heard, Some(WorkerIpc::Terminate { routing_key }));

    let (result, acker) = results.next().await.unwrap();
    let failed = result.unwrap_err();
    assert_eq!(failed.metadata, Some(9));
    let JobError::Execution(failure) = &failed.error else { panic!("{failed}") };
    assert_eq!(failure.cause, Cause::Fatal { strategy: FatalStrategy::Terminate });
    assert_eq!(
        (failure.operation.to_string().as_str(), failure.message.as_str()),
        ("arith/divide", "7 cannot be divided by zero")
    );
    acker.ack().await.unwrap();
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_frees_its_slots() {
    let runtime = runtime(Default::default(), &["digest", "arith"]).await;
    let hopeless = Mine { bits: 60 };
    let endless = IndexedStream::from((0..100).map(|n| palfrey_sdk::Blob::from(vec![n])));
    let mut results = endless.map(&hopeless).run(&runtime).await.unwrap();
    // Enough for the slots to be taken: the limit of an element is a minute.
    assert!(tokio::time::timeout(Duration::from_millis(300), results.next()).await.is_err());
    drop(results);
    let sum = IndexedStream::from(1..=10_u64).fold(&Sum).run(&runtime);
    let sum = tokio::time::timeout(Duration::from_secs(20), sum).await.expect("the slots are free");
    assert_eq!(sum.unwrap(), 55);
}

#[tokio::test]
async fn an_execution_that_nobody_awaits_frees_its_slot() {
    let config = Config { workers: 0, slots: Some(NonZeroUsize::MIN), ..Config::default() };
    let runtime = runtime(config, &["digest", "arith"]).await;
    let worker = runtime.worker_in_memory().unwrap();
    let mut tasks = worker.get_task_receiver().await.unwrap();
    let (hopeless, easy) = (Mine { bits: 60 }, MultiplyBy(2));
    let mut mined = IndexedStream::from([palfrey_sdk::Blob::from(vec![1])]).map(&hopeless).run(&runtime).await.unwrap();
    let mut doubled = IndexedStream::from([21_u64]).map(&easy).run(&runtime).await.unwrap();
    assert!(futures::poll!(mined.next()).is_pending() && futures::poll!(doubled.next()).is_pending());
    let cancel = CancellationToken::new();
    let (mine, _mine) = tasks.next().await.unwrap();
    let (double, _double) = tasks.next().await.unwrap();
    let abandoned = tokio::time::timeout(Duration::from_millis(200), worker.execute(&mine, &cancel)).await;
    assert!(abandoned.is_err());
    let next = tokio::time::timeout(Duration::from_secs(20), worker.execute(&double, &cancel)).await;
    assert!(matches!(next.expect("the slot is free").0, TaskOutcome::Executed { .. }));
}

#[tokio::test]
async fn a_garbage_message_is_dead_lettered_and_the_next_task_runs() {
    let runtime = two_workers().await;
    let connection = runtime.channels().connection();
    let garbage = QueueSpec::new("default", QueueKind::Tasks);
    let publisher = connection.handle(&garbage).publisher().await.unwrap();
    publisher.publish(Bytes::from_static(b"garbage")).await.unwrap();
    assert_eq!(Literal::new(21).map(&MultiplyBy(2)).run(&runtime).await.unwrap(), 42);
    let dead = connection.declare(&garbage.dead_letters().unwrap()).await.unwrap();
    let letter = dead.consumer(1).await.unwrap().next().await.unwrap();
    assert_eq!(&letter.payload[..], b"garbage");
    let reason = letter.dead_letter().unwrap().reason.clone();
    assert!(reason.contains("format version"), "{reason}");
}

#[tokio::test]
async fn a_main_loop_that_is_told_to_stop_finishes_what_it_has() {
    let runtime = no_workers().await;
    let worker = runtime.worker_in_memory().unwrap();
    let shutdown = CancellationToken::new();
    let job = IndexedStream::from(1..=100_u64).fold(&Sum).run(&runtime);
    let main_loop = async {
        let stop = shutdown.clone();
        worker.main_loop(async move { stop.cancelled().await }).await
    };
    let job = async {
        let sum = job.await;
        shutdown.cancel();
        sum
    };
    let (ended, sum) = tokio::join!(main_loop, job);
    ended.unwrap();
    assert_eq!(sum.unwrap(), 5050);
    let bus = runtime.channels().get::<AnyTask>("default", ChannelType::ExactlyOnce).await.unwrap();
    assert_eq!(bus.status().await.unwrap().consumers, 0);
}

/// Takes the only task of a job, and sends something else than its result.
async fn answer_with(runtime: &Runtime, change: impl FnOnce(AnyTaskResult) -> Bytes) {
    let tasks = runtime.channels().get::<AnyTask>("default", ChannelType::ExactlyOnce).await.unwrap();
    let (task, acker) = tasks.receiver().await.unwrap().next().await.unwrap();
    let AnyTask { routing_key, id, metadata, serializer, .. } = task;
    let outcome = TaskOutcome::Executed { outputs: [vec![0]].into_iter().collect(), failed: Vec::new() };
    let result = AnyTaskResult { routing_key, id, metadata, serializer, report: WorkerReport::default(), outcome };
    let sender = runtime.channels().leased::<AnyTaskResult>(&result.routing_key).sender().await.unwrap();
    sender.publish_encoded(Bytes::from_static(b"garbage")).await.unwrap();
    sender.publish_encoded(change(result)).await.unwrap();
    acker.ack().await.unwrap();
}

#[tokio::test]
async fn a_result_that_cannot_be_read_ends_the_job_with_a_reason() {
    let runtime = no_workers().await;
    let newer = |result: AnyTaskResult| {
        let mut message = result.encode().to_vec();
        message[0] = 9;
        message.into()
    };
    let operation = MultiplyBy(2);
    let job = Literal::new(21).map(&operation).run(&runtime);
    let (error, ()) = tokio::join!(job, answer_with(&runtime, newer));
    let error = error.unwrap_err();
    let failure = error.execution().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(failure.cause, Cause::UnreadableResult { version: 9 });
    assert!(failure.message.contains("this release reads version 1"), "{error}");

    // Typed tasks come with what their sender wanted to remember.
    let (routing_key, sender, mut results) =
        runtime.lease_coordinated_task_channel::<MultiplyBy, String>().await.unwrap();
    let task = Task { routing_key, metadata: "mine".to_owned(), op: &MultiplyBy(2), input: 21 };
    sender.publish(&task).await.unwrap();
    answer_with(&runtime, newer).await;
    let (failed, acker) = results.next().await.unwrap();
    let failed = failed.unwrap_err();
    assert_eq!(failed.metadata.as_deref(), Some("mine"));
    assert!(matches!(failed.error.execution().unwrap().cause, Cause::UnreadableResult { version: 9 }));
    acker.ack().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_result_queue_is_deleted_ends_with_an_error_that_names_it() {
    let runtime = no_workers().await;
    let tasks = runtime.channels().get::<AnyTask>("default", ChannelType::ExactlyOnce).await.unwrap();
    let mut tasks = tasks.receiver().await.unwrap();
    let operation = MultiplyBy(2);
    let job = Literal::new(21).map(&operation).run(&runtime);
    let vandal = async {
        let (task, _acker) = tasks.next().await.unwrap();
        let queue = QueueSpec::new(task.routing_key.channel(), QueueKind::Lease);
        runtime.channels().connection().delete(&queue).await.unwrap();
        queue.name
    };
    let (error, queue) = tokio::join!(job, vandal);
    let error = error.unwrap_err();
    assert!(matches!(&error, JobError::Queue(QueueError::NoSuchQueue(name)) if *name == queue), "{error}");
}

#[tokio::test]
async fn workers_on_one_engine_are_one_to_whoever_counts_slots() {
    let runtime = no_workers().await;
    let (routing_key, results) = runtime.channels().issue::<AnyTaskResult>().await.unwrap();
    let mut results = results.receiver().await.unwrap();
    let mut reports = Vec::new();
    for _ in 0..3 {
        let worker = runtime.worker_in_memory().unwrap();
        let task = AnyTask {
            routing_key: routing_key.clone(),
            id: TaskId(0),
            metadata: Bytes::new(),
            serializer: Default::default(),
            attempt: 0,
            stages: Vec::new(),
            inputs: Default::default(),
        };
        let ok =
            ExecutionOk { task: &task, outputs: Default::default(), failed: Vec::new(), execution: Duration::ZERO };
        worker.dispatch_ok(ok).await.unwrap();
        let (result, acker) = results.next().await.unwrap();
        acker.ack().await.unwrap();
        reports.push((result.report.worker, worker.identity().to_owned()));
    }
    assert!(reports.iter().all(|(process, _)| *process == reports[0].0), "{reports:?}");
    assert!(reports.iter().skip(1).all(|(_, identity)| *identity != reports[0].1), "{reports:?}");
}

#[tokio::test]
async fn a_main_loop_makes_the_queue_of_tasks_again_when_somebody_deletes_it() {
    let runtime = two_workers().await;
    assert_eq!(Literal::new(1).map(&MultiplyBy(1)).run(&runtime).await.unwrap(), 1);
    let connection = runtime.channels().connection();
    let bus = QueueSpec::new("default", QueueKind::Tasks);
    connection.delete(&bus).await.unwrap();
    while !connection.handle(&bus).status().await.is_ok_and(|status| status.consumers == 2) {
        tokio::task::yield_now().await;
    }
    assert_eq!(Literal::new(21).map(&MultiplyBy(2)).run(&runtime).await.unwrap(), 42);
}

#[tokio::test]
async fn dropping_the_runtime_stops_its_workers() {
    let runtime = two_workers().await;
    let connection = runtime.channels().connection().clone();
    let bus = connection.handle(&QueueSpec::new("default", QueueKind::Tasks));
    // The workers begin to listen a moment after the runtime is there.
    assert_eq!(Literal::new(1).map(&MultiplyBy(1)).run(&runtime).await.unwrap(), 1);
    drop::<Runtime>(runtime);
    while bus.status().await.unwrap().consumers > 0 {
        tokio::task::yield_now().await;
    }
}
