//! Tasks whose results do not come: of those that are late an idle slot gets a second copy, those that are gone are sent again.
//! The first result of each counts.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use palfrey_schedule::{COMBINING, Hedge, Seen, Unanswered, hedge_every, tell_every};
use tokio::time::Instant;

use super::{Inputs, Job};
use crate::{
    runtime::Whereabouts,
    task::{RoutingKey, TaskId},
    worker::WorkerIpc,
};

/// The pause before a job without results looks for its tasks, at first, and when it has done so again and again.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LATER_LOOKS: Duration = Duration::from_secs(60);

/// What a job knows of tasks that are late.
pub(super) struct Late {
    /// Those that were sent more than once and have no result yet: how often, and when the last time was.
    copied: HashMap<TaskId, Copies>,
    /// Those that were, and have one, of which the workers have not been told.
    answered: Vec<TaskId>,
    /// When they were told of others.
    told: Option<Instant>,
    rule: Hedge,
    /// Times of the rule are since then.
    began: Instant,
    /// When to look for late tasks again.
    next: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Copies {
    count: u32,
    sent: Instant,
}

impl Late {
    pub(super) fn new() -> Self {
        Self {
            copied: HashMap::new(),
            answered: Vec::new(),
            told: None,
            rule: Hedge::default(),
            began: Instant::now(),
            next: None,
        }
    }

    /// When to look for late tasks, where nothing is left to send.
    pub(super) fn next(&mut self, in_flight: usize, slots: usize) -> Instant {
        if in_flight < slots {
            self.rule.slots_are_idle(self.began.elapsed());
        }
        *self.next.get_or_insert_with(|| Instant::now() + hedge_every(in_flight))
    }

    /// A task has a result. Says whether it was sent more than once.
    pub(super) fn answered(&mut self, task: TaskId) -> bool {
        let was_copied = self.copied.remove(&task).is_some();
        self.answered.extend(was_copied.then_some(task));
        was_copied
    }
}

/// What a job without results knows of its tasks.
pub(super) struct Lost {
    whereabouts: Whereabouts,
    /// A look for the tasks.
    looking: FuturesUnordered<BoxFuture<'static, bool>>,
    next_look: Duration,
}

impl Lost {
    pub(super) fn new(whereabouts: Whereabouts) -> Self {
        Self { whereabouts, looking: FuturesUnordered::new(), next_look: FIRST_LOOK }
    }

    /// Finds out, after a while, whether the tasks of the job are gone. While they are not it looks less and less often.
    pub(super) fn look(&mut self, job: &RoutingKey) {
        let pause = self.next_look;
        self.next_look = LATER_LOOKS.min(2 * pause);
        self.looking.push(Box::pin(self.whereabouts.clone().are_gone(job.clone(), pause)));
    }

    /// What a look has found: whether they are gone. `None` while nobody looks.
    pub(super) async fn looked(&mut self) -> Option<bool> {
        self.looking.next().await
    }

    /// There is a result.
    pub(super) fn answered(&mut self) {
        self.looking.clear();
        self.next_look = FIRST_LOOK;
    }
}

impl Job<'_> {
    /// Sends late tasks once more, for idle slots.
    pub(super) fn hedge(&mut self) {
        self.stop_copies();
        let now = Instant::now();
        let unanswered = self.lease.sender.unanswered();
        self.late.next = Some(now + hedge_every(unanswered.len()));
        let began = self.late.began;
        let copied = |task| self.late.copied.get(&task).copied();
        let tasks: Vec<_> = unanswered
            .iter()
            .map(|sent| (sent, copied(sent.task.id).unwrap_or(Copies { count: 0, sent: sent.tag.sent })))
            .map(|(sent, copies)| Unanswered {
                id: &sent.task,
                sent: copies.sent - began,
                expected: match sent.tag.inputs {
                    Inputs::Elements => self.rule.expected(sent.task.inputs.len()),
                    Inputs::Partials => COMBINING,
                },
                copies: copies.count,
            })
            .collect();
        let (slots, awake) = (self.crew.slots(), self.crew.awake());
        let seen = Seen { slots, awake, last_result: self.last_result - began };
        for task in self.late.rule.second_copies(now - began, seen, &tasks) {
            tracing::debug!(job = %task.routing_key, task = %task.id, "a task is late; an idle slot executes it as well");
            let copies = self.late.copied.entry(task.id).or_insert(Copies { count: 0, sent: now });
            *copies = Copies { count: copies.count + 1, sent: now };
            self.publishing.push(Box::pin(self.lease.sender.publish_copy(task)));
        }
    }

    /// Tells the workers which tasks have a result that more than one of them have, unless they were told something a moment ago.
    pub(super) fn stop_copies(&mut self) {
        let now = Instant::now();
        let pause = tell_every(self.crew.workers());
        if self.late.answered.is_empty() || self.late.told.is_some_and(|told| now < told + pause) {
            return;
        }
        self.late.told = Some(now);
        let tasks = std::mem::take(&mut self.late.answered);
        let answered = WorkerIpc::Answered { routing_key: self.lease.routing_key.clone(), tasks };
        let told = self.lease.ipc.clone();
        self.publishing.push(Box::pin(async move {
            if let Err(error) = told.publish(&answered).await {
                tracing::debug!(%error, "could not tell the workers to stop the second copies of tasks");
            }
            Ok(())
        }));
    }

    /// Sends everything again that has no result. Nobody has it any more, or if somebody has, its first result counts.
    pub(super) fn send_again(&mut self) {
        let tasks = self.lease.sender.unanswered();
        // Those that wait for their next attempt, or for the broker, are here.
        if tasks.is_empty() || !self.publishing.is_empty() {
            return;
        }
        tracing::warn!(
            job = %self.lease.routing_key,
            tasks = tasks.len(),
            "no queue and no worker has the tasks of this job any more: they are sent again"
        );
        // They were confirmed. What took them for sent would take the copies for it as well.
        self.lease.sender.renew();
        for sent in tasks {
            self.publishing.push(Box::pin(self.lease.sender.publish_copy(&sent.task)));
        }
    }
}
