//! Jobs whose program is gone, found out while their tasks run.
//!
//! A program that dies tells nobody. The queue of its results goes away by itself after some time, and whoever has a result to
//! send learns of it then; but a task that runs for hours has none. Hence a worker looks.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};

use super::{Chain, processing::Processing};
use crate::{
    queue::QueueError,
    task::{AnyTaskResult, RoutingKey},
};

/// How often a worker looks. Tasks that end between two looks cost nothing.
const LOOK: Duration = Duration::from_secs(5);

impl Processing {
    /// Stops the tasks of jobs whose results nobody can receive, until no more tasks are to begin.
    pub(super) async fn watch_leases(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = async {
            let mut earlier = HashSet::new();
            loop {
                look.tick().await;
                let running: HashSet<_> = self.jobs.under_way().into_iter().collect();
                let jobs: HashSet<_> = running.intersection(&earlier).map(|(job, _)| job).collect();
                for job in jobs {
                    self.look_at(job).await;
                }
                earlier = running;
            }
        };
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {}
            () = watching => {}
        }
    }

    async fn look_at(&self, job: &RoutingKey) {
        match self.worker.channels.leased::<AnyTaskResult>(job).status().await {
            Ok(_) => {}
            Err(QueueError::NoSuchQueue(_)) => {
                let stopped = self.jobs.terminate(job, Instant::now());
                tracing::info!(%job, stopped, "nobody can receive the results of this job any more; its tasks are stopped");
            }
            Err(error) => {
                tracing::debug!(%job, error = %Chain(&error), "could not look for the queue of a job's results")
            }
        }
    }
}
