//! How deliveries of one channel are settled: acknowledgements together, whatever is given back on its own.
//!
//! A broker takes "all up to this delivery" for the price of one, and a quorum queue writes one entry to its log for it.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt as _;
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicNackOptions},
    types::DeliveryTag,
};
use tokio::{sync::oneshot, task::yield_now};

use super::link::Link;
use crate::queue::QueueError;

const GIVE_BACK: BasicNackOptions = BasicNackOptions { multiple: false, requeue: true };

/// Settles the deliveries of one channel, and keeps it open.
#[derive(Debug)]
pub(super) struct Settlements {
    channel: Channel,
    pub(super) connection: Arc<Connection>,
    link: Link,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Held<oneshot::Sender<()>>,
    /// Whether a task is telling the broker.
    telling: bool,
    /// Whether the channel is gone. What it held is forgotten then, and no frame may speak for it any more.
    gone: bool,
}

impl Settlements {
    pub(super) fn new(channel: Channel, connection: Arc<Connection>, link: Link) -> Arc<Self> {
        Arc::new(Self { channel, connection, link, state: Mutex::default() })
    }

    /// A delivery has come. They have to be named in the order in which they came.
    pub(super) fn delivered(&self, tag: DeliveryTag) {
        self.state().held.deliver(tag);
    }

    /// Whether all that was delivered is settled.
    pub(super) fn holds_nothing(&self) -> bool {
        self.state().held.0.is_empty()
    }

    /// Acknowledges a delivery, and waits until the channel has taken the frame.
    pub(super) async fn acknowledge(self: &Arc<Self>, tag: DeliveryTag) -> Result<(), QueueError> {
        let (told, heard) = oneshot::channel();
        let is_first = {
            let mut state = self.state();
            if state.gone {
                return Err(QueueError::Stale);
            }
            state.held.acknowledge(tag, told);
            !mem::replace(&mut state.telling, true)
        };
        if is_first {
            tokio::spawn(self.clone().tell());
        }
        heard.await.map_err(|_| QueueError::Stale)
    }

    /// Tells the broker until there is nothing to tell.
    async fn tell(self: Arc<Self>) {
        loop {
            // Whoever is about to acknowledge does so first.
            yield_now().await;
            let (frames, waiting) = {
                let mut state = self.state();
                let taken = state.held.take_acknowledged();
                state.telling = !taken.0.is_empty();
                taken
            };
            if frames.is_empty() {
                return;
            }
            let acknowledging = async {
                for Frame { tag, multiple } in frames {
                    self.channel.basic_ack(tag, BasicAckOptions { multiple }).await?;
                }
                lapin::Result::Ok(())
            };
            if self.taken(acknowledging).await.is_err() {
                // Whoever waits learns it, now and later.
                *self.state() = State { gone: true, ..State::default() };
                return;
            }
            for told in waiting {
                // Nobody may be waiting any more.
                told.send(()).ok();
            }
        }
    }

    /// Gives a delivery back to its queue, and waits until the channel has taken the frame.
    pub(super) async fn give_back(&self, tag: DeliveryTag) -> Result<(), QueueError> {
        let giving = self.channel.basic_nack(tag, GIVE_BACK);
        let given = self.taken(giving).await;
        self.state().held.forget(tag);
        given
    }

    /// As [`give_back`](Self::give_back), without waiting.
    pub(super) fn drop_back(&self, tag: DeliveryTag) {
        // The first poll hands the frame to the channel, ahead of all that are told of later.
        self.channel.basic_nack(tag, GIVE_BACK).now_or_never();
        self.state().held.forget(tag);
    }

    /// Waits until the channel has taken a frame, or is gone.
    pub(super) async fn taken(&self, frame: impl Future<Output = lapin::Result<()>>) -> Result<(), QueueError> {
        self.link.unless_lost(&self.connection, frame).await.and_then(Result::ok).ok_or(QueueError::Stale)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A frame that acknowledges one delivery, or all up to it that were not settled.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    tag: DeliveryTag,
    multiple: bool,
}

/// What the broker counts as held by a channel, and for what is acknowledged, who waits until the broker is told.
#[derive(Debug)]
struct Held<W>(BTreeMap<DeliveryTag, Option<W>>);

impl<W> Default for Held<W> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<W> Held<W> {
    fn deliver(&mut self, tag: DeliveryTag) {
        self.0.insert(tag, None);
    }

    /// What is not held is not acknowledged, and nobody waits for it.
    fn acknowledge(&mut self, tag: DeliveryTag, waiting: W) {
        if let Some(held) = self.0.get_mut(&tag) {
            *held = Some(waiting);
        }
    }

    /// It was settled, by a frame ahead of all that are taken from now on.
    fn forget(&mut self, tag: DeliveryTag) {
        self.0.remove(&tag);
    }

    /// The frames that tell what is acknowledged, and who waits for them.
    fn take_acknowledged(&mut self) -> (Vec<Frame>, Vec<W>) {
        let (mut frames, mut waiting) = (Vec::new(), Vec::new());
        // Nothing that is held by anybody is in front of these.
        while let Some(first) = self.0.first_entry().filter(|first| first.get().is_some()) {
            let (tag, acknowledged) = first.remove_entry();
            waiting.extend(acknowledged);
            frames = vec![Frame { tag, multiple: !frames.is_empty() }];
        }
        for (tag, acknowledged) in self.0.extract_if(.., |_, waiting| waiting.is_some()) {
            waiting.extend(acknowledged);
            frames.push(Frame { tag, multiple: false });
        }
        (frames, waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Deliver,
        Acknowledge(prop::sample::Index),
        GiveBack(prop::sample::Index),
        Tell,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Deliver),
            3 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
            1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
            2 => Just(Step::Tell),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// What a broker does with a frame. It closes the channel if one names what it does not hold.
    fn tell(broker: &mut BTreeSet<DeliveryTag>, Frame { tag, multiple }: Frame) -> Vec<DeliveryTag> {
        assert!(broker.contains(&tag), "{tag} is not held");
        let first = if multiple { 0 } else { tag };
        broker.extract_if(first..=tag, |_| true).collect()
    }

    proptest! {
        #[test]
        fn what_is_acknowledged_is_told_and_nothing_else(steps in steps()) {
            let (mut held, mut broker) = (Held::default(), BTreeSet::new());
            // By whoever works on them: not settled, and acknowledged and not told yet.
            let (mut open, mut acknowledged) = (Vec::new(), BTreeSet::new());
            let mut last = 0;
            for step in steps.into_iter().chain([Step::Tell]) {
                match step {
                    Step::Deliver => {
                        last += 1;
                        broker.insert(last);
                        held.deliver(last);
                        open.push(last);
                    }
                    Step::Acknowledge(index) if !open.is_empty() => {
                        let tag = open.swap_remove(index.index(open.len()));
                        held.acknowledge(tag, tag);
                        acknowledged.insert(tag);
                    }
                    Step::GiveBack(index) if !open.is_empty() => {
                        let tag = open.swap_remove(index.index(open.len()));
                        broker.remove(&tag);
                        held.forget(tag);
                    }
                    Step::Acknowledge(_) | Step::GiveBack(_) => {}
                    Step::Tell => {
                        let (frames, waiting) = held.take_acknowledged();
                        let told = frames.into_iter().flat_map(|frame| tell(&mut broker, frame)).collect::<BTreeSet<_>>();
                        prop_assert_eq!(&told, &mem::take(&mut acknowledged));
                        prop_assert_eq!(told, waiting.into_iter().collect());
                    }
                }
            }
            prop_assert_eq!(broker, open.into_iter().collect());
        }
    }

    #[test]
    fn what_was_acknowledged_in_order_takes_one_frame() {
        let mut held = Held::default();
        (1..=5).for_each(|tag| held.deliver(tag));
        [3, 1, 2, 5].into_iter().for_each(|tag| held.acknowledge(tag, ()));
        let frames = held.take_acknowledged().0;
        assert_eq!(frames, [Frame { tag: 3, multiple: true }, Frame { tag: 5, multiple: false }]);
        held.acknowledge(4, ());
        assert_eq!(held.take_acknowledged().0, [Frame { tag: 4, multiple: false }]);
        assert!(held.take_acknowledged().0.is_empty());
    }
}
