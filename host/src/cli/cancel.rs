//! `palfrey cancel`

use palfrey_host::Config;

use super::{Failure, connection, output};

pub(super) const HELP: &str = "\
The job ends at its program with an error that says who cancelled it, and what workers execute of it is stopped.

Example:
  palfrey cancel 0198c0ff";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The job's ID as `palfrey jobs` shows it, or the beginning of it
    job: String,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    let job = runtime.cancel(&args.job).await?;
    let total = job.total.map(|total| format!(" of {total}")).unwrap_or_default();
    output::print(&format!("cancelled {} of {}: {}{total} elements were done\n", job.id, job.process, job.done))?;
    Ok(runtime.close().await?)
}
