//! Tasks that come back again and again: those that kill their workers, and those that take longer than the broker waits.

use arith::MultiplyBy;
use futures::StreamExt;
use palfrey_host::{
    directive::*,
    queue::{Connection, QueueKind, QueueSpec},
    task::{AnyTask, Cause, wire::Message as _},
};
use palfrey_rabbitmq::NodeOptions;
use palfrey_tests::{Log, Remote, Scene, soon};
use probe_1::Stamp;

use crate::{Cast, job_of, patient};

/// Starts a worker again whenever it dies, until something is done. Returns the last one, and the logs of all.
async fn kept_up<T>(scene: &Scene, failpoints: &str, work: impl Future<Output = T>) -> (T, Remote, Vec<Log>) {
    let mut logs = Vec::new();
    tokio::pin!(work);
    loop {
        let mut worker = scene.start_worker(&["--slots", "2"], failpoints).await;
        logs.push(worker.process.log().clone());
        tokio::select! {
            done = &mut work => return (done, worker, logs),
            code = worker.process.ended() => assert_eq!(code, 128 + 6, "it died at the failpoint"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_worker_each_time_is_dead_lettered_after_three_attempts_and_nothing_else_is() {
    let scene = Scene::new();
    scene.world().deploy(&["arith"]).await;
    let mut cast = Cast::with(&scene, Vec::new()).await;
    let unlucky = scene.program().await;
    let multiply = MultiplyBy(2);
    let poison = Literal::new(21).map(&multiply).run(&unlucky.runtime);
    let (outcome, last, logs) = kept_up(&scene, "during-execution/arith/multiply-by=abort", soon(poison)).await;
    let error = outcome.unwrap_err();
    let failure = error.execution().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(failure.cause, Cause::Poison { attempts: 3 });
    let said = "arith/multiply-by: the worker process died in each of 3 attempts: the task is in queue `default.dead`";
    assert_eq!(error.to_string(), said);
    let alone = logs.iter().filter(|log| log.has(&["executing a task alone", "operation=arith/multiply-by"])).count();
    assert_eq!(alone, 3, "each attempt was a start");

    let connection = scene.world().connection().await;
    let bus = QueueSpec::new("default", QueueKind::Tasks);
    let dead = connection.declare(&bus.dead_letters().unwrap()).await.unwrap();
    // Its job is told first.
    soon(async { while dead.status().await.unwrap().messages < 1 {} }).await;
    assert_eq!(soon(dead.status()).await.unwrap().messages, 1, "it alone");
    drop(last);
    let letter = soon(dead.take()).await.unwrap().unwrap();
    let task = AnyTask::decode(letter.payload.clone()).unwrap();
    assert_eq!(task.stages[0].operation.to_string(), "arith/multiply-by");
    let [set_apart, convicted] = &letter.moves[..] else { panic!("{:?}", letter.moves) };
    assert_eq!((&*set_apart.from, &*set_apart.to), ("default", "default.suspects"));
    assert_eq!((&*convicted.from, &*convicted.to, convicted.deliveries), ("default.suspects", "default.dead", 4));
    assert_eq!(convicted.reason, "arith/multiply-by: the worker process died in each of 3 attempts");

    // Its bytes are as they were: back in its queue, and with a worker that does not die of it, it ends. Its program is gone.
    unlucky.close().await;
    let publisher = connection.handle(&bus).publisher().await.unwrap();
    soon(publisher.publish(letter.payload)).await.unwrap();
    letter.acker.ack().await.unwrap();
    connection.close().await.unwrap();
    cast.workers.push(scene.worker(&[]).await);
    let log = cast.workers[0].process.log();
    log.until(&["nobody waits for the results of this job", "operation=arith/multiply-by"]).await;
    cast.all_is_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_whose_workers_lose_their_connections_and_live_is_no_poison() {
    let scene = Scene::new();
    scene.world().deploy(&["arith"]).await;
    let program = scene.program().await;
    let runtime = program.runtime.clone();
    let job = tokio::spawn(async move { Literal::new(21).map(&MultiplyBy(2)).run(&runtime).await });
    let connection = scene.world().connection().await;
    let bus = QueueSpec::new("default", QueueKind::Tasks);
    // It comes back until it is a suspect.
    let mut tasks = soon(connection.handle(&bus).consumer(1)).await.unwrap();
    for _ in 0..3 {
        soon(tasks.next()).await.unwrap().acker.nack().await.unwrap();
    }
    drop(tasks);
    // Three workers have it, one after the other, and would end with it if they were let. Their connections are lost.
    let mut workers = Vec::new();
    for _ in 0..3 {
        let worker = scene.start_worker(&[], "during-execution/arith/multiply-by=pause").await;
        worker.process.log().until(&["executing a task alone"]).await;
        worker.process.log().until(&["the task goes no further"]).await;
        worker.network.cut();
        workers.push(worker);
    }
    let last = scene.worker(&[]).await;
    last.process.log().until(&["a worker has had this task and lives"]).await;
    assert_eq!(soon(job).await.unwrap().unwrap(), 42);
    for worker in workers {
        worker.kill().await;
    }
    connection.close().await.unwrap();
    program.close().await;
    scene.is_clean([&last]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_takes_longer_than_the_broker_waits_is_executed_once() {
    // No other job has it.
    const NUMBER: u64 = 1_000_000;
    const LONG: Stamp = Stamp { work: 6_000_000_000 };
    let options = NodeOptions::new().configuration("consumer_timeout = 2000").advanced("{channel_tick_interval, 1000}");
    let scene = Scene::with_a_node(options).await;
    // The second slot is for the tasks of others.
    let worker = scene.worker(&["--slots", "2", "--log", "info,palfrey_host::plugin=debug"]).await;
    let log = worker.process.log().clone();
    let cast = Cast::with(&scene, vec![worker]).await;
    let options = patient().batch_size(BatchSize::Fixed(1.try_into().unwrap()));
    let results = IndexedStream::from([NUMBER]).options(options).map(&LONG).run(cast.runtime()).await.unwrap();
    let job = tokio::spawn(results.collect::<Vec<_>>());
    let stamping = format!("stamping {NUMBER} ");
    let line = log.until(&[&stamping]).await;
    log.until(&["a task that is under way was delivered again", job_of(&line)]).await;
    let results = soon(job).await.unwrap();
    assert!(matches!(results[..], [Ok((0, (_, NUMBER)))]), "{results:?}");
    cast.all_is_well(&scene).await;
    assert_eq!(log.count(&[&stamping]), 1, "it was executed once, and not again afterwards");
}
