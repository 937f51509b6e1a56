//! Terminating a job is heard by every worker.

use arith::{MultiplyBy, Sum};
use palfrey_host::{
    directive::*,
    queue::{Connection, QueueKind, QueueSpec},
};
use palfrey_tests::{Worker, World, soon};
use probe_1::Stamp;

use crate::batches_of;

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_job_leaves_all_three_workers() {
    let world = World::new();
    // Each holds one task, so that all of them are at work.
    let workers = world.workers::<3>(&["--slots", "1", "--prefetch", "1", "--log", "palfrey_host=debug,info"]).await;
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..9_u64).options(batches_of(1));
    let results = source.map(&Stamp::ENDLESS).run(&runtime).await.unwrap();
    // A job does nothing by itself: somebody has to wait for its results.
    let waiting = tokio::spawn(results.into_values_sorted());
    for worker in &workers {
        worker.log().until(&["stamping"]).await;
    }

    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    for worker in &workers {
        worker.log().until(&["a job was terminated", "stopped=1"]).await;
    }

    let takes_part = |worker: &Worker| worker.log().has(&["stamping 77 "]);
    let again = async {
        while !workers.iter().all(takes_part) {
            let source = IndexedStream::from([77_u64; 3]).options(batches_of(1));
            let results = source.map(&Stamp::QUICK).run(&runtime).await.unwrap();
            assert_eq!(results.into_values_sorted().await.unwrap(), [(1, 77); 3]);
        }
    };
    soon(again).await;
    assert_eq!(runtime.task_channel().status().await.unwrap().messages, 0, "the other tasks of the job are gone too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_program_is_gone_ends_on_the_workers() {
    let world = World::new();
    let worker = world.worker(&["--slots", "1"]).await;
    world.deploy(&["probe-1", "arith"]).await;
    let runtime = world.runtime().await;
    // A task whose job nobody has leased, as if the program had been killed and its lease had expired.
    let connection = world.connection().await;
    let bus = connection.handle(&QueueSpec::new("default", QueueKind::Tasks));
    let (routing_key, sender, results) = runtime.lease_coordinated_task_channel::<MultiplyBy, ()>().await.unwrap();
    let lease = runtime.channels().leased::<palfrey_host::task::AnyTaskResult>(&routing_key);
    lease.release().await.unwrap();
    let task = palfrey_host::runtime::Task { routing_key, metadata: (), op: &MultiplyBy(2), input: 1 };
    sender.publish(&task).await.unwrap();
    worker.log().until(&["nobody waits for the results of this job any more"]).await;
    drop((sender, results));
    let other = world.runtime().await;
    assert_eq!(soon(IndexedStream::from(1..=10_u64).fold(&Sum).run(&other)).await.unwrap(), 55);
    assert_eq!(bus.status().await.unwrap().messages, 0);
}
