//! What somebody may have meant who wrote a name that is not there.

use std::fmt;

/// Names that are there, for the error about one that is not.
///
/// ```
/// use palfrey_host::plugin::Suggestions;
///
/// let there = ["fib-at", "sum", "product"];
/// assert_eq!(Suggestions::new("fibat", there).to_string(), "did you mean `fib-at`?");
/// assert_eq!(Suggestions::new("logarithm", there).to_string(), "there are `fib-at`, `sum`, `product`");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestions {
    nearest: Vec<String>,
    all: Vec<String>,
}

impl Suggestions {
    /// Enough to see a typing mistake or a wrong plural in.
    const NEAREST: usize = 3;
    /// As many as fit on a screen.
    const LISTED: usize = 12;

    /// Compares `name` with the names that are there.
    pub fn new<'a>(name: &str, there: impl IntoIterator<Item = &'a str>) -> Self {
        let all: Vec<String> = there.into_iter().map(str::to_owned).collect();
        let tolerance = (name.len() / 3).max(2);
        let mut near: Vec<_> = all
            .iter()
            .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
            .filter(|&(distance, _)| distance <= tolerance)
            .collect();
        near.sort();
        let nearest = near.into_iter().take(Self::NEAREST).map(|(_, candidate)| candidate.clone()).collect();
        Self { nearest, all }
    }

    /// The names that differ by a few letters, the nearest first.
    pub fn nearest(&self) -> &[String] {
        &self.nearest
    }
}

impl fmt::Display for Suggestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (intro, names, separator, end) = match (self.nearest.is_empty(), self.all.is_empty()) {
            (false, _) => ("did you mean ", &self.nearest, " or ", "?"),
            (true, false) => ("there are ", &self.all, ", ", ""),
            (true, true) => return f.write_str("there are none yet"),
        };
        f.write_str(intro)?;
        for (index, name) in names.iter().take(Self::LISTED).enumerate() {
            write!(f, "{}`{name}`", if index == 0 { "" } else { separator })?;
        }
        match names.len().saturating_sub(Self::LISTED) {
            0 => f.write_str(end),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_the_nearest_ones() {
        let check = |name: &str, there: &[&str], expect: &str| {
            assert_eq!(Suggestions::new(name, there.iter().copied()).to_string(), expect);
        };
        check("fib-ta", &["fib-at", "sum", "multiply-by"], "did you mean `fib-at`?");
        check("summ", &["sum", "sums", "product"], "did you mean `sum` or `sums`?");
        check("word-count", &["fib-at", "sum"], "there are `fib-at`, `sum`");
        check("arith", &[], "there are none yet");
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<_> = (0..20).map(|number| format!("operation-{number}")).collect();
        let text = Suggestions::new("x", names.iter().map(String::as_str)).to_string();
        assert!(text.ends_with("`operation-11` and 8 more"), "{text}");
    }
}
