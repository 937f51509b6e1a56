//! The input: Rust sources below a folder.

use std::{fmt, fs, path::Path, path::PathBuf};

use anyhow::{Context as _, ensure};
use bytesize::ByteSize;
use walkdir::WalkDir;

/// The files that are to be read, in the order of their names.
#[derive(Debug)]
pub(crate) struct Sources {
    folder: PathBuf,
    files: Vec<PathBuf>,
    bytes: u64,
    not_utf8: usize,
}

impl Sources {
    /// Finds the `.rs` files below a folder, and reads each once. What is not UTF-8 is left out and counted. Whoever is
    /// timed later finds the rest in the system's page cache, so that nobody's figure is that of the disk.
    pub(crate) fn survey(folder: &Path, max_bytes: Option<u64>) -> anyhow::Result<Self> {
        let mut sources = Self { folder: folder.to_owned(), files: Vec::new(), bytes: 0, not_utf8: 0 };
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let entry = entry.with_context(|| {
                format!("cannot look for sources in {}: name another folder with `--sources DIR`", folder.display())
            })?;
            let path = entry.path();
            if !entry.file_type().is_file() || path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            if str::from_utf8(&text).is_err() {
                sources.not_utf8 += 1;
                continue;
            }
            if max_bytes.is_some_and(|max| sources.bytes + text.len() as u64 > max) {
                break;
            }
            sources.bytes += text.len() as u64;
            sources.files.push(entry.into_path());
        }
        ensure!(
            !sources.files.is_empty(),
            "there are no .rs files in {} within the limit: name another folder with `--sources DIR`",
            folder.display()
        );
        Ok(sources)
    }

    /// The files' texts, each read when it is asked for.
    pub(crate) fn texts(&self) -> impl ExactSizeIterator<Item = anyhow::Result<String>> + Send {
        self.files
            .iter()
            .map(|path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())))
    }

    pub(crate) fn megabytes(&self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, bytes) = (self.files.len(), ByteSize(self.bytes).display().si());
        write!(f, "Found {files} Rust sources with {bytes} in {}", self.folder.display())?;
        match self.not_utf8 {
            0 => write!(f, "."),
            left_out => write!(f, " ({left_out} more are not UTF-8 and left out)."),
        }
    }
}
