//! What the suite has done, as a table.

use std::{fmt, time::Duration};

use super::tally::Tally;

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Failed(anyhow::Error),
    /// It was not run, for a reason that a person should read.
    LeftOut(String),
}

/// A step of the suite that is over.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) time: Duration,
    pub(crate) tally: Option<Tally>,
}

/// All steps. It is displayed as a table, why tests failed, what failed with how to repeat it, and a closing line.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) entries: Vec<Entry>,
    /// What failed tests said, line by line.
    pub(crate) panics: Vec<String>,
}

impl Report {
    /// Steps that failed.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, &anyhow::Error)> {
        self.entries.iter().filter_map(|entry| match &entry.outcome {
            Outcome::Failed(error) => Some((entry.name, error)),
            Outcome::Done | Outcome::LeftOut(_) => None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or_default();
        let mut all = Tally::default();
        writeln!(f, "\n{:width$}  {:>8}", "step", "seconds")?;
        for Entry { name, outcome, time, tally } in &self.entries {
            write!(f, "{name:width$}  {:8.1}  ", time.as_secs_f64())?;
            match outcome {
                Outcome::Done => write!(f, "ok")?,
                Outcome::Failed(_) => write!(f, "FAILED")?,
                Outcome::LeftOut(reason) => write!(f, "left out: {reason}")?,
            }
            if let Some(tally) = tally {
                write!(f, ": {} passed, {} failed", tally.passed, tally.failed)?;
                all += *tally;
            }
            writeln!(f)?;
        }
        let total: Duration = self.entries.iter().map(|entry| entry.time).sum();
        writeln!(f, "{:width$}  {:8.1}", "all", total.as_secs_f64())?;
        if !self.panics.is_empty() {
            writeln!(f, "\n{}", self.panics.join("\n"))?;
        }
        for (name, error) in self.failures() {
            writeln!(f, "\n{name}: {error:#}")?;
        }
        write!(f, "\n{} passed, {} failed", all.passed, all.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &'static str, outcome: Outcome, tally: Option<Tally>) -> Entry {
        Entry { name, outcome, time: Duration::from_millis(1250), tally }
    }

    #[test]
    fn the_last_line_sums_the_tests_of_all_steps() {
        let tally = |passed, failed| Some(Tally { passed, failed, skipped: 0 });
        let entries = vec![
            entry("format", Outcome::Done, None),
            entry("tests", Outcome::Failed(anyhow::anyhow!("repeat it")), tally(10, 2)),
            entry("doc tests", Outcome::Done, tally(5, 0)),
            entry("licences", Outcome::LeftOut("cargo-deny is not installed".into()), None),
        ];
        let panics = vec!["thread 'one' panicked at a.rs:1:1:".into(), "left is not right".into()];
        let report = Report { entries, panics };
        let expected = "
step        seconds
format          1.2  ok
tests           1.2  FAILED: 10 passed, 2 failed
doc tests       1.2  ok: 5 passed, 0 failed
licences        1.2  left out: cargo-deny is not installed
all             5.0

thread 'one' panicked at a.rs:1:1:
left is not right

tests: repeat it

15 passed, 2 failed";
        assert_eq!(report.to_string(), expected);
        assert_eq!(report.failures().count(), 1);
    }
}
