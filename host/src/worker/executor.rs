//! Runs the stages of one task, on the thread of a slot.
//!
//! A batch is handed to the plugin as a whole. Where the plugin reports the failure of an element, the elements behind it
//! still get their turn, unless the failure ends the job. Where the plugin has to be stopped, nobody knows which element is
//! to blame: the elements are then executed one by one, each in an instance of its own, until the guilty one is found. Only
//! that one fails: what was finished before it is kept.

use std::{ops::ControlFlow, sync::Arc};

use palfrey_sdk::FatalStrategy;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Call, Descriptor, Failure, FailureKind, Limits, Plugin, Progress, ProgressSink, Stopped},
    task::{AnyTask, Apply, Cause, ElementFailure, ExecutionError, Packed, PackedBuilder, Stage, TaskOutcome},
};

/// Executes all stages of a task.
pub(super) fn execute(task: &AnyTask, stages: &[(Stage, Plugin, Limits)], cancel: &CancellationToken) -> TaskOutcome {
    let folds = task.stages.last().is_some_and(|stage| stage.apply == Apply::Fold);
    let mut batch = Batch {
        elements: task.inputs.clone(),
        positions: (0..task.inputs.len() as u32).collect(),
        failed: Vec::new(),
        folds,
    };
    for (stage, plugin, limits) in stages {
        let run = StageRun { task, stage, plugin, limits, cancel };
        let done = match stage.apply {
            Apply::Map => run.map(&mut batch),
            Apply::Fold => run.fold(&mut batch),
        };
        if let Err(error) = done {
            return TaskOutcome::Failed(error);
        }
    }
    batch.failed.sort_by_key(|failure| failure.index);
    // An earlier stage may have ended further behind.
    if let Some(last) = batch.failed.iter().position(ElementFailure::terminates) {
        batch.failed.truncate(last + 1);
    }
    TaskOutcome::Executed { outputs: batch.elements, failed: batch.failed }
}

/// What is left of the batch between two stages.
struct Batch {
    elements: Packed,
    /// Position of each element in the task's batch.
    positions: Vec<u32>,
    failed: Vec<ElementFailure>,
    /// Whether the task ends in a fold: its elements are then not retried one by one, because the ones that were mapped
    /// would have to be kept until then.
    folds: bool,
}

impl Batch {
    /// Records the failure of an element, or returns it if nothing of the task can be saved. What is behind an element that
    /// ends the job is not worth executing.
    fn fail(&mut self, position: u32, error: ExecutionError) -> Result<ControlFlow<()>, ExecutionError> {
        if self.folds && error.strategy() != Some(FatalStrategy::Ignore) {
            return Err(error);
        }
        let failure = ElementFailure { index: position, error };
        let next = if failure.terminates() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        self.failed.push(failure);
        Ok(next)
    }
}

/// One stage over what is left of the batch.
struct StageRun<'a> {
    task: &'a AnyTask,
    stage: &'a Stage,
    plugin: &'a Plugin,
    limits: &'a Limits,
    cancel: &'a CancellationToken,
}

impl StageRun<'_> {
    fn call(&self) -> Call<'_> {
        Call {
            operation: self.stage.operation.operation(),
            config: &self.stage.config,
            serializer: self.task.serializer,
            attempt: self.task.attempt,
            limits: *self.limits,
            cancel: self.cancel.clone(),
            progress: Some(self.log_progress()),
        }
    }

    /// Under the task's span, which names the job and the task.
    fn log_progress(&self) -> ProgressSink {
        let operation = self.stage.operation.clone();
        Arc::new(move |Progress { done, total, unit }| {
            tracing::debug!(target: "palfrey::progress", stage = %operation, done, total, unit, "progress");
        })
    }

    fn map(&self, batch: &mut Batch) -> Result<(), ExecutionError> {
        let elements = std::mem::take(&mut batch.elements);
        let positions = std::mem::take(&mut batch.positions);
        let mut outputs = Outputs::default();
        let mut next = 0;
        // Set once the plugin had to be stopped: from then on one element at a time.
        let mut alone = false;
        while next < elements.len() {
            let end = if alone { next + 1 } else { elements.len() };
            match self.plugin.map(&self.call(), &elements.slice(next..end)) {
                Ok(outcome) => {
                    let finished = outcome.outputs.len();
                    batch.positions.extend_from_slice(&positions[next..next + finished]);
                    outputs.push(outcome.outputs);
                    next += finished;
                    if let Some((_, failure)) = outcome.failure {
                        if batch.fail(positions[next], self.failure(failure, Some(positions[next])))?.is_break() {
                            break;
                        }
                        next += 1;
                    }
                }
                Err(stopped) if stopped.cause == Cause::Cancelled => {
                    return Err(self.stopped(stopped, Some(positions[next])));
                }
                Err(stopped) if end - next == 1 => {
                    if batch.fail(positions[next], self.stopped(stopped, Some(positions[next])))?.is_break() {
                        break;
                    }
                    next += 1;
                }
                Err(stopped) => {
                    tracing::debug!(cause = %stopped.cause, "a batch was stopped; executing its elements one by one");
                    alone = true;
                }
            }
        }
        batch.elements = outputs.build();
        Ok(())
    }

    fn fold(&self, batch: &mut Batch) -> Result<(), ExecutionError> {
        let mut elements = std::mem::take(&mut batch.elements);
        let mut positions = std::mem::take(&mut batch.positions);
        loop {
            let folded = if elements.is_empty() {
                self.plugin.empty(&self.call()).map(|empty| empty.map_err(|failure| (0, failure)))
            } else {
                self.plugin.fold(&self.call(), &elements)
            };
            match folded {
                Ok(Ok(element)) => {
                    batch.elements = Packed::single(element);
                    return Ok(());
                }
                Ok(Err((index, failure))) => {
                    let index = index as usize;
                    let position = positions.get(index).copied();
                    let error = self.failure(failure, position);
                    match position {
                        // The others are folded without it.
                        Some(position) if error.strategy() == Some(FatalStrategy::Ignore) => {
                            batch.failed.push(ElementFailure { index: position, error });
                            elements = elements.without(index);
                            positions.remove(index);
                        }
                        _ => return Err(error),
                    }
                }
                Err(stopped) => {
                    let guilty = self.guilty(&stopped.cause, &elements);
                    return Err(self.stopped(stopped, guilty.map(|index| positions[index])));
                }
            }
        }
    }

    /// The element at which a fold has to be stopped: the last one of the shortest prefix for which that is so. A fold is
    /// deterministic and goes from left to right, so that the prefixes can be bisected. Not if it depends on what its worker
    /// grants, and not after a deadline: each step would take as long.
    fn guilty(&self, cause: &Cause, elements: &Packed) -> Option<usize> {
        let operation = self.plugin.description().operation(self.stage.operation.operation());
        let pure = operation.is_none_or(Descriptor::is_pure);
        if !pure || matches!(cause, Cause::Deadline { .. } | Cause::Cancelled) || elements.is_empty() {
            return None;
        }
        let (mut passes, mut fails) = (0, elements.len());
        while fails - passes > 1 {
            let middle = passes + (fails - passes) / 2;
            match self.plugin.fold(&self.call(), &elements.slice(0..middle)) {
                Err(stopped) if matches!(stopped.cause, Cause::Deadline { .. } | Cause::Cancelled) => return None,
                Err(_) => fails = middle,
                Ok(_) => passes = middle,
            }
        }
        Some(fails - 1)
    }

    /// An error of the operation. Elements are counted within the task; the orchestrator knows their index in the source.
    fn failure(&self, failure: Failure, position: Option<u32>) -> ExecutionError {
        let cause = match failure.kind {
            FailureKind::Transient { retry, exhausted } => Cause::Transient { retry, exhausted },
            FailureKind::Fatal(strategy) => Cause::Fatal { strategy },
            FailureKind::BadInput { config, position } => Cause::BadInput { config, position },
            FailureKind::Unsupported => Cause::Unsupported,
        };
        ExecutionError {
            element: position.map(u64::from),
            causes: failure.causes,
            ..ExecutionError::new(self.stage.operation.clone(), cause, failure.message)
        }
    }

    fn stopped(&self, stopped: Stopped, position: Option<u32>) -> ExecutionError {
        ExecutionError {
            element: position.map(u64::from),
            stderr: stopped.stderr,
            ..ExecutionError::new(self.stage.operation.clone(), stopped.cause, stopped.message)
        }
    }
}

/// Outputs of the calls of one stage. There is usually one, which then is not copied.
#[derive(Default)]
struct Outputs(Vec<Packed>);

impl Outputs {
    fn push(&mut self, outputs: Packed) {
        if !outputs.is_empty() {
            self.0.push(outputs);
        }
    }

    fn build(mut self) -> Packed {
        if self.0.len() <= 1 {
            return self.0.pop().unwrap_or_default();
        }
        let mut all = PackedBuilder::default();
        self.0.iter().for_each(|outputs| all.extend(outputs));
        all.build()
    }
}
