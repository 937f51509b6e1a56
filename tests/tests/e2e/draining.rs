//! The end of a worker has a limit, whatever it executes and wherever the broker is.

use futures::StreamExt;
use palfrey_host::directive::*;
use palfrey_tests::{Conduct, Deployments, Remote, Scene};
use probe_1::Stamp;

use crate::batches_of;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_cannot_finish_in_time_goes_to_another_one() {
    let scene = Scene::new();
    let world = scene.world();
    let mut leaving = world.worker(&["--slots", "1", "--prefetch", "4", "--drain-timeout", "1s"]).await;
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..4_u64).options(batches_of(1));
    let results = source.map(&Stamp::ENDLESS).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.collect::<Vec<_>>());
    let deployments = Deployments::start(scene.program().await);
    let first = leaving.log().until(&["stamping"]).await;
    leaving.signal("TERM");
    leaving.log().until(&["handing back what is not finished after 1s"]).await;
    assert_eq!(leaving.ended().await, 0);
    assert_eq!(leaving.log().words_after("stamping ").len(), 1, "what had not begun did not begin: {first}");

    let staying = world.worker(&["--slots", "4"]).await;
    staying.log().until_it("it executes all four", |log| log.words_after("stamping ").len() == 4).await;
    job.abort();
    deployments.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_broker_is_away_ends_when_it_is_told_to() {
    let scene = Scene::new();
    let world = scene.world();
    let mut idle = scene.worker(&[]).await;
    let mut busy = scene.worker(&["--drain-timeout", "1s", "--log", "info"]).await;
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..40_u64).options(batches_of(1));
    let results = source.map(&Stamp { work: 200_000_000 }).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.collect::<Vec<_>>());
    busy.process.log().until(&["stamping"]).await;
    for Remote { network, process: worker } in [&mut idle, &mut busy] {
        network.conduct(Conduct::Refuse);
        network.cut();
        worker.log().until(&["the connection to the broker is lost"]).await;
        worker.signal("TERM");
        assert_eq!(worker.ended().await, 0);
    }
    job.abort();
}
