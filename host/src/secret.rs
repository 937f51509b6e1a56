//! What nobody may see: passwords, keys, and texts that hold one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use secrecy::{ExposeSecret, SecretString};

/// The file of a secret cannot be read. What is in it is not part of the error.
///
/// ```
/// let error = palfrey_host::secret::read("/nowhere".as_ref()).unwrap_err();
/// assert_eq!(error.to_string(), "cannot read the secret in /nowhere");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret in {}", path.display())]
pub struct SecretError {
    path: PathBuf,
    source: io::Error,
}

/// Reads a secret from a file, but for the line break at its end.
///
/// ```
/// use palfrey_host::secret::{ExposeSecret, read};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("password");
/// # std::fs::write(&path, "correct horse\n")?;
/// let password = read(&path)?;
/// assert!(!format!("{password:?}").contains("horse"));
/// assert_eq!(password.expose_secret(), "correct horse");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If it cannot be read, or is no text.
pub fn read(path: &Path) -> Result<SecretString, SecretError> {
    let text = fs::read_to_string(path).map_err(|source| SecretError { path: path.to_owned(), source })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).into())
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
            assert_eq!(read(&path).unwrap().expose_secret(), expect);
        }
    }

    #[test]
    fn an_error_names_the_file_and_not_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, b"hunter2 \xff").unwrap();
        let error = read(&path).unwrap_err();
        let text = format!("{error} {error:?} {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("cannot read the secret in") && !text.contains("hunter2"), "{text}");
    }
}
