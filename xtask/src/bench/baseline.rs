//! What the steps of a task took before: medians in a file that is reviewed with a change, and the table that compares with it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

/// Nanoseconds of the median, by the name of the step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Medians(BTreeMap<String, f64>);

/// Slower or faster by less is chance, on a machine that does something else as well.
const CHANCE: f64 = 0.1;

impl Medians {
    /// What Criterion has measured last.
    pub(super) fn of_criterion(folder: &Path) -> Result<Self> {
        let mut medians = BTreeMap::new();
        for latest in latest(folder)? {
            let name = read(&latest.join("benchmark.json"))?["full_id"].as_str().map(str::to_owned);
            let median = read(&latest.join("estimates.json"))?["median"]["point_estimate"].as_f64();
            medians.extend(name.zip(median));
        }
        Ok(Self(medians))
    }

    /// What was kept, if there is something.
    pub(super) fn kept(file: &Path) -> Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let value = read(file)?;
        let medians = value.as_object().context("it is no object")?.iter();
        let medians = medians.filter_map(|(name, median)| Some((name.clone(), median.as_f64()?)));
        Ok(Some(Self(medians.collect())))
    }

    /// Keeps them: those that are not among these stay as they are.
    pub(super) fn keep(&self, file: &Path) -> Result<()> {
        let mut all = Self::kept(file)?.map_or_else(BTreeMap::new, |kept| kept.0);
        all.extend(self.0.clone());
        // Three digits say all that there is to say.
        let rounded =
            |(name, median): (String, f64)| (name, Value::from(format!("{median:.2e}").parse().unwrap_or(median)));
        let text = serde_json::to_string_pretty(&Value::Object(all.into_iter().map(rounded).collect::<Map<_, _>>()))?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    /// A line for each step, with what it took before where that is known.
    pub(super) fn compared(&self, before: Option<&Self>) -> String {
        let mut text = String::new();
        for (name, now) in &self.0 {
            let before = before.and_then(|before| before.0.get(name));
            let change = before.map_or_else(String::new, |before| {
                let ratio = now / before;
                let verdict = match ratio {
                    _ if ratio > 1.0 + CHANCE => "  SLOWER",
                    _ if ratio < 1.0 / (1.0 + CHANCE) => "  faster",
                    _ => "",
                };
                format!("  {ratio:5.2} × of {}{verdict}", time(*before))
            });
            // Writing to a text does not fail.
            _ = writeln!(text, "{name:60}  {:>10}{change}", time(*now));
        }
        text
    }
}

/// Removes what Criterion has measured last, of other steps and at other times. What it was told to save stays.
pub(super) fn forget_latest(folder: &Path) -> Result<()> {
    let latest = latest(folder)?;
    latest.iter().try_for_each(|latest| {
        fs::remove_dir_all(latest).with_context(|| format!("cannot remove {}", latest.display()))
    })
}

/// The folders of the latest measurements, below Criterion's.
fn latest(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.ends_with("new") {
                found.push(path);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

fn time(nanos: f64) -> String {
    match nanos {
        0.0..1e3 => format!("{nanos:.1} ns"),
        1e3..1e6 => format!("{:.1} µs", nanos / 1e3),
        _ => format!("{:.1} ms", nanos / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medians<const N: usize>(of: [(&str, f64); N]) -> Medians {
        Medians(of.map(|(name, median)| (name.to_owned(), median)).into())
    }

    #[test]
    fn what_is_slower_than_before_is_named() {
        let now = medians([("call", 1200.0), ("new", 5.0), ("pack", 100.0), ("wire", 80.0)]);
        let text = now.compared(Some(&medians([("call", 1000.0), ("gone", 1.0), ("pack", 95.0), ("wire", 100.0)])));
        let verdicts: Vec<_> = text.lines().map(|line| line.split_whitespace().last().unwrap_or_default()).collect();
        assert_eq!(verdicts, ["SLOWER", "ns", "ns", "faster"]);
    }

    #[test]
    fn what_is_kept_is_read_again_and_the_rest_stays() {
        let file = std::env::temp_dir().join(format!("baseline-{}.json", std::process::id()));
        medians([("call", 1234.5), ("pack", 20.0)]).keep(&file).unwrap();
        medians([("pack", 21.0)]).keep(&file).unwrap();
        let kept = Medians::kept(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(kept, Some(medians([("call", 1230.0), ("pack", 21.0)])));
        assert_eq!(Medians::kept(&file).unwrap(), None);
    }
}
