//! What the user sees: results on stdout, the log and failures on stderr.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{self, Write as _},
    time::{Duration, SystemTime},
};

use clap::{ValueEnum, builder::styling::Style};
use comfy_table::{Attribute, Cell, Table, TableStyle, presets};
use palfrey_host::engine::Capability;
use tracing::Level;
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::{Cli, Command, Failure};

/// Form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For machines: an object a line
    Json,
}

/// It calls an error what the queues expect and deal with, and they tell what a user has to know: silent unless it is
/// asked for.
const CLIENT_LIBRARY: &str = "lapin";

pub(super) fn start_log(cli: &Cli) {
    let default = match (cli.quiet, &cli.command) {
        (true, _) => LevelFilter::ERROR,
        (false, Command::Worker(_)) => LevelFilter::INFO,
        (false, _) => LevelFilter::WARN,
    };
    let filter = EnvFilter::builder().with_default_directive(default.into());
    let wanted = cli.log.as_deref().unwrap_or_default();
    let mut filter = filter.parse_lossy(wanted);
    if !wanted.contains(CLIENT_LIBRARY) {
        filter = filter.add_directive(format!("{CLIENT_LIBRARY}=off").parse().expect("it is a directive"));
    }
    // Whoever read stderr may go away: a worker does its work all the same. Reporting that would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    // At that level the client library shows each frame that it sends, and one of them holds the password.
    let no_frames = filter_fn(|event| *event.level() < Level::TRACE || !event.target().starts_with(CLIENT_LIBRARY));
    match cli.log_format {
        LogFormat::Text => log.with_ansi(colours(&io::stderr())).finish().with(no_frames).init(),
        LogFormat::Json => log.json().finish().with(no_frames).init(),
    }
}

/// Whether to use colours: on terminals whose user does not mind (<https://no-color.org>).
fn colours(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a result. Whoever stopped reading it, as `head` does, has seen enough.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Internal(error.into())),
        _ => Ok(()),
    }
}

/// Prints a result for machines.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// A failure and its causes, each on a line.
pub(super) fn show_failure(failure: &Failure) {
    let (mark, reset) = if colours(&io::stderr()) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{mark}error{reset}: {failure}\n");
    let mut cause = failure.source();
    while let Some(error) = cause {
        text.push_str(&format!("  because {error}\n"));
        cause = error.source();
    }
    // There is nowhere left to tell of a failure of this.
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// A heading on a terminal.
pub(super) fn heading(text: &str) -> String {
    if colours(&io::stdout()) {
        let bold = Style::new().bold();
        format!("{bold}{text}{bold:#}")
    } else {
        text.to_owned()
    }
}

/// A table without lines, which people can read and `awk` can split.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    const STYLE: TableStyle = presets::NOTHING;
    let mut table = Table::new();
    table.load_style(STYLE);
    if colours(&io::stdout()) {
        table.enforce_styling();
        table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    } else {
        table.force_no_tty();
        table.set_header(header);
    }
    table
}

/// When something began that is there for so long, in UTC.
#[expect(clippy::disallowed_methods, reason = "it is shown, and decides nothing")]
pub(super) fn since(age: Duration) -> String {
    let began = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(began).to_string()
}

/// A duration for people, to the second.
pub(super) fn duration(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string().replace(' ', "")
}

/// Names of capabilities: `clocks, env:LANG`.
pub(super) fn names(capabilities: &BTreeSet<Capability>) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}
