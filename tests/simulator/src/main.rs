//! `cargo xtask simulate`: all scenarios, a table and plots.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use palfrey_simulator::{
    plot::{self, Line},
    scenarios::{self, Scenario},
    simulation::Outcome,
};

/// Simulates jobs on clusters of up to 10,000 workers, with the real decisions
#[derive(Debug, Parser)]
struct Arguments {
    /// The same seed gives the same figures
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Up to 100 workers only
    #[arg(long)]
    quick: bool,
    /// Folder for the plots
    #[arg(long, value_name = "DIR", default_value = "target/simulation")]
    plots: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    fs::create_dir_all(&arguments.plots).with_context(|| format!("cannot create {}", arguments.plots.display()))?;
    let run = |scenario: Scenario| {
        eprintln!("{} on {} workers", scenario.name, scenario.cluster.workers);
        let outcome = scenario.run(arguments.seed);
        (scenario, outcome)
    };
    let sizes: Vec<_> = scenarios::sizes(arguments.quick).into_iter().map(run).collect();
    println!("Elements of several durations, workers of {} slots:\n{}\n", scenarios::SLOTS, table(&sizes));
    let troubles: Vec<_> = scenarios::troubles().into_iter().map(run).collect();
    println!("What goes wrong and what is large:\n{}\n", table(&troubles));

    for plot in plots() {
        let path = arguments.plots.join(plot.file);
        let lines = lines(&sizes, plot.value);
        let most = lines.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(1.0, f64::max);
        plot::over_workers(&path, plot.title, plot.unit, most, &lines)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// A figure over the number of workers.
struct Plot {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    value: fn(&Outcome) -> f64,
}

fn plots() -> [Plot; 5] {
    let plot = |file, title, unit, value| Plot { file, title, unit, value };
    [
        plot("efficiency.svg", "Part of the time that slots execute elements", "efficiency", |of| of.efficiency),
        plot("makespan.svg", "Time to the last result", "times the lower bound", |of| of.makespan / of.bound),
        plot("broker.svg", "Messages in and out of the broker", "thousands a second", |of| {
            of.messages_per_second / 1e3
        }),
        plot("bytes.svg", "Bytes in and out of the broker", "MB a second", |of| of.bytes_per_second / 1e6),
        plot("memory.svg", "What the orchestrator holds", "MB", |of| of.memory / 1e6),
    ]
}

fn table(outcomes: &[(Scenario, Outcome)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "elements",
        "workers",
        "makespan",
        "of bound",
        "efficiency",
        "tasks",
        "copies",
        "messages/s",
        "MB/s",
        "memory",
        "orchestrator",
        "broker",
    ]);
    for (scenario, outcome) in outcomes {
        table.add_row([
            scenario.name.clone(),
            scenario.cluster.workers.to_string(),
            format!("{:.1} s", outcome.makespan),
            format!("{:.2}", outcome.makespan / outcome.bound),
            format!("{:.1} %", 100.0 * outcome.efficiency),
            outcome.tasks.to_string(),
            outcome.copies.to_string(),
            format!("{:.0}", outcome.messages_per_second),
            format!("{:.1}", outcome.bytes_per_second / 1e6),
            format!("{:.1} MB", outcome.memory / 1e6),
            format!("{:.0} %", 100.0 * outcome.orchestrator_busy),
            format!("{:.0} %", 100.0 * outcome.broker_busy),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A line for each kind of elements.
fn lines(outcomes: &[(Scenario, Outcome)], value: impl Fn(&Outcome) -> f64) -> Vec<Line> {
    let points = |name: &str| {
        let of_name = outcomes.iter().filter(|(scenario, _)| scenario.name == name);
        of_name.map(|(scenario, outcome)| (scenario.cluster.workers as f64, value(outcome))).collect()
    };
    scenarios::durations().map(|(name, _)| (name.to_owned(), points(name))).into()
}
