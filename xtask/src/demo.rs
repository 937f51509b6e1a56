//! `cargo xtask demo`: builds what the example `demo` needs, and runs it; over RabbitMQ with a node and workers of its own.

use std::{env, ffi::OsString, fs, path::PathBuf, thread};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{plugins, process::Program, requirements, step::step, workspace::Workspace};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask demo
  cargo xtask demo --runtime amqp
  cargo xtask demo --sources ~/src --size 8192";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Whether the workers are in the same process, or two processes behind a private RabbitMQ node
    #[arg(long, value_enum, default_value_t = Transport::InMemory)]
    runtime: Transport,
    /// Folder whose .rs files are read [default: registry/src in cargo's home]
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
    /// Leaves files out once so many bytes are read, such as 50MB
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<String>,
    /// Pixels of the picture, from left to right and from top to bottom
    #[arg(long, value_name = "PIXELS", default_value_t = 2048)]
    size: u32,
    /// Worker processes, for `--runtime amqp`
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    InMemory,
    Amqp,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    plugins::build(workspace)?;
    step("building workers and demo", || {
        // All of the workspace is resolved, as for the tests, so that both share one build of the dependencies.
        workspace.cargo(["build", "--workspace", "--bin", "palfrey", "--example", "demo"]).run()
    })?;
    let folder = workspace.target().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut demo = Program::new(workspace.built("examples/demo"))
        .args(["--plugins".into(), workspace.component_folder()])
        .args(["--picture".into(), folder.join("mandelbrot.png")])
        .args(["--size", &options.size.to_string()])
        .args(cache(workspace));
    if let Some(sources) = &options.sources {
        demo = demo.args(["--sources".into(), sources.clone()]);
    }
    if let Some(bytes) = &options.max_bytes {
        demo = demo.args(["--max-bytes", bytes]);
    }
    // Whatever it needs is gone when somebody wants to repeat it.
    let demo = demo.repeated_by(env::args().skip(1).fold("cargo xtask".to_owned(), |typed, word| typed + " " + &word));
    match options.runtime {
        Transport::InMemory => demo.run(),
        Transport::Amqp => {
            let node = requirements::broker(workspace)?;
            let uri = node.uri();
            let logs: Vec<_> =
                (1..=options.workers).map(|worker| folder.join(format!("worker-{worker}.log"))).collect();
            let workers = step("starting workers", || {
                let worker = || connected(worker(workspace, options.workers), &uri);
                logs.iter().map(|log| worker().in_background(log)).collect::<Result<Vec<_>>>()
            })?;
            let outcome = connected(demo, &uri).run();
            // In this order: a worker ends at once while its broker is there.
            step("stopping workers and RabbitMQ", || {
                drop(workers);
                drop(node);
                Ok(())
            })?;
            let logs = logs.iter().map(|log| log.display().to_string()).collect::<Vec<_>>().join(", ");
            outcome.with_context(|| format!("the demo failed; what the workers said is in {logs}"))
        }
    }
}

/// A worker process. Together the workers have as many slots as the machine has cores, and one each at the least.
fn worker(workspace: &Workspace, workers: u16) -> Program {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let slots = (cores / usize::from(workers)).max(1);
    Program::new(workspace.built("palfrey")).args(["worker", "--slots", &slots.to_string()]).args(cache(workspace))
}

/// Machine code is kept, so that each plugin is compiled once and not once a process.
fn cache(workspace: &Workspace) -> [OsString; 2] {
    ["--cache-dir".into(), workspace.target().join("demo/cache").into()]
}

fn connected(program: Program, uri: &str) -> Program {
    program.env_unseen("PALFREY_RUNTIME", "amqp").env_unseen("PALFREY_AMQP_URI", uri)
}
