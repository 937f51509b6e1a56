//! A discrete-event simulation of one job on modelled brokers and workers.
//!
//! The decisions are the real ones: batches, tasks in flight, second copies and folds come from `palfrey-schedule`, which a
//! job of `palfrey-host` asks as well. Modelled are the durations of elements ([`work`]), and what a broker, a network, an
//! orchestrator and workers take for a message ([`cluster`]). Start with [`simulate`](simulation::simulate), which runs one
//! job; `scenarios` are those that `cargo xtask simulate` runs, and `plot` draws them.
//!
//! A simulation is a function of its seed.

pub mod cluster;
pub mod plot;
pub mod scenarios;
pub mod simulation;
pub mod work;
