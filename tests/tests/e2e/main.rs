//! Everything together: real components, worker processes, the command line, RabbitMQ.
//!
//! `cargo xtask test` runs them. By hand: `cargo xtask plugins`, `cargo build --bin palfrey`, and
//! `cargo test -p palfrey-tests --test e2e hot_deployment -- --nocapture`, which shows a deployment step by step.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken_messages;
mod dead_letters;
mod draining;
mod examples;
mod failures;
mod grants;
mod handed_on;
mod health;
mod hostile_guests;
mod hot_deployment;
mod jobs;
mod operator;
mod permissions;
mod presence;
mod refused_components;
mod refused_connections;
mod secrets;
mod signals;
mod soaking;
mod suspects;
mod terminated_jobs;
mod tls;
mod trust;

use palfrey_host::directive::{BatchSize, JobOptions};

/// So many elements in each task.
fn batches_of(size: usize) -> JobOptions {
    JobOptions::default().batch_size(BatchSize::Fixed(size.try_into().unwrap()))
}

/// A text in which every place can be told from every other.
fn long_text(length: usize) -> String {
    (0..).flat_map(|number: u32| format!("{number} ").into_bytes()).map(char::from).take(length).collect()
}
