//! Connections are cut, fall silent, and get slow.

use std::time::Duration;

use palfrey_tests::{Conduct, Deployments, Exact, FREE, Frame, Proxy, Scene, Side, component, soon};
use tokio::time::interval;

use crate::Cast;

/// Cuts all connections at a frame.
async fn cut_at(network: &Proxy, side: Side, frame: Frame) {
    let cut = network.cut_at(side, frame, 0);
    if frame == Frame::Consume {
        // A subscription is made once, and again after a loss.
        network.cut();
    }
    cut.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_every_kind_of_frame_cost_nothing() {
    let scene = Scene::new();
    let mut cast = Cast::of(&scene, 2).await;
    // Busy for as long as it takes.
    cast.exact = Exact::start_with_work(cast.runtime(), 1, 300_000);
    let networks = [&cast.workers[0].network, &cast.workers[1].network, &cast.program.network];
    for frame in [Frame::Publish, Frame::Confirm, Frame::Consume, Frame::Deliver, Frame::Acknowledge] {
        for (network, side) in networks.into_iter().zip([Side::Before, Side::After, Side::Before]) {
            cut_at(network, side, frame).await;
        }
    }
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_and_the_replay_of_the_registry_survive_cuts_at_every_step() {
    let scene = Scene::new();
    let cast = Cast::of(&scene, 1).await;
    let operator = scene.program().await;
    // The mark, the chunks and the record are each lost once, and once their confirms.
    for (package, frame, side) in [
        ("probe-2", Frame::Publish, Side::Before),
        ("arith", Frame::Publish, Side::After),
        ("speaker", Frame::Confirm, Side::Before),
        ("digest", Frame::Confirm, Side::After),
    ] {
        let deployment = operator.runtime.deploy(component(package));
        let cuts = async {
            cut_at(&operator.network, side, frame).await;
            cut_at(&operator.network, side, frame).await;
        };
        let (deployed, ()) = soon(async { futures::join!(deployment, cuts) }).await;
        deployed.unwrap();
    }
    // A worker that reads all of it while its connections are cut again and again.
    let folder = tempfile::tempdir().unwrap();
    let late = scene.start_worker(&["--cache-dir", folder.path().to_str().unwrap()], "").await;
    for side in [Side::Before, Side::After, Side::Before] {
        cut_at(&late.network, side, Frame::Deliver).await;
    }
    late.process.ready().await;
    scene.agrees_on_the_registry([&late]).await;
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_noticed_and_what_comes_late_does_no_harm() {
    let scene = Scene::new();
    let cast = Cast::of(&scene, 2).await;
    cast.exact.reaches(1000).await;
    let silent = [&cast.workers[0].network, &cast.program.network];
    silent.iter().for_each(|network| network.conduct(Conduct::Silence));
    cast.workers[0].process.log().until(&["the connection to the broker is lost", "consuming"]).await;
    silent.iter().for_each(|network| network.conduct(Conduct::Forward));
    cast.exact.reaches(FREE).await;
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_costs_time_and_nothing_else() {
    let scene = Scene::new();
    scene.world().deploy(&["text", "probe-1"]).await;
    let far = scene.worker(&["--prefetch", "100"]).await;
    let narrow = scene.worker(&[]).await;
    far.network.conduct(Conduct::Delay(Duration::from_millis(200)));
    narrow.network.conduct(Conduct::Throttle(1_000_000));
    let cast = Cast::with(&scene, vec![far, narrow]).await;
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_again_and_again_under_deployments_cost_nothing() {
    let scene = Scene::new();
    let mut cast = Cast::of(&scene, 2).await;
    let deployments = Deployments::start(scene.program().await);
    cast.exact.release();
    let mut beats = interval(Duration::from_millis(100));
    let networks = [&cast.workers[0].network, &cast.program.network, &cast.workers[1].network];
    for network in networks.into_iter().cycle().take(30) {
        beats.tick().await;
        network.cut();
    }
    assert!(deployments.end().await >= 4);
    cast.all_is_well(&scene).await;
}
