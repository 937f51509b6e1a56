//! Whose plugins a worker executes.
//!
//! A signature is one of [minisign](https://jedisct1.github.io/minisign/), of the component's bytes. Its trusted comment, which
//! is signed as well, names plugin and version: `plugin:arith version:1.2.0` among other words. So the signature of an old
//! version cannot make its bytes pass for a new one, or for another plugin.
//!
//! Pure but for [`Trust::load`]. A worker asks before it hands a component's bytes to the compiler.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use minisign_verify::{PublicKey, Signature};
use semver::Version;

/// The keys whose plugins are executed. `Default` trusts everybody.
///
/// ```
/// use palfrey_host::{
///     plugin::{NewKey, SigningKey, Trust, Untrusted},
///     secret::ExposeSecret,
/// };
///
/// let (ada, mallory) = (NewKey::generate(None)?, NewKey::generate(None)?);
/// let trust = Trust::in_keys([("ada.pub", &ada.public)])?;
/// let version = "1.2.0".parse()?;
/// let sign = |key: &NewKey| SigningKey::open(key.secret.expose_secret(), None)?.sign(b"a component", "arith", &version);
/// trust.check(b"a component", "arith", &version, &[sign(&ada)?])?;
///
/// let refusal = trust.check(b"a component", "arith", &version, &[sign(&mallory)?]).unwrap_err();
/// assert!(matches!(refusal, Untrusted::UnknownKey { .. }));
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Trust(Option<Arc<[TrustedKey]>>);

#[derive(Debug)]
struct TrustedKey {
    name: String,
    key: PublicKey,
}

/// Why a component is not executed.
///
/// ```
/// use palfrey_host::plugin::Untrusted;
///
/// /// Whether somebody may have changed the bytes, rather than forgotten to sign them.
/// fn is_alarming(refused: &Untrusted) -> bool {
///     !matches!(refused, Untrusted::Unsigned { .. } | Untrusted::UnknownKey { .. })
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Nobody signed it.
    #[error(
        "`{plugin}` {version} is not signed, and this worker executes only what {trusted} signed: sign it with `palfrey sign` and deploy it again"
    )]
    Unsigned {
        /// The plugin's name.
        plugin: String,
        /// Its version.
        version: Version,
        /// The keys that would do.
        trusted: String,
    },
    /// It is signed by somebody else.
    #[error("`{plugin}` {version} is signed by key {key}, which is not trusted here: only {trusted} is")]
    UnknownKey {
        /// The plugin's name.
        plugin: String,
        /// Its version.
        version: Version,
        /// The key's ID, as minisign prints it.
        key: String,
        /// The keys that would do.
        trusted: String,
    },
    /// The signature claims a key that is trusted, and does not belong to the bytes.
    #[error("the signature of `{plugin}` {version} by key {key} is not of these bytes, or was changed")]
    OtherBytes {
        /// The plugin's name.
        plugin: String,
        /// Its version.
        version: Version,
        /// The key's ID.
        key: String,
    },
    /// What was signed is another plugin, or another version.
    #[error("these bytes were signed as `{signed_plugin}` {signed_version} and are deployed as `{plugin}` {version}")]
    OtherName {
        /// The name in the signature.
        signed_plugin: String,
        /// The version in the signature.
        signed_version: String,
        /// The name in the registry.
        plugin: String,
        /// The version in the registry.
        version: Version,
    },
    /// The signature does not say what it is good for.
    #[error(
        "the signature of `{plugin}` {version} does not name plugin and version in its trusted comment: sign with `palfrey sign`, or with `minisign -S -t 'plugin:{plugin} version:{version}'`"
    )]
    Unnamed {
        /// The plugin's name.
        plugin: String,
        /// Its version.
        version: Version,
    },
    /// No signature at all, or one of an age-old kind.
    #[error("the signature of `{plugin}` {version} is not one of minisign 0.10 or later: {reason}")]
    Malformed {
        /// The plugin's name.
        plugin: String,
        /// Its version.
        version: Version,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry knows no deployment that the signature could be compared with.
    #[error("{digest} is not deployed as `{plugin}`, so that nobody can say who signed it")]
    NotDeployed {
        /// The plugin's name.
        plugin: String,
        /// The component.
        digest: crate::task::Digest,
    },
}

/// The keys cannot be used.
///
/// ```
/// use palfrey_host::plugin::{Trust, TrustError};
///
/// assert!(matches!(Trust::load(&["/nowhere".into()]), Err(TrustError::Read { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file or a folder cannot be read.
    #[error("cannot read the trusted key {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no public key.
    #[error("{name} is not a public key of minisign, such as `palfrey keygen` makes: {reason}")]
    Key {
        /// Its path.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder without keys.
    #[error("{} holds no key, a file `*.pub`: a worker that trusts nobody executes nothing", path.display())]
    NoKeys {
        /// The folder.
        path: PathBuf,
    },
}

impl Trust {
    /// Reads keys: each path is a key's file, or a folder whose files `*.pub` are keys. Without any path, everybody is trusted.
    ///
    /// # Errors
    /// If something cannot be read or is no key, or a folder holds none.
    pub fn load(paths: &[PathBuf]) -> Result<Self, TrustError> {
        if paths.is_empty() {
            return Ok(Self::default());
        }
        let mut keys = Vec::new();
        for path in paths {
            for file in key_files(path)? {
                let text = fs::read_to_string(&file).map_err(unreadable(&file))?;
                keys.push((file.display().to_string(), text));
            }
        }
        Self::in_keys(keys)
    }

    /// Trusts keys: each a name for messages, and the text of the key's file.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn in_keys(keys: impl IntoIterator<Item = (impl Into<String>, impl AsRef<str>)>) -> Result<Self, TrustError> {
        let mut trusted = Vec::new();
        for (name, text) in keys {
            let name = name.into();
            match PublicKey::decode(text.as_ref()) {
                Ok(key) => trusted.push(TrustedKey { name, key }),
                Err(error) => return Err(TrustError::Key { name, reason: error.to_string() }),
            }
        }
        Ok(Self(Some(trusted.into())))
    }

    /// Whether everything is executed, whoever signed it.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// Decides whether a component is executed as a version of a plugin: if one of its signatures is by a trusted key, of
    /// these bytes, and for this name and version.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(
        &self,
        component: &[u8],
        plugin: &str,
        version: &Version,
        signatures: &[String],
    ) -> Result<(), Untrusted> {
        let Some(keys) = &self.0 else { return Ok(()) };
        let claim = Claim { plugin, version };
        let mut refusal =
            Untrusted::Unsigned { plugin: plugin.to_owned(), version: version.clone(), trusted: self.to_string() };
        for signature in signatures {
            match self.check_one(component, claim, signature, keys) {
                Ok(()) => return Ok(()),
                // Of somebody whom this worker does not know anyway: another one says more.
                Err(Untrusted::UnknownKey { .. }) if !matches!(refusal, Untrusted::Unsigned { .. }) => {}
                Err(reason) => refusal = reason,
            }
        }
        Err(refusal)
    }

    fn check_one(&self, component: &[u8], claim: Claim<'_>, text: &str, keys: &[TrustedKey]) -> Result<(), Untrusted> {
        let Claim { plugin, version } = claim;
        let (plugin, version) = (|| plugin.to_owned(), || version.clone());
        let signature = claim.decode(text)?;
        let mut unknown = Untrusted::UnknownKey {
            plugin: plugin(),
            version: version(),
            key: key_id(text),
            trusted: self.to_string(),
        };
        for TrustedKey { key, .. } in keys {
            match key.verify(component, &signature, false) {
                // Before that, the comment is anybody's.
                Ok(()) => return claim.check_name(&signature),
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(minisign_verify::Error::InvalidSignature) => {
                    unknown = Untrusted::OtherBytes { plugin: plugin(), version: version(), key: key_id(text) };
                }
                Err(error) => {
                    unknown = Untrusted::Malformed { plugin: plugin(), version: version(), reason: error.to_string() };
                }
            }
        }
        Err(unknown)
    }
}

/// The keys by their names.
impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("everybody"),
            Some(keys) => f.write_str(&keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(" or ")),
        }
    }
}

/// Checks what a signature says of itself: that it is one, and that it is for this plugin and version. Whether it is genuine
/// only [`Trust::check`] tells.
///
/// # Errors
/// [`Untrusted::Malformed`], [`Untrusted::Unnamed`] or [`Untrusted::OtherName`].
pub fn check_signature_name(signature: &str, plugin: &str, version: &Version) -> Result<(), Untrusted> {
    let claim = Claim { plugin, version };
    claim.check_name(&claim.decode(signature)?)
}

/// The trusted comment of a signature that is good for a version of a plugin.
pub(super) fn trusted_comment(plugin: &str, version: &Version) -> String {
    format!("{PLUGIN}{plugin} {VERSION}{version}")
}

/// Characters of a name or a version in a signature that an error shows.
const MAX_SHOWN: usize = 64;

const PLUGIN: &str = "plugin:";
const VERSION: &str = "version:";

/// What a component is deployed as.
#[derive(Clone, Copy)]
struct Claim<'a> {
    plugin: &'a str,
    version: &'a Version,
}

impl Claim<'_> {
    fn decode(self, text: &str) -> Result<Signature, Untrusted> {
        Signature::decode(text).map_err(|error| Untrusted::Malformed {
            plugin: self.plugin.to_owned(),
            version: self.version.clone(),
            reason: error.to_string(),
        })
    }

    fn check_name(self, signature: &Signature) -> Result<(), Untrusted> {
        let (plugin, version) = (self.plugin.to_owned(), self.version.clone());
        let comment = signature.trusted_comment();
        let (Some(signed_plugin), Some(signed_version)) = (word(comment, PLUGIN), word(comment, VERSION)) else {
            return Err(Untrusted::Unnamed { plugin, version });
        };
        if signed_plugin == self.plugin && signed_version == self.version.to_string() {
            return Ok(());
        }
        let (signed_plugin, signed_version) = (shown(signed_plugin), shown(signed_version));
        Err(Untrusted::OtherName { signed_plugin, signed_version, plugin, version })
    }
}

/// The beginning of a word that may be as long as somebody likes.
fn shown(word: &str) -> String {
    match word.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// The word behind a prefix, if there is exactly one.
fn word<'a>(comment: &'a str, prefix: &str) -> Option<&'a str> {
    let mut words = comment.split_whitespace().filter_map(|word| word.strip_prefix(prefix));
    words.next().filter(|_| words.next().is_none())
}

/// A key's ID as minisign prints it.
fn key_id(signature: &str) -> String {
    let id = minisign::SignatureBox::from_string(signature).ok();
    let id = id.and_then(|signature| signature.keynum().try_into().ok().map(u64::from_le_bytes));
    id.map_or_else(|| "unknown".to_owned(), |id| format!("{id:016X}"))
}

fn key_files(path: &Path) -> Result<Vec<PathBuf>, TrustError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable(path))? {
        files.push(entry.map_err(unreadable(path))?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "pub"));
    files.sort();
    if files.is_empty() { Err(TrustError::NoKeys { path: path.to_owned() }) } else { Ok(files) }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> TrustError {
    let path = path.to_owned();
    move |source| TrustError::Read { path, source }
}

#[cfg(test)]
mod tests;
