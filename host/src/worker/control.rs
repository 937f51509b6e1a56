//! What a worker hears on the channel that everybody hears, and what it answers.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    Chain, Suspect, WorkerIpc, WorkerRuntime,
    activity::{Executing, Phase},
    processing::Processing,
    terminate,
};
use crate::{
    presence::{Answer, LoadedPlugin, PATIENCE, WorkerStatus},
    task::RoutingKey,
};

/// How often a loop shows that it goes round.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// The ear of a main loop. Answers that are under way are dropped with it.
pub(super) struct Control<'a> {
    worker: &'a WorkerRuntime,
    processing: Arc<Processing>,
    answers: JoinSet<()>,
    beat: Interval,
    drain: CancellationToken,
}

impl<'a> Control<'a> {
    pub(super) fn new(worker: &'a WorkerRuntime, processing: Arc<Processing>) -> Self {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { worker, processing, answers: JoinSet::new(), beat, drain: CancellationToken::new() }
    }

    /// Cancelled when somebody wants the worker to end.
    pub(super) fn drain(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Shows once in a while that the loop goes round. It never ends.
    pub(super) async fn keep_beating(&mut self) {
        loop {
            self.beat.tick().await;
            self.worker.activity.beat();
            while self.answers.try_join_next().is_some() {}
        }
    }

    /// Does as it is told; `held` tasks are under way. It waits for nothing.
    pub(super) fn hear(&mut self, message: WorkerIpc, held: usize) {
        match message {
            WorkerIpc::Terminate { routing_key } => terminate(&self.processing, &routing_key),
            WorkerIpc::Answered { routing_key, tasks } => {
                for task in tasks {
                    let stopped = self.processing.jobs.answered(&routing_key, task, Instant::now());
                    tracing::debug!(job = %routing_key, %task, stopped, "somebody else was first with a task");
                }
            }
            WorkerIpc::Report { reply_to } => self.answer(reply_to, Answer::Worker(self.worker.status(held))),
            WorkerIpc::Drain { worker, by, reply_to } if worker == self.worker.identity() => {
                tracing::info!(worker, by, "told to end: finishing what is under way");
                self.drain.cancel();
                self.answer(reply_to, Answer::Accepted);
            }
            WorkerIpc::Accuse(suspect) if self.processing.witness.has_had(&suspect) => self.vouch(suspect),
            WorkerIpc::Vouch(suspect) => self.processing.witness.hear(suspect),
            // To others.
            WorkerIpc::Drain { .. } | WorkerIpc::Cancel { .. } | WorkerIpc::Accuse(_) => {}
        }
    }

    fn answer(&mut self, reply_to: RoutingKey, answer: Answer) {
        let channels = self.worker.channels.clone();
        self.answers.spawn(async move {
            let answered = async { channels.leased(&reply_to).sender().await?.publish(&answer).await };
            match tokio::time::timeout(PATIENCE, answered).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "whoever asked is gone"),
                Err(_) => tracing::debug!("an answer could not be sent in time"),
            }
        });
    }

    fn vouch(&mut self, suspect: Suspect) {
        let worker = self.worker.clone();
        self.answers.spawn(async move {
            match tokio::time::timeout(PATIENCE, worker.tell_all(&WorkerIpc::Vouch(suspect))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error = %Chain(&error), "could not vouch for a task"),
                Err(_) => tracing::debug!("could not vouch for a task in time"),
            }
        });
    }

    /// Waits until the last answers are sent, or too late.
    pub(super) async fn finish(mut self) {
        while self.answers.join_next().await.is_some() {}
    }
}

impl WorkerRuntime {
    /// This worker as others see it; `held` tasks are under way.
    fn status(&self, held: usize) -> WorkerStatus {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let slots = self.engine.slots();
        let Executing { by_job, executed, load } = self.activity.executing();
        let running = by_job.iter().map(|(_, tasks)| tasks).sum::<u32>();
        let mut plugins: Vec<_> = self
            .plugins
            .loaded()
            .iter()
            .map(|plugin| LoadedPlugin {
                name: plugin.description().name.clone(),
                version: plugin.description().version.to_string(),
                digest: plugin.digest(),
            })
            .collect();
        plugins.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
        WorkerStatus {
            identity: self.identity.to_string(),
            process: self.activity.process().clone(),
            bus: self.tasks.name().to_owned(),
            draining: *self.activity.phase().borrow() == Phase::Draining,
            slots: number(slots),
            waiting: number(held).saturating_sub(running),
            running: by_job,
            load: (load / slots.max(1) as f64) as f32,
            executed,
            plugins,
            uptime: Instant::now().duration_since(self.activity.started()),
        }
    }
}
