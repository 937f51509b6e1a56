//! The threads on which guest code runs, one per slot.
//!
//! Guest code may hold a thread for minutes, so it never runs on a thread of tokio.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

/// Stack of a slot's thread: room for a guest's own stack ([`super::MAX_WASM_STACK`]) and generously for the host.
const STACK: usize = 4 << 20;

type Work = Box<dyn FnOnce() + Send>;

/// The threads. They end when this is dropped and the work that was handed over is done; nobody waits for that.
pub(super) struct Slots {
    queue: mpsc::Sender<Work>,
    count: usize,
}

impl Slots {
    pub(super) fn start(count: usize) -> std::io::Result<Self> {
        let (queue, work) = mpsc::channel::<Work>();
        let work = Arc::new(Mutex::new(work));
        for slot in 0..count {
            let work = Arc::clone(&work);
            thread::Builder::new().name(format!("palfrey-slot-{slot}")).stack_size(STACK).spawn(move || {
                loop {
                    // The guard lives as long as the statement: one thread waits in `recv`, the others for the lock.
                    let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(next) = next else { return };
                    next();
                }
            })?;
        }
        Ok(Self { queue, count })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = oneshot::channel();
        let span = tracing::Span::current();
        let work = move || {
            let result = catch_unwind(AssertUnwindSafe(|| span.in_scope(work)));
            // Nobody may be waiting any more.
            send.send(result).ok();
        };
        self.queue.send(Box::new(work)).expect("the threads receive as long as `self` lives");
        match receive.await.expect("the work sends its result, or the panic it ended with") {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn work_runs_on_as_many_threads_as_there_are_slots() {
        let slots = Slots::start(2).unwrap();
        let both = Arc::new(Barrier::new(2));
        let meet = || {
            let both = Arc::clone(&both);
            move || {
                both.wait();
                thread::current().name().unwrap().to_owned()
            }
        };
        let (a, b) = tokio::join!(slots.run(meet()), slots.run(meet()));
        assert!(a.starts_with("palfrey-slot-") && b.starts_with("palfrey-slot-") && a != b, "{a} {b}");
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller_and_the_slot_goes_on() {
        let slots = Arc::new(Slots::start(1).unwrap());
        let caller = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.run(|| std::panic::panic_any("oops")).await }
        });
        assert_eq!(caller.await.unwrap_err().into_panic().downcast_ref(), Some(&"oops"));
        assert_eq!(slots.run(|| 7).await, 7);
    }
}
