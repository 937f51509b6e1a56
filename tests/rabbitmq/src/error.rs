//! What can go wrong with a private node.

use std::{io, path::PathBuf};

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// RabbitMQ is not on this machine.
    #[error("{0} is not installed: on Debian and Ubuntu, `apt-get install rabbitmq-server`")]
    Missing(&'static str),
    /// Somebody else listens there.
    #[error("port {port} is in use by another program, perhaps another broker: stop it, or choose another port")]
    PortInUse {
        /// The port on the loopback interface.
        port: u16,
    },
    /// Another process runs a node of this name in the same folder.
    #[error("node `{name}` already runs in {folder}: stop it, or choose another name")]
    NameInUse {
        /// The node's name.
        name: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// A name that cannot be a node's.
    #[error("`{0}` cannot name a node: use lower-case letters, digits, `-` and `_`")]
    Name(String),
    /// The node ended while it started.
    #[error("node `{name}` did not start; it printed:\n{log}")]
    Start {
        /// The node's name.
        name: String,
        /// The first lines that it printed.
        log: String,
    },
    /// The node does not run.
    #[error("node `{0}` does not run: start it again first")]
    NotRunning(String),
    /// Nobody knows where the node of a URI is.
    #[error("no node that was started here has this URI")]
    Unknown,
    /// An expression failed, or its value was not `ok`.
    #[error("evaluating `{expression}` failed: {message}")]
    Evaluate {
        /// What was to be evaluated.
        expression: String,
        /// What came of it.
        message: String,
    },
    /// `rabbitmqctl` failed.
    #[error("`rabbitmqctl {arguments}` failed: {message}")]
    Ctl {
        /// What it was asked for.
        arguments: String,
        /// What it said.
        message: String,
    },
    /// A file or a process could not be handled.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
}

impl NodeError {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
