//! When a broker has been silent for so long that what it has not confirmed is sent again.
//!
//! RabbitMQ 3.10 confirms nothing any more on a channel whose quorum queue was deleted and made again between two messages: the new
//! one waits for those that the old one had. Other queues are confirmed on the same channel, so each is looked at by itself. The
//! confirms of one queue come in order: as long as the oldest message to it stays the oldest, nothing has come.

use std::{collections::HashMap, time::Duration};

use lapin::types::ShortString;
use tokio::time::Instant;

use super::publisher::MessageId;

/// So long nothing may be confirmed for a queue, at first. Confirms take milliseconds, some seconds on a broker that is overloaded.
const SILENCE: Duration = Duration::from_secs(15);

/// It doubles each time, so that a broker which is only slow is not sent the same for ever, up to this.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// And longer by what is on its way over a network that carries so many bytes a second.
const SLOWEST: u32 = 100 << 10;

/// How often somebody should look.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// The queues for which something is unconfirmed.
#[derive(Debug, Default)]
pub(super) struct Silence {
    heads: HashMap<ShortString, Head>,
}

/// The oldest message to a queue.
#[derive(Debug, Clone, Copy)]
struct Head {
    id: MessageId,
    /// When it was first seen as that, or was last sent again.
    since: Instant,
    allowed: Duration,
}

impl Silence {
    /// Everything is sent again, or waits for something else.
    pub(super) fn begin_again(&mut self, now: Instant) {
        self.heads.values_mut().for_each(|head| head.since = now);
    }

    /// Looks at what is unconfirmed, in the order in which it was sent, with its sizes in bytes. Returns a queue that was silent for
    /// too long, and for how long; that counts from now on as if everything was sent again.
    pub(super) fn look<'a>(
        &mut self,
        unconfirmed: impl Iterator<Item = (MessageId, &'a ShortString, usize)>,
        now: Instant,
    ) -> Option<(ShortString, Duration)> {
        let (mut heads, mut bytes) = (HashMap::new(), 0);
        for (id, queue, size) in unconfirmed {
            bytes += size;
            heads.entry(queue.clone()).or_insert_with(|| match self.heads.get(queue) {
                Some(&head) if head.id == id => head,
                _ => Head { id, since: now, allowed: SILENCE },
            });
        }
        self.heads = heads;
        let transfer = Duration::from_secs(1).mul_f64(bytes as f64 / f64::from(SLOWEST));
        let is_late = |(_, head): &(&ShortString, &mut Head)| now - head.since > head.allowed + transfer;
        let (queue, head) = self.heads.iter_mut().find(is_late)?;
        head.allowed = LONGEST_SILENCE.min(2 * head.allowed);
        let silent = (queue.clone(), now - head.since);
        self.begin_again(now);
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every five seconds at the same messages, and returns after how many seconds each time something was silent too long.
    fn looks(silence: &mut Silence, messages: &[(MessageId, &str, usize)], start: Instant, seconds: u64) -> Vec<u64> {
        let queues: Vec<_> = messages.iter().map(|(.., queue, _)| ShortString::from(*queue)).collect();
        let is_silent = |after: &u64| {
            let unconfirmed = messages.iter().zip(&queues).map(|((id, _, size), queue)| (*id, queue, *size));
            silence.look(unconfirmed, start + Duration::from_secs(*after)).is_some()
        };
        (0..=seconds).step_by(5).filter(is_silent).collect()
    }

    #[test]
    fn what_nobody_confirms_is_sent_again_less_and_less_often() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        // After more than 15 seconds, 30, 60, 120, 240, 480, 600, 600.
        let expected = [20, 55, 120, 245, 490, 975, 1580, 2185];
        assert_eq!(looks(&mut silence, &[(7, "tasks", 100)], start, 2200), expected);
        // A confirm, and the next message is given as long as the first was.
        let later = start + Duration::from_secs(2205);
        assert_eq!(looks(&mut silence, &[(8, "tasks", 100)], later, 30), [20]);
    }

    #[test]
    fn a_queue_that_is_confirmed_does_not_hide_one_that_is_not() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let tasks = ShortString::from("tasks");
        let results = ShortString::from("results");
        for step in 0..4_u32 {
            let unconfirmed = [(1, &tasks, 1), (2 + u64::from(step), &results, 1)];
            assert_eq!(silence.look(unconfirmed.into_iter(), start + step * LOOK), None, "{step}");
        }
        let (queue, silent) = silence.look([(1, &tasks, 1), (9, &results, 1)].into_iter(), start + 4 * LOOK).unwrap();
        assert_eq!((queue, silent), (tasks, 4 * LOOK));
    }

    #[test]
    fn large_messages_have_the_time_that_a_slow_network_takes() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        // 100 seconds by themselves.
        assert_eq!(looks(&mut silence, &[(1, "tasks", 10 << 20)], start, 130), [120]);
    }
}
