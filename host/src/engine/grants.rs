//! What a worker lets plugins have: the things behind the names.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, fs, io,
    path::PathBuf,
    str::FromStr,
};

use super::capability::{Capability, CapabilityError};
use crate::secret::SecretString;

/// A capability that a worker allows, and where a directory is: `clocks`, `entropy`, `env:NAME`, `dir:/path` for a directory that
/// is called the same here, or `dir:/path=/path/here`.
///
/// ```
/// use palfrey_host::engine::Allowance;
///
/// let allowance: Allowance = "dir:/models=/srv/models".parse()?;
/// assert_eq!(allowance.to_string(), "dir:/models=/srv/models");
/// # Ok::<(), palfrey_host::engine::CapabilityError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    capability: Capability,
    folder: Option<PathBuf>,
}

impl FromStr for Allowance {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        match text.split_once('=') {
            Some((name, folder)) if name.starts_with("dir:") && !folder.is_empty() => {
                Ok(Self { capability: name.parse()?, folder: Some(folder.into()) })
            }
            _ => Ok(Self { capability: text.parse()?, folder: None }),
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.capability.fmt(f)?;
        self.folder.as_ref().map_or(Ok(()), |folder| write!(f, "={}", folder.display()))
    }
}

/// Capabilities with what is behind them on this machine. `Default` is none. A plugin has those that it was
/// [granted](super::Plugin::granted), each operation of it those that it needs, and nobody has more.
///
/// ```
/// use palfrey_host::engine::{Capability, Grants};
///
/// let grants = Grants::allowed(&["clocks".parse()?])?;
/// assert!(grants.has(&Capability::Clocks) && !grants.has(&Capability::Entropy));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Grants(BTreeMap<Capability, Source>);

/// Where something comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The system, which has one.
    System,
    Value(SecretString),
    Folder(PathBuf),
}

/// What a worker should allow and does not have.
///
/// ```
/// use palfrey_host::engine::Grants;
///
/// let error = Grants::allowed(&["dir:/nowhere/at/all".parse()?]).unwrap_err();
/// assert!(error.to_string().starts_with("cannot allow `dir:/nowhere/at/all`"));
/// # Ok::<(), palfrey_host::engine::CapabilityError>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// The variable is not set.
    #[error("cannot allow `env:{name}`: {name} is not set in the environment of this worker")]
    NotSet {
        /// The variable's name.
        name: String,
    },
    /// The variable has a value that a guest cannot be told.
    #[error("cannot allow `env:{name}`: its value in the environment of this worker is not UTF-8")]
    NotText {
        /// The variable's name.
        name: String,
    },
    /// The directory is none.
    #[error("cannot allow `{capability}`: {} is no directory that this worker can read", folder.display())]
    Folder {
        /// What was to be allowed.
        capability: Capability,
        /// The directory on this machine.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Grants {
    /// What a worker allows. Values are taken from the environment of the process now, directories have to be there.
    ///
    /// # Errors
    /// If something is not there: a worker that said it allows something has to have it.
    pub fn allowed(allowances: &[Allowance]) -> Result<Self, AllowError> {
        let source = |Allowance { capability, folder }: &Allowance| match capability {
            Capability::Env(name) => match env::var(name) {
                Ok(value) => Ok(Source::Value(value.into())),
                Err(env::VarError::NotPresent) => Err(AllowError::NotSet { name: name.clone() }),
                Err(env::VarError::NotUnicode(_)) => Err(AllowError::NotText { name: name.clone() }),
            },
            Capability::Dir(path) => {
                let folder = folder.clone().unwrap_or_else(|| path.into());
                match fs::read_dir(&folder) {
                    Ok(_) => Ok(Source::Folder(folder)),
                    Err(source) => Err(AllowError::Folder { capability: capability.clone(), folder, source }),
                }
            }
            Capability::Clocks | Capability::Entropy | Capability::Unknown(_) => Ok(Source::System),
        };
        let sources = allowances.iter().map(|allowance| Ok((allowance.capability.clone(), source(allowance)?)));
        sources.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is something behind this name.
    pub fn has(&self, capability: &Capability) -> bool {
        self.0.contains_key(capability)
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of these, what some names stand for.
    #[must_use]
    pub fn only(&self, capabilities: &BTreeSet<Capability>) -> Self {
        let chosen = capabilities.iter().filter_map(|name| self.0.get_key_value(name));
        Self(chosen.map(|(name, source)| (name.clone(), source.clone())).collect())
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = (&Capability, &Source)> {
        self.0.iter()
    }
}

/// The names: `clocks, env:LANG`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::capability::list(self.0.keys()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(allowances: &[&str]) -> Result<Grants, AllowError> {
        Grants::allowed(&allowances.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn a_value_that_is_allowed_is_printed_nowhere() {
        // Cargo sets it for tests.
        let grants = allowed(&["env:CARGO_MANIFEST_DIR", "clocks"]).unwrap();
        let value = env::var("CARGO_MANIFEST_DIR").unwrap();
        assert!(!format!("{grants} {grants:?}").contains(&value));
        assert_eq!(grants.to_string(), "clocks, env:CARGO_MANIFEST_DIR");
    }

    #[test]
    fn what_is_not_there_cannot_be_allowed() {
        let error = allowed(&["env:PALFREY_TEST_UNSET"]).unwrap_err().to_string();
        assert!(error.contains("PALFREY_TEST_UNSET is not set"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = allowed(&[&format!("dir:/data={}", file.path().display())]).unwrap_err().to_string();
        assert!(error.starts_with("cannot allow `dir:/data`: ") && error.contains("is no directory"), "{error}");
        assert!(matches!(allowed(&["dir:/nowhere/at/all"]), Err(AllowError::Folder { .. })));
    }

    #[test]
    fn only_what_is_asked_for_and_there_is_left() {
        let grants = allowed(&["clocks", "env:CARGO_MANIFEST_DIR"]).unwrap();
        let wanted = BTreeSet::from([Capability::Clocks, Capability::Entropy]);
        assert_eq!(grants.only(&wanted).to_string(), "clocks");
        assert!(grants.only(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn allowances_read_back_what_they_print() {
        for text in ["clocks", "env:LANG", "dir:/data", "dir:/data=/srv/a=b"] {
            assert_eq!(text.parse::<Allowance>().unwrap().to_string(), text);
        }
        for text in ["env:A=B", "clocks=x", "dir:/data=", "dir:data=/srv"] {
            assert!(text.parse::<Allowance>().is_err(), "{text}");
        }
    }
}
