//! What somebody who gets no results is waiting for.

use std::time::Duration;

use crate::{channel::Channel, task::AnyTask};

/// Whoever waits this long without a result says what for.
pub(crate) const STALL: Duration = Duration::from_secs(2);

/// How long the broker has for an answer. While the connection is lost it gives none.
const ANSWER: Duration = Duration::from_secs(1);

/// What the sender of some tasks is waiting for, in words for people.
pub(crate) async fn diagnosis(workers: &Channel<AnyTask>, in_flight: usize) -> String {
    let bus = workers.name();
    let Ok(status) = tokio::time::timeout(ANSWER, workers.status()).await else {
        return format!("the broker does not answer ({in_flight} tasks are sent)");
    };
    match status {
        Ok(status) if status.consumers == 0 => format!(
            "no worker takes tasks from `{bus}` ({in_flight} are sent); start one with `palfrey worker`, or check the \
             task-bus routing key"
        ),
        Ok(status) => format!(
            "{in_flight} tasks are with {} workers of `{bus}`, where {} tasks wait",
            status.consumers, status.messages
        ),
        Err(error) => format!("the state of `{bus}` is unknown: {error}"),
    }
}
