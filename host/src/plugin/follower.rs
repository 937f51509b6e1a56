//! Background readers of the two logs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Assembler, AssemblyError, Change, Chunk, ComponentStore, Record, RegistryOptions, RegistryState, StoreError,
};
use crate::{
    queue::{Delivery, QueueError, QueueHandle},
    task::Digest,
};

/// Records that may be under way from the broker. They are small.
const RECORD_PREFETCH: u16 = 256;

/// Chunks that may be under way from the broker: 16 MiB.
const CHUNK_PREFETCH: u16 = 64;

/// Folds the log of deployments.
#[derive(Debug)]
pub(super) struct ActivationFollower {
    state: watch::Receiver<Arc<RegistryState>>,
    _task: AbortOnDropHandle<()>,
}

impl ActivationFollower {
    pub(super) async fn start(log: &dyn QueueHandle) -> Result<Self, QueueError> {
        let deliveries = log.consumer(RECORD_PREFETCH).await?;
        let (sender, state) = watch::channel(Arc::default());
        let task = tokio::spawn(follow_activations(deliveries, sender));
        Ok(Self { state, _task: AbortOnDropHandle::new(task) })
    }

    pub(super) fn state(&self) -> Arc<RegistryState> {
        self.state.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<RegistryState>> {
        self.state.clone()
    }

    pub(super) async fn wait_for(
        &self,
        mut condition: impl FnMut(&RegistryState) -> bool,
    ) -> Result<Arc<RegistryState>, QueueError> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| condition(state)).await.map_err(|_| QueueError::Closed)?;
        Ok(state.clone())
    }
}

async fn follow_activations(mut deliveries: BoxStream<'static, Delivery>, state: watch::Sender<Arc<RegistryState>>) {
    while let Some(delivery) = deliveries.next().await {
        let offset = offset_of(&delivery);
        let record = Record::decode(&delivery.payload);
        state.send_modify(|state| {
            let state = Arc::make_mut(state);
            match record {
                Ok(record) => report(&record, state.apply(offset, &record)),
                Err(error) => {
                    tracing::warn!(offset, "skipped a record of the registry: {error}");
                    state.skip(offset);
                }
            }
            tracing::debug!(next_offset = state.next_offset(), "deployed are {state}");
        });
        // A log hands out everything again after a reconnection, so that nothing depends on the acknowledgement.
        delivery.acker.ack().await.ok();
    }
}

fn report(record: &Record, outcome: Result<Change, super::Refusal>) {
    let (plugin, who) = (record.plugin(), &record.who);
    match outcome {
        Ok(Change::Deployed { digest, .. }) => tracing::info!(plugin, %digest, who, "deployed"),
        Ok(Change::RolledBack { digest, .. }) => tracing::info!(plugin, %digest, who, "rolled back"),
        Ok(Change::Signed { digest, .. }) => tracing::info!(plugin, %digest, who, "signed"),
        Ok(Change::Undeployed { .. }) => tracing::info!(plugin, who, "undeployed"),
        Ok(Change::Nothing) => tracing::debug!(plugin, who, "a record changed nothing"),
        Err(refusal) => tracing::warn!(plugin, who, "a record was refused: {refusal}"),
    }
}

fn offset_of(delivery: &Delivery) -> u64 {
    delivery.offset.expect("deliveries of a log have offsets")
}

/// Why a component's bytes are not to be had.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use palfrey_host::{
///     plugin::{ComponentError, Registry, RegistryOptions},
///     task::Digest,
/// };
/// # use palfrey_host::queue::in_memory::InMemory;
///
/// // A registry that reads what is deployed and no bytes.
/// let registry = Registry::open(&InMemory::new(), RegistryOptions::default()).await?;
/// let error = registry.component(&Digest::of(b"a component")).await.unwrap_err();
/// assert!(matches!(error, ComponentError::NotFollowed));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
pub enum ComponentError {
    /// They did not arrive.
    #[error(
        "{digest} did not arrive within {}: {arrived}; deploy it again with --force",
        humantime::format_duration(*waited)
    )]
    Missing {
        /// The component.
        digest: Digest,
        /// How long it was waited for.
        waited: Duration,
        /// How much is there: the upload was cut off, or never begun.
        arrived: Arrived,
    },
    /// They arrived, and are not the component.
    #[error(transparent)]
    Damaged(#[from] AssemblyError),
    /// They cannot be read from the store, or written to it.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// The registry was opened for activations alone.
    #[error("this process does not follow components; open the registry with `Follow::Components`")]
    NotFollowed,
    /// The connection was closed.
    #[error("the connection is closed")]
    Closed,
}

/// How much of a component is there.
///
/// ```
/// use palfrey_host::plugin::Arrived;
///
/// let arrived = Arrived::Part { chunks: 3, of: 4 };
/// assert_eq!(arrived.to_string(), "3 of 4 chunks are there, the upload was cut off");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// No chunk.
    Nothing,
    /// Some chunks.
    Part {
        /// Those that are there.
        chunks: u32,
        /// All.
        of: u32,
    },
}

impl std::fmt::Display for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("none of it is in the log of components"),
            Self::Part { chunks, of } => write!(f, "{chunks} of {of} chunks are there, the upload was cut off"),
        }
    }
}

/// Assembles components from the log of chunks, and keeps them in a store.
#[derive(Debug)]
pub(super) struct ComponentFollower {
    shared: Arc<Shared>,
    next_offset: watch::Receiver<u64>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: ComponentStore,
    known: Mutex<HashMap<Digest, Status>>,
}

#[derive(Debug, Clone)]
enum Status {
    UnderWay { chunks: u32, of: u32 },
    Stored,
    Failed(ComponentError),
}

impl ComponentFollower {
    pub(super) async fn start(
        log: &dyn QueueHandle,
        store: ComponentStore,
        options: &RegistryOptions,
    ) -> Result<Self, QueueError> {
        let deliveries = log.consumer(CHUNK_PREFETCH).await?;
        let shared = Arc::new(Shared { store, known: Mutex::default() });
        let (sender, next_offset) = watch::channel(0);
        let assembler = Assembler::new(options.max_component_bytes);
        let task = tokio::spawn(follow_components(deliveries, assembler, shared.clone(), sender));
        Ok(Self { shared, next_offset, _task: AbortOnDropHandle::new(task) })
    }

    pub(super) async fn read_up_to(&self, offset: u64) -> Result<(), QueueError> {
        let mut next_offset = self.next_offset.clone();
        next_offset.wait_for(|next| *next >= offset).await.map_err(|_| QueueError::Closed)?;
        Ok(())
    }

    pub(super) async fn get(&self, digest: &Digest, timeout: Duration) -> Result<Bytes, ComponentError> {
        // It may be there from an earlier run, before its chunks have been read again.
        if let Some(bytes) = self.shared.read(*digest).await? {
            return Ok(bytes);
        }
        let mut next_offset = self.next_offset.clone();
        let settled = |_: &u64| matches!(self.shared.status(digest), Some(Status::Stored | Status::Failed(_)));
        let missing = |arrived| ComponentError::Missing { digest: *digest, waited: timeout, arrived };
        match tokio::time::timeout(timeout, next_offset.wait_for(settled)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(ComponentError::Closed),
            Err(_) => {}
        }
        match self.shared.status(digest) {
            Some(Status::Stored) => self.shared.read(*digest).await?.ok_or_else(|| missing(Arrived::Nothing)),
            Some(Status::Failed(error)) => Err(error),
            Some(Status::UnderWay { chunks, of }) => Err(missing(Arrived::Part { chunks, of })),
            None => Err(missing(Arrived::Nothing)),
        }
    }
}

impl Shared {
    fn status(&self, digest: &Digest) -> Option<Status> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn set(&self, digest: Digest, status: Status) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, status);
    }

    async fn read(&self, digest: Digest) -> Result<Option<Bytes>, ComponentError> {
        let store = self.store.clone();
        Ok(blocking(move || store.get(&digest)).await.map_err(Arc::new)?)
    }
}

async fn follow_components(
    mut deliveries: BoxStream<'static, Delivery>,
    mut assembler: Assembler,
    shared: Arc<Shared>,
    next_offset: watch::Sender<u64>,
) {
    while let Some(delivery) = deliveries.next().await {
        let offset = offset_of(&delivery);
        match Chunk::decode(&delivery.payload) {
            Ok(chunk) => {
                let digest = chunk.digest;
                if let Err(error) = take(chunk, &mut assembler, &shared).await {
                    tracing::warn!(offset, "cannot take a component: {error}");
                    shared.set(digest, Status::Failed(error));
                }
            }
            Err(error) => tracing::warn!(offset, "skipped a record of the components: {error}"),
        }
        next_offset.send_modify(|next| *next = (*next).max(offset + 1));
        delivery.acker.ack().await.ok();
    }
}

async fn take(chunk: Chunk, assembler: &mut Assembler, shared: &Arc<Shared>) -> Result<(), ComponentError> {
    let digest = chunk.digest;
    match shared.status(&digest) {
        Some(Status::Stored) => return Ok(()),
        // The first chunk: an earlier run may have stored it.
        None if shared.read(digest).await?.is_some() => {
            shared.set(digest, Status::Stored);
            return Ok(());
        }
        _ => {}
    }
    let Some(assembled) = assembler.add(chunk)? else {
        if let Some((chunks, of)) = assembler.progress(&digest) {
            shared.set(digest, Status::UnderWay { chunks, of });
        }
        return Ok(());
    };
    let store = shared.store.clone();
    blocking(move || -> Result<(), ComponentError> {
        let component = assembled.verify()?;
        store.put(&digest, &component).map_err(Arc::new)?;
        Ok(())
    })
    .await?;
    shared.set(digest, Status::Stored);
    Ok(())
}

/// Runs what hashes or touches the disk away from tokio's own threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
