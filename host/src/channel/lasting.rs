//! Sending to a queue that is shared, and that somebody may delete meanwhile.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::queue::{Connection, Publisher, QueueError, QueueHandle, QueueSpec};

/// The pauses while a queue is missing that cannot be made from here: a quarter of a minute in all.
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
            let missing = match self.publisher.publish(message.clone()).await {
                Err(missing @ QueueError::NoSuchQueue(_)) => missing,
                published => return published,
            };
            let Some(pause) = pauses.next() else { return Err(missing) };
            self.make_again(attempts, pause).await;
        }
    }
}
