//! Deliveries: one task for each receiver subscribes, and subscribes again whenever the channel is gone.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lapin::{
    Channel,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
    },
    types::{DeliveryTag, FieldTable, ShortString},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    headers,
    link::Link,
    publisher::Outbox,
    settlements::Settlements,
    short,
    topology::{self, Named},
};
use crate::queue::{Acker, Delivery, Move, NothingToSettle, QueueError, QueueKind, QueueSpec, moves::moved};

/// How often a receiver of a broadcast makes sure that it is still connected to it, and one of tasks that it is not forgotten.
const CHECK: Duration = Duration::from_secs(10);

/// How long a receiver of tasks that made sure of its subscription by another one is content with that.
const SURE: Duration = Duration::from_secs(60);

/// A receiver's wish, from which a subscription can be made on any connection.
#[derive(Debug)]
pub(super) struct Receiver {
    /// For consuming.
    pub(super) link: Link,
    /// For what is declared on the way.
    pub(super) asking: Link,
    pub(super) outbox: Outbox,
    pub(super) closed: CancellationToken,
    pub(super) spec: QueueSpec,
    pub(super) prefetch: u16,
    /// The offset behind the last message of a log that was handed over.
    pub(super) next_offset: u64,
}

/// A subscription on one channel.
struct Subscription {
    channel: Channel,
    consumer: lapin::Consumer,
    /// The queue from which it reads.
    queue: ShortString,
    connection: Arc<lapin::Connection>,
    settlements: Arc<Settlements>,
}

/// Why a subscription does not go on.
enum End {
    /// The stream was dropped, or the connection closed.
    Unwanted,
    /// The channel is gone, or the broker has cancelled the subscription.
    Lost,
    /// Nothing is wrong, as far as can be told. Another subscription makes sure of that.
    Unsure,
}

impl Receiver {
    /// Subscribes, and returns the deliveries to come.
    pub(super) async fn start(self) -> Result<mpsc::Receiver<Received>, QueueError> {
        let subscription = self.subscribe().await?;
        // The prefetch bounds what can be in it, so that handing over a delivery that needs an acknowledgement never waits.
        let (deliveries, received) = mpsc::channel(self.prefetch.into());
        tokio::spawn(self.run(subscription, deliveries));
        Ok(received)
    }

    async fn run(mut self, mut subscription: Subscription, deliveries: mpsc::Sender<Received>) {
        let mut sure_until = Instant::now();
        loop {
            let (link, connection) = (self.link.clone(), subscription.connection.clone());
            let handing_over = self.hand_over(&mut subscription, &deliveries, sure_until);
            let ended = link.unless_lost(&connection, handing_over).await;
            match ended.unwrap_or(End::Lost) {
                // Nothing is given back to a log, and a broker that is asked to ends the whole connection.
                End::Unwanted if self.spec.kind == QueueKind::Log => return,
                End::Unwanted => {
                    link.unless_lost(&connection, subscription.end()).await;
                    return;
                }
                End::Lost => sure_until = Instant::now(),
                End::Unsure => sure_until = Instant::now() + SURE,
            }
            drop(subscription);
            let again = tokio::select! {
                again = self.subscribe_again() => again,
                () = deliveries.closed() => return,
            };
            subscription = match again {
                Ok(subscription) => subscription,
                Err(QueueError::Closed) => return,
                Err(error @ QueueError::NoSuchQueue(_)) => return debug!(%error, "the deliveries end"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    return warn!(error, queue = self.spec.name, "the deliveries end");
                }
            };
        }
    }

    async fn subscribe(&self) -> Result<Subscription, QueueError> {
        let name = short(&self.spec.name)?;
        let arguments = match self.spec.kind {
            QueueKind::Log => topology::from_offset(self.next_offset),
            _ => FieldTable::default(),
        };
        let (kind, prefetch) = (self.spec.kind, self.prefetch);
        let work = |channel: Channel| {
            let (name, arguments) = (name.clone(), arguments.clone());
            async move {
                let queue = match kind {
                    QueueKind::Broadcast => topology::subscribe(&channel, name).await?,
                    QueueKind::Lease => {
                        // A broker that was killed may have kept the queue and forgotten what leads to it.
                        topology::bind(&channel, name.clone()).await?;
                        name
                    }
                    _ => name,
                };
                channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
                let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
                let consumer = channel.basic_consume(queue.clone(), tag, options, arguments).await?;
                Ok((channel, consumer, queue))
            }
        };
        let ((channel, consumer, queue), connection) =
            self.link.on_channel_of(&self.spec.name, "receive from", work).await?;
        let settlements = Settlements::new(channel.clone(), connection.clone(), self.link.clone());
        Ok(Subscription { channel, consumer, queue, connection, settlements })
    }

    /// The same once more. A broadcast is made again if somebody has deleted it, of which its receivers are not told.
    async fn subscribe_again(&self) -> Result<Subscription, QueueError> {
        match self.subscribe().await {
            Err(QueueError::NoSuchQueue(_)) if self.spec.kind == QueueKind::Broadcast => {
                let named = Named::of(&self.spec)?;
                let declare = |channel| topology::declare(channel, named.clone());
                self.asking.on_channel(&self.spec.name, "declare", declare).await?;
                self.subscribe().await
            }
            subscribed => subscribed,
        }
    }

    /// The next message, if there is one now, on a channel of its own.
    pub(super) async fn take(&self) -> Result<Option<Delivery>, QueueError> {
        let name = short(&self.spec.name)?;
        let work = |channel: Channel| {
            let name = name.clone();
            async move {
                let taken = channel.basic_get(name, BasicGetOptions::default()).await?;
                Ok(taken.map(|taken| (channel, taken.delivery)))
            }
        };
        let (taken, connection) = self.link.on_channel_of(&self.spec.name, "take from", work).await?;
        Ok(taken.and_then(|(channel, delivery)| {
            let settlements = Settlements::new(channel, connection, self.link.clone());
            self.received(&settlements, delivery).into_delivery()
        }))
    }

    async fn hand_over(
        &mut self,
        subscription: &mut Subscription,
        deliveries: &mpsc::Sender<Received>,
        sure_until: Instant,
    ) -> End {
        let mut check = tokio::time::interval_at(Instant::now() + CHECK, CHECK);
        let mut is_doubtful = false;
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.closed.cancelled() => return End::Unwanted,
                () = deliveries.closed() => return End::Unwanted,
                delivery = subscription.consumer.next() => delivery,
                _ = check.tick() => match self.check(subscription, &mut is_doubtful, sure_until).await {
                    Ok(None) => continue,
                    Ok(Some(end)) => return end,
                    Err(error) => {
                        debug!(%error, queue = self.spec.name, "the channel is gone; subscribing again");
                        return End::Lost;
                    }
                },
            };
            is_doubtful = false;
            let delivery = match delivery {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => {
                    debug!(%error, queue = self.spec.name, "the channel is gone; subscribing again");
                    return End::Lost;
                }
                None => return End::Lost,
            };
            let sent = match self.spec.kind {
                QueueKind::Log => self.hand_over_record(delivery, deliveries).await,
                _ => deliveries.send(self.received(&subscription.settlements, delivery)).await.is_ok(),
            };
            if !sent {
                return End::Unwanted;
            }
        }
    }

    /// Why a subscription is to end, if it is not as it should be, as far as can be told. What is doubtful twice in a row is not.
    ///
    /// A quorum queue that is deleted and made again within a moment may be forgotten by a channel that receives from it: the end
    /// of the old one reaches the channel late, which from then on tells the new one nothing of what was acknowledged. The queue
    /// waits for that and hands over no more. It shows in that nothing is held and nothing comes, while messages wait. Where others
    /// receive what waits it does not show: therefore each subscription is followed by another one, as soon as nothing is held after
    /// [`CHECK`], and from then on every [`SURE`]. What the queue took for held is returned with the first channel.
    async fn check(
        &self,
        subscription: &Subscription,
        is_doubtful: &mut bool,
        sure_until: Instant,
    ) -> lapin::Result<Option<End>> {
        let Subscription { channel, queue, settlements, .. } = subscription;
        match self.spec.kind {
            QueueKind::Broadcast => {
                if let Ok(exchange) = short(&self.spec.name) {
                    topology::check_broadcast(channel, exchange, queue.clone()).await?;
                }
                Ok(None)
            }
            QueueKind::Tasks if settlements.holds_nothing() => {
                let waits = topology::check_queue(channel, queue.clone()).await?.message_count() > 0;
                if std::mem::replace(is_doubtful, waits) && waits {
                    warn!(queue = self.spec.name, "messages wait and the broker hands over none; subscribing again");
                    return Ok(Some(End::Lost));
                }
                Ok((Instant::now() >= sure_until).then_some(End::Unsure))
            }
            _ => Ok(None),
        }
    }

    /// Acknowledging tells a stream that more can be sent, no more: once the record is handed over, that is so.
    async fn hand_over_record(&mut self, delivery: lapin::message::Delivery, out: &mpsc::Sender<Received>) -> bool {
        let lapin::message::Delivery { properties, data, acker, .. } = delivery;
        let Some(offset) = topology::offset(&properties) else {
            warn!(queue = self.spec.name, "a record without an offset is left out");
            return true;
        };
        // A stream begins at the chunk that holds the offset asked for, which may hold earlier ones.
        if offset >= self.next_offset {
            let record = Received { payload: data.into(), redelivered: false, offset: Some(offset), held: None };
            if out.send(record).await.is_err() {
                return false;
            }
            self.next_offset = offset + 1;
        }
        // It fails if the channel is gone, and the next look at it tells.
        acker.ack(BasicAckOptions::default()).await.ok();
        true
    }

    fn received(&self, settlements: &Arc<Settlements>, delivery: lapin::message::Delivery) -> Received {
        let lapin::message::Delivery { properties, data, acker, redelivered, delivery_tag, .. } = delivery;
        settlements.delivered(delivery_tag);
        let payload = Bytes::from(data);
        let held = Held {
            tag: Some(delivery_tag),
            acker,
            settlements: settlements.clone(),
            payload: payload.clone(),
            earlier: headers::earlier_deliveries(&properties).unwrap_or(u32::from(redelivered)),
            moves: headers::moves(&properties),
            queue: self.spec.clone(),
            outbox: self.outbox.clone(),
            asking: self.asking.clone(),
        };
        Received { payload, redelivered, offset: None, held: Some(held) }
    }
}

impl Subscription {
    /// Stops the deliveries, and gives back those that nobody will ask for. The channel stays open as long as others are
    /// to be settled on it.
    async fn end(self) {
        let Self { channel, mut consumer, .. } = self;
        if channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.is_err() {
            return;
        }
        while let Some(Ok(delivery)) = consumer.next().await {
            let requeue = BasicNackOptions { requeue: true, ..Default::default() };
            delivery.acker.nack(requeue).await.ok();
        }
    }
}

/// A message that was received and not asked for yet.
#[derive(Debug)]
pub(super) struct Received {
    payload: Bytes,
    redelivered: bool,
    offset: Option<u64>,
    /// What is to be settled; nothing for a record of a log.
    held: Option<Held>,
}

impl Received {
    /// The delivery, unless its channel has gone meanwhile and it will come again.
    pub(super) fn into_delivery(self) -> Option<Delivery> {
        let Self { payload, redelivered, offset, held } = self;
        let (earlier, moves, acker): (_, _, Box<dyn Acker>) = match held {
            Some(held) if !held.is_usable() => return None,
            Some(held) => (held.earlier, held.moves.clone(), Box::new(held)),
            None => (0, Vec::new(), Box::new(NothingToSettle)),
        };
        Some(Delivery { payload, redelivered, earlier, offset, moves, acker })
    }
}

/// A delivery that is to be settled, on the channel on which it came. Dropping it gives it back.
#[derive(Debug)]
struct Held {
    /// None once it is settled.
    tag: Option<DeliveryTag>,
    /// Knows whether the channel is gone.
    acker: lapin::Acker,
    settlements: Arc<Settlements>,
    payload: Bytes,
    /// Earlier deliveries from this queue.
    earlier: u32,
    moves: Vec<Move>,
    queue: QueueSpec,
    outbox: Outbox,
    asking: Link,
}

impl Held {
    fn is_usable(&self) -> bool {
        self.acker.usable()
    }

    fn take(&mut self) -> Result<DeliveryTag, QueueError> {
        let usable = self.is_usable();
        self.tag.take().filter(|_| usable).ok_or(QueueError::Stale)
    }

    async fn acknowledge(&mut self) -> Result<(), QueueError> {
        let tag = self.take()?;
        self.settlements.acknowledge(tag).await
    }

    /// Publishes the message to another queue, which is made unless it exists.
    async fn publish_to(&self, spec: &QueueSpec, reason: &str) -> Result<(), QueueError> {
        let name = short(&spec.name)?;
        let deliveries = self.earlier.saturating_add(1);
        let moves = moved(self.moves.clone(), &self.queue.name, &spec.name, reason, deliveries);
        let headers = headers::of_moves(&moves);
        let copy = || {
            let (queue, payload) = (spec.name.as_str().into(), self.payload.clone());
            self.outbox.publish(queue, name.clone(), payload, Some(headers.clone()))
        };
        match copy().await {
            Err(QueueError::NoSuchQueue(_)) => {}
            done => return done,
        }
        let named = Named::of(spec)?;
        let declare = |channel| topology::declare(channel, named.clone());
        self.asking.on_channel(&spec.name, "declare", declare).await?;
        copy().await
    }
}

#[async_trait]
impl Acker for Held {
    async fn ack(mut self: Box<Self>) -> Result<(), QueueError> {
        self.acknowledge().await
    }

    async fn nack(mut self: Box<Self>) -> Result<(), QueueError> {
        let tag = self.take()?;
        self.settlements.give_back(tag).await
    }

    async fn move_to(mut self: Box<Self>, queue: &QueueSpec, reason: &str) -> Result<(), QueueError> {
        // The copy is confirmed first: whatever happens in between, the message is in one queue at least.
        if !self.is_usable() {
            return Err(QueueError::Stale);
        }
        self.publish_to(queue, reason).await?;
        self.acknowledge().await
    }

    async fn dead_letter(self: Box<Self>, reason: &str) -> Result<(), QueueError> {
        match self.queue.dead_letters() {
            Some(dead) => self.move_to(&dead, reason).await,
            None => self.ack().await,
        }
    }

    fn is_stale(&self) -> bool {
        !self.is_usable()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Ok(tag) = self.take() {
            self.settlements.drop_back(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{Amqp, AmqpOptions, Handle};
    use crate::queue::{Connection as _, QueueError, QueueKind, QueueSpec};

    #[tokio::test]
    async fn nothing_waits_for_an_acknowledgement_on_a_connection_that_is_lost() {
        let broker = Amqp::connect(&palfrey_rabbitmq::shared_uri().unwrap(), AmqpOptions::default()).await.unwrap();
        let spec = QueueSpec::new(Uuid::new_v4().to_string(), QueueKind::Lease);
        let queue = broker.declare(&spec).await.unwrap();
        queue.publisher().await.unwrap().publish("held".into()).await.unwrap();
        let handle = Handle { shared: broker.shared.clone(), spec };
        let mut received = handle.receiver(1).start().await.unwrap();
        let held = received.recv().await.unwrap().held.unwrap();
        // The client library never answers, as it does when the frame goes out at the very moment of the loss.
        let settling = held.settlements.taken(std::future::pending());
        let lost = async { held.settlements.connection.close(200, "lost".into()).await.unwrap() };
        let both = futures::future::join(settling, lost);
        let (settled, ()) = tokio::time::timeout(super::CHECK * 6, both).await.expect("it does not wait");
        assert!(matches!(settled, Err(QueueError::Stale)));
        broker.close().await.unwrap();
    }
}
