//! One queue for the results of all jobs of a runtime: leasing a channel asks nothing of the broker.
//!
//! A job's name ends with that of the queue, which is where workers send its results; here they are told apart by the job
//! that they name. A result that cannot be read comes out as the failure of its task, so that its job ends instead of waiting
//! for it.

mod jobs;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, stream::BoxStream};
use jobs::Jobs;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    channel::{Channel, ChannelFactory, Receiver, Sender},
    queue::{Acker, Delivery, QueueError},
    task::{
        AnyTaskResult, Cause, ExecutionError, OperationId, RoutingKey, TaskOutcome, WorkerReport,
        wire::{Envelope, Message},
    },
    worker::WorkerIpc,
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

/// Results that are unacknowledged at a time. Each job bounds what it has in flight; a bound for all of them together would
/// let those that nobody reads stop the others.
const PREFETCH: u16 = u16::MAX;

/// The queue, and the jobs that are open.
#[derive(Debug)]
pub(super) struct Inbox {
    jobs: Arc<Jobs<Results>>,
    loss: Loss,
    channel: Channel<AnyTaskResult>,
    releases: TaskTracker,
    runtime: Handle,
    _sorting: AbortOnDropHandle<()>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let channel = self.channel.clone();
        let release = async move {
            if let Err(error) = channel.release().await {
                tracing::debug!(queue = channel.name(), %error, "a lease was not released; it will expire");
            }
        };
        self.releases.spawn_on(release, &self.runtime);
    }
}

/// A job that results can be sent to.
pub(super) struct OpenJob {
    pub(super) routing_key: RoutingKey,
    pub(super) results: Receiver<AnyTaskResult>,
    /// Why the results have ended, if they did.
    pub(super) loss: Loss,
}

/// The way to whoever reads the results of a job.
type Results = mpsc::UnboundedSender<Delivery>;

impl Inbox {
    /// Makes the queue, and begins to read it. `ipc` leads to the workers. Dropping it releases the queue, for which `releases` can
    /// be waited.
    pub(super) async fn make(
        channels: &ChannelFactory,
        ipc: &Sender<WorkerIpc>,
        releases: &TaskTracker,
    ) -> Result<Self, QueueError> {
        let channels = ChannelFactory::new(channels.connection().clone(), PREFETCH);
        let (_, channel) = channels.issue::<AnyTaskResult>().await?;
        let deliveries = channel.deliveries().await?;
        let loss = Loss::of(channel.name());
        let jobs = Arc::new(Jobs::new());
        let sorting = sort(deliveries, channel.clone(), jobs.clone(), loss.deleted.clone(), ipc.clone());
        let sorting = AbortOnDropHandle::new(tokio::spawn(sorting));
        let (releases, runtime) = (releases.clone(), Handle::current());
        Ok(Self { jobs, loss, channel, releases, runtime, _sorting: sorting })
    }

    /// Opens a job under a new name. `None` if the queue is gone.
    pub(super) fn open(&self) -> Option<OpenJob> {
        let routing_key = RoutingKey::answered_at(&self.loss.queue);
        #[expect(
            clippy::disallowed_methods,
            reason = "a job bounds what it has in flight, and one that nobody reads must not hold up the others"
        )]
        let (sender, results) = mpsc::unbounded_channel();
        if !self.jobs.open(routing_key.clone(), sender) {
            return None;
        }
        let results = UnboundedReceiverStream::new(results).filter_map(async |delivery| decoded(delivery)).boxed();
        Some(OpenJob { routing_key, results, loss: self.loss.clone() })
    }

    /// Nobody reads the results of this job any more.
    pub(super) fn close(&self, job: &RoutingKey) {
        self.jobs.close(job);
    }
}

/// Hands each result to its job, until the queue is gone or the connection closed.
async fn sort(
    mut deliveries: BoxStream<'static, Delivery>,
    channel: Channel<AnyTaskResult>,
    jobs: Arc<Jobs<Results>>,
    deleted: Arc<AtomicBool>,
    ipc: Sender<WorkerIpc>,
) {
    while let Some(delivery) = deliveries.next().await {
        let Some((Envelope { routing_key, .. }, is_inquiry)) = Envelope::open(&delivery.payload) else {
            tracing::warn!(size = delivery.payload.len(), "a message is no result; it is dropped");
            // If it fails it comes once more, and is dropped once more.
            _ = delivery.acker.ack().await;
            continue;
        };
        if is_inquiry && jobs.is_open(&routing_key) {
            _ = delivery.acker.ack().await;
            continue;
        }
        let send = |results: &Results, delivery| results.send(delivery).map_err(|unsent| unsent.0);
        if let Err(unwanted) = jobs.hand_over(&routing_key, delivery, send) {
            tracing::debug!(job = %routing_key, is_inquiry, "somebody still executes tasks of a job that is over");
            _ = unwanted.acker.ack().await;
            let ipc = ipc.clone();
            tokio::spawn(async move { stop(&routing_key, &ipc).await });
        }
    }
    // Tells a queue that is gone from a connection that was closed.
    if let Err(QueueError::NoSuchQueue(queue)) = channel.status().await {
        tracing::warn!(queue, "the queue of the jobs' results was deleted, or has expired while it could not be read");
        deleted.store(true, Ordering::Release);
    }
    jobs.end();
}

/// Tells the workers that nobody wants what they execute for a job.
pub(super) async fn stop(job: &RoutingKey, ipc: &Sender<WorkerIpc>) {
    if let Err(error) = ipc.publish(&WorkerIpc::Terminate { routing_key: job.clone() }).await {
        tracing::debug!(%job, %error, "could not tell the workers to stop a job");
    }
}

fn decoded(Delivery { payload, acker, .. }: Delivery) -> Option<(AnyTaskResult, Box<dyn Acker>)> {
    let error = match AnyTaskResult::decode(payload.clone()) {
        Ok(result) => return Some((result, acker)),
        Err(error) => error,
    };
    // The job was found by it.
    let Envelope { version, routing_key, id } = Envelope::read(&payload)?;
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
}
