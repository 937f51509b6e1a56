//! The registry's state as a fold of its log. Pure: the same records give the same state in every process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use semver::Version;
use uuid::Uuid;

use super::{Action, Activation, Event, EventKind, PluginHistory, Record, Suggestions};
use crate::{
    engine::{Capability, Description},
    task::{Digest, is_kebab_case},
};

/// What is deployed, and how it came to that.
///
/// Cloning is cheap: histories are shared until they change.
///
/// ```
/// use palfrey_host::plugin::{Action, Activation, Record, RegistryState};
/// # use palfrey_host::task::Digest;
///
/// # use palfrey_host::engine::{Description, Descriptor, Kind};
/// # let schema = || Some(r#"{"name":"u64","ty":"U64"}"#.to_owned());
/// # let descriptor = Descriptor {
/// #     name: "fib-at".to_owned(), kind: Kind::Operation, summary: String::new(), encodings: vec!["postcard".to_owned()],
/// #     config_schema: None, input_schema: schema(), output_schema: schema(), needs: [].into(),
/// # };
/// # let operations = vec![descriptor];
/// # let description = Description { name: "arith".to_owned(), version: "1.2.0".parse()?, operations };
/// # let digest = Digest::of(b"the bytes of a component");
/// # let activation = Activation { digest, size: 24, chunks: 1, description, imports: vec![], force: false, signature: None, grants: [].into() };
/// let mut state = RegistryState::default();
/// state.apply(0, &Record::new("ada", Action::Activate(activation)))?;
/// assert_eq!(state.plugin("arith")?.active().map(|active| active.digest), Some(digest));
/// assert_eq!(state.resolve(&"arith/fib-at@^1.2".parse()?)?.digest, digest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryState {
    pub(super) plugins: BTreeMap<String, Arc<PluginHistory>>,
    outcomes: HashMap<Uuid, Result<Change, Refusal>>,
    next_offset: u64,
}

/// What a record changed.
///
/// ```
/// use palfrey_host::plugin::{Action, Activation, Change, Record, RegistryState};
/// # use palfrey_host::task::Digest;
///
/// # use palfrey_host::engine::{Description, Descriptor, Kind};
/// # let schema = || Some(r#"{"name":"u64","ty":"U64"}"#.to_owned());
/// # let descriptor = Descriptor {
/// #     name: "fib-at".to_owned(), kind: Kind::Operation, summary: String::new(), encodings: vec!["postcard".to_owned()],
/// #     config_schema: None, input_schema: schema(), output_schema: schema(), needs: [].into(),
/// # };
/// # let operations = vec![descriptor];
/// # let description = Description { name: "arith".to_owned(), version: "1.2.0".parse()?, operations };
/// # let digest = Digest::of(b"the bytes of a component");
/// # let activation = Activation { digest, size: 24, chunks: 1, description, imports: vec![], force: false, signature: None, grants: [].into() };
/// let mut state = RegistryState::default();
/// let plugin = "arith".to_owned();
/// let deployment = Record::new("ada", Action::Activate(activation));
/// assert_eq!(state.apply(0, &deployment)?, Change::Deployed { plugin, digest, replaced: None });
/// // The broker kept the record twice.
/// assert_eq!(state.apply(1, &deployment)?, Change::Nothing);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A component became the active one.
    Deployed {
        /// The plugin's name.
        plugin: String,
        /// The component.
        digest: Digest,
        /// What was active before.
        replaced: Option<Digest>,
    },
    /// An earlier component became the active one.
    RolledBack {
        /// The plugin's name.
        plugin: String,
        /// The component.
        digest: Digest,
        /// What was active before.
        replaced: Option<Digest>,
    },
    /// Every version of a plugin was withdrawn.
    Undeployed {
        /// The plugin's name.
        plugin: String,
        /// What was active before.
        replaced: Digest,
    },
    /// The active component got one more signature.
    Signed {
        /// The plugin's name.
        plugin: String,
        /// The component.
        digest: Digest,
    },
    /// Nothing: the record was seen before, or what it wants is so already.
    Nothing,
}

/// Why a record is not followed. Every process refuses the same records.
///
/// ```
/// use palfrey_host::plugin::{Action, Record, Refusal, RegistryState};
///
/// let undeployment = Record::new("ada", Action::Undeploy { plugin: "arith".to_owned() });
/// let refusal = RegistryState::default().apply(0, &undeployment).unwrap_err();
/// assert!(matches!(refusal, Refusal::UnknownPlugin { .. }));
/// assert_eq!(refusal.to_string(), "there is no plugin `arith`: there are none yet");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The version is known, with other bytes.
    #[error(
        "version {version} of `{plugin}` was deployed before with other bytes ({}, now {}): raise the version, or \
         use --force to replace it",
        deployed.short(), refused.short()
    )]
    VersionTaken {
        /// The plugin's name.
        plugin: String,
        /// The version.
        version: Version,
        /// The component that has it.
        deployed: Digest,
        /// The component that was to have it.
        refused: Digest,
    },
    /// Nothing of that name was ever deployed.
    #[error("there is no plugin `{plugin}`: {suggestions}")]
    UnknownPlugin {
        /// The name.
        plugin: String,
        /// Names that are there.
        suggestions: Suggestions,
    },
    /// It was undeployed before.
    #[error("plugin `{plugin}` is not deployed; `palfrey plugins` lists what is")]
    NotDeployed {
        /// The plugin's name.
        plugin: String,
    },
    /// A digest that was never deployed as a component of this plugin.
    #[error("{digest} was never deployed as `{plugin}`; `palfrey inspect {plugin}` lists what was")]
    NeverDeployed {
        /// The plugin's name.
        plugin: String,
        /// The digest.
        digest: Digest,
    },
    /// There is nothing to roll back to.
    #[error("`{plugin}` has no deployment before {}; deploy the one you want", active.short())]
    NothingBefore {
        /// The plugin's name.
        plugin: String,
        /// What is active.
        active: Digest,
    },
    /// A version that was never deployed.
    #[error("version {version} of `{plugin}` was never deployed; `palfrey inspect {plugin}` lists what was")]
    NoSuchVersion {
        /// The plugin's name.
        plugin: String,
        /// The version.
        version: Version,
    },
    /// Somebody else deployed, rolled back or undeployed in between.
    #[error("`{plugin}` was changed by somebody else meanwhile; look at `palfrey inspect {plugin}` and try again")]
    Overtaken {
        /// The plugin's name.
        plugin: String,
        /// What was active when the record was written.
        expected: Option<Digest>,
        /// What is active.
        active: Option<Digest>,
    },
    /// Its operations need what the deployment does not grant.
    #[error(
        "`{plugin}` {version} asks for {}, which it is not granted: deploy it with{} if it may have that",
        asked(missing),
        flags(missing)
    )]
    NotGranted {
        /// The plugin's name.
        plugin: String,
        /// Its version.
        version: Version,
        /// What is missing, each with the operations that need it.
        missing: Vec<(Capability, Vec<String>)>,
    },
    /// A signature that is none.
    #[error("the signature has {0} bytes, and one in minisign's format has at most {MAX_SIGNATURE}")]
    SignatureTooLarge(usize),
    /// A description that no engine lets through.
    #[error("the record describes a plugin without a proper name: `{0}`")]
    Name(String),
}

/// For a sentence: ``clocks (for `now`), env:LANG (for `greet` and 2 more)``.
fn asked(missing: &[(Capability, Vec<String>)]) -> String {
    let one = |(capability, operations): &(Capability, Vec<String>)| match operations.as_slice() {
        [operation, others @ ..] if !others.is_empty() => {
            format!("`{capability}` (for `{operation}` and {} more)", others.len())
        }
        operations => format!("`{capability}` (for `{}`)", operations.concat()),
    };
    missing.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What has to be added to the command.
fn flags(missing: &[(Capability, Vec<String>)]) -> String {
    missing.iter().fold(String::new(), |flags, (capability, _)| match capability.to_string() {
        name if name.contains(|char: char| !char.is_ascii_alphanumeric() && !":/._-".contains(char)) => {
            format!("{flags} --grant '{}'", name.replace('\'', "'\\''"))
        }
        name => format!("{flags} --grant {name}"),
    })
}

/// Whether grants are all that the operations of a plugin need: the decision that [`RegistryState::apply`] takes, for somebody who
/// has no registry yet.
///
/// # Errors
/// [`Refusal::NotGranted`].
pub fn check_grants(description: &Description, grants: &BTreeSet<Capability>) -> Result<(), Refusal> {
    let mut missing = BTreeMap::<_, Vec<_>>::new();
    for operation in &description.operations {
        for need in operation.needs.difference(grants) {
            missing.entry(need.clone()).or_default().push(operation.name.clone());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal::NotGranted {
        plugin: description.name.clone(),
        version: description.version.clone(),
        missing: missing.into_iter().collect(),
    })
}

/// The most bytes of a signature. Those of minisign have about 350; their comments can be longer.
const MAX_SIGNATURE: usize = 4096;

/// The active deployments, in one line: `arith 0.1.0 (sha256:…), text 0.1.0 (sha256:…)`.
impl fmt::Display for RegistryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, deployment) in self.plugins.iter().filter_map(|(name, history)| Some((name, history.active()?))) {
            write!(f, "{separator}{name} {} ({})", deployment.version(), deployment.digest)?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("no plugins") } else { Ok(()) }
    }
}

impl RegistryState {
    /// Applies the record at an offset of the log. Records that were applied before, by offset or by ID, change nothing.
    ///
    /// # Errors
    /// If the record is refused. The state then remembers that, and nothing else changes.
    pub fn apply(&mut self, offset: u64, record: &Record) -> Result<Change, Refusal> {
        if offset < self.next_offset {
            return Ok(Change::Nothing);
        }
        self.skip(offset);
        if self.outcomes.contains_key(&record.id) {
            return Ok(Change::Nothing);
        }
        let outcome = self.follow(offset, record);
        self.outcomes.insert(record.id, outcome.clone());
        outcome
    }

    /// Goes past a record that cannot be read.
    pub fn skip(&mut self, offset: u64) {
        self.next_offset = self.next_offset.max(offset + 1);
    }

    /// The offset behind the last record that was applied, refused or skipped.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// What became of the record with an ID. `None` while it has not been seen.
    pub fn outcome(&self, id: Uuid) -> Option<&Result<Change, Refusal>> {
        self.outcomes.get(&id)
    }

    /// Every plugin that was ever deployed, by name.
    pub fn plugins(&self) -> impl ExactSizeIterator<Item = &Arc<PluginHistory>> {
        self.plugins.values()
    }

    /// A plugin by name, deployed or not.
    ///
    /// # Errors
    /// [`Refusal::UnknownPlugin`] if nothing of that name was ever deployed.
    pub fn plugin(&self, name: &str) -> Result<&Arc<PluginHistory>, Refusal> {
        self.plugins.get(name).ok_or_else(|| Refusal::UnknownPlugin {
            plugin: name.to_owned(),
            suggestions: Suggestions::new(name, self.plugins.keys().map(String::as_str)),
        })
    }

    /// Whether a deployment would be refused: the decision that [`apply`](Self::apply) takes, ahead of an upload.
    ///
    /// # Errors
    /// [`Refusal::VersionTaken`], [`Refusal::NotGranted`], [`Refusal::SignatureTooLarge`] or [`Refusal::Name`].
    pub fn check(&self, activation: &Activation) -> Result<(), Refusal> {
        let Activation { digest, description, force, signature, grants, .. } = activation;
        if let Some(size) = signature.as_ref().map(String::len).filter(|size| *size > MAX_SIGNATURE) {
            return Err(Refusal::SignatureTooLarge(size));
        }
        if !is_kebab_case(&description.name) {
            return Err(Refusal::Name(description.name.clone()));
        }
        check_grants(description, grants)?;
        let Some(history) = self.plugins.get(&description.name) else { return Ok(()) };
        if *force || history.active().is_some_and(|active| active.digest == *digest) {
            return Ok(());
        }
        match history.deployments().iter().rfind(|deployment| deployment.version() == &description.version) {
            Some(taken) if taken.digest != *digest => Err(Refusal::VersionTaken {
                plugin: description.name.clone(),
                version: description.version.clone(),
                deployed: taken.digest,
                refused: *digest,
            }),
            _ => Ok(()),
        }
    }

    fn follow(&mut self, offset: u64, record: &Record) -> Result<Change, Refusal> {
        let Record { id, who, when, action } = record;
        let plugin = record.plugin().to_owned();
        let event = |kind| Event { offset, id: *id, who: who.clone(), when: *when, kind };
        match action {
            Action::Activate(activation) => {
                self.check(activation)?;
                let digest = activation.digest;
                let history = self.plugins.entry(plugin).or_insert_with_key(|name| PluginHistory::new(name).into());
                let replaced = history.active().map(|active| active.digest);
                let history = Arc::make_mut(history);
                if replaced == Some(digest) {
                    if !activation.signature.as_ref().is_some_and(|signature| history.sign(digest, signature)) {
                        return Ok(Change::Nothing);
                    }
                    history.record(event(EventKind::Signed(digest)));
                    return Ok(Change::Signed { plugin: history.name().to_owned(), digest });
                }
                history.deploy(activation, who, *when);
                history.record(event(EventKind::Deployed(digest)));
                Ok(Change::Deployed { plugin: history.name().to_owned(), digest, replaced })
            }
            Action::RollBack { from, to, .. } => {
                let history = self.deployed_once(&plugin)?;
                let active = history.active().map(|active| active.digest);
                if history.deployment(to).is_none() {
                    return Err(Refusal::NeverDeployed { plugin, digest: *to });
                }
                if active != *from {
                    return Err(Refusal::Overtaken { plugin, expected: *from, active });
                }
                if active == Some(*to) {
                    return Ok(Change::Nothing);
                }
                history.roll_back(*to);
                history.record(event(EventKind::RolledBack(*to)));
                Ok(Change::RolledBack { plugin, digest: *to, replaced: active })
            }
            Action::Undeploy { .. } => {
                let history = self.deployed_once(&plugin)?;
                let Some(replaced) = history.active().map(|active| active.digest) else {
                    return Err(Refusal::NotDeployed { plugin });
                };
                history.undeploy();
                history.record(event(EventKind::Undeployed));
                Ok(Change::Undeployed { plugin, replaced })
            }
        }
    }

    fn deployed_once(&mut self, name: &str) -> Result<&mut PluginHistory, Refusal> {
        self.plugin(name)?;
        Ok(Arc::make_mut(self.plugins.get_mut(name).expect("it was found a line above")))
    }
}

#[cfg(test)]
mod tests;
