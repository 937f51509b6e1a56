//! `palfrey compile-component`: the child process in which workers and `palfrey deploy` compile a plugin.

use std::process::ExitCode;

pub(super) const NAME: &str = "compile-component";

pub(super) const HELP: &str = "\
Reads a component from stdin and writes machine code to stdout. Workers start it; there is no use for it otherwise.

Example:
  palfrey compile-component 2147483648 120 <arith.wasm | wc -c";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Bytes of memory that it may use
    memory: u64,
    /// Seconds that it may use, of all processors together
    cpu: u64,
}

pub(super) fn run(args: &Args) -> ExitCode {
    palfrey_host::engine::compile_component(args.memory, args.cpu)
}
