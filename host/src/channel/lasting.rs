//! Sending to a queue that is shared, and that somebody may delete meanwhile.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::queue::{Connection, Publisher, QueueError, QueueHandle, QueueSpec};

/// The pauses while a queue is missing that cannot be made from here, or takes no messages: a quarter of a minute in all.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(2))
    .with_max_times(12);

/// Publishes to a queue, and makes it again when it is missing.
#[derive(Debug)]
pub(super) struct Lasting {
    connection: Arc<dyn Connection>,
    queue: QueueSpec,
    publisher: Arc<dyn Publisher>,
    /// How often that was tried. Locked meanwhile: all messages that found it missing wait for one attempt.
    attempts: Mutex<u64>,
}

impl Lasting {
    pub(super) async fn new(connection: Arc<dyn Connection>, queue: &dyn QueueHandle) -> Result<Self, QueueError> {
        let publisher = queue.publisher().await?;
        Ok(Self { connection, queue: queue.spec().clone(), publisher, attempts: Mutex::default() })
    }

    /// Makes the queue, unless somebody has tried since there were so many attempts.
    async fn make_again(&self, known: u64, pause: Duration) {
        let mut attempts = self.attempts.lock().await;
        if *attempts > known {
            return;
        }
        *attempts += 1;
        let queue = &self.queue.name;
        match self.connection.declare(&self.queue).await {
            Ok(_) => tracing::warn!(queue, "a queue was deleted; it is there again"),
            Err(error) => {
                // It is for others to make, as far as the broker lets anybody.
                tracing::debug!(queue, %error, "a queue was deleted, and could not be made again");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[async_trait]
impl Publisher for Lasting {
    async fn publish(&self, message: Bytes) -> Result<(), QueueError> {
        let mut pauses = PAUSES.build();
        loop {
            let attempts = *self.attempts.lock().await;
            let failed = match self.publisher.publish(message.clone()).await {
                Err(failed @ (QueueError::NoSuchQueue(_) | QueueError::Refused(_))) => failed,
                published => return published,
            };
            let Some(pause) = pauses.next() else { return Err(failed) };
            if let QueueError::NoSuchQueue(_) = failed {
                self.make_again(attempts, pause).await;
            } else {
                // RabbitMQ refuses what comes while a quorum queue that somebody has just made has no leader yet, and does
                // not tell when it has one.
                tracing::debug!(queue = self.queue.name, "a message was refused; sending it again");
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn renew(&self) {
        self.publisher.renew();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::queue::{QueueKind, in_memory::InMemory};

    /// Refuses so many messages.
    #[derive(Debug)]
    struct Refusing(AtomicU32);

    #[async_trait]
    impl Publisher for Refusing {
        async fn publish(&self, _message: Bytes) -> Result<(), QueueError> {
            let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map_or(Ok(()), |_| Err(QueueError::Refused("tasks".into())))
        }
    }

    async fn publish(refusals: u32) -> Result<(), QueueError> {
        let lasting = Lasting {
            connection: Arc::new(InMemory::default()),
            queue: QueueSpec::new("tasks", QueueKind::Tasks),
            publisher: Arc::new(Refusing(refusals.into())),
            attempts: Mutex::default(),
        };
        lasting.publish(Bytes::new()).await
    }

    #[tokio::test]
    async fn a_message_that_is_refused_is_sent_again() {
        publish(3).await.unwrap();
    }
}
