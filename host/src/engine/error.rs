//! What can go wrong: when an engine starts, when a component is loaded, and when a call is stopped.

use std::{io, path::PathBuf, time::Duration};

use bytesize::ByteSize;

use super::description::DescriptionError;
use crate::task::Cause;

/// An engine that cannot start.
///
/// ```
/// use palfrey_host::engine::{Engine, EngineConfig, EngineError};
///
/// let error = Engine::new(&EngineConfig { slots: 0, ..EngineConfig::default() }).unwrap_err();
/// assert!(matches!(error, EngineError::Slots));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Without slots nothing is executed.
    #[error("a worker needs at least one slot and at most {}: set the number of slots", super::MAX_SLOTS)]
    Slots,
    /// The folder for machine code cannot be used.
    #[error("the cache folder `{}` {reason}: choose another one, or run without a cache", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A thread could not be started.
    #[error("the threads that execute operations cannot be started: lower the number of slots")]
    Threads(#[source] io::Error),
    /// The sandbox could not be set up; most likely the process may not reserve so much address space.
    #[error(
        "the sandbox cannot be set up with {slots} slots and {} of memory for each: lower them, or lift the limit on \
         address space (`ulimit -v`): {reason}", ByteSize(*memory)
    )]
    Sandbox {
        /// How many instances there should be room for.
        slots: usize,
        /// The largest memory of one.
        memory: u64,
        /// What the system said.
        reason: String,
    },
}

/// A component that cannot be executed.
///
/// ```
/// use palfrey_host::engine::{Engine, EngineConfig, LoadError};
///
/// let engine = Engine::new(&EngineConfig::default())?;
/// match engine.load(b"\0asm\x01\0\0\0") {
///     Err(LoadError::CoreModule) => println!("it was built for another target than `wasm32-wasip2`"),
///     other => panic!("it is an empty module, not {other:?}"),
/// }
/// # Ok::<(), palfrey_host::engine::EngineError>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Larger than components may be.
    #[error(
        "the component has {}, and at most {} are allowed: strip it, or raise the limit `component` of the compiler",
        size_beside(*size, *limit), size_beside(*limit, *size)
    )]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// How many it may have.
        limit: u64,
    },
    /// Some other file.
    #[error(
        "this is not WebAssembly: it does not begin with `\\0asm`; deploy the `.wasm` file that the build produced"
    )]
    NotWasm,
    /// A module.
    #[error(
        "this is a core module and not a component: build it for the target `wasm32-wasip2`, or convert it by \
         `wasm-tools component new`"
    )]
    CoreModule,
    /// Machine code. Nobody's machine code is executed but the worker's own.
    #[error(
        "this is machine code that some engine compiled, which is never accepted: deploy the WebAssembly component"
    )]
    Precompiled,
    /// It begins like a component, and does not go on like one.
    #[error("the component is malformed or cut off, or uses features that are not enabled: {reason}")]
    Malformed {
        /// What the compiler said.
        reason: String,
    },
    /// Compiling it takes long.
    #[error(
        "compiling the component took longer than the limit of {}: split its functions, or raise the limit `time` of the \
         compiler",
        humantime::format_duration(*limit)
    )]
    CompileTime {
        /// How long it may take.
        limit: Duration,
    },
    /// Compiling it takes much memory.
    #[error(
        "compiling the component took more memory than the limit of {}: split its functions, or raise the limit `memory` of \
         the compiler",
        ByteSize(*limit)
    )]
    CompileMemory {
        /// Bytes that it may take.
        limit: u64,
    },
    /// There would be too much of the result.
    #[error(
        "the component has more machine code than the limit of {}: make it smaller, or raise the limit `code` of the compiler",
        ByteSize(*limit)
    )]
    MachineCode {
        /// Bytes that there may be.
        limit: u64,
    },
    /// The compiler made a mistake, which some components are made for.
    #[error("the compiler crashed on the component, and would do so again: {reason}")]
    CompilerCrashed {
        /// How its process ended, and what it said.
        reason: String,
    },
    /// Somebody else ended the compiler's process: the system does when memory is short.
    #[error(
        "the process that compiled the component was ended from outside by signal {signal}; most likely the machine is short \
         of memory: give it more, or lower the limit `memory` of the compiler"
    )]
    CompilerEnded {
        /// Its number.
        signal: i32,
    },
    /// The compiler's process cannot be started, or spoken to.
    #[error("the component cannot be compiled, because the process for it cannot be started")]
    CompilerNotStarted(#[source] io::Error),
    /// It needs more memories, tables or instances than there is room for.
    #[error("the component does not fit into the sandbox: {reason}")]
    TooDemanding {
        /// What there is too much of.
        reason: String,
    },
    /// A component of another world.
    #[error(
        "the component does not export `{expected}`, so it is not a plugin; it exports {}: build it for the world \
         `plugin` of the package `palfrey:plugin`",
        list(found)
    )]
    NoOperations {
        /// The export that is missing.
        expected: &'static str,
        /// What it exports.
        found: Vec<String>,
    },
    /// Made for another version of the contract.
    #[error(
        "the component is made for `{found}`, and this release speaks `{expected}`: {}",
        if *newer { "update the workers, or build it with an older SDK" } else { "build it again with a newer SDK" }
    )]
    ContractVersion {
        /// The name in the component.
        found: String,
        /// The name that is expected.
        expected: &'static str,
        /// Whether the component's is the newer one.
        newer: bool,
    },
    /// It wants things that are not given.
    #[error(
        "the component imports {}, which is not granted to plugins: they may import `{}` and the command-line subset of \
         WASI 0.2",
        list(imports),
        super::load::CONTEXT
    )]
    ImportsNotGranted {
        /// All such imports.
        imports: Vec<String>,
    },
    /// Names are right, and functions or types are not.
    #[error("the component uses the contract or WASI in a way that does not fit: {reason}")]
    Incompatible {
        /// What does not fit.
        reason: String,
    },
    /// What it says about itself.
    #[error("the plugin's description is invalid")]
    Description(#[from] DescriptionError),
    /// It was asked to describe itself, and was stopped.
    #[error("the plugin could not describe itself")]
    Describe(#[source] Stopped),
}

impl LoadError {
    /// Whether it is about the machine and not about the component, so that it may go better another time.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::CompilerEnded { .. } | Self::CompilerNotStarted(_))
    }

    /// Why the compiler refused it.
    pub(super) fn refused(reason: String) -> Self {
        // wasmtime has no type for it.
        if reason.contains("pooling allocator") { Self::TooDemanding { reason } } else { Self::Malformed { reason } }
    }
}

/// A call that was stopped, or whose answer breaks the contract. It has no result, and only that one call is affected.
///
/// ```
/// use palfrey_host::{engine::Stopped, task::Cause};
///
/// fn report(stopped: &Stopped) {
///     if let Cause::Panic { location: Some(location) } = &stopped.cause {
///         eprintln!("look at {location}");
///     }
///     eprintln!("{stopped}\n{}", stopped.stderr);
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}{}{message}", if message.is_empty() { "" } else { ": " })]
pub struct Stopped {
    /// What kind of failure it is: one of `Panic`, `Trap`, `Deadline`, `Memory`, `OutputTooLarge`, `Cancelled`, `Contract`,
    /// `PluginUnavailable` (something was not granted) and `Worker`.
    pub cause: Cause,
    /// What happened, in one line.
    pub message: String,
    /// The end of what the plugin printed on stderr.
    pub stderr: String,
}

/// Why the host ended a guest's execution: carried through wasmtime as the error of the trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Interruption {
    #[error("cancelled")]
    Cancelled,
    #[error("it did not return; `time` is the limit to raise")]
    Deadline { limit: Duration },
    #[error("it wanted {} in all; `memory` is the limit to raise", size_beside(*wanted, *limit))]
    Memory { wanted: u64, limit: u64 },
    #[error("it wanted a table of {wanted} elements, and {limit} are allowed; `table` is the limit to raise")]
    Table { wanted: u64, limit: u64 },
    #[error("it waits for something that cannot happen: there is no input, network or file to wait for")]
    Stuck,
}

impl Interruption {
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::Cancelled => Cause::Cancelled,
            Self::Deadline { limit } => Cause::Deadline { limit },
            Self::Memory { limit, .. } => Cause::Memory { limit },
            Self::Table { limit, .. } => Cause::Memory { limit: limit * size_of::<usize>() as u64 },
            Self::Stuck => Cause::Trap,
        }
    }
}

/// A size as it is shown beside another one, from which it differs: to the byte if both would read alike.
pub(super) fn size_beside(size: u64, other: u64) -> String {
    let text = ByteSize(size).to_string();
    if text == ByteSize(other).to_string() { format!("{size} bytes") } else { text }
}

/// Names for a sentence.
fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_differ_read_differently() {
        let message = |size| LoadError::TooLarge { size, limit: 64 << 20 }.to_string();
        assert!(message(80 << 20).starts_with("the component has 80.0 MiB, and at most 64.0 MiB are allowed"));
        let one_more = message((64 << 20) + 1);
        assert!(one_more.contains("has 67108865 bytes, and at most 67108864 bytes are allowed"), "{one_more}");
        let memory = Interruption::Memory { wanted: (1 << 30) + 1, limit: 1 << 30 }.to_string();
        assert!(memory.starts_with("it wanted 1073741825 bytes in all"), "{memory}");
    }
}
