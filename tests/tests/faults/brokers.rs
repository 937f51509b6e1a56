//! The broker goes away and comes back, and is short of memory or disk. Each on a node of its own.

use std::time::Duration;

use palfrey_rabbitmq::{Node, NodeOptions};
use palfrey_tests::{Deployments, Exact, Scene};
use tokio::time::interval;

use crate::Cast;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_restarted_killed_and_stopped_for_a_while_costs_nothing() {
    let scene = Scene::with_a_node(NodeOptions::new()).await;
    let cast = Cast::of(&scene, 2).await;
    let deployments = Deployments::start(scene.program().await);
    cast.exact.reaches(1000).await;
    // In order at first: RabbitMQ writes down within a second or so that a quorum queue or a stream exists, and a node that
    // is killed before has forgotten it.
    scene.node(Node::restart).await;
    cast.exact.reaches(3000).await;
    scene.node(Node::kill).await;
    scene.node(Node::restart).await;
    cast.exact.reaches(5000).await;
    scene.node(Node::stop).await;
    // Longer than the pauses between attempts, which grow to two seconds.
    let mut seconds = interval(Duration::from_secs(5));
    seconds.tick().await;
    seconds.tick().await;
    scene.node(Node::restart).await;
    assert!(deployments.end().await >= 4);
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_wait_and_say_so_while_the_broker_is_short_of_memory_or_disk() {
    let scene = Scene::with_a_node(NodeOptions::new()).await;
    let mut cast = Cast::of(&scene, 2).await;
    // Enough that workers have results to send when the shortages begin, however long the commands for them take.
    cast.exact = Exact::start_with_work(cast.runtime(), 1, 300_000);
    cast.exact.release();
    let shortages = [
        (["set_vm_memory_high_watermark", "0.0001"], ["set_vm_memory_high_watermark", "0.9"]),
        (["set_disk_free_limit", "1000GB"], ["set_disk_free_limit", "50MB"]),
    ];
    for (round, (alarm, relief)) in (1..).zip(shortages) {
        cast.exact.reaches(1000 * round).await;
        // The broker tells those who publish, and only a worker that holds a task does.
        let waits = cast.say_again("the broker takes no messages for now; publishers wait");
        let goes_on = cast.say_again("the broker takes messages again");
        scene.node(move |node| node.ctl(alarm)).await;
        waits.await;
        scene.node(move |node| node.ctl(relief)).await;
        goes_on.await;
    }
    cast.all_is_well(&scene).await;
}
