//! Plugins that a worker has loaded.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};
use tokio_util::task::AbortOnDropHandle;

use super::{ComponentError, Deployment, Registry, Trust, Untrusted, follower::blocking};
use crate::{
    engine::{Capability, Descriptor, Engine, Grants, LoadError, Plugin, capability::list},
    task::{Digest, OperationId},
};

/// The plugins of a worker, ready to be called. Clones share them.
///
/// What is deployed is loaded in the background, so that the first task does not wait for the compiler. What was
/// replaced stays loaded as long as tasks may name it: until as many others as there is [room](Self::CAPACITY) for were used
/// after it. It is then loaded again when a task wants it.
///
/// ```no_run
/// # async fn example(worker: palfrey_host::WorkerRuntime) -> anyhow::Result<()> {
/// let plugins = worker.plugins();
/// let fib_at = plugins.registry().resolve(&"arith/fib-at".parse()?)?;
/// let plugin = plugins.get(fib_at.id.plugin(), &fib_at.digest).await?;
/// println!("{} {}", plugin.description().name, plugin.description().version);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Plugins {
    loader: Arc<Loader>,
    _preloader: Arc<AbortOnDropHandle<()>>,
}

/// Why a worker cannot execute a component.
///
/// ```
/// use palfrey_host::{plugin::{PluginError, Plugins}, task::Digest};
///
/// /// Whether a worker with these plugins can execute a component of `arith` now.
/// async fn is_ready(plugins: &Plugins, digest: &Digest) -> bool {
///     match plugins.get("arith", digest).await {
///         Ok(_) => true,
///         Err(PluginError::Component(error)) => {
///             println!("not yet: {error}");
///             false
///         }
///         Err(error) => {
///             println!("never: {error}");
///             false
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
pub enum PluginError {
    /// It does not have its bytes. They may arrive later.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// No key that this worker trusts has signed them.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The operation needs what it does not get here.
    #[error(transparent)]
    Withheld(#[from] Withheld),
    /// The bytes cannot be executed. They never will, unless it is [temporary](LoadError::is_temporary).
    #[error(transparent)]
    Load(#[from] Arc<LoadError>),
    /// Loading it panicked: a mistake of the engine, that it would make again.
    #[error("loading the component panicked: a mistake in the worker, see its log")]
    Panicked,
}

/// What an operation needs and does not get from a worker. It is not executed there.
///
/// ```
/// use palfrey_host::{engine::Capability, plugin::Withheld};
///
/// let withheld = Withheld::NotAllowed { operation: "clock/now".parse()?, need: Capability::Clocks };
/// assert!(withheld.to_string().ends_with("start workers with `--allow clocks` for it"));
/// # Ok::<(), palfrey_host::task::ParseIdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// The worker does not allow it.
    #[error(
        "`{operation}` needs `{need}`, which this worker does not allow: start workers with `--allow {need}` for it"
    )]
    NotAllowed {
        /// The operation.
        operation: OperationId,
        /// What it needs.
        need: Capability,
    },
    /// The plugin was deployed without it, by somebody who wrote to the registry what `palfrey deploy` would not.
    #[error("`{operation}` needs `{need}`, which its deployment does not grant: deploy it again with `--grant {need}`")]
    NotGranted {
        /// The operation.
        operation: OperationId,
        /// What it needs.
        need: Capability,
    },
}

impl PluginError {
    fn is_final(&self) -> bool {
        match self {
            Self::Component(_) => false,
            Self::Load(error) => !error.is_temporary(),
            Self::Untrusted(_) | Self::Withheld(_) | Self::Panicked => true,
        }
    }
}

#[derive(Debug)]
struct Loader {
    registry: Registry,
    engine: Engine,
    trust: Trust,
    allowed: Grants,
    /// What was decided about deployments, by their [`case`].
    decided: Cache<Result<(), PluginError>>,
    loaded: Cache<Result<Plugin, PluginError>>,
}

impl Plugins {
    /// Plugins that are kept loaded: far more than are in use at a time, and few enough that their machine code, some
    /// megabytes each and mapped from disk, does not matter.
    pub const CAPACITY: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");

    /// Begins to load what is deployed and trusted, and goes on with what will be. The registry has to follow components. Plugins
    /// have what their deployments grant, as far as it is `allowed`.
    pub fn new(registry: Registry, engine: Engine, trust: Trust, allowed: Grants) -> Self {
        let (decided, loaded) = (Cache::new(Self::CAPACITY), Cache::new(Self::CAPACITY));
        let loader = Arc::new(Loader { registry, engine, trust, allowed, decided, loaded });
        let preloader = tokio::spawn(preload(loader.clone()));
        Self { loader, _preloader: Arc::new(AbortOnDropHandle::new(preloader)) }
    }

    /// The registry that they come from.
    pub fn registry(&self) -> &Registry {
        &self.loader.registry
    }

    /// The component with a digest, as a deployment of a plugin by its name, with what that grants and this worker allows. If it
    /// is not loaded yet it is loaded now, once, however many ask for it.
    ///
    /// # Errors
    /// If its bytes do not arrive, are not trusted as this plugin, or cannot be executed.
    pub async fn get(&self, plugin: &str, digest: &Digest) -> Result<Plugin, PluginError> {
        self.loader.get(plugin, *digest).await
    }

    /// As [`get`](Self::get), for one operation that is to be executed.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`PluginError::Withheld`] if it needs what is not granted or not allowed.
    pub async fn get_for(&self, operation: &OperationId, digest: &Digest) -> Result<Plugin, PluginError> {
        let plugin = self.get(operation.plugin(), digest).await?;
        let Some(need) = plugin.withheld(operation.operation()).cloned() else { return Ok(plugin) };
        let operation = OperationId::new(operation.plugin(), operation.operation());
        Err(match self.loader.allowed.has(&need) {
            true => Withheld::NotGranted { operation, need },
            false => Withheld::NotAllowed { operation, need },
        }
        .into())
    }

    /// Those that are loaded now, in no particular order.
    pub fn loaded(&self) -> Vec<Plugin> {
        self.loader.loaded.ready().into_iter().filter_map(Result::ok).collect()
    }
}

impl Loader {
    async fn get(&self, plugin: &str, digest: Digest) -> Result<Plugin, PluginError> {
        if !self.trust.is_unlimited() {
            let deployment = self.registry.deployment(plugin, &digest).await;
            let deployment = deployment.ok_or_else(|| Untrusted::NotDeployed { plugin: plugin.to_owned(), digest })?;
            let case = case(&deployment);
            let decide = || decide(self.registry.clone(), self.trust.clone(), deployment).boxed();
            once(&self.decided, case, decide).await?;
        }
        let load = || load(self.registry.clone(), self.engine.clone(), digest).boxed();
        let loaded = once(&self.loaded, digest, load).await?;
        if self.allowed.is_empty() || loaded.description().operations.iter().all(Descriptor::is_pure) {
            return Ok(loaded);
        }
        // What the component needs is in the bytes that were checked, what it is granted only in the registry.
        let deployment = self.registry.deployment(plugin, &digest).await;
        Ok(deployment.map_or(loaded.clone(), |deployment| loaded.granted(self.allowed.only(&deployment.grants))))
    }
}

/// What is made once, unless it failed in a way that can pass.
async fn once<V: Clone>(
    cache: &Cache<Result<V, PluginError>>,
    key: Digest,
    make: impl FnOnce() -> BoxFuture<'static, Result<V, PluginError>>,
) -> Result<V, PluginError> {
    let result = cache.get(key, make).await;
    if result.as_ref().is_err_and(|error| !error.is_final()) {
        cache.forget(&key);
    }
    result
}

/// Everything that trust is decided by. Another signature is another case.
fn case(deployment: &Deployment) -> Digest {
    let Deployment { digest, description, signatures, .. } = deployment;
    let claim = [digest.to_string(), description.name.clone(), description.version.to_string()];
    Digest::of(claim.iter().chain(signatures).map(String::as_str).collect::<Vec<_>>().join("\0").as_bytes())
}

/// Decides whether a deployment is trusted, by the bytes that this worker has.
async fn decide(registry: Registry, trust: Trust, deployment: Arc<Deployment>) -> Result<(), PluginError> {
    let component = registry.component(&deployment.digest).await?;
    let Deployment { description, signatures, .. } = &*deployment;
    let (name, version, signatures) = (description.name.clone(), description.version.clone(), signatures.clone());
    // It hashes all bytes.
    Ok(blocking(move || trust.check(&component, &name, &version, &signatures)).await?)
}

/// Not a method of the loader: its cache keeps this future, which must not keep the loader.
async fn load(registry: Registry, engine: Engine, digest: Digest) -> Result<Plugin, PluginError> {
    let component = registry.component(&digest).await?;
    let loaded = tokio::task::spawn_blocking(move || engine.load(&component)).await;
    Ok(loaded.map_err(|_| PluginError::Panicked)?.map_err(Arc::new)?)
}

/// Loads whatever becomes active.
async fn preload(loader: Arc<Loader>) {
    /// The compiler uses all cores for one component already; the others mostly wait for bytes.
    const AT_ONCE: usize = 4;
    let load = async |deployment: Arc<Deployment>| {
        let (plugin, version) = (&deployment.description.name, deployment.version());
        match loader.get(plugin, deployment.digest).await {
            Ok(loaded) => {
                tracing::info!(plugin, %version, digest = %deployment.digest, "loaded");
                let needs = loaded.description().needs();
                let withheld = list(needs.iter().filter(|need| !loaded.grants().has(need)));
                if !withheld.is_empty() {
                    tracing::warn!(
                        plugin, %version, withheld,
                        "leaving operations to other workers that need what is not allowed here; `--allow` does"
                    );
                }
            }
            Err(error) => {
                tracing::error!(plugin, %version, digest = %deployment.digest, "cannot load a plugin: {error}");
            }
        }
    };
    let mut state = loader.registry.subscribe();
    state.mark_changed();
    let mut seen = HashSet::new();
    let mut waiting = VecDeque::new();
    // One whose bytes never arrive does not keep the others waiting.
    let mut loading = FuturesUnordered::new();
    loop {
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                let state = state.borrow_and_update();
                let active = state.plugins().filter_map(|history| history.active().cloned());
                waiting.extend(active.filter(|deployment| seen.insert(case(deployment))));
            }
            Some(()) = loading.next() => {}
        }
        while loading.len() < AT_ONCE
            && let Some(deployment) = waiting.pop_front()
        {
            loading.push(load(deployment));
        }
    }
}

/// Values by digest, each made once. The least recently used ones are dropped.
#[derive(Debug)]
struct Cache<V: Clone> {
    capacity: NonZeroUsize,
    entries: Mutex<Entries<V>>,
}

#[derive(Debug)]
struct Entries<V: Clone> {
    by_digest: HashMap<Digest, Entry<V>>,
    uses: u64,
}

#[derive(Debug)]
struct Entry<V: Clone> {
    value: Shared<BoxFuture<'static, V>>,
    last_use: u64,
}

impl<V: Clone> Cache<V> {
    fn new(capacity: NonZeroUsize) -> Self {
        Self { capacity, entries: Mutex::new(Entries { by_digest: HashMap::new(), uses: 0 }) }
    }

    fn get(&self, digest: Digest, make: impl FnOnce() -> BoxFuture<'static, V>) -> Shared<BoxFuture<'static, V>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.uses += 1;
        let last_use = entries.uses;
        if !entries.by_digest.contains_key(&digest) && entries.by_digest.len() >= self.capacity.get() {
            entries.evict();
        }
        let entry = entries.by_digest.entry(digest).or_insert_with(|| Entry { value: make().shared(), last_use });
        entry.last_use = last_use;
        entry.value.clone()
    }

    /// The values that have been made.
    fn ready(&self) -> Vec<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.by_digest.values().filter_map(|entry| entry.value.peek().cloned()).collect()
    }

    /// Forgets a value that was made. One that is being made again by now is left alone.
    fn forget(&self, digest: &Digest) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.by_digest.get(digest).is_some_and(|entry| entry.value.peek().is_some()) {
            entries.by_digest.remove(digest);
        }
    }
}

impl<V: Clone> Entries<V> {
    /// Drops the value that was used longest ago. Those that are being made stay: somebody waits for them.
    fn evict(&mut self) {
        let made = self.by_digest.iter().filter(|(_, entry)| entry.value.peek().is_some());
        if let Some(oldest) = made.min_by_key(|(_, entry)| entry.last_use).map(|(digest, _)| *digest) {
            self.by_digest.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn cache(capacity: usize) -> Cache<u32> {
        Cache::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn ready(value: u32) -> impl FnOnce() -> BoxFuture<'static, u32> {
        move || async move { value }.boxed()
    }

    fn unexpected() -> BoxFuture<'static, u32> {
        panic!("it should be there already")
    }

    fn digest(number: u32) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    #[tokio::test]
    async fn many_who_ask_at_once_wait_for_one_load() {
        let cache = cache(2);
        let loads = Arc::new(AtomicU32::new(0));
        let (done, wait) = oneshot::channel();
        let first = {
            let loads = loads.clone();
            cache.get(digest(1), move || {
                async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    wait.await.unwrap()
                }
                .boxed()
            })
        };
        let others: Vec<_> = (0..10).map(|_| cache.get(digest(1), unexpected)).collect();
        let all = tokio::spawn(futures::future::join_all(others));
        let first = tokio::spawn(first);
        done.send(7).unwrap();
        assert_eq!((first.await.unwrap(), all.await.unwrap()), (7, vec![7; 10]));
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first() {
        let cache = cache(2);
        for number in [1, 2] {
            cache.get(digest(number), ready(number)).await;
        }
        cache.get(digest(1), unexpected).await;
        cache.get(digest(3), ready(3)).await;
        assert_eq!(cache.get(digest(1), unexpected).await, 1);
        assert_eq!(cache.get(digest(3), unexpected).await, 3);
        assert_eq!(cache.get(digest(2), ready(20)).await, 20, "it was dropped and is made again");
    }

    #[tokio::test]
    async fn what_is_being_loaded_is_never_dropped() {
        let cache = cache(1);
        let (done, wait) = oneshot::channel();
        let slow = cache.get(digest(1), || async { wait.await.unwrap() }.boxed());
        cache.get(digest(2), ready(2)).await;
        done.send(1).unwrap();
        assert_eq!(slow.await, 1);
        assert_eq!(cache.get(digest(1), unexpected).await, 1);
    }

    #[tokio::test]
    async fn a_forgotten_value_is_made_again() {
        let cache = cache(2);
        cache.get(digest(1), ready(1)).await;
        cache.forget(&digest(1));
        assert_eq!(cache.get(digest(1), ready(10)).await, 10);
    }
}
