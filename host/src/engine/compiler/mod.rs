//! From a component to machine code, within limits.
//!
//! A compiler takes time and memory that grow with what it is given, sometimes faster than the input, and a component can
//! be made so that they do. So components of others are compiled in a child process that limits itself before it reads a
//! byte ([`child`]); whatever becomes of it, the worker goes on. The machine code that a child returns is trusted as this
//! process' own, because it is the same program.

pub(super) mod child;
mod limits;

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use self::child::Answer;
pub use self::limits::CompileLimits;
use super::{Core, error::LoadError, load::refused};

/// Components that are compiled at once, so that one that takes all its time does not delay the others. Each uses all cores,
/// and [so much memory](CompileLimits::memory).
pub(super) const AT_ONCE: usize = 2;

/// How much of what a child says on stderr is kept.
const MAX_COMPLAINT: u64 = 64 << 10;

/// Where components are compiled.
///
/// ```
/// use palfrey_host::engine::{Compiler, Engine, EngineConfig};
///
/// // The program of the worker, and how its `main` learns that it is to call `compile_component`.
/// let compiler = Compiler::Process { program: "/usr/bin/palfrey".into(), arguments: vec!["compile-component".into()] };
/// let engine = Engine::new(&EngineConfig { compiler, ..EngineConfig::default() })?;
/// # Ok::<(), palfrey_host::engine::EngineError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In this process, bounded by the component's size alone: for a program that compiles what its own author wrote.
    #[default]
    InProcess,
    /// In a child process, within [`CompileLimits`]: for whoever takes components from others.
    Process {
        /// A program made of this very release of the library, which calls
        /// [`compile_component`](super::compile_component) when it is started with these arguments and, behind them, the
        /// two of that function.
        program: PathBuf,
        /// Arguments that make it do so.
        arguments: Vec<OsString>,
    },
}

impl Compiler {
    /// In a child process that runs the same program as this one, told so by an argument.
    ///
    /// # Errors
    /// If the system cannot tell which program this is.
    pub fn this_program(argument: &str) -> io::Result<Self> {
        // On Linux a name for the program that is running, also when its file has been replaced by another release.
        let running = cfg!(target_os = "linux").then(|| PathBuf::from("/proc/self/exe")).filter(|file| file.exists());
        let program = running.map_or_else(std::env::current_exe, Ok)?;
        Ok(Self::Process { program, arguments: vec![argument.into()] })
    }
}

impl Core {
    /// The machine code of a component.
    pub(super) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
        let _permit = self.compilations.acquire();
        match &self.compiler {
            Compiler::InProcess => self.wasmtime.precompile_component(wasm).map_err(|error| refused(&error)),
            Compiler::Process { program, arguments } => {
                let start = || start(program, arguments, &self.compile_limits).map_err(LoadError::CompilerNotStarted);
                let once = || attend(start()?, wasm, &self.compile_limits);
                match once() {
                    // A service manager that ends the worker signals its children as well, and this worker still has tasks
                    // to finish.
                    Err(LoadError::CompilerEnded { signal }) if is_polite(signal) => once(),
                    result => result,
                }
            }
        }
    }
}

fn is_polite(signal: i32) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw).contains(&signal)
}

fn start(program: &PathBuf, arguments: &[OsString], limits: &CompileLimits) -> io::Result<Child> {
    Command::new(program)
        .arg0("palfrey")
        .args(arguments)
        .args([limits.memory.to_string(), cpu_seconds(limits.time).to_string()])
        // It needs nothing of this process, whose environment has passwords.
        .env_clear()
        .current_dir("/")
        // The keys that end a program at a terminal are for the worker.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Time on all processors together: what a child may use should its parent be gone, and nobody watch the clock.
fn cpu_seconds(time: Duration) -> u64 {
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    (time.as_secs() + 1).saturating_mul(processors)
}

/// Hands over the component, and waits for the machine code as long as the limit allows. The child is gone afterwards.
fn attend(mut child: Child, wasm: &[u8], limits: &CompileLimits) -> Result<Vec<u8>, LoadError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (answered, answer) = mpsc::channel();
    thread::scope(|scope| {
        // A child that stops reading has said why.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(wasm)));
        let complaint = scope.spawn(move || {
            let mut stderr = stderr?;
            let mut complaint = Vec::new();
            stderr.by_ref().take(MAX_COMPLAINT).read_to_end(&mut complaint).ok()?;
            io::copy(&mut stderr, &mut io::sink()).ok()?;
            Some(String::from_utf8_lossy(&complaint).into_owned())
        });
        scope.spawn(move || {
            let mut code = Vec::new();
            // One byte more than is allowed tells that there is more.
            let read = stdout.map(|stdout| stdout.take(limits.code.saturating_add(1)).read_to_end(&mut code));
            // Nobody waits any more if it took too long.
            answered.send(read.unwrap_or(Ok(0)).map(|_| code)).ok();
        });
        let answer = answer.recv_timeout(limits.time);
        if !matches!(&answer, Ok(Ok(code)) if code.len() as u64 <= limits.code) {
            child.kill().map_err(LoadError::CompilerNotStarted)?;
        }
        let status = child.wait().map_err(LoadError::CompilerNotStarted)?;
        let complaint = complaint.join().ok().flatten().unwrap_or_default();
        match answer {
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(LoadError::CompileTime { limit: limits.time })
            }
            Ok(Err(error)) => Err(LoadError::CompilerNotStarted(error)),
            Ok(Ok(code)) if code.len() as u64 > limits.code => Err(LoadError::MachineCode { limit: limits.code }),
            Ok(Ok(code)) => verdict(code, status, &complaint, limits),
        }
    })
}

/// What a child's end means.
fn verdict(answer: Vec<u8>, status: ExitStatus, complaint: &str, limits: &CompileLimits) -> Result<Vec<u8>, LoadError> {
    let out_of_memory = LoadError::CompileMemory { limit: limits.memory };
    match status.code().map(Answer::from_exit_code) {
        Some(Some(Answer::MachineCode)) => return Ok(answer),
        Some(Some(Answer::Refused)) => return Err(LoadError::refused(String::from_utf8_lossy(&answer).into_owned())),
        Some(Some(Answer::OutOfMemory)) => return Err(out_of_memory),
        _ => {}
    }
    // What Rust's own allocator says before it aborts.
    if complaint.contains("memory allocation of") {
        return Err(out_of_memory);
    }
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => Err(LoadError::CompileTime { limit: limits.time }),
        Some(signal @ (Signal::KILL | Signal::TERM | Signal::INT | Signal::HUP)) => {
            Err(LoadError::CompilerEnded { signal: signal.as_raw() })
        }
        _ => {
            let complaint = complaint.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join(" ");
            Err(LoadError::CompilerCrashed { reason: super::journal::cut(&format!("{status} {complaint}"), 1 << 10) })
        }
    }
}
