//! Where the time of tasks goes, from the events that an orchestrator and its workers write about each of them.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, registry::LookupSpan};

/// What was heard, in microseconds. Of each event only what it counts is set.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Sums {
    /// An orchestrator was answered.
    tasks: u64,
    elements: u64,
    round_trip: u64,
    waited: u64,
    execution: u64,
    /// An instance was called.
    calls: u64,
    instantiating: u64,
    executing: u64,
    /// A message was published.
    messages: u64,
    publishing: u64,
    confirming: u64,
    /// A worker was done with a task.
    executed: u64,
    sending: u64,
}

/// Adds up what it hears while it listens. Clones share the sums.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    sums: Arc<Mutex<Sums>>,
    listens: Arc<AtomicBool>,
}

impl Times {
    /// Hears these events only: nothing else is written because of it.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        self.clone().with_filter(Targets::new().with_target("palfrey::times", Level::TRACE))
    }

    pub(crate) fn listen(&self, listens: bool) {
        self.listens.store(listens, Ordering::Relaxed);
    }

    /// What was heard since this was asked before.
    pub(crate) fn take(&self) -> Sums {
        std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Times {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !self.listens.load(Ordering::Relaxed) {
            return;
        }
        let mut one = Sums::default();
        event.record(&mut one);
        let has = |field: &str| u64::from(event.metadata().fields().field(field).is_some());
        (one.tasks, one.calls, one.messages, one.executed) =
            (has("round_trip"), has("executing"), has("confirming"), has("sending"));
        // The orchestrator has heard of these as well.
        if one.executed > 0 {
            (one.waited, one.execution) = (0, 0);
        }
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).add(&one);
    }
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.elements += other.elements;
        self.round_trip += other.round_trip;
        self.waited += other.waited;
        self.execution += other.execution;
        self.calls += other.calls;
        self.instantiating += other.instantiating;
        self.executing += other.executing;
        self.messages += other.messages;
        self.publishing += other.publishing;
        self.confirming += other.confirming;
        self.executed += other.executed;
        self.sending += other.sending;
    }
}

impl Visit for Sums {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "elements" => self.elements = value,
            "round_trip" => self.round_trip = value,
            "waited" => self.waited = value,
            "execution" => self.execution = value,
            "instantiating" => self.instantiating = value,
            "executing" => self.executing = value,
            "publishing" => self.publishing = value,
            "confirming" => self.confirming = value,
            "sending" => self.sending = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Where it went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Explained {
    pub(crate) orchestrator: Sums,
    /// All of them together. The same sums if they are in the orchestrator's process.
    pub(crate) workers: Sums,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orchestrator, workers } = self;
        let Sums { tasks, elements, round_trip, waited, execution, .. } = *orchestrator;
        if tasks == 0 {
            return write!(f, "no task was answered");
        }
        // Microseconds of the mean task.
        let mean = |sum: u64, of: u64| sum as f64 / of.max(1) as f64;
        let of_task = |sum: u64| mean(sum, tasks);
        let all = of_task(round_trip);
        let sent = mean(orchestrator.publishing, orchestrator.messages);
        let answered = mean(workers.publishing, workers.messages);
        let [instantiating, executing] =
            [workers.instantiating, workers.executing].map(|sum| mean(sum, workers.executed));
        let around = (of_task(execution) - instantiating - executing).max(0.0);
        let way = (all - sent - answered - of_task(waited) - of_task(execution)).max(0.0);
        writeln!(
            f,
            "{tasks} tasks of {:.0} elements, {:.3} ms from sending one until its result is there, of which",
            of_task(elements),
            all / 1e3
        )?;
        let mut line = |micros: f64, what: &str| {
            writeln!(f, "  {:9.3} ms  {:3.0} %  {what}", micros / 1e3, 100.0 * micros / all.max(1.0))
        };
        line(sent, "publishing: until the client library has the task")?;
        line(way, "queued, and on the way there and back")?;
        line(of_task(waited), "fetched: held by the worker until a slot is free")?;
        line(instantiating, "instantiating")?;
        let each = 1e3 * executing * tasks as f64 / elements.max(1) as f64;
        line(executing, &format!("executing: {each:.1} ns an element"))?;
        line(around, "on the slot beside that: state, checks")?;
        line(answered, "publishing: until the client library of the worker has the result")?;
        write!(
            f,
            "while, beside that, the broker takes {:.3} ms to confirm a task, and {:.3} ms to confirm a result\n\
             ({:.3} ms from the end of the execution until its task can be acknowledged)",
            mean(orchestrator.confirming, orchestrator.messages) / 1e3,
            mean(workers.confirming, workers.messages) / 1e3,
            mean(workers.sending, workers.executed) / 1e3
        )
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn events_are_added_up_while_it_listens_and_others_are_not_enabled() {
        let times = Times::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(times.layer()), || {
            let say = || {
                tracing::trace!(target: "palfrey::times", elements = 3_u64, round_trip = 50_u64, waited = 5_u64, execution = 20_u64);
                tracing::trace!(target: "palfrey::times", instantiating = 2_u64, executing = 10_u64);
                tracing::trace!(target: "palfrey::times", waited = 5_u64, execution = 20_u64, sending = 7_u64);
            };
            say();
            times.listen(true);
            say();
            say();
            assert!(!tracing::enabled!(target: "lapin", Level::ERROR));
        });
        let Sums { tasks, elements, round_trip, waited, execution, calls, executing, executed, sending, .. } =
            times.take();
        assert_eq!((tasks, elements, round_trip, waited, execution), (2, 6, 100, 10, 40));
        assert_eq!((calls, executing, executed, sending), (2, 20, 2, 14));
        assert_eq!(times.take().tasks, 0);
    }
}
