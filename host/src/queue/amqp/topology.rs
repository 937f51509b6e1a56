//! How each kind of queue is made of RabbitMQ's queues and exchanges.
//!
//! | kind | on the broker |
//! |---|---|
//! | tasks | quorum queue with a delivery limit; dead letters move, at least once, to a second quorum queue |
//! | later | quorum queue in which messages expire; they move, at least once, to the queue of tasks |
//! | lease | durable classic queue that expires. Not exclusive, or reconnecting would race the end of the old connection |
//! | broadcast | durable fanout exchange, and for each receiver an exclusive queue that goes with it |
//! | log | stream, and a classic queue that tells whether anything was ever appended |
//!
//! Every queue is bound to one topic exchange by its name, and messages go through that. The default exchange would let
//! whoever may use it write to every queue; on a topic exchange the broker asks for each name who may send to it and who may
//! listen to it.
//!
//! RabbitMQ does not tell how many messages a stream holds: what it answers is some seconds old. Reading the last chunk
//! does, but never ends in a stream that is empty. Hence whoever is about to append for the first time puts a mark into
//! `<name>.begun`: without a mark the log is empty, and with one the last chunk is there or about to be.

use std::time::Duration;

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, ExchangeKind,
    message::Delivery,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use uuid::Uuid;

use super::short;
use crate::queue::{DELAY, DELIVERY_LIMIT, LEASE_EXPIRY, QueueError, QueueKind, QueueSpec, QueueStatus};

/// The exchange that leads to the queue which the routing key names.
pub(super) const EXCHANGE: &str = "palfrey.topic";

/// Where RabbitMQ is told the offset from which to read a stream, and tells that of a message.
const OFFSET_HEADER: &str = "x-stream-offset";

/// The longest time between the mark of a log that was begun and its first record, if that comes at all.
const BEGINNING: Duration = Duration::from_secs(5);

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn arguments(spec: &QueueSpec) -> FieldTable {
    match spec.kind {
        QueueKind::Tasks => match spec.dead_letters() {
            None => table([("x-queue-type", text("quorum"))]),
            Some(dead) => table([
                ("x-queue-type", text("quorum")),
                ("x-delivery-limit", DELIVERY_LIMIT.into()),
                // The default exchange: it leads to the queue that the routing key names.
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&dead.name)),
                ("x-dead-letter-strategy", text("at-least-once")),
                // At-least-once requires it.
                ("x-overflow", text("reject-publish")),
            ]),
        },
        QueueKind::Later => {
            let delay = u32::try_from(DELAY.as_millis()).expect("the delay is a matter of seconds");
            table([
                ("x-queue-type", text("quorum")),
                ("x-message-ttl", delay.into()),
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&spec.comes_to().name)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ])
        }
        QueueKind::Lease => {
            let expiry = u32::try_from(LEASE_EXPIRY.as_millis()).expect("a lease expires within days");
            table([("x-expires", expiry.into())])
        }
        QueueKind::Log => table([("x-queue-type", text("stream"))]),
        QueueKind::Broadcast => FieldTable::default(),
    }
}

/// The queue that holds a mark once a log was begun.
pub(super) fn begun(log: &str) -> Result<ShortString, QueueError> {
    short(&format!("{log}.begun"))
}

/// A queue with its name on the broker, and what goes with it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    spec: QueueSpec,
    queue: ShortString,
    begun: Option<ShortString>,
}

impl Named {
    pub(super) fn of(spec: &QueueSpec) -> Result<Self, QueueError> {
        let begun = (spec.kind == QueueKind::Log).then(|| begun(&spec.name)).transpose()?;
        Ok(Self { spec: spec.clone(), queue: short(&spec.name)?, begun })
    }
}

/// Makes the exchange that leads to queues.
pub(super) async fn declare_exchange(channel: Channel) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default()).await
}

/// Has the exchange lead to a queue. Doing it twice is harmless.
pub(super) async fn bind(channel: &Channel, queue: ShortString) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.clone(), EXCHANGE.into(), queue, options, FieldTable::default()).await
}

/// Fails if it does not exist.
pub(super) async fn check(channel: Channel, named: Named) -> lapin::Result<()> {
    let Named { spec, queue: name, .. } = named;
    if spec.kind == QueueKind::Broadcast {
        return check_exchange(&channel, name).await;
    }
    check_queue(&channel, name).await.map(drop)
}

async fn check_exchange(channel: &Channel, name: ShortString) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await
}

pub(super) async fn declare(channel: Channel, named: Named) -> lapin::Result<()> {
    let Named { spec, queue: name, begun } = named;
    if spec.kind == QueueKind::Broadcast {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        return channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await;
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    if let Some(begun) = begun {
        let one_mark = table([("x-max-length", 1.into())]);
        channel.queue_declare(begun.clone(), options, one_mark).await?;
        bind(&channel, begun).await?;
    }
    channel.queue_declare(name.clone(), options, arguments(&spec)).await?;
    bind(&channel, name).await
}

pub(super) async fn delete(channel: Channel, named: Named) -> lapin::Result<()> {
    let Named { spec, queue: name, begun } = named;
    if spec.kind == QueueKind::Broadcast {
        return channel.exchange_delete(name, ExchangeDeleteOptions::default()).await;
    }
    channel.queue_delete(name, QueueDeleteOptions::default()).await?;
    if let Some(begun) = begun {
        channel.queue_delete(begun, QueueDeleteOptions::default()).await?;
    }
    Ok(())
}

pub(super) async fn status(channel: Channel, named: Named) -> lapin::Result<QueueStatus> {
    if named.spec.kind == QueueKind::Broadcast {
        check(channel, named).await?;
        return Ok(QueueStatus::default());
    }
    let Named { queue: name, begun, .. } = named;
    let queue = check_queue(&channel, name.clone()).await?;
    if let Some(begun) = begun {
        let marks = check_queue(&channel, begun).await?.message_count();
        let messages = if marks == 0 { 0 } else { log_length(&channel, name).await? };
        return Ok(QueueStatus { messages, consumers: 0 });
    }
    Ok(QueueStatus { messages: queue.message_count().into(), consumers: queue.consumer_count().into() })
}

/// The offset behind the last record of a log that was begun.
async fn log_length(channel: &Channel, log: ShortString) -> lapin::Result<u64> {
    // A whole chunk arrives together, if nobody asks for less.
    channel.basic_qos(u16::MAX, BasicQosOptions::default()).await?;
    let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
    let last_chunk = table([(OFFSET_HEADER, text("last"))]);
    let mut records = channel.basic_consume(log, tag, options, last_chunk).await?;
    let mut length = 0;
    let mut see = |record: Option<lapin::Result<Delivery>>| -> lapin::Result<bool> {
        let Some(record) = record.transpose()? else { return Ok(false) };
        length = length.max(offset(&record.properties).map_or(0, |offset| offset + 1));
        Ok(true)
    };
    match tokio::time::timeout(BEGINNING, records.next()).await {
        Ok(first) => see(first)?,
        // Whoever left the mark died before the record.
        Err(_) => return Ok(0),
    };
    // The broker's answer comes behind the rest of the chunk.
    channel.basic_cancel(records.tag(), BasicCancelOptions::default()).await?;
    while see(records.next().await)? {}
    Ok(length)
}

/// The offset of a log's record.
pub(super) fn offset(properties: &BasicProperties) -> Option<u64> {
    match properties.headers().as_ref()?.inner().get(OFFSET_HEADER)? {
        AMQPValue::LongLongInt(offset) => Some(offset.cast_unsigned()),
        _ => None,
    }
}

/// Where to begin reading a log.
pub(super) fn from_offset(offset: u64) -> FieldTable {
    let offset = match offset {
        0 => text("first"),
        offset => AMQPValue::LongLongInt(offset.cast_signed()),
    };
    table([(OFFSET_HEADER, offset)])
}

/// Fails if the queue does not exist.
pub(super) async fn check_queue(channel: &Channel, name: ShortString) -> lapin::Result<lapin::Queue> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(name, options, FieldTable::default()).await
}

/// A queue of a broadcast's receiver: a new name each time, since that of a lost connection may still be there.
pub(super) async fn subscribe(channel: &Channel, exchange: ShortString) -> lapin::Result<ShortString> {
    let queue = ShortString::from(format!("palfrey.broadcast.{}", Uuid::new_v4()));
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    bind_broadcast(channel, exchange, queue.clone()).await?;
    Ok(queue)
}

async fn bind_broadcast(channel: &Channel, exchange: ShortString, queue: ShortString) -> lapin::Result<()> {
    let (key, options) = (ShortString::default(), QueueBindOptions::default());
    channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await
}

/// Fails if somebody has deleted a broadcast, and connects the queue to it again if somebody has made it again. Whoever may receive
/// may do that; to make a broadcast is for few.
pub(super) async fn check_broadcast(channel: &Channel, exchange: ShortString, queue: ShortString) -> lapin::Result<()> {
    check_exchange(channel, exchange.clone()).await?;
    bind_broadcast(channel, exchange, queue).await
}
