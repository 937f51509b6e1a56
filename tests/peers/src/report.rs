//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};

use crate::{
    alone::{Alone, Row},
    contestant::Who,
    measure::{Measured, Shown, Spread},
    sweep::Sweep,
    work::{Goal, Job, Measure, Work},
};

/// All works so far.
#[derive(Default)]
pub(crate) struct Report {
    works: Vec<(Work, Measured)>,
    alone: Vec<(&'static str, Vec<Row>)>,
    sweeps: Vec<(&'static str, Vec<(u64, Measured)>)>,
}

impl Report {
    /// Adds a work, and prints its rows.
    pub(crate) fn add(&mut self, work: Work, measured: Measured) {
        println!("\n{}: {}\n{}", work.name, work.about, table(&[(work, &measured)]));
        self.works.push((work, measured));
    }

    /// Adds a measure of Palfrey alone, and prints its rows.
    pub(crate) fn add_alone(&mut self, measure: &Alone, rows: Vec<Row>) {
        println!("\n{}: {}\n{}", measure.name, measure.about, table_alone(&[(measure.name, &rows)]));
        self.alone.push((measure.name, rows));
    }

    /// Adds what a plot shows.
    pub(crate) fn add_sweep(&mut self, sweep: &Sweep, measured: Vec<(u64, Measured)>) {
        self.sweeps.push((sweep.name, measured));
    }

    /// Prints all rows, and what each contestant promises.
    pub(crate) fn print(&self) {
        let rows: Vec<_> = self.works.iter().map(|(work, measured)| (*work, measured)).collect();
        if !rows.is_empty() {
            println!("\n{}\n\nWhat is durable and confirmed:", table(&rows));
            let mut all: Vec<Who> = self.works.iter().flat_map(|(_, measured)| measured.keys().copied()).collect();
            all.sort_unstable();
            all.dedup();
            for who in all {
                println!("  {who:20} {}", who.promises());
            }
        }
        let rows: Vec<_> = self.alone.iter().map(|(name, rows)| (*name, rows.as_slice())).collect();
        if !rows.is_empty() {
            println!("\n{}", table_alone(&rows));
        }
    }

    /// Writes everything that was measured.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let works: Vec<Value> = self.works.iter().map(|(work, measured)| document(work, measured)).collect();
        let alone = self
            .alone
            .iter()
            .map(|(name, rows)| json!({ "name": name, "rows": rows.iter().map(Row::document).collect::<Vec<_>>() }));
        let sweeps = self.sweeps.iter().map(|(name, points)| {
            let point =
                |(point, measured): &(u64, Measured)| json!({ "at": point, "contestants": contestants(measured) });
            json!({ "name": name, "points": points.iter().map(point).collect::<Vec<_>>() })
        });
        let (alone, sweeps): (Vec<_>, Vec<_>) = (alone.collect(), sweeps.collect());
        let text = serde_json::to_string_pretty(&json!({ "works": works, "alone": alone, "sweeps": sweeps }))?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A row for each peer, the ratio first.
fn table(works: &[(Work, &Measured)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let header =
        ["work", "ratio", "lowest – highest", "goal", "against", "Palfrey", "peer", "confirmed: Palfrey", "peer"];
    table.set_header(header);
    for (work, measured) in works {
        for goal in work.goals {
            let (Some(ours), Some(theirs)) = (measured.get(&work.palfrey), measured.get(&goal.against)) else {
                continue;
            };
            let ratio = Spread::of_ratios(ours, theirs);
            table.add_row([
                work.name.to_owned(),
                format!("{} ×", figure(ratio.median)),
                range(ratio, figure),
                verdict(work, goal, ratio),
                goal.against.to_string(),
                value(work, ours),
                value(work, theirs),
                work.palfrey.keeps().to_owned(),
                goal.against.keeps().to_owned(),
            ]);
        }
    }
    table
}

/// What Palfrey shows by itself.
fn table_alone(measures: &[(&str, &[Row])]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["measure", "of", "ratio", "lowest – highest", "goal", "measured", "beside", "confirmed"]);
    for (name, rows) in measures {
        for row in *rows {
            table.add_row([(*name).to_owned()].into_iter().chain(row.cells()));
        }
    }
    table
}

/// From the lowest to the highest.
pub(crate) fn range(spread: Spread, show: impl Fn(f64) -> String) -> String {
    format!("{} – {}", show(spread.low), show(spread.high))
}

fn verdict(work: &Work, goal: &Goal, ratio: Spread) -> String {
    let Some(bound) = goal.ratio else { return String::new() };
    let (sign, reached) = match work.measure {
        Measure::Rate => ("≥", ratio.median >= bound),
        Measure::Latency => ("≤", ratio.median <= bound),
    };
    format!("{sign} {} {}", figure(bound), if reached { "✓" } else { "✗" })
}

fn value(work: &Work, shown: &Shown) -> String {
    let median = Spread::of(shown.values.iter().copied()).median;
    match (work.measure, work.job) {
        (Measure::Latency, _) => {
            let slowest = shown.slowest_of_hundred.unwrap_or(f64::NAN);
            format!("{} ms (p99 {})", figure(1e3 * median), figure(1e3 * slowest))
        }
        (Measure::Rate, Job::Echo(bytes)) => format!("{} MB/s", figure(median * bytes as f64 / 1e6)),
        (Measure::Rate, _) if median >= 1e6 => format!("{} M/s", figure(median / 1e6)),
        (Measure::Rate, _) if median >= 1e3 => format!("{} k/s", figure(median / 1e3)),
        (Measure::Rate, _) => format!("{} /s", figure(median)),
    }
}

/// Three digits.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn contestants(measured: &Measured) -> Vec<Value> {
    let one =
        |(who, shown): (&Who, &Shown)| json!({ "name": who.to_string(), "promises": who.promises(), "shown": shown });
    measured.iter().map(one).collect()
}

fn document(work: &Work, measured: &Measured) -> Value {
    let ratios: Vec<Value> = work
        .goals
        .iter()
        .filter_map(|goal| {
            let ratio = Spread::of_ratios(measured.get(&work.palfrey)?, measured.get(&goal.against)?);
            Some(json!({ "against": goal.against.to_string(), "ratio": ratio, "goal": goal.ratio }))
        })
        .collect();
    json!({
        "name": work.name,
        "about": work.about,
        "unit": if work.measure == Measure::Rate { "elements per second" } else { "seconds per element" },
        "ratios": ratios,
        "contestants": contestants(measured),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.1234, 1.234, 12.34, 123.4, 1234.0].map(figure), ["0.123", "1.23", "12.3", "123", "1234"]);
    }
}
