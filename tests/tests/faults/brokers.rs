//! The broker goes away and comes back, is short of memory or disk, loses what it had, and takes less than others do. Mostly on a
//! node of its own.

use std::time::Duration;

use fractal::{MandelbrotTile, Tile};
use futures::{StreamExt, stream};
use palfrey_host::{
    JobError,
    directive::*,
    queue::{Condition, LEASE_EXPIRY, QueueError},
    task::Cause,
};
use palfrey_rabbitmq::{Node, NodeOptions, Resource};
use palfrey_tests::{FREE, Scene, soon};
use probe_1::Stamp;
use text::{CharToString, Concat};
use tokio::time::interval;

use crate::{Cast, patient};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_restarted_killed_and_stopped_for_a_minute_costs_nothing() {
    let scene = Scene::with_a_node(NodeOptions::new()).await;
    let cast = Cast::of(&scene, 2).await;
    cast.exact.reaches(1000).await;
    // In order at first: RabbitMQ writes down within a second or so that a quorum queue or a stream exists, and a node that
    // is killed before has forgotten it.
    scene.node(Node::restart).await;
    cast.exact.reaches(3000).await;
    scene.node(Node::kill).await;
    scene.node(Node::restart).await;
    cast.exact.reaches(5000).await;
    scene.node(Node::stop).await;
    // Nobody reads the queues of results for longer than they last without a reader: that begins anew with the broker.
    let mut stop = interval(LEASE_EXPIRY + Duration::from_secs(5));
    stop.tick().await;
    stop.tick().await;
    scene.node(Node::restart).await;
    cast.all_is_well(&scene).await;
}

/// Waits until the program's connection says so of itself.
async fn until_program_is(cast: &Cast, condition: Condition) {
    let connection = cast.runtime().channels().connection();
    let mut looks = interval(Duration::from_millis(50));
    soon(async {
        while connection.condition() != condition {
            looks.tick().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_wait_and_say_so_while_the_broker_is_short_of_memory_or_disk() {
    let scene = Scene::with_a_node(NodeOptions::new()).await;
    let cast = Cast::of(&scene, 2).await;
    let shortages = [Resource::Memory, Resource::Disk];
    let (waiting, going_on) =
        ("the broker takes no messages for now; publishers wait", "the broker takes messages again");
    for resource in shortages {
        // The broker tells those who publish, and only a worker that holds a task does.
        let waits = cast.say_again(waiting);
        let goes_on = cast.say_again(going_on);
        // Workers have results to send when the shortage begins, however long the command for it takes.
        let options = patient().batch_size(BatchSize::Fixed(10.try_into().unwrap()));
        let endless = IndexedStream::from_stream(stream::iter(0_u64..)).options(options).map(&Stamp { work: 300_000 });
        let mut results = endless.run(cast.runtime()).await.unwrap();
        results.next().await.unwrap().unwrap();
        let working = tokio::spawn(results.for_each(async |_| {}));
        scene.node(move |node| node.raise_alarm(resource)).await;
        waits.await;
        // The program has a task to send.
        let runtime = cast.runtime().clone();
        let late = IndexedStream::from(['a']).map(&CharToString);
        let late = tokio::spawn(async move { late.run(&runtime).await?.into_values_sorted().await });
        until_program_is(&cast, Condition::Blocked).await;
        working.abort();
        scene.node(move |node| node.clear_alarm(resource)).await;
        goes_on.await;
        until_program_is(&cast, Condition::Connected).await;
        assert_eq!(soon(late).await.unwrap().unwrap(), ["a"]);
    }
    // Once for each shortage, however much they have to send.
    assert!(cast.workers.iter().all(|worker| worker.process.log().count(&[waiting]) <= shortages.len()));
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_whose_queue_is_deleted_under_their_job_are_sent_again() {
    let scene = Scene::new();
    let rules = ["text/concat", "probe/stamp"].map(|operation| format!("before-execution/{operation}=pause@5"));
    let doomed = scene.start_worker(&[], &rules.join(",")).await;
    doomed.process.ready().await;
    let mut cast = Cast::with(&scene, Vec::new()).await;
    doomed.process.log().until(&["the task goes no further"]).await;
    // Whatever waits is lost by that, and what the worker holds goes with it.
    scene.delete_queue("default").await;
    doomed.process.log().until(&["the queue of tasks was deleted; it is there again"]).await;
    doomed.kill().await;
    cast.workers.push(scene.worker(&[]).await);
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_are_sent_while_their_queue_is_gone_make_it_again() {
    let scene = Scene::new();
    let mut cast = Cast::waiting(&scene, Vec::new(), 0).await;
    // There is no worker that could do so.
    scene.delete_queue("default").await;
    cast.exact.give(FREE);
    scene.until_queues("it is there again", |queues| queues.iter().any(|queue| queue.name == "default")).await;
    cast.workers.push(scene.worker(&[]).await);
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_the_broker_takes_is_a_typed_error_and_everything_beside_it_goes_on() {
    const LIMIT: usize = 1_000_000;
    let scene = Scene::with_a_node(NodeOptions::new().configuration(&format!("max_message_size = {LIMIT}"))).await;
    scene.world().deploy(&["fractal"]).await;
    let cast = Cast::of(&scene, 2).await;
    for _ in 0..3 {
        let large = "x".repeat(2 * LIMIT);
        let error = soon(IndexedStream::from([large]).fold(&Concat).run(cast.runtime())).await.unwrap_err();
        assert!(matches!(error, JobError::Queue(QueueError::TooLarge { limit: LIMIT, .. })), "{error}");

        // 800 × 800 pixels of three bytes.
        let (width, height) = (800, 800);
        let picture = MandelbrotTile { max_iterations: 1, ..MandelbrotTile::whole(width, height) };
        let whole = Literal::new(Tile { x: 0, y: 0, width, height });
        let error = soon(whole.map(&picture).run(cast.runtime())).await.unwrap_err();
        let cause = &error.execution().expect("it failed on a worker").cause;
        assert_eq!(*cause, Cause::OutputTooLarge { limit: LIMIT as u64 });
    }
    cast.all_is_well(&scene).await;
}
