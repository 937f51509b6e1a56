//! Where the tasks of a job are that nobody answers.
//!
//! Whoever deletes or purges a queue, or has a broker that forgets, loses tasks, and nobody is told. Hence a job without results
//! asks: when no queue holds a task, and no worker executes one of this job or has any that waits, then its tasks are gone. It
//! does no harm to be wrong. A task that is sent again is executed twice at worst, and its first result counts.

use std::time::Duration;

use super::ask::Asker;
use crate::{
    channel::{Channel, ChannelFactory, Sender},
    presence::Survey,
    queue::QueueError,
    task::{AnyTask, RoutingKey},
    worker::WorkerIpc,
};

/// Between two looks that have to agree: a task may be on its way from a queue to a worker.
const AGAIN: Duration = Duration::from_secs(2);

/// Whom a job asks for its tasks.
#[derive(Debug, Clone)]
pub(crate) struct Whereabouts {
    pub(super) channels: ChannelFactory,
    pub(super) ipc: Sender<WorkerIpc>,
    pub(super) tasks: Channel<AnyTask>,
}

impl Whereabouts {
    /// Whether the tasks of a job that have been sent are gone, as far as can be found out after a pause.
    pub(crate) async fn are_gone(self, job: RoutingKey, pause: Duration) -> bool {
        for pause in [pause, AGAIN] {
            tokio::time::sleep(pause).await;
            match self.nobody_has_any(&job).await {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    tracing::debug!(%job, %error, "could not find out who has the tasks of a job");
                    return false;
                }
            }
        }
        true
    }

    async fn nobody_has_any(&self, job: &RoutingKey) -> Result<bool, QueueError> {
        if !self.queues_are_empty().await? {
            return Ok(false);
        }
        let asker = Asker { channels: &self.channels, ipc: &self.ipc, tasks: &self.tasks };
        let Survey { workers, silent, .. } = asker.survey().await?;
        // Who does not answer may have all of them.
        let nobody = silent == 0
            && workers
                .iter()
                .filter(|worker| worker.bus == self.tasks.name())
                .all(|worker| worker.waiting == 0 && worker.running.iter().all(|(other, _)| other != job));
        Ok(nobody && self.queues_are_empty().await?)
    }

    async fn queues_are_empty(&self) -> Result<bool, QueueError> {
        let tasks = self.tasks.spec();
        for queue in [Some(tasks.clone()), tasks.suspects(), tasks.later()].into_iter().flatten() {
            match self.channels.connection().handle(&queue).status().await {
                Ok(status) if status.messages > 0 => return Ok(false),
                Ok(_) | Err(QueueError::NoSuchQueue(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
