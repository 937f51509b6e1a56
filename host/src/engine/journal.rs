//! Where everything goes that a guest says: its log messages, and what it prints.
//!
//! All of it becomes tracing events with the target `palfrey::guest` and the fields `plugin` and `operation`, under the
//! span that is current; log messages also have `guest_target`, printed lines `stream`. All of it is bounded.

use std::collections::VecDeque;

/// The longest message or line in bytes. More is cut.
const MAX_LINE: usize = 8 << 10;

/// How much of the end of stderr is kept for the error.
const MAX_TAIL: usize = 4 << 10;

/// What each message counts on top of its length, so that a flood of empty ones has an end.
const OVERHEAD: u64 = 64;

/// Importance of a message.
pub(super) use tracing::Level;

/// The streams that a guest can print on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// What one call says.
pub(super) struct Journal {
    plugin: String,
    operation: String,
    /// Bytes that may still be written.
    remaining: u64,
    dropped: u64,
    /// The beginnings of lines that have not ended.
    stdout: Line,
    stderr: Line,
    tail: VecDeque<u8>,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// The line was too long, and its rest is skipped.
    cut: bool,
}

impl Journal {
    pub(super) fn new(plugin: &str, operation: &str, limit: u64) -> Self {
        Self {
            plugin: plugin.to_owned(),
            operation: operation.to_owned(),
            remaining: limit,
            dropped: 0,
            stdout: Line::default(),
            stderr: Line::default(),
            tail: VecDeque::new(),
        }
    }

    /// A log message.
    pub(super) fn log(&mut self, level: Level, guest_target: &str, message: &str) {
        let (guest_target, message) = (cut(guest_target, 256), cut(message, MAX_LINE));
        if self.pay(guest_target.len() + message.len()) {
            let (plugin, operation) = (&self.plugin, &self.operation);
            macro_rules! event {
                ($level:ident) => {
                    tracing::event!(target: "palfrey::guest", Level::$level, plugin, operation, guest_target, "{message}")
                };
            }
            match level {
                Level::TRACE => event!(TRACE),
                Level::DEBUG => event!(DEBUG),
                Level::INFO => event!(INFO),
                Level::WARN => event!(WARN),
                Level::ERROR => event!(ERROR),
            }
        }
    }

    /// Printed bytes. They are written line by line.
    pub(super) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        if let Stream::Stderr = stream {
            let new = &bytes[bytes.len().saturating_sub(MAX_TAIL)..];
            self.tail.extend(new);
            let surplus = self.tail.len().saturating_sub(MAX_TAIL);
            self.tail.drain(..surplus);
        }
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let line = self.line(stream);
            let (text, ended) =
                part.split_last().filter(|(last, _)| **last == b'\n').map_or((part, false), |(_, t)| (t, true));
            let room = MAX_LINE - line.bytes.len();
            line.bytes.extend_from_slice(&text[..text.len().min(room)]);
            line.cut |= text.len() > room;
            if ended {
                self.end_line(stream);
            }
        }
    }

    /// Writes what is left, and how much was dropped.
    pub(super) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.line(stream).bytes.is_empty() {
                self.end_line(stream);
            }
        }
        if self.dropped > 0 {
            tracing::warn!(
                target: "palfrey::guest",
                plugin = self.plugin,
                operation = self.operation,
                dropped = self.dropped,
                "the plugin wrote more than the limit `log` allows for one call, and {} messages were dropped",
                self.dropped,
            );
        }
    }

    /// The end of what was printed on stderr.
    pub(super) fn stderr_tail(&self) -> String {
        let (front, back) = self.tail.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }

    /// Bytes that may still be written.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    fn line(&mut self, stream: Stream) -> &mut Line {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(self.line(stream));
        let text = String::from_utf8_lossy(&line.bytes);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        if self.pay(text.len()) {
            let (plugin, operation) = (&self.plugin, &self.operation);
            let end = if line.cut { " […]" } else { "" };
            match stream {
                Stream::Stdout => {
                    tracing::info!(target: "palfrey::guest", plugin, operation, stream = "stdout", "{text}{end}");
                }
                Stream::Stderr => {
                    tracing::warn!(target: "palfrey::guest", plugin, operation, stream = "stderr", "{text}{end}");
                }
            }
        }
    }

    fn pay(&mut self, length: usize) -> bool {
        let price = length as u64 + OVERHEAD;
        let paid = self.remaining >= price;
        if paid {
            self.remaining -= price;
        } else {
            // What was said after a gap would mislead: the first message that is too much ends the log.
            self.remaining = 0;
            self.dropped += 1;
        }
        paid
    }
}

/// The beginning of a text, with a sign where it was cut.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{} […]", &text[..text.floor_char_boundary(limit)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_stderr_is_its_end() {
        let mut journal = Journal::new("p", "o", 0);
        journal.print(Stream::Stdout, b"not this");
        journal.print(Stream::Stderr, &[b'a'; 3 * MAX_TAIL]);
        journal.print(Stream::Stderr, b"the end");
        let tail = journal.stderr_tail();
        assert_eq!(tail.len(), MAX_TAIL);
        assert!(tail.ends_with("aathe end"), "{tail}");
    }

    #[test]
    fn a_long_line_takes_no_more_memory_than_is_shown() {
        let mut journal = Journal::new("p", "o", 1 << 20);
        for _ in 0..100 {
            journal.print(Stream::Stdout, &[b'a'; 1 << 10]);
        }
        assert_eq!(journal.stdout.bytes.len(), MAX_LINE);
        assert!(journal.stdout.cut);
    }

    #[test]
    fn a_flood_of_empty_messages_has_an_end() {
        let mut journal = Journal::new("p", "o", 10 * OVERHEAD);
        for _ in 0..100 {
            journal.log(Level::INFO, "", "");
        }
        assert_eq!((journal.remaining, journal.dropped), (0, 90));
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(cut("ööö", 3), "ö […]");
        assert_eq!(cut("ööö", 6), "ööö");
    }
}
