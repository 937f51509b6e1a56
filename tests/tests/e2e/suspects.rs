//! Tasks that come back again and again: those that kill their workers, and the innocent ones beside them.

use std::future::Future;

use arith::MultiplyBy;
use futures::StreamExt;
use palfrey_host::{
    directive::*,
    queue::{Connection, QueueKind, QueueSpec},
    task::{AnyTask, Cause, wire::Message as _},
};
use palfrey_rabbitmq::NodeOptions;
use palfrey_tests::{Deployments, Log, Scene, World, soon};
use probe_1::Stamp;
use text::{CharToString, Concat};

use crate::{batches_of, long_text};

/// Starts a worker again whenever it dies, until something is done. Returns the logs of all.
async fn kept_up<T>(
    world: &World,
    arguments: &[&str],
    failpoints: &str,
    work: impl Future<Output = T>,
) -> (T, Vec<Log>) {
    let mut logs = Vec::new();
    tokio::pin!(work);
    loop {
        let mut worker = world.start_failing_worker(arguments, failpoints);
        logs.push(worker.log().clone());
        tokio::select! {
            done = &mut work => return (done, logs),
            code = worker.ended() => assert_eq!(code, 128 + 6, "it died at the failpoint"),
        }
    }
}

fn bus() -> QueueSpec {
    QueueSpec::new("default", QueueKind::Tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_worker_each_time_is_dead_lettered_after_three_attempts_and_nothing_else_is() {
    let scene = Scene::new();
    let world = scene.world();
    world.deploy(&["arith", "text", "probe-1"]).await;
    let runtime = world.runtime().await;
    // Somebody else's tasks are on the same workers meanwhile.
    let deployments = Deployments::start(scene.program().await);
    let text = long_text(400);
    let work = async {
        let poison = async { Literal::new(21).map(&MultiplyBy(2)).run(&runtime).await.unwrap_err() };
        let source = IndexedStream::from(text.chars().collect::<Vec<_>>()).options(batches_of(5));
        let innocent = async { source.map(&CharToString).fold(&Concat).run(&runtime).await.unwrap() };
        soon(async { tokio::join!(poison, innocent) }).await
    };
    let rules = "during-execution/arith/multiply-by=abort";
    let ((error, folded), logs) = kept_up(world, &["--slots", "2", "--prefetch", "8"], rules, work).await;
    assert_eq!(folded, text);
    let failure = error.execution().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(failure.cause, Cause::Poison { attempts: 3 });
    let said = "arith/multiply-by: the worker process died in each of 3 attempts: the task is in queue `default.dead`";
    assert_eq!(error.to_string(), said);
    let alone = logs.iter().filter(|log| log.has(&["executing a task alone", "operation=arith/multiply-by"])).count();
    assert_eq!(alone, 3, "each attempt was a start");

    let connection = world.connection().await;
    let dead = connection.declare(&bus().dead_letters().unwrap()).await.unwrap();
    assert_eq!(soon(dead.status()).await.unwrap().messages, 1, "it alone");
    let letter = soon(dead.take()).await.unwrap().unwrap();
    let task = AnyTask::decode(letter.payload.clone()).unwrap();
    assert_eq!(task.stages[0].operation.to_string(), "arith/multiply-by");
    let [set_apart, convicted] = &letter.moves[..] else { panic!("{:?}", letter.moves) };
    assert_eq!((&*set_apart.from, &*set_apart.to), ("default", "default.suspects"));
    assert_eq!((&*convicted.from, &*convicted.to, convicted.deliveries), ("default.suspects", "default.dead", 4));
    assert_eq!(convicted.reason, "arith/multiply-by: the worker process died in each of 3 attempts");

    // Its bytes are as they were: back in its queue, and with a worker that does not die of it, it ends. Its program is gone.
    soon(runtime.close()).await.unwrap();
    let publisher = connection.handle(&bus()).publisher().await.unwrap();
    soon(publisher.publish(letter.payload)).await.unwrap();
    letter.acker.ack().await.unwrap();
    let worker = world.worker(&[]).await;
    worker.log().until(&["nobody waits for the results of this job", "operation=arith/multiply-by"]).await;
    deployments.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_were_fetched_and_never_begun_are_not_to_blame_for_the_death_of_workers() {
    let world = World::new();
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..12_u64).options(batches_of(1));
    let results = source.map(&Stamp::QUICK).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.into_values_sorted());
    // One of them holds the slot, the others wait for it: all come back with the worker. Soon all are suspects, and at the end
    // one of them has been attempted twice, the others never.
    for _ in 0..5 {
        let mut doomed = world.start_failing_worker(&["--slots", "1", "--prefetch", "16"], "before-execution=pause");
        doomed.log().until(&["the task goes no further"]).await;
        doomed.signal("KILL");
        assert_eq!(doomed.ended().await, 128 + 9);
    }
    let _worker = world.worker(&["--slots", "1"]).await;
    let results = soon(job).await.unwrap().unwrap();
    assert_eq!(results, (0..12).map(|number| (1, number)).collect::<Vec<_>>());
    let connection = world.connection().await;
    let dead = connection.handle(&bus().dead_letters().unwrap());
    assert_eq!(soon(dead.status()).await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_takes_longer_than_the_broker_waits_is_executed_once() {
    let options = NodeOptions::new().configuration("consumer_timeout = 2000").advanced("{channel_tick_interval, 1000}");
    let scene = Scene::with_a_node(options).await;
    let world = scene.world();
    // The second slot is for somebody else's tasks.
    let worker = world.worker(&["--slots", "2"]).await;
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let long = IndexedStream::from([7_u64]).options(batches_of(1));
    let results = long.map(&Stamp { work: 6_000_000_000 }).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.collect::<Vec<_>>());
    let deployments = Deployments::start(scene.program().await);
    worker.log().until(&["a task that is under way was delivered again"]).await;
    let results = soon(job).await.unwrap();
    deployments.end().await;
    assert!(matches!(results[..], [Ok((0, (1, 7)))]), "{results:?}");
    assert_eq!(worker.log().words_after("stamping ").len(), 1, "it was executed once");
    let quiet = |name: &str, queues: &[palfrey_tests::Queue]| queues.iter().all(|q| q.name != name || q.is_empty());
    scene.until_queues("the task is acknowledged", |queues| quiet("default", queues)).await;
    assert_eq!(worker.log().words_after("stamping ").len(), 1, "nor again afterwards");
}
