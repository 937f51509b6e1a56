//! The broker goes away and comes back, and nothing is lost. On a node of its own.

use std::sync::Arc;

use futures::{StreamExt, channel::mpsc::unbounded};
use palfrey_host::directive::*;
use palfrey_rabbitmq::{Node, NodeError};
use palfrey_tests::{Worker, World, soon};
use probe_1::Stamp;
use text::{CharToString, Concat};
use tokio::sync::watch;

use crate::{batches_of, long_text};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_a_broker_that_is_killed_and_workers_hear_of_later_deployments() {
    let node = Arc::new(Node::start().unwrap());
    let world = World::at(node.uri());
    let mut workers = world.workers::<2>(&["--slots", "1"]).await;
    world.deploy(&["text"]).await;
    let runtime = world.runtime().await;
    // In order at first: RabbitMQ writes down within a second or so that a quorum queue or a stream exists, and a node that
    // is killed before has forgotten it.
    during(&node, Node::restart).await;

    let text = long_text(4000);
    let (before, after) = text.split_at(2000);
    let (source, characters) = unbounded();
    let (progress, mut done) = watch::channel(0);
    let options = batches_of(5).on_progress(move |progressed| _ = progress.send(progressed.done));
    let job = IndexedStream::from_stream(characters).options(options).map(&CharToString).fold(&Concat).run(&runtime);
    let feed = |text: &str| text.chars().for_each(|character| source.unbounded_send(character).unwrap());
    let outage = async {
        feed(before);
        done.wait_for(|&done| done >= 300).await.unwrap();
        during(&node, Node::kill).await;
        feed(after);
        source.close_channel();
        during(&node, Node::restart).await;
    };
    let (folded, ()) = soon(async { futures::join!(job, outage) }).await;
    assert_eq!(folded.unwrap(), text);

    // The followers of the registry are back as well, in the workers and in the program.
    world.deploy(&["probe-2"]).await;
    for worker in &workers {
        worker.log().until(&["loaded", "plugin=\"probe\""]).await;
    }
    let mut states = runtime.registry().subscribe();
    soon(states.wait_for(|state| state.plugin("probe").is_ok())).await.unwrap();
    let results = IndexedStream::from(0..10_u64).map(&probe_2::Stamp::QUICK).run(&runtime).await.unwrap();
    let stamps = soon(results.collect::<Vec<_>>()).await;
    assert!(stamps.iter().all(|stamp| matches!(stamp, Ok((_, (2, _))))), "{stamps:?}");
    assert!(workers.iter_mut().all(Worker::is_running));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_short_of_memory_is_waited_for_and_workers_say_so_once() {
    let node = Arc::new(Node::start().unwrap());
    let world = World::at(node.uri());
    let worker = world.worker(&["--slots", "1"]).await;
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let (progress, mut done) = watch::channel(0);
    let options = batches_of(1).on_progress(move |progressed| _ = progress.send(progressed.done));
    let (source, numbers) = unbounded();
    let results = IndexedStream::from_stream(numbers).options(options).map(&Stamp { work: 100_000_000 });
    let results = results.run(&runtime).await.unwrap();
    let mut fed = 0;
    let shortage = async {
        let shortage = async {
            during(&node, |node| node.ctl(["set_vm_memory_high_watermark", "absolute", "1MB"]).map(drop)).await;
            worker.log().until(&["the broker takes no messages for now; publishers wait", "reason="]).await;
            during(&node, |node| node.ctl(["set_vm_memory_high_watermark", "0.9"]).map(drop)).await;
            worker.log().until(&["the broker takes messages again"]).await;
        };
        tokio::pin!(shortage);
        loop {
            // Twenty tasks are at the broker whenever the shortage begins: what is published during it are results.
            let wanted = *done.borrow_and_update() + 20;
            (fed..wanted).for_each(|number| source.unbounded_send(number).unwrap());
            fed = fed.max(wanted);
            tokio::select! {
                biased;
                () = &mut shortage => break,
                changed = done.changed() => changed.unwrap(),
            }
        }
        source.close_channel();
    };
    let (stamped, ()) = soon(async { futures::join!(results.into_values_sorted(), shortage) }).await;
    assert_eq!(stamped.unwrap(), (0..fed).map(|number| (1, number)).collect::<Vec<_>>());
    assert_eq!(worker.log().count(&["the broker takes no messages for now"]), 1);
    assert_eq!(worker.log().count(&["the broker takes messages again"]), 1);
}

/// Does something with the node that takes seconds, while everything else goes on.
async fn during(node: &Arc<Node>, action: fn(&Node) -> Result<(), NodeError>) {
    let node = node.clone();
    tokio::task::spawn_blocking(move || action(&node)).await.unwrap().unwrap();
}
