//! Where a message has been before: what goes with it when it is moved from one queue to another.

use std::time::SystemTime;

use super::{MAX_REASON, SUSPECTS_SUFFIX};

/// A message was moved from one queue to another, and why. See [`Delivery::moves`](super::Delivery::moves).
///
/// On RabbitMQ the moves travel as headers that any tool shows: the list as `palfrey-moves`, and those of the latest one as
/// `palfrey-reason`, `palfrey-queue` (where it came from), `palfrey-time` (Unix milliseconds) and `palfrey-deliveries`.
///
/// ```
/// use palfrey_host::queue::{Delivery, Move};
///
/// /// The way of a message, for people.
/// fn way(delivery: &Delivery) -> Vec<String> {
///     let step = |Move { from, to, reason, times, .. }: &Move| format!("{from} → {to}, {times} times: {reason}");
///     delivery.moves.iter().map(step).collect()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The queue that it was in.
    pub from: String,
    /// The queue that it was put into.
    pub to: String,
    /// Why.
    pub reason: String,
    /// When, to the millisecond, by the clock of whoever moved it.
    pub at: SystemTime,
    /// How often it had been delivered from the first queue, the last time included.
    pub deliveries: u32,
    /// How often this move was made in a row, for the same reason. Time and deliveries are those of the latest one.
    pub times: u32,
}

impl Move {
    /// Deliveries of a [suspect](super::QueueSpec::suspects) that were attempts to process it: nothing is fetched from there in
    /// advance. That which decided to move it elsewhere was none. Zero if it came from another queue, where nobody can tell.
    pub fn attempts(&self) -> u32 {
        let attempts = match (self.from.ends_with(SUSPECTS_SUFFIX), self.to.ends_with(SUSPECTS_SUFFIX)) {
            (false, _) => return 0,
            // Whoever had it put it back.
            (true, true) => self.deliveries,
            (true, false) => self.deliveries.saturating_sub(1),
        };
        attempts.saturating_mul(self.times)
    }
}

/// Moves that are kept of a message: the first one, and the latest ones.
pub(super) const MAX_MOVES: usize = 8;

/// Appends a move that is made now.
pub(super) fn moved(mut moves: Vec<Move>, from: &str, to: &str, reason: &str, deliveries: u32) -> Vec<Move> {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    let (from, to, reason) = (from.to_owned(), to.to_owned(), reason.to_owned());
    #[expect(clippy::disallowed_methods, reason = "it is shown, and decides nothing")]
    let at = SystemTime::now();
    let mut latest = Move { from, to, reason, at, deliveries, times: 1 };
    if let Some(last) =
        moves.pop_if(|last| (&last.from, &last.to, &last.reason) == (&latest.from, &latest.to, &latest.reason))
    {
        latest.times = last.times.saturating_add(1);
    }
    moves.push(latest);
    if moves.len() > MAX_MOVES {
        moves.remove(1);
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_move_again_is_counted_and_the_first_one_is_never_forgotten() {
        let mut moves = Vec::new();
        for _ in 0..3 {
            moves = moved(moves, "tasks", "tasks.later", "not yet", 1);
        }
        assert_eq!((moves.len(), moves[0].times), (1, 3));
        for round in 0..100 {
            moves = moved(moves, "tasks", "tasks.later", &format!("reason {round}"), 1);
        }
        assert_eq!(moves.len(), MAX_MOVES);
        assert_eq!((moves[0].times, &*moves[0].reason), (3, "not yet"));
        assert_eq!(moves[MAX_MOVES - 1].reason, "reason 99");
    }

    #[test]
    fn only_deliveries_of_suspects_are_attempts() {
        let attempts = |from, to, deliveries| moved(Vec::new(), from, to, "because", deliveries)[0].attempts();
        assert_eq!(attempts("tasks", "tasks.suspects", 4), 0);
        assert_eq!(attempts("tasks", "tasks.dead", 101), 0);
        assert_eq!(attempts("tasks.suspects", "tasks.dead", 4), 3);
        assert_eq!(attempts("tasks.suspects", "tasks.suspects", 2), 2);
        assert_eq!(attempts("tasks.suspects", "tasks.later", 1), 0);
    }
}
