//! What is deployed: the registry and the plugins that a worker has loaded.
//!
//! Deploying appends to two logs: the component's bytes in chunks to one, then an activation to the other. The state of
//! the registry is a fold of the activations alone, so that every process agrees on it and an orchestrator never reads
//! a component's bytes. Nothing in here knows of tasks under way; a task names the digest of what executes it.
//!
//! Start with [`Registry`]. The decisions are pure and in [`RegistryState`] (what a record changes) and its
//! [`resolve`](RegistryState::resolve) (what an operation ID means); [`Plugins`] is the worker's side.

mod assembler;
#[cfg(test)]
mod fixtures;
mod follower;
mod history;
mod loaded;
mod record;
mod registry;
mod resolve;
pub mod schema;
mod signing;
mod state;
mod store;
mod suggestions;
mod trust;

pub use assembler::{Assembler, AssemblyError};
pub use follower::{Arrived, ComponentError};
pub use history::{Deployment, Event, EventKind, PluginHistory};
pub use loaded::{PluginError, Plugins, Withheld};
pub use record::{Action, Activation, Chunk, Record, RecordError, UnixMillis};
pub use registry::{
    CheckedComponent, DeployOptions, Deployed, Follow, Registry, RegistryError, RegistryOptions, RollbackTo,
};
pub use resolve::{ExpectedTypes, Mismatch, ResolveError, Resolved};
pub use signing::{KeyError, NewKey, SigningKey};
pub use state::{Change, Refusal, RegistryState, check_grants};
pub use store::{ComponentStore, StoreError};
pub use suggestions::Suggestions;
pub use trust::{Trust, TrustError, Untrusted, check_signature_name};
