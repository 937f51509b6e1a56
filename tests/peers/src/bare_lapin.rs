//! The limit over RabbitMQ: a loop that does by hand what Palfrey promises, and nothing else. Tasks go through a quorum queue,
//! persistent and confirmed; a worker sends a result to a durable queue, waits until it is confirmed, and acknowledges the task.
//!
//! A message is the job, the place of its first element, and the elements.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::{
    contestant::{Contestant, Outcome, Site},
    latency::one_by_one,
    work::{Batch, Job, Measure, Work, fingerprint, payload, weighted},
    worker::Worker,
};

pub(crate) const WORKER: &str = "lapin";

const TASKS: &str = "bench-lapin-tasks";
const RESULTS: &str = "bench-lapin-results";

/// Tasks under way, at the most; and their bytes, unless it is one.
const WINDOW: usize = 256;
const WINDOW_BYTES: usize = 32 << 20;

/// Tasks that a worker holds. With fewer it waits for the broker's confirms.
const PREFETCH: u16 = 64;

pub(crate) struct Lapin {
    tasks: Channel,
    results: Consumer,
    /// Publishing and consuming have a connection each: one that the broker stops from publishing must go on consuming.
    _connections: [Connection; 2],
    _workers: Vec<Worker>,
}

impl Lapin {
    pub(crate) async fn start(site: &Site, work: &Work) -> Result<Self> {
        let workers = Worker::start_all(site, work, WORKER)?;
        Ok(Self { _workers: workers, ..Self::without_workers(&site.uri).await? })
    }

    pub(crate) async fn without_workers(uri: &str) -> Result<Self> {
        let (publishing, tasks) = open(uri).await?;
        let (consuming, results) = open(uri).await?;
        let results = consume(&results, RESULTS, 256).await?;
        Ok(Self { tasks, results, _connections: [publishing, consuming], _workers: Vec::new() })
    }

    async fn rate(&mut self, work: &Work, count: u64) -> Result<u64> {
        let batch = if let Batch::Fixed(batch) = work.batch { batch as u64 } else { 1 };
        let bytes = batch as usize * work.job.bytes();
        let window = (WINDOW_BYTES / bytes).clamp(2, WINDOW);
        let (mut next, mut under_way, mut sum) = (0, 0, 0_u64);
        let mut confirms = FuturesUnordered::new();
        // All results that are there are acknowledged by one frame, which nobody waits for. Only one is on its way at a time: whichever
        // comes late is about what the broker has forgotten.
        let (mut acknowledging, mut unacknowledged) = (FuturesUnordered::new(), None);
        while next < count || under_way > 0 {
            while next < count && under_way < window {
                let until = (next + batch).min(count);
                let tasks = self.tasks.clone();
                let message = encode(work.job, next..until);
                confirms.push(async move { publish(&tasks, TASKS, &message).await });
                (next, under_way) = (until, under_way + 1);
            }
            tokio::select! {
                Some(confirmed) = confirms.next() => confirmed?,
                Some(written) = acknowledging.next() => written?,
                result = self.results.next() => {
                    let mut result = result.context("the consumer was cancelled")??;
                    loop {
                        sum = sum.wrapping_add(read(&result.data)?.sum());
                        under_way -= 1;
                        match self.results.next().now_or_never() {
                            Some(next) => result = next.context("the consumer was cancelled")??,
                            None => break,
                        }
                    }
                    unacknowledged = Some(result);
                }
            }
            if acknowledging.is_empty()
                && let Some(result) = unacknowledged.take()
            {
                acknowledging.push(acknowledge_all_to(result));
            }
        }
        while let Some(confirmed) = confirms.next().await {
            confirmed?;
        }
        while let Some(written) = acknowledging.next().await {
            written?;
            acknowledging.extend(unacknowledged.take().map(acknowledge_all_to));
        }
        Ok(sum)
    }

    async fn one(&mut self, input: u64) -> Result<u64> {
        let (sent, result) = tokio::join!(send(&self.tasks, input), self.results.next());
        sent?;
        let result = result.context("the consumer was cancelled")??;
        let output = read(&result.data)?.numbers().next().context("there is no element")?;
        // It is written while the next task is sent.
        tokio::spawn(async move { acknowledge(&result, false).await });
        Ok(output)
    }

    /// Sends one element, whoever answers.
    pub(crate) async fn send(&self, input: u64) -> Result<()> {
        send(&self.tasks, input).await
    }

    /// Waits for one element. It may have come before: a worker that is ended may not have acknowledged what it answered.
    pub(crate) async fn receive(&mut self) -> Result<u64> {
        let result = self.results.next().await.context("the consumer was cancelled")??;
        let output = read(&result.data)?.numbers().next().context("there is no element")?;
        acknowledge(&result, false).await?;
        Ok(output)
    }
}

async fn send(tasks: &Channel, input: u64) -> Result<()> {
    publish(tasks, TASKS, &encode(Job::Map, input..input + 1)).await
}

async fn acknowledge_all_to(delivery: Delivery) -> Result<()> {
    acknowledge(&delivery, true).await
}

async fn acknowledge(delivery: &Delivery, multiple: bool) -> Result<()> {
    delivery.acker.ack(BasicAckOptions { multiple }).await?;
    Ok(())
}

#[async_trait(?Send)]
impl Contestant for Lapin {
    async fn run(&mut self, work: &Work, count: u64) -> Result<Outcome> {
        match work.measure {
            Measure::Rate => {
                let started = Instant::now();
                let answer = self.rate(work, count).await?;
                Ok(Outcome { took: started.elapsed(), answer, ..Outcome::default() })
            }
            Measure::Latency => one_by_one(count, async |input| self.one(input).await).await,
        }
    }
}

/// A worker: takes, answers, and acknowledges what was confirmed.
pub(crate) async fn serve(uri: &str) -> Result<()> {
    let (_publishing, results) = open(uri).await?;
    let (_consuming, tasks) = open(uri).await?;
    let mut tasks = consume(&tasks, TASKS, PREFETCH).await?;
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(done) = under_way.next() => done?,
            task = tasks.next() => under_way.push(answer(results.clone(), task.context("the consumer was cancelled")??)),
        }
    }
}

/// The operations of this peer return what they are given.
async fn answer(results: Channel, task: Delivery) -> Result<()> {
    publish(&results, RESULTS, &task.data).await?;
    acknowledge(&task, false).await
}

async fn open(uri: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(TASKS.into(), durable, quorum).await?;
    channel.queue_declare(RESULTS.into(), durable, FieldTable::default()).await?;
    Ok((connection, channel))
}

async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    Ok(channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?)
}

async fn publish(channel: &Channel, queue: &str, message: &[u8]) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish("".into(), queue.into(), options, message, persistent).await?;
    if !sent.await?.is_ack() {
        bail!("the broker does not take a message");
    }
    Ok(())
}

/// The elements of a message.
struct Message<'a> {
    first: u64,
    /// Of one payload each, or eight bytes.
    is_payload: bool,
    elements: &'a [u8],
}

fn encode(job: Job, elements: std::ops::Range<u64>) -> Vec<u8> {
    let mut message = elements.start.to_le_bytes().to_vec();
    match job {
        Job::Echo(bytes) => {
            message.push(1);
            message.extend(payload(bytes, elements.start));
        }
        _ => {
            message.push(0);
            elements.for_each(|element| message.extend(element.to_le_bytes()));
        }
    }
    message
}

fn read(message: &[u8]) -> Result<Message<'_>> {
    let (first, rest) = message.split_first_chunk().context("the message is too short")?;
    let (kind, elements) = rest.split_first().context("the message is too short")?;
    Ok(Message { first: u64::from_le_bytes(*first), is_payload: *kind == 1, elements })
}

impl Message<'_> {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.elements.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn sum(&self) -> u64 {
        if self.is_payload {
            return weighted(self.first, fingerprint(self.elements));
        }
        (self.first..).zip(self.numbers()).fold(0, |sum, (index, output)| sum.wrapping_add(weighted(index, output)))
    }
}
