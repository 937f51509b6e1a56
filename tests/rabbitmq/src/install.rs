//! Where RabbitMQ's programs are.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::NodeError;

/// The scripts themselves. Debian's programs of the same names in the search path are wrappers that change to the user
/// `rabbitmq` when root calls them, and the node would not be ours.
const DEBIAN_SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

#[derive(Debug)]
pub(crate) struct Install {
    pub(crate) server: PathBuf,
    pub(crate) ctl: PathBuf,
    pub(crate) epmd: PathBuf,
    pub(crate) erl_call: PathBuf,
}

impl Install {
    pub(crate) fn find() -> Result<Self, NodeError> {
        let epmd = in_path("epmd").ok_or(NodeError::Missing("epmd"))?;
        Ok(Self {
            server: script("rabbitmq-server").ok_or(NodeError::Missing("rabbitmq-server"))?,
            ctl: script("rabbitmqctl").ok_or(NodeError::Missing("rabbitmqctl"))?,
            // Erlang keeps it beside `epmd`, and leads the search path to that alone.
            erl_call: epmd
                .canonicalize()
                .ok()
                .map(|epmd| epmd.with_file_name("erl_call"))
                .filter(|file| file.is_file())
                .ok_or(NodeError::Missing("erl_call"))?,
            epmd,
        })
    }
}

fn script(name: &str) -> Option<PathBuf> {
    let debian = Path::new(DEBIAN_SCRIPTS).join(name);
    if debian.is_file() { Some(debian) } else { in_path(name) }
}

fn in_path(name: &str) -> Option<PathBuf> {
    // Administrators' programs are not in everybody's search path.
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
