//! What a developer does every day: `cargo xtask demo`, `test`, `bench`, `chaos`, `fuzz`, `soak`, `plugins`,
//! `simulate`.
//!
//! It depends on next to nothing, so that it is built in seconds, and calls cargo and the programs that cargo builds.
//! `process` runs them all and ends them all; `workspace` knows where things are; `requirements` installs what is missing.
//! Then there is a module a command.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod bench;
mod chaos;
mod demo;
mod fuzz;
mod plugins;
mod process;
mod requirements;
mod simulate;
mod soak;
mod step;
mod suite;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a developer of Palfrey does every day
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                   what Palfrey does, in memory
  cargo xtask demo --runtime amqp    the same over RabbitMQ
  cargo xtask test                   all checks and tests
  cargo xtask bench --quick          Palfrey beside its peers
  cargo xtask chaos                  random faults, and exact results all the same
  cargo xtask fuzz                   bytes that nobody sane sends, to every decoder
  cargo xtask soak                   a million bad messages to a worker
  cargo xtask plugins                builds the components
  cargo xtask simulate               jobs on up to 10,000 modelled workers";

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts the words of all Rust sources on this machine, and renders a picture, on Palfrey workers
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Options),
    /// Runs all checks and tests, those against RabbitMQ included
    #[command(after_help = suite::EXAMPLES)]
    Test,
    /// Measures Palfrey side by side with its peers, and with what the machine can do
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Options),
    /// Strikes workers, networks and broker at random while jobs run, and checks that every result is exact
    #[command(after_help = chaos::EXAMPLES)]
    Chaos(chaos::Options),
    /// Looks for bytes that a decoder does not bear, guided by what they reach
    #[command(after_help = fuzz::EXAMPLES)]
    Fuzz(fuzz::Options),
    /// Builds all plugins, and the components that tests use, for WebAssembly
    #[command(after_help = plugins::EXAMPLES)]
    Plugins,
    /// Simulates jobs on clusters of up to 10,000 workers, with the real decisions about batches, folds and second copies
    #[command(after_help = simulate::EXAMPLES)]
    Simulate(simulate::Options),
    /// Sends bad messages by the million to a worker over RabbitMQ, with good tasks in between
    #[command(after_help = soak::EXAMPLES)]
    Soak(soak::Options),
}

/// As shells report a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<process::Interrupted>() => {
            eprintln!("xtask: {}", process::Interrupted);
            ExitCode::from(INTERRUPTED)
        }
        Err(error) if error.is::<suite::Failed>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    process::watch_signals()?;
    let workspace = workspace::Workspace::find()?;
    match arguments.command {
        Command::Demo(options) => demo::run(&workspace, &options),
        Command::Test => suite::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Chaos(options) => chaos::run(&workspace, &options),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::Plugins => plugins::run(&workspace),
        Command::Simulate(options) => simulate::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_shows_examples() {
        let mut command = Arguments::command();
        command.build();
        for command in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let help = command.render_help().to_string();
            assert!(help.contains(&format!("\n  cargo xtask {}", command.get_name())), "{help}");
        }
    }
}
