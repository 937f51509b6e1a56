//! The clock of the epoch: one thread that advances it about every millisecond while guest code runs.
//!
//! Without it a guest that loops is immortal, so it is watched: a call does not start without a living ticker, and a
//! dead one is replaced.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::EngineWeak;

/// How often the epoch advances: the time in which a guest notices that it is cancelled or late.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The thread goes on for so many ticks when nothing runs: short calls that come one after the other need not wake it each time.
const LINGERING: u32 = 32;

/// Starts the thread, and ends it when dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Mutex<JoinHandle<()>>,
}

struct Shared {
    engine: EngineWeak,
    /// Calls under way. Some ticks after the last one the thread sleeps.
    running: AtomicUsize,
    /// Whether it sleeps, or is about to.
    asleep: AtomicBool,
    stop: AtomicBool,
    alive: AtomicBool,
    /// Makes the thread end by itself, as if it had panicked.
    #[cfg(test)]
    die: AtomicBool,
}

/// While it lives, the epoch advances.
pub(super) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            engine,
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            alive: AtomicBool::new(false),
            #[cfg(test)]
            die: AtomicBool::new(false),
        });
        let thread = Mutex::new(spawn(&shared)?);
        Ok(Self { shared, thread })
    }

    /// Announces a call.
    ///
    /// # Errors
    /// If the thread has died and cannot be started again.
    pub(super) fn running(&self) -> std::io::Result<Running<'_>> {
        self.shared.running.fetch_add(1, SeqCst);
        let running = Running(&self.shared);
        // Either this sees that the thread is about to sleep, or the thread sees that something runs.
        if self.shared.asleep.load(SeqCst) || !self.shared.alive.load(SeqCst) {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.shared.alive.load(SeqCst) {
                tracing::error!("the thread that enforces time limits has died: starting another one");
                *thread = spawn(&self.shared)?;
            }
            thread.thread().unpark();
        }
        Ok(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).thread().unpark();
    }
}

fn spawn(shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    /// Tells that the thread has ended, however it did.
    struct Obituary(Arc<Shared>);
    impl Drop for Obituary {
        fn drop(&mut self) {
            self.0.alive.store(false, SeqCst);
        }
    }
    shared.alive.store(true, SeqCst);
    // If no thread starts, the closure is dropped, and the obituary with it.
    let obituary = Obituary(Arc::clone(shared));
    thread::Builder::new().name("palfrey-ticker".to_owned()).spawn(move || tick(&obituary.0))
}

fn tick(shared: &Shared) {
    let mut idle = 0;
    while !shared.stop.load(SeqCst) {
        idle = if shared.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
        if idle > LINGERING {
            shared.asleep.store(true, SeqCst);
            // `running` unparks after it has counted, and a token that comes early is kept: no wake-up is lost.
            if shared.running.load(SeqCst) == 0 && !shared.stop.load(SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, SeqCst);
            // Also if the call that woke it is over by now: the next one may follow.
            idle = 0;
            continue;
        }
        let Some(engine) = shared.engine.upgrade() else { return };
        engine.increment_epoch();
        drop(engine);
        #[cfg(test)]
        if shared.die.load(SeqCst) {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "time itself is what is waited for")]
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Engine, Instance, Module, Store, UpdateDeadline};

    use super::*;

    /// A store whose guest spins until the epoch has advanced once.
    fn spin(engine: &Engine) {
        let spin = [
            0, b'a', b's', b'm', 1, 0, 0, 0, // header
            1, 4, 1, 0x60, 0, 0, // type: no parameters, no results
            3, 2, 1, 0, // one function of it
            8, 1, 0, // which is the start function
            10, 9, 1, 7, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b, // loop, branch to it
        ];
        let module = Module::new(engine, spin).unwrap();
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Interrupt));
        Instance::new(&mut store, &module, &[]).unwrap_err();
    }

    fn engine() -> Engine {
        Engine::new(Config::new().epoch_interruption(true)).unwrap()
    }

    #[test]
    fn the_epoch_advances_while_something_runs() {
        let engine = engine();
        let ticker = Ticker::start(engine.weak()).unwrap();
        for _ in 0..3 {
            let _running = ticker.running().unwrap();
            spin(&engine);
        }
    }

    #[test]
    fn a_dead_ticker_is_replaced_before_the_next_call() {
        let engine = engine();
        let ticker = Ticker::start(engine.weak()).unwrap();
        ticker.shared.die.store(true, SeqCst);
        let running = ticker.running().unwrap();
        while ticker.shared.alive.load(SeqCst) {
            thread::yield_now();
        }
        drop(running);
        ticker.shared.die.store(false, SeqCst);
        let _running = ticker.running().unwrap();
        spin(&engine);
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let engine = engine();
        let ticker = Ticker::start(engine.weak()).unwrap();
        let shared = Arc::clone(&ticker.shared);
        drop(ticker);
        while shared.alive.load(SeqCst) {
            thread::yield_now();
        }
    }
}
