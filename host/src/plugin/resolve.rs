//! What an operation ID means at this moment, and whether a program and the deployed plugin mean the same by it.

use std::sync::Arc;

use palfrey_sdk::Serializer;
use semver::{Version, VersionReq};

use super::{Deployment, EventKind, PluginHistory, RegistryState, Suggestions, UnixMillis, schema};
use crate::{
    engine::{Descriptor, Kind},
    task::{Apply, Digest, OperationId, Requirement},
};

/// An operation as it is deployed: the answer to an [`OperationId`], pinned to the bytes that execute it.
///
/// ```no_run
/// # fn example(registry: palfrey_host::plugin::Registry) -> anyhow::Result<()> {
/// let fib_at = registry.resolve(&"arith/fib-at".parse()?)?;
/// println!("{} is executed by {} ({})", fib_at.id, fib_at.digest, fib_at.version);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What was asked for.
    pub id: OperationId,
    /// The component. Tasks carry it, so that a job executes the same bytes from its first task to its last.
    pub digest: Digest,
    /// The plugin's version.
    pub version: Version,
    /// The operation as the plugin describes it.
    pub descriptor: Descriptor,
}

/// An operation ID that nothing deployed answers to.
///
/// ```
/// use palfrey_host::plugin::{RegistryState, ResolveError};
///
/// let error = RegistryState::default().resolve(&"arith/fib-at".parse()?).unwrap_err();
/// assert!(matches!(&error, ResolveError::UnknownPlugin { plugin, .. } if plugin == "arith"));
/// println!("{error}"); // It says how to deploy one.
/// # Ok::<(), palfrey_host::task::ParseIdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing of that name was ever deployed.
    #[error("there is no plugin `{plugin}`: {suggestions}; `palfrey deploy FILE` deploys one")]
    UnknownPlugin {
        /// The plugin's name.
        plugin: String,
        /// Names that are there.
        suggestions: Suggestions,
    },
    /// It was deployed, and is no more.
    #[error(
        "plugin `{plugin}` was undeployed by {who} at {when}; deploy it again, or bring it back by \
         `palfrey rollback {plugin}`"
    )]
    Undeployed {
        /// The plugin's name.
        plugin: String,
        /// Who undeployed it.
        who: String,
        /// When.
        when: UnixMillis,
    },
    /// The plugin has no such operation.
    #[error("plugin `{plugin}` {version} has no operation `{operation}`: {suggestions}")]
    UnknownOperation {
        /// The plugin's name.
        plugin: String,
        /// The version that was looked at.
        version: Version,
        /// The operation's name.
        operation: String,
        /// Names that are there.
        suggestions: Suggestions,
    },
    /// No deployed version meets the requirement.
    #[error("no deployed version of `{plugin}` meets {requirement}: there {}", list(deployed))]
    NoVersion {
        /// The plugin's name.
        plugin: String,
        /// What was asked for.
        requirement: VersionReq,
        /// What is deployed, the newest first.
        deployed: Vec<Version>,
    },
    /// The bytes are not deployed.
    #[error("{digest} is not deployed as `{plugin}`; `palfrey inspect {plugin}` lists what is")]
    NoDigest {
        /// The plugin's name.
        plugin: String,
        /// The digest.
        digest: Digest,
    },
}

fn list(versions: &[Version]) -> String {
    let names: Vec<_> = versions.iter().map(Version::to_string).collect();
    format!("{} {}", if names.len() == 1 { "is" } else { "are" }, names.join(", "))
}

impl RegistryState {
    /// What an operation ID means now.
    ///
    /// Without a requirement it is the plugin's active deployment. A version requirement is met by the active one if it
    /// can be, and otherwise by the newest one that was deployed and not withdrawn; a digest by just that.
    ///
    /// # Errors
    /// If the plugin, the operation, or what is required is not deployed.
    pub fn resolve(&self, id: &OperationId) -> Result<Resolved, ResolveError> {
        let name = id.plugin();
        let history = self.plugins.get(name).ok_or_else(|| ResolveError::UnknownPlugin {
            plugin: name.to_owned(),
            suggestions: Suggestions::new(name, deployed_names(self)),
        })?;
        let deployment = choose(history, id.requirement())?;
        let operations = &deployment.description.operations;
        let descriptor = operations.iter().find(|descriptor| descriptor.name == id.operation()).ok_or_else(|| {
            ResolveError::UnknownOperation {
                plugin: name.to_owned(),
                version: deployment.version().clone(),
                operation: id.operation().to_owned(),
                suggestions: Suggestions::new(id.operation(), operations.iter().map(|it| it.name.as_str())),
            }
        })?;
        Ok(Resolved {
            id: id.clone(),
            digest: deployment.digest,
            version: deployment.version().clone(),
            descriptor: descriptor.clone(),
        })
    }
}

fn deployed_names(state: &RegistryState) -> impl Iterator<Item = &str> {
    state.plugins().filter(|history| history.active().is_some()).map(|history| history.name())
}

fn choose<'a>(history: &'a PluginHistory, requirement: &Requirement) -> Result<&'a Arc<Deployment>, ResolveError> {
    let plugin = history.name().to_owned();
    let Some(active) = history.active() else {
        let undeployed = history.events().iter().rfind(|event| event.kind == EventKind::Undeployed);
        let (who, when) = undeployed.map_or((String::new(), UnixMillis(0)), |event| (event.who.clone(), event.when));
        return Err(ResolveError::Undeployed { plugin, who, when });
    };
    match requirement {
        Requirement::Active => Ok(active),
        Requirement::Digest(digest) => history
            .deployment(digest)
            .filter(|deployment| !deployment.withdrawn)
            .ok_or(ResolveError::NoDigest { plugin, digest: *digest }),
        Requirement::Version(requirement) => {
            if requirement.matches(active.version()) {
                return Ok(active);
            }
            let available = || history.deployments().iter().filter(|deployment| !deployment.withdrawn);
            // Of two with one version `max_by` takes the later, which is the one that replaced the other.
            available()
                .filter(|deployment| requirement.matches(deployment.version()))
                .max_by(|one, other| one.version().cmp(other.version()))
                .ok_or_else(|| {
                    let mut deployed: Vec<_> = available().map(|deployment| deployment.version().clone()).collect();
                    deployed.sort_by(|one, other| other.cmp(one));
                    deployed.dedup();
                    ResolveError::NoVersion { plugin, requirement: requirement.clone(), deployed }
                })
        }
    }
}

/// A program and the deployed plugin do not mean the same by an operation. Found before any task is sent, because the
/// bytes alone do not tell.
///
/// ```
/// use palfrey_host::plugin::{Mismatch, Resolved};
/// use palfrey_sdk::Serializer;
///
/// # use palfrey_host::engine::{Description, Descriptor, Kind};
/// # let schema = || Some(r#"{"name":"u64","ty":"U64"}"#.to_owned());
/// # let descriptor = Descriptor {
/// #     name: "fib-at".to_owned(), kind: Kind::Operation, summary: String::new(), encodings: vec!["postcard".to_owned()],
/// #     config_schema: None, input_schema: schema(), output_schema: schema(), needs: [].into(),
/// # };
/// # let id = "arith/fib-at".parse()?;
/// # let digest = palfrey_host::task::Digest::of(b"the bytes of a component");
/// # let fib_at = Resolved { id, digest, version: "1.2.0".parse()?, descriptor };
/// // The deployed operation is none to fold with, and knows nothing but Postcard.
/// assert!(matches!(fib_at.check_monoid(), Err(Mismatch::NotAMonoid { .. })));
/// assert!(matches!(fib_at.check_encoding(Serializer::Cbor), Err(Mismatch::Encoding { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The types differ.
    #[error(
        "the {what} of `{operation}` is `{expected}` in this program and `{deployed}` in the deployed version {version} \
         ({}): build the program with that version of the plugin, or require the one it was built with, as in \
         `{}/{}@={expected_version}`",
        digest.short(), operation.plugin(), operation.operation()
    )]
    Schema {
        /// The operation.
        operation: OperationId,
        /// Which of its types: `config`, `input`, `output`.
        what: &'static str,
        /// The type in the program.
        expected: String,
        /// The version of the plugin that the program was built with.
        expected_version: String,
        /// The type in the plugin.
        deployed: String,
        /// The deployed version.
        version: Version,
        /// The deployed component.
        digest: Digest,
    },
    /// It does not take what the stage before it puts out.
    #[error(
        "`{operation}` {version} takes `{input}`, and gets `{output}` from `{before}`: map what comes from there to what it takes"
    )]
    Neighbours {
        /// The operation.
        operation: OperationId,
        /// The deployed version.
        version: Version,
        /// The type of its inputs.
        input: String,
        /// The operation of the stage before.
        before: OperationId,
        /// The type of its outputs.
        output: String,
    },
    /// It is to be folded with, and is no monoid.
    #[error(
        "`{operation}` {version} is no monoid, so that nothing can be folded with it: map over it, or implement `Monoid`"
    )]
    NotAMonoid {
        /// The operation.
        operation: OperationId,
        /// The deployed version.
        version: Version,
    },
    /// It does not understand the encoding.
    #[error("`{operation}` {version} does not understand the encoding `{wanted}`: it understands {}", understood.join(", "))]
    Encoding {
        /// The operation.
        operation: OperationId,
        /// The deployed version.
        version: Version,
        /// The encoding of the program.
        wanted: Serializer,
        /// Those of the plugin.
        understood: Vec<String>,
    },
}

/// The types of an operation as a program was compiled with them, each as the JSON text of its schema, where it has one.
///
/// ```
/// use palfrey_host::plugin::{ExpectedTypes, Resolved};
///
/// # use palfrey_host::engine::{Description, Descriptor, Kind};
/// # let schema = || Some(r#"{"name":"u64","ty":"U64"}"#.to_owned());
/// # let descriptor = Descriptor {
/// #     name: "fib-at".to_owned(), kind: Kind::Operation, summary: String::new(), encodings: vec!["postcard".to_owned()],
/// #     config_schema: None, input_schema: schema(), output_schema: schema(), needs: [].into(),
/// # };
/// # let id = "arith/fib-at".parse()?;
/// # let digest = palfrey_host::task::Digest::of(b"the bytes of a component");
/// # let fib_at = Resolved { id, digest, version: "1.2.0".parse()?, descriptor };
/// // The program takes the input for a `u32`, and the plugin for a `u64`.
/// let input = Some(r#"{"name":"u32","ty":"U32"}"#);
/// let expected = ExpectedTypes { version: "1.1.0", input, ..ExpectedTypes::default() };
/// let error = fib_at.check_schemas(&expected).unwrap_err();
/// assert!(error.to_string().starts_with("the input of `arith/fib-at` is `u32` in this program and `u64` in the deployed"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ExpectedTypes<'a> {
    /// The version of the plugin's crate.
    pub version: &'a str,
    /// The operation itself.
    pub config: Option<&'a str>,
    /// What it takes. For a monoid one element, not a pair.
    pub input: Option<&'a str>,
    /// What it returns.
    pub output: Option<&'a str>,
}

impl Resolved {
    /// Checks that the program's types are the deployed ones. A type without a schema on either side is not checked.
    ///
    /// # Errors
    /// [`Mismatch::Schema`], naming both.
    pub fn check_schemas(&self, expected: &ExpectedTypes<'_>) -> Result<(), Mismatch> {
        let Descriptor { config_schema, input_schema, output_schema, .. } = &self.descriptor;
        let pairs = [
            ("config", expected.config, config_schema),
            ("input", expected.input, input_schema),
            ("output", expected.output, output_schema),
        ];
        for (what, expected_schema, deployed) in pairs {
            let (Some(expected_schema), Some(deployed)) = (expected_schema, deployed) else { continue };
            if !schema::same(expected_schema, deployed) {
                return Err(Mismatch::Schema {
                    operation: self.id.clone(),
                    what,
                    expected: schema::brief(expected_schema),
                    expected_version: expected.version.to_owned(),
                    deployed: schema::brief(deployed),
                    version: self.version.clone(),
                    digest: self.digest,
                });
            }
        }
        Ok(())
    }

    /// Checks that it takes what another one puts out, as far as both have schemas.
    ///
    /// # Errors
    /// [`Mismatch::Neighbours`].
    pub fn check_takes(&self, apply: Apply, before: &Self) -> Result<(), Mismatch> {
        let (Some(input), Some(output)) = (&self.descriptor.input_schema, &before.descriptor.output_schema) else {
            return Ok(());
        };
        // Whoever maps a monoid gives it pairs.
        let pair = (apply == Apply::Map && self.descriptor.kind == Kind::Monoid).then(|| schema::pair_of(input));
        let input = pair.as_deref().unwrap_or(input);
        if schema::same(input, output) {
            return Ok(());
        }
        Err(Mismatch::Neighbours {
            operation: self.id.clone(),
            version: self.version.clone(),
            input: schema::brief(input),
            before: before.id.clone(),
            output: schema::brief(output),
        })
    }

    /// Checks that it can be folded with.
    ///
    /// # Errors
    /// [`Mismatch::NotAMonoid`].
    pub fn check_monoid(&self) -> Result<(), Mismatch> {
        match self.descriptor.kind {
            Kind::Monoid => Ok(()),
            Kind::Operation => Err(Mismatch::NotAMonoid { operation: self.id.clone(), version: self.version.clone() }),
        }
    }

    /// Checks that it understands an encoding.
    ///
    /// # Errors
    /// [`Mismatch::Encoding`].
    pub fn check_encoding(&self, wanted: Serializer) -> Result<(), Mismatch> {
        if self.descriptor.understands(wanted) {
            return Ok(());
        }
        let understood = self.descriptor.encodings.clone();
        Err(Mismatch::Encoding { operation: self.id.clone(), version: self.version.clone(), wanted, understood })
    }
}

#[cfg(test)]
mod tests;
