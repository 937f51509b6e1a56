//! Whether a worker lives, and whether it is of use.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{Phase, WorkerRuntime};
use crate::queue::Condition;

/// A loop that has not gone round for so long hangs. It does once a second.
pub const HANGS: Duration = Duration::from_secs(15);

/// How long the broker has to tell whether the registry is up to date.
const ANSWER: Duration = Duration::from_secs(2);

/// How a worker is, and why. Each check has a name, and a problem if it fails.
///
/// ```
/// use palfrey_host::worker::Health;
///
/// let health = Health::connecting();
/// assert!(health.is_alive() && !health.is_ready());
/// assert_eq!(health.checks().collect::<Vec<_>>(), [("broker", Some("connecting"))]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    hangs: bool,
    checks: Vec<(&'static str, Option<String>)>,
}

impl Health {
    /// A worker that waits for its broker.
    pub fn connecting() -> Self {
        Self { hangs: false, checks: vec![("broker", Some("connecting".to_owned()))] }
    }

    /// Whether the process does what it should. One that does not has to be started anew; a broker that is away is no reason.
    pub fn is_alive(&self) -> bool {
        !self.hangs
    }

    /// Whether it takes tasks, and sends their results.
    pub fn is_ready(&self) -> bool {
        self.checks().all(|(_, problem)| problem.is_none())
    }

    /// The checks by name, and what is wrong.
    pub fn checks(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        self.checks.iter().map(|(name, problem)| (*name, problem.as_deref()))
    }
}

impl WorkerRuntime {
    /// How this worker is. It asks the broker whether the registry is up to date.
    ///
    /// ```no_run
    /// # async fn example(worker: palfrey_host::WorkerRuntime) {
    /// let health = worker.health().await;
    /// for (name, problem) in health.checks() {
    ///     println!("{name}: {}", problem.unwrap_or("ok"));
    /// }
    /// # }
    /// ```
    pub async fn health(&self) -> Health {
        let condition = self.channels.connection().condition();
        let broker = match condition {
            Condition::Connected => None,
            Condition::Blocked => Some("the broker takes no results for now, because of a memory or disk alarm"),
            Condition::Lost => Some("the connection is lost; reconnecting"),
            Condition::Closed => Some("the connection is closed"),
        };
        let registry = match condition {
            Condition::Connected | Condition::Blocked => {
                match tokio::time::timeout(ANSWER, self.plugins.registry().caught_up()).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("it is not known whether it is up to date: the broker does not answer".to_owned()),
                }
            }
            Condition::Lost | Condition::Closed => Some("not followed without a broker".to_owned()),
        };
        let phase = *self.activity.phase().borrow();
        let tasks = match phase {
            Phase::Starting => Some("not taking tasks yet"),
            Phase::Taking => None,
            Phase::Draining => Some("draining: taking no more tasks"),
        };
        let last = *self.activity.beats().borrow();
        let hangs = phase != Phase::Starting && Instant::now().duration_since(last) > HANGS;
        let main_loop = hangs.then(|| format!("the main loop has not gone round for {HANGS:?}"));
        Health {
            hangs,
            checks: vec![
                ("broker", broker.map(str::to_owned)),
                ("registry", registry),
                ("tasks", tasks.map(str::to_owned)),
                ("loop", main_loop),
            ],
        }
    }

    /// How far its [main loop](Self::main_loop) is, and whenever that changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.activity.phase()
    }

    /// When its [main loop](Self::main_loop) last went round, and whenever it does: about once a second.
    pub fn beats(&self) -> watch::Receiver<Instant> {
        self.activity.beats()
    }
}
