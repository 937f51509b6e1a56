//! What a worker does with a delivery: from its bytes to its end.
//!
//! A task is executed, its result is sent, and once the broker has confirmed that, the task is acknowledged. Everything
//! else here is about tasks with which that does not work: those that cannot be read, whose plugin is not here yet, whose job
//! is gone, that come while the worker ends, or that came back so often that they may be what kills workers. For the
//! latter see `suspects`.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Chain, Stages, Times, Unavailable, WorkerRuntime,
    holding::Holding,
    jobs::{Jobs, RunningTask, Start},
    last_operation, panicked,
    witness::Witness,
};
#[cfg(debug_assertions)]
use crate::failpoint::Moment;
use crate::{
    TIMES, micros,
    queue::{Acker, DELAY, Delivery, Move, QueueError, QueueSpec},
    task::{
        AnyTask, Cause, ExecutionError, OperationId, RoutingKey, TaskId, TaskOutcome,
        wire::{Envelope, Message, WireError},
    },
};

/// Deliveries that may end without a word before a task is a suspect. Some are innocent: tasks come back with the worker
/// that fetched them, whether or not it began with them.
const TRUSTED: u32 = 2;

/// How long a task waits for its plugin here. After that others may have it.
const PLUGIN: Duration = Duration::from_secs(5);

/// How often a task is handed on because its plugin was not there, or needs what is not allowed here: some minutes in all.
pub(super) const PLUGIN_ROUNDS: u32 = 60;

/// How often a task is handed on because its plugin was not trusted: others may trust other keys. Some seconds in all.
pub(super) const REFUSED_ROUNDS: u32 = 5;

/// How often a task in another version's format is handed on: as long as an upgrade of all workers may take, ten minutes.
const FORMAT_ROUNDS: u32 = 300;

/// What the tasks under way on one worker share.
pub(super) struct Processing {
    pub(super) worker: WorkerRuntime,
    pub(super) jobs: Jobs,
    pub(super) bus: QueueSpec,
    /// Cancelled when no more tasks begin.
    pub(super) closing: CancellationToken,
    /// Cancelled when those that run are handed back.
    pub(super) over: CancellationToken,
    /// Told when a suspect was found.
    pub(super) suspected: Notify,
    pub(super) witness: Witness,
    pub(super) holding: Holding,
}

/// What a task executes on.
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    /// For so long.
    waited: Duration,
}

impl Slot {
    /// For whoever holds all of them.
    pub(super) fn none() -> Self {
        Self { permit: None, waited: Duration::ZERO }
    }
}

/// How a task ended on this worker.
pub(super) enum End {
    /// Nobody needs it any more.
    Done,
    /// It is somebody else's turn.
    HandBack,
    /// Its job is gone.
    Unwanted,
    /// This worker may not send its result, and others most likely neither.
    Unanswerable(String),
}

impl Processing {
    /// Nothing is under way. A terminated job is remembered for a while.
    pub(super) fn new(worker: WorkerRuntime, remember: Duration) -> Arc<Self> {
        Arc::new(Self {
            jobs: Jobs::new(remember),
            bus: worker.tasks.spec().clone(),
            holding: Holding::new(worker.engine.slots(), worker.prefetch),
            worker,
            closing: CancellationToken::new(),
            over: CancellationToken::new(),
            suspected: Notify::new(),
            witness: Witness::default(),
        })
    }

    /// Processes a delivery from the queue of tasks.
    pub(super) async fn receive(&self, delivery: Delivery) {
        let Some((task, delivery)) = self.read(delivery).await else { return };
        let span = span(&task);
        self.process(task, delivery).instrument(span).await;
    }

    async fn process(&self, task: AnyTask, delivery: Delivery) {
        let received = Instant::now();
        let Delivery { earlier, moves, acker, .. } = delivery;
        let Some(running) = self.start(&task, acker).await else { return };
        if earlier > TRUSTED {
            return self.suspect(running, earlier).await;
        }
        let Some((stages, running)) = self.stages(&task, running, &moves).await else { return };
        let slot = tokio::select! {
            biased;
            () = self.closing.cancelled() => return hand_back(running).await,
            () = running.cancel().cancelled() => return acknowledge(running).await,
            slot = self.worker.slots.clone().acquire_owned() => slot,
            () = self.holding.surplus() => return hand_back(running).await,
        };
        let slot = Slot { permit: slot.ok(), waited: received.elapsed() };
        let end = self.execute(&task, stages, &running, slot).await;
        match end {
            End::HandBack => hand_back(running).await,
            End::Done => acknowledge(running).await,
            End::Unwanted => self.drop_job(&task.routing_key, running).await,
            End::Unanswerable(reason) => self.set_aside(running, &reason).await,
        }
    }

    /// Nobody executes it again, and nobody can be told.
    pub(super) async fn set_aside(&self, running: RunningTask<'_>, reason: &str) {
        tracing::warn!(reason, "a task has nowhere to send its result; it goes to the dead-letter queue");
        if let Some(dead) = self.bus.dead_letters() {
            move_to(running.end(), &dead, reason).await;
        }
    }

    /// The task of a delivery. One that cannot be read is dealt with.
    pub(super) async fn read(&self, delivery: Delivery) -> Option<(AnyTask, Delivery)> {
        match AnyTask::decode(delivery.payload.clone()) {
            Ok(task) => Some((task, delivery)),
            Err(error) => {
                self.refuse(delivery, error).await;
                None
            }
        }
    }

    async fn refuse(&self, delivery: Delivery, error: WireError) {
        let Delivery { payload, moves, acker, .. } = delivery;
        let (channel, size) = (&self.bus.name, payload.len());
        let envelope = Envelope::read(&payload);
        if let (WireError::Version(_), Some(Envelope { routing_key, id, .. })) = (&error, &envelope)
            && let Some(first) = self.rounds_left(&moves, FORMAT_ROUNDS)
        {
            if first {
                tracing::warn!(channel, job = %routing_key, task = %id, %error, "handing on a task to other workers");
            }
            return self.hand_on([acker], &format!("not for this worker: {error}")).await;
        }
        tracing::warn!(channel, size, %error, "a message does not decode; it goes to the dead-letter queue");
        if let Some(Envelope { version, routing_key, id }) = envelope {
            let cause = Cause::Format { version };
            let failure = ExecutionError::new(OperationId::new("none", "none"), cause, error.to_string());
            self.tell_job(&routing_key, id, failure).await;
        }
        if let Err(error) = acker.dead_letter(&error.to_string()).await {
            tracing::warn!(channel, error = %Chain(&error), "could not dead-letter it; it will be delivered again");
        }
    }

    /// Tells a job of a failure whose task cannot be read.
    async fn tell_job(&self, routing_key: &RoutingKey, id: TaskId, failure: ExecutionError) {
        let outcome = TaskOutcome::Failed(failure);
        match self.worker.send(routing_key, id, outcome).await {
            Ok(()) | Err(QueueError::NoSuchQueue(_)) => {}
            Err(error) => {
                tracing::warn!(job = %routing_key, error = %Chain(&error), "could not tell a job of a failure")
            }
        }
    }

    /// Whether a task may be handed on once more and, if so, whether this is the first time.
    fn rounds_left(&self, moves: &[Move], most: u32) -> Option<bool> {
        let later = self.bus.later()?;
        let rounds =
            moves.iter().filter(|one| one.to == later.name).fold(0, |sum: u32, one| sum.saturating_add(one.times));
        (rounds < most).then_some(rounds == 0)
    }

    /// Begins a task, unless that is not to be done.
    pub(super) async fn start(&self, task: &AnyTask, acker: Box<dyn Acker>) -> Option<RunningTask<'_>> {
        match self.jobs.start(&task.routing_key, task.id, acker) {
            Start::Begun(running) => Some(running),
            Start::Adopted => {
                tracing::info!("a task that is under way was delivered again: one result answers both");
                None
            }
            Start::Terminated(acker) => {
                tracing::debug!("dropping a task of a terminated job");
                settle(acker.ack().await);
                None
            }
        }
    }

    async fn suspect(&self, running: RunningTask<'_>, earlier: u32) {
        let Some(suspects) = self.bus.suspects() else { return };
        tracing::warn!(
            deliveries = earlier,
            "a task came back so often that it may be what kills workers: it is set apart"
        );
        let reason = "it came back again and again: it may be what kills workers";
        move_to([running.end()].into_iter().flatten(), &suspects, reason).await;
        self.suspected.notify_one();
    }

    /// The plugins of a task. If they are not here yet, the task is handed on; if they never will, it has failed.
    pub(super) async fn stages<'a>(
        &self,
        task: &AnyTask,
        running: RunningTask<'a>,
        moves: &[Move],
    ) -> Option<(Result<Stages, ExecutionError>, RunningTask<'a>)> {
        let loaded = tokio::select! {
            biased;
            () = running.cancel().cancelled() => {
                acknowledge(running).await;
                return None;
            }
            () = self.closing.cancelled() => {
                hand_back(running).await;
                return None;
            }
            loaded = tokio::time::timeout(PLUGIN, self.worker.stages(task)) => loaded,
        };
        let (unavailable, rounds) = match loaded {
            Ok(Ok(stages)) => return Some((Ok(stages), running)),
            Ok(Err(Unavailable { error, rounds })) => (error, rounds),
            Err(_) => {
                let message = format!("it was not loaded within {PLUGIN:?}");
                (ExecutionError::new(last_operation(task), Cause::PluginUnavailable, message), PLUGIN_ROUNDS)
            }
        };
        let Some(first) = self.rounds_left(moves, rounds) else { return Some((Err(unavailable), running)) };
        if first {
            tracing::warn!(error = %unavailable, "handing on a task to other workers; it comes again in {DELAY:?}");
        }
        self.hand_on(running.end(), &unavailable.to_string()).await;
        None
    }

    /// Hands a task to whoever takes it next, after a while.
    async fn hand_on(&self, deliveries: impl IntoIterator<Item = Box<dyn Acker>>, reason: &str) {
        if let Some(later) = self.bus.later() {
            move_to(deliveries, &later, reason).await;
        }
    }

    /// Executes a task and sends its result, unless the worker's time is over before. The slot is free for the next task while the
    /// result is on its way.
    pub(super) async fn execute(
        &self,
        task: &AnyTask,
        stages: Result<Stages, ExecutionError>,
        running: &RunningTask<'_>,
        slot: Slot,
    ) -> End {
        let Slot { permit, waited } = slot;
        let work = async {
            #[cfg(debug_assertions)]
            reached(Moment::BeforeExecution, task).await;
            let (outcome, execution) = match stages {
                Ok(stages) => {
                    let executed = self.worker.execute_stages(task, stages, running.cancel(), permit);
                    let executed = AssertUnwindSafe(executed).catch_unwind().await;
                    executed.unwrap_or_else(|_| (panicked(task), Duration::ZERO))
                }
                Err(error) => {
                    drop(permit);
                    (TaskOutcome::Failed(error), Duration::ZERO)
                }
            };
            self.holding.executed(execution);
            if running.cancel().is_cancelled() {
                tracing::debug!("dropping the result of a terminated job");
                return End::Done;
            }
            #[cfg(debug_assertions)]
            reached(Moment::BeforeResult, task).await;
            let executed = Instant::now();
            let sent = self.send_result(task, outcome, Times { waited, execution }).await;
            let [waited, execution, sending] = [waited, execution, executed.elapsed()].map(micros);
            tracing::trace!(target: TIMES, waited, execution, sending, "executed, in microseconds");
            match sent {
                Ok(()) => {
                    #[cfg(debug_assertions)]
                    reached(Moment::BeforeAcknowledgement, task).await;
                    End::Done
                }
                Err(QueueError::NoSuchQueue(_)) => End::Unwanted,
                Err(error @ QueueError::Forbidden(_)) => End::Unanswerable(error.to_string()),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "could not send a result; the task goes back");
                    End::HandBack
                }
            }
        };
        tokio::select! {
            biased;
            end = work => end,
            () = self.over.cancelled() => End::HandBack,
        }
    }

    async fn send_result(&self, task: &AnyTask, outcome: TaskOutcome, times: Times) -> Result<(), QueueError> {
        match outcome {
            TaskOutcome::Failed(err) => {
                // Whether this ends the job is for the orchestrator to say: it may have a result of this task already.
                tracing::warn!(error = %err, "a task failed");
                self.worker.dispatch(task, TaskOutcome::Failed(err), times).await
            }
            TaskOutcome::Executed { outputs, failed } => {
                match self.worker.dispatch(task, TaskOutcome::Executed { outputs, failed }, times).await {
                    Err(QueueError::TooLarge { size, limit }) => {
                        let err = ExecutionError::new(
                            last_operation(task),
                            Cause::OutputTooLarge { limit: limit as u64 },
                            format!(
                                "the outputs of a batch of {} elements have {size} bytes: send smaller batches",
                                task.inputs.len()
                            ),
                        );
                        self.worker.dispatch(task, TaskOutcome::Failed(err), times).await
                    }
                    sent => sent,
                }
            }
        }
    }

    /// Nobody waits for the results of a job.
    pub(super) async fn drop_job(&self, job: &RoutingKey, running: RunningTask<'_>) {
        tracing::info!("nobody waits for the results of this job any more; dropping its tasks");
        self.jobs.terminate(job, Instant::now());
        acknowledge(running).await;
        // Others may be executing it: the broker hands a task on that takes too long.
        if let Err(error) = self.worker.tell_all_to_terminate(job).await {
            tracing::debug!(error = %Chain(&error), "could not tell the other workers");
        }
    }
}

pub(super) fn span(task: &AnyTask) -> tracing::Span {
    tracing::info_span!(
        "task",
        job = %task.routing_key,
        task = %task.id,
        operation = %task.stages.last().map(|stage| stage.operation.to_string()).unwrap_or_default(),
    )
}

pub(super) async fn acknowledge(running: RunningTask<'_>) {
    for delivery in running.end() {
        settle(delivery.ack().await);
    }
}

async fn hand_back(running: RunningTask<'_>) {
    for delivery in running.end() {
        settle(delivery.nack().await);
    }
}

/// Moves a task. All its deliveries are of the same one.
pub(super) async fn move_to(deliveries: impl IntoIterator<Item = Box<dyn Acker>>, queue: &QueueSpec, reason: &str) {
    for delivery in deliveries {
        settle(delivery.move_to(queue, reason).await);
    }
}

pub(super) fn settle(settled: Result<(), QueueError>) {
    if let Err(error) = settled {
        tracing::debug!(error = %Chain(&error), "a delivery could not be settled; it will come again");
    }
}

#[cfg(debug_assertions)]
async fn reached(moment: Moment, task: &AnyTask) {
    let operation = last_operation(task);
    crate::failpoint::reached_by_task(moment, operation.plugin(), operation.operation()).await;
}
