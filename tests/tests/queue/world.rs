//! Where a test of queues takes place.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use palfrey_host::queue::{
    Connection, Delivery, Durability, QueueHandle, QueueKind, QueueSpec,
    amqp::{Amqp, AmqpOptions},
    in_memory::InMemory,
};
use uuid::Uuid;

/// A broker, and names on it that nobody else uses.
pub(crate) struct World {
    broker: Broker,
    prefix: Uuid,
}

enum Broker {
    InMemory(InMemory),
    Amqp(String),
}

impl World {
    pub(crate) fn in_memory() -> Self {
        Self { broker: Broker::InMemory(InMemory::new()), prefix: Uuid::new_v4() }
    }

    /// On the broker that the tests share.
    pub(crate) fn amqp() -> Self {
        // It may start a node, which blocks: other tests on this thread have to wait for it anyway.
        Self::amqp_at(palfrey_rabbitmq::shared_uri().unwrap())
    }

    pub(crate) fn amqp_at(uri: String) -> Self {
        // Shown where a test fails.
        let filter = tracing_subscriber::EnvFilter::new("info,palfrey_host=debug");
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init().ok();
        Self { broker: Broker::Amqp(uri), prefix: Uuid::new_v4() }
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Arc<dyn Connection> {
        self.connect_with(Durability::Confirmed).await
    }

    pub(crate) async fn connect_with(&self, durability: Durability) -> Arc<dyn Connection> {
        match &self.broker {
            Broker::InMemory(first) => Arc::new(first.another_connection()),
            Broker::Amqp(uri) => {
                let options = AmqpOptions { durability, name: "test".into(), ..AmqpOptions::default() };
                Arc::new(Amqp::connect(uri, options).await.unwrap())
            }
        }
    }

    pub(crate) fn spec(&self, kind: QueueKind) -> QueueSpec {
        QueueSpec::new(format!("{:?}-{}", kind, self.prefix).to_lowercase(), kind)
    }

    /// A queue and a connection to it. Each call gives another connection to the same queue.
    pub(crate) async fn declare(&self, kind: QueueKind) -> (Arc<dyn Connection>, Arc<dyn QueueHandle>) {
        let connection = self.connect().await;
        let queue = connection.declare(&self.spec(kind)).await.unwrap();
        (connection, queue)
    }
}

/// Fails instead of waiting for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("within two minutes")
}

/// The next delivery.
pub(crate) async fn next(deliveries: &mut BoxStream<'static, Delivery>) -> Delivery {
    soon(deliveries.next()).await.expect("the stream goes on")
}

/// Whether nothing comes. To wait for what must not happen takes time; what comes at all comes within milliseconds.
pub(crate) async fn stays_silent(deliveries: &mut BoxStream<'static, Delivery>) -> bool {
    tokio::time::timeout(Duration::from_millis(200), deliveries.next()).await.is_err()
}

/// Publishes texts, one after the other.
pub(crate) async fn publish(queue: &Arc<dyn QueueHandle>, texts: &[&'static str]) {
    let publisher = queue.publisher().await.unwrap();
    for text in texts {
        soon(publisher.publish((*text).into())).await.unwrap();
    }
}
