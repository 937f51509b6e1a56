//! `cargo xtask simulate`: jobs on modelled clusters of up to 10,000 workers, with the real decisions.

use anyhow::Result;
use clap::Args;

use crate::{process::Program, step::step, workspace::Workspace};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask simulate
  cargo xtask simulate --quick --seed 7";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The same seed gives the same figures
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Up to 100 workers only
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    step("building the simulator", || workspace.cargo(["build", "--package", "palfrey-simulator"]).run())?;
    let plots = workspace.target().join("simulation");
    let simulator = Program::new(workspace.built("palfrey-simulator"))
        .args(["--seed", &options.seed.to_string()])
        .args(["--plots".into(), plots]);
    if options.quick { simulator.args(["--quick"]) } else { simulator }.run()
}
