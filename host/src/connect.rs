//! From a configuration to connected parts, the same for orchestrators and workers.

use std::sync::Arc;

use crate::{
    channel::ChannelFactory,
    config::{BrokerError, Config, Transport},
    engine::{AllowError, Engine, EngineError, Grants},
    plugin::{ComponentStore, Follow, Plugins, Registry, RegistryOptions, StoreError, Trust, TrustError},
    queue::{Connection, QueueError, amqp::Amqp, in_memory::InMemory},
};

/// Why a runtime could not be set up.
///
/// ```
/// use palfrey_host::{Config, ConnectError, Runtime};
///
/// async fn connect(config: &Config) -> Result<Runtime, ConnectError> {
///     match Runtime::from_config(config).await {
///         Err(ConnectError::Queue(error)) => {
///             eprintln!("{}: {error}; this process computes by itself", config.amqp_uri);
///             Runtime::in_memory().await
///         }
///         runtime => runtime,
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The broker's address cannot be put together.
    #[error(transparent)]
    Address(#[from] BrokerError),
    /// The broker cannot be reached, or refuses.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The engine cannot be set up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The keys that are trusted cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Something that is to be allowed to plugins is not there.
    #[error(transparent)]
    Allow(#[from] AllowError),
    /// The folder of the components cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Connects to the broker, or makes one in memory.
pub(crate) async fn connect(config: &Config) -> Result<Arc<dyn Connection>, ConnectError> {
    match config.runtime {
        Transport::InMemory => Ok(Arc::new(InMemory::default())),
        Transport::Amqp => Ok(Arc::new(Amqp::connect(config.broker()?.expose(), config.amqp_options()).await?)),
    }
}

/// Opens the registry, and waits until it has been read.
pub(crate) async fn open_registry(
    channels: &ChannelFactory,
    config: &Config,
    follow: Follow,
) -> Result<Registry, ConnectError> {
    let options = RegistryOptions {
        follow,
        who: config.who(),
        max_component_bytes: config.compile_limits.component,
        ..RegistryOptions::default()
    };
    let registry = Registry::open(&**channels.connection(), options).await?;
    registry.caught_up().await?;
    Ok(registry)
}

/// Opens the registry with the components' bytes, and loads what is deployed and trusted in the background.
pub(crate) async fn open_plugins(
    channels: &ChannelFactory,
    engine: &Engine,
    config: &Config,
) -> Result<Plugins, ConnectError> {
    let trust = Trust::load(&config.trust)?;
    let allowed = Grants::allowed(&config.allow)?;
    if !allowed.is_empty() {
        tracing::info!(%allowed, "operations may have what they were granted of these");
    }
    let store = match &config.cache_dir {
        Some(folder) => ComponentStore::in_directory(folder)?,
        None => ComponentStore::in_memory(),
    };
    let registry = open_registry(channels, config, Follow::Components(store)).await?;
    Ok(Plugins::new(registry, engine.clone(), trust, allowed))
}
