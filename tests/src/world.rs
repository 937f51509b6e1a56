//! Where a test takes place.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use palfrey_host::{
    Config, Runtime,
    config::Transport,
    queue::{
        Connection,
        amqp::{Amqp, AmqpOptions},
    },
};
use palfrey_rabbitmq::Vhost;

use crate::{
    Worker,
    artifacts::{library_file, program_file},
    cache_dir, component_file, palfrey_file, soon,
};

/// A broker with nothing on it, and the binary.
#[derive(Debug, Clone)]
pub struct World {
    uri: String,
    /// It is removed with the last clone.
    _vhost: Option<Arc<Vhost>>,
    /// What its processes find in their environment beside that.
    environment: Vec<(&'static str, String)>,
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// What it printed as its result.
    pub stdout: String,
    /// Everything else that it said.
    pub stderr: String,
}

impl World {
    /// A virtual host of its own on the broker that tests share.
    ///
    /// # Panics
    /// If there is no broker and none can be started.
    pub fn new() -> Self {
        // It may start a node, which blocks: this test has nothing else to do.
        let vhost = palfrey_rabbitmq::shared_vhost().unwrap_or_else(|error| panic!("{error}"));
        let world = Self::at(vhost.uri().to_owned());
        Self { _vhost: Some(Arc::new(vhost)), ..world }
    }

    /// On some broker.
    pub fn at(uri: String) -> Self {
        Self { uri, _vhost: None, environment: Vec::new() }
    }

    /// The same one, by another way to its broker.
    pub(crate) fn moved_to(self, uri: String) -> Self {
        Self { uri, ..self }
    }

    /// The same one, on a machine whose clock on the wall jumps a day to and fro with every second. Other clocks do not.
    pub fn with_a_jumping_clock(mut self) -> Self {
        let library = library_file("jumping_clock");
        self.environment.push(("LD_PRELOAD", library.to_str().expect("it is text").to_owned()));
        self
    }

    /// A program of the tests that runs one job without an end: see `src/bin/endless.rs` for what can be endless.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_endless_program(&self, what: &str) -> Worker {
        let mut command = self.command(program_file("endless"));
        command.arg(what);
        Worker::start(&command)
    }

    /// The broker's URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A program's configuration.
    pub fn config(&self) -> Config {
        Config {
            runtime: Transport::Amqp,
            amqp_uri: self.uri.parse().expect("it is a URI"),
            cache_dir: Some(cache_dir()),
            ..Config::default()
        }
    }

    /// The runtime of a program.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn runtime(&self) -> Runtime {
        soon(Runtime::from_config(&self.config())).await.expect("the broker is there")
    }

    /// A connection for what is not meant to be done.
    ///
    /// # Panics
    /// If there is none.
    pub async fn connection(&self) -> impl Connection {
        soon(Amqp::connect(&self.uri, AmqpOptions::default())).await.expect("the broker is there")
    }

    /// A worker that takes tasks.
    ///
    /// # Panics
    /// If it does not get that far.
    pub async fn worker(&self, arguments: &[&str]) -> Worker {
        let worker = self.start_worker(arguments);
        worker.ready().await;
        worker
    }

    /// Some workers that take tasks.
    ///
    /// # Panics
    /// As [`worker`](Self::worker).
    pub async fn workers<const N: usize>(&self, arguments: &[&str]) -> [Worker; N] {
        let workers = std::array::from_fn(|_| self.start_worker(arguments));
        for worker in &workers {
            worker.ready().await;
        }
        workers
    }

    /// A worker that has been started, and may fail.
    pub fn start_worker(&self, arguments: &[&str]) -> Worker {
        self.start_worker_in(arguments, &[])
    }

    /// A worker that has been started, with rules for its [failpoints](palfrey_host::failpoint).
    pub fn start_failing_worker(&self, arguments: &[&str], failpoints: &str) -> Worker {
        self.start_worker_in(arguments, &[(palfrey_host::failpoint::VARIABLE, failpoints)])
    }

    /// A worker that has been started, with environment variables of its own.
    pub fn start_worker_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Worker {
        let mut command = self.command(palfrey_file());
        command.arg("worker").args(arguments).envs(environment.iter().copied());
        Worker::start(&command)
    }

    /// Runs `palfrey` with these arguments.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn palfrey(&self, arguments: &[&str]) -> Ran {
        self.run(palfrey_file(), arguments).await
    }

    /// Runs a program of Palfrey's with these arguments.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn run(&self, program: PathBuf, arguments: &[&str]) -> Ran {
        let mut command = tokio::process::Command::from(self.command(program));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = soon(command.output()).await.expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("it speaks UTF-8");
        Ran {
            code: output.status.code().expect("nobody kills it"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs `palfrey` with these arguments, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub async fn done(&self, arguments: &[&str]) -> String {
        let ran = self.palfrey(arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "palfrey {}", arguments.join(" "));
        ran.stdout
    }

    /// Deploys components, by the names of their packages.
    ///
    /// # Panics
    /// If that fails.
    pub async fn deploy(&self, packages: &[&str]) {
        let files = packages.iter().map(|package| component_file(package).to_str().expect("it is text").to_owned());
        let files = files.collect::<Vec<_>>();
        let arguments = std::iter::once("deploy").chain(files.iter().map(String::as_str));
        self.done(&arguments.collect::<Vec<_>>()).await;
    }

    /// A program, told by its environment where the broker is and who calls.
    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        // What the caller of the tests has set must not get in.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PALFREY_")) {
            command.env_remove(name);
        }
        command
            .env("PALFREY_AMQP_URI", &self.uri)
            .env("PALFREY_CACHE_DIR", cache_dir())
            .env("USER", "tester")
            .env("HOSTNAME", "here")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
