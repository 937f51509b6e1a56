//! Channels: typed senders and receivers in different processes, with explicit acknowledgement.
//!
//! A [`Channel`] is a queue that carries one type of message. [`ChannelFactory`] hands them out: shared ones by name, and
//! new ones on lease. [`coordinated`] ties a channel of tasks to the channel of their results, so that the stream of
//! results knows when it is complete. Channels know how messages are encoded, and nothing of what they mean.

mod coordinated;
mod lasting;
mod lease;
mod record;

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};

use crate::{
    queue::{Acker, Connection, Delivery, Publisher, QueueError, QueueHandle, QueueKind, QueueSpec, QueueStatus},
    task::{RoutingKey, wire::Message},
};

use lasting::Lasting;

pub(crate) use coordinated::Outlet;
pub use coordinated::{CoordinatedSender, CoordinatedStream, Sent, Settled, coordinated};
pub use lease::LeaseGuard;

/// Who receives a message.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// # use std::sync::Arc;
/// use palfrey_host::{channel::{ChannelFactory, ChannelType}, task::AnyTask, worker::WorkerIpc};
/// # let channels = ChannelFactory::new(Arc::new(palfrey_host::queue::in_memory::InMemory::new()), 16);
///
/// // A task is for one worker, what stops a job is for all of them.
/// let tasks = channels.get::<AnyTask>("bus", ChannelType::ExactlyOnce).await?;
/// let announcements = channels.get::<WorkerIpc>("announcements", ChannelType::Broadcast).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelType {
    /// One of the receivers. Another one gets it if the first goes away before it acknowledged.
    ExactlyOnce,
    /// Every receiver that is there at the time.
    Broadcast,
}

/// Hands out channels over one connection. What it carries is a [`Message`]: tasks, results, or a type of one's own.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// use std::sync::Arc;
/// use futures::StreamExt;
/// use palfrey_host::{
///     channel::{ChannelFactory, ChannelType},
///     queue::in_memory::InMemory,
///     worker::WorkerIpc,
/// };
///
/// let channels = ChannelFactory::new(Arc::new(InMemory::new()), 16);
/// let channel = channels.get::<WorkerIpc>("announcements", ChannelType::Broadcast).await?;
/// let (mut here, mut there) = (channel.receiver().await?, channel.receiver().await?);
///
/// let message = WorkerIpc::Terminate { routing_key: "some-job".into() };
/// channel.sender().await?.publish(&message).await?;
/// for receiver in [&mut here, &mut there] {
///     let (received, acker) = receiver.next().await.expect("the connection is open");
///     assert_eq!(received, message);
///     acker.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ChannelFactory {
    connection: Arc<dyn Connection>,
    prefetch: u16,
}

impl ChannelFactory {
    /// Channels over a connection. A receiver holds at most `prefetch` unacknowledged messages.
    pub fn new(connection: Arc<dyn Connection>, prefetch: u16) -> Self {
        Self { connection, prefetch }
    }

    /// The channel of a name, shared by whoever asks for it. It is created unless it exists.
    ///
    /// # Errors
    /// If the broker refuses or cannot be reached.
    pub async fn get<T: Message>(&self, name: &str, channel_type: ChannelType) -> Result<Channel<T>, QueueError> {
        let kind = match channel_type {
            ChannelType::ExactlyOnce => QueueKind::Tasks,
            ChannelType::Broadcast => QueueKind::Broadcast,
        };
        let queue = self.connection.declare(&QueueSpec::new(name, kind)).await?;
        Ok(self.channel(queue))
    }

    /// A new channel that this process reads and others write to, named by a new identifier, which begins with its [owner](Connection::owner). It goes away when it is
    /// [released](Channel::release), or by itself [some time](crate::queue::LEASE_EXPIRY) after this process is gone. The name
    /// is what others need in order to send to it: see [`leased`](Self::leased).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
    /// # use std::sync::Arc;
    /// # use palfrey_host::{channel::{ChannelFactory, LeaseGuard}, queue::in_memory::InMemory, worker::WorkerIpc};
    /// # let channels = ChannelFactory::new(Arc::new(InMemory::new()), 16);
    /// let (name, channel) = channels.issue::<WorkerIpc>().await?;
    /// let messages = LeaseGuard::new(channel.receiver().await?, async move { _ = channel.release().await });
    ///
    /// let sender = channels.leased::<WorkerIpc>(&name).sender().await?;
    /// messages.release().await;
    /// let message = WorkerIpc::Terminate { routing_key: name };
    /// assert!(sender.publish(&message).await.is_err(), "the reader is gone");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the broker refuses or cannot be reached.
    pub async fn issue<T: Message>(&self) -> Result<(RoutingKey, Channel<T>), QueueError> {
        let identifier = match self.connection.owner() {
            Some(owner) => RoutingKey::from(format!("{owner}.{}", RoutingKey::random())),
            None => RoutingKey::random(),
        };
        let queue = self.connection.declare(&QueueSpec::new(identifier.as_str(), QueueKind::Lease)).await?;
        Ok((identifier, self.channel(queue)))
    }

    /// The other side of a channel that somebody has been [issued](Self::issue), or on which a [job](RoutingKey::channel) is
    /// answered. Nothing is created or asked; sending to one that is gone fails with [`QueueError::NoSuchQueue`].
    pub fn leased<T: Message>(&self, identifier: &RoutingKey) -> Channel<T> {
        self.channel(self.connection.handle(&QueueSpec::new(identifier.channel(), QueueKind::Lease)))
    }

    /// The connection under the channels.
    pub fn connection(&self) -> &Arc<dyn Connection> {
        &self.connection
    }

    fn channel<T>(&self, queue: Arc<dyn QueueHandle>) -> Channel<T> {
        Channel { connection: self.connection.clone(), queue, prefetch: self.prefetch, message: PhantomData }
    }
}

/// A queue of messages of one type, from a [`ChannelFactory`]. Clones are the same channel.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// # use std::sync::Arc;
/// # use palfrey_host::{channel::{ChannelFactory, ChannelType}, worker::WorkerIpc};
/// # let channels = ChannelFactory::new(Arc::new(palfrey_host::queue::in_memory::InMemory::new()), 16);
/// let channel = channels.get::<WorkerIpc>("requests", ChannelType::ExactlyOnce).await?;
/// channel.sender().await?.publish(&WorkerIpc::Terminate { routing_key: "some-job".into() }).await?;
///
/// let status = channel.status().await?;
/// assert_eq!((status.messages, status.consumers), (1, 0));
/// channel.release().await?;
/// # Ok(())
/// # }
/// ```
pub struct Channel<T> {
    connection: Arc<dyn Connection>,
    queue: Arc<dyn QueueHandle>,
    prefetch: u16,
    message: PhantomData<fn() -> T>,
}

/// Messages with what settles them. The stream ends when the connection is closed or the channel released; a lost connection
/// only interrupts it, and what was unacknowledged comes again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// # use std::sync::Arc;
/// use futures::StreamExt;
/// # use palfrey_host::{channel::{ChannelFactory, ChannelType, Receiver}, worker::WorkerIpc};
/// # let channels = ChannelFactory::new(Arc::new(palfrey_host::queue::in_memory::InMemory::new()), 16);
/// # let channel = channels.get::<WorkerIpc>("requests", ChannelType::ExactlyOnce).await?;
/// # channel.sender().await?.publish(&WorkerIpc::Terminate { routing_key: "some-job".into() }).await?;
/// let mut requests: Receiver<WorkerIpc> = channel.receiver().await?;
/// let (request, acker) = requests.next().await.expect("the connection is open");
/// acker.nack().await?; // Somebody else may try.
///
/// let (again, acker) = requests.next().await.expect("the connection is open");
/// assert_eq!(again, request);
/// acker.ack().await?;
/// # Ok(())
/// # }
/// ```
pub type Receiver<T> = BoxStream<'static, (T, Box<dyn Acker>)>;

impl<T: Message + Send + 'static> Channel<T> {
    /// The queue under it.
    pub fn spec(&self) -> &QueueSpec {
        self.queue.spec()
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.queue.spec().name
    }

    /// A sender. Cheap to clone, and to use from many tasks at once.
    ///
    /// # Errors
    /// If the connection is closed.
    pub async fn sender(&self) -> Result<Sender<T>, QueueError> {
        Ok(Sender { publisher: self.queue.publisher().await?, message: PhantomData })
    }

    /// A sender that makes the queue again if somebody deletes it. Who may not make it waits for a while until it is there.
    pub(crate) async fn lasting_sender(&self) -> Result<Sender<T>, QueueError> {
        let publisher = Lasting::new(self.connection.clone(), self.queue.as_ref()).await?;
        Ok(Sender { publisher: Arc::new(publisher), message: PhantomData })
    }

    /// The messages as they come. One that does not decode goes to the dead-letter queue with the reason, and the stream
    /// goes on.
    ///
    /// # Errors
    /// If the channel is gone, the connection is closed, or the broker refuses.
    pub async fn receiver(&self) -> Result<Receiver<T>, QueueError> {
        let deliveries = self.queue.consumer(self.prefetch).await?;
        Ok(decoded(self.name().to_owned(), deliveries).boxed())
    }

    /// The same channel for a receiver that holds so many unacknowledged messages.
    pub(crate) fn with_prefetch(self, prefetch: u16) -> Self {
        Self { prefetch, ..self }
    }

    /// The messages as they come, with the bytes as they are: for whoever does something else with those that do not decode.
    ///
    /// # Errors
    /// As [`receiver`](Self::receiver).
    pub async fn deliveries(&self) -> Result<BoxStream<'static, Delivery>, QueueError> {
        self.queue.consumer(self.prefetch).await
    }

    /// How many messages wait, and how many receivers there are.
    ///
    /// # Errors
    /// If the channel is gone or the broker cannot be reached.
    pub async fn status(&self) -> Result<QueueStatus, QueueError> {
        self.queue.status().await
    }

    /// Deletes the channel with its messages.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub async fn release(&self) -> Result<(), QueueError> {
        self.connection.delete(self.queue.spec()).await
    }
}

fn decoded<T: Message + Send>(
    channel: String,
    deliveries: impl Stream<Item = Delivery> + Send,
) -> impl Stream<Item = (T, Box<dyn Acker>)> + Send {
    let channel = Arc::<str>::from(channel);
    deliveries.filter_map(move |Delivery { payload, acker, .. }| {
        let channel = channel.clone();
        async move {
            let size = payload.len();
            match T::decode(payload) {
                Ok(message) => Some((message, acker)),
                Err(error) => {
                    tracing::warn!(%channel, size, %error, "a message does not decode; it goes to the dead-letter queue");
                    if let Err(error) = acker.dead_letter(&error.to_string()).await {
                        tracing::warn!(%channel, %error, "could not dead-letter it; it will be delivered again");
                    }
                    None
                }
            }
        }
    })
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            queue: self.queue.clone(),
            prefetch: self.prefetch,
            message: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("queue", self.queue.spec()).finish_non_exhaustive()
    }
}

/// Sends messages of one type to one channel. Clones share the connection.
///
/// ```
/// use futures::future::try_join_all;
/// use palfrey_host::{channel::Sender, queue::QueueError, worker::WorkerIpc};
///
/// /// Sends all, and waits for their confirms together.
/// async fn publish_all(sender: &Sender<WorkerIpc>, messages: &[WorkerIpc]) -> Result<(), QueueError> {
///     try_join_all(messages.iter().map(|message| sender.publish(message))).await?;
///     Ok(())
/// }
/// ```
pub struct Sender<T> {
    publisher: Arc<dyn Publisher>,
    message: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    /// Sends a message, and waits until the broker has confirmed that it keeps it.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn publish(&self, message: &T) -> Result<(), QueueError> {
        self.publish_encoded(message.encode()).await
    }

    /// Sends the bytes of a message that is encoded already.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_encoded(&self, message: Bytes) -> Result<(), QueueError> {
        self.publisher.publish(message).await
    }

    /// See [`Publisher::renew`].
    pub(crate) fn renew(&self) {
        self.publisher.renew();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { publisher: self.publisher.clone(), message: PhantomData }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.publisher).finish()
    }
}
