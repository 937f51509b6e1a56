//! When messages wait for each other.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of a burst from which on nothing waits for its confirms: messages of that size gain nothing from company.
const FULL: usize = 64 << 10;

/// The longest that a message waits for others.
const HOLD: Duration = Duration::from_millis(5);

/// Nagle's rule (RFC 896) for messages and confirms: while a burst is unconfirmed, small messages wait until half of it
/// is, and then go together. A broker writes, confirms and hands on a burst for little more than one message costs it.
/// What finds nothing on its way goes at once, and nothing waits for longer than a few milliseconds.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    /// Unconfirmed messages at which the next burst begins, and when it begins at the latest.
    next: Option<(usize, Instant)>,
}

impl Bursts {
    /// A burst was sent of so many bytes, after which so many messages are unconfirmed.
    pub(super) fn sent(&mut self, bytes: usize, unconfirmed: usize, now: Instant) {
        self.next = (bytes < FULL).then(|| (unconfirmed / 2, now + HOLD));
    }

    /// Until when messages wait that come now, if they do.
    pub(super) fn wait(&self, unconfirmed: usize) -> Option<Instant> {
        self.next.filter(|&(few, _)| unconfirmed > few).map(|(_, latest)| latest)
    }

    /// Nothing waits any more.
    pub(super) fn release(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_wait_until_half_of_a_burst_is_confirmed_and_no_longer_than_a_moment() {
        let (mut bursts, now) = (Bursts::default(), Instant::now());
        assert_eq!(bursts.wait(0), None, "nothing is on its way");
        bursts.sent(100, 1, now);
        assert_eq!(bursts.wait(1), Some(now + HOLD));
        assert_eq!(bursts.wait(0), None, "the only one is confirmed");
        bursts.sent(800, 8, now);
        assert_eq!(bursts.wait(5), Some(now + HOLD));
        assert_eq!(bursts.wait(4), None, "half of them are confirmed");
        bursts.release();
        assert_eq!(bursts.wait(8), None, "they waited long enough");
    }

    #[test]
    fn nothing_waits_for_large_messages() {
        let (mut bursts, now) = (Bursts::default(), Instant::now());
        bursts.sent(FULL, 1, now);
        assert_eq!(bursts.wait(1), None);
    }
}
