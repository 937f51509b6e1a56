//! Keys with which plugins are signed, in minisign's formats: its tools read what is written here, and the other way round.

use std::fmt;

use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use semver::Version;

use super::trust::trusted_comment;
use crate::secret::{ExposeSecret as _, SecretString};

/// A new pair of keys, as files hold them.
///
/// ```
/// use palfrey_host::plugin::NewKey;
///
/// let key = NewKey::generate(None)?;
/// assert!(key.public.starts_with("untrusted comment: "));
/// // The secret one is shown by nothing that prints.
/// assert!(!format!("{key:?}").contains("secret key"));
/// # Ok::<(), palfrey_host::plugin::KeyError>(())
/// ```
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The key's ID, as minisign prints it.
    pub id: String,
    /// For workers: the text of a file for [`Trust`](super::Trust).
    pub public: String,
    /// For whoever signs.
    pub secret: SecretString,
}

impl NewKey {
    /// Makes a pair of keys. A password encrypts the secret one.
    ///
    /// # Errors
    /// If the machine gives no random numbers, or no memory for the password's hash.
    pub fn generate(password: Option<&SecretString>) -> Result<Self, KeyError> {
        let (pair, comment) = match password {
            None => (KeyPair::generate_unencrypted_keypair(), "palfrey secret key"),
            Some(password) => (
                KeyPair::generate_encrypted_keypair(Some(password.expose_secret().to_owned())),
                "palfrey encrypted secret key",
            ),
        };
        let KeyPair { pk, sk } = pair.map_err(failed)?;
        let secret = sk.to_box(Some(comment)).map_err(failed)?.into_string();
        let public = pk.to_box().map_err(failed)?.into_string();
        Ok(Self { id: id(&pk), public, secret: secret.into() })
    }
}

/// A secret key that is ready to sign.
///
/// ```
/// use palfrey_host::{
///     plugin::{NewKey, SigningKey},
///     secret::{ExposeSecret, SecretString},
/// };
///
/// let password = SecretString::from("correct horse");
/// let new = NewKey::generate(Some(&password))?;
/// assert!(SigningKey::is_encrypted(new.secret.expose_secret()));
/// let key = SigningKey::open(new.secret.expose_secret(), Some(&password))?;
/// assert_eq!(key.id(), new.id);
/// # Ok::<(), palfrey_host::plugin::KeyError>(())
/// ```
pub struct SigningKey(KeyPair);

/// A key cannot be used.
///
/// ```
/// use palfrey_host::{
///     plugin::{KeyError, NewKey, SigningKey},
///     secret::{ExposeSecret, SecretString},
/// };
///
/// let new = NewKey::generate(Some(&SecretString::from("correct horse")))?;
/// let opened = SigningKey::open(new.secret.expose_secret(), Some(&SecretString::from("battery staple")));
/// assert!(matches!(opened, Err(KeyError::WrongPassword)));
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It needs a password, and there is none.
    #[error("the key is encrypted: name the file of its password with --password-file")]
    NeedsPassword,
    /// The password is another one.
    #[error("this is not the password of the key")]
    WrongPassword,
    /// The file is no secret key.
    #[error("this is no secret key of minisign, such as `palfrey keygen` makes: {0}")]
    Malformed(String),
    /// The machine does not give random numbers, or memory for the password's hash.
    #[error("the key cannot be made or used: {0}")]
    Failed(String),
}

impl SigningKey {
    /// Whether the text of a secret key's file is encrypted by a password.
    pub fn is_encrypted(file: &str) -> bool {
        Self::open_plain(file).is_err()
    }

    /// Reads the text of a secret key's file.
    ///
    /// # Errors
    /// If it is none, or the password is missing or another one.
    pub fn open(file: &str, password: Option<&SecretString>) -> Result<Self, KeyError> {
        if let Ok(key) = Self::open_plain(file) {
            return Ok(key);
        }
        let Some(password) = password else {
            return Err(KeyError::NeedsPassword);
        };
        let key = SecretKeyBox::from(file.to_owned()).into_secret_key(Some(password.expose_secret().to_owned()));
        key.map_err(|error| match error.kind() {
            minisign::ErrorKind::Verify => KeyError::WrongPassword,
            _ => KeyError::Malformed(error.to_string()),
        })
        .and_then(Self::of)
    }

    fn open_plain(file: &str) -> Result<Self, KeyError> {
        let key = SecretKeyBox::from(file.to_owned()).into_unencrypted_secret_key();
        key.map_err(|error| KeyError::Malformed(error.to_string())).and_then(Self::of)
    }

    fn of(sk: SecretKey) -> Result<Self, KeyError> {
        let pk = PublicKey::from_secret_key(&sk).map_err(failed)?;
        Ok(Self(KeyPair { pk, sk }))
    }

    /// The key's ID, as minisign prints it.
    pub fn id(&self) -> String {
        id(&self.0.pk)
    }

    /// Signs a component as a version of a plugin. Returns the text of a signature's file.
    ///
    /// # Errors
    /// If the machine gives no random numbers.
    pub fn sign(&self, component: &[u8], plugin: &str, version: &Version) -> Result<String, KeyError> {
        let comment = trusted_comment(plugin, version);
        let by = format!("signature from palfrey secret key {}", self.id());
        let KeyPair { pk, sk } = &self.0;
        let signature = minisign::sign(Some(pk), sk, component, Some(&comment), Some(&by)).map_err(failed)?;
        Ok(signature.into_string())
    }
}

/// The public key alone.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

fn id(key: &PublicKey) -> String {
    let id = key.keynum().try_into().map(u64::from_le_bytes).expect("an ID has eight bytes");
    format!("{id:016X}")
}

fn failed(error: minisign::PError) -> KeyError {
    KeyError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_printed_without_what_signs() {
        let new = NewKey::generate(None).unwrap();
        let file = new.secret.expose_secret().to_owned();
        let key = SigningKey::open(&file, None).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", new.id));
        let printed = format!("{new:?} {new:#?}");
        assert!(printed.contains(&new.id) && !printed.contains(file.lines().nth(1).unwrap()), "{printed}");
    }
}
