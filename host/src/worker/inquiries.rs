//! Jobs that are over, found out while their tasks run.
//!
//! A program that dies tells nobody. The queue of its results goes away by itself after some time, and whoever has a result to
//! send learns of it then; but a task that runs for hours has none. And a program that ends a job tells those who are there: a
//! worker whose connection is away at that moment hears nothing of it. Hence a worker asks where the results would go.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};

use super::{Chain, processing::Processing};
use crate::{
    presence::PATIENCE,
    queue::QueueError,
    task::{RoutingKey, TaskId, wire::Inquiry},
};

/// How often a worker looks what is under way. Tasks that end between two looks cost nothing.
const LOOK: Duration = Duration::from_secs(5);

impl Processing {
    /// Stops the tasks of jobs that are over, until no more tasks are to begin.
    pub(super) async fn watch_jobs(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = async {
            let mut earlier = HashSet::new();
            loop {
                look.tick().await;
                let running: HashSet<_> = self.jobs.under_way().into_iter().collect();
                let jobs: HashMap<_, _> = running.intersection(&earlier).map(|(job, task)| (job, *task)).collect();
                for (job, task) in jobs {
                    self.ask_about(job, task).await;
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

    /// Asks whether a job goes on, of which a task is under way. If not, whoever reads the results of that program's jobs tells
    /// all workers, as when the job ended.
    async fn ask_about(&self, job: &RoutingKey, task: TaskId) {
        let asking = async {
            let results = self.worker.channels.leased(job);
            // What is sent without a confirm is lost in silence where nobody is.
            results.status().await?;
            results.sender().await?.publish(&Inquiry { routing_key: job.clone(), id: task }).await
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(())) => {}
            Ok(Err(QueueError::NoSuchQueue(_))) => {
                let stopped = self.jobs.terminate(job, Instant::now());
                tracing::info!(%job, stopped, "nobody can receive the results of this job any more; its tasks are stopped");
            }
            Ok(Err(error)) => tracing::debug!(%job, error = %Chain(&error), "could not ask whether a job goes on"),
            Err(_) => tracing::debug!(%job, "could not ask in time whether a job goes on"),
        }
    }
}
