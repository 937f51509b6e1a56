//! From the arguments to a connection.

use etcetera::BaseStrategy as _;
use palfrey_host::{Config, Runtime, config::Transport, engine::Engine};

use super::Failure;

/// The configuration of a process that speaks to others, with a folder for what is worth keeping.
pub(super) fn complete(config: Config) -> Result<Config, Failure> {
    match config.runtime {
        Transport::InMemory => Err(Failure::InMemory),
        Transport::Amqp => Ok(with_cache(config)),
    }
}

/// Connects to the broker, and knows what is deployed.
pub(super) async fn connect(config: Config) -> Result<Runtime, Failure> {
    Ok(Runtime::from_config(&complete(config)?).await?)
}

/// An engine that checks components.
pub(super) fn engine(config: &Config) -> Result<Engine, Failure> {
    Ok(Engine::new(&with_cache(config.clone()).checking_engine())?)
}

/// Without a folder named, the user's own for such things: `~/.cache/palfrey`.
fn with_cache(mut config: Config) -> Config {
    if config.cache_dir.is_none() {
        match etcetera::choose_base_strategy() {
            Ok(folders) => config.cache_dir = Some(folders.cache_dir().join("palfrey")),
            Err(error) => tracing::warn!("nothing is cached, because the home directory is unknown: {error}"),
        }
    }
    config
}
