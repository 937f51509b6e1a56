//! What end-to-end tests are made of: the real binary, real components, a real broker.
//!
//! A test begins with a [`World`], a virtual host on the broker that tests share, and has it to itself: the names that
//! Palfrey uses there are fixed. [`World::worker`] starts a process that ends with its [`Worker`], in whatever way the
//! test ends; [`World::palfrey`] runs the command line. What happens in other processes is awaited in their logs, by
//! [`Log::until`]. Everything has an end: see [`soon`].
//!
//! What is to go wrong takes place in a [`Scene`]: it puts a [`Proxy`] in front of every process, runs jobs whose answers
//! are known ([`Exact`]), and knows what must be true afterwards.
//!
//! Workers share compiled code, as those of a machine do; a test about that names a `--cache-dir` of its own.

mod artifacts;
mod deployments;
mod exact;
pub mod hostile;
mod log;
mod proxy;
mod scene;
pub mod soak;
mod usage;
mod worker;
mod world;

use std::time::Duration;

pub use artifacts::{cache_dir, component, component_file, example_file, palfrey_file, target};
pub use deployments::Deployments;
pub use exact::{BATCH, ELEMENTS, Exact, FREE};
pub use log::Log;
pub use proxy::{Conduct, Frame, Proxy, Side};
pub use scene::{Program, Queue, Remote, Scene};
pub use usage::Usage;
pub use worker::Worker;
pub use world::{Ran, World};

/// As long as anything may take. Most of it takes milliseconds, but for what waits until a broker is back after minutes.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Fails instead of waiting for ever.
///
/// # Panics
/// If it is not ready within [`PATIENCE`].
#[track_caller]
pub fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_) => panic!("{caller}: this took longer than {PATIENCE:?}"),
        }
    }
}
