//! `palfrey drain`

use palfrey_host::Config;

use super::{Failure, connection, output};

pub(super) const HELP: &str = "\
The worker takes no more tasks, finishes those that run, hands back the others, and exits with 0, as it does after a SIGTERM.
This command does not wait for that: `palfrey workers` shows it as draining until it is gone.

Example:
  palfrey drain 3f2a9c41";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The worker's identity as `palfrey workers` shows it, or the beginning of it
    worker: String,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    let worker = runtime.drain(&args.worker).await?;
    let running = worker.executing();
    let tasks = if running == 1 { "1 task".to_owned() } else { format!("{running} tasks") };
    output::print(&format!("worker {} of {} finishes {tasks} and ends\n", worker.identity, worker.process))?;
    Ok(runtime.close().await?)
}
