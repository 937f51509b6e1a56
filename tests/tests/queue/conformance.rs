//! Every promise of the traits, on every implementation.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use palfrey_host::queue::{
    DELAY, DELIVERY_LIMIT, Durability, MAX_MESSAGE, MAX_REASON, QueueError,
    QueueKind::{Broadcast, Lease, Log, Tasks},
    QueueSpec, QueueStatus,
};

use crate::world::{World, next, publish, soon, stays_silent};

macro_rules! on_every_queue {
    ($($claim:ident)*) => {
        mod in_memory {
            use crate::world::World;
            $(#[tokio::test] async fn $claim() { super::$claim(World::in_memory()).await; })*
        }
        mod amqp {
            use crate::world::World;
            $(#[tokio::test] async fn $claim() { super::$claim(World::amqp()).await; })*
        }
    };
}

on_every_queue! {
    each_message_goes_to_one_receiver
    no_more_than_the_prefetch_is_unacknowledged
    a_message_given_back_comes_again_and_says_so
    dropping_an_acker_gives_the_message_back
    dropping_a_stream_frees_what_was_not_taken_from_it
    closing_a_connection_gives_back_what_it_held
    what_cannot_be_processed_is_dead_lettered_with_the_reason
    a_dead_letter_says_where_from_when_and_after_how_many_deliveries
    a_message_that_is_moved_has_its_history_with_it
    a_message_for_later_comes_again_after_the_delay
    a_message_is_taken_without_receiving_others
    a_dead_letter_queue_has_no_dead_letters_itself
    what_comes_back_too_often_is_dead_lettered
    a_lease_forgets_what_cannot_be_processed
    a_lease_goes_with_the_connection_that_declared_it
    a_broadcast_reaches_every_receiver_that_is_there
    a_log_is_replayed_from_the_start_and_followed
    a_log_needs_no_acknowledgements
    dropping_the_stream_of_a_log_disturbs_nobody
    status_counts_messages_and_receivers
    status_of_a_log_counts_its_records
    closing_ends_everything
    deleting_ends_the_streams
    a_queue_that_does_not_exist_is_an_error
    messages_to_a_missing_queue_fail_alone
    declaring_twice_is_harmless_and_as_another_kind_refused
    processes_that_start_at_once_all_get_their_queues
    a_message_over_the_limit_is_refused
    messages_of_any_size_arrive_unchanged
    thousands_published_at_once_all_arrive
    transient_messages_arrive
}

async fn each_message_goes_to_one_receiver(world: World) {
    let (_first, queue) = world.declare(Tasks).await;
    let (_second, same_queue) = world.declare(Tasks).await;
    let mut receivers = stream::select(queue.consumer(1).await.unwrap(), same_queue.consumer(1).await.unwrap());
    let publisher = queue.publisher().await.unwrap();
    let published = join_all((0..100_u8).map(|n| publisher.publish(vec![n].into())));
    let received = async {
        let mut received = Vec::new();
        while received.len() < 100 {
            let delivery = receivers.next().await.unwrap();
            received.push(delivery.payload[0]);
            delivery.acker.ack().await.unwrap();
        }
        received
    };
    let (published, mut received) = soon(async { tokio::join!(published, received) }).await;
    assert!(published.iter().all(Result::is_ok));
    received.sort_unstable();
    assert_eq!(received, (0..100).collect::<Vec<_>>());
}

async fn no_more_than_the_prefetch_is_unacknowledged(world: World) {
    let (_connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["a", "b", "c"]).await;
    let mut deliveries = queue.consumer(2).await.unwrap();
    let first = next(&mut deliveries).await;
    let _second = next(&mut deliveries).await;
    assert!(stays_silent(&mut deliveries).await);
    first.acker.ack().await.unwrap();
    assert_eq!(next(&mut deliveries).await.payload, "c");
}

async fn a_message_given_back_comes_again_and_says_so(world: World) {
    for kind in [Tasks, Lease] {
        let (_connection, queue) = world.declare(kind).await;
        publish(&queue, &["a"]).await;
        let mut deliveries = queue.consumer(1).await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert!(!delivery.redelivered);
        assert_eq!(delivery.offset, None);
        delivery.acker.nack().await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.payload, "a");
        assert!(delivery.redelivered);
        delivery.acker.ack().await.unwrap();
        assert!(stays_silent(&mut deliveries).await);
    }
}

async fn dropping_an_acker_gives_the_message_back(world: World) {
    let (_connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["a"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    drop(next(&mut deliveries).await);
    let delivery = next(&mut deliveries).await;
    assert!(delivery.redelivered);
    // An acknowledgement that is not awaited is none.
    drop(delivery.acker.ack());
    next(&mut deliveries).await.acker.ack().await.unwrap();
}

async fn dropping_a_stream_frees_what_was_not_taken_from_it(world: World) {
    let (_first, queue) = world.declare(Tasks).await;
    let (_second, same_queue) = world.declare(Tasks).await;
    publish(&queue, &["a", "b", "c"]).await;
    let mut deliveries = queue.consumer(3).await.unwrap();
    let taken = next(&mut deliveries).await;
    drop(deliveries);

    let mut others = same_queue.consumer(3).await.unwrap();
    let rest = [next(&mut others).await, next(&mut others).await];
    assert_eq!(HashSet::from(rest.each_ref().map(|delivery| &delivery.payload[..])), HashSet::from([&b"b"[..], b"c"]));
    assert_eq!(taken.payload, "a");
    taken.acker.ack().await.unwrap();
    assert!(stays_silent(&mut others).await);
}

async fn closing_a_connection_gives_back_what_it_held(world: World) {
    let (first, queue) = world.declare(Tasks).await;
    let (_second, same_queue) = world.declare(Tasks).await;
    publish(&queue, &["a"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    let held = next(&mut deliveries).await;
    let mut others = same_queue.consumer(1).await.unwrap();
    first.close().await.unwrap();
    let delivery = next(&mut others).await;
    assert!(delivery.redelivered);
    assert!(matches!(held.acker.ack().await, Err(QueueError::Stale)));
    delivery.acker.ack().await.unwrap();
}

async fn what_cannot_be_processed_is_dead_lettered_with_the_reason(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["garbage", "task"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    let garbage = next(&mut deliveries).await;
    assert!(garbage.dead_letter().is_none() && garbage.moves.is_empty());
    garbage.acker.dead_letter("it is no task: überflüssig").await.unwrap();
    let task = next(&mut deliveries).await;
    assert_eq!(task.payload, "task", "the queue goes on");
    let endless = "\u{fc}".repeat(100_000);
    task.acker.dead_letter(&endless).await.unwrap();

    let dead = queue.spec().dead_letters().unwrap();
    let mut letters = connection.handle(&dead).consumer(1).await.unwrap();
    let letter = next(&mut letters).await;
    assert_eq!(letter.payload, "garbage");
    assert_eq!(letter.dead_letter().map(|death| &*death.reason), Some("it is no task: überflüssig"));
    letter.acker.ack().await.unwrap();
    let letter = next(&mut letters).await;
    assert_eq!(letter.dead_letter().map(|death| &*death.reason), Some(&endless[..MAX_REASON]));
    letter.acker.ack().await.unwrap();
    drop(letters);

    // It comes into being again when it is needed.
    connection.delete(&dead).await.unwrap();
    publish(&queue, &["more"]).await;
    next(&mut deliveries).await.acker.dead_letter("again").await.unwrap();
    let mut letters = connection.handle(&dead).consumer(1).await.unwrap();
    assert_eq!(next(&mut letters).await.payload, "more");
}

async fn a_dead_letter_says_where_from_when_and_after_how_many_deliveries(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["poison"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    for earlier in 0..2 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.earlier, earlier);
        delivery.acker.nack().await.unwrap();
    }
    let before = SystemTime::now() - Duration::from_millis(1);
    next(&mut deliveries).await.acker.dead_letter("enough").await.unwrap();

    let dead = queue.spec().dead_letters().unwrap();
    let letter = next(&mut connection.handle(&dead).consumer(1).await.unwrap()).await;
    let death = letter.dead_letter().unwrap();
    assert_eq!((&death.from, &death.to), (&queue.spec().name, &dead.name));
    assert_eq!((&*death.reason, death.deliveries, death.times), ("enough", 3, 1));
    assert!((before..=SystemTime::now()).contains(&death.at), "{death:?}");
    assert_eq!((letter.earlier, letter.redelivered), (0, false), "it is counted anew");
}

async fn a_message_that_is_moved_has_its_history_with_it(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["suspect"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    next(&mut deliveries).await.acker.nack().await.unwrap();
    let suspects = queue.spec().suspects().unwrap();
    next(&mut deliveries).await.acker.move_to(&suspects, "it came back").await.unwrap();
    assert!(stays_silent(&mut deliveries).await);

    let suspect = next(&mut connection.handle(&suspects).consumer(1).await.unwrap()).await;
    assert_eq!((&suspect.payload[..], suspect.earlier), (&b"suspect"[..], 0));
    assert!(suspect.dead_letter().is_none());
    suspect.acker.dead_letter("it is guilty").await.unwrap();
    let dead = suspects.dead_letters().unwrap();
    assert_eq!(Some(&dead), queue.spec().dead_letters().as_ref());
    let letter = next(&mut connection.handle(&dead).consumer(1).await.unwrap()).await;
    let moves: Vec<_> = letter.moves.iter().map(|one| (&*one.from, &*one.reason, one.deliveries)).collect();
    assert_eq!(moves, [(&*queue.spec().name, "it came back", 2), (&*suspects.name, "it is guilty", 1)]);
    assert_eq!(letter.dead_letter(), letter.moves.last());
}

async fn a_message_for_later_comes_again_after_the_delay(world: World) {
    let (_connection, queue) = world.declare(Tasks).await;
    let later = queue.spec().later().unwrap();
    publish(&queue, &["early"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    let started = Instant::now();
    for round in 0..2 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.moves.iter().map(|one| one.times).sum::<u32>(), round);
        delivery.acker.move_to(&later, "not yet").await.unwrap();
        assert!(stays_silent(&mut deliveries).await);
    }
    let delivery = next(&mut deliveries).await;
    assert!(started.elapsed() >= 2 * DELAY, "{:?}", started.elapsed());
    assert_eq!((&delivery.payload[..], delivery.earlier, delivery.redelivered), (&b"early"[..], 0, false));
    let [moved] = &delivery.moves[..] else { panic!("{:?}", delivery.moves) };
    assert_eq!((&moved.to, &*moved.reason, moved.deliveries, moved.times), (&later.name, "not yet", 1, 2));
    delivery.acker.ack().await.unwrap();
    assert!(stays_silent(&mut deliveries).await);
}

async fn a_message_is_taken_without_receiving_others(world: World) {
    for kind in [Tasks, Lease] {
        let (connection, queue) = world.declare(kind).await;
        assert!(queue.take().await.unwrap().is_none());
        // What was given back on one channel is there a moment later on another one.
        let taken = || {
            soon(async {
                loop {
                    if let Some(delivery) = queue.take().await.unwrap() {
                        return delivery;
                    }
                }
            })
        };
        publish(&queue, &["a", "b"]).await;
        let (first, second) = (taken().await, taken().await);
        assert_eq!([&first.payload[..], &second.payload[..]], [b"a", b"b"]);
        assert!(queue.take().await.unwrap().is_none());
        second.acker.ack().await.unwrap();
        first.acker.nack().await.unwrap();
        let again = taken().await;
        assert_eq!((&again.payload[..], again.earlier), (&b"a"[..], 1));
        drop(again);
        let again = taken().await;
        assert!(again.redelivered, "dropping it gave it back");
        again.acker.ack().await.unwrap();
        let missing = QueueSpec::new(format!("missing-{}", queue.spec().name), kind);
        let error = connection.handle(&missing).take().await.unwrap_err();
        assert!(matches!(&error, QueueError::NoSuchQueue(name) if *name == missing.name), "{error}");
    }
}

async fn a_dead_letter_queue_has_no_dead_letters_itself(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    let dead = connection.declare(&queue.spec().dead_letters().unwrap()).await.unwrap();
    publish(&dead, &["a"]).await;
    let mut letters = dead.consumer(1).await.unwrap();
    next(&mut letters).await.acker.dead_letter("hopeless").await.unwrap();
    assert!(stays_silent(&mut letters).await);
}

async fn what_comes_back_too_often_is_dead_lettered(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["poison"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    for _ in 0..=DELIVERY_LIMIT {
        next(&mut deliveries).await.acker.nack().await.unwrap();
    }
    let dead = queue.spec().dead_letters().unwrap();
    let letter = next(&mut connection.handle(&dead).consumer(1).await.unwrap()).await;
    assert_eq!(letter.payload, "poison");
    let death = letter.dead_letter().unwrap();
    assert_eq!((&*death.reason, death.deliveries), ("delivery_limit", DELIVERY_LIMIT + 1));
    assert_eq!((&death.from, &death.to), (&queue.spec().name, &dead.name));
    assert!(death.at.elapsed().unwrap() < Duration::from_secs(60), "{death:?}");
    assert!(stays_silent(&mut deliveries).await);
}

async fn a_lease_forgets_what_cannot_be_processed(world: World) {
    let (_connection, queue) = world.declare(Lease).await;
    publish(&queue, &["garbage", "result"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    next(&mut deliveries).await.acker.dead_letter("no result").await.unwrap();
    assert_eq!(next(&mut deliveries).await.payload, "result");
}

async fn a_lease_goes_with_the_connection_that_declared_it(world: World) {
    let (owner, queue) = world.declare(Lease).await;
    let writer = world.connect().await.handle(queue.spec()).publisher().await.unwrap();
    writer.publish("a".into()).await.unwrap();
    owner.close().await.unwrap();
    let error = soon(writer.publish("b".into())).await.unwrap_err();
    assert!(matches!(&error, QueueError::NoSuchQueue(name) if *name == queue.spec().name), "{error}");
}

async fn a_broadcast_reaches_every_receiver_that_is_there(world: World) {
    let (_first, queue) = world.declare(Broadcast).await;
    let (_second, same_queue) = world.declare(Broadcast).await;
    publish(&queue, &["nobody hears it"]).await;
    let mut receivers =
        [queue.consumer(1).await.unwrap(), queue.consumer(1).await.unwrap(), same_queue.consumer(1).await.unwrap()];
    publish(&queue, &["a", "b"]).await;
    for receiver in &mut receivers {
        let first = next(receiver).await;
        assert_eq!(first.payload, "a");
        first.acker.ack().await.unwrap();
        let second = next(receiver).await;
        assert_eq!(second.payload, "b");
        second.acker.nack().await.unwrap();
        // It goes back to this receiver alone.
        assert!(next(receiver).await.redelivered);
    }
}

async fn a_log_is_replayed_from_the_start_and_followed(world: World) {
    let (_first, log) = world.declare(Log).await;
    let (_second, same_log) = world.declare(Log).await;
    publish(&log, &["a", "b"]).await;
    let mut readers = [log.consumer(10).await.unwrap(), same_log.consumer(10).await.unwrap()];
    for reader in &mut readers {
        for (offset, text) in [(0, "a"), (1, "b")] {
            let record = next(reader).await;
            assert_eq!((record.offset, &record.payload[..]), (Some(offset), text.as_bytes()));
        }
    }
    publish(&log, &["c"]).await;
    for reader in &mut readers {
        let record = next(reader).await;
        assert_eq!((record.offset, &record.payload[..]), (Some(2), &b"c"[..]));
    }
}

async fn a_log_needs_no_acknowledgements(world: World) {
    let (_connection, log) = world.declare(Log).await;
    publish(&log, &["a", "b", "c", "d"]).await;
    let mut reader = log.consumer(1).await.unwrap();
    next(&mut reader).await.acker.nack().await.unwrap();
    next(&mut reader).await.acker.dead_letter("whatever").await.unwrap();
    let third = next(&mut reader).await;
    assert_eq!(next(&mut reader).await.offset, Some(3));
    third.acker.ack().await.unwrap();
    assert!(stays_silent(&mut reader).await);
}

async fn dropping_the_stream_of_a_log_disturbs_nobody(world: World) {
    let (connection, log) = world.declare(Log).await;
    publish(&log, &["a", "b", "c", "d"]).await;
    let tasks = connection.declare(&world.spec(Tasks)).await.unwrap();
    publish(&tasks, &["task"]).await;
    let held = next(&mut tasks.consumer(1).await.unwrap()).await;
    for _ in 0..10 {
        let mut reader = log.consumer(1).await.unwrap();
        assert_eq!(next(&mut reader).await.offset, Some(0));
        drop(reader);
        assert_eq!(log.status().await.unwrap().messages, 4);
    }
    held.acker.ack().await.unwrap();
}

async fn status_counts_messages_and_receivers(world: World) {
    for kind in [Tasks, Lease] {
        let (_connection, queue) = world.declare(kind).await;
        assert_eq!(queue.status().await.unwrap(), QueueStatus::default());
        publish(&queue, &["a", "b", "c"]).await;
        assert_eq!(queue.status().await.unwrap(), QueueStatus { messages: 3, consumers: 0 });
        let mut deliveries = queue.consumer(1).await.unwrap();
        let _held = next(&mut deliveries).await;
        assert_eq!(queue.status().await.unwrap(), QueueStatus { messages: 2, consumers: 1 });
    }
    let (_connection, broadcast) = world.declare(Broadcast).await;
    let _receiver = broadcast.consumer(1).await.unwrap();
    assert_eq!(broadcast.status().await.unwrap(), QueueStatus::default());
}

async fn status_of_a_log_counts_its_records(world: World) {
    let (_connection, log) = world.declare(Log).await;
    assert_eq!(log.status().await.unwrap().messages, 0);
    let publisher = log.publisher().await.unwrap();
    for n in 1..=20 {
        publisher.publish(vec![0; 1000].into()).await.unwrap();
        assert_eq!(log.status().await.unwrap().messages, n, "at once after the confirm");
    }
    let mut reader = log.consumer(10).await.unwrap();
    next(&mut reader).await;
    assert_eq!(log.status().await.unwrap().messages, 20, "reading takes nothing away");
}

async fn closing_ends_everything(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    let publisher = queue.publisher().await.unwrap();
    publish(&queue, &["a", "b"]).await;
    let mut deliveries = queue.consumer(1).await.unwrap();
    let _held = next(&mut deliveries).await;
    let waiting = tokio::spawn(async move { deliveries.next().await.is_none() });
    connection.close().await.unwrap();
    assert!(soon(waiting).await.unwrap(), "the stream ends");
    connection.close().await.unwrap();

    assert!(matches!(publisher.publish("c".into()).await, Err(QueueError::Closed)));
    assert!(matches!(queue.publisher().await, Err(QueueError::Closed)));
    assert!(matches!(queue.consumer(1).await.err(), Some(QueueError::Closed)));
    assert!(matches!(queue.status().await, Err(QueueError::Closed)));
    assert!(matches!(connection.declare(queue.spec()).await, Err(QueueError::Closed)));
    assert!(matches!(connection.delete(queue.spec()).await, Err(QueueError::Closed)));
}

async fn deleting_ends_the_streams(world: World) {
    for kind in [Tasks, Lease, Log] {
        let (connection, queue) = world.declare(kind).await;
        let mut deliveries = queue.consumer(1).await.unwrap();
        connection.delete(queue.spec()).await.unwrap();
        assert!(soon(deliveries.next()).await.is_none(), "{kind:?}");
        connection.delete(queue.spec()).await.unwrap();
    }
}

async fn a_queue_that_does_not_exist_is_an_error(world: World) {
    let connection = world.connect().await;
    for kind in [Tasks, Lease, Broadcast, Log] {
        let spec = QueueSpec::new(format!("missing-{}", world.spec(kind).name), kind);
        let queue = connection.handle(&spec);
        let publisher = queue.publisher().await.unwrap();
        let errors = [
            soon(publisher.publish("a".into())).await.unwrap_err(),
            soon(queue.consumer(1)).await.err().unwrap(),
            soon(queue.status()).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, QueueError::NoSuchQueue(name) if *name == spec.name), "{kind:?}: {error}");
        }
        // The publisher works as soon as the queue is there.
        connection.declare(&spec).await.unwrap();
        soon(publisher.publish("a".into())).await.unwrap();
    }
}

async fn messages_to_a_missing_queue_fail_alone(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    let here = queue.publisher().await.unwrap();
    let missing = QueueSpec::new(format!("missing-{}", queue.spec().name), Lease);
    let nowhere = connection.handle(&missing).publisher().await.unwrap();
    let published = join_all((0..500).map(|n| {
        let publisher = if n % 3 == 0 { nowhere.clone() } else { here.clone() };
        async move { (n, publisher.publish(Bytes::from_static(b"x")).await) }
    }));
    for (n, outcome) in soon(published).await {
        match outcome {
            Ok(()) => assert_ne!(n % 3, 0),
            Err(QueueError::NoSuchQueue(name)) => assert_eq!((n % 3, &name), (0, &missing.name)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(queue.status().await.unwrap().messages, 333);
}

async fn declaring_twice_is_harmless_and_as_another_kind_refused(world: World) {
    let (connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["a"]).await;
    let again = connection.declare(queue.spec()).await.unwrap();
    assert_eq!(again.status().await.unwrap().messages, 1);

    let other = QueueSpec { kind: Log, ..queue.spec().clone() };
    let error = connection.declare(&other).await.unwrap_err();
    assert!(matches!(error, QueueError::Broker { .. }), "{error}");
    assert!(error.to_string().contains(&other.name), "{error}");
}

async fn processes_that_start_at_once_all_get_their_queues(world: World) {
    // A broker may say that a queue exists before it can be read.
    let connections = join_all((0..4).map(|_| world.connect())).await;
    for round in 0..8 {
        for kind in [Tasks, Log, Broadcast] {
            let spec = QueueSpec::new(format!("{}-{round}", world.spec(kind).name), kind);
            let readers = connections.iter().map(async |connection| {
                let queue = connection.declare(&spec).await?;
                queue.status().await?;
                queue.consumer(1).await
            });
            for reader in soon(join_all(readers)).await {
                reader.map(drop).unwrap();
            }
        }
    }
}

async fn a_message_over_the_limit_is_refused(world: World) {
    let (_connection, queue) = world.declare(Tasks).await;
    let publisher = queue.publisher().await.unwrap();
    let size = 129 << 20;
    let error = publisher.publish(vec![0; size].into()).await.unwrap_err();
    assert!(matches!(error, QueueError::TooLarge { size: s, limit: MAX_MESSAGE } if s == size), "{error}");
    publish(&queue, &["the publisher goes on"]).await;
}

async fn messages_of_any_size_arrive_unchanged(world: World) {
    let (_connection, queue) = world.declare(Tasks).await;
    let publisher = queue.publisher().await.unwrap();
    let mut deliveries = queue.consumer(1).await.unwrap();
    for size in [0, 1, 131_064, 131_065, 5 << 20] {
        let message: Bytes = (0..size).map(|n| (n % 251) as u8).collect();
        soon(publisher.publish(message.clone())).await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert!(delivery.payload == message, "{size} bytes");
        delivery.acker.ack().await.unwrap();
    }
}

async fn thousands_published_at_once_all_arrive(world: World) {
    const COUNT: u32 = 5000;
    let (_connection, queue) = world.declare(Tasks).await;
    let publisher = queue.publisher().await.unwrap();
    let publishing = tokio::spawn(join_all((0..COUNT).map(move |n| {
        let publisher = Arc::clone(&publisher);
        async move { publisher.publish(n.to_le_bytes().to_vec().into()).await }
    })));
    let mut deliveries = queue.consumer(256).await.unwrap();
    let mut missing: HashSet<_> = (0..COUNT).collect();
    while !missing.is_empty() {
        let delivery = next(&mut deliveries).await;
        let n = u32::from_le_bytes(delivery.payload[..].try_into().unwrap());
        assert!(missing.remove(&n), "{n} came twice");
        delivery.acker.ack().await.unwrap();
    }
    assert!(soon(publishing).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(queue.status().await.unwrap().messages, 0);
}

async fn transient_messages_arrive(world: World) {
    let connection = world.connect_with(Durability::Transient).await;
    for kind in [Tasks, Lease, Log] {
        let queue = connection.declare(&world.spec(kind)).await.unwrap();
        let mut deliveries = queue.consumer(1).await.unwrap();
        publish(&queue, &["a"]).await;
        assert_eq!(next(&mut deliveries).await.payload, "a");
    }
}
