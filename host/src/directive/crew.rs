//! Which workers are there, as far as their results tell.

use std::collections::HashMap;

use crate::task::WorkerReport;

/// A worker is gone if the others have sent this many results for each of their slots since it sent its last one. No clock is
/// asked: an operation may take an hour. A worker that was only slow is back with its next result.
const SILENCE: u64 = 32;

/// The workers that have been heard of lately, with their slots.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    workers: HashMap<String, Worker>,
    results: u64,
}

#[derive(Debug)]
struct Worker {
    slots: usize,
    /// Results of all workers when it sent its last one.
    heard: u64,
}

impl Crew {
    /// A result came from a worker. One that nobody signs counts for nothing.
    pub(crate) fn heard(&mut self, report: &WorkerReport) {
        let slots = report.slots as usize;
        if slots == 0 {
            return;
        }
        self.results += 1;
        let heard = self.results;
        self.workers.insert(report.worker.clone(), Worker { slots, heard });
        let patience = SILENCE * self.slots() as u64;
        self.workers.retain(|_, worker| heard - worker.heard <= patience);
    }

    /// How many there are.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// How many tasks they execute at once.
    pub(crate) fn slots(&self) -> usize {
        self.workers.values().map(|worker| worker.slots).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(worker: &str, slots: u32) -> WorkerReport {
        WorkerReport { worker: worker.to_owned(), slots, ..WorkerReport::default() }
    }

    #[test]
    fn workers_that_are_gone_count_no_more_and_those_that_come_back_do() {
        let mut crew = Crew::default();
        crew.heard(&report("gone", 8));
        crew.heard(&report("here", 2));
        assert_eq!(crew.slots(), 10);
        for _ in 0..SILENCE * 10 {
            crew.heard(&report("here", 2));
        }
        assert_eq!(crew.slots(), 2);
        crew.heard(&report("gone", 8));
        assert_eq!(crew.slots(), 10);
    }

    #[test]
    fn slow_workers_stay_as_long_as_the_others_are_not_much_quicker() {
        let mut crew = Crew::default();
        for _ in 0..100 {
            crew.heard(&report("slow", 4));
            for _ in 0..SILENCE {
                crew.heard(&report("quick", 4));
            }
            assert_eq!(crew.slots(), 8);
        }
    }

    #[test]
    fn a_worker_alone_is_never_forgotten_and_one_that_changes_its_slots_counts_once() {
        let mut crew = Crew::default();
        for slots in [1, 2, 3] {
            crew.heard(&report("alone", slots));
        }
        crew.heard(&WorkerReport::default());
        assert_eq!(crew.slots(), 3);
    }
}
