//! Explores the interleavings of the host's synchronisation.
//!
//! The modules below are the host's own sources, compiled once more: what they call `crate::sync` is here a scheduler's. Each
//! scenario is a few threads that use one of them; the tests run it with every order of its steps that a search finds, or
//! with a hundred thousand drawn ones where there are too many. A failure prints its schedule, which `shuttle::replay` repeats.
//!
//! Everything explored synchronises by mutexes and condition variables alone, so that sequential consistency, which is what
//! shuttle has, is the whole truth; a model of weak memory would find no more.

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "../../../host/src/runtime/inbox/jobs.rs"]
mod inbox;
#[path = "../../../host/src/worker/jobs.rs"]
#[expect(dead_code, reason = "a scenario does not use all of it")]
mod jobs;
#[path = "../../../host/src/engine/permits.rs"]
mod permits;
#[path = "../../../host/src/channel/record.rs"]
#[expect(dead_code, reason = "a scenario does not use all of it")]
mod record;
#[path = "../../../host/src/queue/in_memory/shared.rs"]
#[expect(dead_code, reason = "a scenario does not use all of it")]
mod shared;

pub mod scenarios;
mod twins;

use twins::{queue, task};
