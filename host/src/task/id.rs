//! Newtypes for everything that is named.

use std::{fmt, str::FromStr, sync::Arc};

use semver::VersionReq;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Name of a job. Behind an `@` it names the channel on which the results arrive, which many jobs share; without one the job
/// has a channel of the same name.
///
/// ```
/// use palfrey_host::task::RoutingKey;
///
/// assert_ne!(RoutingKey::random(), RoutingKey::random());
/// assert_eq!(RoutingKey::from("job").as_str(), "job");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RoutingKey(Arc<str>);

impl RoutingKey {
    /// A new name that nobody else has.
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string().into())
    }

    /// A new name of a job whose results arrive on a channel.
    ///
    /// ```
    /// use palfrey_host::task::RoutingKey;
    ///
    /// assert_eq!(RoutingKey::answered_at("channel").channel(), "channel");
    /// assert_eq!(RoutingKey::from("job").channel(), "job");
    /// ```
    pub fn answered_at(channel: &str) -> Self {
        Self(format!("{}@{channel}", Self::random()).into())
    }

    /// The channel on which the job's results arrive.
    pub fn channel(&self) -> &str {
        match self.0.split_once('@') {
            // The name of a channel begins with that of its owner, which may have an `@` in it.
            Some((job, channel)) if uuid::Uuid::try_parse(job).is_ok() => channel,
            _ => &self.0,
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for RoutingKey {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl From<RoutingKey> for String {
    fn from(key: RoutingKey) -> Self {
        key.0.as_ref().to_owned()
    }
}

impl fmt::Display for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of a task within its job.
///
/// ```
/// use std::collections::HashSet;
/// use palfrey_host::task::TaskId;
///
/// // A task can be executed twice, and only its first result counts.
/// let mut answered = HashSet::new();
/// assert!(answered.insert(TaskId(7)));
/// assert!(!answered.insert(TaskId(7)), "a duplicate");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of a component's bytes, written `sha256:<hex>`: what is executed is always named by it.
///
/// ```
/// use palfrey_host::task::Digest;
///
/// let digest = Digest::of(b"the bytes of a component");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// assert!(digest.to_string().starts_with(&digest.short()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits, without the prefix.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first twelve hexadecimal digits with the prefix, for tables and logs.
    pub fn short(&self) -> String {
        format!("sha256:{}", hex::encode(&self.0[..6]))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let malformed = || ParseIdError::Digest(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(malformed)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| malformed())?;
        Ok(Self(bytes))
    }
}

/// An operation by name: `arith/fib-at`, and where one is wanted with a requirement: `arith/fib-at@^1.2`,
/// `arith/fib-at@sha256:…`.
///
/// ```
/// use palfrey_host::task::OperationId;
///
/// let id: OperationId = "arith/fib-at@^1.2".parse()?;
/// assert_eq!((id.plugin(), id.operation()), ("arith", "fib-at"));
/// # Ok::<(), palfrey_host::task::ParseIdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationId {
    plugin: Arc<str>,
    operation: Arc<str>,
    requirement: Requirement,
}

/// Which deployment of a plugin is meant.
///
/// ```
/// use palfrey_host::task::{OperationId, Requirement};
///
/// let id: OperationId = "arith/fib-at".parse()?;
/// assert_eq!(id.requirement(), &Requirement::Active);
/// let id: OperationId = "arith/fib-at@^1.2".parse()?;
/// assert!(matches!(id.requirement(), Requirement::Version(version) if version.to_string() == "^1.2"));
/// # Ok::<(), palfrey_host::task::ParseIdError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// The active one.
    #[default]
    Active,
    /// The newest deployed version that meets this, the active one if it does.
    Version(VersionReq),
    /// Exactly these bytes.
    Digest(Digest),
}

/// Text that is not an identifier.
///
/// ```
/// use palfrey_host::task::{OperationId, ParseIdError};
///
/// let error = "FibAt".parse::<OperationId>().unwrap_err();
/// assert_eq!(error, ParseIdError::Operation("FibAt".to_owned()));
/// println!("{error}"); // It says what to write instead.
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not `sha256:` and 64 hexadecimal digits.
    #[error("`{0}` is not a digest: write `sha256:` and 64 hexadecimal digits")]
    Digest(String),
    /// Not `<plugin>/<operation>`.
    #[error("`{0}` is not an operation ID: write `<plugin>/<operation>`, both in kebab-case, as in `arith/fib-at`")]
    Operation(String),
    /// What follows the `@` is neither a version requirement nor a digest.
    #[error("`{0}` is neither a version requirement such as `^1.2` nor a digest such as `sha256:…`")]
    Requirement(String),
}

impl OperationId {
    /// The active deployment of an operation.
    pub fn new(plugin: &str, operation: &str) -> Self {
        Self { plugin: plugin.into(), operation: operation.into(), requirement: Requirement::Active }
    }

    /// The plugin's name.
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// The operation's name within the plugin.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Which deployment is meant.
    pub fn requirement(&self) -> &Requirement {
        &self.requirement
    }
}

impl FromStr for OperationId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (name, requirement) = match text.split_once('@') {
            Some((name, requirement)) => (name, requirement.parse()?),
            None => (text, Requirement::Active),
        };
        match name.split_once('/') {
            Some((plugin, operation)) if is_kebab_case(plugin) && is_kebab_case(operation) => {
                Ok(Self { plugin: plugin.into(), operation: operation.into(), requirement })
            }
            _ => Err(ParseIdError::Operation(text.to_owned())),
        }
    }
}

impl FromStr for Requirement {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.starts_with("sha256:") {
            return Ok(Self::Digest(text.parse()?));
        }
        VersionReq::parse(text).map(Self::Version).map_err(|_| ParseIdError::Requirement(text.to_owned()))
    }
}

impl TryFrom<String> for OperationId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<OperationId> for String {
    fn from(id: OperationId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plugin, self.operation)?;
        match &self.requirement {
            Requirement::Active => Ok(()),
            Requirement::Version(requirement) => write!(f, "@{requirement}"),
            Requirement::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// Lower-case letters, digits and single hyphens, beginning with a letter; at most 64 characters.
///
/// ```
/// use palfrey_host::task::is_kebab_case;
///
/// assert!(is_kebab_case("fib-at") && is_kebab_case("sha256"));
/// assert!(!is_kebab_case("FibAt") && !is_kebab_case("fib--at") && !is_kebab_case("2nd"));
/// ```
pub fn is_kebab_case(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .split('-')
            .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_read_back_what_they_print() {
        let digest = Digest::of(b"bytes");
        for text in ["arith/fib-at", "arith/fib-at@^1.2", &format!("arith/fib-at@{digest}")] {
            assert_eq!(text.parse::<OperationId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_identifiers_say_what_to_write() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<OperationId>().unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("fib-at", "<plugin>/<operation>");
        check("Arith/fib-at", "kebab-case");
        check("arith/fib--at", "kebab-case");
        check("arith/fib-at@newest", "version requirement");
        check("arith/fib-at@sha256:12", "64 hexadecimal digits");
    }
}
