//! Time that passes only when a guest looks at it or waits for it.
//!
//! Both clocks start at a fixed instant, and each reading advances them by one step, so that what a guest measures depends
//! on what it does and on nothing else. Whoever waits for an instant finds it reached: nobody sleeps.
//!
//! With a grant the clocks are the machine's. Waiting takes no time even then, because it would hold a slot: the monotonic clock
//! is set forward instead, so that what a guest measures is never shorter than what it waited for. The wall clock is always right.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time,
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
    /// Nanoseconds since the start, those apart that really passed.
    now: AtomicU64,
    /// The start, for a guest that is granted the time.
    started: Option<time::Instant>,
    /// The earliest instant that somebody waits for.
    awaited: AtomicU64,
    /// Whether the guest has asked for the time, or for an instant of it.
    looked: AtomicBool,
}

/// Nobody waits.
const NEVER: u64 = u64::MAX;

impl Default for Clock {
    fn default() -> Self {
        Self { now: AtomicU64::new(0), started: None, awaited: AtomicU64::new(NEVER), looked: AtomicBool::new(false) }
    }
}

impl Clock {
    /// That of the machine.
    pub(super) fn of_machine() -> Self {
        Self { started: Some(time::Instant::now()), ..Self::default() }
    }

    /// Whether the guest has seen what depends on how often it looked.
    pub(super) fn looked(&self) -> bool {
        self.started.is_none() && self.looked.load(Relaxed)
    }

    /// Nanoseconds that really passed, where the guest is to know.
    fn elapsed(&self) -> u64 {
        self.started.map_or(0, |started| u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn now(&self) -> u64 {
        self.now.load(Relaxed).saturating_add(self.elapsed())
    }

    fn resolution(&self) -> u64 {
        if self.started.is_some() { 1 } else { STEP }
    }

    fn read(&self) -> u64 {
        self.looked.store(true, Relaxed);
        let now = self.now();
        if self.started.is_none() {
            self.now.store(now.saturating_add(STEP), Relaxed);
        }
        now
    }

    /// Time since 1970.
    fn read_wall(&self) -> time::Duration {
        #[expect(
            clippy::disallowed_methods,
            reason = "the guest is granted what the machine takes for the time, be it wrong"
        )]
        match self.started {
            Some(_) => time::SystemTime::now().duration_since(time::UNIX_EPOCH).unwrap_or_default(),
            None => time::Duration::from_secs(START) + time::Duration::from_nanos(self.read()),
        }
    }

    fn reached(&self, when: u64) -> bool {
        self.now() >= when
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
        self.now.fetch_max(awaited.saturating_sub(self.elapsed()), Relaxed);
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
        Ok(self.clock.resolution())
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        self.clock.looked.store(true, Relaxed);
        // The last instant means "never" to the clock; nobody can tell it from the one before.
        let timer = Timer { when: when.min(NEVER - 1), clock: Arc::clone(self.clock) };
        let timer = self.table.push(timer)?;
        subscribe(self.table, timer)
    }

    fn subscribe_duration(&mut self, duration: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.clock.now().saturating_add(duration);
        self.subscribe_instant(when)
    }
}

impl wall_clock::Host for Io<'_> {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        let now = self.clock.read_wall();
        Ok(Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: self.clock.resolution() as u32 })
    }
}
