//! What a plugin can be given from outside of the sandbox, by name. Data only: what is behind a name is a worker's business
//! and in [`grants`](super::grants).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Something outside of the sandbox that an operation asks for, a deployment grants and a worker allows. All of them let
/// something in and nothing out: executing an operation twice does no harm, whatever it was granted.
///
/// ```
/// use palfrey_host::engine::Capability;
///
/// let capability: Capability = "dir:/models".parse()?;
/// assert_eq!(capability, Capability::Dir("/models".to_owned()));
/// assert_eq!(capability.to_string(), "dir:/models");
/// assert!("http:example.org".parse::<Capability>().is_err());
/// # Ok::<(), palfrey_host::engine::CapabilityError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// `clocks`: the time.
    Clocks,
    /// `entropy`: random numbers that nobody can foresee.
    Entropy,
    /// `env:NAME`: an environment value, by its name.
    Env(String),
    /// `dir:/path`: a directory to read from, by its path within the guest.
    Dir(String),
    /// A name that another release wrote to the registry, and that this one cannot give.
    Unknown(String),
}

/// Text that names no capability.
///
/// ```
/// use palfrey_host::engine::{Capability, CapabilityError};
///
/// let error: CapabilityError = "clock".parse::<Capability>().unwrap_err();
/// println!("{error}"); // It says what there is.
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that can be granted: write `clocks`, `entropy`, `env:NAME` or `dir:/path`")]
pub struct CapabilityError(String);

/// The longest name in bytes.
pub(super) const MAX_CAPABILITY: usize = 256;

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let error = || CapabilityError(text.chars().take(80).collect());
        if text.len() > MAX_CAPABILITY {
            return Err(error());
        }
        match text.split_once(':') {
            None if text == "clocks" => Ok(Self::Clocks),
            None if text == "entropy" => Ok(Self::Entropy),
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("dir", path)) if is_plain_path(path) => Ok(Self::Dir(path.to_owned())),
            _ => Err(error()),
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// An absolute path below the root, in one spelling only. The characters that separate allowances have no place in it.
fn is_plain_path(path: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(|char: char| char.is_control() || "=;".contains(char))
    };
    path.strip_prefix('/').is_some_and(|path| path.split('/').all(plain))
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clocks => f.write_str("clocks"),
            Self::Entropy => f.write_str("entropy"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Dir(path) => write!(f, "dir:{path}"),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads names of later releases as well: a record that has one is otherwise like any other.
impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse().unwrap_or(Self::Unknown(text)))
    }
}

/// Names for a sentence or a line: `clocks, env:LANG`.
pub(crate) fn list<'a>(capabilities: impl IntoIterator<Item = &'a Capability>) -> String {
    capabilities.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_what_they_print() {
        for text in ["clocks", "entropy", "env:LANG", "env:_x1", "dir:/a", "dir:/a b/ü.d"] {
            assert_eq!(text.parse::<Capability>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused_and_says_what_to_write() {
        let long = format!("env:{}", "x".repeat(MAX_CAPABILITY));
        for text in [
            "",
            "Clocks",
            "clocks:",
            "clocks:all",
            "env",
            "env:",
            "env:1X",
            "env:A B",
            "env:A=B",
            "dir",
            "dir:",
            "dir:a",
            "dir:/",
            "dir://a",
            "dir:/a/",
            "dir:/a/../b",
            "dir:/./a",
            "dir:/a=b",
            "dir:/a\0",
            "http:example.org",
            &long,
        ] {
            let error = text.parse::<Capability>().unwrap_err().to_string();
            assert!(error.contains("write `clocks`, `entropy`, `env:NAME` or `dir:/path`"), "{text}: {error}");
            assert!(error.len() < 300, "{error}");
        }
    }

    #[test]
    fn a_name_of_a_later_release_is_kept_and_is_none_that_can_be_given() {
        let read: Vec<Capability> = serde_json::from_str(r#"["clocks","gpu:0"]"#).unwrap();
        assert_eq!(read, [Capability::Clocks, Capability::Unknown("gpu:0".to_owned())]);
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["clocks","gpu:0"]"#);
    }
}
