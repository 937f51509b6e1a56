//! Private RabbitMQ nodes for tests and the demo.
//!
//! A [`Node`] has its own name, free ports on the loopback interface, its own epmd and its own folder, so that any number
//! of them run side by side and next to a broker that the machine has anyway. It is gone, with its data, when its owner
//! drops it or dies, in whatever way: a keeper (`keeper.sh`) holds the other end of a pipe and cleans up when it closes.
//!
//! Tests that only need *a* broker take [`shared_uri`]; those that stop, kill or restart it start a node of their own.
//! Everything here blocks.

mod error;
mod install;
mod run;

use std::{
    env,
    fs::{self, File, TryLockError},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

pub use error::NodeError;
use install::Install;
use run::Run;

/// Names a broker that is there for the whole test suite.
pub const URI_VARIABLE: &str = "PALFREY_TEST_AMQP_URI";

const USER: &str = "palfrey";
const PASSWORD: &str = "palfrey";
const KEEPER: &str = include_str!("keeper.sh");

/// How a node is to run. Everything has a default.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    name: Option<String>,
    port: Option<u16>,
    folder: Option<PathBuf>,
    configuration: String,
    advanced: Vec<String>,
}

impl NodeOptions {
    /// A name that nobody else uses, free ports, a folder under `target/rabbitmq`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The node's name: lower-case letters, digits, `-` and `_`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The port on which it listens for AMQP.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Where the folder with its data is created; it has the node's name.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// A line for `rabbitmq.conf`, such as `consumer_timeout = 1000`.
    pub fn configuration(mut self, line: &str) -> Self {
        self.configuration.push_str(line);
        self.configuration.push('\n');
        self
    }

    /// A setting for `advanced.config`, where `rabbitmq.conf` has none, such as `{channel_tick_interval, 1000}`.
    pub fn advanced(mut self, setting: &str) -> Self {
        self.advanced.push(setting.to_owned());
        self
    }

    /// Starts the node and waits until it accepts connections: about three seconds.
    ///
    /// # Errors
    /// If RabbitMQ is not installed, the port or the name is in use, or the node does not start.
    pub fn start(self) -> Result<Node, NodeError> {
        let install = Install::find()?;
        let name = self.name.unwrap_or_else(unique_name);
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(NodeError::Name(name));
        }
        let folder = self.folder.unwrap_or_else(default_folder);
        fs::create_dir_all(&folder).map_err(NodeError::io(format!("create {}", folder.display())))?;
        let folder = folder.canonicalize().map_err(NodeError::io(format!("open {}", folder.display())))?.join(&name);
        let lock = lock(&name, &folder)?;
        fs::create_dir_all(&folder).map_err(NodeError::io(format!("create {}", folder.display())))?;
        let ports = Ports::choose(self.port)?;
        let node = Node { name, folder, install, ports, _lock: lock, run: Mutex::new(None) };
        node.write("rabbitmq.conf", &format!("{}{}", node.configuration(), self.configuration))?;
        node.write("advanced.config", &format!("[{{rabbit, [{}]}}].\n", self.advanced.join(", ")))?;
        node.write("enabled_plugins", "[].\n")?;
        node.launch()?;
        Ok(node)
    }
}

/// A RabbitMQ node of one's own. Dropping it stops it and removes its data.
///
/// ```no_run
/// # fn main() -> Result<(), palfrey_rabbitmq::NodeError> {
/// let node = palfrey_rabbitmq::Node::start()?;
/// println!("{}", node.uri());
/// node.kill()?; // what was persistent survives
/// node.restart()?; // on the same port
/// println!("{}", node.ctl(["list_queues", "name", "messages"])?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    install: Install,
    ports: Ports,
    /// Held as long as the node may run, so that nobody else starts one of this name in the same place.
    _lock: File,
    run: Mutex<Option<Run>>,
}

impl Node {
    /// Starts a node with a name that nobody else uses, on free ports.
    ///
    /// # Errors
    /// If RabbitMQ is not installed, or the node does not start.
    pub fn start() -> Result<Self, NodeError> {
        NodeOptions::new().start()
    }

    /// The URI of its default virtual host, with user and password.
    pub fn uri(&self) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// The port on which it listens for AMQP, on the loopback interface.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Its name, without the host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its configuration and its data are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Shuts it down in order, and waits for that. Its data stays for a [`restart`](Self::restart).
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&self) -> Result<(), NodeError> {
        self.take_run()?.stop()
    }

    /// Kills it at once, as a power cut would. Its data stays for a [`restart`](Self::restart).
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> Result<(), NodeError> {
        self.take_run()?.kill()
    }

    /// Starts it again with its data and on its port; shuts it down before if it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&self) -> Result<(), NodeError> {
        if let Ok(run) = self.take_run() {
            run.stop()?;
        }
        self.launch()
    }

    /// Runs `rabbitmqctl` against it, and returns what it printed. Takes about a second.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn ctl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String, NodeError> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let mut command = Command::new(&self.install.ctl);
        self.environment(&mut command);
        let output = command
            .args(["--node", &self.full_name(), "--quiet"])
            .args(&arguments)
            .output()
            .map_err(NodeError::io("run rabbitmqctl"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(NodeError::Ctl { arguments: arguments.join(" "), message })
    }

    fn take_run(&self) -> Result<Run, NodeError> {
        let run = self.run.lock().expect("nothing panics while it holds the lock").take();
        run.ok_or_else(|| NodeError::NotRunning(self.name.clone()))
    }

    fn launch(&self) -> Result<(), NodeError> {
        // Asked here, since RabbitMQ's own complaint is a page of Erlang.
        self.ports.check_amqp()?;
        let mut command = Command::new("sh");
        self.environment(&mut command);
        command.args(["-c", KEEPER, "keeper"]).arg(&self.folder).arg(&self.install.epmd).arg(&self.install.server);
        let run = Run::start(&self.name, command)?;
        *self.run.lock().expect("nothing panics while it holds the lock") = Some(run);
        Ok(())
    }

    fn full_name(&self) -> String {
        format!("{}@localhost", self.name)
    }

    fn configuration(&self) -> String {
        let Ports { amqp, .. } = self.ports;
        format!(
            "listeners.tcp.default = 127.0.0.1:{amqp}\n\
             default_user = {USER}\n\
             default_pass = {PASSWORD}\n\
             log.file = node.log\n\
             log.console = true\n\
             log.console.level = warning\n\
             disk_free_limit.absolute = 50MB\n"
        )
    }

    fn environment(&self, command: &mut Command) {
        // What a surrounding broker or shell has set must not get in.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RABBITMQ_")) {
            command.env_remove(name);
        }
        let Ports { epmd, distribution, .. } = self.ports;
        command
            .env("HOME", &self.folder) // the Erlang cookie is in it
            .env("ERL_EPMD_PORT", epmd.to_string())
            .env("RABBITMQ_NODENAME", self.full_name())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("none"))
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.folder.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("data"))
            .env("RABBITMQ_LOG_BASE", self.folder.join("log"))
            .env("RABBITMQ_PID_FILE", self.folder.join("pid"))
            // The script then becomes the node, instead of a parent of it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            // Idle schedulers that spin would take the processor from whatever is tested.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            );
    }

    fn write(&self, file: &str, text: &str) -> Result<(), NodeError> {
        let path = self.folder.join(file);
        fs::write(&path, text).map_err(NodeError::io(format!("write {}", path.display())))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.take_run());
        // The keeper has removed it if the node was running.
        fs::remove_dir_all(&self.folder).ok();
        fs::remove_file(lock_path(&self.folder)).ok();
    }
}

/// The URI of a broker that tests share: the one that [`URI_VARIABLE`] names, or else a node that is started at the first
/// call and lives as long as this process. Tests keep apart by unique names of queues.
///
/// # Errors
/// As [`Node::start`].
pub fn shared_uri() -> Result<String, NodeError> {
    static SHARED: Mutex<Option<Node>> = Mutex::new(None);

    if let Ok(uri) = env::var(URI_VARIABLE) {
        return Ok(uri);
    }
    let mut shared = SHARED.lock().expect("nothing panics while it holds the lock");
    match &*shared {
        Some(node) => Ok(node.uri()),
        None => Ok(shared.insert(Node::start()?).uri()),
    }
}

#[derive(Debug)]
struct Ports {
    amqp: u16,
    epmd: u16,
    distribution: u16,
}

impl Ports {
    fn choose(amqp: Option<u16>) -> Result<Self, NodeError> {
        // All three are held until all three are known, or they might be the same.
        let free =
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let listeners = [free(), free(), free()].into_iter().collect::<Result<Vec<_>, _>>();
        let listeners = listeners.map_err(NodeError::io("find free ports"))?;
        let [first, second, third] = [0, 1, 2].map(|index: usize| listeners[index].0.port());
        Ok(Self { amqp: amqp.unwrap_or(first), epmd: second, distribution: third })
    }

    fn check_amqp(&self) -> Result<(), NodeError> {
        let port = self.amqp;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|_| NodeError::PortInUse { port })
    }
}

fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("palfrey-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn default_folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")).join("rabbitmq")
}

/// Next to the folder, since the folder is removed while the lock is held.
fn lock_path(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

fn lock(name: &str, folder: &Path) -> Result<File, NodeError> {
    let path = lock_path(folder);
    let file = File::create(&path).map_err(NodeError::io(format!("create {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(NodeError::NameInUse { name: name.to_owned(), folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(NodeError::io(format!("lock {}", path.display()))(source)),
    }
}
