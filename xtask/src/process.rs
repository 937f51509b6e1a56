//! Runs other programs, and ends them.
//!
//! Each program leads a process group of its own: Ctrl-C reaches this process alone, which passes it on to every group and
//! waits for them, so that nothing that was started stays behind. A second Ctrl-C kills them.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Somebody pressed Ctrl-C, or sent SIGTERM.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; everything that was started has been stopped")]
pub(crate) struct Interrupted;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Leaders of the groups that run. Programs start while this is locked, so that a signal reaches each of them.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// How long a program may take to end once it is asked to.
const GRACE: Duration = Duration::from_secs(15);

/// Passes Ctrl-C and its like on to all programs from now on.
pub(crate) fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for Ctrl-C")?;
    thread::spawn(move || {
        let mut signal = Signal::TERM;
        for _ in &mut signals {
            INTERRUPTED.store(true, Ordering::SeqCst);
            for &group in &*groups() {
                send(group, signal);
            }
            signal = Signal::KILL;
        }
    });
    Ok(())
}

/// Fails once Ctrl-C was pressed.
pub(crate) fn check_interrupted() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err(Interrupted.into()) } else { Ok(()) }
}

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The only failure is that the group has ended already, which is what is wanted.
fn send(group: Pid, signal: Signal) {
    kill_process_group(group, signal).ok();
}

/// A program with its arguments, and how a person would type it.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    typed: String,
}

impl Program {
    /// A program by its path, or by its name in the search path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        Self::typed_as(program, &program.to_string_lossy())
    }

    /// A program whose path is not what a person would type.
    pub(crate) fn typed_as(program: impl AsRef<OsStr>, typed: &str) -> Self {
        Self { command: Command::new(program), typed: quoted(typed) }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.typed.push(' ');
            self.typed.push_str(&quoted(&argument.as_ref().to_string_lossy()));
            self.command.arg(argument);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.typed = format!("{name}={} {}", quoted(&value.as_ref().to_string_lossy()), self.typed);
        self.command.env(name, value);
        self
    }

    /// To be repeated in another way than by typing it.
    pub(crate) fn repeated_by(mut self, typed: String) -> Self {
        self.typed = typed;
        self
    }

    /// As [`env`](Self::env), for what a person who repeats the command does without.
    pub(crate) fn env_unseen(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes variables that this program's own start has left behind.
    pub(crate) fn without_env(mut self, unwanted: impl Fn(&str) -> bool) -> Self {
        let names = std::env::vars_os().map(|(name, _)| name);
        for name in names.filter(|name| unwanted(&name.to_string_lossy())).collect::<Vec<OsString>>() {
            self.command.env_remove(name);
        }
        self
    }

    pub(crate) fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Whether it can be run and succeeds, silently.
    pub(crate) fn succeeds(mut self) -> Result<bool> {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        match self.start() {
            Ok(running) => Ok(running.wait()?.success()),
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Runs it to its end; what it prints goes where ours goes.
    pub(crate) fn run(mut self) -> Result<()> {
        let running = self.start()?;
        self.check(running.wait()?)
    }

    /// Runs it to its end, and returns what it printed on standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        self.command.stdout(Stdio::piped());
        let mut running = self.start()?;
        let mut output = String::new();
        if let Some(mut stdout) = running.child.stdout.take() {
            stdout.read_to_string(&mut output).with_context(|| format!("cannot read what `{}` prints", self.typed))?;
        }
        self.check(running.wait()?)?;
        Ok(output)
    }

    /// Runs it to its end, and shows each line that it prints, also to `watch`. Returns whether it succeeded, as a result of
    /// its own: the first one is about running it at all.
    pub(crate) fn watched(mut self, mut watch: impl FnMut(&str)) -> Result<Result<()>> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = self.start()?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = running.child.stdout.take() {
            forward_lines(stdout, sender.clone());
        }
        if let Some(stderr) = running.child.stderr.take() {
            forward_lines(stderr, sender);
        }
        let mut shown = io::stderr().lock();
        for line in lines {
            // Nobody may be reading any more; the outcome still counts.
            writeln!(shown, "{line}").ok();
            watch(&line);
        }
        Ok(self.check(running.wait()?))
    }

    /// Starts it, and lets it run until the returned value is dropped. What it prints goes to a file.
    pub(crate) fn in_background(mut self, log: &Path) -> Result<Running> {
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let copy = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        self.command.stdout(file).stderr(copy);
        self.start()
    }

    fn start(&mut self) -> Result<Running> {
        self.command.stdin(Stdio::null()).process_group(0);
        let mut groups = groups();
        check_interrupted()?;
        let child = self.command.spawn().with_context(|| format!("cannot run `{}`", self.typed))?;
        let group = Pid::from_child(&child);
        groups.push(group);
        Ok(Running { child, group, ended: false })
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        check_interrupted()?;
        if !status.success() {
            bail!("this failed ({status}); repeat it with:\n  {}", self.typed);
        }
        Ok(())
    }
}

/// As a shell would need it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn forward_lines(output: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
}

/// A program that runs. Dropping it asks its group to end, and kills what does not.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Pid,
    ended: bool,
}

impl Running {
    fn wait(mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot wait for the end of a program")?;
        self.ended = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            send(self.group, Signal::TERM);
            thread::scope(|scope| {
                let (sender, ended) = mpsc::channel();
                let child = &mut self.child;
                scope.spawn(move || {
                    child.wait().ok();
                    sender.send(()).ok();
                });
                if ended.recv_timeout(GRACE).is_err() {
                    send(self.group, Signal::KILL);
                }
            });
        }
        groups().retain(|&group| group != self.group);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let program = Program::new("cargo").args(["clippy", "--", "-D", "warnings"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(program.typed, "RUSTDOCFLAGS='-D warnings' cargo clippy -- -D warnings");
        assert_eq!(Program::new("echo").args(["don't", ""]).typed, r"echo 'don'\''t' ''");
    }

    #[test]
    fn a_failure_says_how_to_repeat_it() {
        let error = Program::new("sh").args(["-c", "exit 3"]).run().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("sh -c 'exit 3'"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = Program::new("no-such-program").run().unwrap_err().to_string();
        assert!(error.contains("`no-such-program`"), "{error}");
        assert!(!Program::new("no-such-program").succeeds().unwrap());
    }

    #[test]
    fn lines_of_both_outputs_are_seen() {
        let mut lines = Vec::new();
        let script = "echo out; echo err >&2; exit 1";
        let outcome = Program::new("sh").args(["-c", script]).watched(|line| lines.push(line.to_owned())).unwrap();
        assert!(outcome.is_err());
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
    }

    #[test]
    fn dropping_ends_the_whole_group() {
        let mut program = Program::new("sh").args(["-c", "sleep 1000 & echo started; wait"]);
        program.command.stdout(Stdio::piped());
        let mut running = program.start().unwrap();
        let mut output = BufReader::new(running.child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        let started = Instant::now();
        drop(running);
        // The end of the output: nobody has it open any more, the sleeper included.
        output.read_to_string(&mut line).unwrap();
        assert!(started.elapsed() < GRACE);
    }
}
