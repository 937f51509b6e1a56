//! The orchestrator's side: connects, deploys, leases channels and runs directives.
//!
//! A [`Runtime`] belongs to a program. Over RabbitMQ its tasks are executed by workers elsewhere; in memory it holds the
//! workers too. Directives are run *with* a runtime and know nothing of how it is connected.

mod ask;
mod board;
mod inbox;
mod paces;
mod task_channel;
mod waiting;
mod whereabouts;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use palfrey_sdk::Serializer;
use tokio::{
    sync::{Mutex, OnceCell},
    task::JoinHandle,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use ask::Asker;
use board::{JobBoard, Listed};
use inbox::{Inbox, OpenJob};
use paces::Paces;
pub(crate) use paces::Remembered;
pub use task_channel::{CoordinatedTaskChannel, Task, TaskError, TaskOutput, TaskResult, TaskResults, TaskSender};
pub(crate) use waiting::{STALL, diagnosis};
pub(crate) use whereabouts::Whereabouts;

use crate::{
    channel::{
        Channel, ChannelFactory, ChannelType, CoordinatedSender, CoordinatedStream, LeaseGuard, Sender, coordinated,
    },
    config::{Config, Transport},
    connect::{ConnectError, connect, open_plugins, open_registry},
    dead_letters::DeadLetters,
    directive::{Directive, Encoded, Functor, IndexedStream, JobError, OperationHandle},
    engine::{Engine, EngineError},
    plugin::{DeployOptions, Deployed, Follow, Registry, RegistryError},
    presence::{CommandError, JobStatus, Process, Survey, WorkerStatus},
    queue::QueueError,
    task::{AnyTask, OperationId, RoutingKey, Stage},
    worker::{WorkerIpc, WorkerRuntime, ipc_channel},
};

/// The orchestrator's runtime. Dropping it stops the workers that it holds, and ends its jobs.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use palfrey_host::Runtime;
///
/// let runtime = Runtime::in_memory().await?;
/// runtime.deploy(std::fs::read("target/wasm32-wasip2/release/arith.wasm")?).await?;
/// let output = runtime.call("arith/fib-at", &[][..], vec![10]).await?;
/// assert_eq!(output[..], [55]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Runtime {
    config: Config,
    channels: ChannelFactory,
    tasks: Channel<AnyTask>,
    ipc: Sender<WorkerIpc>,
    registry: Registry,
    /// Checks what is deployed. In memory it is the engine of the workers, elsewhere it is made when it is needed.
    engine: OnceCell<Engine>,
    emulator: Option<Emulator>,
    /// Cancelled when the runtime is gone: its jobs end then.
    ended: CancellationToken,
    /// Leases that are being released.
    releases: TaskTracker,
    jobs: Arc<JobBoard>,
    /// Where results arrive, from the first job on.
    inbox: Mutex<Option<Arc<Inbox>>>,
    /// Answers for the jobs, from the first one on.
    answers: OnceCell<AbortOnDropHandle<()>>,
    paces: Paces,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Workers within this process.
#[derive(Debug)]
struct Emulator {
    /// What further workers are made of.
    worker: WorkerRuntime,
    shutdown: CancellationToken,
    workers: Vec<JoinHandle<()>>,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shutdown.cancel();
        for worker in &self.workers {
            worker.abort();
        }
    }
}

/// A channel of results with its sender of tasks, for one job.
pub(crate) struct JobLease<T> {
    pub(crate) routing_key: RoutingKey,
    pub(crate) listed: Listed,
    pub(crate) sender: CoordinatedSender<T>,
    pub(crate) results: LeaseGuard<CoordinatedStream<T>>,
    /// To all workers.
    pub(crate) ipc: Sender<WorkerIpc>,
}

impl Runtime {
    /// Connects as configured, and waits until it is known what is deployed. In memory, the workers are started.
    ///
    /// ```no_run
    /// # async fn example() -> anyhow::Result<()> {
    /// use palfrey_host::{Config, Runtime, config::Transport};
    ///
    /// let config = Config {
    ///     runtime: Transport::Amqp,
    ///     amqp_uri: "amqp://user:password@broker:5672/%2f".parse()?,
    ///     ..Config::default()
    /// };
    /// let runtime = Runtime::from_config(&config).await?;
    /// for plugin in runtime.registry().list() {
    ///     println!("{}", plugin.name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses, or the engine of the workers cannot be set up.
    pub async fn from_config(config: &Config) -> Result<Self, ConnectError> {
        let connection = connect(config).await?;
        let channels = ChannelFactory::new(connection, PREFETCH);
        let tasks = channels.get(&config.task_bus_routing_key, ChannelType::ExactlyOnce).await?;
        let ipc = ipc_channel(&channels).await?.sender().await?;
        let (registry, engine, emulator) = match config.runtime {
            Transport::InMemory => {
                let engine = Engine::new(&config.engine())?;
                let (registry, emulator) = Emulator::start(config, &channels, &tasks, &engine).await?;
                (registry, OnceCell::new_with(Some(engine)), Some(emulator))
            }
            Transport::Amqp => {
                let registry = open_registry(&channels, config, Follow::Activations).await?;
                (registry, OnceCell::new(), None)
            }
        };
        Ok(Self {
            config: config.clone(),
            channels,
            tasks,
            ipc,
            registry,
            engine,
            emulator,
            ended: CancellationToken::new(),
            releases: TaskTracker::new(),
            jobs: Arc::new(JobBoard::new(&config.task_bus_routing_key)),
            inbox: Mutex::default(),
            answers: OnceCell::new(),
            paces: Paces::default(),
        })
    }

    /// A runtime with workers in memory, and all defaults.
    ///
    /// # Errors
    /// If the engine of the workers cannot be set up, such as when the machine has too little address space.
    pub async fn in_memory() -> Result<Self, ConnectError> {
        Self::from_config(&Config::default()).await
    }

    /// What is deployed, and the history of it.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Another worker within this process, for a program that has a loop of its own. It executes on the same slots as the
    /// workers that the runtime holds; with [`Config::workers`] set to zero it is the only one. `None` unless the runtime
    /// is in memory: elsewhere there is [`WorkerRuntime::from_config`].
    ///
    /// ```no_run
    /// # async fn example() -> anyhow::Result<()> {
    /// use palfrey_host::{Config, Runtime};
    ///
    /// let runtime = Runtime::from_config(&Config { workers: 0, ..Config::default() }).await?;
    /// let worker = runtime.worker_in_memory().expect("it is in memory");
    /// tokio::spawn(async move { worker.main_loop(std::future::pending()).await });
    /// # Ok(())
    /// # }
    /// ```
    pub fn worker_in_memory(&self) -> Option<WorkerRuntime> {
        self.emulator.as_ref().map(|emulator| emulator.worker.renamed())
    }

    /// The channels, for programs that have some of their own: see [`ChannelFactory`].
    pub fn channels(&self) -> &ChannelFactory {
        &self.channels
    }

    /// Encoding of configs, inputs and outputs.
    pub fn serializer(&self) -> Serializer {
        self.config.serializer
    }

    /// The channel that carries the tasks. Its [status](Channel::status) tells how many wait, and how many workers there are.
    pub fn task_channel(&self) -> &Channel<AnyTask> {
        &self.tasks
    }

    /// Checks a component and deploys it to all workers. New jobs execute it from now on; jobs under way keep what they
    /// began with. What else can be done with a deployment is in the [registry](Self::registry).
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
    /// let deployed = runtime.deploy(std::fs::read("target/wasm32-wasip2/release/arith.wasm")?).await?;
    /// println!("arith {} is {}", deployed.deployment.version(), deployed.deployment.digest);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`DeployError::Engine`] if the engine that checks it cannot be set up, and as [`Registry::deploy`].
    pub async fn deploy(&self, component: impl Into<Bytes>) -> Result<Deployed, DeployError> {
        self.deploy_with(component, &DeployOptions::default()).await
    }

    /// As [`deploy`](Self::deploy), with options. A plugin that needs something has to be granted it:
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
    /// use palfrey_host::plugin::DeployOptions;
    ///
    /// let options = DeployOptions { grants: ["clocks".parse()?].into(), ..DeployOptions::default() };
    /// runtime.deploy_with(std::fs::read("clock.wasm")?, &options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    pub async fn deploy_with(
        &self,
        component: impl Into<Bytes>,
        options: &DeployOptions,
    ) -> Result<Deployed, DeployError> {
        let engine = self.engine.get_or_try_init(async || Engine::new(&self.config.checking_engine())).await?;
        Ok(self.registry.deploy(component.into(), engine, options).await?)
    }

    /// Executes an operation once, by its ID and on encoded bytes. The encoding is the [runtime's](Self::serializer); nothing
    /// is checked but that the operation is deployed, since bytes have no types.
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
    /// use palfrey_sdk::Serializer;
    ///
    /// // `MultiplyBy(3)` on 14, for a program that does not have the type.
    /// let (config, input) = (Serializer::Postcard.to_bytes(&3_u64)?, Serializer::Postcard.to_bytes(&14_u64)?);
    /// let output = runtime.call("arith/multiply-by", config, input).await?;
    /// assert_eq!(Serializer::Postcard.from_bytes::<u64>(&output)?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`JobError::Id`] if the ID is malformed, [`JobError::Ignored`] if the operation failed in a way to be ignored, and as
    /// [`Directive::run`].
    pub async fn call(
        &self,
        operation: &str,
        config: impl Into<Bytes>,
        input: impl Into<Bytes>,
    ) -> Result<Bytes, JobError> {
        let operation = OperationHandle::new(operation, config)?;
        let input = IndexedStream::from([Encoded(input.into())]);
        let outputs = input.map(&operation).run(self).await?.into_values_sorted().await?;
        outputs.into_iter().next().map(|output| output.0).ok_or(JobError::Ignored)
    }

    /// Leases a channel for one job, with a sender of tasks to it. See [`coordinated`] for when the stream of results ends.
    /// The broker is asked nothing: the jobs of a runtime share a queue.
    pub(crate) async fn lease_job<T: Send + Sync + 'static>(
        &self,
        operations: Vec<OperationId>,
    ) -> Result<JobLease<T>, QueueError> {
        self.answers.get_or_try_init(|| self.answer_for_jobs()).await?;
        let (inbox, OpenJob { routing_key, results, loss }) = self.open_job().await?;
        let end = self.ended.child_token();
        let results = results.take_until(end.clone().cancelled_owned()).boxed();
        let (sender, results) = coordinated(self.tasks.lasting_sender().await?, results);
        let outlet = sender.outlet();
        let listed = self.jobs.list(routing_key.clone(), operations, move || outlet.in_flight(), end, loss);
        let all_settled = results.all_settled();
        let release = {
            let (routing_key, ipc) = (routing_key.clone(), self.ipc.clone());
            async move {
                inbox.close(&routing_key);
                if !all_settled() {
                    inbox::stop(&routing_key, &ipc).await;
                }
            }
        };
        let results = LeaseGuard::tracked(results, release, self.releases.clone());
        Ok(JobLease { routing_key, listed, sender, results, ipc: self.ipc.clone() })
    }

    /// Opens a job at the queue of results, which is made for the first one, and again when it is gone.
    async fn open_job(&self) -> Result<(Arc<Inbox>, OpenJob), QueueError> {
        let mut current = self.inbox.lock().await;
        if let Some(inbox) = &*current
            && let Some(opened) = inbox.open()
        {
            return Ok((inbox.clone(), opened));
        }
        let inbox = current.insert(Arc::new(Inbox::make(&self.channels, &self.ipc, &self.releases).await?));
        let opened = inbox.open().ok_or(QueueError::Closed)?;
        Ok((inbox.clone(), opened))
    }

    async fn answer_for_jobs(&self) -> Result<AbortOnDropHandle<()>, QueueError> {
        let messages = ipc_channel(&self.channels).await?.receiver().await?;
        let answers = board::answer_for(self.jobs.clone(), self.channels.clone(), self.ipc.clone(), messages);
        Ok(AbortOnDropHandle::new(tokio::spawn(answers)))
    }

    /// Asks all workers and orchestrators on the broker what they do. It takes a little longer than
    /// [half a second](crate::presence::QUIET), and [more](crate::presence::PATIENCE) if a worker does not answer.
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
    /// for worker in runtime.survey().await?.workers {
    ///     println!("{}: {} of {} slots are busy", worker.process, worker.executing(), worker.slots);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the broker refuses.
    pub async fn survey(&self) -> Result<Survey, QueueError> {
        self.asker().survey().await
    }

    /// The workers: see [`survey`](Self::survey).
    ///
    /// # Errors
    /// If the broker refuses.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>, QueueError> {
        Ok(self.survey().await?.workers)
    }

    /// The jobs under way, of all orchestrators: see [`survey`](Self::survey).
    ///
    /// # Errors
    /// If the broker refuses.
    pub async fn jobs(&self) -> Result<Vec<JobStatus>, QueueError> {
        Ok(self.survey().await?.jobs)
    }

    /// Ends a job, whoever runs it: it ends at its orchestrator with [`JobError::Cancelled`], and its guests are stopped.
    /// `job` is its ID, or a beginning that no other job has. Returns it as it was.
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
    /// let job = runtime.cancel("0198c0ff").await?;
    /// println!("cancelled {} of {}, {} elements were done", job.id, job.process, job.done);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no such job, or several, or its orchestrator does not answer.
    pub async fn cancel(&self, job: &str) -> Result<JobStatus, CommandError> {
        self.asker().cancel(job, Process::here().who()).await
    }

    /// Tells a worker to take no more tasks, to finish those that run, and to end: its
    /// [main loop](WorkerRuntime::main_loop) returns. `worker` is its identity, or a beginning that no other worker has.
    /// Returns it as it was.
    ///
    /// # Errors
    /// If there is no such worker, or several, or it does not answer.
    pub async fn drain(&self, worker: &str) -> Result<WorkerStatus, CommandError> {
        self.asker().drain(worker, Process::here().who()).await
    }

    /// Tasks of this runtime's bus that could not be processed.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.channels.connection().clone(), self.tasks.name())
    }

    /// What these stages took in earlier jobs.
    pub(crate) fn remembered(&self, stages: &[Stage]) -> Remembered {
        self.paces.of(stages)
    }

    /// Whom a job asks for its tasks.
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        Whereabouts { channels: self.channels.clone(), ipc: self.ipc.clone(), tasks: self.tasks.clone() }
    }

    fn asker(&self) -> Asker<'_> {
        Asker { channels: &self.channels, ipc: &self.ipc, tasks: &self.tasks }
    }

    /// Stops the workers that this runtime holds, when they have finished what they are executing, and ends the
    /// connection. Dropping the runtime does not wait for either.
    ///
    /// # Errors
    /// If the broker did not confirm the end. It is ended all the same.
    pub async fn close(mut self) -> Result<(), QueueError> {
        if let Some(mut emulator) = self.emulator.take() {
            emulator.shutdown.cancel();
            futures::future::join_all(emulator.workers.drain(..)).await;
        }
        // Whoever waits for a job's results learns that there will be none, and drops it.
        self.ended.cancel();
        drop(self.inbox.get_mut().take());
        self.releases.close();
        if tokio::time::timeout(RELEASE, self.releases.wait()).await.is_err() {
            tracing::warn!("some leases were not released within {RELEASE:?}; they will expire");
        }
        self.channels.connection().close().await
    }
}

/// Why a component was not deployed.
///
/// ```
/// use palfrey_host::{Runtime, plugin::{Refusal, RegistryError}, runtime::DeployError};
///
/// async fn deploy(runtime: &Runtime, component: Vec<u8>) -> Result<(), DeployError> {
///     match runtime.deploy(component).await {
///         Err(DeployError::Registry(RegistryError::Refused(Refusal::VersionTaken { version, .. }))) => {
///             println!("there is a version {version} already, which stays");
///             Ok(())
///         }
///         deployed => deployed.map(|_| ()),
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The engine that checks it cannot be set up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It is no component that workers can execute, or the registry or the broker refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// How long the leases of jobs that were dropped may take to be released.
const RELEASE: Duration = Duration::from_secs(5);

/// Messages of a channel that an orchestrator holds without having acknowledged them.
const PREFETCH: u16 = 256;

impl Emulator {
    async fn start(
        config: &Config,
        channels: &ChannelFactory,
        tasks: &Channel<AnyTask>,
        engine: &Engine,
    ) -> Result<(Registry, Self), ConnectError> {
        let channels = ChannelFactory::new(Arc::clone(channels.connection()), config.prefetch());
        let plugins = open_plugins(&channels, engine, config).await?;
        let tasks = channels.get(tasks.name(), ChannelType::ExactlyOnce).await?;
        let shutdown = CancellationToken::new();
        let worker = WorkerRuntime::new(channels, tasks, plugins.clone(), engine.clone(), config);
        let workers = (0..config.workers)
            .map(|_| {
                let (worker, shutdown) = (worker.renamed(), shutdown.clone());
                tokio::spawn(async move {
                    if let Err(error) = worker.main_loop(shutdown.cancelled()).await {
                        tracing::debug!(%error, "a worker in memory ended");
                    }
                })
            })
            .collect();
        Ok((plugins.registry().clone(), Self { worker, shutdown, workers }))
    }
}
