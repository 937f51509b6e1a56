//! What a process can be told from outside.
//!
//! [`Config`] is a set of clap arguments for a program's own:
//!
//! ```
//! use clap::Parser;
//! use palfrey_host::{Config, config::Transport};
//!
//! /// Counts words.
//! #[derive(Parser)]
//! struct Arguments {
//!     files: Vec<std::path::PathBuf>,
//!     #[command(flatten)]
//!     palfrey: Config,
//! }
//!
//! let arguments = Arguments::parse_from(["count", "--runtime", "amqp", "--limit", "text:time=10s", "a.txt"]);
//! assert_eq!(arguments.palfrey.runtime, Transport::Amqp);
//! ```

mod amqp_uri;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use palfrey_sdk::Serializer;

pub use self::amqp_uri::{AmqpUri, InvalidAmqpUri};
use crate::{
    engine::{Allowance, CompileLimits, Compiler, EngineConfig, LimitRule, LimitRules, Limits},
    presence,
    queue::{
        Durability,
        amqp::{AmqpOptions, TlsFiles},
    },
    secret::{self, ExposeSecret as _, SecretError},
};

/// How tasks travel.
///
/// ```
/// use clap::ValueEnum;
/// use palfrey_host::{Config, config::Transport};
///
/// assert_eq!(Config::default().runtime, Transport::InMemory);
/// assert_eq!(Transport::from_str("amqp", false), Ok(Transport::Amqp));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Transport {
    /// Within the process, which also holds the workers. Needs nothing installed.
    #[default]
    InMemory,
    /// Over RabbitMQ, to workers anywhere.
    Amqp,
}

/// Everything that can be configured. Each flag is also an environment variable.
///
/// [`Config::default`] reads nothing from outside: it is the in-memory runtime with one worker.
///
/// ```
/// use palfrey_host::Config;
///
/// let config = Config { slots: Some(2.try_into()?), ..Config::default() };
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct Config {
    /// How tasks travel
    #[arg(long, env = "PALFREY_RUNTIME", value_enum, default_value_t = Transport::InMemory, global = true)]
    pub runtime: Transport,

    /// Broker for `--runtime amqp`: amqp://user:password@host:port/vhost
    #[arg(long, env = "PALFREY_AMQP_URI", value_name = "URI", hide_env_values = true, default_value = AmqpUri::LOCAL, global = true)]
    pub amqp_uri: AmqpUri,

    /// File with the URI of the broker, instead of `--amqp-uri`: neither `ps` nor the environment shows it
    #[arg(long, env = "PALFREY_AMQP_URI_FILE", value_name = "FILE", global = true)]
    pub amqp_uri_file: Option<PathBuf>,

    /// File with the password for the broker, instead of one in the URI
    #[arg(long, env = "PALFREY_AMQP_PASSWORD_FILE", value_name = "FILE", global = true)]
    pub amqp_password_file: Option<PathBuf>,

    /// For amqps: the authorities that may vouch for the broker, in PEM [default: those that the system trusts]
    #[arg(long, env = "PALFREY_AMQP_CA", value_name = "FILE", global = true)]
    pub amqp_ca: Option<PathBuf>,

    /// For amqps: a client certificate, in PEM
    #[arg(long, env = "PALFREY_AMQP_CERT", value_name = "FILE", global = true)]
    pub amqp_cert: Option<PathBuf>,

    /// For amqps: the key of the client certificate, in PEM
    #[arg(long, env = "PALFREY_AMQP_KEY", value_name = "FILE", global = true)]
    pub amqp_key: Option<PathBuf>,

    /// How long to try to reach a broker that went away, before everything fails [default: for ever; of commands that only
    /// ask or change something: 30s]
    #[arg(
        long,
        env = "PALFREY_RECONNECT_TIMEOUT",
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        global = true
    )]
    pub reconnect_timeout: Option<Duration>,

    /// Channel that carries the tasks. Workers serve one; programs choose whom they speak to with it
    #[arg(long, env = "PALFREY_TASK_BUS_ROUTING_KEY", value_name = "NAME", default_value = DEFAULT_ROUTING_KEY, global = true)]
    pub task_bus_routing_key: String,

    /// Encoding of inputs and outputs: postcard or cbor
    #[arg(long, env = "PALFREY_SERIALIZER", value_name = "ENCODING", default_value_t = Serializer::Postcard, global = true)]
    pub serializer: Serializer,

    /// Whether the broker confirms every message and keeps it on disk, or a message may be lost with the broker
    #[arg(long, env = "PALFREY_DURABILITY", value_enum, default_value_t = Durability::Confirmed, global = true)]
    pub durability: Durability,

    /// Workers within the process, for `--runtime in-memory`
    #[arg(
        long,
        env = "PALFREY_WORKERS",
        value_name = "N",
        default_value_t = 1,
        help_heading = "Execution",
        global = true
    )]
    pub workers: usize,

    /// Tasks that a worker executes at once [default: number of cores]
    #[arg(long, env = "PALFREY_SLOTS", value_name = "N", help_heading = "Execution", global = true)]
    pub slots: Option<NonZeroUsize>,

    /// Tasks that a worker holds, those under execution included [default: twice the slots, more while they take less than some
    /// milliseconds, and one for each slot while they take half a second]
    #[arg(long, env = "PALFREY_PREFETCH", value_name = "N", help_heading = "Execution", global = true)]
    pub prefetch: Option<u16>,

    /// How long a worker that is told to end may go on with what it executes; after that, other workers do it again
    #[arg(
        long,
        env = "PALFREY_DRAIN_TIMEOUT",
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        default_value = DEFAULT_DRAIN_TIMEOUT,
        help_heading = "Execution",
        global = true
    )]
    pub drain_timeout: Duration,

    /// Limits of operations: `time=5s,memory=64MiB` for all, `digest/mine:time=1h` for one, `arith:output=1MiB` for a
    /// plugin's. Repeatable
    #[arg(
        long = "limit",
        env = "PALFREY_LIMITS",
        value_name = "RULE",
        value_delimiter = ';',
        help_heading = "Execution",
        global = true
    )]
    pub limits: Vec<LimitRule>,

    /// Limits of compiling one plugin: `time`, `memory`, and bytes of the `component` and of its machine `code`
    #[arg(
        long = "compile-limit",
        env = "PALFREY_COMPILE_LIMIT",
        value_name = "LIMITS",
        default_value_t,
        help_heading = "Execution",
        global = true
    )]
    pub compile_limits: CompileLimits,

    /// Where plugins are compiled: by default within the process, which is right for a program's own. A worker of a
    /// program's own that takes plugins from others should have a child process for it; `palfrey` has.
    #[arg(skip)]
    pub compiler: Compiler,

    /// Whether an engine [names guest functions](EngineConfig::perf_map) for `perf`.
    #[arg(skip)]
    pub perf_map: bool,

    /// Folder for machine code and components, so that plugins are compiled once a machine
    #[arg(long, env = "PALFREY_CACHE_DIR", value_name = "DIR", help_heading = "Execution", global = true)]
    pub cache_dir: Option<PathBuf>,

    /// Execute only plugins that one of these keys has signed: a public key of minisign, or a folder of files `*.pub`.
    /// Repeatable; in the environment with `:` between them [default: execute everything]
    #[arg(
        long,
        env = "PALFREY_TRUST",
        value_name = "KEYFILE",
        value_delimiter = ':',
        help_heading = "Execution",
        global = true
    )]
    pub trust: Vec<PathBuf>,

    /// What operations may have of this machine, if they need it and were granted it: `clocks`, `entropy`, `env:NAME`,
    /// `dir:/path` to read from, or `dir:/path=/path/here`. Repeatable; in the environment with `;` between them [default: nothing]
    #[arg(
        long,
        env = "PALFREY_ALLOW",
        value_name = "CAPABILITY",
        value_delimiter = ';',
        help_heading = "Execution",
        global = true
    )]
    pub allow: Vec<Allowance>,
}

/// Name of the channel that carries the tasks, unless another one is configured.
pub const DEFAULT_ROUTING_KEY: &str = "default";

/// Shorter than the 30 seconds that Kubernetes and others leave a container between the request and the kill.
const DEFAULT_DRAIN_TIMEOUT: &str = "25s";

impl Default for Config {
    fn default() -> Self {
        Self {
            runtime: Transport::InMemory,
            amqp_uri: AmqpUri::default(),
            amqp_uri_file: None,
            amqp_password_file: None,
            amqp_ca: None,
            amqp_cert: None,
            amqp_key: None,
            reconnect_timeout: None,
            task_bus_routing_key: DEFAULT_ROUTING_KEY.to_owned(),
            serializer: Serializer::Postcard,
            durability: Durability::Confirmed,
            workers: 1,
            slots: None,
            prefetch: None,
            drain_timeout: Duration::from_secs(25),
            limits: Vec::new(),
            compile_limits: CompileLimits::default(),
            compiler: Compiler::default(),
            perf_map: false,
            cache_dir: None,
            trust: Vec::new(),
            allow: Vec::new(),
        }
    }
}

impl Config {
    /// Tasks that a worker executes at once: as configured, or the number of cores.
    pub fn slots(&self) -> NonZeroUsize {
        self.slots.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    /// Tasks that a worker holds: as configured, or twice the slots, so that a slot finds its next task at hand.
    pub fn prefetch(&self) -> u16 {
        self.prefetch.unwrap_or_else(|| u16::try_from(self.slots().get() * 2).unwrap_or(u16::MAX)).max(1)
    }

    /// The broker, with what files hold of its address.
    ///
    /// # Errors
    /// If a file cannot be read, or holds no address.
    pub fn broker(&self) -> Result<AmqpUri, BrokerError> {
        let mut uri = match &self.amqp_uri_file {
            Some(path) => secret::read(path)?.expose_secret().trim().parse()?,
            None => self.amqp_uri.clone(),
        };
        if let Some(path) = &self.amqp_password_file {
            uri = uri.with_password(&secret::read(path)?)?;
        }
        Ok(uri)
    }

    /// How to connect to the broker.
    pub fn amqp_options(&self) -> AmqpOptions {
        let (ca, certificate, key) = (self.amqp_ca.clone(), self.amqp_cert.clone(), self.amqp_key.clone());
        let tls = TlsFiles { ca, certificate, key };
        AmqpOptions { durability: self.durability, tls, patience: self.reconnect_timeout, ..AmqpOptions::default() }
    }

    /// The engine of a worker.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            slots: self.slots().get(),
            cache_dir: self.cache_dir.clone(),
            limits: LimitRules::new(Limits::default(), self.limits.iter().cloned()),
            compiler: self.compiler.clone(),
            compile_limits: self.compile_limits,
            perf_map: self.perf_map,
        }
    }

    /// The engine of a process that only checks components before it deploys them.
    pub fn checking_engine(&self) -> EngineConfig {
        EngineConfig { slots: 1, ..self.engine() }
    }

    /// Who deploys, for the history of the registry: the user and the machine, as far as the environment tells.
    pub fn who(&self) -> String {
        let user = presence::user();
        presence::host().map_or_else(|| user.clone(), |host| format!("{user}@{host}"))
    }
}

/// The broker's address cannot be put together.
///
/// ```
/// use palfrey_host::{Config, config::BrokerError};
///
/// let config = Config { amqp_uri_file: Some("/nowhere".into()), ..Config::default() };
/// assert!(matches!(config.broker(), Err(BrokerError::Secret(_))));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A file cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It is no address.
    #[error(transparent)]
    Uri(#[from] InvalidAmqpUri),
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, process::Command};

    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn a_password_is_never_printed() {
        let program = Program::parse_from(["program", "--amqp-uri", "amqp://ada:s3cret@host:5672/jobs"]);
        assert_eq!(program.config.amqp_uri.expose(), "amqp://ada:s3cret@host:5672/jobs");
        for printed in [format!("{program:?}"), format!("{:#?}", program.config), program.config.amqp_uri.to_string()] {
            assert!(!printed.contains("s3cret"), "{printed}");
            assert!(printed.contains("ada:…@host:5672"), "{printed}");
        }
    }

    #[test]
    fn address_and_password_come_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let (uri, password) = (folder.path().join("uri"), folder.path().join("password"));
        std::fs::write(&uri, "amqp://ada@host:5672/jobs\n").unwrap();
        std::fs::write(&password, "s3cret: p@ss/word?\n").unwrap();
        let config = Config {
            amqp_uri_file: Some(uri.clone()),
            amqp_password_file: Some(password.clone()),
            ..Config::default()
        };
        let broker = config.broker().unwrap();
        let parsed = url::Url::parse(broker.expose()).unwrap();
        assert_eq!((parsed.username(), parsed.host_str()), ("ada", Some("host")));
        assert_eq!(parsed.password(), Some("s3cret%3A%20p%40ss%2Fword%3F"));
        assert!(!format!("{config:?} {broker:?} {broker}").contains("s3cret"));

        std::fs::write(&uri, "s3cret without a scheme").unwrap();
        let error = config.broker().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        std::fs::remove_file(&password).unwrap();
        let error = Config { amqp_password_file: Some(password), ..Config::default() }.broker().unwrap_err();
        assert!(error.to_string().starts_with("cannot read the secret in "), "{error}");
    }

    #[test]
    fn the_default_is_what_the_flags_default_to() {
        let parsed = Program::parse_from(["program"]).config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn every_flag_is_an_environment_variable_by_its_name() {
        let arguments = Program::command();
        let flags = arguments.get_arguments().filter_map(|argument| Some((argument.get_long()?, argument.get_env())));
        for (flag, variable) in flags {
            let expected = match flag {
                // Several of them are one value.
                "limit" => "PALFREY_LIMITS".to_owned(),
                flag => format!("PALFREY_{}", flag.to_uppercase().replace('-', "_")),
            };
            assert_eq!(variable, Some(expected.as_ref()), "--{flag}");
        }
    }

    /// For the test below, which calls it in processes of their own.
    #[test]
    fn print_the_default() {
        println!("\nthe default is {:?}", Config::default());
    }

    #[test]
    fn the_default_is_the_same_whatever_the_environment_says() {
        let of = |variables: &[(&OsStr, &str)]| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "config::tests::print_the_default", "--nocapture"]);
            let output = command.env_clear().envs(variables.iter().copied()).output().unwrap();
            let output = String::from_utf8(output.stdout).unwrap();
            let default = output.lines().find(|line| line.starts_with("the default is"));
            default.unwrap_or_else(|| panic!("{output}")).to_owned()
        };
        let arguments = Program::command();
        let set: Vec<_> = arguments.get_arguments().filter_map(|it| Some((it.get_env()?, "7"))).collect();
        assert!(set.len() > 10, "{set:?}");
        assert_eq!(of(&set), of(&[]));
    }
}
