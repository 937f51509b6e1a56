//! Palfrey: a distributed task system whose workers never have to be rebuilt.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![warn(missing_docs)]

pub mod engine;
pub mod plugin;
pub mod queue;
pub mod task;
