//! Queues on RabbitMQ (3.10 or later), over AMQP 0-9-1.
//!
//! [`Amqp`] holds three connections. A broker that is short of memory or disk stops reading from those that publish, and
//! acknowledgements have to get through all the same. And whatever is asked in passing, such as whether a queue exists, uses
//! up a channel, of which a connection has some thousands: what waits for confirms or holds deliveries is not to be
//! disturbed when that connection is replaced. What the client library could recover by itself is left off: it hides lost
//! publishes and stale acknowledgements. Instead
//! - `link` supervises one connection and rebuilds it, for ever unless told otherwise,
//! - `publisher` keeps every message until it is confirmed, and sends it again on the next connection,
//! - `consumer` subscribes again; what was unacknowledged comes again, and what arrived before it is dropped,
//! - `headers` says what goes with a message that is moved,
//! - `topology` says what each kind of queue is on the broker,
//! - `address` parses URIs, keeps the password to itself, and explains refusals; `tls` does it for certificates.
//!
//! Only this module names the client library.

mod address;
mod bursts;
mod consumer;
mod headers;
mod link;
mod publisher;
mod settlements;
mod silence;
mod tls;
mod topology;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use address::Address;
use async_trait::async_trait;
use bytes::Bytes;
use consumer::Receiver;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use lapin::types::ShortString;
use link::{Link, is_access_refused};
use publisher::Outbox;
pub use tls::TlsFiles;
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use topology::Named;

use super::{
    Condition, Connection, Delivery, Durability, Publisher, QueueError, QueueHandle, QueueKind, QueueSpec, QueueStatus,
};

/// Closing does not wait longer for the broker to delete the leases.
const FAREWELL: Duration = Duration::from_secs(5);

/// How to use the broker. `Default` is what most programs want.
///
/// ```
/// use palfrey_host::queue::amqp::{AmqpOptions, TlsFiles};
///
/// // The broker lists the connections under this name, and has a certificate of the house.
/// let tls = TlsFiles { ca: Some("/etc/house/ca.pem".into()), ..TlsFiles::default() };
/// let options = AmqpOptions { name: "nightly report".to_owned(), tls, ..AmqpOptions::default() };
/// ```
#[derive(Debug, Clone)]
pub struct AmqpOptions {
    /// What is asked for each message. Dead letters, and messages of a [`Log`](QueueKind::Log), are always confirmed.
    pub durability: Durability,
    /// The name under which the broker lists the connections.
    pub name: String,
    /// Certificates for `amqps`. They are read once.
    pub tls: TlsFiles,
    /// How long to try to reach a broker that went away. After that the connection is closed, and everything on it fails.
    /// `None` is for ever.
    pub patience: Option<Duration>,
}

impl Default for AmqpOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), name: "palfrey".into(), tls: TlsFiles::default(), patience: None }
    }
}

/// A connection to RabbitMQ. Clones are the same connection; it ends when it is closed, or when the last clone is gone with
/// its handles, publishers and streams.
///
/// ```no_run
/// use palfrey_host::queue::{Connection, QueueKind, QueueSpec, amqp::{Amqp, AmqpOptions}};
///
/// # async fn example() -> Result<(), palfrey_host::queue::QueueError> {
/// let broker = Amqp::connect("amqp://guest:guest@localhost:5672/%2f", AmqpOptions::default()).await?;
/// let queue = broker.declare(&QueueSpec::new("tasks", QueueKind::Tasks)).await?;
/// queue.publisher().await?.publish("hello".into()).await?;
/// broker.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Amqp {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    consuming: Link,
    publishing: Link,
    /// For everything that has an end: to declare, delete, inspect.
    asking: Link,
    durability: Durability,
    user: String,
    /// To the exchange that leads to the queue which the routing key names.
    confirmed: Outbox,
    /// The same, without waiting.
    transient: Outbox,
    /// Leases that were declared here, by name.
    leases: Mutex<HashMap<String, QueueSpec>>,
    /// Ends the streams. It ends with `end`.
    closed: CancellationToken,
    /// Ends the connections.
    end: CancellationToken,
    _closes: DropGuard,
    _ends: DropGuard,
}

impl Amqp {
    /// Connects to the broker at a URI like `amqp://user:password@host:port/vhost` (`amqps` for TLS). A first attempt that
    /// fails is an error; a connection that is lost later is rebuilt, however long it takes unless there is
    /// [patience](AmqpOptions::patience) for less.
    ///
    /// # Errors
    /// [`QueueError::Uri`], [`QueueError::Tls`], [`QueueError::TlsPair`], [`QueueError::Unreachable`],
    /// [`QueueError::Untrusted`], [`QueueError::AccessRefused`] or [`QueueError::NoSuchVhost`].
    pub async fn connect(uri: &str, options: AmqpOptions) -> Result<Self, QueueError> {
        let AmqpOptions { durability, name, tls, patience } = options;
        let address = Address::parse(uri, &tls)?;
        let end = CancellationToken::new();
        let closed = end.child_token();
        // Ends the first connections should another one fail.
        let ends = end.clone().drop_guard();
        let user = address.user().to_owned();
        let link = |purpose| Link::open(address.clone(), format!("{name}, {purpose}"), patience, end.clone());
        let (consuming, publishing, asking) =
            (link("consuming").await?, link("publishing").await?, link("asking").await?);
        let made = asking.on_channel(topology::EXCHANGE, "declare", topology::declare_exchange);
        match made.await {
            // Who may not make it uses the one that is there.
            Err(error) if !is_access_refused(&error) => return Err(error),
            _ => {}
        }
        let outbox =
            |durability| Outbox::open(publishing.clone(), asking.clone(), topology::EXCHANGE.into(), durability);
        let shared = Shared {
            confirmed: outbox(Durability::Confirmed),
            transient: outbox(Durability::Transient),
            consuming,
            publishing,
            asking,
            durability,
            user,
            leases: Mutex::default(),
            _closes: closed.clone().drop_guard(),
            _ends: ends,
            closed,
            end,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn check_open(&self) -> Result<(), QueueError> {
        if self.closed.is_cancelled() { Err(QueueError::Closed) } else { Ok(()) }
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<(), QueueError> {
        let named = Named::of(spec)?;
        let declare = |channel| topology::declare(channel, named.clone());
        match self.asking.on_channel(&spec.name, "declare", declare).await {
            // Who may not make it uses the one that is there.
            Err(error) if is_access_refused(&error) => {
                let check = |channel| topology::check(channel, named.clone());
                self.asking.on_channel(&spec.name, "use", check).await.map_err(|_| error)
            }
            declared => declared,
        }
    }

    async fn delete(&self, spec: &QueueSpec) -> Result<(), QueueError> {
        let named = Named::of(spec)?;
        let delete = |channel| topology::delete(channel, named.clone());
        self.asking.on_channel(&spec.name, "delete", delete).await
    }

    async fn status(&self, spec: &QueueSpec) -> Result<QueueStatus, QueueError> {
        let named = Named::of(spec)?;
        let status = |channel| topology::status(channel, named.clone());
        self.asking.on_channel(&spec.name, "inspect", status).await
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, HashMap<String, QueueSpec>> {
        self.leases.lock().expect("nothing panics while it holds the lock")
    }
}

#[async_trait]
impl Connection for Amqp {
    async fn declare(&self, spec: &QueueSpec) -> Result<Arc<dyn QueueHandle>, QueueError> {
        self.shared.check_open()?;
        // All that goes with it: those who move messages there may not be allowed to make it.
        for beside in [spec.dead_letters(), spec.suspects(), spec.later()].into_iter().flatten() {
            self.shared.declare(&beside).await?;
        }
        self.shared.declare(spec).await?;
        if spec.kind == QueueKind::Lease {
            self.shared.leases().insert(spec.name.clone(), spec.clone());
        }
        Ok(self.handle(spec))
    }

    fn handle(&self, spec: &QueueSpec) -> Arc<dyn QueueHandle> {
        Arc::new(Handle { shared: self.shared.clone(), spec: spec.clone() })
    }

    fn condition(&self) -> Condition {
        if self.shared.closed.is_cancelled() {
            return Condition::Closed;
        }
        match (self.shared.consuming.condition(), self.shared.publishing.condition()) {
            (Condition::Connected, publishing) => publishing,
            // An alarm concerns what is published.
            (Condition::Blocked, Condition::Connected) => Condition::Connected,
            (Condition::Blocked, publishing) => publishing,
            (consuming, _) => consuming,
        }
    }

    async fn delete(&self, spec: &QueueSpec) -> Result<(), QueueError> {
        self.shared.check_open()?;
        self.shared.leases().remove(&spec.name);
        self.shared.delete(spec).await
    }

    fn owner(&self) -> Option<&str> {
        Some(&self.shared.user)
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.shared.closed.cancel();
        let leases = std::mem::take(&mut *self.shared.leases());
        let farewell = stream::iter(leases.into_values()).for_each_concurrent(16, |lease| async move {
            // It expires by itself if this does not work.
            self.shared.delete(&lease).await.ok();
        });
        tokio::time::timeout(FAREWELL, farewell).await.ok();
        self.shared.end.cancel();
        tokio::join!(self.shared.consuming.closed(), self.shared.publishing.closed(), self.shared.asking.closed());
        Ok(())
    }
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    spec: QueueSpec,
}

impl Handle {
    fn receiver(&self, prefetch: u16) -> Receiver {
        Receiver {
            link: self.shared.consuming.clone(),
            asking: self.shared.asking.clone(),
            outbox: self.shared.confirmed.clone(),
            closed: self.shared.closed.clone(),
            spec: self.spec.clone(),
            prefetch: prefetch.max(1),
            next_offset: 0,
        }
    }
}

#[async_trait]
impl QueueHandle for Handle {
    fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    async fn publisher(&self) -> Result<Arc<dyn Publisher>, QueueError> {
        self.shared.check_open()?;
        let name = short(&self.spec.name)?;
        let durability = self.shared.durability;
        let (outbox, routing_key) = match (self.spec.kind, durability) {
            // Of its own, since an exchange that does not exist costs the channel.
            (QueueKind::Broadcast, _) => {
                let (publishing, asking) = (self.shared.publishing.clone(), self.shared.asking.clone());
                (Outbox::open(publishing, asking, name, durability), ShortString::default())
            }
            (QueueKind::Log, _) | (_, Durability::Confirmed) => (self.shared.confirmed.clone(), name),
            (_, Durability::Transient) => (self.shared.transient.clone(), name),
        };
        let queue = self.spec.name.as_str().into();
        let begun = match self.spec.kind {
            QueueKind::Log => Some((topology::begun(&self.spec.name)?, OnceCell::new())),
            _ => None,
        };
        Ok(Arc::new(QueuePublisher { shared: self.shared.clone(), outbox, queue, routing_key, begun }))
    }

    async fn consumer(&self, prefetch: u16) -> Result<BoxStream<'static, Delivery>, QueueError> {
        self.shared.check_open()?;
        let received = self.receiver(prefetch).start().await?;
        // The stream keeps the connection as long as somebody reads it.
        let state = (received, self.shared.clone());
        let deliveries = stream::unfold(state, |(mut received, shared)| async move {
            loop {
                if let Some(delivery) = received.recv().await?.into_delivery() {
                    return Some((delivery, (received, shared)));
                }
            }
        });
        Ok(deliveries.take_until(self.shared.closed.clone().cancelled_owned()).boxed())
    }

    async fn take(&self) -> Result<Option<Delivery>, QueueError> {
        self.shared.check_open()?;
        self.receiver(1).take().await
    }

    async fn status(&self) -> Result<QueueStatus, QueueError> {
        self.shared.check_open()?;
        self.shared.status(&self.spec).await
    }
}

#[derive(Debug)]
struct QueuePublisher {
    shared: Arc<Shared>,
    outbox: Outbox,
    queue: Arc<str>,
    routing_key: ShortString,
    /// For a log: where to put a mark before the first record, and whether that was done.
    begun: Option<(ShortString, OnceCell<()>)>,
}

#[async_trait]
impl Publisher for QueuePublisher {
    async fn publish(&self, message: Bytes) -> Result<(), QueueError> {
        self.shared.check_open()?;
        if let Some((begun, done)) = &self.begun {
            let mark = || self.outbox.publish(self.queue.clone(), begun.clone(), Bytes::new(), None);
            done.get_or_try_init(mark).await?;
        }
        self.outbox.publish(self.queue.clone(), self.routing_key.clone(), message, None).await
    }

    fn renew(&self) {
        self.outbox.renew();
    }
}

/// A name as AMQP carries it.
fn short(name: &str) -> Result<ShortString, QueueError> {
    ShortString::try_new(name).map_err(|error| QueueError::Broker {
        action: format!("use `{name}` as the name of a queue"),
        source: error.into(),
    })
}
