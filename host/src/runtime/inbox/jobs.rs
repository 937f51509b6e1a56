//! The jobs to which results can be handed over, until the queue of results is gone. No I/O.

use std::collections::HashMap;

use crate::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::RoutingKey,
};

/// Open jobs, each with the way to whoever reads its results; `None` once no more come.
#[derive(Debug)]
pub(super) struct Jobs<S>(Mutex<Option<HashMap<RoutingKey, S>>>);

impl<S> Jobs<S> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    fn ways(&self) -> MutexGuard<'_, Option<HashMap<RoutingKey, S>>> {
        // Each section is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a job. `false` if no more results come.
    pub(super) fn open(&self, job: RoutingKey, way: S) -> bool {
        match self.ways().as_mut() {
            Some(ways) => {
                ways.insert(job, way);
                true
            }
            None => false,
        }
    }

    /// Nobody reads the results of a job any more: none is handed over from here on.
    pub(super) fn close(&self, job: &RoutingKey) {
        let _way = self.ways().as_mut().and_then(|ways| ways.remove(job));
    }

    /// Whether somebody reads the results of a job.
    pub(super) fn is_open(&self, job: &RoutingKey) -> bool {
        self.ways().as_ref().is_some_and(|ways| ways.contains_key(job))
    }

    /// Hands a delivery to its job, or back if that is not open. Sending must not wait.
    pub(super) fn hand_over<D>(
        &self,
        job: &RoutingKey,
        delivery: D,
        send: impl FnOnce(&S, D) -> Result<(), D>,
    ) -> Result<(), D> {
        match self.ways().as_ref().and_then(|ways| ways.get(job)) {
            Some(way) => send(way, delivery),
            None => Err(delivery),
        }
    }

    /// No more results come: those who read some learn that there are no others.
    pub(super) fn end(&self) {
        let _ways = self.ways().take();
    }
}
