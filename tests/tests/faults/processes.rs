//! Workers and programs die, stop and leave.

use std::{collections::HashSet, time::Duration};

use futures::stream;
use palfrey_host::{JobError, directive::*, queue::QueueError, task::RoutingKey};
use palfrey_tests::{BATCH, Conduct, ELEMENTS, Exact, FREE, Log, Queue, Scene, soon};
use text::CharToString;
use tokio::time::interval;

use crate::{Cast, hired, job_of};

/// A worker that is killed at a moment which a failpoint makes certain, in both jobs.
async fn killed_at(moment: &str) {
    let scene = Scene::new();
    let rules = format!("{moment}/text/concat=pause@7,{moment}/probe/stamp=pause@5");
    let doomed = scene.start_worker(&["--slots", "2"], &rules).await;
    doomed.process.ready().await;
    let mut cast = Cast::with(&scene, Vec::new()).await;
    for operation in ["text/concat", "probe/stamp"] {
        doomed.process.log().until(&["the task goes no further", operation]).await;
    }
    doomed.kill().await;
    cast.workers.push(scene.worker(&[]).await);
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_before_it_executes_costs_nothing() {
    killed_at("before-execution").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_executes_costs_nothing() {
    killed_at("during-execution").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_before_it_sends_a_result_costs_nothing() {
    killed_at("before-result").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_the_confirm_of_a_result_and_its_ack_costs_nothing() {
    killed_at("before-acknowledgement").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_may_be_killed_and_others_take_over_that_know_nothing() {
    let scene = Scene::new();
    let mut cast = Cast::of(&scene, 3).await;
    cast.exact.reaches(1000).await;
    for worker in cast.workers.drain(..) {
        worker.kill().await;
    }
    // They have compiled nothing, and are not what the dead ones were.
    let folder = tempfile::tempdir().unwrap();
    let stranger = ["--slots", "3", "--prefetch", "5", "--cache-dir", folder.path().to_str().unwrap()];
    cast.workers.push(scene.worker(&stranger).await);
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_does_late_that_was_taken_for_dead_does_no_harm() {
    let scene = Scene::new();
    let mut cast = Cast::of(&scene, 2).await;
    cast.exact.reaches(1000).await;
    cast.workers[0].process.signal("STOP");
    // When it misses the heartbeats, the broker gives what it holds to the other one.
    let taken_for_dead = async {
        let mut looks = interval(Duration::from_millis(250));
        while cast.runtime().task_channel().status().await.unwrap().consumers > 1 {
            looks.tick().await;
        }
    };
    soon(taken_for_dead).await;
    cast.exact.reaches(FREE).await;
    cast.workers[0].process.signal("CONT");
    cast.workers[0].process.log().until(&["connected to the broker again"]).await;
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_told_to_end_under_load_finish_what_they_hold_and_nothing_is_executed_twice() {
    let scene = Scene::new();
    let telling = ["--log", "info,palfrey_host::plugin=debug,palfrey::times=trace"];
    let (mut leaving, staying) = (scene.worker(&telling).await, scene.worker(&telling).await);
    let mut cast = Cast::with(&scene, Vec::new()).await;
    cast.exact.reaches(2000).await;
    leaving.process.signal("TERM");
    assert_eq!(leaving.process.ended().await, 0);
    let logs = [leaving.process.log().clone(), staying.process.log().clone()];
    cast.workers.push(staying);
    cast.exact.release();
    cast.all_is_well(&scene).await;
    let stamped: Vec<_> = logs.iter().flat_map(|log| log.words_after("stamping ")).collect();
    assert_eq!(stamped.len() as u64, ELEMENTS);
    assert_eq!(stamped.iter().collect::<HashSet<_>>().len() as u64, ELEMENTS);
    // Tasks of the fold have numbers, those that combine partial results as well.
    let folding = ["executed, in microseconds", "operation=text/concat"];
    let folded: Vec<_> = logs.iter().flat_map(|log| log.having(&folding)).collect();
    let tasks: HashSet<_> =
        folded.iter().map(|line| line.split_once(" task=").unwrap().1.split_whitespace().next()).collect();
    assert!(tasks.len() as u64 >= ELEMENTS / BATCH, "{} tasks", tasks.len());
    assert_eq!(tasks.len(), folded.len(), "no task of the fold was executed twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endless_tasks_of_a_program_that_is_killed_are_stopped_and_those_of_others_go_on() {
    let scene = Scene::new();
    let telling = ["--log", "info,palfrey_host::plugin=debug,palfrey_host::worker=debug"];
    // One is told by the broker what became of a message, the other is not.
    let transient = [&telling[..], &["--durability", "transient"]].concat();
    let workers = vec![scene.worker(&telling).await, scene.worker(&transient).await];
    scene.world().deploy(&["text", "probe-1"]).await;
    let gone = scene.endless_program("tasks").await;
    // Both have begun with it, and the rest of it waits.
    for worker in &workers {
        worker.process.log().until(&["stamping 0"]).await;
    }
    let line = workers[0].process.log().until(&["stamping 0"]).await;
    let cast = Cast::waiting(&scene, workers, 0).await;
    gone.kill().await;
    // The broker does so after a minute, which another test waits for.
    scene.delete_queue(RoutingKey::from(job_of(&line)).channel()).await;
    for worker in &cast.workers {
        let stopped = |log: &Log| log.has(&["a job was terminated"]) || log.has(&["nobody can receive the results"]);
        worker.process.log().until_it("its task is stopped", stopped).await;
    }
    let stamped = |log: &Log| log.count(&["stamping 0"]);
    let before: Vec<_> = cast.workers.iter().map(|worker| stamped(worker.process.log())).collect();
    assert_eq!(before, [1, 1], "what was queued is not executed");
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_a_day_to_and_fro_on_one_machine_change_nothing() {
    let scene = Scene::new();
    let confused = scene.with_jumping_clocks();
    let worker = confused.worker(&[]).await;
    let log = worker.process.log().clone();
    let cast = Cast::with(&scene, vec![worker, scene.worker(&[]).await]).await;
    cast.exact.reaches(1000).await;
    // Until it has, as far as it knows, worked on two days.
    let two_days = async {
        while log.days().len() < 2 {
            confused.world().deploy(&["arith"]).await;
            confused.world().done(&["undeploy", "arith"]).await;
        }
    };
    soon(two_days).await;
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_programs_that_are_gone_or_away_end_their_results_expire_and_others_are_not_disturbed() {
    let scene = Scene::new();
    let workers = hired(&scene, 2).await;
    scene.world().deploy(&["text", "probe-1"]).await;
    let (gone, away) = (scene.program().await, scene.program().await);
    let abandoned = Exact::start(&gone.runtime, 1).await;
    let source = IndexedStream::from_stream(stream::pending::<char>());
    let waiting = source.map(&CharToString).run(&away.runtime).await.unwrap();
    let waiting = tokio::spawn(waiting.into_values_sorted());
    let leases: Vec<_> = scene.queues().await.into_iter().filter(Queue::is_lease).map(|queue| queue.name).collect();
    assert_eq!(leases.len(), 2, "one of each program: {leases:?}");
    let there = |queues: &[Queue]| queues.iter().filter(|queue| leases.contains(&queue.name)).count();
    let cast = Cast::with(&scene, workers).await;
    abandoned.reaches(500).await;
    // As if their machines lost their power, and one of them got it back: they say goodbye to nobody.
    for network in [&gone.network, &away.network] {
        network.conduct(Conduct::Refuse);
        network.cut();
    }
    drop((abandoned, gone));
    cast.exact.reaches(FREE).await;
    assert_eq!(there(&scene.queues().await), 2, "they might come back");
    // After a minute the broker deletes them by itself.
    scene.until_queues("they have expired", |queues| there(queues) == 0).await;
    away.network.conduct(Conduct::Forward);
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(&error, JobError::Queue(QueueError::NoSuchQueue(queue)) if leases.contains(queue)), "{error}");
    away.close().await;
    cast.all_is_well(&scene).await;
}
