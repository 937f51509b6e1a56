//! Connections are cut, fall silent, and get slow.

use std::time::Duration;

use palfrey_tests::{Conduct, FREE, Frame, Proxy, Scene, Side, component, soon};
use tokio::time::interval;

use crate::{Cast, hired};

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
    // Busy for as long as it takes.
    let mut cast = Cast::waiting(&scene, hired(&scene, 2).await, 300_000).await;
    cast.exact.give(FREE);
    let networks = [&cast.workers[0].network, &cast.workers[1].network, &cast.program.network];
    for frame in [Frame::Publish, Frame::Confirm, Frame::Consume, Frame::Deliver, Frame::Acknowledge] {
        for (network, side) in networks.into_iter().zip([Side::Before, Side::After, Side::Before]) {
            cut_at(network, side, frame).await;
            // Both jobs get on before the next cut: a task that comes back again and again is taken for what kills workers.
            cast.exact.reaches(cast.exact.done().1 + 200).await;
        }
    }
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_and_the_replay_of_the_registry_survive_cuts_at_every_step() {
    let scene = Scene::new();
    let mut cast = Cast::of(&scene, 1).await;
    let operator = scene.program().await;
    // The mark, the chunks and the record are each lost once, and once their confirms.
    for (package, frame, side) in [
        ("fractal", Frame::Publish, Side::Before),
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
    cast.workers.push(late);
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
    let far = scene.worker(&["--prefetch", "100"]).await;
    let narrow = scene.worker(&[]).await;
    far.network.conduct(Conduct::Delay(Duration::from_millis(200)));
    narrow.network.conduct(Conduct::Throttle(1_000_000));
    let cast = Cast::with(&scene, vec![far, narrow]).await;
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_again_and_again_cost_nothing() {
    let scene = Scene::new();
    let mut cast = Cast::of(&scene, 2).await;
    cast.exact.release();
    let mut beats = interval(Duration::from_millis(100));
    let networks = [&cast.workers[0].network, &cast.program.network, &cast.workers[1].network];
    for network in networks.into_iter().cycle().take(30) {
        beats.tick().await;
        network.cut();
    }
    cast.all_is_well(&scene).await;
}
