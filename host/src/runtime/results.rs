//! The results of a job as they come, and what becomes of the stream when they cannot be read or its queue is gone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{Stream, StreamExt, stream};

use crate::{
    channel::{Channel, Receiver},
    queue::{Acker, Delivery, QueueError},
    task::{
        AnyTaskResult, Cause, ExecutionError, OperationId, TaskOutcome, WorkerReport,
        wire::{Envelope, Message},
    },
};

/// Why the stream of a job's results has ended before the job.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    queue: Arc<str>,
    deleted: Arc<AtomicBool>,
}

impl Loss {
    pub(super) fn of(queue: &str) -> Self {
        Self { queue: queue.into(), deleted: Arc::default() }
    }

    /// [`QueueError::NoSuchQueue`] if the queue was deleted or has expired, else [`QueueError::Closed`].
    pub(crate) fn error(&self) -> QueueError {
        if self.deleted.load(Ordering::Acquire) {
            QueueError::NoSuchQueue(self.queue.to_string())
        } else {
            QueueError::Closed
        }
    }
}

/// Receives results. One that cannot be read comes out as the failure of its task, so that its job ends instead of waiting
/// for it.
pub(crate) async fn receive(channel: &Channel<AnyTaskResult>) -> Result<(Receiver<AnyTaskResult>, Loss), QueueError> {
    let loss = Loss::of(channel.name());
    let deliveries = channel.deliveries().await?;
    let (channel, deleted) = (channel.clone(), loss.deleted.clone());
    // Asked at the end, when it tells a queue that is gone from a connection that was closed.
    let end = stream::once(async move {
        if let Err(QueueError::NoSuchQueue(queue)) = channel.status().await {
            tracing::warn!(
                queue,
                "the queue of a job's results was deleted, or has expired while it could not be read"
            );
            deleted.store(true, Ordering::Release);
        }
    });
    Ok((decoded(deliveries).chain(end.filter_map(|()| async { None })).boxed(), loss))
}

fn decoded(deliveries: impl Stream<Item = Delivery>) -> impl Stream<Item = (AnyTaskResult, Box<dyn Acker>)> {
    deliveries.filter_map(|Delivery { payload, acker, .. }| async move {
        let error = match AnyTaskResult::decode(payload.clone()) {
            Ok(result) => return Some((result, acker)),
            Err(error) => error,
        };
        let Some(Envelope { version, routing_key, id }) = Envelope::read(&payload) else {
            tracing::warn!(size = payload.len(), %error, "a message is no result; it is dropped");
            // If it fails it comes once more, and is dropped once more.
            _ = acker.ack().await;
            return None;
        };
        let cause = Cause::UnreadableResult { version };
        let failure = ExecutionError::new(OperationId::new("none", "none"), cause, error.to_string());
        let result = AnyTaskResult {
            routing_key,
            id,
            metadata: Default::default(),
            serializer: Default::default(),
            report: WorkerReport::default(),
            outcome: TaskOutcome::Failed(failure),
        };
        Some((result, acker))
    })
}
