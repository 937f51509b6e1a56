//! What can be asked of a job.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use super::BatchSize;

/// What is asked of a job beyond its plan.
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::directive::{IndexedStream, JobOptions};
///
/// let options = JobOptions::default()
///     .timeout(Duration::from_secs(60))
///     .on_progress(|progress| eprintln!("{} of {:?}", progress.done, progress.total));
/// let directive = IndexedStream::from(0..1000_u64).options(options);
/// ```
#[derive(Clone, Default)]
pub struct JobOptions {
    pub(crate) batch_size: BatchSize,
    pub(crate) timeout: Option<Duration>,
    pub(crate) in_flight: Option<NonZeroUsize>,
    pub(crate) wait_for_plugins: bool,
    pub(crate) progress: Option<Arc<dyn Fn(JobProgress) + Send + Sync>>,
}

/// How far a job is, for [`JobOptions::on_progress`].
///
/// ```
/// use palfrey_host::directive::{JobOptions, JobProgress};
///
/// fn percent(progress: JobProgress) -> Option<u64> {
///     let total = progress.total?;
///     (100 * progress.done).checked_div(total)
/// }
/// assert_eq!(percent(JobProgress { done: 3, taken: 8, total: Some(12) }), Some(25));
/// let options = JobOptions::default().on_progress(|progress| eprintln!("{:?} %", percent(progress)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobProgress {
    /// Elements of the source whose tasks have been executed.
    pub done: u64,
    /// Elements that have been taken from the source.
    pub taken: u64,
    /// Elements of the source in all, where it says so.
    pub total: Option<u64>,
}

impl JobOptions {
    /// How many elements travel together. [Chosen from measurements](BatchSize::Measured) by default.
    pub fn batch_size(mut self, size: BatchSize) -> Self {
        self.batch_size = size;
        self
    }

    /// Ends the job with [`JobError::Timeout`](super::JobError::Timeout) if it is not done by then. No limit by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits until the plan's operations are deployed, instead of ending with
    /// [`JobError::Resolve`](super::JobError::Resolve). A timeout counts from the start.
    pub fn wait_for_plugins(mut self) -> Self {
        self.wait_for_plugins = true;
        self
    }

    /// The most tasks that are sent and not yet answered. By default four for each slot of the workers, more while tasks take less
    /// than some milliseconds, and 16 at least.
    pub fn in_flight(mut self, tasks: NonZeroUsize) -> Self {
        self.in_flight = Some(tasks);
        self
    }

    /// Called after each result, on the thread that polls the job. It should return quickly.
    pub fn on_progress(mut self, report: impl Fn(JobProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(report));
        self
    }
}

impl fmt::Debug for JobOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobOptions")
            .field("batch_size", &self.batch_size)
            .field("timeout", &self.timeout)
            .field("in_flight", &self.in_flight)
            .field("wait_for_plugins", &self.wait_for_plugins)
            .finish_non_exhaustive()
    }
}
