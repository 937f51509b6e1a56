//! `wasi:io` without waiting: whatever a guest waits for is there, or is a timer, or will never come.
//!
//! The functions of wasmtime-wasi are polled once. What is not ready then can only be a timer, because stdin is closed,
//! stdout and stderr take everything, files are read on this thread, and there are no sockets: the clock skips to it. Without a
//! timer the guest traps, so that no call can hold the thread beyond the reach of deadline and cancellation.

use std::sync::Arc;

use futures::FutureExt;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{
    async_trait,
    p2::{
        DynInputStream, DynOutputStream, DynPollable, Pollable, StreamError, StreamResult,
        bindings::{
            io::{poll as async_poll, streams as async_streams},
            sync::io::{poll, streams},
        },
        subscribe,
    },
};

use super::clock::Clock;
use crate::engine::error::Interruption;

/// The parts of WASI's state that these interfaces use.
pub(super) struct Io<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) clock: &'a Arc<Clock>,
}

/// The result of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> wasmtime::Result<T> {
    future.now_or_never().ok_or_else(|| Interruption::Stuck.into())
}

/// The result of an operation on a stream that has nothing to wait for.
fn stream_at_once<T>(future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    at_once(future).map_err(StreamError::Trap)?
}

impl poll::Host for Io<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.clock.forget();
        loop {
            let again = pollables.iter().map(|pollable| Resource::new_borrow(pollable.rep())).collect();
            if let Some(ready) = async_poll::Host::poll(self.table, again).now_or_never() {
                return ready;
            }
            if !self.clock.skip() {
                return Err(Interruption::Stuck.into());
            }
        }
    }
}

impl poll::HostPollable for Io<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        at_once(async_poll::HostPollable::ready(self.table, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::Host::poll(self, vec![pollable]).map(drop)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        async_poll::HostPollable::drop(self.table, pollable)
    }
}

impl streams::Host for Io<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        Ok(async_streams::Host::convert_stream_error(self.table, error)?.into())
    }
}

impl streams::HostOutputStream for Io<'_> {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        at_once(async_streams::HostOutputStream::drop(self.table, stream))?
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        async_streams::HostOutputStream::check_write(self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        async_streams::HostOutputStream::write(self.table, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        stream_at_once(async_streams::HostOutputStream::blocking_write_and_flush(self.table, stream, bytes))
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        async_streams::HostOutputStream::write_zeroes(self.table, stream, len)
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        stream_at_once(async_streams::HostOutputStream::blocking_write_zeroes_and_flush(self.table, stream, len))
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        async_streams::HostOutputStream::flush(self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        stream_at_once(async_streams::HostOutputStream::blocking_flush(self.table, stream))
    }

    fn splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let len = len.min(self.check_write(Resource::new_borrow(stream.rep()))?);
        let bytes = streams::HostInputStream::read(self, from, len)?;
        let size = bytes.len() as u64;
        streams::HostOutputStream::write(self, stream, bytes)?;
        Ok(size)
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.splice(stream, from, len)
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        async_streams::HostOutputStream::subscribe(self.table, stream)
    }
}

impl streams::HostInputStream for Io<'_> {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        at_once(async_streams::HostInputStream::drop(self.table, stream))?
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        // A file is read at once: otherwise it would be by another thread, for which the guest could not wait. Where nothing is
        // to be read, reading to the end would find it.
        if len == 0 { Ok(Vec::new()) } else { self.blocking_read(stream, len) }
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        stream_at_once(async_streams::HostInputStream::blocking_read(self.table, stream, len))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        if len == 0 { Ok(0) } else { self.blocking_skip(stream, len) }
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        stream_at_once(async_streams::HostInputStream::blocking_skip(self.table, stream, len))
    }

    fn subscribe(&mut self, _: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        let readable = self.table.push(Readable)?;
        subscribe(self.table, readable)
    }
}

/// Whoever reads gets what there is, or learns that there is no more.
struct Readable;

#[async_trait]
impl Pollable for Readable {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;

    use super::*;

    struct Never;

    #[async_trait]
    impl Pollable for Never {
        async fn ready(&mut self) {
            std::future::pending().await
        }
    }

    fn check(test: impl FnOnce(&mut Io<'_>) -> wasmtime::Result<()>) {
        test(&mut Io { table: &mut ResourceTable::new(), clock: &Arc::default() }).unwrap();
    }

    #[test]
    fn of_several_timers_the_earliest_is_reached_first() {
        check(|io| {
            let hour = monotonic_clock::Host::subscribe_duration(io, 3_600_000_000_000)?;
            let second = monotonic_clock::Host::subscribe_duration(io, 1_000_000_000)?;
            let both = || vec![Resource::new_borrow(hour.rep()), Resource::new_borrow(second.rep())];
            assert_eq!(poll::Host::poll(io, both())?, [1]);
            assert_eq!(monotonic_clock::Host::now(io)?, 1_000_000_000);
            poll::HostPollable::block(io, Resource::new_borrow(hour.rep()))?;
            assert_eq!(poll::Host::poll(io, both())?.len(), 2);
            assert!(monotonic_clock::Host::now(io)? >= 3_600_000_000_000);
            Ok(())
        });
    }

    #[test]
    fn asking_whether_a_timer_is_ready_does_not_advance_the_clock() {
        check(|io| {
            let second = monotonic_clock::Host::subscribe_duration(io, 1_000_000_000)?;
            assert!(!poll::HostPollable::ready(io, Resource::new_borrow(second.rep()))?);
            assert_eq!(monotonic_clock::Host::now(io)?, 0);
            Ok(())
        });
    }

    #[test]
    fn waiting_for_what_never_comes_is_an_error_and_not_a_wait() {
        check(|io| {
            let never = io.table.push(Never)?;
            let never = subscribe(io.table, never)?;
            assert!(!poll::HostPollable::ready(io, Resource::new_borrow(never.rep()))?);
            let error = poll::HostPollable::block(io, never).unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&Interruption::Stuck));
            Ok(())
        });
    }
}
