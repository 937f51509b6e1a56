//! What fails on a worker process reaches the program typed, and the worker goes on.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use arith::{Divide, Flaky, MultiplyBy, Sum};
use palfrey_host::{
    JobError, Runtime,
    directive::*,
    task::{Cause, ExecutionError},
};
use palfrey_sdk::FatalStrategy;
use palfrey_tests::{World, soon};
use text::Concat;
use tracing::subscriber::DefaultGuard;

use crate::batches_of;

fn execution(error: &JobError) -> &ExecutionError {
    error.execution().unwrap_or_else(|| panic!("it did not fail on a worker: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_failure_arrives_typed_and_the_worker_goes_on() {
    let world = World::new();
    let limits = ["--limit", "test-guests/spin:time=50ms", "--limit", "test-guests/allocate:memory=32MiB"];
    let output = ["--limit", "text/concat:output=1KiB"];
    let mut worker = world.worker(&[&limits[..], &output[..]].concat()).await;
    world.deploy(&["arith", "text", "palfrey-test-guests"]).await;
    let runtime = world.runtime().await;
    let guest = async |operation: &str| {
        let error = soon(runtime.call(&format!("test-guests/{operation}"), &[][..], vec![1])).await.unwrap_err();
        let failure = execution(&error).clone();
        assert_eq!(failure.operation.operation(), operation);
        assert_eq!(failure.element, Some(0));
        failure
    };

    let panicked = guest("panic").await;
    assert!(matches!(&panicked.cause, Cause::Panic { location: Some(place) } if place.contains(".rs:")), "{panicked}");
    assert!(panicked.message.contains("by intent"), "{panicked}");
    assert_eq!(guest("spin").await.cause, Cause::Deadline { limit: Duration::from_millis(50) });
    assert_eq!(guest("allocate").await.cause, Cause::Memory { limit: 32 << 20 });
    assert_eq!(guest("recurse").await.cause, Cause::Trap);

    let pairs = (0..100_u64).map(|number| (number, u64::from(number != 42)));
    let quotients = IndexedStream::from(pairs).map(&Divide).run(&runtime).await.unwrap();
    let error = soon(quotients.into_values_sorted()).await.unwrap_err();
    let failure = execution(&error);
    assert_eq!((failure.operation.to_string().as_str(), failure.element), ("arith/divide", Some(42)));
    assert_eq!(failure.cause, Cause::Fatal { strategy: FatalStrategy::Terminate });
    assert_eq!(failure.message, "42 cannot be divided by zero");

    let parts = IndexedStream::from((0..10).map(|_| "x".repeat(500)));
    let error = soon(parts.fold(&Concat).run(&runtime)).await.unwrap_err();
    assert_eq!(execution(&error).cause, Cause::OutputTooLarge { limit: 1024 });

    let config = soon(runtime.call("arith/multiply-by", vec![0xff], vec![1])).await.unwrap_err();
    assert!(matches!(execution(&config).cause, Cause::BadInput { config: true, .. }), "{config}");
    let input = soon(runtime.call("arith/multiply-by", vec![3], vec![1, 7])).await.unwrap_err();
    assert!(matches!(execution(&input).cause, Cause::BadInput { config: false, position: Some(1) }), "{input}");
    assert!(input.to_string().contains("the input does not decode, from byte 1 on"), "{input}");

    assert_eq!(soon(Literal::new(21).map(&MultiplyBy(2)).run(&runtime)).await.unwrap(), 42);
    assert!(worker.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_failures_are_retried_until_they_go_away_or_the_retries_do() {
    let world = World::new();
    let _workers = world.workers::<2>(&[]).await;
    world.deploy(&["arith"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..50_u64).options(batches_of(4));
    assert_eq!(soon(source.map(&Flaky { failures: 3 }).fold(&Sum).run(&runtime)).await.unwrap(), 1225);
    let error = soon(Literal::new(1).map(&Flaky { failures: 99 }).run(&runtime)).await.unwrap_err();
    let cause = Cause::RetriesExhausted { attempts: 11, strategy: FatalStrategy::Terminate };
    assert_eq!(execution(&error).cause, cause);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_deployed_is_an_error_with_the_nearest_names_before_anything_is_sent() {
    let world = World::new();
    let runtime = world.runtime().await;
    let refused = async |id: &str| runtime.call(id, &[][..], vec![1]).await.unwrap_err().to_string();
    assert_eq!(
        refused("arith/sum").await,
        "there is no plugin `arith`: there are none yet; `palfrey deploy FILE` deploys one"
    );

    world.deploy(&["arith", "probe-2"]).await;
    known(&runtime, "probe").await;
    let check = async |id: &str, expected: &str| {
        let error = refused(id).await;
        assert!(error.contains(expected), "{id}: {error}");
    };
    check("arit/sum", "there is no plugin `arit`: did you mean `arith`?").await;
    check("arith/summ", "plugin `arith` 0.1.0 has no operation `summ`: did you mean `sum`?").await;
    check("arith/sum@^9", "no deployed version of `arith` meets ^9: there is 0.1.0").await;
    check("sum", "<plugin>/<operation>").await;

    // Whoever was compiled with version 1 is told of both types.
    let mismatch = Literal::new(7_u32).map(&probe_1::Measure).run(&runtime).await.unwrap_err();
    assert!(matches!(mismatch, JobError::Mismatch(_)), "{mismatch}");
    let text = mismatch.to_string();
    let both = "the input of `probe/measure` is `u32` in this program and `u64` in the deployed version 2.0.0";
    assert!(text.contains(both) && text.contains("`probe/measure@=1.0.0`"), "{text}");

    let tasks = runtime.task_channel().status().await.unwrap();
    assert_eq!(tasks.messages, 0, "nothing was sent");
}

/// Waits until the program knows of a plugin.
async fn known(runtime: &Runtime, plugin: &str) {
    let mut states = runtime.registry().subscribe();
    soon(states.wait_for(|state| state.plugin(plugin).is_ok())).await.unwrap();
}

#[tokio::test]
async fn a_job_without_workers_warns_after_two_seconds_and_says_so_when_its_time_is_up() {
    let world = World::new();
    world.deploy(&["arith"]).await;
    let runtime = world.runtime().await;
    let (warnings, _guard) = warnings();
    let options = JobOptions::default().timeout(Duration::from_millis(2500));
    let error = IndexedStream::from([1_u64]).options(options).fold(&Sum).run(&runtime).await.unwrap_err();
    let waiting_for = "no worker takes tasks from `default` (1 are sent); start one with `palfrey worker`, or check the \
                       task-bus routing key";
    assert_eq!(error.to_string(), format!("no result within 2s 500ms: {waiting_for}"));
    let warnings = warnings.text();
    assert!(warnings.contains(&format!("no result for 2s: {waiting_for}")), "{warnings}");
}

/// What is logged on this thread at the level of warnings, as long as the guard lives.
fn warnings() -> (Warnings, DefaultGuard) {
    let warnings = Warnings::default();
    let writer = warnings.clone();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    let subscriber = log.with_writer(move || writer.clone()).finish();
    (warnings, tracing::subscriber::set_default(subscriber))
}

#[derive(Debug, Clone, Default)]
struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Warnings {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
