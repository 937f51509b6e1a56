//! The queues of one process by name, and the connections to them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::anyhow;
use bytes::Bytes;

use super::{
    log::Log,
    shared::{Message, Shared},
};
use crate::queue::{DELAY, QueueError, QueueKind, QueueSpec, moves::moved};

#[derive(Debug, Default)]
pub(super) struct Broker {
    queues: RwLock<HashMap<String, Entry>>,
    next_session: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    spec: QueueSpec,
    /// The session that declared it.
    owner: u64,
    queue: Queue,
}

#[derive(Debug, Clone)]
pub(super) enum Queue {
    Shared(Arc<Shared>),
    Fanout(Arc<Fanout>),
    Log(Arc<Log>),
}

/// A queue for each receiver.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    receivers: Mutex<Vec<Arc<Shared>>>,
}

/// One connection to the broker.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) broker: Arc<Broker>,
    closed: AtomicBool,
}

impl Session {
    pub(super) fn open(broker: Arc<Broker>) -> Arc<Self> {
        let id = broker.next_session.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, broker, closed: AtomicBool::new(false) })
    }

    pub(super) fn check_open(&self) -> Result<(), QueueError> {
        if self.is_closed() { Err(QueueError::Closed) } else { Ok(()) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.broker.end_session(self.id);
        }
    }
}

impl Broker {
    fn entries(&self) -> RwLockReadGuard<'_, HashMap<String, Entry>> {
        self.queues.read().expect("nothing panics while it holds the lock")
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, HashMap<String, Entry>> {
        self.queues.write().expect("nothing panics while it holds the lock")
    }

    pub(super) fn declare(&self, spec: &QueueSpec, owner: u64) -> Result<(), QueueError> {
        let mut entries = self.entries_mut();
        if let Some(dead) = spec.dead_letters() {
            entries.entry(dead.name.clone()).or_insert_with(|| Entry::new(dead, owner));
        }
        let entry = entries.entry(spec.name.clone()).or_insert_with(|| Entry::new(spec.clone(), owner));
        if entry.spec == *spec {
            return Ok(());
        }
        Err(QueueError::Broker {
            action: format!("declare queue `{}` for {:?}", spec.name, spec.kind),
            source: anyhow!("a queue of that name exists for {:?}", entry.spec.kind),
        })
    }

    pub(super) fn find(&self, spec: &QueueSpec) -> Result<Queue, QueueError> {
        match self.entries().get(&spec.name) {
            Some(entry) if entry.spec.kind == spec.kind => Ok(entry.queue.clone()),
            _ => Err(QueueError::NoSuchQueue(spec.name.clone())),
        }
    }

    pub(super) fn delete(&self, spec: &QueueSpec) {
        let removed = self.entries_mut().remove(&spec.name);
        if let Some(entry) = removed {
            entry.queue.delete();
        }
    }

    /// Puts a message that was taken off a queue, and counts that as given back, into another one, which is made unless it
    /// exists.
    pub(super) fn move_message(self: &Arc<Self>, from: &QueueSpec, to: &QueueSpec, message: Message, reason: &str) {
        let Message { payload, returned, moves } = message;
        let moves = moved(moves, &from.name, &to.name, reason, returned);
        self.put(to, Message { moves, ..Message::new(payload) });
    }

    /// Appends a message to a queue of tasks, or has it wait if the queue is for that.
    pub(super) fn put(self: &Arc<Self>, to: &QueueSpec, message: Message) {
        if to.kind == QueueKind::Later {
            let (broker, to) = (Arc::downgrade(self), to.comes_to());
            tokio::spawn(async move {
                tokio::time::sleep(DELAY).await;
                if let Some(broker) = broker.upgrade() {
                    broker.put(&to, message);
                }
            });
            return;
        }
        let queue = {
            let mut entries = self.entries_mut();
            entries.entry(to.name.clone()).or_insert_with(|| Entry::new(to.clone(), 0)).queue.clone()
        };
        if let Queue::Shared(queue) = queue {
            queue.push(message);
        }
    }

    /// Moves a message that was given back too often.
    pub(super) fn dead_letter_exhausted(self: &Arc<Self>, spec: &QueueSpec, message: Message) {
        if let Some(dead) = spec.dead_letters() {
            self.move_message(spec, &dead, message, "delivery_limit");
        }
    }

    fn end_session(self: &Arc<Self>, session: u64) {
        let leases: Vec<_> = {
            let mut entries = self.entries_mut();
            let is_lease = |entry: &Entry| entry.spec.kind == QueueKind::Lease && entry.owner == session;
            entries.extract_if(|_, entry| is_lease(entry)).collect()
        };
        for (_, lease) in leases {
            lease.queue.delete();
        }
        let rest: Vec<_> = self.entries().values().map(|entry| (entry.spec.clone(), entry.queue.clone())).collect();
        for (spec, queue) in rest {
            match queue {
                Queue::Shared(queue) => {
                    for message in queue.end_session(session, spec.dead_letters().is_some()) {
                        self.dead_letter_exhausted(&spec, message);
                    }
                }
                Queue::Fanout(fanout) => {
                    for queue in fanout.receivers() {
                        queue.end_session(session, false);
                    }
                }
                Queue::Log(log) => log.end_session(session),
            }
        }
    }
}

impl Entry {
    fn new(spec: QueueSpec, owner: u64) -> Self {
        let queue = match spec.kind {
            QueueKind::Tasks | QueueKind::Later | QueueKind::Lease => Queue::Shared(Arc::default()),
            QueueKind::Broadcast => Queue::Fanout(Arc::default()),
            QueueKind::Log => Queue::Log(Arc::default()),
        };
        Self { spec, owner, queue }
    }
}

impl Queue {
    /// Appends a message, or returns false if the queue was deleted.
    pub(super) fn publish(&self, message: Bytes) -> bool {
        match self {
            Self::Shared(queue) => queue.push(Message::new(message)),
            Self::Fanout(fanout) => {
                for queue in fanout.receivers() {
                    queue.push(Message::new(message.clone()));
                }
                true
            }
            Self::Log(log) => log.append(message),
        }
    }

    fn delete(&self) {
        match self {
            Self::Shared(queue) => queue.delete(),
            Self::Fanout(fanout) => fanout.receivers().iter().for_each(|queue| queue.delete()),
            Self::Log(log) => log.delete(),
        }
    }
}

impl Fanout {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        self.receivers.lock().expect("nothing panics while it holds the lock")
    }

    /// A copy, since whoever is woken by a message may subscribe or unsubscribe at once.
    fn receivers(&self) -> Vec<Arc<Shared>> {
        self.lock().clone()
    }

    pub(super) fn subscribe(&self) -> Arc<Shared> {
        let queue = Arc::new(Shared::default());
        self.lock().push(queue.clone());
        queue
    }

    pub(super) fn unsubscribe(&self, queue: &Arc<Shared>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, queue));
    }
}
