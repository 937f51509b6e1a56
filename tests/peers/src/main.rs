//! Palfrey side by side with what users would pick instead, and with what the machine can do.
//!
//! `cargo xtask bench` builds and installs everything, starts a broker, and runs this program. `work` is the table of what is
//! measured, `contestant` who takes part; there is a module for each of them. `measure` has them alternate, `report` prints. What
//! has no peers is in `alone`.

mod alone;
mod bare;
mod bare_lapin;
mod contestant;
mod explain;
mod latency;
mod measure;
mod paladin_peer;
mod palfrey;
mod python;
mod report;
mod sweep;
mod work;
mod worker;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    alone::{ALONE, Place},
    contestant::Site,
    measure::Effort,
    report::Report,
    sweep::SWEEPS,
    work::WORKS,
};

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures
    Run(Options),
    /// Names the works
    List,
    /// A worker of a contestant, until its standard input is closed
    Worker {
        /// Whose
        kind: String,
        #[arg(long)]
        uri: String,
        /// Where it keeps machine code
        #[arg(long)]
        cache: Option<PathBuf>,
    },
    /// A measure of Palfrey alone, as JSON
    Alone {
        /// Which
        name: String,
        #[arg(long)]
        uri: String,
        #[arg(long)]
        component: PathBuf,
        #[arg(long)]
        text: PathBuf,
        #[arg(long)]
        logs: PathBuf,
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// The broker
    #[arg(long)]
    uri: String,
    /// The operations, built for WebAssembly
    #[arg(long)]
    component: PathBuf,
    /// The plugin `text`
    #[arg(long)]
    text: PathBuf,
    /// An interpreter that has Celery and Dask
    #[arg(long)]
    python: PathBuf,
    /// Folder for results, and for what workers say
    #[arg(long)]
    out: PathBuf,
    /// Five short repetitions of each
    #[arg(long)]
    quick: bool,
    /// Says where the time of Palfrey's tasks goes
    #[arg(long)]
    explain: bool,
    /// Measures these only
    #[arg(long)]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(options) => run(&options).await,
        Command::List => {
            WORKS.iter().for_each(|work| println!("{:16} {}", work.name, work.about));
            ALONE.iter().for_each(|alone| println!("{:16} {}", alone.name, alone.about));
            SWEEPS.iter().for_each(|sweep| println!("{:16} {}", sweep.name, sweep.about));
            Ok(())
        }
        Command::Alone { name, uri, component, text, logs, quick } => {
            let site = Site { uri, component, text, python: PathBuf::new(), logs };
            let rows = alone::measure(&name, &Place::new(site, quick)?).await?;
            println!("{}", serde_json::to_string(&rows)?);
            Ok(())
        }
        Command::Worker { kind, uri, cache } => {
            // As `palfrey worker` does.
            tracing_subscriber::fmt().with_env_filter("info").with_ansi(false).init();
            worker::serve(&kind, &uri, cache).await
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let is_chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let names = WORKS.iter().map(|work| work.name);
    let names = names.chain(ALONE.iter().map(|alone| alone.name)).chain(SWEEPS.iter().map(|sweep| sweep.name));
    if let Some(unknown) = options.only.iter().find(|only| names.clone().all(|name| name != **only)) {
        bail!("there is no work `{unknown}`: `cargo xtask bench --list` names them");
    }
    let logs = options.out.join("logs");
    std::fs::create_dir_all(&logs)?;
    let Options { uri, component, text, python, .. } = options;
    let (uri, [component, text, python]) = (uri.clone(), [component, text, python].map(Clone::clone));
    let site = Site { uri, component, text, python, logs };
    let effort = match options.quick {
        true => Effort { repetitions: 5, length: Duration::from_millis(400) },
        false => Effort { repetitions: 9, length: Duration::from_secs(2) },
    };
    let times = options.explain.then(|| {
        let times = explain::Times::default();
        tracing_subscriber::registry().with(times.clone()).init();
        times
    });
    let mut report = Report::default();
    for work in WORKS.iter().filter(|work| is_chosen(work.name)) {
        report.add(*work, measure::measure(&site, work, effort).await?);
        if let Some(times) = &times {
            println!("{}", times.take());
        }
    }
    for alone in ALONE.iter().filter(|alone| is_chosen(alone.name)) {
        let rows = tokio::task::block_in_place(|| alone::measure_apart(alone.name, &site, options.quick))?;
        report.add_alone(alone, rows);
    }
    for sweep in SWEEPS.iter().filter(|sweep| is_chosen(sweep.name)) {
        let path = options.out.join(sweep.name).with_extension("svg");
        sweep.draw(&path, &sweep.measure(&site, Effort { repetitions: 5, length: effort.length / 2 }).await?)?;
        println!("{}: {}", sweep.about, path.display());
    }
    report.print();
    report.write(&options.out.join("results.json"))
}
