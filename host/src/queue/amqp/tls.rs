//! TLS to the broker: whom it is, who we are, and what a refusal means.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::{
    AlertDescription, CertificateError,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::queue::QueueError;

/// Files in PEM for a connection by `amqps`. All of them are optional.
///
/// ```
/// use palfrey_host::{Config, queue::amqp::TlsFiles};
///
/// let config = Config { amqp_ca: Some("ca.pem".into()), ..Config::default() };
/// assert_eq!(config.amqp_options().tls, TlsFiles { ca: Some("ca.pem".into()), ..TlsFiles::default() });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that may vouch for the broker. Nobody else's are accepted then. Default: those that
    /// the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate, for a broker that asks for one, and those that lead to its authority.
    pub certificate: Option<PathBuf>,
    /// The key of our certificate.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the files.
    pub(super) fn connector(&self) -> Result<RustlsConnector, QueueError> {
        let config = match &self.ca {
            Some(ca) => {
                let mut config = RustlsConnectorConfig::default();
                config.add_parsable_certificates(certificates(ca)?);
                config
            }
            None => RustlsConnectorConfig::new_with_native_certs().map_err(|source| QueueError::Tls {
                action: "read the system's authorities; name one's own with --amqp-ca".to_owned(),
                source: source.into(),
            })?,
        };
        let connector = match (&self.certificate, &self.key) {
            (None, None) => config.connector_with_no_client_auth(),
            (Some(certificate), Some(path)) => {
                let key = PrivateKeyDer::from_pem_file(path).map_err(unreadable(path, "private key"))?;
                config.connector_with_single_cert(certificates(certificate)?, key)
            }
            (Some(_), None) | (None, Some(_)) => return Err(QueueError::TlsPair),
        };
        connector.map_err(|source| QueueError::Tls { action: format!("use {}", self.names()), source: source.into() })
    }

    fn names(&self) -> String {
        let files = [&self.ca, &self.certificate, &self.key].into_iter().flatten();
        files.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" with ")
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, QueueError> {
    // Opened before, since the reader of PEM does not say what is wrong with a file.
    let bytes = fs::read(path).map_err(unreadable(path, "certificate"))?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(unreadable(path, "certificate"))?;
    if certificates.is_empty() {
        return Err(unreadable(path, "certificate")(io::Error::other("it holds none in PEM")));
    }
    Ok(certificates)
}

fn unreadable<E: Into<anyhow::Error>>(path: &Path, what: &str) -> impl FnOnce(E) -> QueueError {
    let action = format!("read a {what} from {}", path.display());
    move |source| QueueError::Tls { action, source: source.into() }
}

/// What TLS has to say of a connection that failed: which certificate is at fault, and why. `host` is the name that was
/// dialled.
pub(super) fn refusal(error: &io::Error, host: &str) -> Option<String> {
    use AlertDescription as Alert;

    let error = sources(error).find_map(|error| error.downcast_ref::<rustls::Error>())?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => format!("its certificate {}", fault(error, host)),
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateRequired => {
                "it wants a client certificate: name one with --amqp-cert and --amqp-key".into()
            }
            Alert::CertificateExpired => "it says that our client certificate has expired".into(),
            Alert::UnknownCA => "it does not know who issued our client certificate".into(),
            Alert::CertificateRevoked => "it says that our client certificate was revoked".into(),
            Alert::BadCertificate | Alert::CertificateUnknown | Alert::UnsupportedCertificate => {
                format!("it does not accept our client certificate ({alert:?})")
            }
            // Before TLS 1.3 there was no word for a missing certificate.
            Alert::HandshakeFailure => {
                "it ended the handshake; it may want a client certificate (--amqp-cert, --amqp-key)".into()
            }
            alert => format!("it ended the handshake ({alert:?})"),
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS at this port: is this the port for amqps?".into(),
        error => error.to_string(),
    })
}

fn fault(error: &CertificateError, host: &str) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "is issued by an authority that is not trusted here: name the right one with --amqp-ca".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: is this machine's clock right?".to_owned()
        }
        CertificateError::NotValidForName => format!("is not for `{host}`"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("is not for `{host}`, but for {}", presented.join(", "))
        }
        CertificateError::Revoked => "was revoked".to_owned(),
        error => format!("is not accepted: {error}"),
    }
}

fn sources<'a>(error: &'a io::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // An `io::Error` hides what it was made of from its sources.
    let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    std::iter::successors(inner, |&error| match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}
