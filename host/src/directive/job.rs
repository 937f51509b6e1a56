//! One evaluation of a directive: the loop between the source, the workers and the reader.
//!
//! [`Job::advance`] waits for the next [`Event`] and handles it. It owns all state of the job; nothing is shared and no
//! task is spawned, so that dropping the job ends it.

mod late;

use std::{collections::VecDeque, future::poll_fn, ops::Range, task::Poll, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use late::{Late, Lost};
use palfrey_schedule::{BatchRule, Crew, Executed, FoldTree, Phase, Window};
use palfrey_sdk::Serializer;
use tokio::time::Instant;

use super::{
    JobError, JobOptions, JobProgress,
    outputs::Outputs,
    plan::{Pinned, Plan},
    source::{Full, Source},
    timer::Timer,
};
use crate::{
    channel::{Channel, Settled},
    queue::QueueError,
    runtime::{JobLease, Remembered, Runtime, STALL, diagnosis},
    task::{
        AfterFailure, AnyTask, Apply, ElementFailure, ExecutionError, Packed, PackedBuilder, Stage, TaskId,
        TaskOutcome, WorkerReport,
    },
};

/// Which part of the job a task stands for.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Elements of the source.
    range: Range<u64>,
    /// What the task's inputs are.
    inputs: Inputs,
    sent: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inputs {
    /// The elements of the range, or none of them if the only one failed in a way to be ignored.
    Elements,
    /// Partial results of a fold.
    Partials,
}

impl Piece {
    fn new(range: Range<u64>, inputs: Inputs) -> Self {
        Self { range, inputs, sent: Instant::now() }
    }

    fn elements(range: Range<u64>) -> Self {
        Self::new(range, Inputs::Elements)
    }

    /// The elements at some positions of this piece's batch.
    fn part(&self, positions: &Range<usize>) -> Self {
        Self::elements(self.range.start + positions.start as u64..self.range.start + positions.end as u64)
    }

    /// Index in the source of what is at a position of the batch. A partial result has none.
    fn element(&self, position: u64) -> Option<u64> {
        (self.inputs == Inputs::Elements).then(|| self.range.start + position)
    }
}

enum Event {
    Pulled(Pulled),
    Settled(Box<Settled<Piece>>),
    /// A task is sent, or a result acknowledged.
    Written(Result<(), QueueError>),
    Retry(Box<Retry>),
    Lost,
    /// Time to look for tasks that are late.
    Hedge,
    Stalled,
    /// Whether the tasks that were sent are gone.
    Looked {
        gone: bool,
    },
    TimedOut,
}

/// A task that is sent again.
struct Retry {
    piece: Piece,
    inputs: Packed,
    attempt: u32,
}

enum Pulled {
    /// The batch is full, or nobody has anything to do and the source keeps them waiting.
    Batch,
    End,
    Failed(JobError),
}

/// Those that most events put off.
#[derive(Default)]
struct Timers {
    deadline: Timer,
    hedge: Timer,
    stall: Timer,
}

pub(crate) struct Job<'a> {
    source: Box<dyn Source + 'a>,
    source_ended: bool,
    stages: Vec<Stage>,
    /// Whether all stages are pure: only then a task may be executed a second time in advance.
    pure: bool,
    serializer: Serializer,
    options: JobOptions,
    lease: JobLease<Piece>,
    workers: Channel<AnyTask>,
    /// Elements that have been pulled from the source and not been sent.
    batch: PackedBuilder,
    /// Index of the element that is pulled next.
    pulled: u64,
    done: u64,
    rule: BatchRule,
    /// The pace of earlier jobs that execute the same, for later ones.
    remembered: Remembered,
    crew: Crew<String>,
    bytes_in_flight: usize,
    late: Late,
    lost: Lost,
    publishing: FuturesUnordered<BoxFuture<'static, Result<(), QueueError>>>,
    /// Results that are dealt with, and whose acknowledgement is on its way.
    acknowledging: FuturesUnordered<BoxFuture<'static, Result<(), QueueError>>>,
    /// Tasks that wait for their next attempt.
    retries: FuturesUnordered<BoxFuture<'static, Retry>>,
    /// Outputs that the reader has not taken.
    ready: VecDeque<Outputs>,
    /// What ends the job, once the reader has taken the outputs that were there before.
    failure: Option<JobError>,
    tree: FoldTree<Bytes>,
    /// The identity, if the source was empty.
    empty: Option<Bytes>,
    deadline: Option<Instant>,
    timers: Timers,
    last_result: Instant,
    /// Whether the job has said what it waits for.
    stalled: bool,
}

impl<'a> Job<'a> {
    /// Resolves the plan, and leases the channel of the results. Nothing is sent yet.
    pub(crate) async fn start(
        runtime: &Runtime,
        source: Box<dyn Source + 'a>,
        plan: &Plan<'_>,
        options: JobOptions,
    ) -> Result<Self, JobError> {
        // A time that is too far away for the clock is none.
        let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let Pinned { stages, pure } = resolve_when_deployed(runtime, plan, &options, deadline).await?;
        let lease = tokio::select! {
            lease = runtime.lease_job(stages.iter().map(|stage| stage.operation.clone()).collect()) => lease?,
            () = sleep_until(deadline) => {
                let timeout = options.timeout.unwrap_or_default();
                return Err(JobError::Timeout { timeout, waiting_for: "the broker, to lease a channel".to_owned() });
            }
        };
        let remembered = runtime.remembered(&stages);
        Ok(Self {
            source,
            source_ended: false,
            stages,
            pure,
            serializer: runtime.serializer(),
            lease,
            workers: runtime.task_channel().clone(),
            batch: PackedBuilder::default(),
            pulled: 0,
            done: 0,
            rule: BatchRule::beginning_at(options.batch_size, remembered.pace()),
            remembered,
            crew: Crew::default(),
            bytes_in_flight: 0,
            late: Late::new(),
            lost: Lost::new(runtime.whereabouts()),
            publishing: FuturesUnordered::new(),
            acknowledging: FuturesUnordered::new(),
            retries: FuturesUnordered::new(),
            ready: VecDeque::new(),
            failure: None,
            tree: FoldTree::default(),
            empty: None,
            deadline,
            timers: Timers::default(),
            last_result: Instant::now(),
            stalled: false,
            options,
        })
    }

    /// The next outputs of a plan without a fold.
    pub(crate) async fn next_outputs(&mut self) -> Result<Option<Outputs>, JobError> {
        loop {
            if let Some(outputs) = self.ready.pop_front() {
                return Ok(Some(outputs));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.is_idle() {
                return Ok(None);
            }
            self.advance().await?;
        }
    }

    /// The result of a plan with a fold.
    pub(crate) async fn folded(&mut self) -> Result<Bytes, JobError> {
        loop {
            if self.is_idle() {
                if let Some(result) = self.empty.take().or_else(|| self.tree.result(self.pulled).cloned()) {
                    return Ok(result);
                }
                if self.tree.is_empty() {
                    // The source was empty: a fold of nothing is the identity.
                    self.send(Piece::elements(0..0), Packed::default(), 0);
                }
                self.combine(Phase::Complete { slots: self.slots() });
            }
            self.advance().await?;
        }
    }

    /// Whether everything that was taken from the source has been dealt with.
    fn is_idle(&self) -> bool {
        self.source_ended && self.batch.is_empty() && self.in_flight() == 0 && self.acknowledging.is_empty()
    }

    fn in_flight(&self) -> usize {
        self.lease.sender.in_flight() + self.retries.len()
    }

    fn slots(&self) -> usize {
        self.crew.slots()
    }

    fn folds(&self) -> bool {
        self.stages.last().is_some_and(|stage| stage.apply == Apply::Fold)
    }

    /// Waits for the next event, and handles it.
    async fn advance(&mut self) -> Result<(), JobError> {
        match self.wait().await {
            Event::Settled(settled) => self.settle(*settled).await,
            Event::Pulled(Pulled::Batch) => {
                self.send_batch();
                Ok(())
            }
            Event::Pulled(Pulled::End) => {
                self.source_ended = true;
                if !self.batch.is_empty() {
                    self.send_batch();
                }
                Ok(())
            }
            Event::Pulled(Pulled::Failed(error)) => Err(error),
            Event::Written(written) => Ok(written?),
            Event::Retry(retry) => {
                let Retry { piece, inputs, attempt } = *retry;
                self.send(piece, inputs, attempt);
                Ok(())
            }
            Event::Lost => Err(self.lease.listed.why_it_ended()),
            Event::Hedge => {
                self.hedge();
                Ok(())
            }
            Event::Stalled => {
                self.say_what_it_waits_for().await;
                self.lost.look(&self.lease.routing_key);
                Ok(())
            }
            Event::Looked { gone } => {
                if gone {
                    self.send_again();
                }
                self.lost.look(&self.lease.routing_key);
                Ok(())
            }
            Event::TimedOut => Err(self.timed_out().await),
        }
    }

    async fn wait(&mut self) -> Event {
        let slots = self.slots();
        let in_flight = self.in_flight();
        let size = self.rule.next(self.source.remaining(), slots);
        let (tasks, output) = (self.options.in_flight.map(usize::from), self.rule.expected_output(size));
        let window = Window { tasks, slots, expected: self.rule.settled(), output, complete: self.crew.is_complete() };
        let pulls = !self.source_ended && window.allows(in_flight, self.bytes_in_flight);
        let hungry = in_flight < slots.max(1);
        // A second copy helps on another worker, and only slots that have nothing else to do execute it.
        let hedges = self.source_ended && self.pure && in_flight > 0 && self.crew.had_several();
        let hedge = hedges.then(|| self.late.next(in_flight, slots));
        let stall = (!self.stalled && in_flight > 0).then(|| self.last_result + STALL);
        let Self { source, serializer, batch, pulled, lease, publishing, acknowledging, .. } = self;
        let Self { retries, lost, deadline, timers, .. } = self;
        let Timers { deadline: deadline_timer, hedge: hedge_timer, stall: stall_timer } = timers;

        let full = Full { elements: size, bytes: window.batch_bytes() };
        let pull = poll_fn(|context| {
            let before = batch.len();
            let filled = source.poll_fill(context, *serializer, batch, full);
            *pulled += (batch.len() - before) as u64;
            match filled {
                Poll::Ready(Some(Ok(()))) => Poll::Ready(Pulled::Batch),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Pulled::Failed(error)),
                Poll::Ready(None) => Poll::Ready(Pulled::End),
                Poll::Pending if hungry && !batch.is_empty() => Poll::Ready(Pulled::Batch),
                Poll::Pending => Poll::Pending,
            }
        });

        tokio::select! {
            biased;
            () = deadline_timer.until(*deadline) => Event::TimedOut,
            settled = lease.results.next() => settled.map_or(Event::Lost, |settled| Event::Settled(Box::new(settled))),
            Some(sent) = publishing.next() => Event::Written(sent),
            Some(acknowledged) = acknowledging.next() => Event::Written(acknowledged),
            Some(retry) = retries.next() => Event::Retry(Box::new(retry)),
            pulled = pull, if pulls => Event::Pulled(pulled),
            () = hedge_timer.until(hedge) => Event::Hedge,
            () = stall_timer.until(stall) => Event::Stalled,
            Some(gone) = lost.looked() => Event::Looked { gone },
        }
    }

    fn send_batch(&mut self) {
        let inputs = self.batch.build();
        let range = self.pulled - inputs.len() as u64..self.pulled;
        if self.stages.is_empty() {
            self.done = range.end;
            self.ready.push_back(Outputs::new(range.start, inputs));
            return;
        }
        self.send(Piece::elements(range), inputs, 0);
    }

    /// Sends partial results that are worth combining now.
    fn combine(&mut self, phase: Phase) {
        while let Some((range, partials)) = self.tree.take_run(phase) {
            self.send(Piece::new(range, Inputs::Partials), partials.into_iter().collect(), 0);
        }
    }

    fn send(&mut self, piece: Piece, inputs: Packed, attempt: u32) {
        let stages = match piece.inputs {
            Inputs::Elements => self.stages.clone(),
            Inputs::Partials => self.stages[self.stages.len() - 1..].to_vec(),
        };
        let task = AnyTask {
            routing_key: self.lease.routing_key.clone(),
            id: TaskId(0),
            metadata: Bytes::new(),
            serializer: self.serializer,
            attempt,
            stages,
            inputs,
        };
        if self.in_flight() == 0 {
            // Nothing could have been answered before.
            self.last_result = Instant::now();
        }
        self.bytes_in_flight += task.inputs.bytes().len();
        self.progress();
        let piece = Piece { sent: Instant::now(), ..piece };
        self.publishing.push(Box::pin(self.lease.sender.publish(task, piece)));
    }

    async fn settle(&mut self, settled: Settled<Piece>) -> Result<(), JobError> {
        settled.trace_times(settled.sent.tag.sent);
        let Settled { sent, result, acker } = settled;
        let (task, piece) = (&sent.task, &sent.tag);
        self.last_result = Instant::now();
        self.stalled = false;
        self.lost.answered();
        self.bytes_in_flight -= task.inputs.bytes().len();
        if self.late.answered(task.id) {
            self.stop_copies();
        }
        self.crew.heard(result.report.worker.as_str(), result.report.slots as usize);
        match result.outcome {
            TaskOutcome::Executed { outputs, failed } => {
                if piece.inputs == Inputs::Elements {
                    let WorkerReport { waited, execution, .. } = result.report;
                    let transit = piece.sent.elapsed().saturating_sub(waited + execution);
                    let batch =
                        Executed { elements: task.inputs.len(), output: outputs.bytes().len(), execution, transit };
                    self.rule.observe(&batch, self.slots());
                    self.rule.pace().into_iter().for_each(|pace| self.remembered.set(pace));
                }
                self.take_outputs(task, piece, &outputs, failed, &result.report)?;
            }
            TaskOutcome::Failed(error) => self.take_failure(task, piece, error)?,
        }
        // Nothing waits for it but the end of the job.
        self.acknowledging.push(acker.ack());
        let progress = self.progress();
        if let Some(report) = &self.options.progress {
            report(progress);
        }
        Ok(())
    }

    /// How far the job is, for its reader and for operators.
    fn progress(&self) -> JobProgress {
        let remaining = if self.source_ended { Some(0) } else { self.source.remaining() };
        let total = remaining.map(|remaining| self.pulled + remaining);
        let mut counts = self.lease.listed.entry().counts();
        (counts.done, counts.taken, counts.total) = (self.done, self.pulled, total);
        JobProgress { done: self.done, taken: self.pulled, total }
    }

    fn take_outputs(
        &mut self,
        task: &AnyTask,
        piece: &Piece,
        outputs: &Packed,
        failed: Vec<ElementFailure>,
        report: &WorkerReport,
    ) -> Result<(), JobError> {
        let protocol = |reason: String| JobError::Protocol { worker: report.worker.clone(), reason };
        let (inputs, fails) = (task.inputs.len(), failed.len());
        // What is behind an element that ends the job was not executed.
        let cut = failed.last().is_some_and(ElementFailure::terminates);
        let executed = outputs.len() + fails;
        let fits = if self.folds() { outputs.len() == 1 } else { executed == inputs || cut && executed < inputs };
        if !fits {
            return Err(protocol(format!("{inputs} inputs became {} outputs and {fails} failures", outputs.len())));
        }
        if self.folds() {
            self.leave_out(piece, failed)?;
            match outputs.get(0) {
                Some(partial) if piece.range.is_empty() => self.empty = Some(partial),
                Some(partial) => {
                    let bytes = partial.len();
                    self.tree.insert(piece.range.clone(), partial, bytes);
                    let is_idle = self.source_ended && self.in_flight() < self.slots();
                    self.combine(if is_idle { Phase::Idle } else { Phase::Busy });
                }
                None => {}
            }
            if piece.inputs == Inputs::Elements {
                self.done += piece.range.end - piece.range.start;
            }
            return Ok(());
        }
        // Positions in the batch, and in its outputs, of what comes next.
        let (mut position, mut taken) = (0, 0);
        let mut again: Vec<(Range<usize>, Duration)> = Vec::new();
        for ElementFailure { index, error } in failed {
            let failed = index as usize;
            let before = failed.checked_sub(position);
            let before = before.filter(|before| failed < inputs && taken + before <= outputs.len());
            let before = before
                .ok_or_else(|| protocol("the indices of the failures are not those of its elements".to_owned()))?;
            self.take_run(piece, position, outputs.slice(taken..taken + before));
            (position, taken) = (failed + 1, taken + before);
            let error = ExecutionError { element: Some(piece.range.start + failed as u64), ..error };
            match error.after_attempt(task.attempt) {
                AfterFailure::Retry(delay) => match again.last_mut() {
                    Some((positions, same)) if positions.end == failed && *same == delay => positions.end += 1,
                    _ => again.push((failed..failed + 1, delay)),
                },
                AfterFailure::Ignore(error) => {
                    self.done += 1;
                    self.lease.listed.entry().counts().failed += 1;
                    tracing::debug!(%error, "an element has no output, as its operation asks for");
                }
                AfterFailure::Terminate(error) => {
                    // The workers need not wait for the reader.
                    self.lease.results.end();
                    self.failure = Some(error.into());
                    return Ok(());
                }
            }
        }
        self.take_run(piece, position, outputs.slice(taken..outputs.len()));
        for (positions, delay) in again {
            let inputs = task.inputs.slice(positions.clone());
            self.retry(Retry { piece: piece.part(&positions), inputs, attempt: task.attempt + 1 }, delay);
        }
        Ok(())
    }

    /// Takes the outputs of consecutive elements, of which the first is at a position of the batch.
    fn take_run(&mut self, piece: &Piece, position: usize, outputs: Packed) {
        if !outputs.is_empty() {
            self.done += outputs.len() as u64;
            self.ready.push_back(Outputs::new(piece.range.start + position as u64, outputs));
        }
    }

    /// Deals with what a worker left out of a fold because it failed in a way to be ignored.
    fn leave_out(&self, piece: &Piece, failed: Vec<ElementFailure>) -> Result<(), JobError> {
        for failure in failed {
            let error = ExecutionError { element: piece.element(failure.index.into()), ..failure.error };
            if piece.inputs == Inputs::Partials {
                // The elements in a partial result did not fail. A worker cannot tell it from an element.
                return Err(error.into());
            }
            self.lease.listed.entry().counts().failed += 1;
            tracing::debug!(%error, "an element was left out, as its operation asks for");
        }
        Ok(())
    }

    /// Deals with a task that has no outputs at all. Where an element is to blame, the batch is taken apart: only that
    /// element has used up an attempt.
    fn take_failure(&mut self, task: &AnyTask, piece: &Piece, error: ExecutionError) -> Result<(), JobError> {
        let blamed = error.element.filter(|&position| position < task.inputs.len() as u64);
        let element = blamed.and_then(|position| piece.element(position));
        let blamed = element.and(blamed).map(|position| position as usize..position as usize + 1);
        let after = ExecutionError { element, ..error }.after_attempt(task.attempt);
        match (after, blamed) {
            (AfterFailure::Terminate(error), _) => return Err(error.into()),
            // A partial result cannot be left out: the elements in it did not fail.
            (AfterFailure::Ignore(error), None) => return Err(error.into()),
            (AfterFailure::Ignore(error), Some(alone)) => {
                self.lease.listed.entry().counts().failed += 1;
                tracing::debug!(%error, "an element is left out, as its operation asks for");
                self.send(piece.part(&alone), Packed::default(), 0);
                self.send_others(task, piece, alone);
            }
            (AfterFailure::Retry(delay), Some(alone)) => {
                let inputs = task.inputs.slice(alone.clone());
                self.retry(Retry { piece: piece.part(&alone), inputs, attempt: task.attempt + 1 }, delay);
                self.send_others(task, piece, alone);
            }
            (AfterFailure::Retry(delay), None) => {
                let inputs = task.inputs.clone();
                self.retry(Retry { piece: piece.clone(), inputs, attempt: task.attempt + 1 }, delay);
            }
        }
        Ok(())
    }

    /// Sends a batch again without one element: those before it, which did not fail, and the others in two halves, so that
    /// a batch of which many fail is soon taken apart.
    fn send_others(&mut self, task: &AnyTask, piece: &Piece, alone: Range<usize>) {
        let len = task.inputs.len();
        let middle = usize::midpoint(alone.end, len);
        for positions in [0..alone.start, alone.end..middle, middle..len] {
            if !positions.is_empty() {
                self.send(piece.part(&positions), task.inputs.slice(positions), task.attempt);
            }
        }
    }

    fn retry(&mut self, retry: Retry, delay: Duration) {
        self.lease.listed.entry().counts().retried += 1;
        if delay.is_zero() {
            self.send(retry.piece, retry.inputs, retry.attempt);
        } else {
            self.retries.push(Box::pin(async move {
                tokio::time::sleep(delay).await;
                retry
            }));
        }
    }

    async fn timed_out(&mut self) -> JobError {
        let waiting_for = diagnosis(&self.workers, self.in_flight()).await;
        JobError::Timeout { timeout: self.options.timeout.unwrap_or_default(), waiting_for }
    }

    async fn say_what_it_waits_for(&mut self) {
        let in_flight = self.in_flight();
        let waiting_for = diagnosis(&self.workers, in_flight).await;
        tracing::warn!(job = %self.lease.routing_key, "no result for {STALL:?}: {waiting_for}");
        self.stalled = true;
    }
}

/// Resolves the plan now or, if the job is to wait for its plugins, when they are deployed.
async fn resolve_when_deployed(
    runtime: &Runtime,
    plan: &Plan<'_>,
    options: &JobOptions,
    deadline: Option<Instant>,
) -> Result<Pinned, JobError> {
    let mut changes = runtime.registry().subscribe();
    let mut stall = Some(Instant::now() + STALL);
    loop {
        changes.mark_unchanged();
        let missing = match plan.resolve(runtime.registry(), runtime.serializer()) {
            Err(JobError::Resolve(missing)) if options.wait_for_plugins => missing,
            resolved => return resolved,
        };
        tokio::select! {
            changed = changes.changed() => changed.map_err(|_| QueueError::Closed)?,
            () = sleep_until(stall), if stall.is_some() => {
                stall = None;
                tracing::warn!("no task sent for {STALL:?}: waiting for a deployment, because {missing}");
            }
            () = sleep_until(deadline) => {
                let timeout = options.timeout.unwrap_or_default();
                return Err(JobError::Timeout { timeout, waiting_for: format!("a deployment, because {missing}") });
            }
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
