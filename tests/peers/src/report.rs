//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};

use crate::{
    alone::{self, Alone, Row},
    contestant::Who,
    measure::{Measured, Shown, Spread},
    work::{Goal, Job, Measure, Work},
};

/// All works so far.
#[derive(Default)]
pub(crate) struct Report {
    works: Vec<(Work, Measured)>,
    alone: Vec<(&'static str, Vec<Row>)>,
}

impl Report {
    /// Adds a work, and prints its rows.
    pub(crate) fn add(&mut self, work: Work, measured: Measured) {
        println!("\n{}: {}\n{}", work.name, work.about, table(&[(work, &measured)]));
        self.works.push((work, measured));
    }

    /// Adds a measure of Palfrey alone, and prints its rows.
    pub(crate) fn add_alone(&mut self, measure: &Alone, rows: Vec<Row>) {
        println!("\n{}: {}\n{}", measure.name, measure.about, alone::table(&rows));
        self.alone.push((measure.name, rows));
    }

    /// Prints all rows, and what each contestant promises.
    pub(crate) fn print(&self) {
        let rows: Vec<_> = self.works.iter().map(|(work, measured)| (*work, measured)).collect();
        if rows.is_empty() {
            return;
        }
        println!("\n{}\n\nWhat is durable and confirmed:", table(&rows));
        let mut all: Vec<Who> = self.works.iter().flat_map(|(_, measured)| measured.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        for who in all {
            println!("  {who:20} {}", who.promises());
        }
    }

    /// Writes everything that was measured.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let works: Vec<Value> = self.works.iter().map(|(work, measured)| document(work, measured)).collect();
        let alone: Vec<Value> = self.alone.iter().map(|(name, rows)| json!({ "name": name, "rows": rows })).collect();
        let text = serde_json::to_string_pretty(&json!({ "works": works, "alone": alone }))?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A row for each peer, the ratio first.
fn table(works: &[(Work, &Measured)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["work", "against", "ratio", "lowest – highest", "goal", "Palfrey", "peer"]);
    for (work, measured) in works {
        for goal in work.goals {
            let (Some(ours), Some(theirs)) = (measured.get(&work.palfrey), measured.get(&goal.against)) else {
                continue;
            };
            let ratio = Spread::of_ratios(ours, theirs);
            table.add_row([
                work.name.to_owned(),
                goal.against.to_string(),
                format!("{} ×", figure(ratio.median)),
                format!("{} – {}", figure(ratio.low), figure(ratio.high)),
                verdict(work, goal, ratio),
                value(work, ours),
                value(work, theirs),
            ]);
        }
    }
    table
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
fn figure(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn document(work: &Work, measured: &Measured) -> Value {
    let contestants: Vec<Value> = measured
        .iter()
        .map(|(who, shown)| json!({ "name": who.to_string(), "promises": who.promises(), "shown": shown }))
        .collect();
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
        "contestants": contestants,
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
