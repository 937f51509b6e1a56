//! Who is there and what they do: workers and jobs as an operator sees them.
//!
//! Nobody keeps a list. Whoever wants to know asks everybody on the channel that all workers and orchestrators with jobs
//! hear anyway, and they answer to a channel that the asker has leased: one message to each, one back, and none while
//! nobody asks. Whoever is gone does not answer, and so disappears by itself. An answer holds durations and no times, since
//! clocks need not agree.
//!
//! Here is what is said, data only. A [`Runtime`](crate::Runtime::survey) asks and answers for its jobs; a worker answers
//! from its [main loop](crate::WorkerRuntime::main_loop).

mod command;
mod names;
mod process;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use command::CommandError;
pub(crate) use names::find;
pub use names::short_names;
pub use process::Process;
pub(crate) use process::{host, user};

use crate::task::{
    Digest, OperationId, RoutingKey,
    wire::{Message, WireError, decode_header, encode_header},
};

/// How long it has to be quiet until everybody has answered. A worker answers at once, whatever its guests do, and so does
/// an orchestrator.
pub const QUIET: Duration = Duration::from_millis(500);

/// How long the answers of workers that are known to be there are waited for, and of whoever is asked for by name.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long whoever was told something and is known to be there may take to say that it heard.
pub const ANSWERED: Duration = Duration::from_secs(15);

/// A worker, as it describes itself.
///
/// ```
/// use palfrey_host::presence::WorkerStatus;
///
/// /// Whether it could do more.
/// fn is_idle(worker: &WorkerStatus) -> bool {
///     !worker.draining && worker.waiting == 0 && worker.executing() < worker.slots
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its identity, as in results and logs.
    pub identity: String,
    /// Where it runs.
    pub process: Process,
    /// The channel from which it takes tasks.
    pub bus: String,
    /// Whether it takes no more tasks, and ends when it has finished what it has.
    pub draining: bool,
    /// Tasks that it executes at once.
    pub slots: u32,
    /// Tasks that it holds and has not begun to execute.
    pub waiting: u32,
    /// Tasks under execution, by job.
    pub running: Vec<(RoutingKey, u32)>,
    /// The share of its slots that was busy, on average of about the last minute: 0 to 1.
    pub load: f32,
    /// Tasks that it has executed since it began.
    pub executed: u64,
    /// Plugins that are loaded.
    pub plugins: Vec<LoadedPlugin>,
    /// How long it has been there.
    pub uptime: Duration,
}

impl WorkerStatus {
    /// Tasks under execution.
    pub fn executing(&self) -> u32 {
        self.running.iter().map(|(_, tasks)| tasks).sum()
    }
}

/// A plugin that a worker has loaded.
///
/// ```
/// use palfrey_host::presence::WorkerStatus;
///
/// fn has(worker: &WorkerStatus, plugin: &str) -> bool {
///     worker.plugins.iter().any(|loaded| loaded.name == plugin)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedPlugin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its bytes.
    pub digest: Digest,
}

/// A job, as its orchestrator describes it.
///
/// ```
/// use palfrey_host::presence::JobStatus;
///
/// fn line(job: &JobStatus) -> String {
///     let total = job.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
///     format!("{}: {} of {total}, {} tasks wait for a slot", job.id, job.done, job.queued())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job.
    pub id: RoutingKey,
    /// Its orchestrator.
    pub process: Process,
    /// The channel to which it sends its tasks.
    pub bus: String,
    /// What is executed, stage by stage.
    pub operations: Vec<OperationId>,
    /// Elements of the source whose tasks have been executed.
    pub done: u64,
    /// Elements that have been taken from the source.
    pub taken: u64,
    /// Elements of the source in all, where it says so.
    pub total: Option<u64>,
    /// Tasks that were sent and have no result yet.
    pub in_flight: u64,
    /// Those of them that are under execution, as the workers say.
    #[serde(skip)]
    pub running: u64,
    /// Tasks that were sent again because of a transient failure.
    pub retried: u64,
    /// Elements that failed for good, in a way that does not end the job.
    pub failed: u64,
    /// How long it has been there.
    pub age: Duration,
}

impl JobStatus {
    /// Tasks that wait for a slot of a worker.
    pub fn queued(&self) -> u64 {
        self.in_flight.saturating_sub(self.running)
    }

    /// How long it will take if it goes on as it did so far. `None` if the source does not tell how much there is, or nothing
    /// is done yet.
    ///
    /// ```
    /// # use palfrey_host::presence::{JobStatus, Process};
    /// # use std::time::Duration;
    /// # let job = JobStatus {
    /// #     id: "job".into(), process: Process::default(), bus: "default".into(), operations: vec![], done: 0, taken: 0,
    /// #     total: None, in_flight: 0, running: 0, retried: 0, failed: 0, age: Duration::ZERO,
    /// # };
    /// let job = JobStatus { done: 25, total: Some(100), age: Duration::from_secs(10), ..job };
    /// assert_eq!(job.remaining(), Some(Duration::from_secs(30)));
    /// assert_eq!(JobStatus { total: None, ..job }.remaining(), None);
    /// ```
    pub fn remaining(&self) -> Option<Duration> {
        let total = self.total.filter(|_| self.done > 0)?;
        let left = total.saturating_sub(self.done) as f64 / self.done as f64;
        Duration::try_from_secs_f64(self.age.as_secs_f64() * left).ok()
    }
}

/// Everybody who answered.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use palfrey_host::{Runtime, presence::Survey};
///
/// let runtime = Runtime::in_memory().await?;
/// # while runtime.task_channel().status().await?.consumers == 0 { tokio::task::yield_now().await }
/// let Survey { workers, jobs, silent } = runtime.survey().await?;
/// assert_eq!((workers.len(), jobs.len(), silent), (1, 0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Workers, by identity.
    pub workers: Vec<WorkerStatus>,
    /// Jobs, the oldest first.
    pub jobs: Vec<JobStatus>,
    /// Receivers of tasks on the asker's own bus that did not answer: workers that hang or are cut off, and loops of a
    /// program's own, which answer nobody.
    pub silent: u64,
}

/// What is answered to whoever asks. A message like any other:
///
/// ```
/// use palfrey_host::{presence::Answer, task::wire::Message};
///
/// assert_eq!(Answer::decode(Answer::Accepted.encode()), Ok(Answer::Accepted));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// By a worker.
    Worker(WorkerStatus),
    /// By an orchestrator that has jobs.
    Jobs(Vec<JobStatus>),
    /// By whom a command concerned: it will be done.
    Accepted,
}

impl Message for Answer {
    fn encode(&self) -> bytes::Bytes {
        encode_header(self)
    }

    fn decode(bytes: bytes::Bytes) -> Result<Self, WireError> {
        decode_header(&bytes)
    }
}
