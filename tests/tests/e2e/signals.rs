//! Workers end when they are told to, and a job does not notice.

use std::{collections::HashSet, fs, path::PathBuf};

use futures::TryStreamExt;
use palfrey_host::directive::*;
use palfrey_tests::{World, soon};
use probe_1::Stamp;
use text::{CharToString, Concat};
use tokio::sync::watch;

use crate::{batches_of, long_text};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_finishes_what_is_under_way_and_exits_with_zero() {
    let world = World::new();
    let mut leaving = world.worker(&["--slots", "1"]).await;
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..8_u64).options(batches_of(1));
    let results = source.map(&Stamp { work: 100_000_000 }).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.try_collect::<Vec<_>>());

    leaving.log().until(&["stamping"]).await;
    leaving.signal("TERM");
    leaving.log().until(&["SIGTERM: finishing what is under way; once more to exit at once"]).await;
    leaving.log().until(&["taking no more tasks"]).await;
    let staying = world.worker(&["--slots", "1", "--profile", "--perf-map"]).await;
    assert_eq!(leaving.ended().await, 0);

    let results = soon(job).await.unwrap().unwrap();
    assert_eq!(results.len(), 8);
    let stamped = |log: &palfrey_tests::Log| log.words_after("stamping ").into_iter().collect::<HashSet<_>>();
    let (before, after) = (stamped(leaving.log()), stamped(staying.log()));
    assert!(!before.is_empty() && before.is_disjoint(&after), "nothing was done twice: {before:?} {after:?}");
    assert_eq!(before.len() + after.len(), 8);

    // What the second one was told besides.
    for times in [["instantiating=", "executing="], ["publishing=", "confirming="], ["waited=", "sending="]] {
        staying.log().until(&["task{job=", "palfrey::times", times[0], times[1]]).await;
    }
    assert!(!leaving.log().has(&["palfrey::times"]));
    let map = PathBuf::from(format!("/tmp/perf-{}.map", staying.process()));
    let names = fs::read_to_string(&map).unwrap();
    fs::remove_file(&map).unwrap();
    assert!(names.contains("Stamp as palfrey_sdk"), "machine code from the cache has names as well: {names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_worker_at_once_and_an_idle_one_needs_only_the_first() {
    let world = World::new();
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..9_u64).options(batches_of(1));
    let results = source.map(&Stamp::ENDLESS).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.into_values_sorted());
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut worker = world.worker(&["--slots", "1"]).await;
        worker.log().until(&["stamping"]).await;
        worker.signal(signal);
        worker.log().until(&["taking no more tasks"]).await;
        worker.signal(signal);
        assert_eq!(worker.ended().await, code);
        worker.log().until(&[&format!("SIG{signal} again: exiting at once")]).await;
    }
    job.abort();
    // Once the job is terminated, nothing is under way any more.
    assert!(job.await.unwrap_err().is_cancelled());

    let elsewhere = World::new();
    let mut idle = elsewhere.worker(&[]).await;
    idle.signal("INT");
    assert_eq!(idle.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_in_the_middle_of_a_fold_cost_nothing_of_its_result() {
    let world = World::new();
    let mut doomed = world.workers::<2>(&["--slots", "1", "--prefetch", "8"]).await;
    world.deploy(&["text"]).await;
    let runtime = world.runtime().await;
    let text = long_text(6000);
    let (progress, mut done) = watch::channel(0);
    let options = batches_of(5).on_progress(move |progressed| _ = progress.send(progressed.done));
    let source = IndexedStream::from(text.chars().collect::<Vec<_>>()).options(options);
    let job = source.map(&CharToString).fold(&Concat).run(&runtime);
    let murders = async {
        // Of some hundred tasks in flight each holds eight, executed or not, acknowledged or not.
        for (worker, progress) in doomed.iter_mut().zip([500, 2000]) {
            done.wait_for(|&done| done >= progress).await.unwrap();
            worker.signal("KILL");
            assert_eq!(worker.ended().await, 128 + 9);
        }
        world.worker(&[]).await
    };
    let (folded, _survivor) = soon(async { futures::join!(job, murders) }).await;
    assert_eq!(folded.unwrap(), text);
}
