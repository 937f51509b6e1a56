//! What the SDK says of a failure arrives as it was said, and happens.

use std::time::{Duration, Instant};

use arith::{Divide, Product, Sum};
use futures::TryStreamExt;
use palfrey_host::{
    Config, JobError, Runtime,
    directive::*,
    task::{Cause, ExecutionError},
};
use palfrey_sdk::{FatalStrategy, RetryStrategy};
use speaker::{Beyond, IgnoreMultiplesOf, PanicOn, ParsePort, Stubborn, SumUpTo};

use crate::{fixed, runtime};

async fn speaker() -> Runtime {
    runtime(Config::default(), &["speaker", "arith"]).await
}

/// The values with their indices, in the order of the source.
async fn indexed<T: Element + Ord>(results: Results<'_, T>) -> Vec<(usize, T)> {
    let mut values: Vec<_> = results.try_collect().await.unwrap();
    values.sort_unstable();
    values
}

fn failure(error: JobError) -> ExecutionError {
    error.execution().unwrap_or_else(|| panic!("it did not fail on a worker: {error}")).clone()
}

/// Checks that a cause is a panic, with `<file>.rs:<line>:<column>`.
fn check_panic(cause: &Cause) {
    let Cause::Panic { location: Some(location) } = cause else { panic!("{cause:?}") };
    let mut parts = location.rsplitn(3, ':');
    let [column, line] = [(); 2].map(|()| parts.next().unwrap().parse::<u32>().unwrap());
    assert!(line > 0 && column > 0 && parts.next().unwrap().ends_with(".rs"), "{location}");
}

#[tokio::test]
async fn a_panic_names_its_place_and_its_element_and_harms_no_other() {
    let runtime = speaker().await;
    let source = IndexedStream::from(0..8_u64).options(fixed(8));
    let results = source.map(&PanicOn(5)).run(&runtime).await.unwrap();
    let failure = failure(results.into_values_sorted().await.unwrap_err());
    check_panic(&failure.cause);
    assert_eq!((failure.operation.to_string().as_str(), failure.element), ("speaker/panic-on", Some(5)));
    assert_eq!(failure.message, "5 is not for me");
    assert!(failure.stderr.starts_with("panicked at ") && failure.stderr.contains(&failure.message), "{failure:?}");

    let others = IndexedStream::from([0, 1, 2, 3, 4, 6, 7_u64]).options(fixed(8));
    let values = others.map(&PanicOn(5)).run(&runtime).await.unwrap().into_values_sorted().await.unwrap();
    assert_eq!(values, [0, 1, 2, 3, 4, 6, 7]);
}

/// Everything that a job gives before it ends, and the element that ends it.
async fn until_failure(results: Results<'_, u64>) -> (Vec<(usize, u64)>, Option<u64>) {
    let (mut values, mut results) = (Vec::new(), results);
    loop {
        match results.try_next().await {
            Ok(value) => values.push(value.expect("the job fails")),
            Err(error) => break (values, failure(error).element),
        }
    }
}

#[tokio::test]
async fn what_a_batch_finished_before_the_element_that_ends_the_job_reaches_the_reader() {
    let runtime = speaker().await;
    let source = || IndexedStream::from(0..8_u64).options(fixed(8));
    let before = |end: usize| (0..end).map(|n| (n, n as u64)).collect::<Vec<_>>();

    let panics = source().map(&PanicOn(5)).run(&runtime).await.unwrap();
    assert_eq!(until_failure(panics).await, (before(5), Some(5)));
    // A later stage fails further in front, or would fail on what an earlier one did not let pass.
    let twice = source().map(&PanicOn(6)).map(&PanicOn(2)).run(&runtime).await.unwrap();
    assert_eq!(until_failure(twice).await, (before(2), Some(2)));
    let twice = source().map(&PanicOn(2)).map(&PanicOn(6)).run(&runtime).await.unwrap();
    assert_eq!(until_failure(twice).await, (before(2), Some(2)));
    // What is ignored in front of it has no value; what an operation reports ends the job as a panic does.
    let ignored = source().map(&IgnoreMultiplesOf(3)).map(&PanicOn(4)).run(&runtime).await.unwrap();
    assert_eq!(until_failure(ignored).await, (vec![(1, 1), (2, 2)], Some(4)));
    let divided = IndexedStream::from([(6, 2), (5, 0), (4, 0)]).options(fixed(8));
    assert_eq!(until_failure(divided.map(&Divide).run(&runtime).await.unwrap()).await, (vec![(0, 3)], Some(1)));
}

#[tokio::test]
async fn a_panic_before_a_fold_or_in_it_names_the_element_of_the_source() {
    let runtime = speaker().await;
    let source = IndexedStream::from(0..16_u64).options(fixed(8));
    let error = source.map(&PanicOn(13)).fold(&Sum).run(&runtime).await.unwrap_err();
    let mapped = failure(error);
    check_panic(&mapped.cause);
    assert_eq!((mapped.operation.operation(), mapped.element), ("panic-on", Some(13)));

    let source = IndexedStream::from([1; 8]).options(fixed(8));
    let up_to_four = SumUpTo { limit: 4, beyond: Beyond::Panic };
    let folded = failure(source.fold(&up_to_four).run(&runtime).await.unwrap_err());
    check_panic(&folded.cause);
    assert_eq!((folded.operation.operation(), folded.element), ("sum-up-to", Some(4)));
    assert_eq!(folded.message, "5 exceeds 4");
}

#[tokio::test]
async fn the_causes_of_an_error_arrive_the_nearest_first() {
    let runtime = speaker().await;
    let texts = ["80", "http"].map(str::to_owned);
    let results = IndexedStream::from(texts).map(&ParsePort).run(&runtime).await.unwrap();
    let failure = failure(results.into_values_sorted().await.unwrap_err());
    assert_eq!(failure.cause, Cause::Fatal { strategy: FatalStrategy::Terminate });
    assert_eq!(failure.message, "the configuration is broken");
    assert_eq!(failure.causes, ["`http` is no port", "invalid digit found in string"]);
    let all = "speaker/parse-port, element 1: fatal failure: the configuration is broken: `http` is no port: invalid digit \
               found in string";
    assert_eq!(failure.to_string(), all);
}

#[tokio::test]
async fn an_ignored_element_has_no_value_and_the_others_keep_their_indices() {
    let runtime = speaker().await;
    let expected: Vec<_> = (0..20).filter(|n| n % 3 != 0).map(|n| (n as usize, n)).collect();
    for options in [fixed(1), fixed(4), fixed(20), JobOptions::default()] {
        let source = IndexedStream::from(0..20_u64).options(options);
        assert_eq!(indexed(source.map(&IgnoreMultiplesOf(3)).run(&runtime).await.unwrap()).await, expected);
    }
    let all_but_one = IndexedStream::from(0..8_u64).options(fixed(8)).map(&IgnoreMultiplesOf(8));
    assert_eq!(indexed(all_but_one.run(&runtime).await.unwrap()).await.len(), 7);
}

#[tokio::test]
async fn an_element_ignored_in_one_stage_does_not_reach_the_next() {
    let runtime = speaker().await;
    let source = IndexedStream::from(0..12_u64).options(fixed(6));
    let results = source.map(&IgnoreMultiplesOf(2)).map(&IgnoreMultiplesOf(3)).run(&runtime).await.unwrap();
    assert_eq!(indexed(results).await, [(1, 1), (5, 5), (7, 7), (11, 11)]);
}

#[tokio::test]
async fn ignored_elements_are_left_out_of_a_fold() {
    let runtime = speaker().await;
    for options in [fixed(1), fixed(4), fixed(20), JobOptions::default()] {
        let source = IndexedStream::from(0..20_u64).options(options);
        let sum = source.map(&IgnoreMultiplesOf(3)).fold(&Sum).run(&runtime).await.unwrap();
        assert_eq!(sum, (0..20_u64).filter(|n| n % 3 != 0).sum::<u64>());
    }
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_left_folds_to_the_identity() {
    let runtime = speaker().await;
    let source = IndexedStream::from([3, 6, 1, 2, 9, 3, 5_u64]).options(fixed(2));
    assert_eq!(source.map(&IgnoreMultiplesOf(3)).fold(&Product).run(&runtime).await.unwrap(), 10);
    let source = IndexedStream::from(0..8_u64).options(fixed(4));
    assert_eq!(source.map(&IgnoreMultiplesOf(1)).fold(&Product).run(&runtime).await.unwrap(), 1);
}

#[tokio::test]
async fn an_element_that_a_fold_ignores_is_left_out_of_it() {
    let runtime = speaker().await;
    let source = IndexedStream::from([4, 5, 8, 1, 100, 0_u64]).options(fixed(6));
    let up_to_ten = SumUpTo { limit: 10, beyond: Beyond::Ignore };
    assert_eq!(source.fold(&up_to_ten).run(&runtime).await.unwrap(), 10);
}

#[tokio::test]
async fn a_partial_result_that_a_fold_ignores_ends_the_job() {
    let runtime = speaker().await;
    let source = IndexedStream::from([3, 3, 4, 4_u64]).options(fixed(2));
    let up_to_ten = SumUpTo { limit: 10, beyond: Beyond::Ignore };
    let failure = failure(source.fold(&up_to_ten).run(&runtime).await.unwrap_err());
    assert_eq!(failure.cause, Cause::Fatal { strategy: FatalStrategy::Ignore });
    assert_eq!((failure.element, failure.message.as_str()), (None, "14 exceeds 10"));
}

#[tokio::test]
async fn a_literal_that_is_ignored_has_no_result() {
    let runtime = speaker().await;
    let error = Literal::new(4).map(&IgnoreMultiplesOf(2)).run(&runtime).await.unwrap_err();
    assert!(matches!(error, JobError::Ignored), "{error}");
    let stubborn = Stubborn { retry: RetryStrategy::Never, exhausted: FatalStrategy::Ignore };
    let error = Literal::new(1).map(&stubborn).run(&runtime).await.unwrap_err();
    assert!(matches!(error, JobError::Ignored), "{error}");
}

/// Checks that an element may fail `retries` times, with `pauses` between them in all, and no more than that.
async fn check_retries(retry: RetryStrategy, retries: u64, pauses: Duration) {
    let runtime = speaker().await;
    let started = Instant::now();
    let ignoring = Stubborn { retry, exhausted: FatalStrategy::Ignore };
    let source = IndexedStream::from([0, retries + 1, retries, 0]).options(fixed(4));
    let values = indexed(source.map(&ignoring).run(&runtime).await.unwrap()).await;
    assert_eq!(values, [(0, 0), (2, retries), (3, 0)], "{retry:?}");
    assert!(started.elapsed() >= pauses, "{retry:?}");

    let source = IndexedStream::from([0, retries + 1, retries, 7]).options(fixed(4));
    assert_eq!(source.map(&ignoring).fold(&Sum).run(&runtime).await.unwrap(), retries, "{retry:?}");

    let terminating = Stubborn { retry, exhausted: FatalStrategy::Terminate };
    let failure = failure(Literal::new(retries + 1).map(&terminating).run(&runtime).await.unwrap_err());
    let attempts = retries as u32 + 1;
    assert_eq!(failure.cause, Cause::RetriesExhausted { attempts, strategy: FatalStrategy::Terminate });
    assert_eq!(failure.message, format!("attempt {retries} fails"));
}

#[tokio::test]
async fn an_element_that_is_never_retried_fails_at_once() {
    check_retries(RetryStrategy::Never, 0, Duration::ZERO).await;
}

#[tokio::test]
async fn an_element_that_is_retried_immediately_does_not_pause() {
    check_retries(RetryStrategy::Immediate { max_retries: 5 }, 5, Duration::ZERO).await;
}

#[tokio::test]
async fn an_element_that_is_retried_after_a_while_pauses_each_time() {
    let duration = Duration::from_millis(20);
    check_retries(RetryStrategy::After { max_retries: 3, duration }, 3, duration * 3).await;
}

#[tokio::test]
async fn an_element_that_is_retried_exponentially_pauses_longer_each_time_up_to_a_limit() {
    let [min_duration, max_duration] = [10, 30].map(Duration::from_millis);
    let retry = RetryStrategy::Exponential { max_retries: 4, min_duration, max_duration };
    check_retries(retry, 4, Duration::from_millis(10 + 20 + 30 + 30)).await;
}
