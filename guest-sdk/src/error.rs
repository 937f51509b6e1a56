//! How an operation fails, and what is to be done about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Result of an operation.
pub type Result<T, E = OperationError> = std::result::Result<T, E>;

/// How often, and after which pause, a transient failure is tried again.
///
/// `max_retries` counts the executions after the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryStrategy {
    /// The failure is final at once.
    Never,
    /// Without a pause.
    Immediate {
        /// Executions after the first one, at the most.
        max_retries: u32,
    },
    /// After a pause that is always the same.
    After {
        /// Executions after the first one, at the most.
        max_retries: u32,
        /// The pause before each of them; whole milliseconds count.
        delay: Duration,
    },
    /// After a pause that doubles each time.
    Exponential {
        /// Executions after the first one, at the most.
        max_retries: u32,
        /// The pause before the first of them; whole milliseconds count.
        min_delay: Duration,
        /// The longest pause.
        max_delay: Duration,
    },
}

impl Default for RetryStrategy {
    /// Three times, without a pause.
    fn default() -> Self {
        Self::Immediate { max_retries: 3 }
    }
}

impl RetryStrategy {
    /// The pause before the execution that follows attempt number `attempt` (counted from zero), or `None` if that was
    /// the last one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use palfrey_sdk::RetryStrategy;
    ///
    /// let strategy = RetryStrategy::Exponential {
    ///     max_retries: 3,
    ///     min_delay: Duration::from_millis(100),
    ///     max_delay: Duration::from_millis(300),
    /// };
    /// let pauses: Vec<_> = (0..4).map(|attempt| strategy.delay_after(attempt).map(|d| d.as_millis())).collect();
    /// assert_eq!(pauses, [Some(100), Some(200), Some(300), None]);
    /// ```
    pub fn delay_after(&self, attempt: u32) -> Option<Duration> {
        match *self {
            Self::Never => None,
            Self::Immediate { max_retries } => (attempt < max_retries).then_some(Duration::ZERO),
            Self::After { max_retries, delay } => (attempt < max_retries).then_some(delay),
            Self::Exponential { max_retries, min_delay, max_delay } => {
                (attempt < max_retries).then(|| min_delay.saturating_mul(2_u32.saturating_pow(attempt)).min(max_delay))
            }
        }
    }
}

/// What a fatal failure of one element means for the job it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FatalStrategy {
    /// The job ends with this failure, and its other tasks are stopped.
    #[default]
    Terminate,
    /// The element has no result and the job goes on. Where elements are folded it is left out.
    Ignore,
}

/// Why an operation failed.
#[derive(Debug)]
pub enum OperationError {}
