//! What a guest finds where it expects an operating system: nothing that is not the same on every machine.
//!
//! All of the command-line subset of WASI 0.2 is linked, because the standard libraries of most languages import it, and
//! nothing is granted: no file, address, environment value or argument; stdin is closed; random numbers come from a seed
//! ([`random`]); [`clock`] is virtual. What is printed goes to the [`journal`](super::journal), by [`stdio`]. No call blocks the thread:
//! see [`io`].

mod clock;
mod io;
mod random;
mod stdio;

use std::sync::Arc;

use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    p2::bindings::{
        clocks::{monotonic_clock, wall_clock},
        random::{insecure, insecure_seed, random as secure},
        sync::io::{poll, streams},
    },
};

pub(super) use self::random::Seed;
use self::{clock::Clock, io::Io, random::Random, stdio::Printer};
use super::{context::SharedJournal, instance::State, journal::Stream};

/// The interfaces that are linked, all of version 0.2, without their versions.
pub(super) const INTERFACES: [&str; 27] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The most handles (streams, pollables, errors) that a guest may hold at once: far more than a program needs, and little
/// memory for the host.
const MAX_HANDLES: usize = 10_000;

/// The state behind WASI of one instance.
pub(super) struct Wasi {
    random: Random,
    journal: SharedJournal,
    /// Made when the guest calls WASI for the first time. Most calls of small operations never do.
    ctx: Option<WasiCtx>,
    table: ResourceTable,
    clock: Arc<Clock>,
}

impl Wasi {
    /// `seed` decides the random numbers.
    pub(super) fn new(seed: Seed, journal: &SharedJournal) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { random: Random::new(seed), journal: Arc::clone(journal), ctx: None, table, clock: Arc::default() }
    }

    /// Whether the guest has seen a random number or a clock: what it makes of those depends on how often it looked before.
    pub(super) fn looked(&self) -> bool {
        self.random.drawn || self.clock.looked()
    }
}

fn context(journal: &SharedJournal) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(Printer::new(Stream::Stdout, journal))
        .stderr(Printer::new(Stream::Stderr, journal))
        // There is nothing to block on, and a hand-over to other threads would cost more than any call.
        .allow_blocking_current_thread(true)
        .build()
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { journal, ctx, table, .. } = &mut self.wasi;
        WasiCtxView { ctx: ctx.get_or_insert_with(|| context(journal)), table }
    }
}

/// Links everything.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<State, Io<'static>>(linker, Io::of)?;
    wall_clock::add_to_linker::<State, Io<'static>>(linker, Io::of)?;
    poll::add_to_linker::<State, Io<'static>>(linker, Io::of)?;
    streams::add_to_linker::<State, Io<'static>>(linker, Io::of)?;
    secure::add_to_linker::<State, HasSelf<Random>>(linker, random)?;
    insecure::add_to_linker::<State, HasSelf<Random>>(linker, random)?;
    insecure_seed::add_to_linker::<State, HasSelf<Random>>(linker, random)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn random(state: &mut State) -> &mut Random {
    &mut state.wasi.random
}

impl Io<'_> {
    fn of(state: &mut State) -> Io<'_> {
        let Wasi { table, clock, .. } = &mut state.wasi;
        Io { table, clock }
    }
}

impl HasData for Io<'static> {
    type Data<'a> = Io<'a>;
}
