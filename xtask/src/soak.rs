//! `cargo xtask soak`: sends bad messages by the million to a worker behind a private RabbitMQ node.

use anyhow::Result;
use clap::Args;

use crate::{plugins, process::Program, requirements, step::step, workspace::Workspace};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask soak
  cargo xtask soak --messages 20000";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Bad messages to send: malformed, cut off, oversized, replayed
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    messages: u64,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    plugins::build(workspace)?;
    step("building the worker and the soak", || {
        workspace.cargo(["build", "--workspace", "--bin", "palfrey", "--bin", "soak"]).run()
    })?;
    let node = requirements::broker(workspace)?;
    let messages = options.messages.to_string();
    Program::new(workspace.built("soak"))
        .args([&messages])
        .env_unseen(palfrey_rabbitmq::URI_VARIABLE, node.uri())
        .repeated_by(format!("cargo xtask soak --messages {messages}"))
        .run()
}
