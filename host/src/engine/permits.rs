//! The permits in front of the pool of instances.

use crate::sync::{Condvar, Mutex, PoisonError};

/// A counting semaphore for threads: an exhausted pool of instances is an error, so whoever wants an instance waits here.
pub(super) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

/// One permit. It returns when dropped.
pub(super) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), returned: Condvar::new() }
    }

    pub(super) fn acquire(&self) -> Permit<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.returned.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        thread,
    };

    use super::*;

    #[test]
    fn no_more_permits_are_out_than_there_are() {
        let permits = Permits::new(2);
        let (out, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _permit = permits.acquire();
                        most.fetch_max(out.fetch_add(1, SeqCst) + 1, SeqCst);
                        out.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        assert!(most.load(SeqCst) <= 2);
    }
}
