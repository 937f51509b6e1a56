//! The process that compiles one component: stdin has the component, stdout gets the machine code, and the exit code says
//! which of the answers it is.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use crate::engine::load::one_line;

/// What stdout has, by exit code. Every other end is a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The machine code.
    MachineCode = 0,
    /// Why the component is refused.
    Refused = 3,
    /// Nothing: there was not enough memory.
    OutOfMemory = 4,
}

impl Answer {
    pub(super) fn from_exit_code(code: i32) -> Option<Self> {
        [Self::MachineCode, Self::Refused, Self::OutOfMemory].into_iter().find(|answer| *answer as i32 == code)
    }
}

/// Compiles the component on stdin, as the child process of a worker: what a program does in place of everything else if it
/// was started as [`Compiler::Process`](super::Compiler::Process) says. Its result is the exit code to end with.
///
/// `memory` and `cpu` are the numbers of bytes and seconds that it may use, which are the last two arguments it was started
/// with. The component is taken from whoever sent it; so the process limits itself before it reads, and can write no file.
pub fn compile_component(memory: u64, cpu: u64) -> ExitCode {
    let (answer, bytes) = match limit(memory, cpu).and_then(|()| compile()) {
        Ok(answer) => answer,
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => (Answer::OutOfMemory, Vec::new()),
        Err(error) => {
            // Nobody but the parent reads it, and if that is gone it does not matter.
            writeln!(io::stderr(), "the compiler cannot work: {error}").ok();
            return ExitCode::FAILURE;
        }
    };
    match io::stdout().lock().write_all(&bytes) {
        Ok(()) => ExitCode::from(answer as u8),
        Err(_) => ExitCode::FAILURE,
    }
}

fn limit(memory: u64, cpu: u64) -> io::Result<()> {
    // A worker that is gone wants no machine code.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let set = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    // What is written to, stacks of threads included. Address space that is only reserved, as allocators do for each thread,
    // costs nothing and does not count.
    set(Resource::Data, memory)?;
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu.saturating_add(1)) })?;
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    Ok(())
}

fn compile() -> io::Result<(Answer, Vec<u8>)> {
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let engine = wasmtime::Engine::new(&crate::engine::code_settings()).map_err(io::Error::other)?;
    match engine.precompile_component(&wasm) {
        Ok(code) => Ok((Answer::MachineCode, code)),
        Err(error) if is_out_of_memory(&error) => Ok((Answer::OutOfMemory, Vec::new())),
        Err(error) => Ok((Answer::Refused, one_line(&error).into_bytes())),
    }
}

fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
            || cause.downcast_ref() == Some(&rustix::io::Errno::NOMEM)
    })
}
