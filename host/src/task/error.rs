//! Why a task or an element of it has no result.

use std::{fmt, time::Duration};

use palfrey_sdk::{FatalStrategy, RetryStrategy};
use serde::{Deserialize, Serialize};

use super::OperationId;

/// A failure on a worker, as it reaches the orchestrator.
///
/// ```
/// # fn handle(error: &palfrey_host::task::ExecutionError) {
/// use palfrey_host::task::Cause;
///
/// match &error.cause {
///     Cause::Deadline { limit } => eprintln!("{} took longer than {limit:?}", error.operation),
///     _ => eprintln!("{error}"),
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// The operation that failed.
    pub operation: OperationId,
    /// Index of the element in the job's source. `None` where no single element is to blame, as in a fold of partial
    /// results.
    pub element: Option<u64>,
    /// What kind of failure it is.
    pub cause: Cause,
    /// What happened, in one line, in the words of whoever noticed it.
    pub message: String,
    /// What caused it, the nearest cause first.
    pub causes: Vec<String>,
    /// What the plugin had printed to stderr when it was stopped, its last part.
    pub stderr: String,
}

/// The kinds of failure. Its text is what a message begins with: `ran longer than the limit of 5s`.
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::task::Cause;
///
/// /// Whether more generous limits would help.
/// fn ran_into_a_limit(cause: &Cause) -> bool {
///     matches!(cause, Cause::Deadline { .. } | Cause::Memory { .. } | Cause::OutputTooLarge { .. })
/// }
///
/// let cause = Cause::Deadline { limit: Duration::from_secs(5) };
/// assert!(ran_into_a_limit(&cause));
/// assert_eq!(cause.to_string(), "ran longer than the limit of 5s");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The operation said that executing it again may succeed.
    Transient {
        /// How often and when to try again.
        retry: RetryStrategy,
        /// What it means when the retries are used up.
        exhausted: FatalStrategy,
    },
    /// The operation failed for good.
    Fatal {
        /// What it means for the job.
        strategy: FatalStrategy,
    },
    /// A transient failure that outlived its retries.
    RetriesExhausted {
        /// Executions in all.
        attempts: u32,
        /// What it means for the job.
        strategy: FatalStrategy,
    },
    /// The plugin panicked.
    Panic {
        /// Place in its source: `file:line:column`.
        location: Option<String>,
    },
    /// The plugin trapped, or ended its process.
    Trap,
    /// It ran longer than one element may.
    Deadline {
        /// The limit.
        limit: Duration,
    },
    /// It asked for more memory, or a larger table, than it may have.
    Memory {
        /// The limit in bytes.
        limit: u64,
    },
    /// Its output is larger than it may be.
    OutputTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The job was terminated while it ran.
    Cancelled,
    /// The config or the element is not a value of the type that the operation expects.
    BadInput {
        /// Whether it was the config. Otherwise it was the element.
        config: bool,
        /// Byte offset at which decoding failed, where it is known.
        position: Option<u32>,
    },
    /// The plugin has no such operation, or it is no monoid, or it does not understand the encoding.
    Unsupported,
    /// The plugin answered in a way that the contract forbids.
    Contract,
    /// The worker does not have the component, or could not load it.
    PluginUnavailable,
    /// The worker itself failed. Not the plugin's fault.
    Worker,
    /// The worker process that executed the task died, again and again.
    Poison {
        /// Executions that began, each in another process.
        attempts: u32,
    },
    /// No worker could read the task: it was sent by a program of another release, or is damaged.
    Format {
        /// Version of the format in which it was sent.
        version: u8,
    },
    /// The program cannot read the result: it comes from a worker of another release, or is damaged.
    UnreadableResult {
        /// Version of the format in which it came.
        version: u8,
    },
}

impl ExecutionError {
    /// An error without causes.
    pub fn new(operation: OperationId, cause: Cause, message: impl Into<String>) -> Self {
        Self { operation, element: None, cause, message: message.into(), causes: Vec::new(), stderr: String::new() }
    }

    /// What this failure means for its job. `None` while it may still be retried.
    pub fn strategy(&self) -> Option<FatalStrategy> {
        match self.cause {
            Cause::Transient { .. } => None,
            Cause::Fatal { strategy } | Cause::RetriesExhausted { strategy, .. } => Some(strategy),
            _ => Some(FatalStrategy::Terminate),
        }
    }
}

/// What follows a failure.
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::task::{AfterFailure, ExecutionError};
///
/// /// How long to wait before the failed element is executed again, if at all.
/// fn pause(failure: ExecutionError, attempt: u32) -> Result<Duration, ExecutionError> {
///     match failure.after_attempt(attempt) {
///         AfterFailure::Retry(pause) => Ok(pause),
///         AfterFailure::Ignore(failure) | AfterFailure::Terminate(failure) => Err(failure),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterFailure {
    /// Another attempt, after a pause.
    Retry(Duration),
    /// The element has no output, and the job goes on.
    Ignore(ExecutionError),
    /// The job ends.
    Terminate(ExecutionError),
}

impl ExecutionError {
    /// Decides what follows this failure in a given attempt, counted from zero.
    ///
    /// ```
    /// use std::time::Duration;
    /// use palfrey_host::task::{AfterFailure, Cause, ExecutionError, OperationId};
    /// use palfrey_sdk::{FatalStrategy, RetryStrategy};
    ///
    /// let retry = RetryStrategy::Immediate { max_retries: 1 };
    /// let cause = Cause::Transient { retry, exhausted: FatalStrategy::Ignore };
    /// let failure = ExecutionError::new(OperationId::new("arith", "flaky"), cause, "not yet");
    /// assert_eq!(failure.clone().after_attempt(0), AfterFailure::Retry(Duration::ZERO));
    /// let AfterFailure::Ignore(last) = failure.after_attempt(1) else { panic!("the retries are used up") };
    /// assert_eq!(last.cause, Cause::RetriesExhausted { attempts: 2, strategy: FatalStrategy::Ignore });
    /// ```
    pub fn after_attempt(self, attempt: u32) -> AfterFailure {
        let error = match self.cause {
            Cause::Transient { retry, exhausted } => match retry.delay_after(attempt) {
                Some(delay) => return AfterFailure::Retry(delay),
                None => {
                    let attempts = attempt.saturating_add(1);
                    Self { cause: Cause::RetriesExhausted { attempts, strategy: exhausted }, ..self }
                }
            },
            _ => self,
        };
        match error.strategy() {
            Some(FatalStrategy::Ignore) => AfterFailure::Ignore(error),
            _ => AfterFailure::Terminate(error),
        }
    }
}

impl fmt::Display for ExecutionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if let Some(element) = self.element {
            write!(f, ", element {element}")?;
        }
        write!(f, ": {}", self.cause)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ExecutionError {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient { .. } => f.write_str("transient failure"),
            Self::Fatal { .. } => f.write_str("fatal failure"),
            Self::RetriesExhausted { attempts, .. } => write!(f, "failed in each of {attempts} attempts"),
            Self::Panic { location: Some(location) } => write!(f, "panicked at {location}"),
            Self::Panic { location: None } => f.write_str("panicked"),
            Self::Trap => f.write_str("trapped"),
            Self::Deadline { limit } => {
                write!(f, "ran longer than the limit of {}", humantime::format_duration(*limit))
            }
            Self::Memory { limit } => {
                write!(f, "asked for more memory than the limit of {}", bytesize::ByteSize(*limit))
            }
            Self::OutputTooLarge { limit } => {
                write!(f, "output larger than the limit of {}", bytesize::ByteSize(*limit))
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::BadInput { config, position } => {
                write!(f, "the {} does not decode", if *config { "config" } else { "input" })?;
                position.map_or(Ok(()), |position| write!(f, ", from byte {position} on"))
            }
            Self::Unsupported => f.write_str("not supported by the plugin"),
            Self::Contract => f.write_str("the plugin broke the contract"),
            Self::PluginUnavailable => f.write_str("the worker does not have the plugin"),
            Self::Worker => f.write_str("the worker failed"),
            Self::Poison { attempts } => write!(f, "the worker process died in each of {attempts} attempts"),
            Self::UnreadableResult { version } => {
                write!(f, "this program cannot read the result, in format version {version}")
            }
            Self::Format { version } => write!(f, "no worker can read the task, in format version {version}"),
        }
    }
}
