//! A queue whose messages each go to one receiver.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{
    queue::{DELIVERY_LIMIT, Move, QueueStatus},
    sync::{Mutex, MutexGuard},
};

/// Messages that wait, and receivers that come for them. Receivers pull: a message is bound to nobody before it is taken,
/// so that a receiver which is not polled keeps nothing from the others.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Message>,
    receivers: HashMap<ReceiverId, Receiver>,
    next_tag: u64,
    next_receiver: u64,
    deleted: bool,
}

/// Identity of a receiver within its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ReceiverId(u64);

/// Identity of a delivery within its queue; later deliveries have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(u64);

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) payload: Bytes,
    /// How often a receiver gave it back.
    pub(super) returned: u32,
    /// From which queues it was moved.
    pub(super) moves: Vec<Move>,
}

impl Message {
    pub(super) fn new(payload: Bytes) -> Self {
        Self { payload, returned: 0, moves: Vec::new() }
    }
}

#[derive(Debug)]
struct Receiver {
    session: u64,
    prefetch: usize,
    unacknowledged: BTreeMap<Tag, Message>,
    /// Set while its stream waits for a message.
    waker: Option<Waker>,
    /// Its stream was dropped; it stays here as long as it has deliveries to settle.
    left: bool,
}

impl State {
    fn wakers(&mut self) -> Vec<Waker> {
        // All of them rather than one: the one might not come back, and the message would wait although others are idle.
        self.receivers.values_mut().filter_map(|receiver| receiver.waker.take()).collect()
    }

    /// Puts messages back at the head, in their old order, and returns those that came back too often.
    fn give_back(&mut self, messages: impl DoubleEndedIterator<Item = Message>, limited: bool) -> Vec<Message> {
        let mut exhausted = Vec::new();
        for mut message in messages.rev() {
            message.returned += 1;
            if limited && message.returned > DELIVERY_LIMIT {
                exhausted.push(message);
            } else {
                self.ready.push_front(message);
            }
        }
        exhausted
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    /// Appends a message, or returns false if the queue was deleted.
    pub(super) fn push(&self, message: Message) -> bool {
        let mut state = self.lock();
        if state.deleted {
            return false;
        }
        state.ready.push_back(message);
        let wakers = state.wakers();
        drop(state);
        wake(wakers);
        true
    }

    pub(super) fn attach(&self, session: u64, prefetch: u16) -> ReceiverId {
        let mut state = self.lock();
        let id = ReceiverId(state.next_receiver);
        state.next_receiver += 1;
        let prefetch = usize::from(prefetch.max(1));
        let receiver = Receiver { session, prefetch, unacknowledged: BTreeMap::new(), waker: None, left: false };
        state.receivers.insert(id, receiver);
        id
    }

    /// The receiver's stream was dropped: it gets nothing more.
    pub(super) fn detach(&self, id: ReceiverId) {
        let mut state = self.lock();
        if let Some(receiver) = state.receivers.get_mut(&id) {
            receiver.left = true;
            receiver.waker = None;
            if receiver.unacknowledged.is_empty() {
                state.receivers.remove(&id);
            }
        }
    }

    /// The next message for a receiver; `None` once there will not be any.
    pub(super) fn poll_take(&self, id: ReceiverId, cx: &mut Context<'_>) -> Poll<Option<(Tag, Message)>> {
        let mut state = self.lock();
        let State { ready, receivers, next_tag, deleted, .. } = &mut *state;
        let Some(receiver) = receivers.get_mut(&id).filter(|_| !*deleted) else {
            return Poll::Ready(None);
        };
        if receiver.unacknowledged.len() < receiver.prefetch
            && let Some(message) = ready.pop_front()
        {
            let tag = Tag(*next_tag);
            *next_tag += 1;
            receiver.unacknowledged.insert(tag, message.clone());
            return Poll::Ready(Some((tag, message)));
        }
        match &mut receiver.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes a delivery off the queue for good, or returns `None` if it was given back in the meantime.
    pub(super) fn settle(&self, id: ReceiverId, tag: Tag) -> Option<Message> {
        let mut state = self.lock();
        let receiver = state.receivers.get_mut(&id)?;
        let message = receiver.unacknowledged.remove(&tag)?;
        let waker = receiver.waker.take();
        if receiver.left && receiver.unacknowledged.is_empty() {
            state.receivers.remove(&id);
        }
        drop(state);
        wake(waker);
        Some(message)
    }

    /// Puts a message that was [settled](Self::settle) back at the head; returns it if it came back too often for a
    /// `limited` queue.
    pub(super) fn give_back(&self, message: Message, limited: bool) -> Option<Message> {
        let mut state = self.lock();
        let exhausted = state.give_back(std::iter::once(message), limited).pop();
        let wakers = state.wakers();
        drop(state);
        wake(wakers);
        exhausted
    }

    /// Removes the receivers of a session that ended, and returns those of their messages that came back too often.
    pub(super) fn end_session(&self, session: u64, limited: bool) -> Vec<Message> {
        let mut state = self.lock();
        let mut wakers = Vec::new();
        let mut messages = BTreeMap::new();
        state.receivers.retain(|_, receiver| {
            let ends = receiver.session == session;
            if ends {
                messages.append(&mut receiver.unacknowledged);
                wakers.extend(receiver.waker.take());
            }
            !ends
        });
        let exhausted = state.give_back(messages.into_values(), limited);
        wakers.append(&mut state.wakers());
        drop(state);
        wake(wakers);
        exhausted
    }

    /// Drops the messages, and ends the streams of the receivers.
    pub(super) fn delete(&self) {
        let mut state = self.lock();
        state.deleted = true;
        state.ready.clear();
        let wakers = state.wakers();
        state.receivers.clear();
        drop(state);
        wake(wakers);
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.lock();
        let consumers = state.receivers.values().filter(|receiver| !receiver.left).count();
        QueueStatus { messages: state.ready.len() as u64, consumers: consumers as u64 }
    }
}

/// Wakers run foreign code: never under the lock.
fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
