//! How a job ends without a result.

use std::time::Duration;

use palfrey_sdk::CodecError;

use crate::{
    plugin::{Mismatch, ResolveError},
    queue::QueueError,
    task::{ExecutionError, ParseIdError},
};

/// Why a directive has no result.
///
/// The message of the error, with those of its [sources](std::error::Error::source), says what happened, where, and what to do.
/// Programs that decide by it match:
///
/// ```no_run
/// # async fn example(runtime: palfrey_host::Runtime) {
/// use arith::{Divide, Sum};
/// use palfrey_host::{JobError, directive::*, task::Cause};
///
/// match IndexedStream::from([(6, 2), (1, 0)]).map(&Divide).fold(&Sum).run(&runtime).await {
///     Ok(sum) => println!("{sum}"),
///     Err(JobError::Execution(failure)) => match failure.cause {
///         Cause::Fatal { .. } => eprintln!("element {:?}: {}", failure.element, failure.message),
///         Cause::Deadline { limit } => eprintln!("{} takes longer than {limit:?}", failure.operation),
///         _ => eprintln!("{failure}"),
///     },
///     Err(JobError::Resolve(missing)) => eprintln!("deploy it first: {missing}"),
///     Err(error) => eprintln!("{error}"),
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The ID of an operation is malformed.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// An operation of the plan is not deployed.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// What is deployed is not what the program takes it for.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// An element failed on a worker, for good.
    #[error(transparent)]
    Execution(#[from] Box<ExecutionError>),
    /// A value could not be encoded.
    #[error("cannot encode {what}")]
    Encode {
        /// The config of an operation, or an element.
        what: String,
        /// What the encoder says.
        #[source]
        source: CodecError,
    },
    /// An output is not a value of the type that the program expects.
    #[error("the output of element {element} is not of the type that the program expects")]
    Decode {
        /// Index in the source.
        element: u64,
        /// What the decoder says.
        #[source]
        source: CodecError,
    },
    /// The only element failed, in a way that its operation wants ignored.
    #[error("the value failed, and its operation wants such failures ignored: there is no result")]
    Ignored,
    /// The source failed.
    #[error("the source of the directive failed")]
    Source(#[source] anyhow::Error),
    /// The time is up.
    #[error("no result within {}: {waiting_for}", humantime::format_duration(*.timeout))]
    Timeout {
        /// The time that was given.
        timeout: Duration,
        /// What the job was waiting for.
        waiting_for: String,
    },
    /// An operator ended the job.
    #[error("the job was cancelled by {by}")]
    Cancelled {
        /// User and machine, as far as they were known.
        by: String,
    },
    /// The broker failed or refused.
    #[error("the broker does not carry the job")]
    Queue(#[from] QueueError),
    /// A result does not fit its task.
    #[error("worker {worker} sent a result that does not fit its task: {reason}")]
    Protocol {
        /// The worker.
        worker: String,
        /// What does not fit.
        reason: String,
    },
}

impl From<ExecutionError> for JobError {
    fn from(error: ExecutionError) -> Self {
        Self::Execution(Box::new(error))
    }
}

impl JobError {
    /// The failure on the worker, if that is what ended the job.
    ///
    /// ```
    /// use palfrey_host::{JobError, task::{Cause, ExecutionError, OperationId}};
    ///
    /// let failure = ExecutionError::new(OperationId::new("arith", "divide"), Cause::Trap, "out of bounds");
    /// let error = JobError::from(failure);
    /// assert_eq!(error.execution().map(|failure| &failure.cause), Some(&Cause::Trap));
    /// assert_eq!(error.to_string(), "arith/divide: trapped: out of bounds");
    /// ```
    pub fn execution(&self) -> Option<&ExecutionError> {
        match self {
            Self::Execution(error) => Some(error),
            _ => None,
        }
    }
}
