//! What nobody may see.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A password, or a text that holds one. It is printed nowhere.
///
/// ```
/// use palfrey_host::secret::Secret;
///
/// let password = Secret::new("correct horse");
/// assert_eq!(format!("{password:?}"), "…");
/// assert_eq!(password.expose(), "correct horse");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The file of a secret cannot be read. What is in it is not part of the error.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret in {}", path.display())]
pub struct SecretError {
    path: PathBuf,
    source: io::Error,
}

impl Secret {
    /// Takes a text that must not be seen.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads a file, but for the line break at its end.
    ///
    /// # Errors
    /// If it cannot be read, or is no text.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let text = fs::read_to_string(path).map_err(|source| SecretError { path: path.to_owned(), source })?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(Self(text.strip_suffix('\r').unwrap_or(text).to_owned()))
    }

    /// The text, for whoever needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_the_line_break_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (text, expect) in [("hunter2", "hunter2"), ("hunter2\n", "hunter2"), ("a\nb \r\n", "a\nb "), ("", "")] {
            fs::write(&path, text).unwrap();
            assert_eq!(Secret::read(&path).unwrap().expose(), expect);
        }
    }

    #[test]
    fn an_error_names_the_file_and_not_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, b"hunter2 \xff").unwrap();
        let error = Secret::read(&path).unwrap_err();
        let text = format!("{error} {error:?} {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("cannot read the secret in") && !text.contains("hunter2"), "{text}");
    }
}
