//! Tasks that one worker cannot execute, and another one may.

use futures::StreamExt;
use lapin::{
    BasicProperties, ConnectionProperties,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldArray, FieldTable},
};
use palfrey_host::{
    directive::*,
    plugin::Chunk,
    queue::{Connection, QueueKind, QueueSpec},
    task::{AnyTaskResult, Cause, TaskId, TaskOutcome},
};
use palfrey_tests::{World, component, soon};
use probe_1::Stamp;

use crate::{
    batches_of,
    broken_messages::{append, upload},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lacks_a_component_hands_its_tasks_on_to_one_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    let (with, without) = (with.to_str().unwrap(), without.to_str().unwrap());
    // Somewhere else a worker stores the component.
    let elsewhere = World::new();
    elsewhere.deploy(&["probe-1"]).await;
    let stores = elsewhere.worker(&["--cache-dir", with]).await;
    stores.log().until(&["loaded", "plugin=\"probe\""]).await;

    // Here the upload was cut off: it is deployed, and only who has it from before can execute it.
    let world = World::new();
    let connection = world.connection().await;
    let (_, record, chunks) = upload(&component("probe-1").into());
    append(&connection, "palfrey.components", chunks.iter().skip(1).map(Chunk::encode)).await;
    append(&connection, "palfrey.registry", [record]).await;
    let lacking = world.worker(&["--slots", "1", "--prefetch", "2", "--cache-dir", without]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..20_u64).options(batches_of(1));
    let results = source.map(&Stamp::QUICK).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.into_values_sorted());
    lacking.log().until(&["handing on a task to other workers", "does not have the plugin"]).await;
    let mut having = world.worker(&["--slots", "1", "--cache-dir", with]).await;
    assert_eq!(soon(job).await.unwrap().unwrap(), (0..20).map(|number| (1, number)).collect::<Vec<_>>());
    assert_eq!(lacking.log().words_after("stamping ").len(), 0);
    // Its log is complete once it has ended.
    having.signal("TERM");
    assert_eq!(having.ended().await, 0);
    assert_eq!(having.log().words_after("stamping ").len(), 20);
}

/// A task in a format that no release has written so far, as it would begin.
pub(crate) fn task_from_the_future(job: &str, task: u8) -> Vec<u8> {
    let mut header = vec![u8::try_from(job.len()).unwrap()];
    header.extend(job.as_bytes());
    header.extend([task, 1, 2, 3]);
    let mut message = vec![9];
    message.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    message.extend(header);
    message
}

/// What goes with a message that has made so many rounds already.
pub(crate) fn after_rounds(count: i64) -> BasicProperties {
    let mut rounds = FieldTable::default();
    for (key, value) in [("from", "default"), ("to", "default.later"), ("reason", "not for these workers")] {
        rounds.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    for (key, value) in [("time", 1_700_000_000_000), ("deliveries", 1), ("times", count)] {
        rounds.insert(key.into(), AMQPValue::LongLongInt(value));
    }
    let mut headers = FieldTable::default();
    headers
        .insert("palfrey-moves".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(rounds)])));
    BasicProperties::default().with_headers(headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_another_release_is_handed_on_for_a_while_and_then_its_job_is_told() {
    let world = World::new();
    let worker = world.worker(&["--slots", "1"]).await;
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let (job, results) = runtime.channels().issue::<AnyTaskResult>().await.unwrap();
    let mut results = results.receiver().await.unwrap();

    let broker = soon(lapin::Connection::connect(world.uri(), ConnectionProperties::default())).await.unwrap();
    let channel = broker.create_channel().await.unwrap();
    let message = task_from_the_future(job.as_str(), 7);
    // It comes once more, and then never again.
    channel
        .basic_publish("".into(), "default".into(), BasicPublishOptions::default(), &message, after_rounds(299))
        .await
        .unwrap();

    // Others are not kept waiting.
    let stamped = IndexedStream::from([1_u64]).map(&Stamp::QUICK).run(&runtime).await.unwrap();
    assert_eq!(soon(stamped.into_values_sorted()).await.unwrap(), [(1, 1)]);

    let (result, acker) = soon(results.next()).await.unwrap();
    assert_eq!(result.id, TaskId(7));
    let TaskOutcome::Failed(failure) = result.outcome else { panic!("{result:?}") };
    assert_eq!(failure.cause, Cause::Format { version: 9 });
    let reason = "the message has format version 9, and this release reads version 1";
    assert_eq!(failure.message, reason);
    acker.ack().await.unwrap();
    worker.log().until(&["a message does not decode; it goes to the dead-letter queue", reason]).await;

    let connection = world.connection().await;
    let dead = QueueSpec::new("default", QueueKind::Tasks).dead_letters().unwrap();
    let letter = soon(connection.handle(&dead).consumer(1).await.unwrap().next()).await.unwrap();
    assert_eq!(letter.payload, message);
    assert_eq!(letter.dead_letter().unwrap().reason, reason);
    let rounds: u32 = letter.moves.iter().filter(|one| one.to == "default.later").map(|one| one.times).sum();
    assert_eq!(rounds, 300, "{:?}", letter.moves);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_another_release_is_handed_on_with_a_reason_in_the_log() {
    let world = World::new();
    let worker = world.worker(&[]).await;
    let connection = world.connection().await;
    let bus = connection.handle(&QueueSpec::new("default", QueueKind::Tasks));
    let message = task_from_the_future("job", 1);
    soon(bus.publisher().await.unwrap().publish(message.into())).await.unwrap();
    worker.log().until(&["handing on a task to other workers", "job=job", "format version 9"]).await;
}
