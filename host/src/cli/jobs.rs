//! `palfrey jobs`

use std::{
    io::{IsTerminal as _, stdout},
    time::Duration,
};

use palfrey_host::{
    Config, Runtime,
    presence::{JobStatus, short_names},
};
use serde_json::{Value, json};

use super::{Failure, connection, output};

pub(super) const HELP: &str = "\
Asks all orchestrators on the broker for their jobs, and all workers for what they execute. DONE counts elements, the
numbers behind it tasks. The end is estimated from what was done so far.

Examples:
  palfrey jobs
  palfrey jobs --watch
  palfrey jobs --json | jq -r '.[] | .job + \" \" + .host'";

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON, for machines
    #[arg(long)]
    json: bool,
    /// Again and again, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    if args.watch {
        let stop = tokio::signal::ctrl_c();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                _ = &mut stop => break,
                shown = show(&runtime, &args) => shown?,
            }
            tokio::select! {
                _ = &mut stop => break,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    } else {
        show(&runtime, &args).await?;
    }
    Ok(runtime.close().await?)
}

async fn show(runtime: &Runtime, args: &Args) -> Result<(), Failure> {
    let jobs = runtime.jobs().await?;
    if args.json {
        return output::print_json(&jobs.iter().map(to_json).collect());
    }
    let text = match &jobs[..] {
        [] => "there are no jobs\n".to_owned(),
        jobs => format!("{}\n", to_table(jobs)),
    };
    // On a terminal each look replaces the one before.
    let clear = if args.watch && stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    output::print(&format!("{clear}{text}"))
}

fn operations(job: &JobStatus) -> Vec<String> {
    job.operations.iter().map(ToString::to_string).collect()
}

fn to_table(jobs: &[JobStatus]) -> String {
    let header = [
        "JOB",
        "PROGRAM",
        "HOST",
        "BUS",
        "OPERATIONS",
        "DONE",
        "RUNNING",
        "QUEUED",
        "RETRIED",
        "FAILED",
        "SINCE",
        "LEFT",
    ];
    let mut table = output::table(header);
    let identities: Vec<_> = jobs.iter().map(|job| job.id.as_str()).collect();
    for (name, job) in short_names(&identities).into_iter().zip(jobs) {
        let total = job.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
        table.add_row([
            name.to_owned(),
            format!("{}[{}]", job.process.program, job.process.pid),
            job.process.who(),
            job.bus.clone(),
            operations(job).join(" "),
            format!("{}/{total}", job.done),
            job.running.to_string(),
            job.queued().to_string(),
            job.retried.to_string(),
            job.failed.to_string(),
            output::since(job.age),
            job.remaining().map_or_else(|| "?".to_owned(), output::duration),
        ]);
    }
    table.trim_fmt()
}

fn to_json(job: &JobStatus) -> Value {
    json!({
        "job": job.id.as_str(),
        "program": job.process.program,
        "user": job.process.user,
        "host": job.process.host,
        "pid": job.process.pid,
        "version": job.process.version,
        "bus": job.bus,
        "operations": operations(job),
        "done": job.done,
        "taken": job.taken,
        "total": job.total,
        "running": job.running,
        "queued": job.queued(),
        "retried": job.retried,
        "failed": job.failed,
        "since": output::since(job.age),
        "age_seconds": job.age.as_secs(),
        "remaining_seconds": job.remaining().map(|remaining| remaining.as_secs()),
    })
}
