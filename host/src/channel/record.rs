//! What the two sides of a coordinated channel share: a record of the tasks whose results have not been acknowledged.
//!
//! It answers three questions: is this result the first of its task, which task was it, and is the stream complete. The
//! record is a plain value under a mutex that is held for a look-up; nothing waits while holding it. No I/O.

use std::{collections::HashMap, sync::Arc, task::Waker};

use futures::task::AtomicWaker;

use crate::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::TaskId,
};

/// The record, and who waits for its completion. `S` is what is remembered of a task.
pub(super) struct Shared<S> {
    record: Mutex<Record<S>>,
    /// Woken when the stream has become complete.
    completed: AtomicWaker,
}

struct Record<S> {
    /// Tasks that were sent, or are about to be, and have no result yet.
    waiting: HashMap<TaskId, Arc<S>>,
    /// Results that were handed out and not yet acknowledged.
    unacknowledged: usize,
    /// Whether a task may have been sent whose result nobody waits for.
    abandoned: bool,
    next_id: u64,
    /// Open senders.
    senders: usize,
}

impl<S> Record<S> {
    fn is_complete(&self) -> bool {
        self.senders == 0 && self.waiting.is_empty() && self.unacknowledged == 0
    }
}

impl<S> Shared<S> {
    /// No tasks, and one open sender.
    pub(super) fn new() -> Self {
        let record = Record { waiting: HashMap::new(), unacknowledged: 0, abandoned: false, next_id: 0, senders: 1 };
        Self { record: Mutex::new(record), completed: AtomicWaker::new() }
    }

    fn record(&self) -> MutexGuard<'_, Record<S>> {
        // A panic while the lock is held cannot leave the record half changed: each section is one step.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record, and wakes the stream if that completed it.
    fn change<R>(&self, change: impl FnOnce(&mut Record<S>) -> R) -> R {
        let mut record = self.record();
        let changed = change(&mut record);
        if record.is_complete() {
            self.completed.wake();
        }
        changed
    }

    /// One more sender is open.
    pub(super) fn open(&self) {
        self.record().senders += 1;
    }

    /// A sender that was open sends nothing more.
    pub(super) fn close(&self) {
        self.change(|record| record.senders -= 1);
    }

    /// The tasks that have no result yet.
    pub(super) fn unanswered(&self) -> Vec<Arc<S>> {
        self.record().waiting.values().cloned().collect()
    }

    /// A task is sent a second time: one of its two results is nobody's.
    pub(super) fn copy(&self) {
        self.record().abandoned = true;
    }

    /// Gives a task its number and waits for its result from now on.
    pub(super) fn send<M>(&self, make: impl FnOnce(TaskId) -> (S, M)) -> (TaskId, M) {
        let mut record = self.record();
        let id = TaskId(record.next_id);
        record.next_id += 1;
        let (sent, message) = make(id);
        record.waiting.insert(id, Arc::new(sent));
        (id, message)
    }

    /// Nobody knows whether the task was sent: its result is not waited for.
    pub(super) fn abandon(&self, id: TaskId) {
        self.change(|record| {
            record.waiting.remove(&id);
            record.abandoned = true;
        });
    }

    /// A result has come. Returns its task if it is the first one; it is then to be [acknowledged](Self::acknowledged) or
    /// [given back](Self::given_back).
    pub(super) fn answered(&self, id: TaskId) -> Option<Arc<S>> {
        let mut record = self.record();
        let sent = record.waiting.remove(&id);
        record.unacknowledged += usize::from(sent.is_some());
        sent
    }

    /// A task is done with.
    pub(super) fn acknowledged(&self) {
        self.change(|record| record.unacknowledged -= 1);
    }

    /// A result will come again.
    pub(super) fn given_back(&self, id: TaskId, sent: Arc<S>) {
        self.change(|record| {
            record.unacknowledged -= 1;
            record.waiting.insert(id, sent);
        });
    }

    /// Tasks that wait for their results.
    pub(super) fn waiting(&self) -> usize {
        self.record().waiting.len()
    }

    /// Whether every task that was sent has been answered, and its result acknowledged.
    pub(super) fn all_settled(&self) -> bool {
        let record = self.record();
        record.waiting.is_empty() && record.unacknowledged == 0 && !record.abandoned
    }

    /// Whether all senders are closed and all results acknowledged. If not, the waker is called once they are.
    pub(super) fn is_complete_or_wakes(&self, waker: &Waker) -> bool {
        self.completed.register(waker);
        self.record().is_complete()
    }
}
