//! Asks everybody, and tells somebody.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use tokio::time::Instant;

use crate::{
    channel::{Channel, ChannelFactory, LeaseGuard, Receiver, Sender},
    presence::{ANSWERED, Answer, CommandError, JobStatus, PATIENCE, QUIET, Survey, WorkerStatus, find},
    queue::QueueError,
    task::{AnyTask, RoutingKey},
    worker::WorkerIpc,
};

/// Somebody who asks.
pub(super) struct Asker<'a> {
    pub(super) channels: &'a ChannelFactory,
    pub(super) ipc: &'a Sender<WorkerIpc>,
    pub(super) tasks: &'a Channel<AnyTask>,
}

impl Asker<'_> {
    /// Asks everybody. It takes a little longer than [`QUIET`], and [`PATIENCE`] if a worker does not answer.
    pub(super) async fn survey(&self) -> Result<Survey, QueueError> {
        self.survey_until(|_| true).await
    }

    /// The same, and also [`PATIENCE`] if what is looked for has not answered: who gets no processor is slow to.
    async fn survey_until(&self, has_answered: impl Fn(&Heard) -> bool) -> Result<Survey, QueueError> {
        let (reply_to, mut answers) = self.lease().await?;
        // A worker that begins between this and the question answers as well; one that ends leaves somebody to wait for.
        let receivers = self.tasks.status().await?.consumers;
        self.ipc.publish(&WorkerIpc::Report { reply_to }).await?;
        let mut heard = Heard::default();
        let patience = Instant::now() + PATIENCE;
        loop {
            let all_answered = heard.serving(self.tasks.name()) >= receivers && has_answered(&heard);
            let until = if all_answered { Instant::now() + QUIET } else { patience };
            match tokio::time::timeout_at(until, answers.next()).await {
                Ok(Some((answer, acker))) => {
                    heard.add(answer);
                    // If it fails the answer comes once more, and changes nothing.
                    _ = acker.ack().await;
                }
                Ok(None) => return Err(QueueError::Closed),
                Err(_) => break,
            }
        }
        answers.release().await;
        Ok(heard.survey(self.tasks.name(), receivers))
    }

    /// Ends a job. `name` is the beginning of its ID.
    pub(super) async fn cancel(&self, name: &str, by: String) -> Result<JobStatus, CommandError> {
        let is_meant = |id: &RoutingKey| id.as_str().starts_with(name);
        let jobs = self.survey_until(|heard| heard.jobs.keys().any(is_meant)).await?.jobs;
        let id = find("job", name, jobs.iter().map(|job| job.id.as_str()))?.to_owned();
        let routing_key = RoutingKey::from(id.as_str());
        self.tell("job", &id, |reply_to| WorkerIpc::Cancel { routing_key, by, reply_to }).await?;
        let job = jobs.into_iter().find(|job| job.id.as_str() == id);
        job.ok_or(CommandError::NoAnswer { what: "job", name: id })
    }

    /// Tells a worker to end. `name` is the beginning of its identity.
    pub(super) async fn drain(&self, name: &str, by: String) -> Result<WorkerStatus, CommandError> {
        let is_meant = |identity: &String| identity.starts_with(name);
        let workers = self.survey_until(|heard| heard.workers.keys().any(is_meant)).await?.workers;
        let identity = find("worker", name, workers.iter().map(|worker| worker.identity.as_str()))?.to_owned();
        let worker = identity.clone();
        self.tell("worker", &identity, |reply_to| WorkerIpc::Drain { worker, by, reply_to }).await?;
        let worker = workers.into_iter().find(|worker| worker.identity == identity);
        worker.ok_or(CommandError::NoAnswer { what: "worker", name: identity })
    }

    async fn tell(
        &self,
        what: &'static str,
        name: &str,
        command: impl FnOnce(RoutingKey) -> WorkerIpc,
    ) -> Result<(), CommandError> {
        let (reply_to, mut answers) = self.lease().await?;
        self.ipc.publish(&command(reply_to)).await?;
        let answered = tokio::time::timeout(ANSWERED, answers.next()).await;
        if let Ok(Some((_, acker))) = answered {
            _ = acker.ack().await;
            answers.release().await;
            return Ok(());
        }
        Err(CommandError::NoAnswer { what, name: name.to_owned() })
    }

    async fn lease(&self) -> Result<(RoutingKey, LeaseGuard<Receiver<Answer>>), QueueError> {
        let (name, channel) = self.channels.issue::<Answer>().await?;
        let answers = channel.receiver().await?;
        let release = async move {
            if let Err(error) = channel.release().await {
                tracing::debug!(%error, "a channel of answers was not released; it will expire");
            }
        };
        Ok((name, LeaseGuard::new(answers, release)))
    }
}

/// What was answered so far. An answer that comes twice counts once.
#[derive(Debug, Default)]
struct Heard {
    workers: BTreeMap<String, WorkerStatus>,
    jobs: BTreeMap<RoutingKey, JobStatus>,
}

impl Heard {
    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Worker(worker) => _ = self.workers.insert(worker.identity.clone(), worker),
            Answer::Jobs(jobs) => self.jobs.extend(jobs.into_iter().map(|job| (job.id.clone(), job))),
            Answer::Accepted => {}
        }
    }

    /// Workers that take tasks from a bus, or finish some: RabbitMQ counts a receiver as long as it holds messages.
    fn serving(&self, bus: &str) -> u64 {
        self.workers.values().filter(|worker| worker.bus == bus).count() as u64
    }

    fn survey(mut self, bus: &str, receivers: u64) -> Survey {
        let silent = receivers.saturating_sub(self.serving(bus));
        for (id, tasks) in self.workers.values().flat_map(|worker| &worker.running) {
            if let Some(job) = self.jobs.get_mut(id) {
                job.running += u64::from(*tasks);
            }
        }
        let mut jobs: Vec<_> = self.jobs.into_values().collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.age));
        Survey { workers: self.workers.into_values().collect(), jobs, silent }
    }
}
