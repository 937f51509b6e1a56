//! `cargo xtask simulate`: jobs on modelled clusters of up to 10,000 workers, with the real decisions.

use anyhow::Result;
use clap::Args;

use crate::{plugins, process::Program, requirements, step::step, workspace::Workspace};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask simulate
  cargo xtask simulate --quick --seed 7
  cargo xtask simulate --check

The last one starts a private RabbitMQ node and two workers, which must be all that the machine has to do.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The same seed gives the same figures
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Up to 100 workers only
    #[arg(long)]
    quick: bool,
    /// Compares predictions for two workers on this machine with what jobs take
    #[arg(long, conflicts_with_all = ["seed", "quick"])]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.check {
        return check(workspace);
    }
    step("building the simulator", || workspace.cargo(["build", "--package", "palfrey-simulator"]).run())?;
    let plots = workspace.target().join("simulation");
    let simulator = Program::new(workspace.built("palfrey-simulator"))
        .args(["--seed", &options.seed.to_string()])
        .args(["--plots".into(), plots]);
    if options.quick { simulator.args(["--quick"]) } else { simulator }.run()
}

fn check(workspace: &Workspace) -> Result<()> {
    plugins::build(workspace)?;
    step("building the worker and the comparison", || {
        workspace.cargo(["build", "--workspace", "--bin", "palfrey", "--bin", "reality"]).run()
    })?;
    let node = requirements::broker(workspace)?;
    Program::new(workspace.built("reality"))
        .env_unseen(palfrey_rabbitmq::URI_VARIABLE, node.uri())
        .repeated_by("cargo xtask simulate --check".to_owned())
        .run()
}
