//! The engine against guests that misbehave.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod determinism;
mod guests;
mod limits;
mod loading;
mod results;
mod slots;
mod speech;
