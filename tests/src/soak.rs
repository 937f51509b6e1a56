//! A soak: a worker is sent bad messages by the thousand, with good tasks in between.
//!
//! What must hold is checked here: every message that is no task becomes a dead letter with a reason, every task of a job that
//! is gone is dropped, every good task is answered once, with the right answer, and the worker holds no more memory and files
//! than before. `cargo xtask soak` runs a million.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use arith::MultiplyBy;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesUnordered};
use palfrey_host::{
    channel::{ChannelFactory, ChannelType, Settled, coordinated},
    queue::{
        Connection, QueueError, QueueKind, QueueSpec,
        amqp::{Amqp, AmqpOptions},
    },
    task::{
        AnyTask, AnyTaskResult, Apply, Cause, Digest, Packed, RoutingKey, Stage, TaskId, TaskOutcome,
        wire::{Message, VERSION},
    },
};
use palfrey_sdk::Serializer;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{Usage, World, component, soon};

/// Bad messages for each good task.
const BAD_FOR_A_GOOD_ONE: u64 = 100;
/// Messages that may wait at the broker, so that it is the worker that is tested.
const BACKLOG: u64 = 2000;
/// Confirms that may be outstanding.
const UNCONFIRMED: usize = 256;
/// What a bad message has in common with any other: not more than this. Now and then there is one of [`LARGE`].
const SMALL: u64 = 200;
const LARGE: usize = 1 << 20;
/// Good tasks for each one that is too large for its operation's memory on the worker.
const GOOD_FOR_AN_OVERSIZED_ONE: u64 = 16;
/// That memory, and an element that has no room in it.
const MEMORY: usize = 4 << 20;
const OVERSIZED: usize = 8 << 20;

/// What came of it.
#[derive(Debug)]
pub struct Soaked {
    /// Messages that are no tasks, all of them dead letters in the end.
    pub dead: u64,
    /// Dead letters that were there twice: what is published or held while a connection or a channel is replaced comes again.
    pub doubled: u64,
    /// Dead letters by what is wrong with them, without the numbers in it.
    pub reasons: BTreeMap<String, u64>,
    /// Tasks of jobs that are gone, and tasks that had been answered: all of them dropped.
    pub replayed: u64,
    /// Good tasks, all of them answered once.
    pub good: u64,
    /// Tasks that are too large for their operation's memory, all of them answered with that.
    pub oversized: u64,
    /// From the first message to the last answer.
    pub time: Duration,
    /// The worker, before the last nineteen of twenty messages and after the last.
    pub usage: [Usage; 2],
}

/// Sends so many bad messages to a worker of its own.
///
/// # Panics
/// If anything of what must hold does not.
pub async fn soak(world: &World, messages: u64, progress: impl Fn(u64)) -> Soaked {
    world.deploy(&["arith"]).await;
    // A line for each message would be a log of hundreds of megabytes.
    let log = "palfrey_host=info,palfrey_host::worker::processing=error";
    let limit = format!("arith/multiply-by:memory={MEMORY}");
    let worker = world.start_worker(&["--slots", "2", "--log", log, "--limit", &limit]);
    let connection = Arc::new(soon(Amqp::connect(world.uri(), AmqpOptions::default())).await.expect("a broker"));
    let spec = QueueSpec::new("default", QueueKind::Tasks);
    let bus = soon(connection.declare(&spec)).await.expect("the queue of tasks");
    let publisher = soon(bus.publisher()).await.expect("a publisher");
    let (letters, mut dead) = watch::channel(Letters::default());
    let counter = count_dead_letters(connection.clone(), spec.clone(), letters.clone());
    let counter = AbortOnDropHandle::new(tokio::spawn(counter));

    let channels = ChannelFactory::new(connection.clone(), 64);
    let tasks = channels.get::<AnyTask>(&spec.name, ChannelType::ExactlyOnce).await.expect("the channel of tasks");
    let (job, results) = channels.issue::<AnyTaskResult>().await.expect("a channel of results");
    let receiver = results.receiver().await.expect("a receiver");
    let (mut sender, mut answers) = coordinated::<Sent>(tasks.sender().await.expect("a sender"), receiver);
    let digest = Digest::of(&component("arith"));
    let gone = good_task(&RoutingKey::from("gone"), digest, 0).encode();
    let giant = Packed::single(vec![0xff; OVERSIZED].into());

    let largest = publisher.publish(vec![0; 129 << 20].into()).await;
    assert!(matches!(largest, Err(QueueError::TooLarge { .. })), "a message beyond the limit is refused: {largest:?}");

    let (started, warm_up) = (Instant::now(), messages / 20);
    let (mut bad, mut replayed, mut good, mut oversized, mut answered) = (0, 0, 0, 0, 0);
    let (mut sending, mut last, mut before) = (FuturesUnordered::new(), gone.clone(), None);
    for number in 0..messages {
        let message = match number % 8 {
            6 => {
                replayed += 1;
                // Some jobs are asked for again and again, others once.
                let job = if number % 4 == 2 { number } else { number % 64 };
                good_task(&RoutingKey::from(format!("gone-{job}")), digest, number).encode()
            }
            7 => {
                replayed += 1;
                last.clone()
            }
            _ => {
                bad += 1;
                let message = no_task(number, &gone);
                letters.send_modify(|letters| letters.expect(&message));
                message
            }
        };
        sending.push(publisher.publish(message));
        if number % BAD_FOR_A_GOOD_ONE == 0 {
            let task = good_task(&job, digest, number);
            if good % GOOD_FOR_AN_OVERSIZED_ONE == 0 {
                let task = AnyTask { id: TaskId(u64::MAX - number), inputs: giant.clone(), ..task.clone() };
                soon(sender.publish(task, Sent::Oversized)).await.expect("an oversized task is sent");
                oversized += 1;
            }
            soon(sender.publish(task, Sent::Good(number))).await.expect("a good task is sent");
            good += 1;
        }
        while sending.len() >= UNCONFIRMED {
            soon(sending.next()).await.expect("there are some").expect("a bad message is sent");
        }
        while good + oversized - answered > 16 {
            let answered_task = check(soon(answers.next()).await.expect("good tasks are answered")).await;
            last = answered_task.unwrap_or(last);
            answered += 1;
        }
        if number % 256 == 0 {
            soon(dead.wait_for(|letters| bad < letters.dead + BACKLOG)).await.expect("dead letters arrive");
            progress(number);
        }
        if number == warm_up {
            before = Some(worker.usage());
        }
    }
    while let Some(sent) = soon(sending.next()).await {
        sent.expect("a bad message is sent");
    }
    sender.close();
    while let Some(answer) = soon(answers.next()).await {
        check(answer).await;
        answered += 1;
    }
    assert_eq!(answered, good + oversized, "each good task is answered once");
    soon(dead.wait_for(|letters| letters.dead == bad)).await.expect("all dead letters arrive");
    let time = started.elapsed();
    // One more, behind all of them: nothing is left in the queue, and the worker still works.
    let (job, results) = channels.issue::<AnyTaskResult>().await.expect("a channel of results");
    let receiver = results.receiver().await.expect("a receiver");
    let (sender, mut answers) = coordinated(tasks.sender().await.expect("a sender"), receiver);
    soon(sender.publish(good_task(&job, digest, 7), Sent::Good(7))).await.expect("a last task is sent");
    check(soon(answers.next()).await.expect("the last task is answered")).await;

    drop(counter);
    let Letters { dead, doubled, foreign, reasons, .. } = letters.send_replace(Letters::default());
    assert!(foreign.is_empty(), "nothing but bad messages becomes a dead letter: {foreign:#?}");
    let usage = [before.expect("there are more messages than none"), worker.usage()];
    Usage::assert_did_not_grow(usage);
    Soaked { dead, doubled, reasons, replayed, good, oversized, time, usage }
}

/// Dead letters, beside the messages that should become some.
#[derive(Debug, Default)]
struct Letters {
    /// How many there still should be, by what is in them.
    expected: HashMap<u64, u32>,
    dead: u64,
    doubled: u64,
    /// Why those became dead letters that should not have.
    foreign: Vec<String>,
    reasons: BTreeMap<String, u64>,
}

impl Letters {
    fn expect(&mut self, message: &Bytes) {
        *self.expected.entry(hash(message)).or_default() += 1;
    }

    fn arrived(&mut self, message: &Bytes, reason: &str) {
        match self.expected.get_mut(&hash(message)) {
            None => self.foreign.push(reason.to_owned()),
            Some(0) => self.doubled += 1,
            Some(missing) => {
                *missing -= 1;
                self.dead += 1;
                *self.reasons.entry(without_numbers(reason)).or_default() += 1;
            }
        }
    }
}

fn hash(message: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

async fn count_dead_letters(connection: Arc<Amqp>, bus: QueueSpec, letters: watch::Sender<Letters>) {
    let dead = bus.dead_letters().expect("the queue of tasks has one");
    let dead = connection.declare(&dead).await.expect("the queue of dead letters");
    let mut received = dead.consumer(500).await.expect("a consumer");
    while let Some(letter) = received.next().await {
        let reason = letter.dead_letter().expect("a dead letter has a reason").reason.clone();
        letters.send_modify(|letters| letters.arrived(&letter.payload, &reason));
        letter.acker.ack().await.ok();
    }
}

fn without_numbers(text: &str) -> String {
    let words = text.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

fn good_task(job: &RoutingKey, digest: Digest, number: u64) -> AnyTask {
    let stage = Stage {
        operation: "arith/multiply-by".parse().expect("it is an ID"),
        digest,
        config: Serializer::Postcard.to_bytes(&MultiplyBy(3)).expect("it is encoded"),
        apply: Apply::Map,
    };
    AnyTask {
        routing_key: job.clone(),
        id: TaskId(number),
        metadata: Bytes::new(),
        serializer: Serializer::Postcard,
        attempt: 0,
        stages: vec![stage],
        inputs: Packed::single(Serializer::Postcard.to_bytes(&number).expect("it is encoded")),
    }
}

/// What a task should become.
enum Sent {
    /// The product of this number.
    Good(u64),
    Oversized,
}

/// Checks the answer of a task, and returns the task if it was a good one, to be sent again.
async fn check(Settled { sent, result, acker }: Settled<Sent>) -> Option<Bytes> {
    let good = match (&sent.tag, result.outcome) {
        (Sent::Good(number), TaskOutcome::Executed { outputs, failed }) if failed.is_empty() => {
            let expected = Serializer::Postcard.to_bytes(&(3 * number)).expect("it is encoded");
            assert_eq!(outputs, Packed::single(expected));
            Some(sent.task.encode())
        }
        (Sent::Oversized, TaskOutcome::Executed { failed, .. }) if failed.len() == 1 => {
            let error = &failed[0].error;
            assert_eq!(error.cause, Cause::Memory { limit: MEMORY as u64 }, "{error}");
            None
        }
        (_, other) => panic!("a task became {other:?}"),
    };
    soon(acker.ack()).await.expect("a result is acknowledged");
    good
}

/// Bytes that are no task, another kind for each number.
fn no_task(number: u64, task: &Bytes) -> Bytes {
    let random = scattered(number);
    let at = (random % task.len() as u64) as usize;
    let bytes = match number % 8 {
        0 if number.is_multiple_of(4096) => vec![random as u8; LARGE].into(),
        0 => garbage(random, random % SMALL),
        1 => task.slice(..at),
        // The header is longer than anything could be.
        2 => with(task, 1, &[0xff; 4]),
        // Not one whose job and number can be read: workers hand that on for minutes, since others may understand it.
        3 => with(task, 0, &[(random % 254 + 2) as u8, 0, 0, 0, random as u8]),
        // A header that does not decode, and elements that are not where they should be.
        4 => with(task, 5 + at % 40, &[0xff; 11]),
        _ => [task, &garbage(random, 1 + random % SMALL)[..]].concat().into(),
    };
    if AnyTask::decode(bytes.clone()).is_err() { bytes } else { Bytes::from_static(&[VERSION + 1]) }
}

fn with(task: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut changed = task.to_vec();
    let end = changed.len().min(at + bytes.len());
    changed.splice(at..end, bytes.iter().copied());
    changed.into()
}

fn garbage(seed: u64, length: u64) -> Bytes {
    let mut bytes = BytesMut::new();
    (0..length / 8 + 1).for_each(|word| bytes.put_u64(scattered(seed ^ word)));
    bytes.freeze().slice(..length as usize)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a number that looks like any other.
fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dead, doubled, reasons, replayed, good, oversized, time, usage: [before, after] } = self;
        let rate = (dead + replayed + good + oversized) as f64 / time.as_secs_f64();
        writeln!(
            f,
            "{dead} bad messages became dead letters ({doubled} of them twice), {replayed} replayed tasks were dropped, {good} good tasks were"
        )?;
        writeln!(
            f,
            "answered once, and {oversized} that were too large with that, in {:.1} s: {rate:.0} messages a second",
            time.as_secs_f64()
        )?;
        writeln!(f, "the worker had {before} before, and {after} after")?;
        reasons.iter().try_for_each(|(reason, count)| writeln!(f, "{count:>9}  {reason}"))
    }
}
