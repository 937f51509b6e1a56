//! `palfrey workers`

use palfrey_host::{
    Config,
    presence::{WorkerStatus, short_names},
};
use serde_json::{Value, json};

use super::{Failure, connection, output};

pub(super) const HELP: &str = "\
Asks all workers on the broker, whatever bus they serve, and shows who answers. LOAD is the share of its slots that was busy
in about the last minute.

Examples:
  palfrey workers
  palfrey workers --json | jq -r '.[] | select(.load > 0.9) | .host'";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON, for machines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    let survey = runtime.survey().await?;
    if survey.silent > 0 {
        tracing::warn!(
            "{} more receivers of `{}` do not answer: workers that hang or are cut off, or loops of a program's own",
            survey.silent,
            runtime.task_channel().name()
        );
    }
    if args.json {
        output::print_json(&survey.workers.iter().map(to_json).collect())?;
    } else if survey.workers.is_empty() {
        output::print("there are no workers; `palfrey worker` starts one\n")?;
    } else {
        output::print(&format!("{}\n", to_table(&survey.workers)))?;
    }
    Ok(runtime.close().await?)
}

fn to_table(workers: &[WorkerStatus]) -> String {
    let header = [
        "WORKER", "HOST", "PID", "VERSION", "BUS", "STATE", "SLOTS", "RUNNING", "WAITING", "LOAD", "EXECUTED",
        "PLUGINS", "SINCE",
    ];
    let mut table = output::table(header);
    let identities: Vec<_> = workers.iter().map(|worker| worker.identity.as_str()).collect();
    for (name, worker) in short_names(&identities).into_iter().zip(workers) {
        table.add_row([
            name.to_owned(),
            worker.process.who(),
            worker.process.pid.to_string(),
            worker.process.version.clone(),
            worker.bus.clone(),
            state(worker).to_owned(),
            worker.slots.to_string(),
            worker.executing().to_string(),
            worker.waiting.to_string(),
            format!("{:.0}%", worker.load * 100.0),
            worker.executed.to_string(),
            worker.plugins.len().to_string(),
            output::since(worker.uptime),
        ]);
    }
    table.trim_fmt()
}

fn state(worker: &WorkerStatus) -> &'static str {
    if worker.draining { "draining" } else { "taking" }
}

pub(super) fn to_json(worker: &WorkerStatus) -> Value {
    let plugin = |plugin: &palfrey_host::presence::LoadedPlugin| json!({ "name": plugin.name, "version": plugin.version, "digest": plugin.digest.to_string() });
    json!({
        "worker": worker.identity,
        "user": worker.process.user,
        "host": worker.process.host,
        "pid": worker.process.pid,
        "version": worker.process.version,
        "bus": worker.bus,
        "state": state(worker),
        "slots": worker.slots,
        "running": worker.executing(),
        "running_by_job": worker.running.iter().map(|(job, tasks)| (job.to_string(), json!(tasks))).collect::<serde_json::Map<_, _>>(),
        "waiting": worker.waiting,
        "load": worker.load,
        "executed": worker.executed,
        "plugins": worker.plugins.iter().map(plugin).collect::<Vec<_>>(),
        "since": output::since(worker.uptime),
        "uptime_seconds": worker.uptime.as_secs(),
    })
}
