//! The command line. Thin: what it does is in the library, what is here is how it is asked for and shown.
//!
//! One file a command. Every command prints its result to stdout, and everything else to stderr. How a failure becomes an
//! exit code is in [`failure`].

mod cancel;
mod change;
mod compile_component;
mod connection;
mod dead;
mod deploy;
mod drain;
mod failure;
mod health;
mod inspect;
mod jobs;
mod keygen;
mod output;
mod plugins;
mod service;
mod sign;
mod worker;
mod workers;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueHint};
use palfrey_host::Config;

use failure::Failure;
use output::LogFormat;

/// Runs a distributed task system whose workers never have to be rebuilt
#[derive(Debug, Parser)]
#[command(name = "palfrey", version, arg_required_else_help = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", failure::HELP))]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: Config,
    /// Form of the log on stderr
    #[arg(long, env = "PALFREY_LOG_FORMAT", value_enum, default_value_t, global = true, help_heading = "Output")]
    log_format: LogFormat,
    /// What to log: `warn`, `palfrey_host=debug,palfrey::guest=info`, … [default: info for workers, else warn]
    #[arg(long, env = "PALFREY_LOG", value_name = "FILTER", global = true, help_heading = "Output")]
    log: Option<String>,
    /// Log errors only, and show no progress
    #[arg(long, short, global = true, conflicts_with = "log", help_heading = "Output")]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  palfrey worker                # takes tasks from the broker; on as many machines as you like
  palfrey deploy arith.wasm     # to the running workers
  palfrey workers               # who is there, and how busy";

#[derive(Debug, Subcommand)]
enum Command {
    /// Execute tasks until SIGINT or SIGTERM
    #[command(after_help = worker::HELP)]
    Worker(worker::Args),
    /// List the workers, and how busy they are
    #[command(after_help = workers::HELP)]
    Workers(workers::Args),
    /// Tell a worker to finish what it has, and to end
    #[command(after_help = drain::HELP)]
    Drain(drain::Args),
    /// List the jobs, and how far they are
    #[command(after_help = jobs::HELP)]
    Jobs(jobs::Args),
    /// End a job
    #[command(after_help = cancel::HELP)]
    Cancel(cancel::Args),
    /// Look at tasks that could not be processed, requeue or drop them
    #[command(after_help = dead::HELP)]
    Dead(dead::Args),
    /// Deploy components to the running workers
    #[command(after_help = deploy::HELP)]
    Deploy(deploy::Args),
    /// Make a pair of keys for signing plugins
    #[command(after_help = keygen::HELP)]
    Keygen(keygen::Args),
    /// Sign components, for workers that execute only what a key that they trust has signed
    #[command(after_help = sign::HELP)]
    Sign(sign::Args),
    /// List what is deployed
    #[command(after_help = plugins::HELP)]
    Plugins(plugins::Args),
    /// Show a plugin's operations, types, imports and history
    #[command(after_help = inspect::HELP)]
    Inspect(inspect::Args),
    /// Withdraw a plugin: new jobs get an error, those under way finish
    #[command(after_help = change::UNDEPLOY_HELP)]
    Undeploy(change::UndeployArgs),
    /// Make an earlier deployment the active one again
    #[command(after_help = change::ROLLBACK_HELP)]
    Rollback(change::RollbackArgs),
    /// Compile a component within limits, for the process that started this one
    #[command(name = compile_component::NAME, hide = true, after_help = compile_component::HELP)]
    CompileComponent(compile_component::Args),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  palfrey completions bash > ~/.local/share/bash-completion/completions/palfrey")]
    Completions {
        /// The shell
        #[arg(value_hint = ValueHint::Other)]
        shell: clap_complete::Shell,
    },
}

/// Parses the arguments, runs the command, and says how it went.
pub(crate) fn main() -> ExitCode {
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // Before anything else takes memory or starts a thread.
    if let Command::CompileComponent(args) = &cli.command {
        return compile_component::run(args);
    }
    output::start_log(&cli);
    let result = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            // The end of the process ends it. Dropping it would cancel what other threads still wait for, and panic there.
            std::mem::forget(runtime);
            result
        }
        Err(error) => Err(Failure::Internal(error.into())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::show_failure(&failure);
            failure.exit_code()
        }
    }
}

/// The arguments, with defaults that suit a process that speaks to others.
fn command() -> clap::Command {
    Cli::command().mut_arg("runtime", |arg| arg.default_value("amqp")).mut_arg("workers", |arg| arg.hide(true))
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { command, config, quiet, .. } = cli;
    match command {
        Command::Worker(args) => worker::run(config, args).await,
        Command::Workers(args) => workers::run(config, args).await,
        Command::Drain(args) => drain::run(config, args).await,
        Command::Jobs(args) => jobs::run(config, args).await,
        Command::Cancel(args) => cancel::run(config, args).await,
        Command::Dead(args) => dead::run(config, args).await,
        Command::Deploy(args) => deploy::run(config, args, quiet).await,
        Command::Keygen(args) => keygen::run(&args),
        Command::Sign(args) => sign::run(config, args).await,
        Command::Plugins(args) => plugins::run(config, args).await,
        Command::Inspect(args) => inspect::run(config, args).await,
        Command::Undeploy(args) => change::undeploy(config, args).await,
        Command::Rollback(args) => change::rollback(config, args).await,
        // It has left `main` already.
        Command::CompileComponent(_) => Ok(()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "palfrey", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        command().debug_assert();
    }

    #[test]
    fn the_binary_speaks_to_a_broker_unless_told_otherwise() {
        let matches = command().get_matches_from(["palfrey", "worker"]);
        let cli = Cli::from_arg_matches(&matches).unwrap();
        assert_eq!(cli.config.runtime, palfrey_host::config::Transport::Amqp);
    }

    /// A command by all of its name, and those below it.
    fn with_subcommands(name: &str, command: &clap::Command) -> Vec<(String, clap::Command)> {
        let below = command.get_subcommands();
        let below = below.flat_map(|it| with_subcommands(&format!("{name} {}", it.get_name()), it));
        // Without a width no example is broken into lines.
        std::iter::once((name.to_owned(), command.clone().term_width(0))).chain(below).collect()
    }

    #[test]
    fn every_command_has_an_example_and_takes_it() {
        for (name, mut command) in with_subcommands("palfrey", &command()) {
            let help = command.render_help().to_string();
            let (_, examples) = help.split_once("\nExample").unwrap_or_else(|| panic!("{name}: {help}"));
            let examples: Vec<_> =
                examples.lines().map(str::trim).filter(|line| line.starts_with("palfrey ")).collect();
            let own = |line: &&str| line.split(' ').take(name.split(' ').count()).eq(name.split(' '));
            assert!(examples.iter().any(own), "{name}: {help}");
            for example in examples {
                let words = example.split_whitespace().take_while(|word| !word.starts_with(['#', '<', '>', '|']));
                let parsed = self::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
    }
}
