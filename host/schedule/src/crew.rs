//! Which workers are there, as far as their results tell.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// A worker is gone if the others have sent this many results for each of their slots since it sent its last one. No clock is
/// asked: an operation may take an hour. A worker that was only slow is back with its next result.
const SILENCE: u64 = 32;

/// The workers that have been heard of lately, with their slots. A result costs the same however many there are, but for the
/// depth of a tree.
///
/// ```
/// use palfrey_schedule::Crew;
///
/// let mut crew = Crew::<String>::default();
/// crew.heard("one", 8);
/// crew.heard("other", 2);
/// assert_eq!((crew.workers(), crew.slots(), crew.awake()), (2, 10, 2));
/// ```
#[derive(Debug)]
pub struct Crew<K> {
    workers: HashMap<K, Worker>,
    /// The workers by their last results, the most silent one first.
    silence: BTreeMap<u64, K>,
    /// Of all of them.
    slots: usize,
    /// Of the one that sent the last result.
    awake: usize,
    results: u64,
    /// Results since a worker has come that was not known.
    since_newcomer: u64,
    /// How often one has.
    newcomers: u64,
}

#[derive(Debug)]
struct Worker {
    slots: usize,
    /// Results of all workers when it sent its last one.
    heard: u64,
}

impl<K> Default for Crew<K> {
    fn default() -> Self {
        let (workers, silence) = (HashMap::new(), BTreeMap::new());
        Self { workers, silence, slots: 0, awake: 0, results: 0, since_newcomer: 0, newcomers: 0 }
    }
}

impl<K: Clone + Eq + Hash> Crew<K> {
    /// A result came from a worker with so many slots. One without slots has not said who it is, and counts for nothing.
    pub fn heard<Q>(&mut self, worker: &Q, slots: usize)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if slots == 0 {
            return;
        }
        self.results += 1;
        self.since_newcomer += 1;
        let key = match self.workers.get_mut(worker) {
            Some(known) => {
                self.slots -= known.slots;
                known.slots = slots;
                self.silence.remove(&std::mem::replace(&mut known.heard, self.results))
            }
            None => None,
        };
        let key = key.unwrap_or_else(|| {
            (self.since_newcomer, self.newcomers) = (0, self.newcomers + 1);
            self.workers.insert(worker.to_owned(), Worker { slots, heard: self.results });
            worker.to_owned()
        });
        self.silence.insert(self.results, key);
        self.slots += slots;
        self.awake = slots;
        self.forget();
    }

    /// Forgets those that have been silent for too long. Fewer slots are less patience, which may end that of others.
    fn forget(&mut self) {
        while let Some(entry) = self.silence.first_entry()
            && self.results - *entry.key() > SILENCE * self.slots as u64
        {
            if let Some(gone) = self.workers.remove(&entry.remove()) {
                self.slots -= gone.slots;
            }
        }
    }
}

impl<K> Crew<K> {
    /// How many there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Whether there have been several, be they gone or not. One that is gone may have kept tasks.
    pub fn had_several(&self) -> bool {
        self.newcomers > 1
    }

    /// How many tasks they execute at once.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How many tasks the worker executes at once that sent the last result: if any worker is awake, that one is.
    pub fn awake(&self) -> usize {
        self.awake
    }

    /// Whether there have been so many results without one of an unknown worker that all have been heard of, most likely.
    pub fn is_complete(&self) -> bool {
        self.slots > 0 && self.since_newcomer >= 2 * self.slots as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_are_gone_count_no_more_and_those_that_come_back_do() {
        let mut crew = Crew::<String>::default();
        crew.heard("gone", 8);
        crew.heard("here", 2);
        assert_eq!(crew.slots(), 10);
        for _ in 0..SILENCE * 10 {
            crew.heard("here", 2);
        }
        assert_eq!((crew.slots(), crew.workers(), crew.had_several()), (2, 1, true));
        crew.heard("gone", 8);
        assert_eq!((crew.slots(), crew.workers()), (10, 2));
    }

    #[test]
    fn slow_workers_stay_as_long_as_the_others_are_not_much_quicker() {
        let mut crew = Crew::<String>::default();
        for _ in 0..100 {
            crew.heard("slow", 4);
            for _ in 0..SILENCE {
                crew.heard("quick", 4);
            }
            assert_eq!(crew.slots(), 8);
        }
    }

    #[test]
    fn a_worker_alone_is_never_forgotten_and_one_that_changes_its_slots_counts_once() {
        let mut crew = Crew::<String>::default();
        for slots in [1, 2, 3] {
            crew.heard("alone", slots);
        }
        crew.heard("nobody", 0);
        assert_eq!((crew.slots(), crew.workers(), crew.awake()), (3, 1, 3));
        assert!(!crew.had_several());
    }

    #[test]
    fn the_sum_is_that_of_whoever_was_heard_of_lately() {
        let mut crew = Crew::<String>::default();
        let mut last = HashMap::<String, (u64, usize)>::new();
        let mut state = 1_u64;
        for result in 1..=20_000_u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Some are heard of far less often than others.
            let (worker, slots) = ((state >> 33).trailing_zeros().to_string(), 1 + (state >> 60) as usize % 3);
            crew.heard(&worker, slots);
            last.insert(worker, (result, slots));
            while let Some(silent) = last.iter().min_by_key(|(_, (heard, _))| *heard).map(|(worker, _)| worker.clone())
                && result - last[&silent].0 > SILENCE * last.values().map(|(_, slots)| *slots as u64).sum::<u64>()
            {
                last.remove(&silent);
            }
            assert_eq!((crew.workers(), crew.slots()), (last.len(), last.values().map(|(_, slots)| slots).sum()));
        }
        assert!(last.len() > 3);
    }

    #[test]
    fn a_crew_is_complete_once_every_slot_has_answered_twice_and_nobody_new_was_among_them() {
        let mut crew = Crew::<String>::default();
        let heard = |crew: &mut Crew<String>, worker, results| (0..results).for_each(|_| crew.heard(worker, 2));
        assert!(!crew.is_complete());
        heard(&mut crew, "one", 4);
        assert!(!crew.is_complete());
        heard(&mut crew, "one", 1);
        assert!(crew.is_complete());
        heard(&mut crew, "other", 1);
        assert!(!crew.is_complete());
        heard(&mut crew, "other", 8);
        assert!(crew.is_complete());
    }
}
