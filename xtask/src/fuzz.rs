//! `cargo xtask fuzz`: the harnesses of every decoder, called by a coverage-guided fuzzer.

use std::fs;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{process::Program, step::step, workspace::Workspace};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz
  cargo xtask fuzz --minutes 60
  cargo xtask fuzz -- -runs=0                    the inputs that earlier runs found, and no others
  cargo xtask fuzz -- target/fuzz/crash-4c1d     one of them

The first time it builds an instrumented host, which takes ten minutes or more. It needs a compiler for C++. Inputs that reached
something new are kept in target/fuzz/corpus; one that broke something is kept beside that folder, and named.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long it looks for more inputs
    #[arg(long, value_name = "M", default_value_t = 10)]
    minutes: u32,
    /// Given to libFuzzer as they are
    #[arg(last = true, value_name = "ARGUMENTS")]
    fuzzer: Vec<String>,
}

/// Counts what is executed, as libFuzzer reads it: <https://clang.llvm.org/docs/SanitizerCoverage.html>. These are the flags of
/// cargo-fuzz without a sanitizer, for which a nightly compiler would be needed.
const INSTRUMENTED: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// The longest input, in bytes: a harness reads instructions and not messages.
const MAX_INPUT: u32 = 512;

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let folder = workspace.target().join("fuzz");
    let corpus = folder.join("corpus");
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    // With a target named, build scripts and macros are not instrumented.
    let host = host_triple(workspace)?;
    let cargo = |command| {
        let cargo =
            workspace.cargo([command, "--release", "--manifest-path", "tests/fuzz/Cargo.toml", "--target", &host]);
        cargo.args(["--target-dir".as_ref(), folder.as_os_str()]).env("RUSTFLAGS", INSTRUMENTED.join(" "))
    };
    step("building the harnesses, instrumented", || cargo("build").run())?;
    let mut fuzzer = cargo("run").args(["--"]);
    // Files that are named are executed and no others.
    if options.fuzzer.iter().all(|argument| argument.starts_with('-')) {
        fuzzer = fuzzer.args([&corpus]);
    }
    let artifacts = format!("-artifact_prefix={}/", folder.display());
    let time = format!("-max_total_time={}", u64::from(options.minutes) * 60);
    fuzzer.args([&artifacts, &time, &format!("-max_len={MAX_INPUT}")]).args(&options.fuzzer).run()
}

/// What this machine is called among compilers.
fn host_triple(workspace: &Workspace) -> Result<String> {
    let version = Program::new("rustc").args(["-vV"]).current_dir(workspace.root()).output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
