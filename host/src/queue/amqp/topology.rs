//! How each kind of queue is made of RabbitMQ's queues and exchanges.
//!
//! | kind | on the broker |
//! |---|---|
//! | tasks | quorum queue with a delivery limit; dead letters move, at least once, to a second quorum queue |
//! | lease | durable classic queue that expires. Not exclusive, or reconnecting would race the end of the old connection |
//! | broadcast | durable fanout exchange, and for each receiver an exclusive queue that goes with it |
//! | log | stream |

use lapin::{
    Channel, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use uuid::Uuid;

use crate::queue::{DELIVERY_LIMIT, LEASE_EXPIRY, QueueKind, QueueSpec, QueueStatus};

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
        QueueKind::Lease => {
            let expiry = u32::try_from(LEASE_EXPIRY.as_millis()).expect("a lease expires within days");
            table([("x-expires", expiry.into())])
        }
        QueueKind::Log => table([("x-queue-type", text("stream"))]),
        QueueKind::Broadcast => FieldTable::default(),
    }
}

pub(super) async fn declare(channel: &Channel, spec: &QueueSpec, name: ShortString) -> lapin::Result<()> {
    if spec.kind == QueueKind::Broadcast {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        return channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await;
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name, options, arguments(spec)).await.map(drop)
}

pub(super) async fn delete(channel: &Channel, kind: QueueKind, name: ShortString) -> lapin::Result<()> {
    if kind == QueueKind::Broadcast {
        return channel.exchange_delete(name, ExchangeDeleteOptions::default()).await;
    }
    channel.queue_delete(name, QueueDeleteOptions::default()).await.map(drop)
}

pub(super) async fn status(channel: &Channel, kind: QueueKind, name: ShortString) -> lapin::Result<QueueStatus> {
    if kind == QueueKind::Broadcast {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await?;
        return Ok(QueueStatus::default());
    }
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel.queue_declare(name, options, FieldTable::default()).await?;
    Ok(QueueStatus { messages: queue.message_count().into(), consumers: queue.consumer_count().into() })
}

/// A queue of a broadcast's receiver: a new name each time, since that of a lost connection may still be there.
pub(super) async fn subscribe(channel: &Channel, exchange: ShortString) -> lapin::Result<ShortString> {
    let queue = ShortString::from(format!("palfrey.broadcast.{}", Uuid::new_v4()));
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    let (key, options) = (ShortString::default(), QueueBindOptions::default());
    channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default()).await?;
    Ok(queue)
}
