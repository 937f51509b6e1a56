//! The components themselves, named by their digests.

use std::{
    collections::HashMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use crate::task::Digest;

/// Components by digest, in a directory or in memory. Clones share it; so may several processes share a directory.
///
/// All of it is blocking.
///
/// ```
/// use bytes::Bytes;
/// use palfrey_host::{plugin::ComponentStore, task::Digest};
///
/// let store = ComponentStore::in_memory();
/// let component = Bytes::from("the bytes of a component");
/// let digest = Digest::of(&component);
/// store.put(&digest, &component)?;
/// assert_eq!(store.get(&digest)?, Some(component));
/// # Ok::<(), palfrey_host::plugin::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ComponentStore(Arc<Place>);

#[derive(Debug)]
enum Place {
    Memory(Mutex<HashMap<Digest, Bytes>>),
    Directory(PathBuf),
}

/// The directory does not do what a store needs.
///
/// ```
/// use palfrey_host::plugin::ComponentStore;
///
/// let file = tempfile::NamedTempFile::new()?;
/// let error = ComponentStore::in_directory(file.path()).unwrap_err();
/// assert!(error.to_string().starts_with("cannot create directory"));
/// println!("{error}: {}", std::error::Error::source(&error).expect("the system said why"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: check that it exists and is writable, or name another cache directory", path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl ComponentStore {
    /// Keeps everything in memory: for tests, and for programs whose workers live within them.
    pub fn in_memory() -> Self {
        Self(Arc::new(Place::Memory(Mutex::default())))
    }

    /// Keeps components in `<cache_dir>/components`, which is created.
    ///
    /// # Errors
    /// If the directory cannot be created or written to.
    pub fn in_directory(cache_dir: &Path) -> Result<Self, StoreError> {
        let path = cache_dir.join("components");
        fs::create_dir_all(&path).map_err(failed("create directory", &path))?;
        // Whether it is writable shows when one writes: permissions alone do not tell.
        tempfile::tempfile_in(&path).map_err(failed("write to directory", &path))?;
        Ok(Self(Arc::new(Place::Directory(path))))
    }

    /// The component with a digest, if it is there. One that is damaged is removed and counts as missing.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let directory = match &*self.0 {
            Place::Memory(components) => {
                return Ok(components.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned());
            }
            Place::Directory(path) => path,
        };
        let path = file(directory, digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Some(bytes.into())),
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a stored component is damaged and was removed");
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Keeps a component. Its bytes must be the digest's.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn put(&self, digest: &Digest, component: &Bytes) -> Result<(), StoreError> {
        debug_assert_eq!(Digest::of(component), *digest, "only verified components are kept");
        match &*self.0 {
            Place::Memory(components) => {
                components.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, component.clone());
                Ok(())
            }
            Place::Directory(directory) => {
                // Written beside its place and moved there, so that nobody ever reads a part of it.
                let path = file(directory, digest);
                let mut temporary =
                    tempfile::NamedTempFile::new_in(directory).map_err(failed("write to directory", directory))?;
                temporary.write_all(component).map_err(failed("write", &path))?;
                temporary.persist(&path).map_err(|error| failed("write", &path)(error.error))?;
                Ok(())
            }
        }
    }
}

fn file(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(format!("{}.wasm", digest.hex()))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component() -> (Digest, Bytes) {
        let bytes = Bytes::from_static(b"\0asm");
        (Digest::of(&bytes), bytes)
    }

    #[test]
    fn what_was_put_is_there() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let (digest, bytes) = component();
        for store in [ComponentStore::in_memory(), ComponentStore::in_directory(directory.path())?] {
            assert_eq!(store.get(&digest)?, None);
            store.put(&digest, &bytes)?;
            store.put(&digest, &bytes)?;
            assert_eq!(store.get(&digest)?.as_ref(), Some(&bytes));
        }
        let reopened = ComponentStore::in_directory(directory.path())?;
        assert_eq!(reopened.get(&digest)?, Some(bytes));
        Ok(())
    }

    #[test]
    fn a_damaged_file_counts_as_missing() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let (digest, bytes) = component();
        let store = ComponentStore::in_directory(directory.path())?;
        store.put(&digest, &bytes)?;
        let path = file(&directory.path().join("components"), &digest);
        fs::write(&path, &bytes[..2])?;
        assert_eq!(store.get(&digest)?, None);
        assert!(!path.exists());
        store.put(&digest, &bytes)?;
        assert_eq!(store.get(&digest)?, Some(bytes));
        Ok(())
    }

    #[test]
    fn a_directory_that_cannot_be_created_is_named() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let occupied = directory.path().join("occupied");
        fs::write(&occupied, "a file")?;
        let message = ComponentStore::in_directory(&occupied).unwrap_err().to_string();
        assert!(message.contains("occupied/components"), "{message}");
        assert!(message.contains("name another cache directory"), "{message}");
        Ok(())
    }
}
