//! Where the time of tasks goes, from the events that an orchestrator writes about each of them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// Sums over tasks, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    tasks: u64,
    elements: u64,
    round_trip: u64,
    waited: u64,
    execution: u64,
}

/// Adds up what it hears.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Arc<Mutex<Sums>>);

impl Times {
    /// What was heard since this was asked before.
    pub(crate) fn take(&self) -> Explained {
        Explained(std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<S: Subscriber> Layer<S> for Times {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "palfrey::times" {
            return;
        }
        let mut task = Sums { tasks: 1, ..Sums::default() };
        event.record(&mut task);
        // Workers in this process write such events as well, without a round trip.
        if task.elements > 0 {
            let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sums.tasks += task.tasks;
            sums.elements += task.elements;
            sums.round_trip += task.round_trip;
            sums.waited += task.waited;
            sums.execution += task.execution;
        }
    }
}

impl Visit for Sums {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "elements" => self.elements = value,
            "round_trip" => self.round_trip = value,
            "waited" => self.waited = value,
            "execution" => self.execution = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Where it went.
pub(crate) struct Explained(Sums);

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums { tasks, elements, round_trip, waited, execution } = self.0;
        if tasks == 0 {
            return write!(f, "no task was answered");
        }
        let way = round_trip.saturating_sub(waited + execution);
        let mean = |sum: u64| sum as f64 / tasks as f64 / 1e3;
        let share = |sum: u64| 100.0 * sum as f64 / round_trip.max(1) as f64;
        writeln!(
            f,
            "{tasks} tasks of {:.0} elements, {:.2} ms from sending to having the result, of which",
            elements as f64 / tasks as f64,
            mean(round_trip)
        )?;
        writeln!(f, "  {:8.2} ms  {:3.0} %  queued and on the way there and back", mean(way), share(way))?;
        writeln!(f, "  {:8.2} ms  {:3.0} %  held by the worker until a slot is free", mean(waited), share(waited))?;
        write!(
            f,
            "  {:8.2} ms  {:3.0} %  executing, the instance included: {:.1} ns an element",
            mean(execution),
            share(execution),
            1e3 * execution as f64 / elements as f64
        )
    }
}
