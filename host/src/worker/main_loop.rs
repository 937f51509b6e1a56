//! The loop of a worker: it takes tasks until it is to end, and then finishes or hands back what is under way.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt as _, StreamExt,
    future::{Fuse, FusedFuture as _},
    stream::BoxStream,
};
use tokio::{task::JoinSet, time::Instant};

use super::{TERMINATED_FOR, WorkerIpc, WorkerRuntime, activity::Phase, control::Control, processing::Processing};
use crate::queue::{Delivery, QueueError};

/// How long a worker that ends tries to hand back what it could not finish.
const HANDING_BACK: Duration = Duration::from_secs(2);

impl WorkerRuntime {
    /// Takes tasks and executes them until `shutdown` is ready, or an operator wants this worker to
    /// [end](crate::Runtime::drain). Then no more are taken, those that have not begun are handed back, and those that run
    /// are finished, or handed back as well when [`Config::drain_timeout`](crate::Config::drain_timeout) is over. Dropping
    /// the future instead stops the guests, and the broker gives their tasks to other workers.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses at the start, or the connection is closed from this side.
    pub async fn main_loop(&self, shutdown: impl Future<Output = ()>) -> Result<(), QueueError> {
        self.serve(Processing::new(self.clone(), TERMINATED_FOR), shutdown).await
    }

    async fn serve(&self, processing: Arc<Processing>, shutdown: impl Future<Output = ()>) -> Result<(), QueueError> {
        tokio::pin!(shutdown);
        let mut held = processing.holding.tasks();
        let opened = async {
            let prefetch = *held.borrow_and_update();
            let tasks = self.deliveries(prefetch).await?;
            Ok::<_, QueueError>((tasks, self.get_ipc_receiver().await?))
        };
        let (mut tasks, mut ipc) = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            opened = opened => opened?,
        };
        let mut subscribing = Fuse::terminated();
        let mut reaper = tokio::time::interval(processing.jobs.remembers());
        let mut under_way = JoinSet::new();
        let mut control = Control::new(self, processing.clone());
        let drain = control.drain();
        // A worker that was started because another one died looks for the reason before it begins with anything else.
        let permits = std::iter::from_fn(|| self.slots.clone().try_acquire_owned().ok()).collect();
        let (suspects, jobs) = (processing.clone().watch_suspects(permits), processing.clone().watch_jobs());
        under_way.spawn(async { _ = tokio::join!(suspects, jobs) });
        self.activity.enter(Phase::Taking);
        tracing::info!(worker = %self.identity, slots = self.engine.slots(), bus = self.tasks.name(), "taking tasks");
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = drain.cancelled() => break,
                message = ipc.next() => match message {
                    // All but the one that watches are tasks.
                    Some(message) => control.hear(message, under_way.len().saturating_sub(1)),
                    // An error, if the connection was closed rather than the channel deleted.
                    None => ipc = self.get_ipc_receiver().await?,
                },
                () = control.keep_beating() => {}
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => check(ended),
                _ = reaper.tick() => processing.jobs.reap(Instant::now()),
                Ok(()) = held.changed(), if subscribing.is_terminated() => {
                    subscribing = self.deliveries(*held.borrow_and_update()).boxed().fuse();
                }
                // What the one before has not handed over goes back to the broker.
                subscribed = &mut subscribing, if !subscribing.is_terminated() => tasks = subscribed?,
                delivery = tasks.next() => match delivery {
                    Some(delivery) => {
                        let processing = processing.clone();
                        under_way.spawn(async move { processing.receive(delivery).await });
                    }
                    None => {
                        // An error, if the connection was closed rather than the queue deleted.
                        let prefetch = *held.borrow_and_update();
                        tasks = self.deliveries(prefetch).await?;
                        tracing::warn!(bus = self.tasks.name(), "the queue of tasks was deleted; it is there again");
                    }
                },
            }
        }
        self.activity.enter(Phase::Draining);
        let tasks_under_way = under_way.len().saturating_sub(1);
        tracing::info!(worker = %self.identity, under_way = tasks_under_way, "taking no more tasks");
        drop(tasks);
        self.finish(&processing, under_way, ipc, control).await;
        Ok(())
    }

    /// Waits for what is under way, as long as [`Config::drain_timeout`](crate::Config::drain_timeout) allows.
    async fn finish(
        &self,
        processing: &Processing,
        mut under_way: JoinSet<()>,
        mut ipc: BoxStream<'static, WorkerIpc>,
        mut control: Control<'_>,
    ) {
        processing.closing.cancel();
        let limit = tokio::time::sleep(self.drain_timeout);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                ended = under_way.join_next() => match ended {
                    Some(ended) => check(ended),
                    None => return control.finish().await,
                },
                Some(message) = ipc.next() => control.hear(message, under_way.len()),
                () = control.keep_beating() => {}
                () = &mut limit => {
                    if processing.over.is_cancelled() {
                        // Nothing waits for a broker that does not answer: it hands on by itself what is not settled.
                        return under_way.shutdown().await;
                    }
                    let under_way = under_way.len();
                    tracing::warn!(under_way, "handing back what is not finished after {:?}", self.drain_timeout);
                    processing.over.cancel();
                    limit.as_mut().reset(Instant::now() + HANDING_BACK);
                }
            }
        }
    }

    /// The deliveries of tasks, so many at a time, from a queue that is made unless it exists, with all that goes with it.
    async fn deliveries(&self, prefetch: u16) -> Result<BoxStream<'static, Delivery>, QueueError> {
        self.channels.connection().declare(self.tasks.spec()).await?;
        self.tasks.clone().with_prefetch(prefetch).deliveries().await
    }
}

fn check(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "processing a task panicked; it will be delivered again");
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{Config, Runtime, task::RoutingKey};

    #[tokio::test]
    async fn a_main_loop_forgets_jobs_that_were_terminated_long_ago() {
        let runtime = Runtime::from_config(&Config { workers: 0, ..Config::default() }).await.unwrap();
        let worker = runtime.worker_in_memory().unwrap();
        let processing = Processing::new(worker.clone(), Duration::from_millis(20));
        let (job, shutdown) = (RoutingKey::from("job"), CancellationToken::new());
        processing.jobs.terminate(&job, Instant::now());
        let main_loop = worker.serve(processing.clone(), shutdown.cancelled());
        let forgotten = async {
            while processing.jobs.remembers_end_of(&job) {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        let both = futures::future::join(main_loop, forgotten);
        let (ended, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("it is forgotten");
        ended.unwrap();
    }
}
