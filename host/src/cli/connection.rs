//! From the arguments to a connection.

use std::time::Duration;

use etcetera::BaseStrategy as _;
use palfrey_host::{
    Config, Runtime,
    config::Transport,
    engine::{Compiler, Engine},
};

use super::{Failure, compile_component};

/// The configuration of a process that speaks to others.
pub(super) fn complete(config: Config) -> Result<Config, Failure> {
    match config.runtime {
        Transport::InMemory => Err(Failure::InMemory),
        Transport::Amqp => completed(config),
    }
}

/// A command that somebody waits for does not wait longer for a broker that went away, unless it is told to.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the broker, and knows what is deployed. For commands that come to an end by themselves.
pub(super) async fn connect(mut config: Config) -> Result<Runtime, Failure> {
    config.reconnect_timeout.get_or_insert(RECONNECT_TIMEOUT);
    Ok(Runtime::from_config(&complete(config)?).await?)
}

/// An engine that checks components.
pub(super) fn engine(config: &Config) -> Result<Engine, Failure> {
    Ok(Engine::new(&completed(config.clone())?.checking_engine())?)
}

/// With a compiler in a process of its own: who makes plugins need not be who runs this. Without a folder named, the cache is
/// where the user's own for such things is: `~/.cache/palfrey`.
fn completed(mut config: Config) -> Result<Config, Failure> {
    config.compiler =
        Compiler::this_program(compile_component::NAME).map_err(|error| Failure::Internal(error.into()))?;
    if config.cache_dir.is_none() {
        match etcetera::choose_base_strategy() {
            Ok(folders) => config.cache_dir = Some(folders.cache_dir().join("palfrey")),
            Err(error) => tracing::warn!("nothing is cached, because the home directory is unknown: {error}"),
        }
    }
    Ok(config)
}
