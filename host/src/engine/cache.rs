//! Machine code on disk, so that a component is compiled once per machine.
//!
//! Machine code is executed as it is: whoever can write it owns the process. So only files that this engine wrote itself
//! are read, from a folder that nobody else can write to, and each is checked against a hash before it is used. A file that
//! is cut off or damaged is compiled again.

use std::{
    fs::{self, DirBuilder},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use wasmtime::component::Component;

use super::error::EngineError;
use crate::task::Digest;

/// What a file begins with; the SHA-256 of the machine code follows, then the machine code.
const MAGIC: &[u8; 16] = b"palfrey-code-01\n";

const HEADER: usize = MAGIC.len() + 32;

/// The folder.
pub(super) struct Cache {
    folder: PathBuf,
    /// What decides, besides the component, whether machine code fits: engine version, settings, processor.
    compatibility: u64,
}

impl Cache {
    /// Opens the folder `machine-code` within `parent`, and makes both if they do not exist.
    ///
    /// # Errors
    /// If files cannot be written there, or others could write to it as well.
    pub(super) fn open(parent: &Path, wasmtime: &wasmtime::Engine) -> Result<Self, EngineError> {
        let folder = parent.join("machine-code");
        prepare(&folder).map_err(|reason| EngineError::Cache { path: folder.clone(), reason })?;
        let mut hasher = DefaultHasher::new();
        wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder, compatibility: hasher.finish() })
    }

    /// The machine code of a component, if it is there and in order.
    pub(super) fn load(&self, digest: &Digest, wasmtime: &wasmtime::Engine) -> Option<Component> {
        let path = self.path(digest);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "machine code cannot be read and is compiled again");
                return None;
            }
        };
        let component = match verified(&file) {
            Some(code) => deserialize(wasmtime, code).map_err(|error| error.to_string()),
            None => Err("its hash does not match: it is damaged or cut off".to_owned()),
        };
        component
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "machine code is unusable and is compiled again");
            })
            .ok()
    }

    /// Keeps the machine code of a component. A failure costs time later, so it is no more than a warning.
    pub(super) fn store(&self, digest: &Digest, code: &[u8]) {
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(&self.folder)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            file.persist(self.path(digest))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(folder = %self.folder.display(), %error, "machine code cannot be kept in the cache");
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}-{:016x}.code", digest.hex(), self.compatibility))
    }
}

/// The machine code of a file whose hash is right.
fn verified(file: &[u8]) -> Option<&[u8]> {
    let (header, code) = file.split_at_checked(HEADER)?;
    let hash = header.strip_prefix(MAGIC)?;
    (hash == Sha256::digest(code).as_slice()).then_some(code)
}

#[expect(unsafe_code, reason = "machine code can be vouched for, but not checked")]
fn deserialize(wasmtime: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must be what wasmtime's compiler returned, unchanged. They come from a file that `Cache::store`
    // wrote, in a folder that belongs to this user and that nobody else can write to (`prepare`), and their hash has just
    // been checked in memory (`verified`): unlike a mapped file they cannot change any more. That they fit this engine
    // and processor is checked by wasmtime.
    unsafe { Component::deserialize(wasmtime, code) }
}

/// Makes the folder, and makes sure that files can be written to it by this user only.
fn prepare(folder: &Path) -> Result<(), String> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| format!("cannot be made ({error})"))?;
    let probe = NamedTempFile::new_in(folder).map_err(|error| format!("is not writable ({error})"))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let of = |error: io::Error| format!("cannot be examined ({error})");
        let (own, there) = (probe.as_file().metadata().map_err(of)?, fs::symlink_metadata(folder).map_err(of)?);
        if !there.is_dir() {
            return Err("is not a folder, or is a link to one".to_owned());
        }
        if there.uid() != own.uid() {
            return Err("belongs to another user".to_owned());
        }
        if there.mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
                .map_err(|error| format!("is open to other users, which cannot be changed ({error})"))?;
        }
    }
    drop(probe);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn file(code: &[u8]) -> Vec<u8> {
        [MAGIC.as_slice(), Sha256::digest(code).as_slice(), code].concat()
    }

    proptest! {
        /// What wasmtime is given is what was written, whatever the disk returns.
        #[test]
        fn machine_code_is_what_was_written_or_nothing(
            code in vec(any::<u8>(), 0..200),
            edits in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
            cut in any::<proptest::sample::Index>(),
            more in vec(any::<u8>(), 0..3),
        ) {
            let written = file(&code);
            prop_assert_eq!(verified(&written), Some(code.as_slice()));
            prop_assert_eq!(verified(&written[..cut.index(written.len())]), None);
            let mut read = written.clone();
            edits.iter().for_each(|(at, byte)| read[at.index(written.len())] = *byte);
            read.extend(more);
            let mut accepted = None;
            let allocated = allocation_counter::measure(|| accepted = Some(verified(&read).is_some()));
            prop_assert_eq!((accepted, allocated.bytes_max), (Some(read == written), 0));
        }
    }
}
