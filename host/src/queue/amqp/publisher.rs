//! Publishing with confirms: one task owns a channel and every message that the broker has not confirmed yet.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{FieldTable, ShortString},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{Span, debug, trace, warn};

use super::{
    bursts::Bursts,
    link::{Link, Verdict, forbidden_topic, size_limit},
    silence::{LOOK, Silence},
    topology,
};
use crate::{
    TIMES, micros,
    queue::{Condition, Durability, MAX_MESSAGE, QueueError},
};

/// Messages on their way to the broker, or to its disk, at a time. Quorum queues need some hundreds to be quick.
const WINDOW: usize = 1024;

/// The pause before a message is sent again to a queue that exists and does not take it yet.
const OPENING: Duration = Duration::from_millis(50);

/// Takes messages for one exchange. Clones share its channel; when the last one is dropped, the task behind it ends.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    messages: mpsc::Sender<Outgoing>,
    renewal: Arc<Notify>,
}

/// A message on its way.
#[derive(Debug)]
struct Outgoing {
    /// The queue, as the user knows it.
    queue: Arc<str>,
    routing_key: ShortString,
    payload: Bytes,
    headers: Option<FieldTable>,
    /// Whose message it is.
    span: Span,
    done: oneshot::Sender<Result<(), QueueError>>,
}

impl Outgoing {
    fn tell(self, outcome: Result<(), QueueError>) {
        // Nobody may be waiting any more.
        self.done.send(outcome).ok();
    }
}

impl Outbox {
    /// `link` is for publishing, `asking` for questions about the queues.
    pub(super) fn open(link: Link, asking: Link, exchange: ShortString, durability: Durability) -> Self {
        let (messages, incoming) = mpsc::channel(WINDOW);
        let again = messages.downgrade();
        let unconfirmed = BTreeMap::new();
        let (next_id, silence) = (0, Silence::default());
        let renewal = Arc::<Notify>::default();
        let driver = Driver {
            link,
            asking,
            exchange,
            durability,
            incoming,
            again,
            renewal: renewal.clone(),
            next_id,
            unconfirmed,
            silence,
        };
        tokio::spawn(driver.run());
        Self { messages, renewal }
    }

    /// Leaves the channel for another one: see [`Publisher::renew`](crate::queue::Publisher::renew).
    ///
    /// A quorum queue counts what each channel publishes, and confirms and drops what it has counted already. RabbitMQ 3.10 begins
    /// to count anew when it takes a queue for deleted that was made again meanwhile.
    pub(super) fn renew(&self) {
        self.renewal.notify_one();
    }

    /// Publishes a message and waits for what the durability asks for.
    pub(super) async fn publish(
        &self,
        queue: Arc<str>,
        routing_key: ShortString,
        payload: Bytes,
        headers: Option<FieldTable>,
    ) -> Result<(), QueueError> {
        if payload.len() > MAX_MESSAGE {
            return Err(QueueError::TooLarge { size: payload.len(), limit: MAX_MESSAGE });
        }
        let (done, outcome) = oneshot::channel();
        let message = Outgoing { queue, routing_key, payload, headers, span: Span::current(), done };
        self.messages.send(message).await.map_err(|_| QueueError::Closed)?;
        outcome.await.unwrap_or(Err(QueueError::Closed))
    }
}

/// Identity of a message within its outbox. It travels as the message ID, by which a returned message is recognised.
pub(super) type MessageId = u64;

type Confirms = FuturesUnordered<BoxFuture<'static, (MessageId, lapin::Result<Confirmation>)>>;

struct Driver {
    link: Link,
    asking: Link,
    exchange: ShortString,
    durability: Durability,
    incoming: mpsc::Receiver<Outgoing>,
    /// The other end of it, for messages that are to be tried again.
    again: mpsc::WeakSender<Outgoing>,
    /// Asks for another channel.
    renewal: Arc<Notify>,
    next_id: MessageId,
    /// In the order in which they were sent. They outlive the channel, and are sent again on the next one.
    unconfirmed: BTreeMap<MessageId, Outgoing>,
    /// How long the broker has confirmed nothing.
    silence: Silence,
}

impl Driver {
    async fn run(mut self) {
        loop {
            if self.unconfirmed.is_empty() {
                match self.incoming.recv().await {
                    Some(message) => self.enqueue(message),
                    None => return,
                };
            }
            let confirmed = self.durability == Durability::Confirmed;
            let opened = self.link.on_channel_of(self.exchange.as_str(), "publish to", |channel| async move {
                if confirmed {
                    channel.confirm_select(ConfirmSelectOptions::default()).await?;
                }
                Ok(channel)
            });
            match opened.await {
                Ok((channel, connection)) => {
                    let link = self.link.clone();
                    let ended = link.unless_lost(&connection, self.drive(&channel)).await;
                    if let Some(error) = ended.flatten() {
                        self.give_up_if_final(&error);
                    }
                }
                // Whoever waits learns it by the end of the task.
                Err(QueueError::Closed) => return,
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.fail_all(|_| broker_error(anyhow!("{error}")));
                }
            }
        }
    }

    /// Sends until the channel breaks, and returns why; until the broker has been silent for too long, or somebody asks for another
    /// channel; or until nobody is left who sends.
    async fn drive(&mut self, channel: &Channel) -> Option<lapin::Error> {
        let mut confirms = Confirms::new();
        let mut returned = HashSet::new();
        let mut bursts = Bursts::default();
        for (&id, message) in &self.unconfirmed {
            confirms.push(self.send(channel, id, message));
        }
        self.silence.begin_again(Instant::now());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wait = bursts.wait(self.unconfirmed.len());
            tokio::select! {
                biased;
                Some(first) = confirms.next() => {
                    let mut batch = vec![first];
                    while let Some(Some(next)) = confirms.next().now_or_never() {
                        batch.push(next);
                    }
                    if let Some(error) = self.settle(batch, &mut returned) {
                        return Some(error);
                    }
                }
                _ = look.tick(), if !self.unconfirmed.is_empty() => {
                    if self.is_silent() {
                        return None;
                    }
                }
                // Ahead of the messages for which somebody asked.
                () = self.renewal.notified() => return None,
                () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => bursts.release(),
                message = self.incoming.recv(), if wait.is_none() && self.unconfirmed.len() < WINDOW => match message {
                    Some(first) => {
                        let (mut bytes, mut next) = (0, Some(first));
                        while let Some(message) = next {
                            bytes += message.payload.len();
                            let id = self.enqueue(message);
                            confirms.push(self.send(channel, id, &self.unconfirmed[&id]));
                            let has_room = self.unconfirmed.len() < WINDOW;
                            next = has_room.then(|| self.incoming.try_recv().ok()).flatten();
                        }
                        bursts.sent(bytes, self.unconfirmed.len(), Instant::now());
                    }
                    None if self.unconfirmed.is_empty() => return None,
                    // Nobody sends any more; what was sent is still to be confirmed.
                    None => match confirms.next().await {
                        Some(last) => if let Some(error) = self.settle(vec![last], &mut returned) {
                            return Some(error);
                        },
                        None => return None,
                    },
                },
            }
        }
    }

    /// Whether the broker confirms nothing any more of what was sent to some queue.
    fn is_silent(&mut self) -> bool {
        let now = Instant::now();
        // With an alarm at the broker everything waits.
        if self.link.condition() != Condition::Connected {
            self.silence.begin_again(now);
        }
        let unconfirmed = self.unconfirmed.iter().map(|(&id, it)| (id, &it.routing_key, it.payload.len()));
        let silent = self.silence.look(unconfirmed, now);
        if let Some((queue, silent)) = &silent {
            let messages = self.unconfirmed.len();
            warn!(%queue, messages, ?silent, "the broker confirms nothing; sending again what it has not confirmed");
        }
        silent.is_some()
    }

    fn enqueue(&mut self, message: Outgoing) -> MessageId {
        let id = self.next_id;
        self.next_id += 1;
        self.unconfirmed.insert(id, message);
        id
    }

    fn send(
        &self,
        channel: &Channel,
        id: MessageId,
        message: &Outgoing,
    ) -> BoxFuture<'static, (MessageId, lapin::Result<Confirmation>)> {
        let confirmed = self.durability == Durability::Confirmed;
        let mut properties = BasicProperties::default()
            .with_message_id(id.to_string().into())
            .with_delivery_mode(if confirmed { 2 } else { 1 });
        if let Some(headers) = &message.headers {
            properties = properties.with_headers(headers.clone());
        }
        // Fanouts with nobody behind are no failure; a queue that does not exist is one.
        let mandatory = confirmed && self.exchange.as_str() == topology::EXCHANGE;
        let options = BasicPublishOptions { mandatory, ..Default::default() };
        let (channel, exchange) = (channel.clone(), self.exchange.clone());
        let (routing_key, payload) = (message.routing_key.clone(), message.payload.clone());
        let span = message.span.clone();
        async move {
            let started = Instant::now();
            let sent = channel.basic_publish(exchange, routing_key, options, &payload, properties).await;
            let published = started.elapsed();
            let confirmation = match sent {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            let [publishing, confirming] = [published, started.elapsed().saturating_sub(published)].map(micros);
            trace!(target: TIMES, parent: &span, publishing, confirming, "published, in microseconds");
            (id, confirmation)
        }
        .boxed()
    }

    /// Tells the senders what became of their messages. Returns an error if the channel broke.
    ///
    /// A message that could not be routed comes back ahead of its own confirm, and the client library hands it to
    /// whichever confirm comes next. Hence the returned messages of a batch are sorted out before its confirms: the
    /// batch holds everything that was confirmed before any of its members.
    fn settle(
        &mut self,
        mut batch: Vec<(MessageId, lapin::Result<Confirmation>)>,
        returned: &mut HashSet<MessageId>,
    ) -> Option<lapin::Error> {
        for (_, confirmation) in &mut batch {
            if let Ok(Confirmation::Ack(message) | Confirmation::Nack(message)) = confirmation
                && let Some(message) = message.take()
                && let Some(id) = message.delivery.properties.message_id()
            {
                returned.extend(id.as_str().parse::<MessageId>());
            }
        }
        let mut broken = None;
        let mut unroutable: BTreeMap<ShortString, Vec<Outgoing>> = BTreeMap::new();
        for (id, confirmation) in batch {
            let confirmation = match confirmation {
                Ok(confirmation) => confirmation,
                Err(error) => {
                    // One of them tells why; the others only that the channel is gone.
                    broken = broken.filter(|known| Verdict::of(known) != Verdict::Lost).or(Some(error));
                    continue;
                }
            };
            let Some(message) = self.unconfirmed.remove(&id) else { continue };
            if returned.remove(&id) {
                unroutable.entry(message.routing_key.clone()).or_default().push(message);
                continue;
            }
            let outcome = match confirmation {
                Confirmation::Nack(_) => Err(QueueError::Refused(message.queue.to_string())),
                Confirmation::Ack(_) | Confirmation::NotRequested => Ok(()),
            };
            message.tell(outcome);
        }
        for (name, messages) in unroutable {
            tokio::spawn(retry_unless_missing(self.asking.clone(), name, messages, self.again.clone()));
        }
        broken
    }

    /// After the channel broke: what would break the next one as well is not sent again.
    fn give_up_if_final(&mut self, error: &lapin::Error) {
        let (limit, topic) = (size_limit(error), forbidden_topic(error));
        let fault = |message: &Outgoing| match (limit, topic) {
            (Some(limit), _) if message.payload.len() > limit => {
                Some(QueueError::TooLarge { size: message.payload.len(), limit })
            }
            (_, Some(topic)) if message.routing_key.as_str() == topic => Some(QueueError::Forbidden(topic.to_owned())),
            _ => None,
        };
        let at_fault: Vec<_> = self.unconfirmed.extract_if(.., |_, message| fault(message).is_some()).collect();
        let is_about_some = !at_fault.is_empty();
        for (_, message) in at_fault {
            if let Some(error) = fault(&message) {
                message.tell(Err(error));
            }
        }
        // The others were only beside it.
        if is_about_some {
            return;
        }
        match Verdict::of(error) {
            Verdict::Lost => debug!(%error, messages = self.unconfirmed.len(), "unconfirmed messages are sent again"),
            Verdict::Missing => self.fail_all(|queue| QueueError::NoSuchQueue(queue.to_owned())),
            Verdict::Refused => self.fail_all(|_| broker_error(error.clone().into())),
        }
    }

    fn fail_all(&mut self, error: impl Fn(&str) -> QueueError) {
        for message in std::mem::take(&mut self.unconfirmed).into_values() {
            let error = error(&message.queue);
            message.tell(Err(error));
        }
    }
}

/// While a broker starts, it returns messages to queues that it has and did not open yet. Asks whether the queue exists,
/// and fails the messages or sends them again accordingly.
async fn retry_unless_missing(
    asking: Link,
    name: ShortString,
    messages: Vec<Outgoing>,
    again: mpsc::WeakSender<Outgoing>,
) {
    let look = |channel: Channel| {
        let name = name.clone();
        async move { topology::check_queue(&channel, name).await }
    };
    match asking.on_channel(name.as_str(), "publish to", look).await {
        Ok(_) => {
            tokio::time::sleep(OPENING).await;
            // Whoever waits for a message holds the other end as well.
            let Some(again) = again.upgrade() else { return };
            for message in messages {
                again.send(message).await.ok();
            }
        }
        Err(QueueError::NoSuchQueue(_)) => {
            for message in messages {
                let missing = QueueError::NoSuchQueue(message.queue.to_string());
                message.tell(Err(missing));
            }
        }
        // The end of the messages tells it.
        Err(QueueError::Closed) => {}
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            messages.into_iter().for_each(|message| message.tell(Err(broker_error(anyhow!("{error}")))));
        }
    }
}

fn broker_error(source: anyhow::Error) -> QueueError {
    QueueError::Broker { action: "take a message".into(), source }
}
