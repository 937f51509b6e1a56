//! How many tests passed and failed, read from what the runners print.

/// Numbers of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Ignored or filtered out.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Reads a line of a runner: `cargo test` prints one such line a binary, `cargo nextest` one in all.
    ///
    /// ```text
    /// test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
    ///      Summary [   0.611s] 20 tests run: 18 passed (1 slow), 1 failed, 1 timed out, 2 skipped
    /// ```
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colors(line);
        let line = line.trim();
        if let Some(result) = line.strip_prefix("test result: ") {
            self.add(result.split_once(". ").map_or("", |(_, counts)| counts).split(';'));
        } else if line.starts_with("Summary [")
            && let Some((_, counts)) = line.split_once(" run: ")
        {
            self.add(without_parentheses(counts).split(','));
        }
    }

    fn add<'a>(&mut self, counts: impl Iterator<Item = &'a str>) {
        for count in counts {
            let Some((number, what)) = count.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what.trim() {
                "passed" => self.passed += number,
                "ignored" | "skipped" | "filtered out" => self.skipped += number,
                "measured" => {}
                // In whatever way: timed out, could not be executed.
                _ => self.failed += number,
            }
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn without_colors(line: &str) -> String {
    let mut pieces = line.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    // A color is a number that ends with `m`.
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let mut outside = String::new();
    for char in text.chars() {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => outside.push(char),
            _ => {}
        }
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], passed: u64, failed: u64, skipped: u64) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        assert_eq!(tally, Tally { passed, failed, skipped }, "{lines:?}");
    }

    #[test]
    fn results_of_all_test_binaries_are_summed() {
        check(
            &[
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                "test task::id ... ok",
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 9.00s",
            ],
            15,
            2,
            5,
        );
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        check(&["     Summary [   0.611s] 20 tests run: 20 passed, 0 skipped"], 20, 0, 0);
        check(
            &["     Summary [   9.6s] 18/20 tests run: 15 passed (1 slow, 1 flaky), 1 failed, 2 timed out, 3 skipped"],
            15,
            3,
            3,
        );
    }

    #[test]
    fn colors_do_not_matter() {
        check(
            &[
                "\u{1b}[32;1m     Summary\u{1b}[0m [ 1.0s] 1 test run: \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m skipped",
            ],
            1,
            0,
            0,
        );
        check(
            &["test result: \u{1b}[32mok\u{1b}[m. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out"],
            2,
            0,
            0,
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        check(&["", "Summary of 3 passed", "        PASS [   0.005s] a passed", "running 3 tests"], 0, 0, 0);
    }
}
