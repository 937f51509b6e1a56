//! Queues of bytes: one family of traits, an in-memory twin and RabbitMQ.
//!
//! A queue carries bytes and knows nothing of tasks. What kinds of queues Palfrey needs is [`QueueKind`]; how a broker
//! provides them is the business of one implementation: [`in_memory`] or [`amqp`]. Both pass the same conformance suite.
//! A new broker is one more implementation of [`Connection`].

pub mod amqp;
pub mod in_memory;
mod moves;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
pub use moves::Move;

/// What a queue is for. The kinds differ in who reads, how long they live, and what is lost with whom.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// use futures::StreamExt;
/// use palfrey_host::queue::{Connection, QueueKind, QueueSpec, in_memory::InMemory};
///
/// let log = InMemory::new().declare(&QueueSpec::new("events", QueueKind::Log)).await?;
/// let publisher = log.publisher().await?;
/// for event in ["began", "ended"] {
///     publisher.publish(event.into()).await?;
/// }
/// // Whoever comes later reads it from the start.
/// let late = log.consumer(16).await?;
/// let events: Vec<_> = late.take(2).map(|delivery| delivery.payload).collect().await;
/// assert_eq!(events, ["began", "ended"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueKind {
    /// Shared by many senders and receivers; each message goes to one receiver, and to another one if that receiver goes
    /// away before it acknowledged. Survives everything. What cannot be processed goes to its dead-letter queue, named
    /// `<name>.dead`.
    Tasks,
    /// Where messages of a [`Tasks`](Self::Tasks) queue wait: see [`QueueSpec::later`]. Nobody has to read it.
    Later,
    /// Read by the one process that declared it, written by many. Survives its reader's reconnecting, and goes away when
    /// the connection that declared it is closed, or has been lost for [`LEASE_EXPIRY`].
    Lease,
    /// Every message goes to every receiver that is there at the time.
    Broadcast,
    /// An append-only log: every receiver reads it from the start, and then follows it. Survives everything. Its
    /// deliveries need no acknowledgement: to settle one, in whatever way, changes nothing.
    Log,
}

/// A queue by name and kind.
///
/// ```
/// use palfrey_host::queue::{QueueKind, QueueSpec};
///
/// // The tasks of a bus called `night`, and where they go when they may be what killed their workers.
/// let bus = QueueSpec::new("night", QueueKind::Tasks);
/// assert_eq!(bus.suspects().unwrap().name, "night.suspects");
/// // What is read by whoever declared it needs nothing beside it.
/// assert_eq!(QueueSpec::new("mine", QueueKind::Lease).suspects(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueSpec {
    /// Unique on the broker, whatever the kind.
    pub name: String,
    /// What it is for.
    pub kind: QueueKind,
}

impl QueueSpec {
    /// A queue by name and kind.
    pub fn new(name: impl Into<String>, kind: QueueKind) -> Self {
        Self { name: name.into(), kind }
    }

    /// The queue that takes what cannot be processed, to be read like any other: for [`Tasks`](QueueKind::Tasks) it is
    /// named `<name>.dead`. Dead-letter queues themselves and the other kinds have none. It outlives its queue.
    ///
    /// ```
    /// use palfrey_host::queue::{QueueKind, QueueSpec};
    ///
    /// let dead = QueueSpec::new("tasks", QueueKind::Tasks).dead_letters().unwrap();
    /// assert_eq!(dead, QueueSpec::new("tasks.dead", QueueKind::Tasks));
    /// assert_eq!(dead.dead_letters(), None);
    /// ```
    pub fn dead_letters(&self) -> Option<Self> {
        self.beside(DEAD_SUFFIX, QueueKind::Tasks)
    }

    /// The queue for messages that may be what killed their receivers, so that they can be taken one at a time. For
    /// [`Tasks`](QueueKind::Tasks) it is named `<name>.suspects`, has the same dead letters, and is made at the
    /// latest when somebody [moves](Acker::move_to) a message there.
    pub fn suspects(&self) -> Option<Self> {
        self.beside(SUSPECTS_SUFFIX, QueueKind::Tasks)
    }

    /// The queue for messages that are to come again later: what is [moved](Acker::move_to) there goes back to this one
    /// after [`DELAY`], as a first delivery. For [`Tasks`](QueueKind::Tasks) it is named `<name>.later`, and is made when it
    /// is needed, or before.
    ///
    /// ```
    /// use palfrey_host::queue::{QueueKind, QueueSpec};
    ///
    /// let tasks = QueueSpec::new("tasks", QueueKind::Tasks);
    /// assert_eq!(tasks.later(), Some(QueueSpec::new("tasks.later", QueueKind::Later)));
    /// // Suspects come back as ordinary tasks.
    /// assert_eq!(tasks.suspects().unwrap().later(), tasks.later());
    /// ```
    pub fn later(&self) -> Option<Self> {
        self.beside(LATER_SUFFIX, QueueKind::Later)
    }

    /// A queue that goes with a queue of tasks.
    fn beside(&self, suffix: &str, kind: QueueKind) -> Option<Self> {
        let has_one = self.kind == QueueKind::Tasks && !self.name.ends_with(DEAD_SUFFIX);
        let name = self.name.strip_suffix(SUSPECTS_SUFFIX).unwrap_or(&self.name);
        has_one.then(|| Self::new(format!("{name}{suffix}"), kind))
    }

    /// The queue to which the messages of a [`Later`](QueueKind::Later) queue go.
    fn comes_to(&self) -> Self {
        Self::new(self.name.strip_suffix(LATER_SUFFIX).unwrap_or(&self.name), QueueKind::Tasks)
    }
}

const DEAD_SUFFIX: &str = ".dead";
const SUSPECTS_SUFFIX: &str = ".suspects";
const LATER_SUFFIX: &str = ".later";

/// What is asked of the broker for each message.
///
/// ```
/// use palfrey_host::{Config, queue::Durability};
///
/// // For results that are computed again in no time, should the broker lose them.
/// let config = Config { durability: Durability::Transient, ..Config::default() };
/// assert_eq!(Durability::default(), Durability::Confirmed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Durability {
    /// Messages are written to disk, and publishing waits until the broker has confirmed that it keeps the message.
    /// Nothing is lost.
    #[default]
    Confirmed,
    /// Messages may stay in the broker's memory, and publishing does not wait for it. Quicker; what was on its way or in
    /// memory is lost with the broker or the connection, and nobody is told when a queue does not exist or is full.
    Transient,
}

/// A connection to a broker, or a broker in memory. It recovers by itself when it is lost.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// use futures::StreamExt;
/// use palfrey_host::queue::{Connection, QueueKind, QueueSpec, in_memory::InMemory};
///
/// async fn round_trip(connection: &dyn Connection) -> Result<(), palfrey_host::queue::QueueError> {
///     let queue = connection.declare(&QueueSpec::new("tasks", QueueKind::Tasks)).await?;
///     queue.publisher().await?.publish("hello".into()).await?;
///     assert_eq!(queue.status().await?.messages, 1);
///
///     let mut deliveries = queue.consumer(1).await?;
///     let delivery = deliveries.next().await.expect("the connection is open");
///     delivery.acker.nack().await?;
///     let again = deliveries.next().await.expect("it was given back");
///     assert!(again.redelivered);
///     again.acker.ack().await
/// }
///
/// round_trip(&InMemory::new()).await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Connection: Send + Sync + fmt::Debug {
    /// Creates the queue unless it exists, with its dead-letter queue where it has one, and returns a handle to it.
    /// Declaring twice is harmless.
    ///
    /// # Errors
    /// If the broker refuses, such as when a queue of that name exists with other properties.
    async fn declare(&self, spec: &QueueSpec) -> Result<Arc<dyn QueueHandle>, QueueError>;

    /// A handle to a queue that somebody else has declared, without asking the broker.
    fn handle(&self, spec: &QueueSpec) -> Arc<dyn QueueHandle>;

    /// How the connection is just now. Nothing is asked of the broker.
    fn condition(&self) -> Condition;

    /// Deletes a queue with its messages. Deleting one that does not exist is harmless.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    async fn delete(&self, spec: &QueueSpec) -> Result<(), QueueError>;

    /// As whom the broker knows this process, if it tells its users apart. Names of leases begin with it, so that the broker
    /// can keep one user from reading those of another.
    fn owner(&self) -> Option<&str> {
        None
    }

    /// Ends the connection: streams of deliveries end, what was unacknowledged is delivered to somebody else, leases that
    /// were declared here are deleted, and everything else fails with [`QueueError::Closed`]. Closing twice is harmless.
    ///
    /// # Errors
    /// If the broker did not confirm the end. It is ended all the same.
    async fn close(&self) -> Result<(), QueueError>;
}

/// How a connection is.
///
/// ```
/// use palfrey_host::queue::{Condition, Connection, in_memory::InMemory};
///
/// assert_eq!(InMemory::new().condition(), Condition::Connected);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It is there.
    Connected,
    /// It is there, and the broker takes no messages for now, since it is short of memory or disk. Those who publish wait. A
    /// broker tells that only to a connection that has tried to publish.
    Blocked,
    /// It is lost, and is being rebuilt.
    Lost,
    /// It was closed from this side.
    Closed,
}

/// One queue, as a [`Connection`] hands it out.
///
/// ```
/// use palfrey_host::queue::{QueueError, QueueHandle};
///
/// /// Looks at the next message, and gives it back.
/// async fn peek(queue: &dyn QueueHandle) -> Result<Option<usize>, QueueError> {
///     let Some(delivery) = queue.take().await? else { return Ok(None) };
///     let size = delivery.payload.len();
///     delivery.acker.nack().await?;
///     Ok(Some(size))
/// }
/// ```
#[async_trait]
pub trait QueueHandle: Send + Sync + fmt::Debug {
    /// Its name and kind.
    fn spec(&self) -> &QueueSpec;

    /// A publisher to it. Cheap to use from many tasks at once.
    ///
    /// # Errors
    /// If the connection is closed.
    async fn publisher(&self) -> Result<Arc<dyn Publisher>, QueueError>;

    /// The messages in it, as they come. At most `prefetch` of them (at least one) are unacknowledged at a time. The
    /// stream survives a lost connection; what was unacknowledged is then delivered again. It ends when the connection is
    /// closed, or the queue was deleted (that of a [`Broadcast`](QueueKind::Broadcast) may go on, and make it again).
    /// Dropping the stream stops the deliveries; those taken from it before can still be settled.
    ///
    /// # Errors
    /// If the queue does not exist, the connection is closed, or the broker refuses.
    async fn consumer(&self, prefetch: u16) -> Result<BoxStream<'static, Delivery>, QueueError>;

    /// The next message of a [`Tasks`](QueueKind::Tasks) queue or a [`Lease`](QueueKind::Lease), if there is one now. Nothing
    /// is fetched in advance, as [`consumer`](Self::consumer) does: a message that was taken in this way was taken by
    /// somebody who had time for it.
    ///
    /// # Errors
    /// As [`consumer`](Self::consumer).
    async fn take(&self) -> Result<Option<Delivery>, QueueError>;

    /// Messages that wait, and receivers that are there. A [`Log`](QueueKind::Log) tells only how many messages were
    /// appended to it so far, all those included whose publishing was confirmed; a [`Broadcast`](QueueKind::Broadcast)
    /// tells only that it exists.
    ///
    /// # Errors
    /// If the queue does not exist, the connection is closed, or the broker refuses.
    async fn status(&self) -> Result<QueueStatus, QueueError>;
}

/// How full a queue is, and who reads it.
///
/// ```
/// use palfrey_host::queue::{QueueError, QueueHandle, QueueStatus};
///
/// /// Whether more receivers would help.
/// async fn is_behind(queue: &dyn QueueHandle) -> Result<bool, QueueError> {
///     let QueueStatus { messages, consumers } = queue.status().await?;
///     Ok(messages > 10 * consumers)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStatus {
    /// Messages that no receiver has taken yet; in a [`Log`](QueueKind::Log), all of them.
    pub messages: u64,
    /// Receivers.
    pub consumers: u64,
}

/// Appends messages to one queue.
///
/// ```
/// use futures::future::try_join_all;
/// use palfrey_host::queue::{Publisher, QueueError};
///
/// /// All of them are on their way before the first one is confirmed.
/// async fn send(lines: &[&'static str], publisher: &dyn Publisher) -> Result<(), QueueError> {
///     try_join_all(lines.iter().map(|&line| publisher.publish(line.into()))).await.map(drop)
/// }
/// ```
#[async_trait]
pub trait Publisher: Send + Sync + fmt::Debug {
    /// Hands a message to the queue and waits until the broker has confirmed that it keeps it. While the connection is
    /// lost it waits for the next one and publishes again, so that a message may arrive twice but is never lost.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`] if nobody can ever receive it, [`QueueError::TooLarge`], [`QueueError::Refused`] if
    /// the queue is full, [`QueueError::Closed`] if the connection was closed.
    async fn publish(&self, message: Bytes) -> Result<(), QueueError>;

    /// What was published is gone, although it was confirmed. Messages that are published from now on do not rely on anything that
    /// the broker remembers of this publisher. Nothing has to be done where it remembers nothing.
    fn renew(&self) {}
}

/// A message as it was received.
///
/// ```
/// use palfrey_host::queue::{Delivery, QueueError};
///
/// /// Gives a message up that has been tried three times.
/// async fn give_up(delivery: Delivery) -> Result<(), QueueError> {
///     match delivery.earlier {
///         0..3 => delivery.acker.nack().await,
///         _ => delivery.acker.dead_letter("it failed three times").await,
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub payload: Bytes,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// How often it was delivered from this queue before and came back, be it that its receiver gave it back or went away.
    /// Only [`Tasks`](QueueKind::Tasks) queues count; elsewhere it is zero or one.
    pub earlier: u32,
    /// Position in a [log](QueueKind::Log), counted from zero; `None` in other queues.
    pub offset: Option<u64>,
    /// From which queues it was moved, the latest move last. Empty unless somebody [moved](Acker::move_to) it.
    pub moves: Vec<Move>,
    /// What to do with it. Dropping the acker without a word gives the message back, as [`Acker::nack`] does.
    pub acker: Box<dyn Acker>,
}

impl Delivery {
    /// How it came here, if this is a dead letter: from which queue, why, when, and after how many deliveries. What happened
    /// before that is in [`moves`](Self::moves).
    pub fn dead_letter(&self) -> Option<&Move> {
        self.moves.last().filter(|last| last.to.ends_with(DEAD_SUFFIX))
    }
}

/// Settles one delivery. Settling consumes it, so that nothing can be acknowledged twice.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// # use futures::StreamExt;
/// # use palfrey_host::queue::{Connection, QueueKind, QueueSpec, in_memory::InMemory};
/// # let connection = InMemory::new();
/// let spec = QueueSpec::new("tasks", QueueKind::Tasks);
/// let queue = connection.declare(&spec).await?;
/// queue.publisher().await?.publish("garbage".into()).await?;
/// let delivery = queue.consumer(1).await?.next().await.expect("the connection is open");
/// delivery.acker.dead_letter("it does not decode").await?;
///
/// let dead = connection.handle(&spec.dead_letters().expect("task queues have them"));
/// let letter = dead.consumer(1).await?.next().await.expect("it was moved there");
/// let death = letter.dead_letter().expect("it is one");
/// assert_eq!((&*death.from, &*death.reason), ("tasks", "it does not decode"));
/// # letter.acker.ack().await
/// # }
/// ```
#[async_trait]
pub trait Acker: Send + Sync + fmt::Debug {
    /// The message was processed, and is forgotten.
    ///
    /// # Errors
    /// [`QueueError::Stale`] if the connection on which it was delivered is gone: it will be delivered again.
    async fn ack(self: Box<Self>) -> Result<(), QueueError>;

    /// The message goes back, and is delivered again, to whomever. In a [`Tasks`](QueueKind::Tasks) queue one that was
    /// given back more than [`DELIVERY_LIMIT`] times, in this way or by receivers that went away, is dead-lettered.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    async fn nack(self: Box<Self>) -> Result<(), QueueError>;

    /// The message goes to another queue, which is made unless it exists, with the reason, of which the first [`MAX_REASON`]
    /// bytes are kept. Whatever dies meanwhile, it is in one of the two at least. Its deliveries are counted anew.
    ///
    /// # Errors
    /// As [`ack`](Self::ack), and as [`Publisher::publish`].
    async fn move_to(self: Box<Self>, queue: &QueueSpec, reason: &str) -> Result<(), QueueError>;

    /// The message cannot be processed: it is [moved](Self::move_to) to the dead-letter queue. In a queue that has none it
    /// is forgotten.
    ///
    /// # Errors
    /// As [`move_to`](Self::move_to).
    async fn dead_letter(self: Box<Self>, reason: &str) -> Result<(), QueueError>;

    /// Whether it is known already that settling ends with [`QueueError::Stale`].
    fn is_stale(&self) -> bool {
        false
    }
}

/// The acker of what needs no acknowledgement: the records of a log.
#[derive(Debug)]
pub(crate) struct NothingToSettle;

#[async_trait]
impl Acker for NothingToSettle {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        Ok(())
    }

    async fn nack(self: Box<Self>) -> Result<(), QueueError> {
        Ok(())
    }

    async fn move_to(self: Box<Self>, _queue: &QueueSpec, _reason: &str) -> Result<(), QueueError> {
        Ok(())
    }

    async fn dead_letter(self: Box<Self>, _reason: &str) -> Result<(), QueueError> {
        Ok(())
    }
}

/// What can go wrong between a process and its broker. A connection that is lost is not among it: what is under way waits for
/// the next one.
///
/// ```
/// use palfrey_host::queue::QueueError;
///
/// /// Whether starting again later may help.
/// fn is_worth_another_try(error: &QueueError) -> bool {
///     matches!(error, QueueError::Unreachable { .. } | QueueError::Refused(_))
/// }
/// assert!(!is_worth_another_try(&QueueError::TooLarge { size: 200 << 20, limit: 128 << 20 }));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Nobody answers there.
    #[error("cannot reach the broker at {address}: is it running, and is the address right?")]
    Unreachable {
        /// Host and port, without credentials.
        address: String,
        /// What the attempt ended with.
        #[source]
        source: anyhow::Error,
    },
    /// Name or password are wrong.
    #[error("the broker at {address} refused user `{user}`: check the name and the password in the URI")]
    AccessRefused {
        /// Host and port.
        address: String,
        /// Who tried.
        user: String,
    },
    /// The virtual host does not exist, or the user may not use it.
    #[error("the broker at {address} has no virtual host `{vhost}` that user `{user}` may use")]
    NoSuchVhost {
        /// Host and port.
        address: String,
        /// Who tried.
        user: String,
        /// The name that was asked for.
        vhost: String,
    },
    /// TLS was refused, by the broker or by us.
    #[error("no trusted connection to the broker at {address}: {reason}")]
    Untrusted {
        /// Host and port.
        address: String,
        /// Whose certificate is at fault, and why.
        reason: String,
    },
    /// A file with a certificate or a key cannot be used.
    #[error("cannot {action}")]
    Tls {
        /// What was tried.
        action: String,
        /// Why it did not work.
        #[source]
        source: anyhow::Error,
    },
    /// A certificate without its key, or the other way round.
    #[error("a client certificate needs both --amqp-cert and --amqp-key")]
    TlsPair,
    /// The address is malformed.
    #[error("the AMQP URI is malformed: {0}; write amqp://user:password@host:port/vhost")]
    Uri(String),
    /// The queue does not exist: whoever had it is gone.
    #[error("queue `{0}` does not exist")]
    NoSuchQueue(String),
    /// The broker does not take the message, because the queue is full.
    #[error("queue `{0}` does not take more messages")]
    Refused(String),
    /// This user may not send there.
    #[error("this user may not send to `{0}`: the broker's permissions decide that")]
    Forbidden(String),
    /// The message is larger than the broker takes.
    #[error("the message has {size} bytes, and the broker takes {limit} at the most: send smaller batches or elements")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// The delivery belongs to a connection that is gone.
    #[error("the connection on which the message came is gone; it will be delivered again")]
    Stale,
    /// The connection was closed from this side.
    #[error("the connection is closed")]
    Closed,
    /// The broker refused for another reason.
    #[error("the broker refused to {action}")]
    Broker {
        /// What was tried.
        action: String,
        /// What it answered.
        #[source]
        source: anyhow::Error,
    },
}

/// How long a [lease](QueueKind::Lease) survives without its reader.
pub const LEASE_EXPIRY: Duration = Duration::from_secs(60);

/// How often a message of a [`Tasks`](QueueKind::Tasks) queue can be given back before it is dead-lettered. Generous,
/// since messages that a receiver had fetched in advance and never looked at count as well when that receiver dies.
pub const DELIVERY_LIMIT: u32 = 100;

/// How long a message waits in a [`Later`](QueueKind::Later) queue.
pub const DELAY: Duration = Duration::from_secs(2);

/// The most bytes of a [move's](Move) reason that are kept.
pub const MAX_REASON: usize = 4096;

/// The largest message that any queue takes, in bytes. RabbitMQ 3.10 closes the channel above 128 MiB.
pub const MAX_MESSAGE: usize = 128 << 20;
