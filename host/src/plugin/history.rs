//! The history of one plugin.

use std::{collections::BTreeSet, sync::Arc};

use semver::Version;
use uuid::Uuid;

use super::{Activation, Refusal, RollbackTo, UnixMillis};
use crate::{
    engine::{Capability, Description},
    task::Digest,
};

/// A component that was deployed.
///
/// ```
/// use palfrey_host::plugin::Deployment;
///
/// fn line(deployment: &Deployment) -> String {
///     let Deployment { digest, who, when, withdrawn, .. } = deployment;
///     let note = if *withdrawn { " (undeployed)" } else { "" };
///     format!("{} {} by {who} at {when}{note}", deployment.version(), digest.short())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its SHA-256: what tasks name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Number of its chunks in the log of components.
    pub chunks: u32,
    /// What it says of itself.
    pub description: Description,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// Who deployed it, the last time.
    pub who: String,
    /// When.
    pub when: UnixMillis,
    /// Whether it was undeployed. Nothing resolves to it then, until it is deployed again or rolled back to.
    pub withdrawn: bool,
    /// The signatures that it was deployed with, the newest last. Nobody has checked them: see [`Trust`](super::Trust).
    pub signatures: Vec<String>,
    /// What its operations were granted. Which worker allows that is the worker's business.
    pub grants: BTreeSet<Capability>,
}

impl Deployment {
    /// Signatures that are kept. More are needed by nobody: one for each key that some worker trusts, while keys change.
    pub const SIGNATURES: usize = 8;

    /// The plugin's version.
    pub fn version(&self) -> &Version {
        &self.description.version
    }
}

/// Something that happened to a plugin.
///
/// ```
/// use palfrey_host::plugin::PluginHistory;
///
/// /// Who is to be asked why the plugin is as it is.
/// fn responsible(plugin: &PluginHistory) -> Option<&str> {
///     plugin.events().last().map(|event| event.who.as_str())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position of its record in the log.
    pub offset: u64,
    /// ID of its record.
    pub id: Uuid,
    /// Who did it.
    pub who: String,
    /// When.
    pub when: UnixMillis,
    /// What.
    pub kind: EventKind,
}

/// What can happen to a plugin.
///
/// ```
/// use palfrey_host::plugin::{Event, EventKind};
///
/// fn line(event: &Event) -> String {
///     let what = match event.kind {
///         EventKind::Deployed(digest) => format!("deployed {}", digest.short()),
///         EventKind::RolledBack(digest) => format!("went back to {}", digest.short()),
///         EventKind::Undeployed => "undeployed all of it".to_owned(),
///         EventKind::Signed(digest) => format!("signed {}", digest.short()),
///     };
///     format!("{} {what} at {}", event.who, event.when)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A component was deployed, and became the active one.
    Deployed(Digest),
    /// An earlier component became the active one.
    RolledBack(Digest),
    /// Every version was withdrawn.
    Undeployed,
    /// The active component got one more signature.
    Signed(Digest),
}

/// A plugin: what was deployed of it, and which of that is active.
///
/// ```no_run
/// # fn example(registry: palfrey_host::plugin::Registry) {
/// for plugin in registry.list() {
///     match plugin.active() {
///         Some(active) => println!("{} {}", plugin.name(), active.version()),
///         None => println!("{} was undeployed", plugin.name()),
///     }
///     if let Some(previous) = plugin.previous() {
///         println!("  can be rolled back to {}", previous.version());
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginHistory {
    name: String,
    deployments: Vec<Arc<Deployment>>,
    active: Option<Digest>,
    /// What was active last, also after undeploying.
    last_active: Option<Digest>,
    events: Vec<Event>,
}

impl PluginHistory {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), deployments: Vec::new(), active: None, last_active: None, events: Vec::new() }
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every component that was deployed, in the order in which they were deployed, each counted once, the last time.
    pub fn deployments(&self) -> &[Arc<Deployment>] {
        &self.deployments
    }

    /// The component that new jobs execute. `None` after undeploying.
    pub fn active(&self) -> Option<&Arc<Deployment>> {
        self.deployment(&self.active?)
    }

    /// A component by its digest.
    pub fn deployment(&self, digest: &Digest) -> Option<&Arc<Deployment>> {
        self.deployments.iter().find(|deployment| deployment.digest == *digest)
    }

    /// What happened, the oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What rolling back without naming a target makes active: the component that was deployed before the active one,
    /// or after undeploying the one that was active then.
    pub fn previous(&self) -> Option<&Arc<Deployment>> {
        match self.active {
            None => self.deployment(&self.last_active?),
            Some(active) => {
                let position = self.deployments.iter().position(|deployment| deployment.digest == active)?;
                self.deployments[..position].last()
            }
        }
    }

    /// The deployment that rolling back means.
    ///
    /// # Errors
    /// If there is none.
    pub fn rollback_target(&self, to: &RollbackTo) -> Result<&Arc<Deployment>, Refusal> {
        let plugin = || self.name.clone();
        match to {
            RollbackTo::Previous => self.previous().ok_or_else(|| match self.active {
                Some(active) => Refusal::NothingBefore { plugin: plugin(), active },
                None => Refusal::NotDeployed { plugin: plugin() },
            }),
            RollbackTo::Version(version) => self
                .deployments
                .iter()
                .rfind(|deployment| deployment.version() == version)
                .ok_or_else(|| Refusal::NoSuchVersion { plugin: plugin(), version: version.clone() }),
            RollbackTo::Digest(digest) => {
                self.deployment(digest).ok_or_else(|| Refusal::NeverDeployed { plugin: plugin(), digest: *digest })
            }
        }
    }

    pub(super) fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn deploy(&mut self, activation: &Activation, who: &str, when: UnixMillis) {
        let Activation { digest, size, chunks, .. } = *activation;
        let mut signatures = self.deployment(&digest).map(|before| before.signatures.clone()).unwrap_or_default();
        if let Some(signature) = &activation.signature {
            add_signature(&mut signatures, signature);
        }
        self.deployments.retain(|deployment| deployment.digest != digest);
        self.deployments.push(Arc::new(Deployment {
            digest,
            size,
            chunks,
            description: activation.description.clone(),
            imports: activation.imports.clone(),
            who: who.to_owned(),
            when,
            withdrawn: false,
            signatures,
            grants: activation.grants.clone(),
        }));
        self.activate(digest);
    }

    /// Adds a signature to a component that was deployed, and says whether it is a new one.
    pub(super) fn sign(&mut self, digest: Digest, signature: &str) -> bool {
        let deployment = self.deployments.iter_mut().find(|deployment| deployment.digest == digest);
        deployment.is_some_and(|deployment| add_signature(&mut Arc::make_mut(deployment).signatures, signature))
    }

    pub(super) fn roll_back(&mut self, digest: Digest) {
        if let Some(deployment) = self.deployments.iter_mut().find(|deployment| deployment.digest == digest) {
            Arc::make_mut(deployment).withdrawn = false;
            self.activate(digest);
        }
    }

    pub(super) fn undeploy(&mut self) {
        self.active = None;
        for deployment in &mut self.deployments {
            Arc::make_mut(deployment).withdrawn = true;
        }
    }

    fn activate(&mut self, digest: Digest) {
        self.active = Some(digest);
        self.last_active = Some(digest);
    }
}

fn add_signature(signatures: &mut Vec<String>, signature: &str) -> bool {
    if signatures.iter().any(|known| known == signature) {
        return false;
    }
    if signatures.len() == Deployment::SIGNATURES {
        signatures.remove(0);
    }
    signatures.push(signature.to_owned());
    true
}
