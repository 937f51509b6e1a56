//! What happens when the broker, the connection or a channel goes away.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, future::ready, stream};
use palfrey_host::queue::{
    LEASE_EXPIRY, QueueError,
    QueueKind::{Broadcast, Lease, Log, Tasks},
};
use palfrey_rabbitmq::{Node, NodeOptions, Resource};

use crate::world::{World, next, publish, soon};

async fn blocking<T: Send + 'static>(node: &Arc<Node>, work: impl FnOnce(&Node) -> T + Send + 'static) -> T {
    let node = node.clone();
    tokio::task::spawn_blocking(move || work(&node)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_after_the_broker_was_killed() -> Result<()> {
    const COUNT: u32 = 3000;
    let node = Arc::new(Node::start()?);
    let world = World::amqp_at(node.uri());
    let (_connection, tasks) = world.declare(Tasks).await;
    let (_connection, lease) = world.declare(Lease).await;
    let (_connection, broadcast) = world.declare(Broadcast).await;
    let (_connection, log) = world.declare(Log).await;
    blocking(&node, Node::sync).await?;
    let mut hearing = broadcast.consumer(1).await?;
    let mut reading = log.consumer(10).await?;
    let mut results = lease.consumer(1).await?;

    // A delivery that is held over the crash comes again, and can no more be settled.
    publish(&lease, &["held"]).await;
    let held = next(&mut results).await;

    let mut receiving = tasks.consumer(64).await?;
    let (task_out, log_out) = (tasks.publisher().await?, log.publisher().await?);
    let publishing = tokio::spawn(async move {
        let both = |n: u32| {
            let (task_out, log_out) = (task_out.clone(), log_out.clone());
            async move {
                let message = n.to_le_bytes().to_vec();
                task_out.publish(message.clone().into()).await?;
                log_out.publish(message.into()).await
            }
        };
        stream::iter((0..COUNT).map(both)).buffer_unordered(64).try_collect::<()>().await
    });
    let mut missing: HashSet<u32> = (0..COUNT).collect();
    let mut crash = None;
    while !missing.is_empty() {
        let delivery = next(&mut receiving).await;
        missing.remove(&u32::from_le_bytes(delivery.payload[..].try_into()?));
        // It is stale if the broker was killed meanwhile, and the message comes again.
        match delivery.acker.ack().await {
            Ok(()) | Err(QueueError::Stale) => {}
            Err(error) => return Err(error.into()),
        }
        if missing.len() < COUNT as usize / 2 && crash.is_none() {
            crash = Some(tokio::spawn({
                let node = node.clone();
                async move { blocking(&node, |node| node.kill().and_then(|()| node.restart())).await }
            }));
        }
    }
    crash.expect("half of the tasks had come").await??;
    soon(publishing).await??;

    // The log has every record once or, where the confirm was lost, twice; each offset comes once, in order.
    let records = log.status().await?.messages;
    let mut missing: HashSet<u32> = (0..COUNT).collect();
    for offset in 0..records {
        let record = next(&mut reading).await;
        assert_eq!(record.offset, Some(offset));
        missing.remove(&u32::from_le_bytes(record.payload[..].try_into()?));
    }
    assert_eq!(missing, HashSet::new());

    assert!(matches!(held.acker.ack().await, Err(QueueError::Stale)));
    let again = next(&mut results).await;
    assert_eq!(again.payload, "held");
    assert!(again.redelivered);
    again.acker.ack().await?;

    // A receiver of a broadcast is there again some time after the connection: until then it misses messages.
    let speaker = broadcast.publisher().await?;
    let heard = async {
        loop {
            speaker.publish("hello".into()).await?;
            if let Ok(Some(heard)) = tokio::time::timeout(Duration::from_millis(50), hearing.next()).await {
                return anyhow::Ok(heard.payload);
            }
        }
    };
    assert_eq!(soon(heard).await?, "hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_while_the_broker_was_down_arrives_and_closing_does_not_wait_for_it() -> Result<()> {
    let node = Arc::new(Node::start()?);
    let world = World::amqp_at(node.uri());
    let (_connection, queue) = world.declare(Tasks).await;
    let (other, lease) = world.declare(Lease).await;
    let publisher = queue.publisher().await?;
    let lost = lease.publisher().await?;
    blocking(&node, Node::stop).await?;

    let publishing = tokio::spawn(async move { publisher.publish("a".into()).await });
    let lost = tokio::spawn(async move { lost.publish("b".into()).await });
    soon(other.close()).await?;
    assert!(matches!(soon(lost).await?, Err(QueueError::Closed)));

    blocking(&node, Node::restart).await?;
    soon(publishing).await??;
    let delivery = next(&mut queue.consumer(1).await?).await;
    assert_eq!(delivery.payload, "a");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_held_longer_than_the_broker_allows_comes_again() -> Result<()> {
    let options = NodeOptions::new().configuration("consumer_timeout = 1000").advanced("{channel_tick_interval, 1000}");
    let node = Arc::new(options.start()?);
    let world = World::amqp_at(node.uri());
    let (_connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["slow", "next"]).await;
    let mut deliveries = queue.consumer(1).await?;
    let slow = next(&mut deliveries).await;
    assert!(!slow.redelivered);
    let again = next(&mut deliveries).await;
    assert_eq!(again.payload, "slow");
    assert!(again.redelivered);
    assert!(matches!(slow.acker.ack().await, Err(QueueError::Stale)));
    again.acker.ack().await?;
    assert_eq!(next(&mut deliveries).await.payload, "next");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_somebody_deleted_is_made_again_by_its_receivers() -> Result<()> {
    let world = World::amqp();
    let (connection, broadcast) = world.declare(Broadcast).await;
    let mut hearing = broadcast.consumer(1).await?;
    connection.delete(broadcast.spec()).await?;
    let speaker = broadcast.publisher().await?;
    assert!(matches!(soon(speaker.publish("lost".into())).await, Err(QueueError::NoSuchQueue(_))));
    let heard = async {
        loop {
            speaker.publish("hello".into()).await.ok();
            if let Ok(Some(heard)) = tokio::time::timeout(Duration::from_millis(200), hearing.next()).await {
                return heard.payload;
            }
        }
    };
    assert_eq!(soon(heard).await, "hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_wait_and_receivers_go_on_while_the_broker_is_short_of_memory_or_disk() -> Result<()> {
    let node = Arc::new(Node::start()?);
    let world = World::amqp_at(node.uri());
    let (_connection, queue) = world.declare(Tasks).await;
    publish(&queue, &["a"]).await;
    let mut deliveries = queue.consumer(1).await?;
    for resource in [Resource::Memory, Resource::Disk] {
        blocking(&node, move |node| node.raise_alarm(resource)).await?;
        let publisher = queue.publisher().await?;
        let mut publishing = tokio::spawn(async move { publisher.publish("a".into()).await });
        assert!(tokio::time::timeout(Duration::from_millis(500), &mut publishing).await.is_err());
        next(&mut deliveries).await.acker.ack().await?;
        // The acknowledgement gets through.
        let acknowledged = async {
            while queue.status().await?.messages > 0 {}
            Ok::<_, QueueError>(())
        };
        soon(acknowledged).await?;
        blocking(&node, move |node| node.clear_alarm(resource)).await?;
        soon(publishing).await??;
    }
    assert_eq!(next(&mut deliveries).await.payload, "a");
    Ok(())
}

/// What the broker does by itself when a quorum queue is deleted and made again within a moment: the process of a channel learns late of
/// the end of the old one, and forgets the new one. This does it to the channels with so many subscriptions. What is acknowledged then
/// does not reach the queue, which hands over no more; and what is published is counted from one again.
fn forget_the_queues(uri: &str, subscriptions: usize) -> Result<()> {
    let (_, vhost) = uri.rsplit_once('/').expect("it names a virtual host");
    let forget = format!(
        "Forget = fun Forget(State) when is_tuple(State), tuple_size(State) > 1 -> \
             case element(1, State) of \
                 rabbit_queue_type -> rabbit_queue_type:init(); \
                 Name when Name =:= gs2_state; Name =:= ch -> list_to_tuple([Forget(X) || X <- tuple_to_list(State)]); \
                 _ -> State \
             end; \
         Forget(Other) -> Other end, \
         [sys:replace_state(Channel, Forget) || Channel <- rabbit_channel:list(), \
             [{{vhost, <<\"{vhost}\">>}}, {{consumer_count, {subscriptions}}}] =:= (catch rabbit_channel:info(Channel, [vhost, consumer_count]))], \
         ok"
    );
    palfrey_rabbitmq::evaluate_at(uri, &forget)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_the_broker_has_forgotten_is_made_again() -> Result<()> {
    let vhost = palfrey_rabbitmq::shared_vhost()?;
    let uri = vhost.uri().to_owned();
    let (_connection, queue) = World::amqp_at(uri.clone()).declare(Tasks).await;
    let mut deliveries = queue.consumer(1).await?;
    publish(&queue, &["a"]).await;
    let held = next(&mut deliveries).await;
    forget_the_queues(&uri, 1)?;
    // Nothing waits, as if another receiver had taken it.
    held.acker.ack().await?;
    let again = next(&mut deliveries).await;
    assert_eq!(again.payload, "a");
    again.acker.ack().await?;

    // That was the one that makes sure. Whatever happens later shows in what waits.
    publish(&queue, &["b"]).await;
    let held = next(&mut deliveries).await;
    forget_the_queues(&uri, 1)?;
    held.acker.ack().await?;
    publish(&queue, &["c"]).await;
    // What the queue has not heard of comes again, before or after what waited behind it.
    let mut payloads = HashSet::new();
    for _ in 0..2 {
        let delivery = next(&mut deliveries).await;
        payloads.insert(delivery.payload);
        delivery.acker.ack().await?;
    }
    assert_eq!(payloads, HashSet::from(["b".into(), "c".into()]));
    Ok(())
}

/// The queue confirms and drops what it has counted before.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_the_broker_counts_anew_is_heard_again_after_it_is_renewed() -> Result<()> {
    let vhost = palfrey_rabbitmq::shared_vhost()?;
    let uri = vhost.uri().to_owned();
    let (_connection, queue) = World::amqp_at(uri.clone()).declare(Tasks).await;
    let publisher = queue.publisher().await?;
    for message in ["a", "b", "c"] {
        publisher.publish(message.into()).await?;
    }
    forget_the_queues(&uri, 0)?;
    publisher.publish("lost".into()).await?;
    publisher.renew();
    publisher.publish("again".into()).await?;
    let deliveries = queue.consumer(8).await?;
    let payloads: Vec<_> =
        soon(deliveries.map(|it| it.payload).filter(|it| ready(it != "lost")).take(4).collect()).await;
    assert_eq!(payloads, ["a", "b", "c", "again"]);
    Ok(())
}

/// The broker's channel goes on counting what it sends to the queue, and the new queue waits for what the old one had.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_queue_that_was_made_again_is_sent_again_when_nothing_confirms_it() -> Result<()> {
    let vhost = palfrey_rabbitmq::shared_vhost()?;
    let (connection, queue) = World::amqp_at(vhost.uri().to_owned()).declare(Tasks).await;
    let publisher = queue.publisher().await?;
    publisher.publish("a".into()).await?;
    connection.delete(queue.spec()).await?;
    let again = connection.declare(queue.spec()).await?;
    soon(publisher.publish("b".into())).await?;
    assert_eq!(next(&mut again.consumer(1).await?).await.payload, "b");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_declared_as_their_kinds_promise() -> Result<()> {
    let vhost = palfrey_rabbitmq::shared_vhost()?;
    let uri = vhost.uri().to_owned();
    let list = || {
        let (_, vhost) = uri.rsplit_once('/').expect("it names a virtual host");
        let expression = format!(
            "[io:format(\"~s\\t~p\\t~p\\t~0p~n\", [Name, Type, Durable, Arguments]) || \
             [{{name, {{resource, _, queue, Name}}}}, {{type, Type}}, {{durable, Durable}}, {{arguments, Arguments}}] <- \
             rabbit_amqqueue:info_all(<<\"{vhost}\">>, [name, type, durable, arguments])], ok"
        );
        palfrey_rabbitmq::evaluate_at(&uri, &expression)
    };
    let world = World::amqp_at(uri.clone());
    let mut connections = Vec::new();
    for kind in [Tasks, Lease, Broadcast, Log] {
        connections.push(world.declare(kind).await);
    }
    let _receiver = connections[2].1.consumer(1).await?;
    let queues = list()?;
    let line = |name: &str| {
        let line = queues.lines().find(|line| line.split('\t').next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} is in {queues}")).to_owned()
    };
    let tasks = line(&world.spec(Tasks).name);
    for promise in ["quorum\ttrue", "x-delivery-limit", "at-least-once", "reject-publish"] {
        assert!(tasks.contains(promise), "{promise}: {tasks}");
    }
    assert!(line(&world.spec(Tasks).dead_letters().unwrap().name).contains("quorum\ttrue"));
    let lease = line(&world.spec(Lease).name);
    assert!(lease.contains("classic\ttrue"), "{lease}");
    assert!(lease.contains("x-expires") && lease.contains(&LEASE_EXPIRY.as_millis().to_string()), "{lease}");
    assert!(line(&world.spec(Log).name).contains("stream\ttrue"));
    assert!(queues.lines().any(|line| line.starts_with("palfrey.broadcast.")), "{queues}");

    // Nothing of a process stays behind but what is to survive it.
    for (connection, _) in connections {
        connection.close().await?;
    }
    let queues = list()?;
    assert_eq!(queues.lines().count(), 6, "tasks with what goes with them (4), the log and its mark: {queues}");
    Ok(())
}
