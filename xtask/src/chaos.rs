//! `cargo xtask chaos`: random faults while jobs run, and exact results all the same.

use anyhow::Result;
use clap::Args;

use crate::{plugins, process::Program, step::step, workspace::Workspace};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask chaos
  cargo xtask chaos --seed 7 --faults 1000
  cargo xtask chaos --faults 100000 --minutes 30

Broker and workers are its own. It needs RabbitMQ, as `cargo xtask test` does. Should something be wrong it names the seed,
with which the same faults come in the same order.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Decides which faults come, and in which order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many faults
    #[arg(long, value_name = "K", default_value_t = 100)]
    faults: u32,
    /// Ends earlier, when the job that is under way then is done
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    plugins::build(workspace)?;
    step("building workers and faults", || workspace.cargo(["build", "--workspace", "--bins", "--examples"]).run())?;
    strike(workspace, options)
}

/// A short run, for the suite. Everything is built.
pub(crate) fn run_briefly(workspace: &Workspace) -> Result<()> {
    strike(workspace, &Options { seed: 1, faults: 20, minutes: None })
}

fn strike(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut program = Program::typed_as(workspace.built("chaos"), "cargo xtask chaos");
    program = program.args(["--seed", &options.seed.to_string(), "--faults", &options.faults.to_string()]);
    if let Some(minutes) = options.minutes {
        program = program.args(["--minutes", &minutes.to_string()]);
    }
    program.env_unseen("CARGO_TARGET_DIR", workspace.target()).run()
}
