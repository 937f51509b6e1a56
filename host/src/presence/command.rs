//! How a command to a worker or a job fails.

use super::ANSWERED;
use crate::{plugin::Suggestions, queue::QueueError};

/// Why a command was not carried out.
///
/// ```
/// use palfrey_host::{Runtime, presence::CommandError};
///
/// async fn end(job: &str, runtime: &Runtime) -> Result<(), CommandError> {
///     match runtime.cancel(job).await {
///         Err(CommandError::Unknown { .. }) => Ok(()), // It has ended already.
///         other => other.map(drop),
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Nobody is called that.
    #[error("there is no {what} `{name}`: {there}")]
    Unknown {
        /// `worker` or `job`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        there: Suggestions,
    },
    /// Several begin with it.
    #[error("`{name}` is the beginning of several {what}s: {}", .matching.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// `worker` or `job`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// Those that begin with it.
        matching: Vec<String>,
    },
    /// It was there, and did not say that it has heard.
    #[error(
        "{what} `{name}` has not answered within {}: it has just ended, or it hangs",
        humantime::format_duration(ANSWERED)
    )]
    NoAnswer {
        /// `worker` or `job`.
        what: &'static str,
        /// Its identity.
        name: String,
    },
    /// The broker failed or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
}
