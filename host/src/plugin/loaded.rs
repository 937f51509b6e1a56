//! temp
use super::*;
use crate::{
    engine::{Engine, Plugin},
    task::Digest,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
/// x
#[derive(Clone, Debug)]
pub struct Plugins {
    registry: Registry,
    engine: Engine,
    map: Arc<Mutex<HashMap<Digest, Plugin>>>,
}
impl Plugins {
    /// x
    pub fn new(registry: Registry, engine: Engine) -> Self {
        Self { registry, engine, map: Default::default() }
    }
    /// x
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
    /// x
    pub async fn get(&self, digest: &Digest) -> Result<Plugin, ComponentError> {
        if let Some(p) = self.map.lock().unwrap().get(digest) {
            return Ok(p.clone());
        }
        let bytes = self.registry.component(digest).await?;
        let engine = self.engine.clone();
        let p = tokio::task::spawn_blocking(move || engine.load(&bytes)).await.unwrap().unwrap();
        self.map.lock().unwrap().insert(*digest, p.clone());
        Ok(p)
    }
}
