//! The registry as processes use it: appends to the logs, and follows them.

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use semver::Version;
use tokio::sync::watch;

use super::{
    Action, Activation, Change, Chunk, ComponentError, ComponentStore, Deployment, PluginHistory, Record, Refusal,
    RegistryState, ResolveError, Resolved,
    follower::{ActivationFollower, ComponentFollower, blocking},
};
use crate::{
    engine::{Capability, CompileLimits, Description, Engine, LoadError, Plugin},
    queue::{Connection, QueueError, QueueHandle, QueueKind, QueueSpec},
    task::{Digest, OperationId},
};

/// What a process reads of the registry.
///
/// ```
/// use palfrey_host::plugin::{ComponentStore, Follow};
///
/// /// A process with a cache folder keeps the components there, others read what is deployed and no more.
/// fn follow(cache: Option<&std::path::Path>) -> Result<Follow, palfrey_host::plugin::StoreError> {
///     Ok(match cache {
///         Some(folder) => Follow::Components(ComponentStore::in_directory(folder)?),
///         None => Follow::Activations,
///     })
/// }
/// ```
#[derive(Debug, Clone, Default)]
pub enum Follow {
    /// What is deployed. Enough to resolve, deploy and roll back.
    #[default]
    Activations,
    /// The components' bytes as well, which are kept in a store. For workers. The whole log of components is read at the
    /// start, about a tenth of a second for 64 MiB; what the store has already is not assembled again.
    Components(ComponentStore),
}

/// How to open a registry.
///
/// ```
/// use palfrey_host::plugin::{ComponentStore, Follow, RegistryOptions};
///
/// // A worker keeps the components; whoever only deploys and resolves need not.
/// let options = RegistryOptions {
///     follow: Follow::Components(ComponentStore::in_memory()),
///     who: "ada@example".to_owned(),
///     ..RegistryOptions::default()
/// };
/// ```
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Begins the names of the two logs, `<prefix>.registry` and `<prefix>.components`, so that several systems can
    /// share a broker. Default: `palfrey`.
    pub prefix: String,
    /// What to read. Default: activations.
    pub follow: Follow,
    /// Who deploys, for the history. Default: `unknown`.
    pub who: String,
    /// Components may have so many bytes. Default: what an engine accepts.
    pub max_component_bytes: u64,
    /// How long [`Registry::component`] waits for bytes that have not arrived. Default: 30 seconds.
    pub component_timeout: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            prefix: "palfrey".to_owned(),
            follow: Follow::default(),
            who: "unknown".to_owned(),
            max_component_bytes: CompileLimits::default().component,
            component_timeout: Duration::from_secs(30),
        }
    }
}

/// What is deployed: a handle to the log of deployments. Clones share one follower, which ends with the last of them. A
/// [`Runtime`](crate::Runtime::registry) has one, and so have [workers](crate::WorkerRuntime::plugins).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use palfrey_host::{
///     plugin::{Registry, RegistryOptions},
///     queue::in_memory::InMemory,
/// };
///
/// let registry = Registry::open(&InMemory::new(), RegistryOptions::default()).await?;
/// registry.caught_up().await?;
/// let error = registry.resolve(&"arith/fib-at".parse()?).unwrap_err();
/// assert!(error.to_string().starts_with("there is no plugin `arith`"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: RegistryOptions,
    activation_log: Arc<dyn QueueHandle>,
    component_log: Arc<dyn QueueHandle>,
    activations: ActivationFollower,
    components: Option<ComponentFollower>,
}

/// How to deploy.
///
/// ```
/// use std::sync::Arc;
/// use palfrey_host::plugin::DeployOptions;
///
/// let progress = Arc::new(|done: u64, all: u64| eprintln!("{done} of {all} bytes"));
/// let options = DeployOptions { progress: Some(progress), ..DeployOptions::default() };
/// ```
#[derive(Clone, Default)]
pub struct DeployOptions {
    /// Take a version that was deployed with other bytes, and upload the bytes although they were uploaded before.
    pub force: bool,
    /// A signature of the component, in minisign's format. Workers that [trust](super::Trust) some keys only execute what one
    /// of them has signed.
    pub signature: Option<String>,
    /// What the operations of the component are granted. It is refused unless that is all that they
    /// [need](Description::needs). Workers execute them only if they allow it as well.
    pub grants: BTreeSet<Capability>,
    /// Called with the bytes that are uploaded and the bytes in all.
    pub progress: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>,
}

/// What an engine, or somebody in its place, found out about a component.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use palfrey_host::plugin::{CheckedComponent, DeployOptions, Registry, RegistryOptions};
/// # use palfrey_host::queue::in_memory::InMemory;
///
/// # use palfrey_host::engine::{Description, Descriptor, Kind};
/// # let schema = || Some(r#"{"name":"u64","ty":"U64"}"#.to_owned());
/// # let descriptor = Descriptor {
/// #     name: "fib-at".to_owned(), kind: Kind::Operation, summary: String::new(), encodings: vec!["postcard".to_owned()],
/// #     config_schema: None, input_schema: schema(), output_schema: schema(), needs: [].into(),
/// # };
/// # let operations = vec![descriptor];
/// # let description = Description { name: "arith".to_owned(), version: "1.2.0".parse()?, operations };
/// # let registry = Registry::open(&InMemory::new(), RegistryOptions::default()).await?;
/// // A program with an engine of its own has it from there: `CheckedComponent::from(&plugin)`.
/// let checked = CheckedComponent { description, imports: vec![] };
/// let component = "the bytes of a component".into();
/// let deployed = registry.deploy_checked(component, checked, &DeployOptions::default()).await?;
/// assert_eq!(deployed.deployment.version().to_string(), "1.2.0");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedComponent {
    /// What it says of itself.
    pub description: Description,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
}

impl From<&Plugin> for CheckedComponent {
    fn from(plugin: &Plugin) -> Self {
        Self { description: plugin.description().clone(), imports: plugin.imports().to_vec() }
    }
}

/// What deploying did.
///
/// ```
/// use palfrey_host::plugin::{Change, Deployed};
///
/// fn report(Deployed { deployment, change }: &Deployed) {
///     let version = deployment.version();
///     match change {
///         Change::Nothing => println!("{version} was active already"),
///         Change::Deployed { replaced: Some(before), .. } => println!("{version} replaces {}", before.short()),
///         _ => println!("{version} is the first one"),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The component as it is deployed now.
    pub deployment: Arc<Deployment>,
    /// [`Change::Nothing`] if it was the active one already, [`Change::Signed`] if it got one more signature.
    pub change: Change,
}

/// Where to roll back to.
///
/// ```no_run
/// # async fn example(registry: palfrey_host::plugin::Registry) -> anyhow::Result<()> {
/// use palfrey_host::plugin::RollbackTo;
///
/// registry.rollback("arith", &RollbackTo::Version("1.2.0".parse()?)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RollbackTo {
    /// What was deployed before the active one; after undeploying, what was active then.
    #[default]
    Previous,
    /// The last deployment of a version.
    Version(Version),
    /// A component.
    Digest(Digest),
}

/// Why the registry did not do it.
///
/// ```
/// use palfrey_host::plugin::{Registry, RegistryError, RollbackTo};
///
/// /// Goes back, unless there is nothing to go back to.
/// async fn go_back(registry: &Registry, plugin: &str) -> Result<(), RegistryError> {
///     match registry.rollback(plugin, &RollbackTo::Previous).await {
///         Err(RegistryError::Refused(refusal)) => println!("it stays: {refusal}"),
///         done => _ = done?,
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The broker.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The component cannot be deployed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The state of the registry forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A record was appended and does not come back.
    #[error(
        "the record was appended to the log and not read back within {}: see `palfrey plugins` for what became of it",
        humantime::format_duration(*READ_BACK)
    )]
    NotReadBack,
}

/// How long a record may take from the broker's confirm until it is read.
const READ_BACK: &Duration = &Duration::from_secs(30);

/// Chunks on their way to the broker at a time.
const CHUNKS_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");

impl Registry {
    /// Declares the logs and begins to follow them. What is deployed is known a moment later: see
    /// [`caught_up`](Self::caught_up).
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn open(connection: &dyn Connection, options: RegistryOptions) -> Result<Self, QueueError> {
        let log = |name| QueueSpec::new(format!("{}.{name}", options.prefix), QueueKind::Log);
        let activation_log = connection.declare(&log("registry")).await?;
        let component_log = connection.declare(&log("components")).await?;
        let activations = ActivationFollower::start(&*activation_log).await?;
        let components = match &options.follow {
            Follow::Activations => None,
            Follow::Components(store) => {
                Some(ComponentFollower::start(&*component_log, store.clone(), &options).await?)
            }
        };
        Ok(Self(Arc::new(Inner { options, activation_log, component_log, activations, components })))
    }

    /// Waits until everything that was appended before this call has been read.
    ///
    /// # Errors
    /// If the broker does not tell how much that is, or the connection is closed.
    pub async fn caught_up(&self) -> Result<(), QueueError> {
        let Inner { activation_log, component_log, activations, components, .. } = &*self.0;
        let appended = activation_log.status().await?.messages;
        activations.wait_for(|state| state.next_offset() >= appended).await?;
        if let Some(components) = components {
            let appended = component_log.status().await?.messages;
            components.read_up_to(appended).await?;
        }
        Ok(())
    }

    /// What is deployed, as far as the log has been read.
    pub fn state(&self) -> Arc<RegistryState> {
        self.0.activations.state()
    }

    /// The state whenever it changes. It ends when the connection is closed.
    ///
    /// ```no_run
    /// # async fn example(registry: palfrey_host::plugin::Registry) -> anyhow::Result<()> {
    /// let mut state = registry.subscribe();
    /// // Waits until somebody has deployed `arith`.
    /// state.wait_for(|state| state.plugin("arith").is_ok_and(|plugin| plugin.active().is_some())).await?;
    /// // And from then on for everything that changes.
    /// while state.changed().await.is_ok() {
    ///     let deployed = state.borrow_and_update().plugins().filter(|plugin| plugin.active().is_some()).count();
    ///     println!("{deployed} plugins are deployed");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self) -> watch::Receiver<Arc<RegistryState>> {
        self.0.activations.subscribe()
    }

    /// What an operation ID means now: see [`RegistryState::resolve`]. A directive asks once, when it starts.
    ///
    /// # Errors
    /// If nothing deployed answers to it.
    pub fn resolve(&self, id: &OperationId) -> Result<Resolved, ResolveError> {
        self.state().resolve(id)
    }

    /// Every plugin that was ever deployed, by name. Those that were undeployed have no [active](PluginHistory::active) version.
    pub fn list(&self) -> Vec<Arc<PluginHistory>> {
        self.state().plugins().cloned().collect()
    }

    /// A plugin's deployments and history.
    ///
    /// ```no_run
    /// # fn example(registry: palfrey_host::plugin::Registry) -> anyhow::Result<()> {
    /// let arith = registry.inspect("arith")?;
    /// for deployment in arith.deployments() {
    ///     println!("{} by {} at {}", deployment.version(), deployment.who, deployment.when);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Refusal::UnknownPlugin`] if nothing of that name was ever deployed.
    pub fn inspect(&self, plugin: &str) -> Result<Arc<PluginHistory>, Refusal> {
        self.state().plugin(plugin).cloned()
    }

    /// Checks a component by an engine and deploys it: new jobs execute it from now on, jobs under way are not disturbed.
    ///
    /// Deploying what is active already changes nothing, unless it brings a new signature. A version is deployed with other bytes only if the options
    /// [say so](DeployOptions::force).
    ///
    /// ```no_run
    /// # async fn example(registry: palfrey_host::plugin::Registry) -> anyhow::Result<()> {
    /// use palfrey_host::{
    ///     engine::{Engine, EngineConfig},
    ///     plugin::{Change, DeployOptions, RollbackTo},
    /// };
    ///
    /// let engine = Engine::new(&EngineConfig::default())?;
    /// let component = std::fs::read("target/wasm32-wasip2/release/arith.wasm")?;
    /// let deployed = registry.deploy(component.into(), &engine, &DeployOptions::default()).await?;
    /// match deployed.change {
    ///     Change::Deployed { replaced: Some(_), .. } => {
    ///         registry.rollback("arith", &RollbackTo::Previous).await?; // It was not a good idea.
    ///     }
    ///     _ => {
    ///         registry.undeploy("arith").await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RegistryError::Load`] if it is no component that workers can execute, [`RegistryError::Refused`] if its version
    /// was deployed with other bytes or it needs what it is not granted, or an error of the broker. Nothing is deployed then.
    pub async fn deploy(
        &self,
        component: Bytes,
        engine: &Engine,
        options: &DeployOptions,
    ) -> Result<Deployed, RegistryError> {
        let (engine, bytes) = (engine.clone(), component.clone());
        let checked = blocking(move || engine.load(&bytes).map(|plugin| CheckedComponent::from(&plugin))).await?;
        self.deploy_checked(component, checked, options).await
    }

    /// Deploys a component that was checked elsewhere. Workers check it again before they execute it.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy), but for [`RegistryError::Load`].
    pub async fn deploy_checked(
        &self,
        component: Bytes,
        checked: CheckedComponent,
        options: &DeployOptions,
    ) -> Result<Deployed, RegistryError> {
        self.caught_up().await?;
        let digest = Digest::of(&component);
        let (size, chunks, force) = (component.len() as u64, Chunk::count(component.len()), options.force);
        let CheckedComponent { description, imports } = checked;
        let plugin = description.name.clone();
        let (signature, grants) = (options.signature.clone(), options.grants.clone());
        let activation = Activation { digest, size, chunks, description, imports, force, signature, grants };
        let state = self.state();
        state.check(&activation)?;
        let history = state.plugin(&plugin).ok();
        let active = history.and_then(|history| history.active()).filter(|active| active.digest == digest);
        let is_new = |deployment: &Deployment| {
            options.signature.as_ref().is_some_and(|signature| !deployment.signatures.contains(signature))
        };
        if let (Some(active), false) = (active, force)
            && !is_new(active)
        {
            return Ok(Deployed { deployment: active.clone(), change: Change::Nothing });
        }
        if force || history.is_none_or(|history| history.deployment(&digest).is_none()) {
            self.upload(digest, &component, options).await?;
        }
        let (state, change) = self.append(Action::Activate(activation)).await?;
        let deployment = state.plugin(&plugin)?.deployment(&digest).cloned();
        let deployment = deployment.ok_or(Refusal::NeverDeployed { plugin, digest })?;
        Ok(Deployed { deployment, change })
    }

    /// Withdraws every version of a plugin: new jobs get an error, jobs under way finish. [Rolling back](Self::rollback) or
    /// deploying brings it back.
    ///
    /// # Errors
    /// [`Refusal::UnknownPlugin`] or [`Refusal::NotDeployed`] as [`RegistryError::Refused`], or an error of the broker.
    pub async fn undeploy(&self, plugin: &str) -> Result<Change, RegistryError> {
        self.caught_up().await?;
        if self.state().plugin(plugin)?.active().is_none() {
            return Err(Refusal::NotDeployed { plugin: plugin.to_owned() }.into());
        }
        let (_, change) = self.append(Action::Undeploy { plugin: plugin.to_owned() }).await?;
        Ok(change)
    }

    /// Makes an earlier deployment active again, for new jobs. Rolling back to what is active changes nothing.
    ///
    /// ```no_run
    /// # async fn example(registry: palfrey_host::plugin::Registry) -> anyhow::Result<()> {
    /// use palfrey_host::plugin::RollbackTo;
    ///
    /// let now = registry.rollback("arith", &RollbackTo::Version("1.2.0".parse()?)).await?;
    /// println!("new jobs execute {}", now.deployment.digest);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RegistryError::Refused`] if there is no such deployment or somebody else changed the plugin meanwhile, or an error of
    /// the broker.
    pub async fn rollback(&self, plugin: &str, to: &RollbackTo) -> Result<Deployed, RegistryError> {
        self.caught_up().await?;
        let state = self.state();
        let history = state.plugin(plugin)?;
        let target = history.rollback_target(to)?;
        let (from, to) = (history.active().map(|active| active.digest), target.digest);
        if from == Some(to) {
            return Ok(Deployed { deployment: target.clone(), change: Change::Nothing });
        }
        let (state, change) = self.append(Action::RollBack { plugin: plugin.to_owned(), from, to }).await?;
        let deployment = state.plugin(plugin)?.deployment(&to).cloned();
        let deployment = deployment.ok_or(Refusal::NeverDeployed { plugin: plugin.to_owned(), digest: to })?;
        Ok(Deployed { deployment, change })
    }

    /// The bytes of a component. Waits for those that are on their way, as long as
    /// [configured](RegistryOptions::component_timeout).
    ///
    /// # Errors
    /// If they do not arrive in time, are damaged, or this process does not [follow components](Follow::Components).
    pub async fn component(&self, digest: &Digest) -> Result<Bytes, ComponentError> {
        let components = self.0.components.as_ref().ok_or(ComponentError::NotFollowed)?;
        components.get(digest, self.0.options.component_timeout).await
    }

    /// A component as a plugin's deployment. Waits for its record as long as for bytes: whoever names it may have read
    /// further.
    pub(super) async fn deployment(&self, plugin: &str, digest: &Digest) -> Option<Arc<Deployment>> {
        let find = |state: &RegistryState| state.plugin(plugin).ok()?.deployment(digest).cloned();
        let mut state = self.subscribe();
        let found = state.wait_for(|state| find(state).is_some());
        let state = tokio::time::timeout(self.0.options.component_timeout, found).await.ok()?.ok()?;
        find(&state)
    }

    async fn upload(&self, digest: Digest, component: &Bytes, options: &DeployOptions) -> Result<(), QueueError> {
        let publisher = self.0.component_log.publisher().await?;
        let total = component.len() as u64;
        let mut confirmed = futures::stream::iter(Chunk::split(digest, component))
            .map(|chunk| {
                let publisher = publisher.clone();
                async move {
                    publisher.publish(chunk.encode()).await?;
                    Ok::<_, QueueError>(chunk.bytes.len() as u64)
                }
            })
            .buffer_unordered(CHUNKS_IN_FLIGHT.get());
        let mut done = 0;
        while let Some(size) = confirmed.try_next().await? {
            done += size;
            if let Some(progress) = &options.progress {
                progress(done, total);
            }
        }
        Ok(())
    }

    /// Appends a record, and waits until it has been read back: only then is it known whether it was followed, because
    /// somebody else's record may have come before it.
    async fn append(&self, action: Action) -> Result<(Arc<RegistryState>, Change), RegistryError> {
        let record = Record::new(&self.0.options.who, action);
        self.0.activation_log.publisher().await?.publish(record.encode()).await?;
        let read_back = self.0.activations.wait_for(|state| state.outcome(record.id).is_some());
        let state = tokio::time::timeout(*READ_BACK, read_back).await.map_err(|_| RegistryError::NotReadBack)??;
        match state.outcome(record.id) {
            Some(Ok(change)) => Ok((state.clone(), change.clone())),
            Some(Err(refusal)) => Err(refusal.clone().into()),
            None => Err(RegistryError::NotReadBack),
        }
    }
}

impl std::fmt::Debug for DeployOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeployOptions").field("force", &self.force).finish_non_exhaustive()
    }
}
