//! Where somebody runs.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

/// A process, as it describes itself to an operator.
///
/// ```
/// use palfrey_host::presence::Process;
///
/// let process = Process { user: "ada".into(), host: "engine".into(), ..Process::here() };
/// assert_eq!((process.pid, process.who()), (std::process::id(), "ada@engine".to_owned()));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Release of Palfrey.
    pub version: String,
    /// Who runs it, as far as the environment tells.
    pub user: String,
    /// The machine, as far as it tells.
    pub host: String,
    /// Number of the process on that machine.
    pub pid: u32,
    /// Name of the program.
    pub program: String,
}

impl Process {
    /// This one.
    pub fn here() -> Self {
        let program = std::env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            user: user(),
            host: host().unwrap_or_else(|| "unknown".to_owned()),
            pid: std::process::id(),
            program,
        }
    }

    /// Who and where: `ada@engine`.
    pub fn who(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}] of {}", self.program, self.pid, self.who())
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The user, as far as the environment tells.
pub(crate) fn user() -> String {
    variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "unknown".to_owned())
}

/// The machine, as far as it tells.
pub(crate) fn host() -> Option<String> {
    let host = variable("HOSTNAME").or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())?;
    Some(host.trim().to_owned())
}
