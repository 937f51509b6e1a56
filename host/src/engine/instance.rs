//! One instance for one call: made, limited, called, and thrown away.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    Core,
    bindings::{PluginPre, exports::palfrey::plugin::operations::Guest},
    context::{Context, LastWords, Panicked, ProgressSink},
    error::{Interruption, Stopped},
    grants::Grants,
    journal::Journal,
    limits::Limits,
    permits::Permits,
    wasi::{FolderError, Seed, Wasi},
};
#[cfg(debug_assertions)]
use crate::failpoint::{self, Moment};
use crate::{TIMES, micros, task::Cause};

/// What belongs to one instance.
pub(super) struct State {
    pub(super) context: Context,
    pub(super) wasi: Wasi,
    limiter: Limiter,
}

/// What is asked of an instance.
pub(super) struct Request<'a> {
    /// Its name, or that of the function where it is about no operation.
    pub(super) operation: &'a str,
    pub(super) config: &'a [u8],
    pub(super) attempt: u32,
    pub(super) limits: Limits,
    /// How much of the time is spent already.
    pub(super) spent: Duration,
    /// Bytes that may be copied from the guest at once: the size of its answer.
    pub(super) answer: u64,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Option<ProgressSink>,
    /// What the guest has of the world outside.
    pub(super) grants: Grants,
}

/// What an instance returned.
pub(super) struct Answer<T> {
    pub(super) value: T,
    /// The end of what it printed on stderr.
    pub(super) stderr: String,
    /// Bytes that it might still have written to the log.
    pub(super) log: u64,
    pub(super) took: Duration,
    /// Whether it has seen a random number or a clock.
    pub(super) looked: bool,
}

impl Core {
    /// Makes an instance, calls it, and throws it away. `permits` keeps the number of instances within the pool.
    pub(super) fn execute<T>(
        &self,
        permits: &Permits,
        plugin: &str,
        pre: &PluginPre<State>,
        request: Request<'_>,
        call: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, Stopped> {
        let limits = self.within_pool(request.limits);
        let _permit = permits.acquire();
        let _running = self.ticker.running().map_err(|error| Stopped {
            cause: Cause::Worker,
            message: format!("the thread that enforces time limits cannot be started: {error}"),
            stderr: String::new(),
        })?;
        if request.cancel.is_cancelled() {
            return Err(Stopped { cause: Cause::Cancelled, message: String::new(), stderr: String::new() });
        }
        let answer = usize::try_from(request.answer).unwrap_or(usize::MAX);
        let (cancel, spent) = (request.cancel.clone(), request.spent);
        #[cfg(debug_assertions)]
        let operation = request.operation.to_owned();
        let state = State::new(plugin, request, &limits).map_err(|error| Stopped {
            cause: Cause::Worker,
            message: error.to_string(),
            stderr: String::new(),
        })?;
        let mut store = Store::new(&self.wasmtime, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(answer);
        // Armed before the instance is made, because start functions are guest code as well.
        let start = Instant::now();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if cancel.is_cancelled() {
                Err(Interruption::Cancelled.into())
            } else if spent + start.elapsed() >= limits.time {
                Err(Interruption::Deadline { limit: limits.time }.into())
            } else {
                Ok(UpdateDeadline::Continue(1))
            }
        });
        let result = pre.instantiate(&mut store).and_then(|instance| {
            let instantiated = start.elapsed();
            #[cfg(debug_assertions)]
            failpoint::reached(Moment::DuringExecution, plugin, &operation);
            let result = call(instance.palfrey_plugin_operations(), &mut store);
            let [instantiating, executing] = [instantiated, start.elapsed().saturating_sub(instantiated)].map(micros);
            tracing::trace!(target: TIMES, instantiating, executing, "called, in microseconds");
            result
        });
        let LastWords { panic, stderr, log } = store.data_mut().context.finish();
        match result {
            Ok(value) => Ok(Answer { value, stderr, log, took: start.elapsed(), looked: store.data().wasi.looked() }),
            Err(error) => {
                let (cause, message) = explain(&error, panic, &limits);
                Err(Stopped { cause, message, stderr })
            }
        }
    }
}

impl State {
    fn new(plugin: &str, request: Request<'_>, limits: &Limits) -> Result<Self, FolderError> {
        let Request { operation, config, attempt, cancel, progress, grants, .. } = request;
        let journal = Arc::new(Mutex::new(Journal::new(plugin, operation, limits.log)));
        Ok(Self {
            wasi: Wasi::new(Seed::of(plugin, operation, config), &journal, &grants)?,
            context: Context::new(attempt, cancel, journal, progress),
            limiter: Limiter { memory: 0, max_memory: limits.memory, max_table: limits.table_elements },
        })
    }
}

/// Why a call ended without an answer.
fn explain(error: &wasmtime::Error, panic: Option<Panicked>, limits: &Limits) -> (Cause, String) {
    if let Some(&interruption) = error.downcast_ref::<Interruption>() {
        return (interruption.cause(), interruption.to_string());
    }
    if let Some(Panicked { message, location }) = panic {
        return (Cause::Panic { location }, message);
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return (Cause::Trap, format!("it ended its process with exit status {status}"));
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return (Cause::Worker, format!("there is no room for an instance: {error}"));
    }
    let in_guest = error.downcast_ref::<WasmBacktrace>();
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return (Cause::Trap, format!("{trap}{}", place(in_guest)));
    }
    let reason = error.root_cause().to_string();
    match in_guest {
        // wasmtime's error for it is private.
        None if reason.contains("fuel allocated for hostcalls") => (
            Cause::OutputTooLarge { limit: limits.output },
            format!("it is larger than {}; `output` is the limit to raise", ByteSize(limits.output)),
        ),
        None => (Cause::Contract, format!("its answer cannot be read: {reason}")),
        Some(_) => (Cause::Trap, format!("{reason}{}", place(in_guest))),
    }
}

/// The function in which a guest trapped, where its name is known.
fn place(backtrace: Option<&WasmBacktrace>) -> String {
    // Only the whole backtrace shows names as people write them: a line is `0: 0x1f0 - module.wasm!name`.
    backtrace
        .map(ToString::to_string)
        .and_then(|text| text.lines().find_map(|line| Some(line.split_once('!')?.1.trim().to_owned())))
        .map(|name| format!(" in `{}`", super::journal::cut(&name, 200)))
        .unwrap_or_default()
}

/// Keeps an instance within its limits. Growing beyond them is a trap: hardly a program survives a failed allocation, and
/// few that do say why they give up.
struct Limiter {
    /// Bytes of all memories.
    memory: u64,
    max_memory: u64,
    max_table: u32,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.memory.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.max_memory {
            return Err(Interruption::Memory { wanted, limit: self.max_memory }.into());
        }
        self.memory = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired as u64 > u64::from(self.max_table) {
            return Err(Interruption::Table { wanted: desired as u64, limit: self.max_table.into() }.into());
        }
        Ok(true)
    }
}
