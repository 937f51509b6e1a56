//! A broker in memory: the default, and the twin on which everything is tested without a network.
//!
//! It keeps every promise of the traits within one process: [`InMemory`] is a connection, its clones are the same
//! connection, and [`InMemory::another_connection`] is what a second process would have. Messages are handed over by
//! waking whoever waits; there is no thread or task behind it but for messages that wait for [`DELAY`](super::DELAY), and no
//! bound on what a queue holds.
//!
//! Start at [`InMemory`]; `broker` finds queues by name, `shared` and `log` are the two data structures.

mod broker;
mod log;
mod shared;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use async_trait::async_trait;
use broker::{Broker, Fanout, Queue, Session};
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{BoxStream, Stream},
};
use log::Log;
use shared::{Message, ReceiverId, Shared, Tag};
use tokio::task::coop;

use super::{
    Acker, Condition, Connection, Delivery, MAX_MESSAGE, NothingToSettle, Publisher, QueueError, QueueHandle,
    QueueKind, QueueSpec, QueueStatus,
};

/// A connection to a broker that lives in this process, and goes away with its last connection.
///
/// ```
/// use futures::StreamExt;
/// use palfrey_host::queue::{Connection, QueueKind, QueueSpec, in_memory::InMemory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), palfrey_host::queue::QueueError> {
/// let connection = InMemory::new();
/// let queue = connection.declare(&QueueSpec::new("tasks", QueueKind::Tasks)).await?;
/// queue.publisher().await?.publish("hello".into()).await?;
///
/// let delivery = queue.consumer(1).await?.next().await.expect("the queue is there");
/// assert_eq!(delivery.payload, "hello");
/// delivery.acker.ack().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct InMemory {
    session: Arc<Session>,
}

impl Default for InMemory {
    fn default() -> Self {
        Self { session: Session::open(Arc::new(Broker::default())) }
    }
}

impl InMemory {
    /// A new broker without queues, and a connection to it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another connection to the same broker: closing either leaves the other one open.
    pub fn another_connection(&self) -> Self {
        Self { session: Session::open(self.session.broker.clone()) }
    }
}

#[async_trait]
impl Connection for InMemory {
    async fn declare(&self, spec: &QueueSpec) -> Result<Arc<dyn QueueHandle>, QueueError> {
        self.session.check_open()?;
        self.session.broker.declare(spec, self.session.id)?;
        Ok(self.handle(spec))
    }

    fn handle(&self, spec: &QueueSpec) -> Arc<dyn QueueHandle> {
        Arc::new(Handle { session: self.session.clone(), spec: spec.clone() })
    }

    fn condition(&self) -> Condition {
        if self.session.is_closed() { Condition::Closed } else { Condition::Connected }
    }

    async fn delete(&self, spec: &QueueSpec) -> Result<(), QueueError> {
        self.session.check_open()?;
        self.session.broker.delete(spec);
        Ok(())
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.session.close();
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Handle {
    session: Arc<Session>,
    spec: QueueSpec,
}

impl Handle {
    fn find(&self) -> Result<Queue, QueueError> {
        self.session.check_open()?;
        self.session.broker.find(&self.spec)
    }

    fn deliveries(&self, queue: Arc<Shared>, prefetch: u16, fanout: Option<Arc<Fanout>>) -> Deliveries {
        let receiver = queue.attach(self.session.id, prefetch);
        Deliveries { handle: self.clone(), queue, receiver, fanout }
    }
}

#[async_trait]
impl QueueHandle for Handle {
    fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    async fn publisher(&self) -> Result<Arc<dyn Publisher>, QueueError> {
        self.session.check_open()?;
        Ok(Arc::new(self.clone()))
    }

    async fn consumer(&self, prefetch: u16) -> Result<BoxStream<'static, Delivery>, QueueError> {
        let deliveries = match self.find()? {
            Queue::Shared(queue) => self.deliveries(queue, prefetch, None).boxed(),
            Queue::Fanout(fanout) => self.deliveries(fanout.subscribe(), prefetch, Some(fanout)).boxed(),
            Queue::Log(log) => {
                let reader = log.attach(self.session.id);
                Records { session: self.session.clone(), log, reader, offset: 0 }.boxed()
            }
        };
        Ok(deliveries)
    }

    async fn take(&self) -> Result<Option<Delivery>, QueueError> {
        let Queue::Shared(queue) = self.find()? else { return Err(QueueError::NoSuchQueue(self.spec.name.clone())) };
        let receiver = queue.attach(self.session.id, 1);
        let taken = queue.poll_take(receiver, &mut Context::from_waker(Waker::noop()));
        // It stays for what is to be settled.
        queue.detach(receiver);
        Ok(match taken {
            Poll::Ready(Some((tag, message))) => {
                Some(Held { handle: self.clone(), queue, receiver, tag }.delivery(message))
            }
            Poll::Ready(None) | Poll::Pending => None,
        })
    }

    async fn status(&self) -> Result<QueueStatus, QueueError> {
        Ok(match self.find()? {
            Queue::Shared(queue) => queue.status(),
            Queue::Fanout(_) => QueueStatus::default(),
            Queue::Log(log) => log.status(),
        })
    }
}

#[async_trait]
impl Publisher for Handle {
    async fn publish(&self, message: Bytes) -> Result<(), QueueError> {
        if message.len() > MAX_MESSAGE {
            return Err(QueueError::TooLarge { size: message.len(), limit: MAX_MESSAGE });
        }
        // It never waits otherwise, and a loop that only publishes would keep its thread from everybody else.
        coop::consume_budget().await;
        let queue = self.find()?;
        if self.spec.kind == QueueKind::Later {
            self.session.broker.put(&self.spec, Message::new(message));
            return Ok(());
        }
        if queue.publish(message) { Ok(()) } else { Err(QueueError::NoSuchQueue(self.spec.name.clone())) }
    }
}

/// The deliveries of one receiver of a queue that is shared, or that is its own behind a fanout.
#[derive(Debug)]
struct Deliveries {
    handle: Handle,
    queue: Arc<Shared>,
    receiver: ReceiverId,
    /// Where the queue is to be taken from when the stream is dropped.
    fanout: Option<Arc<Fanout>>,
}

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let budget = ready!(coop::poll_proceed(cx));
        if self.handle.session.is_closed() {
            return Poll::Ready(None);
        }
        let taken = ready!(self.queue.poll_take(self.receiver, cx));
        budget.made_progress();
        Poll::Ready(taken.map(|(tag, message)| {
            let held = Held { handle: self.handle.clone(), queue: self.queue.clone(), receiver: self.receiver, tag };
            held.delivery(message)
        }))
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        if let Some(fanout) = &self.fanout {
            fanout.unsubscribe(&self.queue);
        }
        self.queue.detach(self.receiver);
    }
}

/// A delivery that a receiver holds.
#[derive(Debug)]
struct Held {
    handle: Handle,
    queue: Arc<Shared>,
    receiver: ReceiverId,
    tag: Tag,
}

impl Held {
    fn delivery(self, message: Message) -> Delivery {
        let Message { payload, returned: earlier, moves } = message;
        let acker = Box::new(ReleaseOnDrop(Some(self)));
        Delivery { payload, redelivered: earlier > 0, earlier, offset: None, moves, acker }
    }

    fn settle(&self) -> Result<Message, QueueError> {
        self.queue.settle(self.receiver, self.tag).ok_or(QueueError::Stale)
    }

    fn give_back(&self) -> Result<(), QueueError> {
        let Handle { session, spec } = &self.handle;
        let limited = spec.dead_letters().is_some();
        if let Some(exhausted) = self.queue.give_back(self.settle()?, limited) {
            session.broker.dead_letter_exhausted(spec, exhausted);
        }
        Ok(())
    }
}

/// Gives the delivery back unless it is taken out first.
#[derive(Debug)]
struct ReleaseOnDrop(Option<Held>);

impl ReleaseOnDrop {
    fn take(&mut self) -> Result<Held, QueueError> {
        self.0.take().ok_or(QueueError::Stale)
    }
}

#[async_trait]
impl Acker for ReleaseOnDrop {
    async fn ack(mut self: Box<Self>) -> Result<(), QueueError> {
        self.take()?.settle().map(drop)
    }

    async fn nack(mut self: Box<Self>) -> Result<(), QueueError> {
        self.take()?.give_back()
    }

    async fn move_to(mut self: Box<Self>, queue: &QueueSpec, reason: &str) -> Result<(), QueueError> {
        let held = self.take()?;
        let mut message = held.settle()?;
        message.returned += 1;
        held.handle.session.broker.move_message(&held.handle.spec, queue, message, reason);
        Ok(())
    }

    async fn dead_letter(self: Box<Self>, reason: &str) -> Result<(), QueueError> {
        match self.0.as_ref().and_then(|held| held.handle.spec.dead_letters()) {
            Some(dead) => self.move_to(&dead, reason).await,
            None => self.ack().await,
        }
    }
}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            // A delivery that is stale has been given back already.
            held.give_back().ok();
        }
    }
}

/// A reader of a log.
#[derive(Debug)]
struct Records {
    session: Arc<Session>,
    log: Arc<Log>,
    reader: u64,
    offset: u64,
}

impl Stream for Records {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let budget = ready!(coop::poll_proceed(cx));
        if self.session.is_closed() {
            return Poll::Ready(None);
        }
        let record = ready!(self.log.poll_read(self.reader, self.offset, cx));
        budget.made_progress();
        Poll::Ready(record.map(|payload| {
            let offset = Some(self.offset);
            self.offset += 1;
            let acker = Box::new(NothingToSettle);
            Delivery { payload, redelivered: false, earlier: 0, offset, moves: Vec::new(), acker }
        }))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.log.detach(self.reader);
    }
}
