//! What a guest finds where it expects an operating system: nothing that is not the same on every machine.
//!
//! All of the command-line subset of WASI 0.2 is linked, because the standard libraries of most languages import it, and
//! nothing is granted: no file, address, environment value or argument; stdin is closed; random numbers come from a seed
//! ([`random`]); [`clock`] is virtual. What is printed goes to the [`journal`](super::journal), by [`stdio`]. No call waits for
//! anybody: see [`io`].
//!
//! With [`Grants`], just that is different which they name: the clocks are the machine's, the seed is the system's, there are some
//! environment values, or [`files`] to read.

mod clock;
mod files;
mod io;
mod random;
mod stdio;

use std::{path::PathBuf, sync::Arc};

use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    p2::bindings::{
        clocks::{monotonic_clock, wall_clock},
        random::{insecure, insecure_seed, random as secure},
        sync::{
            filesystem::types as filesystem,
            io::{poll, streams},
        },
    },
};

pub(super) use self::random::Seed;
use self::{clock::Clock, files::Files, io::Io, random::Random, stdio::Printer};
use super::{
    capability::Capability,
    context::SharedJournal,
    grants::{Grants, Source},
    instance::State,
    journal::Stream,
};
use crate::secret::ExposeSecret as _;

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

/// The same for a guest that was granted a directory: each may be an open file, and the process has some thousands for all slots.
const MAX_FILES: usize = 128;

/// A directory that was granted, and cannot be opened now.
#[derive(Debug, thiserror::Error)]
#[error("`dir:{path}` is allowed here, but {} cannot be opened: {source}", folder.display())]
pub(super) struct FolderError {
    path: String,
    folder: PathBuf,
    source: wasmtime::Error,
}

/// The state behind WASI of one instance.
pub(super) struct Wasi {
    random: Random,
    /// Whether the random numbers are the system's.
    entropy: bool,
    journal: SharedJournal,
    /// Made when the guest calls WASI for the first time. Most calls of small operations never do.
    ctx: Option<WasiCtx>,
    table: ResourceTable,
    clock: Arc<Clock>,
}

impl Wasi {
    /// `seed` decides the random numbers, unless the system's are granted.
    pub(super) fn new(seed: Seed, journal: &SharedJournal, grants: &Grants) -> Result<Self, FolderError> {
        let entropy = grants.has(&Capability::Entropy);
        let clock = if grants.has(&Capability::Clocks) { Clock::of_machine() } else { Clock::default() };
        let mut ctx = None;
        let mut handles = MAX_HANDLES;
        for (capability, source) in grants.sources() {
            let ctx = ctx.get_or_insert_with(|| context(journal));
            match (capability, source) {
                (Capability::Env(name), Source::Value(value)) => _ = ctx.env(name, value.expose_secret()),
                (Capability::Dir(path), Source::Folder(folder)) => {
                    handles = MAX_FILES;
                    ctx.preopened_dir(folder, path, FsPerms::ReadOnly).map_err(|source| FolderError {
                        path: path.clone(),
                        folder: folder.clone(),
                        source,
                    })?;
                }
                _ => {}
            }
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        Ok(Self {
            random: Random::new(if entropy { Seed::of_system() } else { seed }),
            entropy,
            journal: Arc::clone(journal),
            ctx: ctx.map(|mut ctx| ctx.build()),
            table,
            clock: Arc::new(clock),
        })
    }

    /// Whether the guest has seen a random number or a clock that depends on how often it looked before.
    pub(super) fn looked(&self) -> bool {
        (self.random.drawn && !self.entropy) || self.clock.looked()
    }
}

fn context(journal: &SharedJournal) -> WasiCtxBuilder {
    let mut ctx = WasiCtxBuilder::new();
    ctx.stdout(Printer::new(Stream::Stdout, journal))
        .stderr(Printer::new(Stream::Stderr, journal))
        // There is nothing to block on, and a hand-over to other threads would cost more than any call.
        .allow_blocking_current_thread(true);
    ctx
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { journal, ctx, table, .. } = &mut self.wasi;
        WasiCtxView { ctx: ctx.get_or_insert_with(|| context(journal).build()), table }
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
    filesystem::add_to_linker::<State, Files<'static>>(linker, Files::of)?;
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
