//! Private RabbitMQ nodes for tests and the demo.
//!
//! A [`Node`] has its own name, free ports on the loopback interface, its own epmd and its own folder, so that any number
//! of them run side by side and next to a broker that the machine has anyway. It is gone, with its data, when its owner
//! drops it or dies, in whatever way: a keeper (`keeper.sh`) holds the other end of a pipe and cleans up when it closes.
//!
//! Tests that only need *a* broker take [`shared_uri`], and [`shared_vhost`] if names on it would collide; those that stop,
//! kill or restart it start a node of their own.
//! Everything here blocks.

mod error;
mod install;
mod run;
mod site;

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

pub use error::NodeError;
use install::Install;
use run::Run;
use site::{Ports, Site};

/// Names a broker that is there for the whole test suite.
pub const URI_VARIABLE: &str = "PALFREY_TEST_AMQP_URI";

/// Erlang, evaluated before anything else starts. A module that is loaded when it is first called for costs a search through
/// all folders and a copy of the table of everything exported, a thousand times in a start of RabbitMQ. Those that an
/// earlier node had in the end are loaded together, which takes half as long. What is not there any more is left out. A node
/// starts an Erlang of its own, with a name, to make sure that there is an epmd: that one needs none of them.
const LOAD_AT_ONCE: &str = "\
    case {init:get_argument(sname), file:consult(os:getenv(\"PALFREY_MODULES\"))} of \
        {error, {ok, [Names]}} -> code:ensure_modules_loaded(Names); \
        _ -> none \
    end.";

/// Notes them, in a file that is there as a whole or not at all.
const NOTE_MODULES: &str = "\
    File = os:getenv(\"PALFREY_MODULES\"), Own = File ++ os:getpid(), \
    ok = file:write_file(Own, io_lib:format(\"~p.~n\", [[Name || {Name, _} <- code:all_loaded()]])), \
    file:rename(Own, File)";

const KEEPER: &str = include_str!("keeper.sh");

/// How a node is to run. Everything has a default.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    name: Option<String>,
    port: Option<u16>,
    folder: Option<PathBuf>,
    configuration: String,
    advanced: Vec<String>,
    tls: Option<(PathBuf, bool)>,
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

    /// Listens for TLS as well. The folder holds, in PEM, `server.pem` and `server.key`, and `ca.pem`, who vouches for
    /// clients. Whoever has no certificate is let in only if none is required.
    pub fn tls(mut self, folder: &Path, require_client_certificate: bool) -> Self {
        self.tls = Some((folder.to_owned(), require_client_certificate));
        self
    }

    /// A setting for `advanced.config`, where `rabbitmq.conf` has none, such as `{channel_tick_interval, 1000}`.
    pub fn advanced(mut self, setting: &str) -> Self {
        self.advanced.push(setting.to_owned());
        self
    }

    /// Starts the node and waits until it accepts connections: some seconds.
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
        let site = Site { name, folder, install, ports };
        let tls = self.tls.map(|(folder, require)| site.tls_configuration(&folder, require)).unwrap_or_default();
        site.prepare(&format!("{tls}{}", self.configuration), &self.advanced)?;
        let node = Node { site, _lock: lock, run: Mutex::new(None) };
        node.launch()?;
        Ok(node)
    }
}

/// What a node can be short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Memory, of which it may use a fraction.
    Memory,
    /// Free space on the disk.
    Disk,
}

impl Resource {
    fn more_than_there_is(self) -> &'static str {
        match self {
            Self::Memory => "vm_memory_monitor:set_vm_memory_high_watermark(0.0001)",
            Self::Disk => "rabbit_disk_monitor:set_disk_free_limit(\"100000GB\")",
        }
    }

    fn little(self) -> &'static str {
        match self {
            Self::Memory => "vm_memory_monitor:set_vm_memory_high_watermark(0.9)",
            Self::Disk => "rabbit_disk_monitor:set_disk_free_limit(\"50MB\")",
        }
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
    site: Site,
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
        self.site.uri("%2f")
    }

    /// The port on which it listens for AMQP, on the loopback interface.
    pub fn port(&self) -> u16 {
        self.site.ports.amqp
    }

    /// The port on which it listens for TLS, if it was [told to](NodeOptions::tls).
    pub fn tls_port(&self) -> u16 {
        self.site.ports.tls
    }

    /// Its name, without the host.
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// Where its configuration and its data are.
    pub fn folder(&self) -> &Path {
        &self.site.folder
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
        self.site.ctl(arguments)
    }

    /// Evaluates an Erlang expression in the node, and returns what it printed. Its value has to be `ok`. Takes
    /// milliseconds, where [`ctl`](Self::ctl) starts an Erlang of its own.
    ///
    /// # Errors
    /// If the node cannot be reached, or the expression fails or has another value, with what was said.
    pub fn evaluate(&self, expression: &str) -> Result<String, NodeError> {
        self.site.evaluate(expression)
    }

    /// Lets the node write down which queues there are. It does so within a second or so by itself: killed before that, it has
    /// forgotten them.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn sync(&self) -> Result<(), NodeError> {
        self.evaluate("mnesia:sync_log(), lists:foreach(fun dets:sync/1, dets:all()), ok").map(drop)
    }

    /// Makes the node believe that it is short of something: it takes no more messages, and lets publishers wait.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn raise_alarm(&self, of: Resource) -> Result<(), NodeError> {
        self.evaluate(of.more_than_there_is()).map(drop)
    }

    /// Ends what [`raise_alarm`](Self::raise_alarm) began.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn clear_alarm(&self, of: Resource) -> Result<(), NodeError> {
        self.evaluate(of.little()).map(drop)
    }

    /// Makes a virtual host that its user may use, and returns its URI.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn add_vhost(&self, name: &str) -> Result<String, NodeError> {
        self.site.add_vhost(name)
    }

    fn take_run(&self) -> Result<Run, NodeError> {
        let run = self.run.lock().expect("nothing panics while it holds the lock").take();
        run.ok_or_else(|| NodeError::NotRunning(self.site.name.clone()))
    }

    fn launch(&self) -> Result<(), NodeError> {
        // Asked here, since RabbitMQ's own complaint is a page of Erlang.
        let Site { name, folder, install, ports } = &self.site;
        ports.check_amqp()?;
        let mut command = Command::new("sh");
        self.site.environment(&mut command);
        let modules = default_folder().join("modules");
        command.env("ERL_AFLAGS", format!("-eval '{LOAD_AT_ONCE}'")).env("PALFREY_MODULES", &modules);
        command.args(["-c", KEEPER, "keeper"]).arg(folder).arg(&install.epmd).arg(&install.server);
        let run = Run::start(name, command)?;
        if !modules.exists() {
            self.evaluate(NOTE_MODULES)?;
        }
        *self.run.lock().expect("nothing panics while it holds the lock") = Some(run);
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.take_run());
        // The keeper has removed it if the node was running.
        fs::remove_dir_all(&self.site.folder).ok();
        fs::remove_file(lock_path(&self.site.folder)).ok();
    }
}

/// The URI of a broker that tests share: the one that [`URI_VARIABLE`] names, or else a node that is started at the first
/// call and lives as long as this process. Tests keep apart by unique names of queues.
///
/// # Errors
/// As [`Node::start`].
pub fn shared_uri() -> Result<String, NodeError> {
    match env::var(URI_VARIABLE) {
        Ok(uri) => Ok(uri),
        Err(_) => on_own_node(|node| Ok(node.uri())),
    }
}

/// A virtual host that nobody else uses. Dropping it removes it, and all that is on it: queues that nobody uses would cost the
/// broker of a test suite a tenth of a processor in the end.
#[derive(Debug)]
pub struct Vhost {
    name: String,
    uri: String,
}

impl Vhost {
    /// Its URI, with user and password.
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let removal = format!("rabbit_vhost:delete(<<\"{}\">>, <<\"a test\">>), ok", self.name);
        // It goes with the node, if not now.
        evaluate_at(&self.uri, &removal).ok();
    }
}

/// A new virtual host on a broker that tests share: on the one that [`URI_VARIABLE`] names if it is a node that this package
/// started, be it in another process, and else as [`shared_uri`].
///
/// # Errors
/// As [`Node::start`] and [`Node::add_vhost`].
pub fn shared_vhost() -> Result<Vhost, NodeError> {
    let name = unique_name();
    let named = env::var(URI_VARIABLE).ok();
    let uri = match named.map(|uri| Site::find(&default_folder(), &uri)).transpose()?.flatten() {
        Some(site) => site.add_vhost(&name),
        None => on_own_node(|node| node.add_vhost(&name)),
    }?;
    Ok(Vhost { name, uri })
}

/// Evaluates an Erlang expression in the node of a URI, one that this package started in its usual folder, be it in another
/// process. Returns what it printed.
///
/// # Errors
/// [`NodeError::Unknown`] if there is no such node, and as [`Node::evaluate`].
pub fn evaluate_at(uri: &str, expression: &str) -> Result<String, NodeError> {
    let broker = uri.rsplit_once('/').map_or(uri, |(broker, _)| broker);
    let site = Site::find(&default_folder(), &format!("{broker}/%2f"))?;
    site.ok_or(NodeError::Unknown)?.evaluate(expression)
}

/// Does something with the node that this process shares, and starts it for that.
fn on_own_node(action: impl FnOnce(&Node) -> Result<String, NodeError>) -> Result<String, NodeError> {
    static SHARED: Mutex<Option<Arc<Node>>> = Mutex::new(None);

    let node = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(node) => node.clone(),
            None => shared.insert(Arc::new(Node::start()?)).clone(),
        }
    };
    action(&node)
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
