//! A log that every receiver reads from the start.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::queue::QueueStatus;

/// All messages so far, and the streams that wait for the next one.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Bytes>,
    /// By reader: its session, and a waker while it waits.
    readers: HashMap<u64, (u64, Option<Waker>)>,
    next_reader: u64,
    deleted: bool,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    /// Appends a record, or returns false if the log was deleted.
    pub(super) fn append(&self, record: Bytes) -> bool {
        let mut state = self.lock();
        if state.deleted {
            return false;
        }
        state.records.push(record);
        let wakers: Vec<_> = state.readers.values_mut().filter_map(|(_, waker)| waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    pub(super) fn attach(&self, session: u64) -> u64 {
        let mut state = self.lock();
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, (session, None));
        id
    }

    pub(super) fn detach(&self, reader: u64) {
        self.lock().readers.remove(&reader);
    }

    /// The record at an offset; `None` once there will not be any.
    pub(super) fn poll_read(&self, reader: u64, offset: u64, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        let State { records, readers, deleted, .. } = &mut *state;
        let Some((_, waker)) = readers.get_mut(&reader).filter(|_| !*deleted) else {
            return Poll::Ready(None);
        };
        if let Some(record) = records.get(offset as usize) {
            return Poll::Ready(Some(record.clone()));
        }
        *waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn end_session(&self, session: u64) {
        self.remove_readers(|of| of == session);
    }

    pub(super) fn delete(&self) {
        self.lock().deleted = true;
        self.remove_readers(|_| true);
    }

    fn remove_readers(&self, which: impl Fn(u64) -> bool) {
        let mut wakers = Vec::new();
        self.lock().readers.retain(|_, (session, waker)| {
            let ends = which(*session);
            if ends {
                wakers.extend(waker.take());
            }
            !ends
        });
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.lock();
        QueueStatus { messages: state.records.len() as u64, consumers: 0 }
    }
}
