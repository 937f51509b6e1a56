//! Tasks that may be what kills workers, executed one at a time.
//!
//! A task comes back to its queue when the worker that holds it dies, and nobody can tell whether that worker had begun
//! with it. One that came back several times is a suspect, and waits in a queue of its own. Nothing is fetched from that
//! queue in advance: a worker takes a suspect when it can begin with it at once, and begins with nothing else beside it.
//! Each delivery there is therefore an attempt, and whoever dies of one leaves no doubt. A suspect that was attempted
//! [`ATTEMPTS`] times is accused before all workers: who lost its connection instead of its life says so, and it is tried
//! again (see `witness`). One for which nobody vouches is poison: its job is told, and it goes to the dead letters.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, MissedTickBehavior},
};
use tracing::Instrument;

use super::{
    Chain, Suspect, Times, WorkerIpc, last_operation,
    processing::{End, Processing, Slot, acknowledge, move_to, settle, span},
};
use crate::{
    presence::PATIENCE,
    queue::{Delivery, QueueError, QueueHandle, QueueSpec},
    task::{AnyTask, Cause, ExecutionError, TaskOutcome},
};

/// Attempts to execute a suspect.
const ATTEMPTS: u32 = 3;

/// How often a worker looks for suspects that others have found.
const LOOK: Duration = Duration::from_secs(5);

/// How long a worker waits until nothing else runs, and how long nothing else begins while a suspect runs. Who survives that
/// long beside others is no danger to them, nor they to it.
const ALONE: Duration = Duration::from_secs(5);

/// How often all workers are asked whether they have had an accused task, within [`PATIENCE`]: one that has lost its
/// connection hears nothing until it has it again.
const ACCUSE: Duration = Duration::from_secs(1);

impl Processing {
    /// Deals with suspects until no more tasks are to begin. The permits are the slots that are free already.
    pub(super) async fn watch_suspects(self: Arc<Self>, mut permits: Vec<OwnedSemaphorePermit>) {
        let Some(suspects) = self.bus.suspects() else { return };
        let queue = self.worker.channels.connection().handle(&suspects);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                () = self.suspected.notified() => {}
                _ = look.tick() => {}
            }
            loop {
                let taken = tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return,
                    taken = self.take_alone(&*queue, &mut permits) => taken,
                };
                match taken {
                    Ok(Some(delivery)) => self.examine(&suspects, delivery, &mut permits).await,
                    Ok(None) => break,
                    Err(QueueError::Closed) => return,
                    Err(QueueError::NoSuchQueue(_)) => {
                        if let Err(error) = self.worker.channels.connection().declare(&suspects).await {
                            tracing::debug!(error = %Chain(&error), "could not declare the queue of suspects");
                        }
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(error = %Chain(&error), "could not look for suspects");
                        break;
                    }
                }
            }
            permits.clear();
            self.witness.reap(Instant::now());
        }
    }

    /// A suspect, if there is one, once as little else runs as can be had.
    async fn take_alone(
        &self,
        queue: &dyn QueueHandle,
        permits: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<Option<Delivery>, QueueError> {
        if queue.status().await?.messages == 0 {
            return Ok(None);
        }
        let wait = Instant::now() + ALONE;
        while permits.len() < self.worker.engine.slots() {
            tokio::select! {
                biased;
                permit = self.worker.slots.clone().acquire_owned() => match permit {
                    Ok(permit) => permits.push(permit),
                    Err(_) => return Ok(None),
                },
                () = tokio::time::sleep_until(wait), if !permits.is_empty() => break,
            }
        }
        queue.take().await
    }

    async fn examine(&self, suspects: &QueueSpec, delivery: Delivery, permits: &mut Vec<OwnedSemaphorePermit>) {
        let Some((task, delivery)) = self.read(delivery).await else { return };
        let span = span(&task);
        async {
            let suspect = Suspect { routing_key: task.routing_key.clone(), task: task.id, attempt: task.attempt };
            if delivery.earlier >= ATTEMPTS {
                // Nothing is executed here.
                permits.clear();
                return self.judge(&task, &suspect, suspects, delivery).await;
            }
            self.witness.note(suspect.clone(), Instant::now());
            let Delivery { earlier, moves, acker, .. } = delivery;
            let Some(running) = self.start(&task, acker).await else { return };
            tracing::warn!(attempt = earlier + 1, "executing a task alone that may be what kills workers");
            let Some((stages, running)) = self.stages(&task, running, &moves).await else { return };
            let end = {
                let execution = self.execute(&task, stages, &running, Slot::none());
                tokio::pin!(execution);
                tokio::select! {
                    biased;
                    end = &mut execution => end,
                    () = tokio::time::sleep(ALONE) => {
                        permits.truncate(1);
                        execution.await
                    }
                }
            };
            self.witness.note(suspect, Instant::now());
            match end {
                // The worker ends in order. As a new message, so that this is no attempt that killed it.
                End::HandBack => move_to(running.end(), suspects, "its worker ended in order").await,
                End::Done => acknowledge(running).await,
                End::Unwanted => self.drop_job(&task.routing_key, running).await,
                End::Unanswerable(reason) => self.set_aside(running, &reason).await,
            }
        }
        .instrument(span)
        .await;
    }

    /// Whether it was the task that ended its attempts, or what else was lost meanwhile.
    async fn judge(&self, task: &AnyTask, suspect: &Suspect, suspects: &QueueSpec, delivery: Delivery) {
        if self.is_vouched_for(suspect).await {
            tracing::warn!(deliveries = delivery.earlier, "a worker has had this task and lives: it is tried again");
            // As a new message, whose attempts are counted anew.
            move_to([delivery.acker], suspects, "its workers live: they lost their connections").await;
        } else if self.closing.is_cancelled() {
            settle(delivery.acker.nack().await);
        } else {
            self.convict(task, delivery).await;
        }
    }

    /// Whether a worker that has had a task lives, this one included.
    async fn is_vouched_for(&self, suspect: &Suspect) -> bool {
        if self.witness.has_had(suspect) {
            return true;
        }
        let vouched = self.witness.vouched_for(suspect);
        let accusing = async {
            let mut times = tokio::time::interval(ACCUSE);
            times.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                times.tick().await;
                if let Err(error) = self.worker.tell_all(&WorkerIpc::Accuse(suspect.clone())).await {
                    tracing::debug!(error = %Chain(&error), "could not ask who has had a task");
                }
            }
        };
        let heard = async {
            tokio::select! {
                biased;
                () = vouched => true,
                () = self.closing.cancelled() => false,
                () = accusing => false,
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or(false)
    }

    /// Nobody executes it again. Its job is told first: whatever dies in between, somebody does it once more.
    async fn convict(&self, task: &AnyTask, delivery: Delivery) {
        let attempts = delivery.earlier;
        let cause = Cause::Poison { attempts };
        let reason = format!("{}: {cause}", last_operation(task));
        tracing::error!(attempts, "a task kills the workers that execute it; it goes to the dead-letter queue");
        let message = self.bus.dead_letters().map(|dead| format!("the task is in queue `{}`", dead.name));
        let failure = ExecutionError::new(last_operation(task), cause, message.unwrap_or_default());
        match self.worker.dispatch(task, TaskOutcome::Failed(failure), Times::default()).await {
            Ok(()) | Err(QueueError::NoSuchQueue(_)) => settle(delivery.acker.dead_letter(&reason).await),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "could not send a result; the task goes back");
                settle(delivery.acker.nack().await);
            }
        }
    }
}
