//! Where things go wrong: a broker, workers and programs with a proxy in front of each, and what must be true afterwards.

use std::{fmt, sync::Arc, time::Duration};

use palfrey_host::{Config, Runtime};
use palfrey_rabbitmq::{Node, NodeError, NodeOptions};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{Log, Proxy, Worker, World, soon};

/// What workers log here: what they do, and not what guests say a thousand times.
const LOG: &str = "info,palfrey_host::plugin=debug,palfrey_host::worker=debug,palfrey::guest=warn";

/// The line in which a worker says what it knows of the registry.
const STATE: &str = "deployed are ";

/// By then the lease of a program that is gone has expired, which takes a minute.
const EXPIRY: Duration = Duration::from_secs(90);

/// Queues that are there for good: tasks with what goes with them, and the logs with their marks.
const LASTING: [&str; 8] = [
    "default",
    "default.dead",
    "default.later",
    "default.suspects",
    "palfrey.components",
    "palfrey.components.begun",
    "palfrey.registry",
    "palfrey.registry.begun",
];

/// How the queue begins by which a process hears what all are told.
const BROADCAST: &str = "palfrey.broadcast.";

/// A broker of which a test has a part, or all.
#[derive(Debug, Clone)]
pub struct Scene {
    world: World,
    node: Option<Arc<Node>>,
}

/// A process behind a proxy of its own.
#[derive(Debug)]
pub struct Remote {
    /// What is between it and the broker.
    pub network: Proxy,
    /// The process.
    pub process: Worker,
}

/// A program's runtime behind a proxy of its own.
#[derive(Debug)]
pub struct Program {
    /// What is between it and the broker.
    pub network: Proxy,
    /// What it sends tasks with.
    pub runtime: Arc<Runtime>,
}

/// A queue as the broker lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Messages that wait.
    pub ready: u64,
    /// Messages that somebody holds.
    pub unacknowledged: u64,
}

impl Scene {
    /// A virtual host on the broker that tests share.
    ///
    /// # Panics
    /// As [`World::new`].
    pub fn new() -> Self {
        show_the_log();
        Self { world: World::new(), node: None }
    }

    /// A broker to be stopped and killed.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn with_a_node(options: NodeOptions) -> Self {
        show_the_log();
        let node = tokio::task::spawn_blocking(move || options.start()).await.expect("it does not panic");
        let node = node.unwrap_or_else(|error| panic!("{error}"));
        Self { world: World::at(node.uri()), node: Some(Arc::new(node)) }
    }

    /// The world without proxies.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Does something with the node that takes seconds, while everything else goes on.
    ///
    /// # Panics
    /// If it fails, or the node is not the test's own.
    pub async fn node<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Node) -> Result<T, NodeError> + Send + 'static,
    ) -> T {
        let node = self.node.clone().expect("the node is the test's own");
        let done = tokio::task::spawn_blocking(move || action(&node)).await.expect("it does not panic");
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A worker with one slot that takes tasks.
    ///
    /// # Panics
    /// If it does not get that far.
    pub async fn worker(&self, arguments: &[&str]) -> Remote {
        let worker = self.start_worker(arguments, "").await;
        worker.process.ready().await;
        worker
    }

    /// A worker that has been started, with rules for its failpoints.
    pub async fn start_worker(&self, arguments: &[&str], failpoints: &str) -> Remote {
        let (network, world) = self.behind_a_proxy().await;
        let usual = ["--slots", "1", "--prefetch", "8", "--log", LOG];
        let given = |name: &&str| !arguments.contains(name);
        let usual = usual.chunks(2).filter(|pair| given(&pair[0])).flatten().copied();
        let arguments: Vec<_> = usual.chain(arguments.iter().copied()).collect();
        let process = world.start_failing_worker(&arguments, failpoints);
        Remote { network, process }
    }

    /// The same broker for one process.
    async fn behind_a_proxy(&self) -> (Proxy, World) {
        let network = Proxy::to(self.world.uri()).await;
        // The shortest that is accepted: what is silent for twice as long is gone.
        let uri = format!("{}?heartbeat=5", network.uri());
        let world = self.world.clone().moved_to(uri);
        (network, world)
    }

    /// A process with one job of which something does not end: see [`World::start_endless_program`].
    pub async fn endless_program(&self, what: &str) -> Remote {
        let (network, world) = self.behind_a_proxy().await;
        Remote { network, process: world.start_endless_program(what) }
    }

    /// The same scene, with a jumping clock in all processes that are started: see [`World::with_a_jumping_clock`].
    pub fn with_jumping_clocks(&self) -> Self {
        Self { world: self.world.clone().with_a_jumping_clock(), node: self.node.clone() }
    }

    /// A program.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn program(&self) -> Program {
        let network = Proxy::to(self.world.uri()).await;
        let uri = format!("{}?heartbeat=5", network.uri());
        let config = Config { amqp_uri: uri.parse().expect("it is a URI"), ..self.world.config() };
        let runtime = soon(Runtime::from_config(&config)).await.expect("the broker is there");
        Program { network, runtime: Arc::new(runtime) }
    }

    /// The queues as they are now.
    ///
    /// # Panics
    /// If the broker does not tell.
    pub async fn queues(&self) -> Vec<Queue> {
        let listed = self.evaluate(
            "[io:format(\"~s\\t~p\\t~p~n\", [Name, Ready, Unacked]) || \
             [{name, {resource, _, queue, Name}}, {messages_ready, Ready}, {messages_unacknowledged, Unacked}] <- \
             rabbit_amqqueue:info_all(V, [name, messages_ready, messages_unacknowledged])], ok",
        );
        listed.await.lines().map(Queue::parse).collect()
    }

    /// Deletes a queue, whoever uses it.
    ///
    /// # Panics
    /// If the broker does not.
    pub async fn delete_queue(&self, name: &str) {
        self.evaluate(&format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup({{resource, V, queue, <<\"{name}\">>}}), \
             {{ok, _}} = rabbit_amqqueue:delete(Q, false, false, <<\"a test\">>), ok"
        ))
        .await;
    }

    /// Evaluates an Erlang expression in the broker, with the virtual host as `V`.
    async fn evaluate(&self, expression: &str) -> String {
        let uri = self.world.uri().to_owned();
        let vhost = uri.rsplit_once('/').expect("it names a virtual host").1.replace("%2f", "/");
        let expression = format!("V = <<\"{vhost}\">>, {expression}");
        let evaluate = move || palfrey_rabbitmq::evaluate_at(&uri, &expression);
        let done = tokio::task::spawn_blocking(evaluate).await.expect("it does not panic");
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until the queues are as they should be.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn until_queues(&self, expected: &str, condition: impl Fn(&[Queue]) -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let last_look = Instant::now() + EXPIRY;
        loop {
            // One that begins late enough decides, however long it takes on a machine that is busy.
            looks.tick().await;
            let begun = Instant::now();
            let queues = self.queues().await;
            if condition(&queues) {
                return;
            }
            if begun >= last_look {
                let queues = queues.iter().map(ToString::to_string).collect::<Vec<_>>();
                panic!("{expected}: not so within {EXPIRY:?}: {}", queues.join("; "));
            }
        }
    }

    /// What must be true when all jobs are over, whatever happened: nothing waits and nothing is held in the queue of tasks,
    /// no result queue is left behind, nothing was dead-lettered, every worker knows what the log says, and nobody but these
    /// workers, which are all that are there, hears what all are told.
    ///
    /// # Panics
    /// If something of this does not become true.
    pub async fn is_clean<'a>(&self, workers: impl IntoIterator<Item = &'a Remote>) {
        let workers: Vec<_> = workers.into_iter().collect();
        let clean = |queue: &Queue| {
            let may_hold = queue.is_lasting() && !queue.holds_tasks();
            !queue.is_lease() && (may_hold || queue.is_empty())
        };
        let settled = |queues: &[Queue]| {
            let listeners = queues.iter().filter(|queue| queue.is_broadcast()).count();
            queues.iter().all(clean) && listeners == workers.len()
        };
        let expected = format!("everything is settled, and what lasts is there with {} listeners", workers.len());
        self.until_queues(&expected, settled).await;
        self.agrees_on_the_registry(workers).await;
    }

    /// Waits until every worker knows what the log says.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn agrees_on_the_registry<'a>(&self, workers: impl IntoIterator<Item = &'a Remote>) {
        // Read from the start by somebody to whom nothing has happened.
        let runtime = self.world.runtime().await;
        let state = runtime.registry().state();
        let expected = format!("{STATE}{state} next_offset={}", state.next_offset());
        let knows = |log: &Log| log.last(STATE).is_some_and(|line| line == expected);
        for worker in workers {
            worker.process.log().until_it(&expected, knows).await;
        }
        soon(runtime.close()).await.expect("the broker is there");
    }
}

/// What the programs of this process log, shown where a test fails.
fn show_the_log() {
    let filter = tracing_subscriber::EnvFilter::new("info,palfrey_host=debug,palfrey::guest=warn,lapin=off");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_test_writer().try_init().ok();
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    fn parse(line: &str) -> Self {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let name = next().to_owned();
        // A queue that is being deleted has no numbers.
        let mut number = || next().parse().unwrap_or_default();
        Self { name, ready: number(), unacknowledged: number() }
    }

    /// Whether it may be there when nothing runs.
    pub fn is_lasting(&self) -> bool {
        LASTING.contains(&self.name.as_str())
    }

    /// Whether it is the queue by which one process hears what all are told. It goes with its connection.
    pub fn is_broadcast(&self) -> bool {
        self.name.starts_with(BROADCAST)
    }

    /// Whether it is the queue of results of a program.
    pub fn is_lease(&self) -> bool {
        !self.is_lasting() && !self.is_broadcast()
    }

    /// Whether it carries tasks, or those that could not be processed.
    pub fn holds_tasks(&self) -> bool {
        self.name.starts_with("default")
    }

    /// Whether no message waits in it, and none is held.
    pub fn is_empty(&self) -> bool {
        self.ready == 0 && self.unacknowledged == 0
    }
}

impl Remote {
    /// Kills it, and waits for its end.
    ///
    /// # Panics
    /// If it has ended before.
    pub async fn kill(mut self) {
        self.process.signal("KILL");
        assert_eq!(self.process.ended().await, 128 + 9);
    }
}

impl Program {
    /// Ends it in order: its leases are released by then.
    ///
    /// # Panics
    /// If somebody else has its runtime, or the broker is not there.
    pub async fn close(self) {
        let runtime = Arc::into_inner(self.runtime).expect("nobody else has it");
        soon(runtime.close()).await.expect("the broker is there");
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} wait, {} are held", self.name, self.ready, self.unacknowledged)
    }
}
