//! Time that passes only when a guest looks at it or waits for it.
//!
//! Both clocks start at a fixed instant, and each reading advances them by one step, so that what a guest measures depends
//! on what it does and on nothing else. Whoever waits for an instant finds it reached: nobody sleeps.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use wasmtime::component::Resource;
use wasmtime_wasi::{
    async_trait,
    p2::{
        DynPollable, Pollable,
        bindings::clocks::{
            monotonic_clock::{self, Duration, Instant},
            wall_clock::{self, Datetime},
        },
        subscribe,
    },
};

use super::io::Io;

/// What the clocks advance by at each reading, in nanoseconds.
const STEP: u64 = 1_000;

/// Seconds of the wall clock at the start: 2000-01-01T00:00:00Z.
const START: u64 = 946_684_800;

/// The time of one instance. It is shared with timers, and read by one thread at a time.
pub(super) struct Clock {
    /// Nanoseconds since the start.
    now: AtomicU64,
    /// The earliest instant that somebody waits for.
    awaited: AtomicU64,
    /// Whether the guest has asked for the time, or for an instant of it.
    looked: AtomicBool,
}

/// Nobody waits.
const NEVER: u64 = u64::MAX;

impl Default for Clock {
    fn default() -> Self {
        Self { now: AtomicU64::new(0), awaited: AtomicU64::new(NEVER), looked: AtomicBool::new(false) }
    }
}

impl Clock {
    pub(super) fn looked(&self) -> bool {
        self.looked.load(Relaxed)
    }

    fn read(&self) -> u64 {
        self.looked.store(true, Relaxed);
        let now = self.now.load(Relaxed);
        self.now.store(now.saturating_add(STEP), Relaxed);
        now
    }

    fn reached(&self, when: u64) -> bool {
        self.now.load(Relaxed) >= when
    }

    fn await_instant(&self, when: u64) {
        self.awaited.fetch_min(when, Relaxed);
    }

    /// Forgets who waits for what.
    pub(super) fn forget(&self) {
        self.awaited.store(NEVER, Relaxed);
    }

    /// Goes on to the earliest instant that was waited for since [`forget`](Self::forget). False if there is none.
    pub(super) fn skip(&self) -> bool {
        let awaited = self.awaited.swap(NEVER, Relaxed);
        self.now.fetch_max(awaited, Relaxed);
        awaited != NEVER
    }
}

/// Waits for an instant.
struct Timer {
    when: u64,
    clock: Arc<Clock>,
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        std::future::poll_fn(|_| {
            if self.clock.reached(self.when) {
                std::task::Poll::Ready(())
            } else {
                self.clock.await_instant(self.when);
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

impl monotonic_clock::Host for Io<'_> {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<Duration> {
        Ok(STEP)
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        self.clock.looked.store(true, Relaxed);
        // The last instant means "never" to the clock; nobody can tell it from the one before.
        let timer = Timer { when: when.min(NEVER - 1), clock: Arc::clone(self.clock) };
        let timer = self.table.push(timer)?;
        subscribe(self.table, timer)
    }

    fn subscribe_duration(&mut self, duration: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.clock.now.load(Relaxed).saturating_add(duration);
        self.subscribe_instant(when)
    }
}

impl wall_clock::Host for Io<'_> {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        let now = self.clock.read();
        Ok(Datetime { seconds: START + now / 1_000_000_000, nanoseconds: (now % 1_000_000_000) as u32 })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: STEP as u32 })
    }
}
