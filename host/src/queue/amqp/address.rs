//! Where the broker is, who asks, and what its refusals mean.

use std::{fmt, time::Duration};

use anyhow::anyhow;
use backon::{ExponentialBuilder, Retryable};
use lapin::{
    ConnectionProperties, ErrorKind,
    tcp::{AMQPUriTcpExt as _, RustlsConnector, TLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use url::{Host, Url};

use super::tls::{self, TlsFiles};
use crate::queue::QueueError;

/// A broker that has not greeted us by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to ask a broker again that ends a connection over TLS without a word: the reset of a connection may overtake the
/// alert that says which certificate is at fault. Pauses of 1.5 s altogether.
const TLS_RETRY: ExponentialBuilder =
    ExponentialBuilder::new().with_min_delay(Duration::from_millis(50)).with_max_times(5);

/// In seconds. Shorter ones take a busy machine for a dead one.
const HEARTBEAT: u16 = 10;
const MIN_HEARTBEAT: u16 = 5;

/// In bytes. `lapin` keeps room for 32 frames in each direction of a connection. With RabbitMQ's own 128 KiB it fills eight megabytes
/// with zeroes at every start, a third of the time that a command takes, and goes round in twice as much memory.
const FRAME: u32 = 64 << 10;

/// A parsed URI. It holds the password, and shows it to nobody but the broker.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    /// For `amqps`.
    tls: Option<RustlsConnector>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{self}/{}", self.uri.authority.userinfo.username, self.uri.vhost)
    }
}

/// Host and port.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

impl Address {
    pub(super) fn parse(text: &str, tls: &TlsFiles) -> Result<Self, QueueError> {
        // Messages of the parsers are passed on only where they cannot repeat the text, which may hold a password.
        let url = Url::parse(text).map_err(|error| QueueError::Uri(error.to_string()))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(QueueError::Uri("it begins with neither amqp:// nor amqps://".into()));
        }
        let Some(host) = url.host().filter(|_| !url.cannot_be_a_base()) else {
            return Err(QueueError::Uri("it names no host".into()));
        };
        let mut uri: AMQPUri = text.parse().map_err(QueueError::Uri)?;
        if let Host::Ipv6(_) = host {
            // The parser knows names only, and would take localhost.
            uri.authority.host = host.to_string();
        }
        if uri.vhost.is_empty() {
            // To the letter `amqp://host/` names a virtual host without a name. Nobody means that.
            uri.vhost = "/".into();
        }
        uri.query.heartbeat = Some(uri.query.heartbeat.unwrap_or(HEARTBEAT).max(MIN_HEARTBEAT));
        uri.query.frame_max = Some(uri.query.frame_max.unwrap_or(FRAME));
        let tls = match uri.scheme {
            AMQPScheme::AMQPS => Some(tls.connector()?),
            AMQPScheme::AMQP if tls.is_empty() => None,
            AMQPScheme::AMQP => {
                return Err(QueueError::Uri(
                    "it does not begin with amqps://, as the use of certificates needs".into(),
                ));
            }
        };
        Ok(Self { uri, tls })
    }

    /// As whom we connect.
    pub(super) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Opens a connection that does not recover by itself.
    pub(super) async fn connect(&self, name: &str) -> Result<lapin::Connection, QueueError> {
        let attempt = || async {
            match tokio::time::timeout(CONNECT_TIMEOUT, self.attempt(name)).await {
                Ok(attempted) => attempted.map_err(Attempt::Failed),
                Err(_) => Err(Attempt::Unanswered),
            }
        };
        let is_doubtful = |attempt: &Attempt| match attempt {
            Attempt::Failed(error) => self.tls.is_some() && is_reset(error),
            Attempt::Unanswered => false,
        };
        attempt.retry(TLS_RETRY).when(is_doubtful).await.map_err(|attempt| match attempt {
            Attempt::Failed(error) => self.refusal(error),
            Attempt::Unanswered => self.unreachable(anyhow!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
        })
    }

    async fn attempt(&self, name: &str) -> lapin::Result<lapin::Connection> {
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        // Ours is the handshake: the client library's own trusts the system's authorities as well as those that are named.
        let tls = self.tls.clone();
        let dial = async move |mut uri: AMQPUri, runtime| {
            uri.scheme = AMQPScheme::AMQP;
            let stream = uri.connect_with_config_async(TLSConfig::default(), &runtime).await?;
            match &tls {
                Some(tls) => Ok(stream.into_rustls(tls, bare(&uri.authority.host)).await?),
                None => Ok(stream),
            }
        };
        let runtime = lapin::runtime::default_runtime()?;
        lapin::Connection::connector(self.uri.clone(), runtime, dial, properties).await
    }

    fn refusal(&self, error: lapin::Error) -> QueueError {
        let address = self.to_string();
        let user = self.uri.authority.userinfo.username.clone();
        match error.kind() {
            ErrorKind::ProtocolError(refusal) => match refusal.get_id() {
                403 => QueueError::AccessRefused { address, user },
                530 => QueueError::NoSuchVhost { address, user, vhost: self.uri.vhost.clone() },
                _ => self.unreachable(error.into()),
            },
            ErrorKind::IOError(io) => match tls::refusal(io, &self.uri.authority.host) {
                Some(reason) => QueueError::Untrusted { address, reason },
                None => self.unreachable(error.into()),
            },
            _ => self.unreachable(error.into()),
        }
    }

    fn unreachable(&self, source: anyhow::Error) -> QueueError {
        QueueError::Unreachable { address: self.to_string(), source }
    }
}

/// Why an attempt to connect came to nothing.
enum Attempt {
    Failed(lapin::Error),
    Unanswered,
}

/// Whether the connection was ended without a word, as far as has arrived.
fn is_reset(error: &lapin::Error) -> bool {
    use std::io::ErrorKind as Io;
    match error.kind() {
        ErrorKind::IOError(io) => matches!(io.kind(), Io::ConnectionReset | Io::BrokenPipe | Io::UnexpectedEof),
        _ => false,
    }
}

/// An IPv6 address without the brackets that it has in a URI.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, QueueError> {
        Address::parse(text, &TlsFiles::default())
    }

    #[test]
    fn an_address_never_shows_its_password() {
        let address = parse("amqp://me:hunter2@broker:1234/jobs").unwrap();
        assert_eq!(format!("{address:?} {address}"), "me@broker:1234/jobs broker:1234");

        for bad in ["amqp:me:hunter2@broker", "http://me:hunter2@broker", "hunter2", "amqp://me:hunter2@broker:port/"] {
            let error = parse(bad).unwrap_err();
            assert!(matches!(error, QueueError::Uri(_)), "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn hosts_vhosts_and_heartbeats_are_what_the_user_means() {
        let parse = |text| parse(text).unwrap().uri;
        assert_eq!(parse("amqp://localhost").vhost, "/");
        assert_eq!(parse("amqp://localhost:1/").vhost, "/");
        assert_eq!(parse("amqp://localhost:1/%2fjobs").vhost, "/jobs");
        assert_eq!(parse("amqp://[::1]:1/").authority.host, "[::1]");
        assert_eq!(parse("amqp://127.0.0.1/").authority.host, "127.0.0.1");
        assert_eq!(parse("amqp://localhost").query.heartbeat, Some(HEARTBEAT));
        assert_eq!(parse("amqp://localhost?heartbeat=1").query.heartbeat, Some(MIN_HEARTBEAT));
        assert_eq!(parse("amqp://localhost").query.frame_max, Some(FRAME));
        assert_eq!(parse("amqp://localhost?frame_max=131072").query.frame_max, Some(131_072));
    }

    #[test]
    fn certificates_do_not_travel_over_a_connection_that_is_open_to_all() {
        let tls = TlsFiles { ca: Some("ca.pem".into()), ..TlsFiles::default() };
        let error = Address::parse("amqp://localhost", &tls).unwrap_err().to_string();
        assert!(error.contains("it does not begin with amqps://"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error_without_the_password(
            text in "(amqps?|http)?(://|:)?(ada)?(:hunter2)?@?([a-z0-9.]{0,5}|\\[[0-9a-f:]{0,6}\\])(:[0-9a-z%]{0,6})?/?[%0-9a-fz]{0,4}(\\?[a-z_]{0,9}=?[-0-9]{0,9})?\\PC{0,3}",
        ) {
            let mut parsed = None;
            let allocated = allocation_counter::measure(|| parsed = Some(parse(&text)));
            // The authorities that the system trusts, for `amqps`.
            proptest::prop_assert!(allocated.bytes_max <= 4 << 20, "{} bytes", allocated.bytes_max);
            match parsed.unwrap() {
                Ok(address) => {
                    let shown = format!("{address:?} {address}");
                    proptest::prop_assert!(!shown.contains("hunter2") || !text.contains(":hunter2@"));
                }
                Err(error) => proptest::prop_assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}"),
            }
        }
    }
}
