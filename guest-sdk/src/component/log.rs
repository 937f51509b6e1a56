//! A subscriber that sends events to the worker's log.
//!
//! The worker filters, bounds and stamps them. Spans have no counterpart there: the worker's own span names the task. So
//! they are accepted and forgotten, and this module needs no more than `tracing` itself.

use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::component::context;

/// Makes it the subscriber of the whole component. An author who installed another one keeps it.
pub(super) fn install() {
    let _ = tracing::subscriber::set_global_default(WorkerLog { spans: AtomicU64::new(0) });
}

struct WorkerLog {
    spans: AtomicU64,
}

impl Subscriber for WorkerLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        context::log(level(*metadata.level()), metadata.target(), &line.into_text());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level(level: Level) -> context::Level {
    match level {
        Level::TRACE => context::Level::Trace,
        Level::DEBUG => context::Level::Debug,
        Level::INFO => context::Level::Info,
        Level::WARN => context::Level::Warn,
        Level::ERROR => context::Level::Error,
    }
}

/// An event as text: the message, and behind it the fields as `name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
    }

    fn into_text(mut self) -> String {
        self.message.push_str(&self.fields);
        match self.message.strip_prefix(' ') {
            Some(fields) => fields.to_owned(),
            None => self.message,
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.write(field, format_args!("{value:?}")),
        }
    }
}
