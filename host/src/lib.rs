//! Palfrey: a distributed task system whose workers never have to be rebuilt.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod channel;
pub mod config;
mod connect;
pub mod directive;
pub mod engine;
pub mod plugin;
pub mod queue;
pub mod runtime;
pub mod task;
pub mod worker;

pub use config::Config;
pub use connect::ConnectError;
pub use directive::JobError;
pub use runtime::Runtime;
pub use worker::WorkerRuntime;
