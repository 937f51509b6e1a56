//! How many tests passed and failed, read from what the runners print.

/// Numbers of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Ignored or filtered out.
    pub(crate) skipped: u64,
}

/// Who runs the tests, and how it says what came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `cargo test`: one line a binary, such as
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
    Cargo,
    /// `cargo nextest`: one line in all, such as
    /// `Summary [   0.611s] 20 tests run: 18 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
    ///
    /// It also repeats what failed tests print, and there are lines of the other kind in it.
    Nextest,
}

impl Tally {
    /// Reads a line of what the runner prints.
    pub(crate) fn read(&mut self, runner: Runner, line: &str) {
        let line = without_colors(line);
        let line = line.trim();
        match runner {
            Runner::Cargo => {
                if let Some(result) = line.strip_prefix("test result: ") {
                    self.add(result.split_once(". ").map_or("", |(_, counts)| counts).split(';'));
                }
            }
            Runner::Nextest => {
                if line.starts_with("Summary [")
                    && let Some((_, counts)) = line.split_once(" run: ")
                {
                    self.add(without_parentheses(counts).split(','));
                }
            }
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

pub(super) fn without_colors(line: &str) -> String {
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

    fn check(runner: Runner, lines: &[&str], passed: u64, failed: u64, skipped: u64) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(runner, line));
        assert_eq!(tally, Tally { passed, failed, skipped }, "{lines:?}");
    }

    const OF_CARGO: [&str; 3] = [
        "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        "test task::id ... ok",
        "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 9.00s",
    ];

    #[test]
    fn results_of_all_test_binaries_are_summed() {
        check(Runner::Cargo, &OF_CARGO, 15, 2, 5);
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        check(Runner::Nextest, &["     Summary [   0.611s] 20 tests run: 20 passed, 0 skipped"], 20, 0, 0);
        let line =
            "     Summary [   9.6s] 18/20 tests run: 15 passed (1 slow, 1 flaky), 1 failed, 2 timed out, 3 skipped";
        check(Runner::Nextest, &[line], 15, 3, 3);
    }

    #[test]
    fn what_failed_tests_print_under_nextest_is_not_counted_again() {
        check(Runner::Nextest, &OF_CARGO, 0, 0, 0);
    }

    #[test]
    fn colors_do_not_matter() {
        let line =
            "\u{1b}[32;1m     Summary\u{1b}[0m [ 1.0s] 1 test run: \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m";
        check(Runner::Nextest, &[line], 1, 0, 0);
        check(Runner::Cargo, &["test result: \u{1b}[32mok\u{1b}[m. 2 passed; 0 failed"], 2, 0, 0);
    }

    #[test]
    fn other_lines_count_nothing() {
        for runner in [Runner::Cargo, Runner::Nextest] {
            check(
                runner,
                &["", "Summary of 3 passed", "        PASS [   0.005s] a passed", "running 3 tests"],
                0,
                0,
                0,
            );
        }
    }
}
