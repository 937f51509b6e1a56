//! How an operation fails, and what is to be done about it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Result of an operation.
///
/// ```
/// fn hexadecimal(text: &str) -> palfrey_sdk::Result<u64> {
///     Ok(u64::from_str_radix(text, 16)?)
/// }
/// assert_eq!(hexadecimal("2a").ok(), Some(42));
/// ```
pub type Result<T, E = OperationError> = std::result::Result<T, E>;

/// How often, and after which pause, a transient failure is tried again.
///
/// `max_retries` counts the executions after the first one.
///
/// ```
/// use std::time::Duration;
/// use palfrey_sdk::{RetryStrategy, TransientError};
///
/// fn not_yet(page: &str) -> TransientError {
///     let retry = RetryStrategy::After { max_retries: 5, duration: Duration::from_secs(1) };
///     TransientError::msg(format!("{page} is not there yet")).with_retry(retry)
/// }
/// ```
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
        duration: Duration,
    },
    /// After a pause that doubles each time.
    Exponential {
        /// Executions after the first one, at the most.
        max_retries: u32,
        /// The pause before the first of them; whole milliseconds count.
        min_duration: Duration,
        /// The longest pause.
        max_duration: Duration,
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
    ///     min_duration: Duration::from_millis(100),
    ///     max_duration: Duration::from_millis(300),
    /// };
    /// let pauses: Vec<_> = (0..4).map(|attempt| strategy.delay_after(attempt).map(|d| d.as_millis())).collect();
    /// assert_eq!(pauses, [Some(100), Some(200), Some(300), None]);
    /// ```
    pub fn delay_after(&self, attempt: u32) -> Option<Duration> {
        match *self {
            Self::Never => None,
            Self::Immediate { max_retries } => (attempt < max_retries).then_some(Duration::ZERO),
            Self::After { max_retries, duration } => (attempt < max_retries).then_some(duration),
            Self::Exponential { max_retries, min_duration, max_duration } => (attempt < max_retries)
                .then(|| min_duration.saturating_mul(2_u32.saturating_pow(attempt)).min(max_duration)),
        }
    }
}

/// What a fatal failure of one element means for the job it belongs to.
///
/// ```
/// use palfrey_sdk::{FatalError, FatalStrategy, TransientError};
///
/// assert_eq!(FatalError::msg("no such page").strategy(), FatalStrategy::Terminate);
/// // A page that stays away is left out, when it was tried often enough.
/// let error = TransientError::msg("the page is not there yet").with_exhausted(FatalStrategy::Ignore);
/// assert_eq!(error.exhausted(), FatalStrategy::Ignore);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FatalStrategy {
    /// The job ends with this failure, and its other tasks are stopped.
    #[default]
    Terminate,
    /// The element has no result and the job goes on. Where elements are folded it is left out.
    Ignore,
}

/// Why an operation failed.
///
/// The question mark makes any ordinary error a [fatal](FatalError) one that ends the job; [`TransientError`] and
/// [`FatalError`] say more.
///
/// ```
/// use palfrey_sdk::{FatalError, FatalStrategy, OperationError, Result};
///
/// fn parse(line: &str) -> Result<u64> {
///     if line.is_empty() {
///         return Err(FatalError::msg("the line is empty").with_strategy(FatalStrategy::Ignore).into());
///     }
///     Ok(line.parse()?)
/// }
///
/// assert_eq!(parse("7").ok(), Some(7));
/// let error = parse("seven").unwrap_err();
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// assert!(matches!(error, OperationError::Fatal(error) if error.strategy() == FatalStrategy::Terminate));
/// ```
#[derive(Debug)]
pub enum OperationError {
    /// It may go away when the same element is executed again.
    Transient(TransientError),
    /// Executing the same element again would fail in the same way.
    Fatal(FatalError),
}

impl OperationError {
    /// The error that the operation met, with its causes.
    ///
    /// `OperationError` is no [`std::error::Error`] itself, so that the question mark can turn every such error into it.
    pub fn into_source(self) -> anyhow::Error {
        match self {
            Self::Transient(error) => error.source,
            Self::Fatal(error) => error.source,
        }
    }

    fn source(&self) -> &anyhow::Error {
        match self {
            Self::Transient(error) => &error.source,
            Self::Fatal(error) => &error.source,
        }
    }

    /// What caused it: one message a cause, the nearest first.
    pub fn causes(&self) -> impl Iterator<Item = String> {
        self.source().chain().skip(1).map(ToString::to_string)
    }
}

/// The message; with `{:#}` also its causes, separated by colons.
impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source().fmt(f)
    }
}

impl fmt::Display for TransientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Display for FatalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl<E: Into<anyhow::Error>> From<E> for OperationError {
    fn from(error: E) -> Self {
        Self::Fatal(FatalError::new(error))
    }
}

impl From<TransientError> for OperationError {
    fn from(error: TransientError) -> Self {
        Self::Transient(error)
    }
}

impl From<FatalError> for OperationError {
    fn from(error: FatalError) -> Self {
        Self::Fatal(error)
    }
}

/// An error that may go away when the same element is executed again.
///
/// ```
/// use std::time::Duration;
/// use palfrey_sdk::{Result, RetryStrategy, TransientError};
///
/// fn answer(found: Option<u64>) -> Result<u64> {
///     let pause = RetryStrategy::After { max_retries: 5, duration: Duration::from_millis(20) };
///     Ok(found.ok_or_else(|| TransientError::msg("there is no answer yet").with_retry(pause))?)
/// }
/// assert!(answer(None).is_err());
/// ```
#[derive(Debug)]
pub struct TransientError {
    source: anyhow::Error,
    retry: RetryStrategy,
    exhausted: FatalStrategy,
}

impl TransientError {
    /// From another error: anything that implements [`std::error::Error`], or an `anyhow::Error`. It is retried as
    /// [`RetryStrategy::default`] says, and then ends the job.
    pub fn new(source: impl Into<anyhow::Error>) -> Self {
        Self { source: source.into(), retry: RetryStrategy::default(), exhausted: FatalStrategy::default() }
    }

    /// From a message.
    pub fn msg(message: impl Into<String>) -> Self {
        Self::new(anyhow::Error::msg(message.into()))
    }

    /// Sets how often and when to try again.
    #[must_use]
    pub fn with_retry(self, retry: RetryStrategy) -> Self {
        Self { retry, ..self }
    }

    /// Sets what it means for the job when the retries are used up.
    #[must_use]
    pub fn with_exhausted(self, exhausted: FatalStrategy) -> Self {
        Self { exhausted, ..self }
    }

    /// How often and when to try again.
    pub fn retry(&self) -> RetryStrategy {
        self.retry
    }

    /// What it means for the job when the retries are used up.
    pub fn exhausted(&self) -> FatalStrategy {
        self.exhausted
    }
}

/// An error that would come again if the same element were executed again.
///
/// ```
/// use palfrey_sdk::{FatalError, FatalStrategy, Result};
///
/// fn root(number: f64) -> Result<f64> {
///     if number < 0.0 {
///         // The other elements are worth having without this one.
///         let error = FatalError::msg(format!("{number} has no real root"));
///         return Err(error.with_strategy(FatalStrategy::Ignore).into());
///     }
///     Ok(number.sqrt())
/// }
/// assert_eq!(root(-1.0).unwrap_err().to_string(), "-1 has no real root");
/// ```
#[derive(Debug)]
pub struct FatalError {
    source: anyhow::Error,
    strategy: FatalStrategy,
}

impl FatalError {
    /// From another error: anything that implements [`std::error::Error`], or an `anyhow::Error`. It ends the job.
    pub fn new(source: impl Into<anyhow::Error>) -> Self {
        Self { source: source.into(), strategy: FatalStrategy::default() }
    }

    /// From a message.
    pub fn msg(message: impl Into<String>) -> Self {
        Self::new(anyhow::Error::msg(message.into()))
    }

    /// Sets what it means for the job.
    #[must_use]
    pub fn with_strategy(self, strategy: FatalStrategy) -> Self {
        Self { strategy, ..self }
    }

    /// What it means for the job.
    pub fn strategy(&self) -> FatalStrategy {
        self.strategy
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn ordinary_errors_are_fatal_and_end_the_job() {
        fn fails() -> Result<()> {
            Err(fmt::Error)?
        }
        let OperationError::Fatal(error) = fails().unwrap_err() else { panic!("it is fatal") };
        assert_eq!(error.strategy(), FatalStrategy::Terminate);
    }

    #[test]
    fn context_becomes_the_message_and_the_rest_its_causes() {
        fn fails() -> Result<u8> {
            Ok("x".parse::<u8>().context("field 3").context("line 7")?)
        }
        let error = fails().unwrap_err();
        assert_eq!(error.to_string(), "line 7");
        assert_eq!(error.causes().collect::<Vec<_>>(), ["field 3", "invalid digit found in string"]);
        assert_eq!(format!("{error:#}"), "line 7: field 3: invalid digit found in string");
    }

    #[test]
    fn strategies_survive_the_question_mark() {
        fn fails() -> Result<()> {
            Err(TransientError::msg("later").with_retry(RetryStrategy::Never).with_exhausted(FatalStrategy::Ignore))?
        }
        let OperationError::Transient(error) = fails().unwrap_err() else { panic!("it is transient") };
        assert_eq!((error.retry(), error.exhausted()), (RetryStrategy::Never, FatalStrategy::Ignore));
    }

    #[test]
    fn pauses_neither_overflow_nor_outgrow_their_limit() {
        let max_duration = Duration::from_secs(1);
        let strategy =
            RetryStrategy::Exponential { max_retries: u32::MAX, min_duration: Duration::from_millis(1), max_duration };
        assert_eq!(strategy.delay_after(200), Some(max_duration));
        assert_eq!(strategy.delay_after(u32::MAX), None);
        assert_eq!(RetryStrategy::Never.delay_after(0), None);
    }
}
