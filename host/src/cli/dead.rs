//! `palfrey dead`

use std::fmt::Write as _;

use clap::Subcommand;
use palfrey_host::{
    Config, Runtime,
    dead_letters::{DeadLetter, Selection},
    queue::Move,
    task::{AnyTask, Apply},
};
use serde_json::{Value, json};

use super::{Failure, connection, output};

pub(super) const HELP: &str = "\
Dead letters are tasks that could not be processed: they do not decode, or killed one worker after the other. They stay in
the queue `<bus>.dead` until they are requeued or dropped.

Examples:
  palfrey dead list
  palfrey dead show 4c1d
  palfrey dead requeue 4c1d
  palfrey dead drop --yes";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them, the oldest first
    #[command(after_help = "Example:\n  palfrey dead list --json")]
    List {
        /// As JSON, for machines
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of some
    #[command(after_help = "Example:\n  palfrey dead show 4c1d")]
    Show {
        /// Names as listed, or their beginnings
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// As JSON, for machines
        #[arg(long)]
        json: bool,
    },
    /// Execute some again, exactly as they were
    #[command(after_help = "Examples:\n  palfrey dead requeue 4c1d\n  palfrey dead requeue --all")]
    Requeue {
        /// Names as listed, or their beginnings
        #[arg(required_unless_present = "all", value_name = "NAME")]
        names: Vec<String>,
        /// All of them
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// Remove some for good, or with `--yes` all of them
    #[command(after_help = "Examples:\n  palfrey dead drop 4c1d\n  palfrey dead drop --yes")]
    Drop {
        /// Names as listed, or their beginnings
        #[arg(required_unless_present = "yes", value_name = "NAME")]
        names: Vec<String>,
        /// All of them, without a question
        #[arg(long, conflicts_with = "names")]
        yes: bool,
    },
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    match args.action {
        Action::List { json } => list(&runtime, json).await?,
        Action::Show { names, json } => show(&runtime, &names, json).await?,
        Action::Requeue { names, all } => {
            let requeued = runtime.dead_letters().requeue(&selection(names, all)).await?;
            tell(&requeued, "requeued")?;
        }
        Action::Drop { names, yes } => {
            let dropped = runtime.dead_letters().drop_letters(&selection(names, yes)).await?;
            tell(&dropped, "dropped")?;
        }
    }
    Ok(runtime.close().await?)
}

fn selection(names: Vec<String>, all: bool) -> Selection {
    if all { Selection::All } else { Selection::Named(names) }
}

fn tell(letters: &[DeadLetter], done: &str) -> Result<(), Failure> {
    if letters.is_empty() {
        return output::print("there are no dead letters\n");
    }
    letters.iter().try_for_each(|letter| output::print(&format!("{done} {}: {}\n", letter.name, summary(letter))))
}

async fn list(runtime: &Runtime, json: bool) -> Result<(), Failure> {
    let found = runtime.dead_letters().list().await?;
    if found.more > 0 {
        tracing::warn!("{} more dead letters wait behind these", found.more);
    }
    if json {
        output::print_json(&found.letters.iter().map(to_json).collect())
    } else if found.letters.is_empty() {
        output::print("there are no dead letters\n")
    } else {
        output::print(&format!("{}\n", to_table(&found.letters)))
    }
}

async fn show(runtime: &Runtime, names: &[String], json: bool) -> Result<(), Failure> {
    let letters = runtime.dead_letters().find(&Selection::Named(names.to_vec())).await?;
    if json {
        return output::print_json(&letters.iter().map(to_json).collect());
    }
    letters.iter().try_for_each(|letter| output::print(&to_text(letter)))
}

/// A reason that fits into a table. The whole of it is in `show`.
fn short(reason: &str) -> String {
    const WIDTH: usize = 60;
    let line = reason.lines().next().unwrap_or_default();
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

fn summary(letter: &DeadLetter) -> String {
    match &letter.task {
        Ok(task) => operations(task).join(" "),
        Err(error) => error.to_string(),
    }
}

fn operations(task: &AnyTask) -> Vec<String> {
    task.stages.iter().map(|stage| stage.operation.to_string()).collect()
}

fn time(death: &Move) -> String {
    humantime::format_rfc3339_seconds(death.at).to_string()
}

fn to_table(letters: &[DeadLetter]) -> String {
    let mut table = output::table(["NAME", "SINCE", "OPERATIONS", "DIGEST", "DELIVERED", "SIZE", "REASON"]);
    for letter in letters {
        let task = letter.task.as_ref().ok();
        let death = letter.death();
        table.add_row([
            letter.name.clone(),
            death.map(time).unwrap_or_default(),
            task.map(|task| operations(task).join(" ")).unwrap_or_default(),
            task.and_then(|task| task.stages.last()).map(|stage| stage.digest.short()).unwrap_or_default(),
            letter.deliveries().to_string(),
            output::size(letter.payload.len() as u64),
            death.map(|death| short(&death.reason)).unwrap_or_default(),
        ]);
    }
    table.trim_fmt()
}

fn to_json(letter: &DeadLetter) -> Value {
    let moved = |it: &Move| {
        json!({
            "from": it.from, "to": it.to, "reason": it.reason, "at": time(it), "deliveries": it.deliveries,
            "times": it.times,
        })
    };
    let stage = |stage: &palfrey_host::task::Stage| {
        json!({
            "operation": stage.operation.to_string(),
            "digest": stage.digest.to_string(),
            "apply": apply(stage.apply),
            "config": hex::encode(&stage.config),
        })
    };
    let task = |task: &AnyTask| {
        json!({
            "job": task.routing_key.as_str(),
            "task": task.id.0,
            "attempt": task.attempt,
            "encoding": task.serializer.to_string(),
            "stages": task.stages.iter().map(stage).collect::<Vec<_>>(),
            "elements": task.inputs.len(),
        })
    };
    json!({
        "name": letter.name,
        "size": letter.payload.len(),
        "reason": letter.death().map(|death| &death.reason),
        "since": letter.death().map(time),
        "delivered": letter.deliveries(),
        "moves": letter.moves.iter().map(moved).collect::<Vec<_>>(),
        "task": letter.task.as_ref().ok().map(task),
    })
}

fn apply(apply: Apply) -> &'static str {
    match apply {
        Apply::Map => "map",
        Apply::Fold => "fold",
    }
}

/// As many bytes of a message as help to recognise it.
fn beginning(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let rest = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{}{rest}", hex::encode(&bytes[..bytes.len().min(SHOWN)]))
}

fn to_text(letter: &DeadLetter) -> String {
    let mut text = format!("{}\n", output::heading(&letter.name));
    let mut line = |name: &str, value: &dyn std::fmt::Display| _ = writeln!(text, "  {name:<9} {value}");
    line("size", &output::size(letter.payload.len() as u64));
    match &letter.task {
        Ok(task) => {
            line("job", &task.routing_key);
            line("task", &format_args!("{}, attempt {}", task.id, u64::from(task.attempt) + 1));
            for stage in &task.stages {
                line(apply(stage.apply), &format_args!("{} of {}", stage.operation, stage.digest));
                line("config", &beginning(&stage.config));
            }
            line("elements", &format_args!("{}, {}", task.inputs.len(), task.serializer));
        }
        Err(error) => {
            line("no task", error);
            line("bytes", &beginning(&letter.payload));
        }
    }
    for it in &letter.moves {
        let times = if it.times > 1 { format!(", {} times", it.times) } else { String::new() };
        let delivered = format!("delivered {} times", it.deliveries);
        line("moved", &format_args!("{} from {} to {}, {delivered}{times}: {}", time(it), it.from, it.to, it.reason));
    }
    text
}
