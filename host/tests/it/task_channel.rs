//! The coordinated task channel, as programs with directives of their own use it.

use std::time::Duration;

use arith::{Divide, FibAt, Flaky};
use bytes::Bytes;
use futures::StreamExt;
use palfrey_host::{
    Config, JobError,
    queue::{QueueKind, QueueSpec},
    runtime::Task,
    task::{AnyTaskResult, Cause, Packed, TaskId, TaskOutcome, WorkerReport},
    worker::{ExecutionOk, WorkerIpc},
};
use palfrey_sdk::{FatalStrategy, RetryStrategy};
use speaker::Stubborn;

use crate::{log::Log, no_workers, runtime, two_workers};

#[tokio::test]
async fn results_come_back_with_their_metadata_and_the_stream_ends() {
    let runtime = two_workers().await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, String>().await.unwrap();
    for input in 1..=20 {
        let task = Task { routing_key: routing_key.clone(), metadata: format!("fib of {input}"), op: &FibAt, input };
        sender.publish(&task).await.unwrap();
    }
    drop(sender);
    let mut seen = Vec::new();
    while let Some((result, acker)) = results.next().await {
        let output = result.unwrap();
        seen.push((output.output, output.metadata));
        acker.ack().await.unwrap();
    }
    seen.sort();
    assert_eq!(seen.len(), 20);
    assert_eq!(seen[19], (6765, "fib of 20".to_owned()));
}

#[tokio::test]
async fn the_stream_does_not_end_before_the_last_acknowledgement() {
    let runtime = two_workers().await;
    let (routing_key, mut sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, ()>().await.unwrap();
    sender.publish(&Task { routing_key: routing_key.clone(), metadata: (), op: &FibAt, input: 7 }).await.unwrap();
    sender.close();
    let late = Task { routing_key, metadata: (), op: &FibAt, input: 8 };
    assert!(sender.publish(&late).await.is_err(), "a closed sender sends nothing");
    let (result, acker) = results.next().await.unwrap();
    assert_eq!(result.unwrap().output, 13);
    assert!(futures::poll!(results.next()).is_pending(), "the result is not acknowledged");
    acker.ack().await.unwrap();
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn a_result_that_is_handed_back_comes_again() {
    let runtime = two_workers().await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, u8>().await.unwrap();
    sender.publish(&Task { routing_key, metadata: 1, op: &FibAt, input: 7 }).await.unwrap();
    drop(sender);
    let (_, acker) = results.next().await.unwrap();
    acker.nack().await.unwrap();
    let (result, acker) = results.next().await.unwrap();
    assert_eq!(result.unwrap().output, 13);
    acker.ack().await.unwrap();
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn a_result_whose_acker_is_dropped_comes_again() {
    let runtime = two_workers().await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, u8>().await.unwrap();
    sender.publish(&Task { routing_key, metadata: 1, op: &FibAt, input: 7 }).await.unwrap();
    drop(sender);
    drop(results.next().await.unwrap());
    let (result, acker) = results.next().await.unwrap();
    assert_eq!(result.unwrap().output, 13);
    acker.ack().await.unwrap();
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn a_stream_whose_runtime_is_gone_ends_with_an_error() {
    let runtime = no_workers().await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, ()>().await.unwrap();
    sender.publish(&Task { routing_key, metadata: (), op: &FibAt, input: 7 }).await.unwrap();
    drop(runtime);
    let (result, _) = results.next().await.unwrap();
    assert!(matches!(result.unwrap_err().error, JobError::Queue(_)));
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn a_transient_failure_is_retried_before_it_comes_out() {
    let runtime = two_workers().await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<Flaky, ()>().await.unwrap();
    for failures in [0, 2, 4] {
        let op = &Flaky { failures };
        let task = Task { routing_key: routing_key.clone(), metadata: (), op, input: u64::from(failures) };
        sender.publish(&task).await.unwrap();
    }
    drop(sender);
    let mut outputs = Vec::new();
    while let Some((result, acker)) = results.next().await {
        outputs.push(result.unwrap().output);
        acker.ack().await.unwrap();
    }
    outputs.sort_unstable();
    assert_eq!(outputs, [0, 2, 4]);
}

#[tokio::test]
async fn a_failure_to_be_ignored_comes_out_and_the_stream_goes_on() {
    let runtime = runtime(Config::default(), &["speaker"]).await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<Stubborn, u64>().await.unwrap();
    let op = &Stubborn { retry: RetryStrategy::Immediate { max_retries: 2 }, exhausted: FatalStrategy::Ignore };
    for input in [0, 3, 2] {
        sender.publish(&Task { routing_key: routing_key.clone(), metadata: input, op, input }).await.unwrap();
    }
    drop(sender);
    let (mut outputs, mut failures) = (Vec::new(), Vec::new());
    while let Some((result, acker)) = results.next().await {
        match result {
            Ok(output) => outputs.push(output.output),
            Err(failure) => failures.push((failure.metadata, failure.error.execution().unwrap().cause.clone())),
        }
        acker.ack().await.unwrap();
    }
    outputs.sort_unstable();
    assert_eq!(outputs, [0, 2]);
    let exhausted = Cause::RetriesExhausted { attempts: 3, strategy: FatalStrategy::Ignore };
    assert_eq!(failures, [(Some(3), exhausted)]);
}

#[tokio::test]
async fn a_stream_without_results_warns_once_what_it_waits_for_and_anew_after_a_result() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().json().with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let warnings = || {
        let lines = log.lines().into_iter().filter(|line| line["level"] == "WARN");
        lines.map(|line| line["fields"]["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let runtime = no_workers().await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, ()>().await.unwrap();
    // Longer than the two seconds after which it warns, and shorter than twice that.
    const PATIENCE: Duration = Duration::from_millis(2500);
    assert!(tokio::time::timeout(PATIENCE, results.next()).await.is_err());
    assert_eq!(warnings(), [""; 0], "nothing was sent");

    let task = Task { routing_key, metadata: (), op: &FibAt, input: 7 };
    sender.publish(&task).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, results.next()).await.is_err());
    let warned = warnings();
    let [warning] = &warned[..] else { panic!("{warned:?}") };
    assert!(warning.contains("no result for 2s: no worker takes tasks from `default` (1 are sent)"), "{warning}");

    let worker = runtime.worker_in_memory().unwrap();
    let mut tasks = worker.get_task_receiver().await.unwrap();
    let (first, acker) = tasks.next().await.unwrap();
    let (outputs, failed) = (Packed::single(first.inputs.get(0).unwrap()), Vec::new());
    worker.dispatch_ok(ExecutionOk { task: &first, outputs, failed, execution: Duration::ZERO }).await.unwrap();
    acker.ack().await.unwrap();
    results.next().await.unwrap().1.ack().await.unwrap();
    sender.publish(&task).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, results.next()).await.is_err());
    assert_eq!(warnings().len(), 2, "{:?}", warnings());
}

#[tokio::test]
async fn a_fatal_failure_comes_out_with_its_metadata_and_is_the_last_item() {
    let runtime = two_workers().await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<Divide, u8>().await.unwrap();
    sender.publish(&Task { routing_key, metadata: 9, op: &Divide, input: (1, 0) }).await.unwrap();
    let (result, acker) = results.next().await.unwrap();
    let failure = result.unwrap_err();
    assert_eq!(failure.metadata, Some(9));
    assert!(matches!(failure.error, JobError::Execution(_)));
    acker.ack().await.unwrap();
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn a_result_for_a_lease_that_was_released_is_dropped_and_its_job_stopped() {
    let runtime = no_workers().await;
    let mut ipc = runtime.worker_in_memory().unwrap().get_ipc_receiver().await.unwrap();
    let (routing_key, sender, results) = runtime.lease_coordinated_task_channel::<FibAt, ()>().await.unwrap();
    let (other, ..) = runtime.lease_coordinated_task_channel::<FibAt, ()>().await.unwrap();
    assert_eq!(routing_key.channel(), other.channel(), "leases share a queue");
    drop(sender);
    results.release().await;

    let channel = runtime.channels().leased::<AnyTaskResult>(&routing_key);
    let late = AnyTaskResult {
        routing_key: routing_key.clone(),
        id: TaskId(0),
        metadata: Bytes::new(),
        serializer: Default::default(),
        report: WorkerReport::default(),
        outcome: TaskOutcome::Executed { outputs: Packed::default(), failed: Vec::new() },
    };
    channel.sender().await.unwrap().publish(&late).await.unwrap();
    assert_eq!(ipc.next().await, Some(WorkerIpc::Terminate { routing_key }));
    assert_eq!(channel.status().await.unwrap().messages, 0);
}

#[tokio::test]
async fn the_queue_of_results_goes_with_the_runtime() {
    let runtime = no_workers().await;
    let connection = runtime.channels().connection().clone();
    let (routing_key, _sender, results) = runtime.lease_coordinated_task_channel::<FibAt, ()>().await.unwrap();
    let queue = connection.handle(&QueueSpec::new(routing_key.channel(), QueueKind::Lease));
    queue.status().await.expect("the lease is held");
    drop(results);
    drop(runtime);
    // In its own time: nobody waits for it.
    let gone = async {
        while queue.status().await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the queue was released");
}
