//! The host's side of the contract's `context`: what a guest can ask and tell.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    bindings::palfrey::plugin::context::{Host, Level as GuestLevel},
    journal::{Journal, Level, cut},
};

/// How far an operation is with the element under way, as it says itself.
///
/// ```
/// use palfrey_host::engine::Progress;
///
/// fn show(Progress { done, total, unit }: &Progress) -> String {
///     match total {
///         Some(total) => format!("{done} of {total} {unit}"),
///         None => format!("{done} {unit}"),
///     }
/// }
/// assert_eq!(show(&Progress { done: 3, total: Some(10), unit: "rows".to_owned() }), "3 of 10 rows");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// So much is done.
    pub done: u64,
    /// Of so much, where it is known.
    pub total: Option<u64>,
    /// What is counted, a plural noun such as `rows`; may be empty.
    pub unit: String,
}

/// Receives reports of progress, on the thread that executes the call. It should return quickly.
///
/// ```
/// use std::sync::Arc;
/// use palfrey_host::engine::{Call, Limits, ProgressSink};
///
/// let sink: ProgressSink = Arc::new(|progress| eprintln!("{} {}", progress.done, progress.unit));
/// let call = Call { progress: Some(sink), ..Call::new("draw", &[], Limits::default()) };
/// ```
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Reports that come sooner after the last one are dropped, but for the last of them.
const PROGRESS_PERIOD: Duration = Duration::from_millis(50);

/// The longest unit, in bytes.
const MAX_UNIT: usize = 64;

/// The longest message of a panic, in bytes.
const MAX_PANIC: usize = 16 << 10;

/// The longest location of a panic, in bytes.
const MAX_LOCATION: usize = 1 << 10;

/// The journal is shared with the streams that the guest prints on.
pub(super) type SharedJournal = Arc<Mutex<Journal>>;

/// What one call knows and has said.
pub(super) struct Context {
    attempt: u32,
    cancel: CancellationToken,
    journal: SharedJournal,
    progress: Option<ProgressSink>,
    reported: Option<Instant>,
    pending: Option<Progress>,
    panic: Option<Panicked>,
}

/// Why the guest is about to trap, as it says itself.
pub(super) struct Panicked {
    pub(super) message: String,
    pub(super) location: Option<String>,
}

/// What is left of a call when it is over.
pub(super) struct LastWords {
    pub(super) panic: Option<Panicked>,
    /// The end of what was printed on stderr.
    pub(super) stderr: String,
    /// Bytes that might still have been written to the log.
    pub(super) log: u64,
}

impl Context {
    pub(super) fn new(
        attempt: u32,
        cancel: CancellationToken,
        journal: SharedJournal,
        progress: Option<ProgressSink>,
    ) -> Self {
        Self { attempt, cancel, journal, progress, reported: None, pending: None, panic: None }
    }

    /// Delivers what was held back.
    pub(super) fn finish(&mut self) -> LastWords {
        if let (Some(sink), Some(progress)) = (&self.progress, self.pending.take()) {
            sink(progress);
        }
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.finish();
        LastWords { panic: self.panic.take(), stderr: journal.stderr_tail(), log: journal.remaining() }
    }
}

impl Host for Context {
    fn cancelled(&mut self) -> bool {
        self.cancel.is_cancelled()
    }

    fn attempt(&mut self) -> u32 {
        self.attempt
    }

    fn progress(&mut self, done: u64, total: u64, unit: String) {
        let Some(sink) = &self.progress else { return };
        let progress = Progress { done, total: (total > 0).then_some(total), unit: cut(&unit, MAX_UNIT) };
        if self.reported.is_some_and(|reported| reported.elapsed() < PROGRESS_PERIOD) {
            self.pending = Some(progress);
        } else {
            self.reported = Some(Instant::now());
            self.pending = None;
            sink(progress);
        }
    }

    fn log(&mut self, level: GuestLevel, target: String, message: String) {
        let level = match level {
            GuestLevel::Trace => Level::TRACE,
            GuestLevel::Debug => Level::DEBUG,
            GuestLevel::Info => Level::INFO,
            GuestLevel::Warn => Level::WARN,
            GuestLevel::Error => Level::ERROR,
        };
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).log(level, &target, &message);
    }

    fn panicked(&mut self, message: String, location: Option<String>) {
        // The first one is the cause, the others come of it.
        self.panic.get_or_insert(Panicked {
            message: cut(&message, MAX_PANIC),
            location: location.map(|location| cut(&location, MAX_LOCATION)),
        });
    }
}
