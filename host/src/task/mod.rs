//! What travels: tasks, their results, and the identifiers in them. Data only.
//!
//! Nothing here does I/O or knows who sends or executes a task. Serialised forms are in [`wire`]; everything else in the
//! crate works on these types. Start with [`AnyTask`] and [`AnyTaskResult`].

mod error;
mod id;
mod packed;
pub mod wire;

use std::time::Duration;

use bytes::Bytes;
use palfrey_sdk::{FatalStrategy, Serializer};
use serde::{Deserialize, Serialize};

pub use error::{AfterFailure, Cause, ExecutionError};
pub use id::{Digest, OperationId, ParseIdError, Requirement, RoutingKey, TaskId, is_kebab_case};
pub use packed::{Packed, PackedBuilder, PackedError};

/// How a stage treats the batch that reaches it.
///
/// ```
/// use palfrey_host::task::{Apply, Stage};
///
/// /// How many elements leave a stage that `inputs` elements enter.
/// fn leave(stage: &Stage, inputs: usize) -> usize {
///     match stage.apply {
///         Apply::Map => inputs,
///         Apply::Fold => 1,
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Apply {
    /// Each element becomes one element.
    Map,
    /// The batch becomes one element: its combination from left to right, or the monoid's identity for an empty batch.
    Fold,
}

/// One step of a task: an operation with its config, pinned to the bytes that execute it.
///
/// ```
/// use palfrey_host::task::{Apply, Digest, OperationId, Stage};
/// use palfrey_sdk::Serializer;
///
/// // `MultiplyBy(3)`. A job takes the digest from the registry, once.
/// let stage = Stage {
///     operation: OperationId::new("arith", "multiply-by"),
///     digest: Digest::of(b"the bytes of the component"),
///     config: Serializer::Postcard.to_bytes(&3_u64)?,
///     apply: Apply::Map,
/// };
/// # Ok::<(), palfrey_sdk::CodecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// For people: logs and errors speak of it. What is executed is decided by `digest`.
    pub operation: OperationId,
    /// The component that is executed.
    pub digest: Digest,
    /// The encoded value of the operation.
    pub config: Bytes,
    /// Map or fold.
    pub apply: Apply,
}

/// A task whose types are known to its sender only: what travels to a worker.
///
/// ```
/// # use palfrey_host::task::{Apply, Digest, OperationId, RoutingKey, Stage, TaskId};
/// use palfrey_host::task::{AnyTask, wire::Message};
/// use palfrey_sdk::Serializer;
///
/// # let operation = OperationId::new("arith", "fib-at");
/// # let stage = Stage { operation, digest: Digest::of(b""), config: Default::default(), apply: Apply::Map };
/// let serializer = Serializer::Postcard;
/// let inputs = [10_u64, 20].map(|index| serializer.to_bytes(&index)).into_iter().collect::<Result<_, _>>()?;
/// let task = AnyTask {
///     routing_key: RoutingKey::random(),
///     id: TaskId(0),
///     metadata: "comes back".into(),
///     serializer,
///     attempt: 0,
///     stages: vec![stage],
///     inputs,
/// };
/// assert_eq!(AnyTask::decode(task.encode())?, task);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyTask {
    /// The job it belongs to, and the channel that waits for its result.
    pub routing_key: RoutingKey,
    /// Unique within the job. A result names it; a second result of the same task is a duplicate.
    pub id: TaskId,
    /// Comes back with the result, untouched.
    pub metadata: Bytes,
    /// Encoding of configs, inputs and outputs.
    pub serializer: Serializer,
    /// Which try this is, counted from zero.
    pub attempt: u32,
    /// Applied one after the other. At least one; only the last may be a fold.
    pub stages: Vec<Stage>,
    /// The batch.
    pub inputs: Packed,
}

/// What became of a task: what travels back.
///
/// ```
/// use palfrey_host::task::{AnyTaskResult, TaskOutcome};
///
/// fn report(result: &AnyTaskResult) {
///     let AnyTaskResult { id, report, .. } = result;
///     match &result.outcome {
///         TaskOutcome::Executed { outputs, failed } => {
///             println!("task {id}: {} outputs, {} failures, from {}", outputs.len(), failed.len(), report.worker);
///         }
///         TaskOutcome::Failed(error) => println!("task {id}: {error}"),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyTaskResult {
    /// The job it belongs to.
    pub routing_key: RoutingKey,
    /// The task it answers.
    pub id: TaskId,
    /// The task's metadata.
    pub metadata: Bytes,
    /// Encoding of the outputs.
    pub serializer: Serializer,
    /// Who executed it, and how long it took.
    pub report: WorkerReport,
    /// Outputs and failures.
    pub outcome: TaskOutcome,
}

/// What a worker tells about itself and the execution, for the orchestrator's choice of batch size and window.
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::task::WorkerReport;
///
/// let execution = Duration::from_millis(20);
/// let report = WorkerReport { worker: "worker-1".to_owned(), slots: 4, waited: Duration::ZERO, execution };
/// // What it can do in a second, if all tasks are like this one.
/// assert_eq!(f64::from(report.slots) / report.execution.as_secs_f64(), 200.0);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Identity of the worker process.
    pub worker: String,
    /// Tasks it executes at once.
    pub slots: u32,
    /// Time the task was held by the worker before a slot was free for it.
    pub waited: Duration,
    /// Time the guest code ran, instantiation included.
    pub execution: Duration,
}

/// Outputs and failures of a task.
///
/// ```
/// # use palfrey_host::task::{Cause, ExecutionError, OperationId};
/// use palfrey_host::task::{ElementFailure, TaskOutcome};
/// use palfrey_sdk::FatalStrategy;
///
/// // Three divisions, of which the second one was by zero.
/// # let cause = Cause::Fatal { strategy: FatalStrategy::Ignore };
/// # let error = ExecutionError::new(OperationId::new("arith", "divide"), cause, "1 cannot be divided by zero");
/// let failed = vec![ElementFailure { index: 1, error }];
/// let outcome = TaskOutcome::Executed { outputs: [[3], [5]].into_iter().collect(), failed };
///
/// let TaskOutcome::Executed { outputs, failed } = outcome else { panic!("it was executed") };
/// assert_eq!((outputs.len(), failed[0].index), (2, 1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskOutcome {
    /// The task was executed. Elements that failed have no output, and the others keep their order.
    Executed {
        /// Outputs of the elements that are not in `failed`; one output for a fold.
        outputs: Packed,
        /// Elements without an output, in ascending order of their index within the batch. If one of them
        /// [ends the job](ElementFailure::terminates), it is the last one, and the elements behind it were not executed. A fold
        /// has only elements here whose strategy is to be ignored.
        failed: Vec<ElementFailure>,
    },
    /// The task as a whole has no outputs.
    Failed(ExecutionError),
}

/// The failure of one element of a batch.
///
/// ```
/// use palfrey_host::task::{Cause, ElementFailure, ExecutionError, OperationId};
/// use palfrey_sdk::FatalStrategy;
///
/// let failure = |cause| {
///     let error = ExecutionError::new(OperationId::new("arith", "divide"), cause, "1 cannot be divided by zero");
///     ElementFailure { index: 4, error }
/// };
/// assert!(failure(Cause::Fatal { strategy: FatalStrategy::Terminate }).terminates());
/// assert!(!failure(Cause::Fatal { strategy: FatalStrategy::Ignore }).terminates());
/// assert!(failure(Cause::Trap).terminates());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementFailure {
    /// Position within the task's batch.
    pub index: u32,
    /// Why.
    pub error: ExecutionError,
}

impl ElementFailure {
    /// Whether the job ends with it, and the elements behind it are not worth executing.
    pub fn terminates(&self) -> bool {
        self.error.strategy() == Some(FatalStrategy::Terminate)
    }
}
