//! Provisional: replaced by the engine.
mod description;
pub use description::*;

/// E.
#[derive(Debug, Clone)]
pub struct Engine;
/// P.
#[derive(Debug, Clone)]
pub struct Plugin(Description);
/// L.
#[derive(Debug, thiserror::Error)]
#[error("load")]
pub struct LoadError;
impl Engine {
    /// Load.
    pub fn load(&self, _: &[u8]) -> Result<Plugin, LoadError> {
        Err(LoadError)
    }
}
impl Plugin {
    /// D.
    pub fn description(&self) -> &Description {
        &self.0
    }
}
