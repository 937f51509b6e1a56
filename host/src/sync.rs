//! What threads share. The parts of this crate whose interleavings are explored take it from here: where they are explored,
//! the same sources find a twin of this module whose locks let a scheduler choose who is next.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
