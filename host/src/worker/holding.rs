//! How many tasks a worker holds, which follows from what they take to execute.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use palfrey_schedule::Prefetch;
use tokio::sync::{Notify, watch};

/// What the tasks of one worker have taken, and what follows.
#[derive(Debug)]
pub(super) struct Holding {
    /// `None` if the operator has set the number.
    rule: Option<Mutex<Prefetch>>,
    tasks: watch::Sender<u16>,
    /// Told when more tasks are held than should be.
    surplus: Notify,
}

impl Holding {
    pub(super) fn new(slots: usize, set: Option<u16>) -> Self {
        let rule = Prefetch::new(slots);
        let tasks = watch::Sender::new(set.unwrap_or_else(|| saturated(rule.tasks())));
        Self { rule: set.is_none().then(|| Mutex::new(rule)), tasks, surplus: Notify::new() }
    }

    /// How many tasks are to be held, now and whenever that changes.
    pub(super) fn tasks(&self) -> watch::Receiver<u16> {
        self.tasks.subscribe()
    }

    /// A task took so long.
    pub(super) fn executed(&self, execution: Duration) {
        let Some(rule) = &self.rule else { return };
        let mut rule = rule.lock().unwrap_or_else(PoisonError::into_inner);
        if rule.observe(execution) {
            let tasks = saturated(rule.tasks());
            let before = self.tasks.send_replace(tasks);
            tracing::debug!(before, tasks, "holding another number of tasks");
            if tasks < before {
                self.surplus.notify_waiters();
            }
        }
    }

    /// Waits until the tasks that have not begun are better off elsewhere.
    pub(super) async fn surplus(&self) {
        self.surplus.notified().await;
    }
}

fn saturated(tasks: usize) -> u16 {
    u16::try_from(tasks).unwrap_or(u16::MAX)
}
