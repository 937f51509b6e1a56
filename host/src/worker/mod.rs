//! Workers: generic hosts that execute tasks.
//!
//! [`WorkerRuntime::main_loop`] is the whole of it: take tasks, execute them, send results, acknowledge. `processing` is what
//! happens to one delivery, `suspects` deals with those that may kill the worker and `witness` remembers those that did not,
//! `jobs` holds what is running and what was terminated, without any I/O, and `executor` runs the stages of one task on a slot.
//!
//! # A loop of one's own
//!
//! The parts are public. This loop executes one task after the other:
//!
//! ```no_run
//! # async fn example(config: palfrey_host::Config) -> anyhow::Result<()> {
//! use futures::{FutureExt, StreamExt};
//! use palfrey_host::{
//!     WorkerRuntime,
//!     queue::QueueError,
//!     task::TaskOutcome,
//!     worker::{ExecutionErr, ExecutionOk},
//! };
//! use tokio_util::sync::CancellationToken;
//!
//! let worker = WorkerRuntime::from_config(&config).await?;
//! let mut tasks = worker.get_task_receiver().await?;
//! while let Some((task, acker)) = tasks.next().await {
//!     let (outcome, execution) = worker.execute(&task, &CancellationToken::new()).await;
//!     let sent = match outcome {
//!         TaskOutcome::Executed { outputs, failed } => {
//!             worker.dispatch_ok(ExecutionOk { task: &task, outputs, failed, execution }).await
//!         }
//!         TaskOutcome::Failed(err) => worker.dispatch_fatal(ExecutionErr { task: &task, err, execution }).await,
//!     };
//!     let settled = match sent {
//!         // The broker has the result, or nobody waits for it any more.
//!         Ok(()) | Err(QueueError::NoSuchQueue(_)) => acker.ack().await,
//!         Err(_) => acker.nack().await,
//!     };
//!     if let Err(error) = settled {
//!         eprintln!("{error}"); // The task comes again, and its second result is dropped.
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `main_loop` does more: it keeps all slots busy, hears what workers are told and stops the jobs that were terminated, fails a
//! job whose outputs are larger than a message may be, and finishes what is under way when it is told to stop.

mod activity;
mod control;
mod executor;
mod health;
mod holding;
mod inquiries;
mod jobs;
mod load;
mod main_loop;
mod processing;
mod suspects;
mod witness;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use palfrey_sdk::Serializer;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    activity::Activity,
    processing::{PLUGIN_ROUNDS, Processing, REFUSED_ROUNDS},
};
pub use self::{
    activity::Phase,
    health::{HANGS, Health},
};
use crate::{
    channel::{Channel, ChannelFactory, ChannelType, Receiver, Sender},
    config::Config,
    connect::{ConnectError, connect, open_plugins},
    engine::{Engine, Limits, Plugin},
    plugin::{ComponentError, PluginError, Plugins, Withheld},
    queue::QueueError,
    task::{
        AnyTask, AnyTaskResult, Cause, ElementFailure, ExecutionError, OperationId, Packed, RoutingKey, Stage, TaskId,
        TaskOutcome, WorkerReport,
        wire::{Message, WireError, decode_header, encode_header},
    },
};

/// Name of the channel on which workers and orchestrators tell each other about jobs.
const IPC_ROUTING_KEY: &str = "palfrey.ipc";

/// How long a terminated job is remembered. A task of it that comes later is executed, finds nobody who wants its result,
/// and terminates its job anew.
const TERMINATED_FOR: Duration = Duration::from_secs(60);

/// What every worker is told, and every orchestrator that has jobs.
///
/// Programs and workers send it by themselves. To end a job from anywhere there is [`Runtime::cancel`](crate::Runtime::cancel).
/// A [loop of one's own](self#a-loop-of-ones-own) may want to hear which jobs were terminated, as a
/// [main loop](WorkerRuntime::main_loop) does:
///
/// ```no_run
/// # async fn example(worker: palfrey_host::WorkerRuntime, job: palfrey_host::task::RoutingKey) -> anyhow::Result<()> {
/// use futures::StreamExt;
/// use palfrey_host::worker::WorkerIpc;
/// use tokio_util::sync::CancellationToken;
///
/// // What `execute` was given for the tasks of this job.
/// let cancel = CancellationToken::new();
/// let mut ipc = worker.get_ipc_receiver().await?;
/// while let Some(message) = ipc.next().await {
///     if matches!(message, WorkerIpc::Terminate { routing_key } if routing_key == job) {
///         cancel.cancel();
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerIpc {
    /// Nobody wants the results of this job any more. Workers stop its running tasks within milliseconds, drop its queued
    /// ones, and send no results for either. Jobs that fail, are dropped or cancelled send it when they have ended.
    ///
    /// It does not end a job that goes on: that hears nothing, and waits for the results. A directive sends such tasks again,
    /// and has their results only when the workers have forgotten, after one or two minutes, that they were to drop them; a
    /// [task channel](crate::Runtime::lease_coordinated_task_channel) has none.
    Terminate {
        /// The job.
        routing_key: RoutingKey,
    },
    /// Somebody asks who is there. Whoever hears it [answers](crate::presence::Answer).
    Report {
        /// The leased channel for the answers.
        reply_to: RoutingKey,
    },
    /// The orchestrator of this job is to end it.
    Cancel {
        /// The job.
        routing_key: RoutingKey,
        /// Who wants that.
        by: String,
        /// The leased channel on which the orchestrator says that it will.
        reply_to: RoutingKey,
    },
    /// This worker is to finish what it has, and end.
    Drain {
        /// Its identity.
        worker: String,
        /// Who wants that.
        by: String,
        /// The leased channel on which the worker says that it will.
        reply_to: RoutingKey,
    },
    /// Tasks that were sent to more than one worker have been answered. Whoever else executes them stops.
    Answered {
        /// The job.
        routing_key: RoutingKey,
        /// The tasks.
        tasks: Vec<TaskId>,
    },
    /// A task came back so often that it is about to be taken for what kills workers. Whoever has had it and lives
    /// [vouches](Self::Vouch) for it.
    Accuse(Suspect),
    /// A worker has had an [accused](Self::Accuse) task and lives: it lost its connection, and nothing else.
    Vouch(Suspect),
}

/// A task that came back again and again, as workers speak of it among themselves.
///
/// ```
/// use palfrey_host::{task::AnyTask, worker::Suspect};
///
/// fn named(task: &AnyTask) -> Suspect {
///     Suspect { routing_key: task.routing_key.clone(), task: task.id, attempt: task.attempt }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suspect {
    /// Its job.
    pub routing_key: RoutingKey,
    /// Its number in the job.
    pub task: TaskId,
    /// How often it failed before in a transient way. What survived that may be deadly now.
    pub attempt: u32,
}

impl Message for WorkerIpc {
    fn encode(&self) -> bytes::Bytes {
        encode_header(self)
    }

    fn decode(bytes: bytes::Bytes) -> Result<Self, WireError> {
        decode_header(&bytes)
    }
}

/// A task that was executed, for [`WorkerRuntime::dispatch_ok`].
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::{task::{AnyTask, Packed}, worker::ExecutionOk};
///
/// /// Each input is its own output.
/// fn unchanged(task: &AnyTask) -> ExecutionOk<'_> {
///     let outputs: Packed = task.inputs.iter().collect();
///     ExecutionOk { task, outputs, failed: Vec::new(), execution: Duration::ZERO }
/// }
/// ```
#[derive(Debug)]
pub struct ExecutionOk<'a> {
    /// The task.
    pub task: &'a AnyTask,
    /// Outputs of the elements that are not in `failed`; one output for a fold.
    pub outputs: Packed,
    /// Elements without an output, in ascending order of their index.
    pub failed: Vec<ElementFailure>,
    /// Time the guest code ran.
    pub execution: Duration,
}

/// A task that has no outputs, for [`WorkerRuntime::dispatch_fatal`].
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::{task::{AnyTask, Cause, ExecutionError}, worker::ExecutionErr};
///
/// /// It is not for this loop.
/// fn refused(task: &AnyTask) -> ExecutionErr<'_> {
///     let operation = task.stages[0].operation.clone();
///     let err = ExecutionError::new(operation, Cause::PluginUnavailable, "this loop executes nothing of the kind");
///     ExecutionErr { task, err, execution: Duration::ZERO }
/// }
/// ```
#[derive(Debug)]
pub struct ExecutionErr<'a> {
    /// The task.
    pub task: &'a AnyTask,
    /// Why.
    pub err: ExecutionError,
    /// Time the guest code ran.
    pub execution: Duration,
}

/// A worker: takes tasks from a channel and executes them on the slots of an engine. Clones share everything.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use palfrey_host::{Config, WorkerRuntime, config::Transport};
///
/// let config = Config {
///     runtime: Transport::Amqp,
///     amqp_uri: "amqp://user:password@broker:5672/%2f".parse()?,
///     limits: vec!["time=1m".parse()?],
///     ..Config::default()
/// };
/// let worker = WorkerRuntime::from_config(&config).await?;
/// worker.main_loop(async { _ = tokio::signal::ctrl_c().await }).await?;
/// # Ok(())
/// # }
/// ```
///
/// A [loop of one's own](self#a-loop-of-ones-own) is made of its parts. A worker on [`Transport::InMemory`] has a broker that
/// nobody else is connected to: [`Runtime::worker_in_memory`] gives one that shares the runtime's.
///
/// [`Transport::InMemory`]: crate::config::Transport::InMemory
/// [`Runtime::worker_in_memory`]: crate::Runtime::worker_in_memory
#[derive(Debug, Clone)]
pub struct WorkerRuntime {
    channels: ChannelFactory,
    tasks: Channel<AnyTask>,
    plugins: Plugins,
    engine: Engine,
    /// Free slots, for main loops: those that share an engine share them.
    slots: Arc<Semaphore>,
    /// Tasks that are held at a time, if that was set.
    prefetch: Option<u16>,
    drain_timeout: Duration,
    identity: Arc<str>,
    activity: Arc<Activity>,
    /// Identity of the process in results: workers on one engine are one to whoever counts slots.
    process: Arc<str>,
    /// To all workers, once there was something to tell them.
    ipc: Arc<OnceCell<Sender<WorkerIpc>>>,
}

/// What a task took here: see [`WorkerReport`].
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    waited: Duration,
    execution: Duration,
}

impl WorkerRuntime {
    /// Connects a worker as configured, and waits until it knows what is deployed.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses, or the engine cannot be set up, such as when the cache folder is not
    /// writable.
    pub async fn from_config(config: &Config) -> Result<Self, ConnectError> {
        let connection = connect(config).await?;
        let channels = ChannelFactory::new(connection, config.prefetch());
        let engine = Engine::new(&config.engine())?;
        let plugins = open_plugins(&channels, &engine, config).await?;
        if config.trust.is_empty() {
            tracing::warn!(
                "executing every plugin that is deployed, whoever deployed it; `--trust KEYFILE` limits that"
            );
        }
        let tasks = channels.get(&config.task_bus_routing_key, ChannelType::ExactlyOnce).await?;
        Ok(Self::new(channels, tasks, plugins, engine, config))
    }

    pub(crate) fn new(
        channels: ChannelFactory,
        tasks: Channel<AnyTask>,
        plugins: Plugins,
        engine: Engine,
        config: &Config,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(engine.slots()));
        let identity = new_identity();
        let (process, activity) = (identity.clone(), Arc::new(Activity::begin()));
        let (ipc, prefetch, drain_timeout) = (Arc::default(), config.prefetch, config.drain_timeout);
        Self { channels, tasks, plugins, engine, slots, prefetch, drain_timeout, identity, activity, process, ipc }
    }

    /// Another worker on the same engine.
    pub(crate) fn renamed(&self) -> Self {
        Self { identity: new_identity(), activity: Arc::new(Activity::begin()), ..self.clone() }
    }

    /// Identity of this worker in logs.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The plugins that this worker has.
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// The tasks, as they come. At most [`Config::prefetch`] of them are unacknowledged at a time.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn get_task_receiver(&self) -> Result<Receiver<AnyTask>, QueueError> {
        self.tasks.receiver().await
    }

    /// A sender of results to a job. Whether the job still exists is found out when something is sent.
    ///
    /// # Errors
    /// If the connection is closed.
    pub async fn get_result_sender(&self, routing_key: &RoutingKey) -> Result<Sender<AnyTaskResult>, QueueError> {
        self.channels.leased(routing_key).sender().await
    }

    /// A sender to all workers: see [`WorkerIpc`].
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn get_ipc_sender(&self) -> Result<Sender<WorkerIpc>, QueueError> {
        ipc_channel(&self.channels).await?.sender().await
    }

    /// What all workers are told, as it comes. Every receiver hears all of it, from the time it was made.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn get_ipc_receiver(&self) -> Result<futures::stream::BoxStream<'static, WorkerIpc>, QueueError> {
        let messages = ipc_channel(&self.channels).await?.receiver().await?;
        let acknowledged = messages.then(|(message, acker)| async move {
            // There is nobody to deliver it to again.
            _ = acker.ack().await;
            message
        });
        Ok(acknowledged.boxed())
    }

    /// Executes a task on a free slot. Returns what became of it, and how long guest code ran. The guest is stopped when
    /// `cancel` says so, and also when the future is dropped.
    ///
    /// Nothing is sent and nothing acknowledged: see [the loop](self#a-loop-of-ones-own). A task whose plugin cannot be had ends
    /// as [`TaskOutcome::Failed`], like every other failure.
    pub async fn execute(&self, task: &AnyTask, cancel: &CancellationToken) -> (TaskOutcome, Duration) {
        let stages = tokio::select! {
            biased;
            () = cancel.cancelled() => return (cancelled(task), Duration::ZERO),
            stages = self.stages(task) => stages,
        };
        match stages {
            Ok(stages) => self.execute_stages(task, stages, cancel, None).await,
            Err(Unavailable { error, .. }) => (TaskOutcome::Failed(error), Duration::ZERO),
        }
    }

    async fn stages(&self, task: &AnyTask) -> Result<Stages, Unavailable> {
        let mut stages = Vec::with_capacity(task.stages.len());
        for stage in &task.stages {
            match self.plugins.get_for(&stage.operation, &stage.digest).await {
                Ok(plugin) => stages.push((stage.clone(), plugin, self.engine.limits_for(&stage.operation))),
                Err(error) => {
                    let rounds = match error {
                        PluginError::Component(
                            ComponentError::Missing { .. } | ComponentError::Store(_) | ComponentError::Closed,
                        ) => PLUGIN_ROUNDS,
                        PluginError::Withheld(Withheld::NotAllowed { .. }) => PLUGIN_ROUNDS,
                        PluginError::Untrusted(_) => REFUSED_ROUNDS,
                        _ => 0,
                    };
                    let error = ExecutionError {
                        causes: error_chain(&error),
                        ..ExecutionError::new(stage.operation.clone(), Cause::PluginUnavailable, error.to_string())
                    };
                    return Err(Unavailable { error, rounds });
                }
            }
        }
        Ok(stages)
    }

    async fn execute_stages(
        &self,
        task: &AnyTask,
        stages: Stages,
        cancel: &CancellationToken,
        permit: Option<OwnedSemaphorePermit>,
    ) -> (TaskOutcome, Duration) {
        let cancel = cancel.child_token();
        let _stop = cancel.clone().drop_guard();
        let (task, activity) = (task.clone(), self.activity.clone());
        self.engine
            .run(move || {
                let _running = activity.start(&task.routing_key);
                let started = Instant::now();
                let outcome =
                    if cancel.is_cancelled() { cancelled(&task) } else { executor::execute(&task, &stages, &cancel) };
                // The next task may come before anybody has heard of this one.
                drop(permit);
                (outcome, started.elapsed())
            })
            .await
    }

    /// Sends the outputs of a task to its job, and waits until the broker has confirmed that it keeps them. The task may
    /// be acknowledged after that, not before.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`] if the job is gone, and as [`Sender::publish`].
    pub async fn dispatch_ok(&self, ok: ExecutionOk<'_>) -> Result<(), QueueError> {
        let ExecutionOk { task, outputs, failed, execution } = ok;
        let times = Times { execution, ..Times::default() };
        self.dispatch(task, TaskOutcome::Executed { outputs, failed }, times).await
    }

    /// Sends the failure of a task to its job and, if it ends the job, tells all workers to stop it.
    ///
    /// # Errors
    /// As [`dispatch_ok`](Self::dispatch_ok).
    pub async fn dispatch_fatal(&self, failed: ExecutionErr<'_>) -> Result<(), QueueError> {
        let ExecutionErr { task, err, execution } = failed;
        let terminates = err.strategy() == Some(palfrey_sdk::FatalStrategy::Terminate);
        self.dispatch(task, TaskOutcome::Failed(err), Times { execution, ..Times::default() }).await?;
        if terminates {
            self.tell_all_to_terminate(&task.routing_key).await?;
        }
        Ok(())
    }

    async fn tell_all_to_terminate(&self, routing_key: &RoutingKey) -> Result<(), QueueError> {
        self.tell_all(&WorkerIpc::Terminate { routing_key: routing_key.clone() }).await
    }

    async fn tell_all(&self, message: &WorkerIpc) -> Result<(), QueueError> {
        self.ipc.get_or_try_init(|| self.get_ipc_sender()).await?.publish(message).await
    }

    async fn dispatch(&self, task: &AnyTask, outcome: TaskOutcome, times: Times) -> Result<(), QueueError> {
        let result = AnyTaskResult {
            routing_key: task.routing_key.clone(),
            id: task.id,
            metadata: task.metadata.clone(),
            serializer: task.serializer,
            report: self.report(times),
            outcome,
        };
        self.get_result_sender(&task.routing_key).await?.publish(&result).await
    }

    /// Sends the outcome of a task of which no more is known than its envelope.
    async fn send(&self, routing_key: &RoutingKey, id: TaskId, outcome: TaskOutcome) -> Result<(), QueueError> {
        let result = AnyTaskResult {
            routing_key: routing_key.clone(),
            id,
            metadata: bytes::Bytes::new(),
            serializer: Serializer::default(),
            report: self.report(Times::default()),
            outcome,
        };
        self.get_result_sender(routing_key).await?.publish(&result).await
    }

    fn report(&self, Times { waited, execution }: Times) -> WorkerReport {
        let slots = u32::try_from(self.engine.slots()).unwrap_or(u32::MAX);
        WorkerReport { worker: self.process.to_string(), slots, waited, execution }
    }

    /// Ends the connection. Tasks that are still held go to other workers.
    ///
    /// # Errors
    /// If the broker did not confirm the end. It is ended all the same.
    pub async fn close(&self) -> Result<(), QueueError> {
        self.channels.connection().close().await
    }
}

/// The stages of a task with what executes them.
type Stages = Vec<(Stage, Plugin, Limits)>;

/// A plugin that a worker does not have.
struct Unavailable {
    error: ExecutionError,
    /// How often the task is handed on, because the plugin may come yet, or other workers may have, trust or allow it.
    rounds: u32,
}

fn new_identity() -> Arc<str> {
    uuid::Uuid::new_v4().simple().to_string().into()
}

/// The channel on which everybody hears everybody.
pub(crate) async fn ipc_channel(channels: &ChannelFactory) -> Result<Channel<WorkerIpc>, QueueError> {
    channels.get(IPC_ROUTING_KEY, ChannelType::Broadcast).await
}

fn terminate(processing: &Processing, routing_key: &RoutingKey) {
    let stopped = processing.jobs.terminate(routing_key, Instant::now());
    tracing::debug!(job = %routing_key, stopped, "a job was terminated");
}

fn cancelled(task: &AnyTask) -> TaskOutcome {
    TaskOutcome::Failed(ExecutionError::new(last_operation(task), Cause::Cancelled, "the job was terminated"))
}

fn panicked(task: &AnyTask) -> TaskOutcome {
    let message = "a mistake in the worker, see its log; the plugin is not to blame";
    TaskOutcome::Failed(ExecutionError::new(last_operation(task), Cause::Worker, message))
}

/// The operation that speaks for a task as a whole. A task that came over a channel has stages.
fn last_operation(task: &AnyTask) -> OperationId {
    task.stages.last().map_or_else(|| OperationId::new("none", "none"), |stage| stage.operation.clone())
}

fn error_chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |error| error.source()).map(ToString::to_string).collect()
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        error_chain(self.0).iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}
