//! A channel of tasks and the channel of their results, tied together.
//!
//! The two sides share a record of the tasks whose results have not been acknowledged: see `record`.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream::FusedStream};
use tokio::time::Instant;

use super::{Receiver, Sender, record::Shared};
use crate::{
    TIMES, micros,
    queue::{Acker, QueueError, QueueSpec},
    task::{AnyTask, AnyTaskResult, TaskId, WorkerReport, wire::Message as _},
};

/// Ties a sender of tasks to the receiver of their results.
///
/// The stream ends when the sender (with all its clones) was closed or dropped *and* every result was acknowledged. It
/// yields the first result of each task; later ones, which the broker delivers after a lost connection and a worker sends
/// when it executed a task twice, are acknowledged and dropped. The acker of a result is composed: it settles the
/// delivery and then the record.
///
/// `T` is what the sender wants to remember of a task until its result is there.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// # use std::sync::Arc;
/// use futures::StreamExt;
/// # use palfrey_host::queue::in_memory::InMemory;
/// # use palfrey_host::task::{Apply, Digest, Packed, Stage, TaskId, TaskOutcome, WorkerReport};
/// use palfrey_host::{
///     channel::{ChannelFactory, ChannelType, coordinated},
///     task::{AnyTask, AnyTaskResult},
/// };
///
/// # let channels = ChannelFactory::new(Arc::new(InMemory::new()), 16);
/// let bus = channels.get::<AnyTask>("bus", ChannelType::ExactlyOnce).await?;
/// let (routing_key, results) = channels.issue::<AnyTaskResult>().await?;
/// let (mut sender, mut results) = coordinated(bus.sender().await?, results.receiver().await?);
///
/// # let operation = palfrey_host::task::OperationId::new("arith", "fib-at");
/// # let stage = Stage { operation, digest: Digest::of(b""), config: Default::default(), apply: Apply::Map };
/// # let task = AnyTask {
/// #     routing_key, id: TaskId(0), metadata: Default::default(), serializer: Default::default(), attempt: 0,
/// #     stages: vec![stage], inputs: ["ten"].into_iter().collect(),
/// # };
/// sender.publish(task, "the first task").await?;
/// sender.close();
///
/// // Somebody executes it, twice even.
/// let (task, acker) = bus.receiver().await?.next().await.expect("it was sent");
/// # let result = AnyTaskResult {
/// #     routing_key: task.routing_key.clone(), id: task.id, metadata: task.metadata, serializer: task.serializer,
/// #     report: WorkerReport::default(),
/// #     outcome: TaskOutcome::Executed { outputs: ["fifty-five"].into_iter().collect::<Packed>(), failed: vec![] },
/// # };
/// let answer = channels.leased::<AnyTaskResult>(&task.routing_key).sender().await?;
/// answer.publish(&result).await?;
/// answer.publish(&result).await?;
/// acker.ack().await?;
///
/// let settled = results.next().await.expect("the first result counts");
/// assert_eq!(settled.sent.tag, "the first task");
/// settled.acker.ack().await?;
/// assert!(results.next().await.is_none(), "everything is acknowledged");
/// # Ok(())
/// # }
/// ```
pub fn coordinated<T: Send + Sync + 'static>(
    sender: Sender<AnyTask>,
    results: Receiver<AnyTaskResult>,
) -> (CoordinatedSender<T>, CoordinatedStream<T>) {
    let shared = Arc::new(Shared::new());
    let sender = CoordinatedSender { outlet: Outlet { sender, shared: shared.clone() }, open: true };
    (sender, CoordinatedStream { results, shared, ended: false })
}

/// A task as it was sent, with what its sender wanted to remember of it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use palfrey_host::channel::Sent;
///
/// /// The sender tags each task with the time.
/// fn under_way(sent: &Sent<Instant>) -> (u32, Duration) {
///     (sent.task.attempt, sent.tag.elapsed())
/// }
/// ```
#[derive(Debug)]
pub struct Sent<T> {
    /// The task.
    pub task: AnyTask,
    /// What the sender wanted to remember.
    pub tag: T,
}

/// Sends tasks and remembers them until their results are acknowledged.
///
/// ```
/// use palfrey_host::{channel::CoordinatedSender, queue::QueueError, task::AnyTask};
///
/// async fn send_all(mut sender: CoordinatedSender<usize>, tasks: Vec<AnyTask>) -> Result<(), QueueError> {
///     for (number, task) in tasks.into_iter().enumerate() {
///         sender.publish(task, number).await?;
///     }
///     println!("{} tasks have no result yet", sender.in_flight());
///     sender.close(); // The stream of results ends when all of them are acknowledged.
///     Ok(())
/// }
/// ```
pub struct CoordinatedSender<T> {
    outlet: Outlet<T>,
    open: bool,
}

impl<T: Send + Sync + 'static> CoordinatedSender<T> {
    /// Gives the task its number, records it, and sends it. The returned future waits for the broker's confirm; it can be
    /// awaited together with others. The task is recorded when this returns, not when the future is first polled.
    ///
    /// A task that could not be sent is not waited for.
    ///
    /// # Errors
    /// The future ends with [`QueueError::Closed`] if the sender was closed, and otherwise as
    /// [`Publisher::publish`](crate::queue::Publisher::publish).
    pub fn publish(&self, task: AnyTask, tag: T) -> impl Future<Output = Result<(), QueueError>> + Send + 'static {
        let sent = self.open.then(|| self.outlet.publish(task, tag));
        async move { sent.ok_or(QueueError::Closed)?.await }
    }

    /// Tasks that were sent and have no result yet.
    pub fn in_flight(&self) -> usize {
        self.outlet.in_flight()
    }

    /// The tasks that were sent and have no result yet.
    pub(crate) fn unanswered(&self) -> Vec<Arc<Sent<T>>> {
        self.outlet.shared.unanswered()
    }

    /// Sends a task a second time, under the same number: the first result counts. The other one is nobody's.
    pub(crate) fn publish_copy(&self, task: &AnyTask) -> impl Future<Output = Result<(), QueueError>> + Send + 'static {
        self.outlet.shared.copy();
        let (sender, message) = (self.outlet.sender.clone(), task.encode());
        async move { sender.publish_encoded(message).await }
    }

    /// Tasks that were sent are gone. See [`Publisher::renew`](crate::queue::Publisher::renew).
    pub(crate) fn renew(&self) {
        self.outlet.sender.renew();
    }

    /// No more tasks will be sent with this sender. Closing twice is harmless.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            self.outlet.shared.close();
        }
    }

    /// A way to send tasks again that does not keep the stream of results open.
    pub(crate) fn outlet(&self) -> Outlet<T> {
        self.outlet.clone()
    }
}

impl<T> Clone for CoordinatedSender<T> {
    fn clone(&self) -> Self {
        if self.open {
            self.outlet.shared.open();
        }
        Self { outlet: self.outlet.clone(), open: self.open }
    }
}

impl<T> Drop for CoordinatedSender<T> {
    fn drop(&mut self) {
        if self.open {
            self.outlet.shared.close();
        }
    }
}

impl<T> fmt::Debug for CoordinatedSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatedSender").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Sends recorded tasks, whoever is open. A task that is sent again while its result is unacknowledged keeps the stream
/// open by that.
pub(crate) struct Outlet<T> {
    sender: Sender<AnyTask>,
    shared: Arc<Shared<Sent<T>>>,
}

impl<T: Send + Sync + 'static> Outlet<T> {
    /// Tasks that were sent and have no result yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.shared.waiting()
    }

    /// See [`CoordinatedSender::publish`].
    pub(crate) fn publish(
        &self,
        mut task: AnyTask,
        tag: T,
    ) -> impl Future<Output = Result<(), QueueError>> + Send + 'static {
        let (id, message) = self.shared.send(|id| {
            task.id = id;
            let message = task.encode();
            (Sent { task, tag }, message)
        });
        let sender = self.sender.clone();
        let unsent = Unsent { shared: Some(self.shared.clone()), id };
        async move {
            sender.publish_encoded(message).await?;
            unsent.arrived();
            Ok(())
        }
    }
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), shared: self.shared.clone() }
    }
}

/// A task on its way. Unless it arrives its result is not waited for, also if nobody awaits the sending any more.
struct Unsent<T> {
    shared: Option<Arc<Shared<Sent<T>>>>,
    id: TaskId,
}

impl<T> Unsent<T> {
    fn arrived(mut self) {
        self.shared = None;
    }
}

impl<T> Drop for Unsent<T> {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.abandon(self.id);
        }
    }
}

/// The first result of each task.
///
/// ```
/// use futures::StreamExt;
/// use palfrey_host::{channel::CoordinatedStream, queue::QueueError};
///
/// async fn count(mut results: CoordinatedStream<()>) -> Result<usize, QueueError> {
///     let mut answered = 0;
///     while let Some(settled) = results.next().await {
///         answered += 1;
///         settled.acker.ack().await?;
///     }
///     Ok(answered)
/// }
/// ```
pub struct CoordinatedStream<T> {
    results: Receiver<AnyTaskResult>,
    shared: Arc<Shared<Sent<T>>>,
    ended: bool,
}

impl<T: Send + Sync + 'static> CoordinatedStream<T> {
    /// Tells whether every task that was sent has been answered and acknowledged, also when the stream is gone.
    pub(crate) fn all_settled(&self) -> impl Fn() -> bool + Send + 'static {
        let shared = self.shared.clone();
        move || shared.all_settled()
    }
}

/// A task with its first result.
///
/// ```
/// use std::ops::Range;
/// use palfrey_host::{channel::Settled, queue::QueueError, task::TaskOutcome};
///
/// /// Each task is tagged with the range of the source that it is.
/// async fn take(settled: Settled<Range<u64>>) -> Result<(), QueueError> {
///     let Settled { sent, result, acker } = settled;
///     match result.outcome {
///         TaskOutcome::Executed { outputs, .. } => println!("{:?}: {} outputs", sent.tag, outputs.len()),
///         TaskOutcome::Failed(error) => println!("{:?}: {error}", sent.tag),
///     }
///     acker.ack().await
/// }
/// ```
#[derive(Debug)]
pub struct Settled<T> {
    /// The task as it was sent.
    pub sent: Arc<Sent<T>>,
    /// Its result.
    pub result: AnyTaskResult,
    /// Acknowledges the result.
    pub acker: Box<dyn Acker>,
}

impl<T> Settled<T> {
    /// Writes the event that tells where the time went since the task was sent.
    pub(crate) fn trace_times(&self, sent: Instant) {
        let WorkerReport { waited, execution, .. } = self.result.report;
        let [round_trip, waited, execution] = [sent.elapsed(), waited, execution].map(micros);
        let (job, task, elements) = (&self.result.routing_key, self.result.id, self.sent.task.inputs.len());
        tracing::trace!(target: TIMES, %job, %task, elements, round_trip, waited, execution, "answered, in microseconds");
    }
}

impl<T: Send + Sync + 'static> Stream for CoordinatedStream<T> {
    type Item = Settled<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Settled<T>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.shared.is_complete_or_wakes(context.waker()) {
            self.ended = true;
            return Poll::Ready(None);
        }
        while let Poll::Ready(received) = self.results.poll_next_unpin(context) {
            let Some((result, transport)) = received else {
                self.ended = true;
                return Poll::Ready(None);
            };
            let Some(sent) = self.shared.answered(result.id) else {
                tracing::debug!(job = %result.routing_key, task = %result.id, "dropping the second result of a task");
                tokio::spawn(async move {
                    // If it fails the duplicate comes once more, and is dropped once more.
                    _ = transport.ack().await;
                });
                continue;
            };
            let coordination = Coordination { shared: self.shared.clone(), sent: Some(sent.clone()) };
            let acker = Box::new(ComposedAcker { transport, coordination });
            return Poll::Ready(Some(Settled { sent, result, acker }));
        }
        Poll::Pending
    }
}

impl<T: Send + Sync + 'static> FusedStream for CoordinatedStream<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T> fmt::Debug for CoordinatedStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatedStream").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Settles the delivery at the broker, and the record. Dropping it hands the result back, as a transport's acker does.
struct ComposedAcker<T> {
    // In this order: a result must be waited for before it can come again.
    coordination: Coordination<T>,
    transport: Box<dyn Acker>,
}

/// A result that was handed out. Dropping it waits for the result again.
struct Coordination<T> {
    shared: Arc<Shared<Sent<T>>>,
    /// Taken when the result is settled.
    sent: Option<Arc<Sent<T>>>,
}

impl<T> Coordination<T> {
    /// The task is done with. A delivery that is stale comes once more, and is dropped as a duplicate then.
    fn forget(&mut self) {
        if self.sent.take().is_some() {
            self.shared.acknowledged();
        }
    }
}

impl<T> Drop for Coordination<T> {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.shared.given_back(sent.task.id, sent);
        }
    }
}

/// For whoever settles, a delivery that is stale is settled: the record knows better.
fn settled(transport: Result<(), QueueError>) -> Result<(), QueueError> {
    match transport {
        Err(QueueError::Stale) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl<T: Send + Sync + 'static> Acker for ComposedAcker<T> {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        let Self { mut coordination, transport } = *self;
        let acknowledged = settled(transport.ack().await);
        if acknowledged.is_ok() {
            coordination.forget();
        }
        acknowledged
    }

    async fn nack(self: Box<Self>) -> Result<(), QueueError> {
        let Self { coordination, transport } = *self;
        drop(coordination);
        settled(transport.nack().await)
    }

    async fn move_to(self: Box<Self>, queue: &QueueSpec, reason: &str) -> Result<(), QueueError> {
        let Self { mut coordination, transport } = *self;
        let moved = settled(transport.move_to(queue, reason).await);
        if moved.is_ok() {
            coordination.forget();
        }
        moved
    }

    async fn dead_letter(self: Box<Self>, reason: &str) -> Result<(), QueueError> {
        let Self { mut coordination, transport } = *self;
        let moved = settled(transport.dead_letter(reason).await);
        if moved.is_ok() {
            coordination.forget();
        }
        moved
    }
}

impl<T> fmt::Debug for ComposedAcker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComposedAcker").field("transport", &self.transport).finish_non_exhaustive()
    }
}
