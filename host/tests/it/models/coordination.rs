//! The coordinated channel: whatever is answered, how often and in whatever order, and whatever is handed back, the reader gets
//! each task once, and the stream ends when nothing is open.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use futures::{FutureExt as _, StreamExt as _};
use palfrey_host::{
    channel::{ChannelFactory, ChannelType, CoordinatedSender, CoordinatedStream, Sender, coordinated},
    queue::{Acker, in_memory::InMemory},
    task::{
        AnyTask, AnyTaskResult, Apply, Digest, OperationId, Packed, RoutingKey, Stage, TaskId, TaskOutcome,
        WorkerReport,
    },
};
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

#[derive(Debug, Clone)]
enum Operation {
    Send,
    /// A task that was sent, at any time, is answered.
    Answer {
        task: Index,
        times: usize,
    },
    /// A task that was never sent is answered.
    Invent {
        number: u64,
    },
    Read,
    Settle {
        result: Index,
        how: How,
    },
    Close,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Acknowledge,
    HandBack,
    Forget,
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let how = prop::sample::select(vec![How::Acknowledge, How::Acknowledge, How::HandBack, How::Forget]);
    prop_oneof![
        4 => Just(Operation::Send),
        6 => (any::<Index>(), 1..4_usize).prop_map(|(task, times)| Operation::Answer { task, times }),
        1 => (1000..2000_u64).prop_map(|number| Operation::Invent { number }),
        8 => Just(Operation::Read),
        6 => (any::<Index>(), how).prop_map(|(result, how)| Operation::Settle { result, how }),
        1 => Just(Operation::Close),
    ]
}

/// What is to be so. Tasks are known by their numbers.
#[derive(Debug, Default)]
struct Model {
    sent: u64,
    closed: bool,
    /// Results on their way to the reader, those that come next at the front.
    queue: VecDeque<u64>,
    /// Tasks whose results the reader has not got, or has handed back.
    waiting: BTreeSet<u64>,
    /// Tasks whose results the reader has and did not settle.
    held: BTreeSet<u64>,
    done: BTreeSet<u64>,
}

impl Model {
    /// What the reader gets next.
    fn read(&mut self) -> Read {
        if self.closed && self.waiting.is_empty() && self.held.is_empty() {
            return Read::End;
        }
        while let Some(number) = self.queue.pop_front() {
            if self.waiting.remove(&number) {
                self.held.insert(number);
                return Read::Result(number);
            }
        }
        Read::Nothing
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Result(u64),
    Nothing,
    End,
}

struct Twins {
    job: RoutingKey,
    sender: CoordinatedSender<u64>,
    results: CoordinatedStream<u64>,
    answers: Sender<AnyTaskResult>,
    held: Vec<(u64, Box<dyn Acker>)>,
    model: Model,
}

impl Twins {
    async fn new() -> Self {
        let channels = ChannelFactory::new(Arc::new(InMemory::new()), 1000);
        let tasks = channels.get::<AnyTask>("tasks", ChannelType::ExactlyOnce).await.unwrap();
        let (job, results) = channels.issue::<AnyTaskResult>().await.unwrap();
        let answers = channels.leased(&job).sender().await.unwrap();
        let (sender, results) = coordinated(tasks.sender().await.unwrap(), results.receiver().await.unwrap());
        Self { job, sender, results, answers, held: Vec::new(), model: Model::default() }
    }

    async fn answer(&mut self, number: u64) {
        let result = AnyTaskResult {
            routing_key: self.job.clone(),
            id: TaskId(number),
            metadata: Default::default(),
            serializer: Default::default(),
            report: WorkerReport::default(),
            outcome: TaskOutcome::Executed { outputs: Packed::default(), failed: Vec::new() },
        };
        self.answers.publish(&result).await.unwrap();
        self.model.queue.push_back(number);
    }

    async fn apply(&mut self, operation: Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Send => {
                let number = self.model.sent;
                let sent = self.sender.publish(task(&self.job), number).await;
                prop_assert_eq!(sent.is_err(), self.model.closed);
                if !self.model.closed {
                    self.model.waiting.insert(number);
                    self.model.sent += 1;
                }
            }
            Operation::Answer { task, times } => {
                if self.model.sent > 0 {
                    let number = task.index(self.model.sent as usize) as u64;
                    for _ in 0..times {
                        self.answer(number).await;
                    }
                }
            }
            Operation::Invent { number } => self.answer(number).await,
            Operation::Read => self.read()?,
            Operation::Settle { result, how } => {
                if !self.held.is_empty() {
                    self.settle(result.index(self.held.len()), how).await;
                }
            }
            Operation::Close => {
                self.sender.close();
                self.model.closed = true;
            }
        }
        prop_assert_eq!(self.sender.in_flight(), self.model.waiting.len());
        Ok(())
    }

    fn read(&mut self) -> Result<(), TestCaseError> {
        let expected = self.model.read();
        let read = match self.results.next().now_or_never() {
            None => Read::Nothing,
            Some(None) => Read::End,
            Some(Some(settled)) => {
                let number = settled.sent.tag;
                prop_assert_eq!((settled.result.id, settled.sent.task.id), (TaskId(number), TaskId(number)));
                self.held.push((number, settled.acker));
                Read::Result(number)
            }
        };
        prop_assert_eq!(read, expected);
        Ok(())
    }

    async fn settle(&mut self, position: usize, how: How) {
        let (number, acker) = self.held.swap_remove(position);
        self.model.held.remove(&number);
        match how {
            How::Acknowledge => {
                acker.ack().await.unwrap();
                assert!(self.model.done.insert(number), "the reader had it before");
                return;
            }
            How::HandBack => acker.nack().await.unwrap(),
            How::Forget => drop(acker),
        }
        self.model.waiting.insert(number);
        self.model.queue.push_front(number);
    }

    /// Everything is answered and read: each task was there once, and the stream ends.
    async fn end(mut self) -> Result<(), TestCaseError> {
        self.apply(Operation::Close).await?;
        for number in 0..self.model.sent {
            self.answer(number).await;
        }
        while !(self.model.waiting.is_empty() && self.held.is_empty()) {
            tokio::task::yield_now().await;
            if !self.model.waiting.is_empty() {
                self.read()?;
            }
            if !self.held.is_empty() {
                self.settle(0, How::Acknowledge).await;
            }
        }
        prop_assert!(self.model.done.into_iter().eq(0..self.model.sent));
        prop_assert!(matches!(self.results.next().now_or_never(), Some(None)), "it ends");
        Ok(())
    }
}

fn task(job: &RoutingKey) -> AnyTask {
    let operation = OperationId::new("arith", "fib-at");
    let stage = Stage { operation, digest: Digest::of(b"code"), config: Default::default(), apply: Apply::Map };
    AnyTask {
        routing_key: job.clone(),
        id: TaskId(0),
        metadata: Default::default(),
        serializer: Default::default(),
        attempt: 0,
        stages: vec![stage],
        inputs: Packed::single("ten".into()),
    }
}

#[test]
fn each_task_reaches_the_reader_once_as_a_model_says_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ran = TestRunner::default().run(&prop::collection::vec(any_operation(), 0..80), |operations| {
        runtime.block_on(async {
            let mut twins = Twins::new().await;
            for operation in operations {
                // Each begins with a budget of its own: without one, a stream says that it has nothing.
                tokio::task::yield_now().await;
                twins.apply(operation).await?;
            }
            twins.end().await
        })
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}
