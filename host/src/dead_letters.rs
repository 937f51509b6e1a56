//! What could not be processed: tasks that do not decode or killed their workers, and what to do with them.
//!
//! Dead letters stay in the queue `<bus>.dead` until somebody executes them again or drops them. Looking at them takes each
//! of them once and gives it back, so that two who look at the same time each see a part.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    plugin::Suggestions,
    queue::{Acker, Connection, Delivery, Move, QueueError, QueueKind, QueueSpec},
    task::{
        AnyTask, Digest,
        wire::{Message as _, WireError},
    },
};

/// Letters that are looked at, unless it is set otherwise.
pub const LIMIT: usize = 10_000;

/// Bytes of letters that are held while they are looked at, at the most. One letter is always held.
const MAX_BYTES: usize = 256 << 20;

/// The dead letters of one bus, from a [`Runtime`](crate::Runtime::dead_letters).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use palfrey_host::{
///     Config, Runtime,
///     dead_letters::Selection,
///     queue::{QueueKind, QueueSpec},
/// };
/// # use futures::StreamExt;
///
/// # let runtime = Runtime::from_config(&Config { workers: 0, ..Config::default() }).await?;
/// # let bus = runtime.channels().connection().handle(&QueueSpec::new("default", QueueKind::Tasks));
/// # bus.publisher().await?.publish("garbage".into()).await?;
/// # bus.consumer(1).await?.next().await.unwrap().acker.dead_letter("it does not decode").await?;
/// // Somebody has sent garbage, and a worker has found out.
/// let letters = runtime.dead_letters();
/// let found = letters.list().await?;
/// assert_eq!(found.letters[0].death().unwrap().reason, "it does not decode");
///
/// letters.drop_letters(&Selection::Named(vec![found.letters[0].name.clone()])).await?;
/// assert!(letters.list().await?.letters.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetters {
    connection: Arc<dyn Connection>,
    bus: QueueSpec,
}

/// A message that could not be processed.
///
/// ```
/// use palfrey_host::{dead_letters::DeadLetter, task::OperationId};
///
/// /// The operation that it ends with, if it is a task.
/// fn operation(letter: &DeadLetter) -> Option<&OperationId> {
///     let task = letter.task.as_ref().ok()?;
///     task.stages.last().map(|stage| &stage.operation)
/// }
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The beginning of the digest of its bytes: letters with the same bytes have the same name.
    pub name: String,
    /// The message.
    pub payload: Bytes,
    /// What happened to it, the latest last.
    pub moves: Vec<Move>,
    /// The task, or why it is none.
    pub task: Result<AnyTask, WireError>,
}

impl DeadLetter {
    /// Why it is here, and since when.
    pub fn death(&self) -> Option<&Move> {
        self.moves.last()
    }

    /// Deliveries that its moves tell of, over all queues. Those that were fetched in advance and not looked at count as well.
    pub fn deliveries(&self) -> u32 {
        self.moves.iter().fold(0, |sum, it| sum.saturating_add(it.deliveries.saturating_mul(it.times)))
    }

    /// Attempts to execute it that are known to have been made: those as a [suspect](QueueSpec::suspects), and none if it is no
    /// task. `None` if it was no suspect, since a worker may hold a delivery and not have begun with it.
    pub fn attempts(&self) -> Option<u32> {
        let attempts = self.moves.iter().fold(0, |sum: u32, it| sum.saturating_add(it.attempts()));
        (attempts > 0 || self.task.is_err()).then_some(attempts)
    }
}

/// What there is.
///
/// ```
/// use palfrey_host::dead_letters::Found;
///
/// fn headline(found: &Found) -> String {
///     format!("{} letters, and {} that were not looked at", found.letters.len(), found.more)
/// }
/// assert_eq!(headline(&Found::default()), "0 letters, and 0 that were not looked at");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Letters behind them that were not looked at, because they are too many or too large.
    pub more: u64,
}

/// Which letters.
///
/// ```
/// use palfrey_host::dead_letters::{DeadLetter, Selection};
///
/// /// Those that are no tasks, which nobody can ever execute.
/// fn garbage(letters: &[DeadLetter]) -> Selection {
///     let garbage = letters.iter().filter(|letter| letter.task.is_err());
///     Selection::Named(garbage.map(|letter| letter.name.clone()).collect())
/// }
/// assert_eq!(garbage(&[]), Selection::Named(vec![]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Those of some names, or of beginnings of names that no others have.
    Named(Vec<String>),
}

/// Why nothing was done with the letters.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use palfrey_host::{Runtime, dead_letters::{DeadLetterError, Selection}};
///
/// let runtime = Runtime::in_memory().await?;
/// let letters = runtime.dead_letters().requeue(&Selection::Named(vec!["4c1d".to_owned()])).await;
/// assert!(matches!(letters, Err(DeadLetterError::Unknown { name, .. }) if name == "4c1d"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// There is none of that name.
    #[error("there is no dead letter `{name}`: {there}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        there: Suggestions,
    },
    /// Several letters with different bytes begin with it.
    #[error("`{0}` is the beginning of several dead letters: write more of the name")]
    Ambiguous(String),
    /// The broker failed or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Letters that are held, and what to do with each.
struct Held(Vec<(DeadLetter, Box<dyn Acker>)>);

impl DeadLetters {
    pub(crate) fn new(connection: Arc<dyn Connection>, bus: &str) -> Self {
        Self { connection, bus: QueueSpec::new(bus, QueueKind::Tasks) }
    }

    /// All of them, the oldest first, up to [`LIMIT`].
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn list(&self) -> Result<Found, QueueError> {
        let (held, more) = self.hold().await?;
        let mut letters = held.give_back().await;
        letters.sort_by_key(|letter| letter.death().map(|death| death.at));
        Ok(Found { letters, more })
    }

    /// Some of them.
    ///
    /// # Errors
    /// If a name is unknown, or the broker refuses.
    pub async fn find(&self, selection: &Selection) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let (selected, others) = self.hold().await?.0.select(selection).await?;
        others.give_back().await;
        Ok(selected.give_back().await)
    }

    /// Sends letters to the bus again, byte by byte as they were and as if for the first time, and removes them. Each is
    /// removed when the broker has confirmed that it is back. Returns them.
    ///
    /// # Errors
    /// If a name is unknown, and nothing was done; or the broker refuses.
    pub async fn requeue(&self, selection: &Selection) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let bus = self.connection.declare(&self.bus).await?.publisher().await?;
        let (selected, others) = self.hold().await?.0.select(selection).await?;
        others.give_back().await;
        let mut done = Vec::new();
        for (letter, acker) in selected.0 {
            bus.publish(letter.payload.clone()).await?;
            settle(acker.ack().await)?;
            done.push(letter);
        }
        Ok(done)
    }

    /// Removes letters for good, and returns them.
    ///
    /// # Errors
    /// As [`requeue`](Self::requeue).
    pub async fn drop_letters(&self, selection: &Selection) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let (selected, others) = self.hold().await?.0.select(selection).await?;
        others.give_back().await;
        let mut done = Vec::new();
        for (letter, acker) in selected.0 {
            settle(acker.ack().await)?;
            done.push(letter);
        }
        Ok(done)
    }

    /// Takes what there is, and how many were left.
    async fn hold(&self) -> Result<(Held, u64), QueueError> {
        // With its dead letters: somebody may ask before there were any.
        self.connection.declare(&self.bus).await?;
        let dead = self.bus.dead_letters().ok_or_else(|| QueueError::NoSuchQueue(self.bus.name.clone()))?;
        let queue = self.connection.handle(&dead);
        let (mut held, mut bytes) = (Vec::new(), 0);
        while held.len() < LIMIT
            && bytes < MAX_BYTES
            && let Some(Delivery { payload, moves, acker, .. }) = queue.take().await?
        {
            bytes += payload.len();
            let name = Digest::of(&payload).hex()[..NAME].to_owned();
            let task = AnyTask::decode(payload.clone());
            held.push((DeadLetter { name, payload, moves, task }, acker));
        }
        Ok((Held(held), queue.status().await?.messages))
    }
}

/// Letters of a name: enough for all the letters that anybody will look at.
const NAME: usize = 12;

/// A letter that is back in the queue meanwhile is not lost, and will be dealt with when it is seen again.
fn settle(settled: Result<(), QueueError>) -> Result<(), QueueError> {
    match settled {
        Err(QueueError::Stale) => Ok(()),
        other => other,
    }
}

impl Held {
    /// Those that are selected, and the others. If a name is unknown all are given back.
    async fn select(self, selection: &Selection) -> Result<(Self, Self), DeadLetterError> {
        let names = match selection {
            Selection::All => return Ok((self, Self(Vec::new()))),
            Selection::Named(names) => names,
        };
        match self.find(names) {
            Ok(names) => {
                let (selected, others) = self.0.into_iter().partition(|(letter, _)| names.contains(&letter.name));
                Ok((Self(selected), Self(others)))
            }
            Err(error) => {
                self.give_back().await;
                Err(error)
            }
        }
    }

    /// The full names.
    fn find(&self, beginnings: &[String]) -> Result<Vec<String>, DeadLetterError> {
        let mut there: Vec<_> = self.0.iter().map(|(letter, _)| letter.name.as_str()).collect();
        there.sort_unstable();
        there.dedup();
        let find = |beginning: &String| {
            let matching: Vec<_> = there.iter().filter(|name| name.starts_with(beginning.as_str())).collect();
            match matching[..] {
                [only] => Ok((*only).to_owned()),
                [] => {
                    let suggestions = Suggestions::new(beginning, there.iter().copied());
                    Err(DeadLetterError::Unknown { name: beginning.clone(), there: suggestions })
                }
                [..] => Err(DeadLetterError::Ambiguous(beginning.clone())),
            }
        };
        beginnings.iter().map(find).collect()
    }

    /// Puts them back, the last one first, so that their order stays where the broker puts them at the head.
    async fn give_back(self) -> Vec<DeadLetter> {
        let mut letters = Vec::with_capacity(self.0.len());
        for (letter, acker) in self.0.into_iter().rev() {
            // A delivery that is stale is back already.
            _ = acker.nack().await;
            letters.push(letter);
        }
        letters.reverse();
        letters
    }
}
