//! How long elements took in earlier jobs of a runtime, so that small ones need not find out each time.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use palfrey_schedule::Pace;

use crate::task::Stage;

/// Different stages that are remembered. Beyond that everything is forgotten: what runs again is soon known again.
const MOST: usize = 1024;

/// Paces by what is executed: all stages with their code and their configs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paces {
    state: RandomState,
    known: Arc<Mutex<HashMap<u64, Pace>>>,
}

/// The memory of the pace of some stages.
#[derive(Debug)]
pub(crate) struct Remembered {
    paces: Paces,
    stages: u64,
}

impl Paces {
    pub(crate) fn of(&self, stages: &[Stage]) -> Remembered {
        let named = |stage: &Stage| {
            let Stage { operation, digest, config, apply } = stage;
            self.state.hash_one((operation.plugin(), operation.operation(), digest, config, apply))
        };
        let stages = self.state.hash_one(stages.iter().map(named).collect::<Vec<_>>());
        Remembered { paces: self.clone(), stages }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Pace>> {
        // Each section leaves it whole, whatever panics.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    /// What was measured last.
    pub(crate) fn pace(&self) -> Option<Pace> {
        self.paces.known().get(&self.stages).copied()
    }

    /// This was measured.
    pub(crate) fn set(&self, pace: Pace) {
        let mut known = self.paces.known();
        if known.len() >= MOST && !known.contains_key(&self.stages) {
            known.clear();
        }
        known.insert(self.stages, pace);
    }
}
