//! Workers and programs die, stop and leave.

use palfrey_tests::Scene;

use crate::Cast;

/// A worker that is killed at a moment which a failpoint makes certain.
async fn killed_at(moment: &str) {
    let scene = Scene::new();
    scene.world().deploy(&["text", "probe-1"]).await;
    // Both jobs get that far on this worker alone, each at its own occasion.
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
