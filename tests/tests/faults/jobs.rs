//! Jobs end before their time, are tried again, and are larger than they should be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream};
use palfrey_host::{
    JobError,
    directive::*,
    queue::{MAX_MESSAGE, QueueError},
    task::Cause,
};
use palfrey_sdk::{FatalStrategy, RetryStrategy};
use palfrey_tests::{FREE, Remote, Scene, soon};
use probe_1::Stamp;
use speaker::{PanicOn, Stubborn};
use text::Concat;

use crate::{Cast, patient};

const TASKS: usize = 400;

/// Many tasks of one element each, all of them sent at once.
fn all_at_once() -> JobOptions {
    let (one, all) = (1.try_into().unwrap(), TASKS.try_into().unwrap());
    patient().batch_size(BatchSize::Fixed(one)).in_flight(all)
}

fn all_stamping(workers: &[Remote], at_least: usize) -> impl Future<Output = ()> + '_ {
    futures::future::join_all(workers.iter().map(move |worker| {
        let log = worker.process.log();
        log.until_it("the endless job has begun", move |log| log.count(&["stamping"]) >= at_least)
    }))
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_a_timeout_and_a_fatal_error_end_hundreds_of_tasks_everywhere_and_no_others() {
    let scene = Scene::new();
    scene.world().deploy(&["speaker"]).await;
    let telling = ["--log", "info,palfrey_host::plugin=debug,palfrey_host::worker=debug", "--prefetch", "30"];
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(scene.worker(&telling).await);
    }
    let mut cast = Cast::waiting(&scene, workers, 0).await;

    // Each is ended while every worker executes one of its tasks and holds others.
    for (round, ends_by_timeout) in [(1, false), (2, true)] {
        let options = all_at_once();
        let options = if ends_by_timeout { options.timeout(Duration::from_secs(5)) } else { options };
        let source = IndexedStream::from(vec![0_u64; TASKS]).options(options);
        let results = source.map(&Stamp::ENDLESS).run(cast.runtime()).await.unwrap();
        let mut job = tokio::spawn(results.into_values_sorted());
        all_stamping(&cast.workers, round).await;
        if ends_by_timeout {
            let error = soon(&mut job).await.unwrap().unwrap_err();
            assert!(matches!(error, JobError::Timeout { .. }), "{error}");
        } else {
            let before = Instant::now();
            job.abort();
            assert!(soon(&mut job).await.unwrap_err().is_cancelled());
            assert!(before.elapsed() < Duration::from_secs(5), "the program does not wait for its workers");
        }
        for worker in &cast.workers {
            let told = ["a job was terminated", "stopped="];
            worker.process.log().until_it("stopped", |log| log.count(&told) >= round).await;
            assert_eq!(worker.process.log().count(&["stamping"]), round, "what was queued is not executed");
        }
    }

    // Others go on beside a job that fails.
    cast.exact.give(FREE);
    let source = IndexedStream::from(0..TASKS as u64).options(all_at_once());
    let results = source.map(&PanicOn(7)).run(cast.runtime()).await.unwrap();
    let error = soon(results.into_values_sorted()).await.unwrap_err();
    assert_eq!(error.execution().unwrap().element, Some(7));
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_retries_as_often_as_it_says_and_no_death_restarts_the_count() {
    const RETRIES: u32 = 4;
    let scene = Scene::new();
    scene.world().deploy(&["speaker"]).await;
    let mut cast = Cast::waiting(&scene, Vec::new(), 0).await;
    let duration = Duration::from_millis(20);
    let strategies = [
        RetryStrategy::Immediate { max_retries: RETRIES },
        RetryStrategy::After { max_retries: RETRIES, duration },
        RetryStrategy::Exponential { max_retries: RETRIES, min_duration: duration, max_duration: 4 * duration },
    ];
    for retry in strategies {
        // It dies with the third of five attempts, and whoever comes then would die with a fifth one of its own: two are left, the
        // third comes again, and the second may if its ack was under way.
        let doomed = scene.start_worker(&[], "before-result/speaker/stubborn=pause@3").await;
        let stubborn = Stubborn { retry, exhausted: FatalStrategy::Terminate };
        let (runtime, again) = (cast.runtime().clone(), stubborn.clone());
        let job = tokio::spawn(async move { Literal::new(99).map(&again).run(&runtime).await });
        doomed.process.log().until(&["the task goes no further"]).await;
        doomed.kill().await;
        let mut heir = scene.start_worker(&[], "before-execution/speaker/stubborn=abort@5").await;
        let error = soon(job).await.unwrap().unwrap_err();
        let cause = Cause::RetriesExhausted { attempts: RETRIES + 1, strategy: FatalStrategy::Terminate };
        assert_eq!(error.execution().unwrap().cause, cause, "{retry:?}");
        assert!(heir.process.is_running());
        // One failure less than there are attempts.
        let last = Literal::new(u64::from(RETRIES)).map(&stubborn);
        heir.kill().await;
        let _fresh = scene.worker(&[]).await;
        assert_eq!(soon(last.run(cast.runtime())).await.unwrap(), u64::from(RETRIES));
    }
    // The last worker was killed with its result out, and its task perhaps not acknowledged.
    cast.workers.push(scene.worker(&[]).await);
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_source_is_read_no_further_than_a_slow_reader_and_the_tasks_in_flight_need() {
    let scene = Scene::new();
    let cast = Cast::of(&scene, 1).await;
    let taken = Arc::new(AtomicU64::new(0));
    let counting = taken.clone();
    let endless = stream::iter(0_u64..).inspect(move |_| _ = counting.fetch_add(1, Ordering::Relaxed));
    let options = patient().batch_size(BatchSize::Fixed(10.try_into().unwrap()));
    let source = IndexedStream::from_stream(endless).options(options.in_flight(20.try_into().unwrap()));
    let mut results = source.map(&Stamp::QUICK).run(cast.runtime()).await.unwrap();
    for read in 1..=500_u64 {
        soon(results.next()).await.unwrap().unwrap();
        // What was read, what is in flight, and a batch that waits for a place.
        assert!(taken.load(Ordering::Relaxed) <= read + 20 * 10 + 20, "{read}");
    }
    drop(results);
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_larger_than_a_message_may_be_is_an_error_and_the_channel_stays_usable() {
    let scene = Scene::new();
    let cast = Cast::of(&scene, 1).await;
    let large = "x".repeat(MAX_MESSAGE + 1);
    let error = soon(IndexedStream::from([large]).fold(&Concat).run(cast.runtime())).await.unwrap_err();
    assert!(matches!(error, JobError::Queue(QueueError::TooLarge { limit: MAX_MESSAGE, .. })), "{error}");
    cast.all_is_well(&scene).await;
}
