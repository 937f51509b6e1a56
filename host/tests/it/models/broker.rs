//! The broker in memory: which message comes to whom, how often it came before, and what becomes of it in the end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use palfrey_host::queue::{
    Acker, Connection, DELAY, DELIVERY_LIMIT, Delivery, Move, QueueError, QueueHandle, QueueKind, QueueSpec,
    in_memory::InMemory,
};
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

/// The queues that operations are about: tasks, what is beside them, and the lease of the first session.
const QUEUES: [(&str, QueueKind); 4] = [
    ("tasks", QueueKind::Tasks),
    ("tasks.suspects", QueueKind::Tasks),
    ("tasks.dead", QueueKind::Tasks),
    ("lease", QueueKind::Lease),
];

const SESSIONS: usize = 3;

/// That of which the lease is.
const OWNER: usize = 0;

const REASON: &str = "it is not wanted";

#[derive(Debug, Clone)]
enum Operation {
    Publish {
        session: usize,
        queue: usize,
    },
    /// Begins to receive.
    Subscribe {
        session: usize,
        queue: usize,
        prefetch: u16,
    },
    /// One of those who receive asks for the next message.
    Receive {
        receiver: Index,
    },
    /// One of them leaves. What it holds it may still settle.
    Leave {
        receiver: Index,
    },
    Take {
        session: usize,
        queue: usize,
    },
    Settle {
        delivery: Index,
        how: How,
    },
    /// Takes the next message and gives it back, many times.
    Bounce {
        session: usize,
        queue: usize,
        times: u32,
    },
    /// A connection is closed, and another one made in its place.
    Close {
        session: usize,
    },
    Delete {
        session: usize,
        queue: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Acknowledge,
    GiveBack,
    /// Its acker is dropped without a word.
    Forget,
    DeadLetter,
    SetApart,
    Later,
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let (session, queue) = (0..SESSIONS, 0..QUEUES.len());
    let (at, index) = ((session.clone(), queue), any::<Index>);
    let how = prop::sample::select(vec![
        How::Acknowledge,
        How::Acknowledge,
        How::GiveBack,
        How::Forget,
        How::DeadLetter,
        How::SetApart,
        How::Later,
    ]);
    prop_oneof![
        6 => at.clone().prop_map(|(session, queue)| Operation::Publish { session, queue }),
        3 => (at.clone(), 0..4_u16).prop_map(|((session, queue), prefetch)| Operation::Subscribe { session, queue, prefetch }),
        8 => index().prop_map(|receiver| Operation::Receive { receiver }),
        1 => index().prop_map(|receiver| Operation::Leave { receiver }),
        2 => at.clone().prop_map(|(session, queue)| Operation::Take { session, queue }),
        6 => (index(), how).prop_map(|(delivery, how)| Operation::Settle { delivery, how }),
        1 => (at.clone(), 1..80_u32).prop_map(|((session, queue), times)| Operation::Bounce { session, queue, times }),
        1 => session.prop_map(|session| Operation::Close { session }),
        1 => at.prop_map(|(session, queue)| Operation::Delete { session, queue }),
    ]
}

/// A message as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    number: usize,
    /// How often it came back.
    returned: u32,
    /// From where to where it was moved, after how many deliveries, and how often in a row.
    moves: Vec<(String, String, u32, u32)>,
}

impl Message {
    fn is(&self, delivery: &Delivery) -> bool {
        let moves = delivery.moves.iter();
        let moves =
            moves.map(|Move { from, to, deliveries, times, .. }| (from.clone(), to.clone(), *deliveries, *times));
        let payload = self.number.to_string();
        delivery.payload == payload.as_bytes()
            && (delivery.earlier, delivery.redelivered) == (self.returned, self.returned > 0)
            && moves.eq(self.moves.iter().cloned())
    }
}

/// What a queue is to be: messages that wait, and those that are held, by when they were handed over.
#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Message>,
    held: BTreeMap<usize, (Holder, Message)>,
}

/// Who holds a delivery: a session, by a receiver if it was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    session: usize,
    receiver: Option<usize>,
}

/// Sessions and receivers have numbers that are never used again.
#[derive(Debug, Default)]
struct Model {
    queues: HashMap<String, Queue>,
    /// Messages that come back to the tasks after a while.
    later: Vec<Message>,
    next: usize,
}

impl Model {
    fn fresh(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// The next message for somebody, if there is one.
    fn hand_over(&mut self, queue: &str, holder: Holder) -> Option<(usize, Message)> {
        let number = self.fresh();
        let queue = self.queues.get_mut(queue)?;
        let message = queue.ready.pop_front()?;
        queue.held.insert(number, (holder, message.clone()));
        Some((number, message))
    }

    /// Back to the head, or to the dead letters if it came back too often.
    fn give_back(&mut self, name: &str, mut message: Message) {
        message.returned += 1;
        let limited = name == "tasks" || name == "tasks.suspects";
        if limited && message.returned > DELIVERY_LIMIT {
            self.move_to(name, "tasks.dead", message);
        } else if let Some(queue) = self.queues.get_mut(name) {
            queue.ready.push_front(message);
        }
    }

    /// Into another queue, which is made if need be. Deliveries are counted anew there.
    fn move_to(&mut self, from: &str, to: &str, mut message: Message) {
        let times = match message.moves.pop_if(|(same, also, ..)| same == from && also == to) {
            Some((.., times)) => times + 1,
            None => 1,
        };
        message.moves.push((from.to_owned(), to.to_owned(), message.returned, times));
        message.returned = 0;
        match to {
            "tasks.later" => self.later.push(message),
            to => self.queues.entry(to.to_owned()).or_default().ready.push_back(message),
        }
    }

    /// What a session held goes back, in the order in which it came.
    fn close(&mut self, session: usize, is_owner: bool) {
        if is_owner {
            self.queues.remove("lease");
        }
        for name in QUEUES.map(|(name, _)| name) {
            let Some(queue) = self.queues.get_mut(name) else { continue };
            let ended = queue.held.extract_if(.., |_, (holder, _)| holder.session == session);
            let ended: Vec<_> = ended.map(|(_, (_, message))| message).collect();
            ended.into_iter().rev().for_each(|message| self.give_back(name, message));
        }
    }
}

struct Receiver {
    number: usize,
    session: usize,
    queue: usize,
    /// Which of the queues of that name: one that was deleted does not come back.
    life: usize,
    prefetch: usize,
    deliveries: BoxStream<'static, Delivery>,
}

struct Held {
    queue: usize,
    number: usize,
    acker: Box<dyn Acker>,
}

/// The broker and its model, side by side.
struct Twins {
    sessions: Vec<(usize, InMemory)>,
    receivers: Vec<Receiver>,
    held: Vec<Held>,
    lives: [usize; QUEUES.len()],
    model: Model,
}

fn spec(queue: usize) -> QueueSpec {
    let (name, kind) = QUEUES[queue];
    QueueSpec::new(name, kind)
}

impl Twins {
    async fn new() -> Self {
        let broker = InMemory::new();
        let mut model = Model::default();
        let sessions = (0..SESSIONS).map(|_| (model.fresh(), broker.another_connection())).collect();
        let mut twins = Self { sessions, receivers: Vec::new(), held: Vec::new(), lives: [0; QUEUES.len()], model };
        twins.declare_all().await;
        twins
    }

    /// Whatever is not there is made.
    async fn declare_all(&mut self) {
        for queue in 0..QUEUES.len() {
            self.sessions[OWNER].1.declare(&spec(queue)).await.unwrap();
            self.model.queues.entry(spec(queue).name).or_default();
        }
    }

    fn handle(&self, session: usize, queue: usize) -> std::sync::Arc<dyn QueueHandle> {
        self.sessions[session].1.handle(&spec(queue))
    }

    async fn apply(&mut self, number: usize, operation: Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Publish { session, queue } => {
                let publisher = self.handle(session, queue).publisher().await.unwrap();
                publisher.publish(number.to_string().into()).await.unwrap();
                let message = Message { number, returned: 0, moves: Vec::new() };
                self.model.queues.get_mut(&spec(queue).name).unwrap().ready.push_back(message);
            }
            Operation::Subscribe { session, queue, prefetch } => {
                let deliveries = self.handle(session, queue).consumer(prefetch).await.unwrap();
                let (number, session) = (self.model.fresh(), self.sessions[session].0);
                let (life, prefetch) = (self.lives[queue], usize::from(prefetch.max(1)));
                self.receivers.push(Receiver { number, session, queue, life, prefetch, deliveries });
            }
            Operation::Receive { receiver } => self.receive(receiver)?,
            Operation::Leave { receiver } => {
                if !self.receivers.is_empty() {
                    self.receivers.swap_remove(receiver.index(self.receivers.len()));
                }
            }
            Operation::Take { session, queue } => {
                let taken = self.handle(session, queue).take().await.unwrap();
                let holder = Holder { session: self.sessions[session].0, receiver: None };
                let expected = self.model.hand_over(&spec(queue).name, holder);
                self.compare(queue, taken, expected)?;
            }
            Operation::Settle { delivery, how } => {
                if !self.held.is_empty() {
                    let held = self.held.swap_remove(delivery.index(self.held.len()));
                    self.settle(held, how).await?;
                }
            }
            Operation::Bounce { session, queue, times } => {
                for _ in 0..times {
                    let taken = self.handle(session, queue).take().await.unwrap();
                    let holder = Holder { session: self.sessions[session].0, receiver: None };
                    let expected = self.model.hand_over(&spec(queue).name, holder);
                    let is_there = expected.is_some();
                    self.compare(queue, taken, expected)?;
                    if !is_there {
                        break;
                    }
                    let held = self.held.pop().unwrap();
                    self.settle(held, How::GiveBack).await?;
                }
            }
            Operation::Close { session } => {
                let another = self.sessions[session].1.another_connection();
                let (old, closed) = std::mem::replace(&mut self.sessions[session], (self.model.fresh(), another));
                closed.close().await.unwrap();
                prop_assert!(matches!(closed.handle(&spec(0)).take().await, Err(QueueError::Closed)));
                self.model.close(old, session == OWNER);
                if session == OWNER {
                    self.lives[3] += 1;
                }
                self.declare_all().await;
            }
            Operation::Delete { session, queue } => {
                self.sessions[session].1.delete(&spec(queue)).await.unwrap();
                self.model.queues.remove(&spec(queue).name);
                self.lives[queue] += 1;
                let gone = self.handle(session, queue).take().await;
                prop_assert!(matches!(gone, Err(QueueError::NoSuchQueue(_))), "{:?}", gone);
                self.declare_all().await;
            }
        }
        self.look().await
    }

    fn receive(&mut self, receiver: Index) -> Result<(), TestCaseError> {
        if self.receivers.is_empty() {
            return Ok(());
        }
        let index = receiver.index(self.receivers.len());
        let receiver = &mut self.receivers[index];
        let (queue, prefetch) = (receiver.queue, receiver.prefetch);
        let received = futures::FutureExt::now_or_never(receiver.deliveries.next());
        let is_open = self.sessions.iter().any(|(session, _)| *session == receiver.session);
        if !is_open || receiver.life != self.lives[queue] {
            prop_assert!(matches!(received, Some(None)), "what was closed or deleted ends: {:?}", received);
            self.receivers.swap_remove(index);
            return Ok(());
        }
        let holder = Holder { session: receiver.session, receiver: Some(receiver.number) };
        let name = spec(queue).name;
        let holds = self.model.queues[&name].held.values().filter(|(by, _)| *by == holder).count();
        let expected = if holds < prefetch { self.model.hand_over(&name, holder) } else { None };
        prop_assert!(!matches!(received, Some(None)), "it ended by itself");
        self.compare(queue, received.flatten(), expected)
    }

    /// What came is what was to come, and is held.
    fn compare(
        &mut self,
        queue: usize,
        came: Option<Delivery>,
        expected: Option<(usize, Message)>,
    ) -> Result<(), TestCaseError> {
        match (came, expected) {
            (Some(delivery), Some((number, message))) => {
                prop_assert!(message.is(&delivery), "{:?} instead of {:?}", delivery, message);
                self.held.push(Held { queue, number, acker: delivery.acker });
            }
            (came, expected) => {
                prop_assert!(came.is_none() && expected.is_none(), "{:?} instead of {:?}", came, expected)
            }
        }
        Ok(())
    }

    async fn settle(&mut self, held: Held, how: How) -> Result<(), TestCaseError> {
        let Held { queue, number, acker } = held;
        let (spec, name) = (spec(queue), spec(queue).name);
        let target =
            |to: Option<QueueSpec>| to.unwrap_or_else(|| QueueSpec::new("tasks", QueueKind::Tasks).later().unwrap());
        let [apart, later] = [target(spec.suspects()), target(spec.later())];
        let settled = match how {
            How::Acknowledge => acker.ack().await,
            How::GiveBack => acker.nack().await,
            How::Forget => {
                drop(acker);
                Ok(())
            }
            How::DeadLetter => acker.dead_letter(REASON).await,
            How::SetApart => acker.move_to(&apart, REASON).await,
            How::Later => acker.move_to(&later, REASON).await,
        };
        let message = self.model.queues.get_mut(&name).and_then(|queue| queue.held.remove(&number));
        let Some((_, mut message)) = message else {
            let stale = matches!(settled, Err(QueueError::Stale)) || matches!((how, &settled), (How::Forget, Ok(())));
            prop_assert!(stale, "its session or its queue is gone: {:?}", settled);
            return Ok(());
        };
        prop_assert!(settled.is_ok(), "{:?}", settled);
        let to = match how {
            How::Acknowledge => return Ok(()),
            How::GiveBack | How::Forget => {
                self.model.give_back(&name, message);
                return Ok(());
            }
            How::DeadLetter => match spec.dead_letters() {
                Some(dead) => dead.name,
                None => return Ok(()),
            },
            How::SetApart => apart.name,
            How::Later => later.name,
        };
        // The delivery that ends here counts.
        message.returned += 1;
        self.model.move_to(&name, &to, message);
        Ok(())
    }

    /// What everybody can see is the same.
    async fn look(&self) -> Result<(), TestCaseError> {
        for queue in 0..QUEUES.len() {
            let status = self.handle(1, queue).status().await.unwrap();
            let waiting = self.model.queues[&spec(queue).name].ready.len() as u64;
            prop_assert_eq!(status.messages, waiting, "{}", spec(queue).name);
            let is_there = |receiver: &&Receiver| {
                receiver.queue == queue
                    && receiver.life == self.lives[queue]
                    && self.sessions.iter().any(|(session, _)| *session == receiver.session)
            };
            let there = self.receivers.iter().filter(is_there).count() as u64;
            prop_assert_eq!(status.consumers, there, "{}", spec(queue).name);
        }
        Ok(())
    }

    /// After the delay everything that waited for it comes again, as a first delivery, behind what is there.
    async fn ends_well(mut self) -> Result<(), TestCaseError> {
        let later = std::mem::take(&mut self.model.later);
        let expected = self.model.queues["tasks"].ready.iter().cloned().chain(later);
        let mut expected: Vec<_> = expected.collect();
        let tasks = self.handle(1, 0);
        while let Some(delivery) = tasks.take().await.unwrap() {
            let position = expected.iter().position(|message| message.is(&delivery));
            prop_assert!(position.is_some(), "nobody expects {:?}", delivery);
            expected.remove(position.unwrap_or_default());
            delivery.acker.ack().await.unwrap();
        }
        prop_assert!(expected.is_empty(), "these did not come: {:?}", expected);
        Ok(())
    }
}

#[test]
fn any_operations_leave_the_broker_in_memory_as_a_model_of_it_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let all = std::cell::RefCell::new(Vec::new());
    let mut runner = TestRunner::default();
    let ran = runner.run(&prop::collection::vec(any_operation(), 0..80), |operations| {
        let twins = runtime.block_on(async {
            let mut twins = Twins::new().await;
            for (number, operation) in operations.into_iter().enumerate() {
                // Each begins with a budget of its own: without one, a stream says that it has nothing.
                tokio::task::yield_now().await;
                twins.apply(number, operation).await?;
            }
            Ok::<_, TestCaseError>(twins)
        })?;
        all.borrow_mut().push(twins);
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    // One wait for all of them: that nothing comes which nobody expects is known when the delay is over, and no earlier.
    runtime.block_on(async {
        tokio::time::sleep(DELAY + Duration::from_millis(100)).await;
        for twins in all.into_inner() {
            tokio::task::yield_now().await;
            twins.ends_well().await.unwrap_or_else(|error| panic!("{error}"));
        }
    });
}
