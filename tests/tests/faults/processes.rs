//! Workers and programs die, stop and leave.

use std::{collections::HashSet, time::Duration};

use palfrey_host::task::RoutingKey;
use palfrey_tests::{Conduct, ELEMENTS, Exact, FREE, Log, Scene, soon};
use tokio::time::interval;

use crate::{Cast, hired};

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
    let telling = ["--log", "info,palfrey_host::plugin=debug"];
    let (mut leaving, staying) = (scene.worker(&telling).await, scene.worker(&telling).await);
    let mut cast = Cast::with(&scene, Vec::new()).await;
    cast.exact.reaches(2000).await;
    leaving.process.signal("TERM");
    assert_eq!(leaving.process.ended().await, 0);
    let before = leaving.process.log().words_after("stamping ");
    cast.workers.push(staying);
    cast.exact.release();
    let worker = cast.workers[0].process.log().clone();
    cast.all_is_well(&scene).await;
    let all: Vec<_> = before.into_iter().chain(worker.words_after("stamping ")).collect();
    assert_eq!(all.len() as u64, ELEMENTS);
    assert_eq!(all.iter().collect::<HashSet<_>>().len() as u64, ELEMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endless_tasks_of_a_program_that_is_killed_are_stopped_and_those_of_others_go_on() {
    let scene = Scene::new();
    let telling = ["--log", "info,palfrey_host::plugin=debug,palfrey_host::worker=debug"];
    let workers = vec![scene.worker(&telling).await, scene.worker(&telling).await];
    scene.world().deploy(&["text", "probe-1"]).await;
    let gone = scene.endless_program().await;
    // Both have begun with it, and the rest of it waits.
    for worker in &workers {
        worker.process.log().until(&["stamping 0"]).await;
    }
    let job = workers[0].process.log().words_after("task{job=").pop().unwrap();
    let cast = Cast::waiting(&scene, workers, 0).await;
    gone.kill().await;
    // The broker does so after a minute, which is not waited for here.
    scene.delete_queue(RoutingKey::from(job).channel()).await;
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
async fn the_jobs_of_a_program_that_is_gone_end_and_those_of_others_are_not_disturbed() {
    let scene = Scene::new();
    let workers = hired(&scene, 2).await;
    scene.world().deploy(&["text", "probe-1"]).await;
    let gone = scene.program().await;
    let abandoned = Exact::start(&gone.runtime, 1).await;
    let leases: Vec<_> = scene.queues().await.into_iter().filter(|queue| !queue.is_lasting()).collect();
    assert_eq!(leases.len(), 1, "that of its jobs: {leases:?}");
    let cast = Cast::with(&scene, workers).await;
    abandoned.reaches(500).await;
    // As if its machine lost its power: it says goodbye to nobody.
    gone.network.conduct(Conduct::Refuse);
    gone.network.cut();
    drop((abandoned, gone));
    cast.exact.reaches(FREE).await;
    // It is there. The broker deletes it after a minute, which is not waited for here.
    scene.delete_queue(&leases[0].name).await;
    cast.all_is_well(&scene).await;
}
