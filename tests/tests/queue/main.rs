//! Queues keep their promises: the same suite in memory and on RabbitMQ, and what only a broker can do wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod headers;
mod recovery;
mod refusals;
mod world;
