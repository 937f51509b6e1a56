//! Jobs end before their time, are tried again, and are larger than they should be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, channel::mpsc::unbounded, stream};
use palfrey_host::{
    JobError,
    directive::*,
    queue::{MAX_MESSAGE, QueueError},
    task::Cause,
};
use palfrey_sdk::{FatalStrategy, RetryStrategy};
use palfrey_tests::{Conduct, FREE, Queue, Remote, Scene, soon};
use probe_1::Stamp;
use speaker::{PanicOn, Stubborn};
use text::Concat;

use crate::{Cast, job_of, patient};

const TASKS: usize = 400;

/// Tasks that a worker fetches.
const PREFETCH: usize = 30;

/// Many tasks of one element each, all of them sent at once.
fn all_at_once() -> JobOptions {
    let (one, all) = (1.try_into().unwrap(), TASKS.try_into().unwrap());
    patient().batch_size(BatchSize::Fixed(one)).in_flight(all)
}

fn stamping(number: u64) -> String {
    format!("stamping {number} ")
}

/// Waits until every worker stamps this number, which one job has. Returns that job.
async fn all_stamping(workers: &[Remote], number: u64) -> String {
    let mut job = String::new();
    for worker in workers {
        job = job_of(&worker.process.log().until(&[&stamping(number)]).await).to_owned();
    }
    job
}

/// Gives the jobs of others their elements up to this one while nobody executes anything of them. They wait in the queue and at
/// the workers, among so many other tasks.
async fn queue_others(scene: &Scene, cast: &mut Cast, up_to: u64, among: usize) {
    // So many tasks each of the two has in flight at the least.
    let all = (among + 2 * 16) as u64;
    let before = cast.exact.done();
    cast.exact.give(up_to);
    let sent = |queue: &Queue| queue.name == "default" && queue.ready + queue.unacknowledged >= all;
    scene.until_queues("others have tasks under way", |queues| queues.iter().any(sent)).await;
    assert_eq!(cast.exact.done(), before, "and none is done");
}

/// What these workers executed of a job was stopped, and what they and the queue had of it is gone when the jobs of others have
/// done so many elements, which were queued behind it.
async fn ended_everywhere(cast: &Cast, workers: usize, job: &str, number: u64, others: u64) {
    let workers = &cast.workers[..workers];
    for worker in workers {
        worker.process.log().until(&["a job was terminated", job, "stopped="]).await;
    }
    cast.exact.reaches(others).await;
    for worker in workers {
        assert_eq!(worker.process.log().count(&[&stamping(number)]), 1, "what was queued is not executed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_a_timeout_and_a_fatal_error_end_hundreds_of_tasks_everywhere_and_no_others() {
    // What the three jobs stamp, and no other job.
    const NUMBERS: [u64; 3] = [1_000_000, 1_000_001, 1_000_002];
    const FATAL: PanicOn = PanicOn(1_000_003);
    let scene = Scene::new();
    scene.world().deploy(&["speaker"]).await;
    let prefetch = PREFETCH.to_string();
    let telling = ["--log", "info,palfrey_host::plugin=debug,palfrey_host::worker=debug", "--prefetch", &prefetch];
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(scene.worker(&telling).await);
    }
    let mut cast = Cast::waiting(&scene, workers, 0).await;

    // Each is ended while every worker executes one of its tasks and holds others.
    for (number, others, ends_by_timeout) in [(NUMBERS[0], FREE / 3, false), (NUMBERS[1], 2 * FREE / 3, true)] {
        let options = all_at_once();
        let options = if ends_by_timeout { options.timeout(Duration::from_secs(12)) } else { options };
        let source = IndexedStream::from(vec![number; TASKS]).options(options);
        let results = source.map(&Stamp::ENDLESS).run(cast.runtime()).await.unwrap();
        let mut job = tokio::spawn(results.into_values_sorted());
        let id = all_stamping(&cast.workers, number).await;
        queue_others(&scene, &mut cast, others, TASKS).await;
        if ends_by_timeout {
            let error = soon(&mut job).await.unwrap().unwrap_err();
            assert!(matches!(error, JobError::Timeout { .. }), "{error}");
        } else {
            let before = Instant::now();
            job.abort();
            assert!(soon(&mut job).await.unwrap_err().is_cancelled());
            assert!(before.elapsed() < Duration::from_secs(5), "the program does not wait for its workers");
        }
        ended_everywhere(&cast, 3, &id, number, others).await;
    }

    // The elements that fail are behind endless ones, of which every worker has some, so that none of them executes one …
    let (more, elements) = unbounded();
    let source = IndexedStream::from_stream(elements).options(all_at_once());
    let results = source.map(&FATAL).map(&Stamp::ENDLESS).run(cast.runtime()).await.unwrap();
    let job = tokio::spawn(results.into_values_sorted());
    let (number, endless) = (NUMBERS[2], 2 * PREFETCH + 1);
    let send = |number| more.unbounded_send(number).unwrap();
    (0..endless).for_each(|_| send(number));
    let id = all_stamping(&cast.workers, number).await;
    (endless..TASKS).for_each(|_| send(FATAL.0));
    queue_others(&scene, &mut cast, FREE, TASKS).await;
    // … but for one that comes later.
    cast.workers.push(scene.worker(&telling).await);
    let error = soon(job).await.unwrap().unwrap_err();
    let element = error.execution().unwrap_or_else(|| panic!("{error}")).element;
    assert!(element.is_some_and(|element| element >= endless as u64), "{error}");
    ended_everywhere(&cast, 3, &id, number, FREE).await;
    let failed = cast.workers[..3].iter().map(|worker| worker.process.log().count(&["a task failed"]));
    assert_eq!(failed.sum::<usize>(), 0, "what was queued is not executed");
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_away_while_a_job_ends_stops_its_task_and_goes_on() {
    const NUMBER: u64 = 1_000_000;
    let scene = Scene::new();
    let worker = scene.worker(&["--log", "info,palfrey_host::plugin=debug,palfrey_host::worker=debug"]).await;
    let mut cast = Cast::waiting(&scene, vec![worker], 0).await;
    let source = IndexedStream::from(vec![NUMBER; TASKS]).options(all_at_once());
    let results = source.map(&Stamp::ENDLESS).run(cast.runtime()).await.unwrap();
    let job = tokio::spawn(results.into_values_sorted());
    let id = all_stamping(&cast.workers, NUMBER).await;

    let network = &cast.workers[0].network;
    let log = cast.workers[0].process.log().clone();
    network.conduct(Conduct::Refuse);
    network.cut();
    let nobody_holds_tasks = |queues: &[Queue]| queues.iter().all(|queue| queue.unacknowledged == 0);
    scene.until_queues("nobody holds tasks", nobody_holds_tasks).await;
    job.abort();
    assert!(soon(job).await.unwrap_err().is_cancelled());
    // It takes half a second, in which what the program tells all goes out.
    soon(cast.runtime().survey()).await.unwrap();
    network.conduct(Conduct::Forward);
    log.until(&["a job was terminated", &id, "stopped="]).await;
    cast.exact.give(FREE);
    cast.all_is_well(&scene).await;
    assert_eq!(log.count(&[&stamping(NUMBER)]), 1, "what was queued is not executed");
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
async fn large_results_that_nobody_reads_take_memory_by_their_bytes_and_not_by_their_number() {
    // Fifty tasks with 4.3 MB each may be in flight, and would fill 215 MB.
    const MOST: u64 = 150 << 20;
    let scene = Scene::new();
    scene.world().deploy(&["fractal"]).await;
    let cast = Cast::of(&scene, 1).await;
    let program = scene.endless_program("outputs").await;
    program.process.log().until(&["reading no more"]).await;
    let arrived = |queues: &[Queue]| {
        let held = |queue: &Queue| queue.is_lease() && queue.ready == 0 && queue.unacknowledged > 10;
        queues.iter().any(held) && queues.iter().all(|queue| !queue.holds_tasks() || queue.is_empty())
    };
    scene.until_queues("the rest has arrived at the program", arrived).await;
    let resident = program.process.usage().memory;
    assert!(resident < MOST, "{resident} bytes");
    // In the end it is gone with its queue, for which another test waits. Those of others have a few results for a moment.
    let leases = scene.queues().await.into_iter().filter(Queue::is_lease);
    let lease = leases.max_by_key(|queue| queue.unacknowledged).expect("the program has one");
    program.kill().await;
    scene.delete_queue(&lease.name).await;
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
