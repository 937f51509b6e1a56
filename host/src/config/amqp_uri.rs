//! The broker's address, whose password nothing shows.

use std::{ffi::OsStr, fmt, str::FromStr};

use clap::{
    Arg, Command,
    builder::{TypedValueParser, ValueParserFactory},
    error::ErrorKind,
};

use crate::secret::{ExposeSecret as _, SecretString};

/// Where the broker is, with the credentials that it asks for. The password is printed nowhere.
///
/// ```
/// use palfrey_host::config::AmqpUri;
///
/// let uri: AmqpUri = "amqp://ada:s3cret@broker:5672/jobs".parse()?;
/// assert_eq!(uri.to_string(), "amqp://ada:…@broker:5672/jobs");
/// assert!("broker:5672".parse::<AmqpUri>().is_err());
/// # Ok::<(), palfrey_host::config::InvalidAmqpUri>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUri(String);

impl AmqpUri {
    pub(super) const LOCAL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

    pub(super) fn with_password(&self, password: &SecretString) -> Result<Self, InvalidAmqpUri> {
        let mut uri = url::Url::parse(&self.0).map_err(|error| InvalidAmqpUri(error.to_string()))?;
        uri.set_password(Some(password.expose_secret()))
            .map_err(|()| InvalidAmqpUri("it has no place for a password".to_owned()))?;
        Ok(Self(uri.into()))
    }

    /// The address with the credentials, for whoever connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// RabbitMQ as it is installed, on this machine.
impl Default for AmqpUri {
    fn default() -> Self {
        Self(Self::LOCAL.to_owned())
    }
}

impl FromStr for AmqpUri {
    type Err = InvalidAmqpUri;

    fn from_str(text: &str) -> Result<Self, InvalidAmqpUri> {
        let uri = url::Url::parse(text).map_err(|error| InvalidAmqpUri(error.to_string()))?;
        if !matches!(uri.scheme(), "amqp" | "amqps") {
            return Err(InvalidAmqpUri("it begins with neither amqp:// nor amqps://".to_owned()));
        }
        if uri.host_str().is_none_or(str::is_empty) {
            return Err(InvalidAmqpUri("the host is missing".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// On a command line. Unlike clap's own way, its errors do not repeat the value, which may hold a password.
#[derive(Debug, Clone)]
pub struct AmqpUriParser;

impl ValueParserFactory for AmqpUri {
    type Parser = AmqpUriParser;

    fn value_parser() -> AmqpUriParser {
        AmqpUriParser
    }
}

impl TypedValueParser for AmqpUriParser {
    type Value = AmqpUri;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<AmqpUri, clap::Error> {
        let parsed = value.to_str().ok_or_else(|| InvalidAmqpUri("it is not in UTF-8".to_owned())).and_then(str::parse);
        parsed.map_err(|error| {
            let arg = arg.map_or_else(|| "--amqp-uri".to_owned(), ToString::to_string);
            let message =
                format!("invalid value for '{arg}', which is not shown since it may hold a password: {error}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

/// An address that is not an AMQP URI.
///
/// ```
/// use palfrey_host::config::{AmqpUri, InvalidAmqpUri};
///
/// let error: InvalidAmqpUri = "http://broker".parse::<AmqpUri>().unwrap_err();
/// println!("{error}"); // It says what an address looks like.
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an AMQP URI: {0}; write amqp://user:password@host:port/vhost")]
pub struct InvalidAmqpUri(String);

impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match url::Url::parse(&self.0) {
            Ok(mut uri) => {
                if uri.password().is_some() {
                    // Fails only for URIs that cannot have credentials, and those have none.
                    _ = uri.set_password(Some("…"));
                }
                f.write_str(&percent_free(uri.as_str()))
            }
            Err(_) => f.write_str("amqp://…"),
        }
    }
}

/// The ellipsis in place of the password reads better unescaped.
fn percent_free(uri: &str) -> String {
    uri.replace("%E2%80%A6", "…")
}

impl fmt::Debug for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_amqp_says_what_to_write() {
        let error = "http://host".parse::<AmqpUri>().unwrap_err().to_string();
        assert!(
            error.contains("neither amqp:// nor amqps://") && error.contains("amqp://user:password@host:port/vhost"),
            "{error}"
        );
    }
}
