//! Channels that go away with whoever leased them.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, future::BoxFuture};
use tokio_util::task::TaskTracker;

/// A value, usually a stream, that rests on a leased channel. Dropping it releases the lease.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use futures::{StreamExt, stream};
/// use palfrey_host::channel::LeaseGuard;
///
/// let (released, is_released) = tokio::sync::oneshot::channel();
/// let mut numbers = LeaseGuard::new(stream::iter([1, 2]), async { _ = released.send(()) });
/// assert_eq!(numbers.next().await, Some(1));
/// drop(numbers);
/// assert_eq!(is_released.await, Ok(()));
/// # }
/// ```
///
/// The release runs on the tokio runtime in which the guard was made. If that runtime ends first, the channel goes away by
/// itself as its reader is gone.
pub struct LeaseGuard<S> {
    leased: S,
    lease: Lease,
}

struct Lease {
    release: Option<BoxFuture<'static, ()>>,
    runtime: tokio::runtime::Handle,
    releases: TaskTracker,
}

impl Lease {
    fn end(&mut self) {
        if let Some(release) = self.release.take() {
            self.releases.spawn_on(release, &self.runtime);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
    }
}

impl<S> LeaseGuard<S> {
    /// Guards a value. `release` runs once, when the guard is dropped or [released](Self::release).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(leased: S, release: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::tracked(leased, release, TaskTracker::new())
    }

    /// Guards a value. Whoever has the tracker can wait for the releases of guards that were dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn tracked(
        leased: S,
        release: impl Future<Output = ()> + Send + 'static,
        releases: TaskTracker,
    ) -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { leased, lease: Lease { release: Some(Box::pin(release)), runtime, releases } }
    }

    /// Releases the lease and waits until that is done.
    pub async fn release(mut self) {
        if let Some(release) = self.lease.release.take() {
            release.await;
        }
    }

    /// Releases the lease as dropping the guard does, for whoever still holds the value.
    pub(crate) fn end(&mut self) {
        self.lease.end();
    }

    /// Guards what is made of the value under the same lease.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> LeaseGuard<T> {
        LeaseGuard { leased: change(self.leased), lease: self.lease }
    }
}

impl<S> Deref for LeaseGuard<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.leased
    }
}

impl<S> DerefMut for LeaseGuard<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.leased
    }
}

impl<S: Stream + Unpin> Stream for LeaseGuard<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.leased).poll_next(context)
    }
}

impl<S: fmt::Debug> fmt::Debug for LeaseGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaseGuard").field(&self.leased).finish()
    }
}
