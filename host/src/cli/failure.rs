//! What can go wrong, and the exit code that says so.

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode};

use palfrey_host::{
    ConnectError,
    dead_letters::DeadLetterError,
    engine::{Capability, EngineError, LoadError},
    plugin::{KeyError, Refusal, RegistryError, TrustError, Untrusted},
    presence::CommandError,
    queue::QueueError,
    secret::SecretError,
};

pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  an internal error
  2  the arguments or the environment are wrong
  3  the broker cannot be reached, refuses the connection, or went away
  4  there is no such file, plugin, version, worker, job or dead letter
  5  refused: the component or the state of the registry does not allow it
  130, 143  ended at once by a second SIGINT or SIGTERM";

/// The exit codes of failures, as [`HELP`] explains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Code {
    Internal = 1,
    Usage = 2,
    CannotConnect = 3,
    NotFound = 4,
    Refused = 5,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// In memory there is nobody to speak to.
    #[error(
        "with `--runtime in-memory` workers live within a program, and `palfrey` cannot reach them: use `--runtime amqp`"
    )]
    InMemory,
    /// The folder for machine code or components cannot be used.
    #[error(transparent)]
    Setup(anyhow::Error),
    /// No broker, or no connection to it.
    #[error(transparent)]
    Connect(QueueError),
    /// The broker refused something later on.
    #[error(transparent)]
    Queue(QueueError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file that is no plugin.
    #[error("{} is not a plugin that workers can execute", path.display())]
    Component {
        path: PathBuf,
        #[source]
        source: LoadError,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file that would be lost.
    #[error("{} exists, and a key that is lost cannot be made again: choose another name", path.display())]
    Exists { path: PathBuf },
    /// A file that is no secret key.
    #[error("cannot sign with {}", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    /// A password is missing or wrong.
    #[error("{0}")]
    Password(String),
    /// The signature of a file does not fit it.
    #[error("{} is not a signature for what it lies beside", path.display())]
    Signature {
        path: PathBuf,
        #[source]
        source: Untrusted,
    },
    /// Signed by nobody who is trusted.
    #[error("{} would not be executed", path.display())]
    Untrusted {
        path: PathBuf,
        #[source]
        source: Untrusted,
    },
    /// A grant that changes nothing, most likely a mistake.
    #[error("nothing that is deployed here asks for `{0}`; `palfrey inspect FILE` shows what a component asks for")]
    GrantNotAsked(Capability),
    /// The address for health probes is taken, or not this machine's.
    #[error("cannot listen on {address} for health probes")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// There is no such worker, job or dead letter, or it does not answer.
    #[error(transparent)]
    NotFound(anyhow::Error),
    /// The registry says no.
    #[error(transparent)]
    Refused(Refusal),
    /// Something that should not happen.
    #[error(transparent)]
    Internal(anyhow::Error),
}

impl Failure {
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code() as u8)
    }

    fn code(&self) -> Code {
        match self {
            // No command closes its connection before it is done: the broker went away.
            Self::Connect(_) | Self::Queue(QueueError::Closed) => Code::CannotConnect,
            Self::Internal(_) | Self::Queue(_) => Code::Internal,
            Self::InMemory
            | Self::Setup(_)
            | Self::Listen { .. }
            | Self::Key { .. }
            | Self::Password(_)
            | Self::GrantNotAsked(_) => Code::Usage,
            Self::Write { .. } => Code::Internal,
            Self::File { .. } | Self::NotFound(_) => Code::NotFound,
            Self::Component { .. } | Self::Exists { .. } | Self::Signature { .. } | Self::Untrusted { .. } => {
                Code::Refused
            }
            Self::Refused(refusal) => match refusal {
                Refusal::UnknownPlugin { .. } | Refusal::NoSuchVersion { .. } | Refusal::NeverDeployed { .. } => {
                    Code::NotFound
                }
                Refusal::VersionTaken { .. }
                | Refusal::NotDeployed { .. }
                | Refusal::NothingBefore { .. }
                | Refusal::Overtaken { .. }
                | Refusal::NotGranted { .. }
                | Refusal::SignatureTooLarge(_)
                | Refusal::Name(_) => Code::Refused,
            },
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Queue(error @ (QueueError::Uri(_) | QueueError::Tls { .. } | QueueError::TlsPair)) => {
                Self::Setup(error.into())
            }
            ConnectError::Queue(error) => Self::Connect(error),
            setup => Self::Setup(setup.into()),
        }
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::Setup(error.into())
    }
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self::Setup(error.into())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Setup(error.into())
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Queue(error) => Self::Queue(error),
            not_found => Self::NotFound(not_found.into()),
        }
    }
}

impl From<DeadLetterError> for Failure {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Queue(error) => Self::Queue(error),
            not_found => Self::NotFound(not_found.into()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Queue(error) => Self::Queue(error),
            RegistryError::Refused(refusal) => Self::Refused(refusal),
            error @ (RegistryError::NotReadBack | RegistryError::Load(_)) => Self::Internal(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the help says of the code, and a failure that has it.
    fn check(code: Code) {
        let (failure, words) = match code {
            Code::Internal => (Failure::Internal(anyhow::anyhow!("a mistake")), "an internal error"),
            Code::Usage => (Failure::InMemory, "the arguments or the environment are wrong"),
            Code::CannotConnect => {
                (QueueError::Closed.into(), "the broker cannot be reached, refuses the connection, or went away")
            }
            Code::NotFound => {
                (CommandError::NoAnswer { what: "job", name: "4c1d".to_owned() }.into(), "there is no such")
            }
            Code::Refused => (Failure::Exists { path: "palfrey.key".into() }, "refused"),
        };
        assert_eq!(failure.code(), code, "{failure}");
        let line = format!("\n  {}  {words}", code as u8);
        assert!(HELP.contains(&line), "{line}");
    }

    #[test]
    fn the_help_explains_every_exit_code_and_no_other() {
        let codes = [Code::Internal, Code::Usage, Code::CannotConnect, Code::NotFound, Code::Refused];
        codes.into_iter().for_each(check);
        let explained = HELP.lines().skip(1).map(|line| line.trim().split("  ").next().unwrap_or_default());
        assert_eq!(explained.collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5", "130, 143"]);
        // Whoever adds a code sees that it belongs above.
        assert_eq!(codes.map(|code| code as u8), [1, 2, 3, 4, 5]);
    }
}
