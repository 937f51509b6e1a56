//! Typed tasks over a leased channel: what programs write their own directives on.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use palfrey_sdk::{RemoteExecute, Serializable, Serializer};
use tokio::time::Instant;

use super::{
    JobLease, Runtime, STALL,
    board::{JobEntry, Listed},
    diagnosis,
};
use crate::{
    channel::{Channel, CoordinatedSender, CoordinatedStream, LeaseGuard, Outlet, Settled},
    directive::{JobError, resolve_type},
    queue::{Acker, NothingToSettle},
    task::{AfterFailure, AnyTask, ExecutionError, Packed, RoutingKey, Stage, TaskId, TaskOutcome},
};

/// An operation on one input, with whatever the sender wants back with the output. See
/// [`Runtime::lease_coordinated_task_channel`] for how it is sent.
///
/// ```
/// use arith::MultiplyBy;
/// use palfrey_host::{runtime::Task, task::RoutingKey};
///
/// # let routing_key = RoutingKey::random();
/// // Which line of a table the product is for travels along.
/// let task = Task { routing_key, metadata: "line 7".to_owned(), op: &MultiplyBy(3), input: 14 };
/// ```
#[derive(Debug)]
pub struct Task<'a, Op: RemoteExecute, Metadata> {
    /// The identifier that came with the lease.
    pub routing_key: RoutingKey,
    /// Comes back with the output.
    pub metadata: Metadata,
    /// What to execute.
    pub op: &'a Op,
    /// What to execute it on.
    pub input: Op::Input,
}

/// The output of a task.
///
/// ```
/// use arith::FibAt;
/// use palfrey_host::runtime::TaskOutput;
///
/// fn print(TaskOutput { metadata, output }: TaskOutput<FibAt, String>) {
///     println!("{metadata}: {output}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutput<Op: RemoteExecute, Metadata> {
    /// The task's metadata.
    pub metadata: Metadata,
    /// The operation's output.
    pub output: Op::Output,
}

/// What became of a task: its output or its failure, each with the metadata.
///
/// ```
/// use arith::FibAt;
/// use palfrey_host::runtime::TaskResult;
///
/// fn line(result: TaskResult<FibAt, u32>) -> Option<u32> {
///     match result {
///         Ok(done) => Some(done.metadata),
///         Err(failed) => failed.metadata,
///     }
/// }
/// ```
pub type TaskResult<Op, Metadata> = Result<TaskOutput<Op, Metadata>, TaskError<Metadata>>;

/// Why a task has no output.
///
/// ```
/// use palfrey_host::{JobError, runtime::TaskError, task::Cause};
///
/// fn report(failed: TaskError<String>) {
///     let name = failed.metadata.as_deref().unwrap_or("a task");
///     match failed.error.execution() {
///         Some(failure) if matches!(failure.cause, Cause::Fatal { .. }) => eprintln!("{name}: {}", failure.message),
///         _ => eprintln!("{name}: {failed}"),
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TaskError<Metadata> {
    /// The task's metadata. `None` if it does not decode.
    pub metadata: Option<Metadata>,
    /// What failed.
    #[source]
    pub error: JobError,
}

/// Sends tasks of one operation. Each travels alone: batches are what [directives](crate::directive) make.
///
/// ```
/// use arith::FibAt;
/// use palfrey_host::{JobError, runtime::{Task, TaskSender}, task::RoutingKey};
///
/// async fn send(mut sender: TaskSender<FibAt, ()>, routing_key: RoutingKey) -> Result<(), JobError> {
///     for input in 0..10 {
///         sender.publish(&Task { routing_key: routing_key.clone(), metadata: (), op: &FibAt, input }).await?;
///     }
///     sender.close();
///     Ok(())
/// }
/// ```
pub struct TaskSender<Op, Metadata> {
    /// Remembers when a task was sent.
    sender: CoordinatedSender<Instant>,
    job: Arc<JobEntry>,
    stage: Stage,
    serializer: Serializer,
    task: PhantomData<fn(Op, Metadata)>,
}

impl<Op: RemoteExecute, Metadata: Serializable> TaskSender<Op, Metadata> {
    /// Sends a task, and waits until the broker has confirmed that it keeps it.
    ///
    /// # Errors
    /// [`JobError::Encode`] if a value cannot be encoded, and [`JobError::Queue`] if the sender was closed or the broker refuses.
    pub async fn publish(&self, task: &Task<'_, Op, Metadata>) -> Result<(), JobError> {
        let encode = |what: &str| {
            let what = what.to_owned();
            move |source| JobError::Encode { what, source }
        };
        let Self { serializer, stage, .. } = self;
        let config = serializer.to_bytes(task.op).map_err(encode("the config of an operation"))?;
        let task = AnyTask {
            routing_key: task.routing_key.clone(),
            id: TaskId(0),
            metadata: serializer.to_bytes(&task.metadata).map_err(encode("the metadata of a task"))?,
            serializer: *serializer,
            attempt: 0,
            stages: vec![Stage { config, ..stage.clone() }],
            inputs: Packed::single(serializer.to_bytes(&task.input).map_err(encode("the input of a task"))?),
        };
        self.job.counts().taken += 1;
        Ok(self.sender.publish(task, Instant::now()).await?)
    }

    /// No more tasks will be sent. The stream of results ends when all of them are acknowledged. Dropping the sender
    /// does the same.
    pub fn close(&mut self) {
        self.sender.close();
    }
}

impl<Op, Metadata> fmt::Debug for TaskSender<Op, Metadata> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSender").field("operation", &self.stage.operation).finish_non_exhaustive()
    }
}

/// The results of typed tasks, as they finish: a stream of [`TaskResult`] with the [`Acker`] that settles it. A result that is
/// handed back by [`Acker::nack`] comes again.
///
/// ```
/// use arith::FibAt;
/// use futures::StreamExt;
/// use palfrey_host::{channel::LeaseGuard, queue::QueueError, runtime::TaskResults};
///
/// /// The first output that is large enough. Dropping the guard stops the other tasks.
/// async fn first_above(least: u64, mut results: LeaseGuard<TaskResults<FibAt, ()>>) -> Result<Option<u64>, QueueError> {
///     while let Some((result, acker)) = results.next().await {
///         acker.ack().await?;
///         match result {
///             Ok(done) if done.output >= least => return Ok(Some(done.output)),
///             _ => {}
///         }
///     }
///     Ok(None)
/// }
/// ```
pub struct TaskResults<Op: RemoteExecute, Metadata> {
    results: CoordinatedStream<Instant>,
    outlet: Outlet<Instant>,
    serializer: Serializer,
    /// Tasks that wait for their next attempt. One that could not be sent again comes out as a failure.
    retries: FuturesUnordered<BoxFuture<'static, Option<Answer<Op, Metadata>>>>,
    workers: Channel<AnyTask>,
    all_settled: Box<dyn Fn() -> bool + Send>,
    listed: Listed,
    /// Says once what the stream is waiting for, unless a result comes before.
    warning: Option<BoxFuture<'static, ()>>,
    ended: bool,
}

type Answer<Op, Metadata> = (TaskResult<Op, Metadata>, Box<dyn Acker>);

enum Step<Op: RemoteExecute, Metadata> {
    Answer(Answer<Op, Metadata>),
    Retry(BoxFuture<'static, Option<Answer<Op, Metadata>>>),
}

impl<Op: RemoteExecute, Metadata: Serializable + 'static> TaskResults<Op, Metadata> {
    fn answer(&mut self, settled: Settled<Instant>) -> Step<Op, Metadata> {
        settled.trace_times(settled.sent.tag);
        let Settled { sent, result, acker } = settled;
        let serializer = self.serializer;
        // That of the result is the same, if the result can be read.
        let metadata = serializer.from_bytes::<Metadata>(&sent.task.metadata);
        let failure = match result.outcome {
            TaskOutcome::Executed { outputs, mut failed } => match (outputs.get(0), failed.pop()) {
                (Some(output), None) => {
                    self.listed.entry().counts().done += 1;
                    let decode = |source| JobError::Decode { element: 0, source };
                    let answer = match (metadata, serializer.from_bytes(&output)) {
                        (Ok(metadata), Ok(output)) => Ok(TaskOutput { metadata, output }),
                        (metadata, Err(source)) => Err(TaskError { metadata: metadata.ok(), error: decode(source) }),
                        (Err(source), Ok(_)) => Err(TaskError { metadata: None, error: decode(source) }),
                    };
                    return Step::Answer((answer, acker));
                }
                (_, Some(failure)) => failure.error,
                (None, None) => {
                    let reason = "there is neither an output nor a failure".to_owned();
                    let error = JobError::Protocol { worker: result.report.worker, reason };
                    return Step::Answer((Err(TaskError { metadata: metadata.ok(), error }), acker));
                }
            },
            TaskOutcome::Failed(error) => error,
        };
        let error = match (ExecutionError { element: None, ..failure }).after_attempt(sent.task.attempt) {
            AfterFailure::Retry(delay) => {
                self.listed.entry().counts().retried += 1;
                let outlet = self.outlet.clone();
                let task = AnyTask { attempt: sent.task.attempt + 1, ..sent.task.clone() };
                return Step::Retry(Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    match outlet.publish(task, Instant::now()).await {
                        Ok(()) => {
                            // The next attempt is recorded, so that this result can be forgotten either way.
                            _ = acker.ack().await;
                            None
                        }
                        Err(error) => Some((Err(TaskError { metadata: metadata.ok(), error: error.into() }), acker)),
                    }
                }));
            }
            AfterFailure::Ignore(error) => {
                let mut counts = self.listed.entry().counts();
                counts.done += 1;
                counts.failed += 1;
                error
            }
            AfterFailure::Terminate(error) => {
                self.ended = true;
                error
            }
        };
        Step::Answer((Err(TaskError { metadata: metadata.ok(), error: error.into() }), acker))
    }

    fn warn_when_stalled(&mut self, context: &mut Context<'_>) {
        let (workers, outlet) = (&self.workers, &self.outlet);
        let warning = self.warning.get_or_insert_with(|| {
            let (workers, outlet) = (workers.clone(), outlet.clone());
            Box::pin(async move {
                let in_flight = loop {
                    tokio::time::sleep(STALL).await;
                    match outlet.in_flight() {
                        0 => {}
                        in_flight => break in_flight,
                    }
                };
                tracing::warn!("no result for {STALL:?}: {}", diagnosis(&workers, in_flight).await);
                // It stays silent after that: the stream has said it.
                std::future::pending().await
            })
        });
        _ = warning.poll_unpin(context);
    }
}

impl<Op: RemoteExecute, Metadata: Serializable + 'static> Stream for TaskResults<Op, Metadata> {
    type Item = Answer<Op, Metadata>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.retries.poll_next_unpin(context) {
                Poll::Ready(Some(Some(answer))) => return Poll::Ready(Some(answer)),
                Poll::Ready(Some(None)) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            match self.results.poll_next_unpin(context) {
                Poll::Ready(Some(settled)) => {
                    self.warning = None;
                    match self.answer(settled) {
                        Step::Answer(answer) => return Poll::Ready(Some(answer)),
                        Step::Retry(retry) => self.retries.push(retry),
                    }
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    if !(self.all_settled)() {
                        // Results are missing.
                        let error = TaskError { metadata: None, error: self.listed.why_it_ended() };
                        return Poll::Ready(Some((Err(error), Box::new(NothingToSettle))));
                    }
                }
                Poll::Pending => {
                    self.warn_when_stalled(context);
                    return Poll::Pending;
                }
            }
        }
    }
}

// Nothing in it is pinned in place: the futures are boxed.
impl<Op: RemoteExecute, Metadata> Unpin for TaskResults<Op, Metadata> {}

impl<Op: RemoteExecute, Metadata> fmt::Debug for TaskResults<Op, Metadata> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskResults").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What [`Runtime::lease_coordinated_task_channel`] returns: the identifier that tasks carry as their routing key, the
/// sender of tasks, and the stream of their results with the lease.
///
/// ```
/// use arith::FibAt;
/// use palfrey_host::{JobError, Runtime, runtime::CoordinatedTaskChannel};
///
/// /// A channel on which each number comes back with its name.
/// async fn named_numbers(runtime: &Runtime) -> Result<CoordinatedTaskChannel<FibAt, String>, JobError> {
///     runtime.lease_coordinated_task_channel().await
/// }
/// ```
pub type CoordinatedTaskChannel<Op, Metadata> =
    (RoutingKey, TaskSender<Op, Metadata>, LeaseGuard<TaskResults<Op, Metadata>>);

impl Runtime {
    /// Leases a channel for the results of an operation, with a sender of tasks that are answered there: what a directive of
    /// one's own is made of.
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
    /// use arith::FibAt;
    /// use futures::StreamExt;
    /// use palfrey_host::runtime::Task;
    ///
    /// let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, String>().await?;
    /// for input in [10, 20, 30] {
    ///     let metadata = format!("fib({input})");
    ///     sender.publish(&Task { routing_key: routing_key.clone(), metadata, op: &FibAt, input }).await?;
    /// }
    /// drop(sender);
    /// while let Some((result, acker)) = results.next().await {
    ///     match result {
    ///         Ok(done) => println!("{} = {}", done.metadata, done.output),
    ///         Err(failed) => eprintln!("{:?} failed: {}", failed.metadata, failed.error),
    ///     }
    ///     acker.ack().await?;
    /// }
    /// results.release().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The stream yields one result for each task. It ends when the sender was closed or dropped *and* every result was
    /// acknowledged. A transient failure is retried as its strategy says, and comes out when the retries are used up.
    /// A failure that terminates the job is the last item: the workers drop its other tasks. Dropping the guard releases the
    /// channel, and stops what is still executed for it. The operation is pinned to what is deployed now.
    ///
    /// # Errors
    /// [`JobError::Resolve`] if the operation is not deployed, [`JobError::Mismatch`] if it differs from the deployed one, or
    /// [`JobError::Queue`] if the broker refuses.
    pub async fn lease_coordinated_task_channel<Op, Metadata>(
        &self,
    ) -> Result<CoordinatedTaskChannel<Op, Metadata>, JobError>
    where
        Op: RemoteExecute + 'static,
        Metadata: Serializable + 'static,
    {
        let serializer = self.serializer();
        let stage = resolve_type::<Op>(self.registry(), serializer)?;
        let operations = vec![stage.operation.clone()];
        let JobLease { routing_key, listed, sender, results, .. } = self.lease_job::<Instant>(operations).await?;
        let job = listed.entry().clone();
        let outlet = sender.outlet();
        let (retries, workers) = (FuturesUnordered::new(), self.task_channel().clone());
        let results = results.map(|results| TaskResults {
            all_settled: Box::new(results.all_settled()),
            results,
            outlet,
            serializer,
            retries,
            workers,
            listed,
            warning: None,
            ended: false,
        });
        Ok((routing_key, TaskSender { sender, job, stage, serializer, task: PhantomData }, results))
    }
}
