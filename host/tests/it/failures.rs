//! What goes wrong arrives typed, and says what, where, and what to do.

use std::time::Duration;

use arith::{Divide, FibAt, Flaky, MultiplyBy, Sum};
use digest::Mine;
use futures::StreamExt;
use palfrey_host::{Config, JobError, Runtime, directive::*, task::Cause};
use palfrey_sdk::FatalStrategy;

use crate::{no_workers, runtime, two_workers};

#[tokio::test]
async fn a_fatal_failure_names_operation_element_and_cause() {
    let runtime = two_workers().await;
    let pairs = (0..100_u64).map(|n| (n, u64::from(n != 42)));
    let results = IndexedStream::from(pairs).map(&Divide).run(&runtime).await.unwrap();
    let error = results.into_values_sorted().await.unwrap_err();
    let failure = error.execution().expect("it failed on a worker");
    assert_eq!(failure.operation.to_string(), "arith/divide");
    assert_eq!(failure.element, Some(42));
    assert_eq!(failure.cause, Cause::Fatal { strategy: FatalStrategy::Terminate });
    assert!(failure.message.contains("zero"), "{failure}");
}

#[tokio::test]
async fn a_failure_within_fused_stages_names_the_element_of_the_source() {
    let runtime = two_workers().await;
    let options = JobOptions::default().batch_size(BatchSize::Fixed(3.try_into().unwrap()));
    let source = IndexedStream::from([1, 2, 3, 4, 1000, 6]).options(options);
    let error = source.map(&MultiplyBy(1)).map(&FibAt).fold(&Sum).run(&runtime).await.unwrap_err();
    let failure = error.execution().expect("it failed on a worker");
    assert_eq!(failure.operation.to_string(), "arith/fib-at");
    assert_eq!(failure.element, Some(4));
}

#[tokio::test]
async fn a_transient_failure_is_retried_until_it_goes_away() {
    let runtime = two_workers().await;
    let flaky = Flaky { failures: 3 };
    let results = IndexedStream::from(0..20_u64).map(&flaky).run(&runtime).await.unwrap();
    assert_eq!(results.into_values_sorted().await.unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(IndexedStream::from(0..20_u64).map(&flaky).fold(&Sum).run(&runtime).await.unwrap(), 190);
}

#[tokio::test]
async fn a_transient_failure_that_stays_becomes_a_typed_error() {
    let runtime = two_workers().await;
    let error = Literal::new(1).map(&Flaky { failures: 1000 }).run(&runtime).await.unwrap_err();
    let failure = error.execution().expect("it failed on a worker");
    assert_eq!(failure.cause, Cause::RetriesExhausted { attempts: 11, strategy: FatalStrategy::Terminate });
}

#[tokio::test]
async fn unknown_plugins_and_operations_are_errors_with_the_nearest_names() {
    let runtime = two_workers().await;
    let check = async |id: &str, expected: &str| {
        let error = runtime.call(id, &[][..], vec![1]).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{id}: {error}");
    };
    check("arit/fib-at", "arith").await;
    check("arith/fib", "fib-at").await;
    check("arith/fib-at@^9", "0.1.0").await;
    check("fib-at", "<plugin>/<operation>").await;
}

#[tokio::test]
async fn input_and_config_that_do_not_decode_are_told_apart() {
    let runtime = two_workers().await;
    let cause = async |config: &'static [u8], input: &'static [u8]| {
        let error = runtime.call("arith/multiply-by", config, input).await.unwrap_err();
        error.execution().expect("it failed on a worker").cause.clone()
    };
    assert!(matches!(cause(&[3], &[0xff, 0xff]).await, Cause::BadInput { config: false, .. }));
    assert!(matches!(cause(&[0xff], &[1]).await, Cause::BadInput { config: true, .. }));
    assert!(matches!(cause(&[3], &[1, 7]).await, Cause::BadInput { config: false, position: Some(1) }));
}

#[tokio::test]
async fn an_element_that_takes_too_long_is_stopped_and_the_worker_goes_on() {
    let limits = vec!["digest/mine:time=50ms".parse().unwrap()];
    let runtime = runtime(Config { limits, ..Config::default() }, &["digest", "arith"]).await;
    let hopeless = Mine { bits: 60 };
    let error = Literal::new(palfrey_sdk::Blob::from(vec![1])).map(&hopeless).run(&runtime).await.unwrap_err();
    let failure = error.execution().expect("it failed on a worker");
    assert_eq!(failure.cause, Cause::Deadline { limit: Duration::from_millis(50) });
    assert_eq!(Literal::new(2).map(&MultiplyBy(2)).run(&runtime).await.unwrap(), 4);
}

#[tokio::test]
async fn an_output_over_the_limit_names_the_limit() {
    let limits = vec!["text/concat:output=1KiB".parse().unwrap()];
    let runtime = runtime(Config { limits, ..Config::default() }, &["text"]).await;
    let parts = IndexedStream::from((0..10).map(|_| "x".repeat(500)));
    let error = parts.fold(&text::Concat).run(&runtime).await.unwrap_err();
    let failure = error.execution().expect("it failed on a worker");
    assert_eq!(failure.cause, Cause::OutputTooLarge { limit: 1024 });
    assert!(failure.to_string().contains("1.0 KiB"), "{failure}");
}

#[tokio::test]
async fn a_job_without_workers_says_so_when_its_time_is_up() {
    let runtime = no_workers().await;
    let options = JobOptions::default().timeout(Duration::from_millis(100));
    let error = IndexedStream::from([1_u64]).options(options).fold(&Sum).run(&runtime).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("100ms") && text.contains("no worker takes tasks from `default`"), "{text}");
    assert!(text.contains("palfrey worker"), "{text}");
}

#[tokio::test]
async fn a_job_that_waits_for_its_plugin_says_so_when_its_time_is_up() {
    let runtime = Runtime::in_memory().await.unwrap();
    let options = JobOptions::default().timeout(Duration::from_millis(100)).wait_for_plugins();
    let error = IndexedStream::from([1_u64]).options(options).fold(&Sum).run(&runtime).await.unwrap_err();
    assert!(matches!(error, JobError::Timeout { .. }));
    assert!(error.to_string().contains("arith"), "{error}");
}

#[tokio::test]
async fn a_job_that_waits_for_its_plugin_begins_when_it_is_deployed() {
    let runtime = Runtime::in_memory().await.unwrap();
    let options = JobOptions::default().wait_for_plugins();
    let job = IndexedStream::from([20_u64, 22]).options(options).fold(&Sum).run(&runtime);
    let (sum, deployed) = futures::join!(job, runtime.deploy(crate::component("arith")));
    deployed.unwrap();
    assert_eq!(sum.unwrap(), 42);
}

#[tokio::test]
async fn a_job_whose_runtime_is_gone_ends_with_an_error() {
    let runtime = no_workers().await;
    let mut results = IndexedStream::from([1_u64]).map(&MultiplyBy(2)).run(&runtime).await.unwrap();
    assert!(futures::poll!(results.next()).is_pending());
    drop(runtime);
    assert!(matches!(results.next().await, Some(Err(JobError::Queue(_)))));
}

#[tokio::test]
async fn a_timeout_of_any_length_is_accepted() {
    let runtime = two_workers().await;
    let options = JobOptions::default().timeout(Duration::MAX);
    assert_eq!(IndexedStream::from([20_u64, 22]).options(options).fold(&Sum).run(&runtime).await.unwrap(), 42);
}

#[tokio::test]
async fn a_job_that_waits_for_its_plugin_warns_after_two_seconds() {
    let log = crate::log::Log::default();
    let subscriber = tracing_subscriber::fmt().json().with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let runtime = Runtime::in_memory().await.unwrap();
    let options = JobOptions::default().timeout(Duration::from_millis(2500)).wait_for_plugins();
    IndexedStream::from([1_u64]).options(options).fold(&Sum).run(&runtime).await.unwrap_err();
    let warnings: Vec<_> = log.lines().into_iter().filter(|line| line["level"] == "WARN").collect();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    let text = warning["fields"]["message"].as_str().unwrap();
    assert!(text.contains("no task sent for 2s: waiting for a deployment") && text.contains("arith"), "{text}");
}

#[tokio::test]
async fn a_config_and_an_input_that_do_not_decode_say_so() {
    let runtime = two_workers().await;
    let error = runtime.call("arith/multiply-by", &[0xff][..], vec![1]).await.unwrap_err().to_string();
    assert!(error.starts_with("arith/multiply-by") && error.contains("the config does not decode"), "{error}");
    let error = runtime.call("arith/multiply-by", &[3][..], vec![1, 7]).await.unwrap_err().to_string();
    assert!(error.contains("the input does not decode, from byte 1 on"), "{error}");
}

#[tokio::test]
async fn an_output_larger_than_a_message_names_the_limit() {
    let limits = vec!["memory=1GiB,output=256MiB".parse().unwrap()];
    let slots = Some(std::num::NonZeroUsize::MIN);
    let runtime = runtime(Config { limits, slots, ..Config::default() }, &["fractal", "arith"]).await;
    // 7,000 × 7,000 pixels of three bytes are more than the 128 MiB that a broker takes.
    let (width, height) = (7000, 7000);
    let picture = fractal::MandelbrotTile { max_iterations: 1, ..fractal::MandelbrotTile::whole(width, height) };
    let whole = Literal::new(fractal::Tile { x: 0, y: 0, width, height });
    let error = whole.map(&picture).run(&runtime).await.unwrap_err();
    let failure = error.execution().expect("it failed on a worker");
    assert_eq!(failure.cause, Cause::OutputTooLarge { limit: 128 << 20 });
    assert!(failure.to_string().contains("send smaller batches"), "{failure}");
    assert_eq!(Literal::new(2).map(&MultiplyBy(2)).run(&runtime).await.unwrap(), 4);
}
