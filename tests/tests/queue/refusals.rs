//! What keeps a program from a broker, and what it is told then.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use palfrey_host::queue::{
    Connection, QueueError, QueueKind, QueueSpec,
    amqp::{Amqp, AmqpOptions},
};

use crate::world::soon;

async fn refusal(uri: &str) -> QueueError {
    soon(Amqp::connect(uri, AmqpOptions::default())).await.unwrap_err()
}

/// The URI of the shared broker with one part replaced.
fn altered(from: &str, to: &str) -> String {
    let uri = palfrey_rabbitmq::shared_uri().unwrap();
    assert!(uri.contains(from), "{from} is in {uri}");
    uri.replace(from, to)
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    let uri = palfrey_rabbitmq::shared_uri().unwrap();
    let (user, _) = uri["amqp://".len()..].split_once(':').unwrap();
    let (_, address) = uri.split_once('@').unwrap();
    let error = refusal(&format!("amqp://{user}:hunter2@{address}")).await;
    assert!(matches!(error, QueueError::AccessRefused { .. }), "{error}");
    assert!(error.to_string().contains(&format!("refused user `{user}`: check the name and the password")), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_missing_vhost_is_named() {
    let error = refusal(&altered("/%2f", "/nowhere")).await;
    assert!(matches!(&error, QueueError::NoSuchVhost { vhost, .. } if vhost == "nowhere"), "{error}");
    assert!(error.to_string().contains("has no virtual host `nowhere`"), "{error}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = refusal(&format!("amqp://me:hunter2@127.0.0.1:{port}/%2f")).await;
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot reach the broker at 127.0.0.1:{port}")), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_program_that_is_no_broker_is_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // It hangs up on whoever calls.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let error = refusal(&format!("amqp://127.0.0.1:{port}")).await;
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_shows_no_password() {
    let uri = palfrey_rabbitmq::shared_uri().unwrap();
    let (credentials, _) = uri["amqp://".len()..].split_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let amqp = Amqp::connect(&uri, AmqpOptions::default()).await.unwrap();
    let shown = format!("{amqp:?}");
    // Where both are the same, as on a node of our own, the name does not give the password away.
    assert!(!shown.contains(&format!("{user}:{password}")), "{shown}");
    assert!(user == password || !shown.contains(password), "{shown}");
}

/// The broker answers by closing the channel. A connection has 2,047 of them, and the client library loses count of some.
#[tokio::test(flavor = "multi_thread")]
async fn asking_for_queues_that_do_not_exist_uses_up_no_channels() {
    let vhost = palfrey_rabbitmq::shared_vhost().unwrap();
    let uri = vhost.uri().to_owned();
    let connection: Arc<dyn Connection> = Arc::new(soon(Amqp::connect(&uri, AmqpOptions::default())).await.unwrap());
    let ask = async |connection: Arc<dyn Connection>, number: usize| {
        let events = QueueSpec::new(format!("events-{}", number % 3), QueueKind::Broadcast);
        let missing = connection.handle(&QueueSpec::new(format!("missing-{number}"), QueueKind::Lease));
        let refused = soon(missing.publisher().await.unwrap().publish("result".into())).await;
        assert!(matches!(refused, Err(QueueError::NoSuchQueue(_))), "{number}: {refused:?}");
        let events = soon(connection.declare(&events)).await.unwrap();
        soon(events.publisher().await.unwrap().publish("gone".into())).await.unwrap();
    };
    let askers = (0..4).map(|asker| {
        let connection = connection.clone();
        tokio::spawn(async move {
            for number in (asker..2_200).step_by(4) {
                ask(connection.clone(), number).await;
            }
        })
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await.unwrap();
    }
}

/// A receiver whose queue is deleted looks whether it is still there. The broker answers by closing the channel, while
/// whoever drops the receiver does so as well.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_are_dropped_when_their_queues_are_deleted_cost_no_connection() {
    let vhost = palfrey_rabbitmq::shared_vhost().unwrap();
    let uri = vhost.uri().to_owned();
    let connection = soon(Amqp::connect(&uri, AmqpOptions::default())).await.unwrap();
    let queue = soon(connection.declare(&QueueSpec::new("tasks", QueueKind::Tasks))).await.unwrap();
    soon(queue.publisher().await.unwrap().publish("held".into())).await.unwrap();
    // It goes stale with the connection on which it came.
    let held = soon(soon(queue.consumer(1)).await.unwrap().next()).await.unwrap();
    for number in 0..200_u32 {
        let lease = QueueSpec::new(format!("lease-{number}"), QueueKind::Lease);
        let receiver = soon(soon(connection.declare(&lease)).await.unwrap().consumer(10)).await.unwrap();
        soon(connection.delete(&lease)).await.unwrap();
        // Each time a little later.
        let moment = Instant::now() + number % 100 * Duration::from_micros(40);
        while Instant::now() < moment {
            tokio::task::yield_now().await;
        }
        drop(receiver);
    }
    assert!(!held.acker.is_stale());
    held.acker.ack().await.unwrap();
}
