//! Suspects that this worker has had, and survived.
//!
//! The broker counts how often a task came back, and not why. Whoever is asked about one here has not died of it: see
//! [`WorkerIpc::Accuse`](super::WorkerIpc::Accuse).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use super::Suspect;

/// How long a suspect is remembered after its end here.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Suspects of which is heard at once. Who listens waits for one, and asks again.
const HEARD: usize = 16;

/// What a worker can say of suspects, and what others say.
#[derive(Debug)]
pub(super) struct Witness {
    had: Mutex<HashMap<Suspect, Instant>>,
    vouched: broadcast::Sender<Suspect>,
}

impl Default for Witness {
    fn default() -> Self {
        Self { had: Mutex::default(), vouched: broadcast::channel(HEARD).0 }
    }
}

impl Witness {
    /// A suspect begins here, or has ended.
    pub(super) fn note(&self, suspect: Suspect, now: Instant) {
        self.had().insert(suspect, now);
    }

    /// Whether a suspect was here, this worker being alive.
    pub(super) fn has_had(&self, suspect: &Suspect) -> bool {
        self.had().contains_key(suspect)
    }

    /// Forgets what ended long ago. Not to be called while one runs.
    pub(super) fn reap(&self, now: Instant) {
        self.had().retain(|_, at| now.duration_since(*at) < REMEMBERED);
    }

    /// Somebody vouches for a task.
    pub(super) fn hear(&self, suspect: Suspect) {
        // Nobody has accused one here, most of the time.
        _ = self.vouched.send(suspect);
    }

    /// Waits until somebody vouches for a task, from now on.
    pub(super) fn vouched_for(&self, suspect: &Suspect) -> impl Future<Output = ()> + use<> {
        let (mut heard, suspect) = (self.vouched.subscribe(), suspect.clone());
        async move {
            loop {
                match heard.recv().await {
                    Ok(other) if other == suspect => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    // Never: the sender outlives who listens.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        }
    }

    fn had(&self) -> MutexGuard<'_, HashMap<Suspect, Instant>> {
        self.had.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::task::TaskId;

    fn suspect(task: u64, attempt: u32) -> Suspect {
        Suspect { routing_key: "job".into(), task: TaskId(task), attempt }
    }

    #[test]
    fn what_was_here_is_remembered_for_a_while_after_its_end() {
        let (witness, begun) = (Witness::default(), Instant::now());
        witness.note(suspect(1, 0), begun);
        witness.note(suspect(2, 0), begun);
        assert!(
            witness.has_had(&suspect(1, 0)) && !witness.has_had(&suspect(1, 1)) && !witness.has_had(&suspect(3, 0))
        );
        witness.note(suspect(1, 0), begun + Duration::from_secs(100));
        witness.reap(begun + REMEMBERED);
        assert!(witness.has_had(&suspect(1, 0)) && !witness.has_had(&suspect(2, 0)));
    }

    #[test]
    fn a_word_for_one_task_is_not_one_for_another() {
        let witness = Witness::default();
        witness.hear(suspect(1, 0));
        let vouched = witness.vouched_for(&suspect(1, 0));
        tokio::pin!(vouched);
        assert!(vouched.as_mut().now_or_never().is_none(), "that was before");
        witness.hear(suspect(2, 0));
        witness.hear(suspect(1, 1));
        assert!(vouched.as_mut().now_or_never().is_none());
        // More than can be kept: who lags behind hears the next one.
        (0..100).for_each(|task| witness.hear(suspect(task, 7)));
        witness.hear(suspect(1, 0));
        assert!(vouched.as_mut().now_or_never().is_some());
    }
}
