//! Why tests failed, found among all that they print and repeated at the end, where it is looked for.

use super::tally::without_colors;

/// Lines of a panic: where it was, and the message.
const LINES: usize = 6;
/// Panics that are kept. More of them have one reason, most likely.
const KEPT: usize = 30;
/// Characters of a line.
const WIDTH: usize = 1000;

/// The panics of tests, as they print them.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    found: Vec<Vec<String>>,
    /// Whether the lines that come belong to the last one.
    open: bool,
}

impl Panics {
    /// Reads a line of what a runner prints.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colors(line);
        let line = line.trim_end();
        let begins = line.trim_start().starts_with("thread '") && line.contains(" panicked at ");
        if begins {
            self.open = self.found.len() < KEPT;
            if self.open {
                self.found.push(Vec::new());
            }
        } else if line.trim().is_empty()
            || ["note: ", "stack backtrace:"].iter().any(|end| line.trim().starts_with(end))
        {
            self.open = false;
        }
        if let Some(panic) = self.found.last_mut().filter(|panic| self.open && panic.len() < LINES) {
            panic.push(line.trim_start().chars().take(WIDTH).collect());
        }
    }

    /// The lines of all, one panic after the other, each once: runners may repeat them.
    pub(crate) fn lines(mut self) -> Vec<String> {
        self.found.sort();
        self.found.dedup();
        self.found.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(output: &str) -> Vec<String> {
        let mut panics = Panics::default();
        output.lines().for_each(|line| panics.read(line));
        panics.lines()
    }

    #[test]
    fn the_place_and_the_message_of_a_panic_are_kept_once() {
        let output = "running 1 test
    thread 'cuts::all' (17) panicked at tests/scene.rs:214:13:
    everything is settled: not so
    stack backtrace:
       0: rust_begin_unwind

        FAIL [   1.0s] palfrey-tests::faults cuts::all
    thread 'cuts::all' (17) panicked at tests/scene.rs:214:13:
    everything is settled: not so
    note: run with `RUST_BACKTRACE=1`
    more";
        let panic = ["thread 'cuts::all' (17) panicked at tests/scene.rs:214:13:", "everything is settled: not so"];
        assert_eq!(lines(output), panic);
    }

    #[test]
    fn a_long_message_is_cut() {
        let long = format!("thread 'one' panicked at a.rs:1:1:\n{}", "x\n".repeat(100));
        assert_eq!(lines(&long).len(), LINES);
        let many = (0..100).map(|test| format!("thread '{test:03}' panicked at a.rs:1:1:\n")).collect::<String>();
        assert_eq!(lines(&many).len(), KEPT);
        assert_eq!(
            lines(&format!("thread 'one' panicked at a.rs:1:1:\n{}", "é".repeat(2000)))[1].chars().count(),
            WIDTH
        );
    }
}
