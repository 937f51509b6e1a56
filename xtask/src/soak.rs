//! `cargo xtask soak`: sends bad messages by the million, or hostile guests by the thousand, to a worker behind a private RabbitMQ node.

use anyhow::Result;
use clap::Args;

use crate::{plugins, process::Program, requirements, step::step, workspace::Workspace};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask soak
  cargo xtask soak --messages 20000
  cargo xtask soak --guests";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Bad messages to send: malformed, cut off, oversized, replayed
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    messages: u64,
    /// Send tasks for guests that misbehave in every known way instead, ten thousand of them
    #[arg(long, conflicts_with = "messages")]
    guests: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    plugins::build(workspace)?;
    step("building the worker and the soak", || {
        workspace.cargo(["build", "--workspace", "--bin", "palfrey", "--bin", "soak"]).run()
    })?;
    let node = requirements::broker(workspace)?;
    let messages = options.messages.to_string();
    let (argument, again) = if options.guests {
        ("--guests", "cargo xtask soak --guests".to_owned())
    } else {
        (messages.as_str(), format!("cargo xtask soak --messages {messages}"))
    };
    Program::new(workspace.built("soak"))
        .args([argument])
        .env_unseen(palfrey_rabbitmq::URI_VARIABLE, node.uri())
        .repeated_by(again)
        .run()
}
