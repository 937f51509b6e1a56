//! The decisions of a job, as pure functions of what was measured.
//!
//! How many elements travel together ([`BatchRule`]), how many tasks are in flight ([`Window`]) and how many of them a worker holds
//! ([`Prefetch`]), which workers are there ([`Crew`]), which tasks are sent to them a second time ([`Hedge`]), and which partial
//! results of a fold are combined next ([`FoldTree`]). Nothing here does I/O, reads a clock or draws a random number, and the crate depends on nothing: a job of
//! `palfrey-host` and the simulator of a thousand workers ask the same functions. Programs find what concerns them in `palfrey_host::directive`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod batch;
mod crew;
mod fold_tree;
mod hedge;
mod prefetch;
mod window;

pub use batch::{BatchRule, BatchSize, Executed, Pace};
pub use crew::Crew;
pub use fold_tree::{FoldTree, Phase};
pub use hedge::{COMBINING, Hedge, Seen, Unanswered, hedge_every, tell_every};
pub use prefetch::Prefetch;
pub use window::Window;
