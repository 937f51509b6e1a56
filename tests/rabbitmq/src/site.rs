//! Where a node is and how it is spoken to, whether or not this process runs it.

use std::{
    env, fmt,
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{NodeError, install::Install};

/// Of `erl_call`, by this process.
static CALLS: AtomicU32 = AtomicU32::new(0);

const USER: &str = "palfrey";
const PASSWORD: &str = "palfrey";

/// Where ports are looked for: below those that Linux gives to whoever connects (from 32,768). A node that is away for a while
/// would find its own taken by a client otherwise; one that tries again and again to reach it may even be connected to itself.
const FIRST_PORT: u16 = 10_240;
const BLOCKS: u16 = 5_000;

/// The file in a node's folder by which other processes find it.
const PORTS: &str = "ports";

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) install: Install,
    pub(crate) ports: Ports,
}

impl Site {
    /// The node with a URI, if it has its folder in `parent`.
    pub(crate) fn find(parent: &Path, uri: &str) -> Result<Option<Self>, NodeError> {
        let Ok(folders) = fs::read_dir(parent) else { return Ok(None) };
        for folder in folders.flatten().map(|entry| entry.path()) {
            let ports = fs::read_to_string(folder.join(PORTS)).ok().and_then(|text| Ports::parse(&text));
            let (Some(ports), Some(name)) = (ports, folder.file_name().and_then(|name| name.to_str())) else {
                continue;
            };
            let site = Self { name: name.to_owned(), install: Install::find()?, ports, folder };
            if site.uri("%2f") == uri {
                return Ok(Some(site));
            }
        }
        Ok(None)
    }

    /// The URI of a virtual host, with user and password.
    pub(crate) fn uri(&self, vhost: &str) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}/{vhost}", self.ports.amqp)
    }

    pub(crate) fn ctl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String, NodeError> {
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

    pub(crate) fn evaluate(&self, expression: &str) -> Result<String, NodeError> {
        const DONE: &str = "{ok, ok}";

        let mut command = Command::new(&self.install.erl_call);
        self.environment(&mut command);
        let address = format!("127.0.0.1:{}", self.ports.distribution);
        // The node takes two callers of one name for the same, and refuses the second.
        let caller = format!("caller{}x{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
        command.args(["-address", &address, "-h", &caller, "-fetch_stdout", "-e"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(NodeError::io("run erl_call"))?;
        if let Some(mut input) = child.stdin.take() {
            // It fails if it ends without reading, and then it says why.
            writeln!(input, "{expression}.").ok();
        }
        let output = child.wait_with_output().map_err(NodeError::io("run erl_call"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.strip_suffix(DONE).map(str::to_owned).ok_or_else(|| NodeError::Evaluate {
            expression: expression.to_owned(),
            message: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
        })
    }

    pub(crate) fn add_vhost(&self, name: &str) -> Result<String, NodeError> {
        self.evaluate(&format!(
            "V = <<\"{name}\">>, A = <<\".*\">>, By = <<\"{USER}\">>, ok = rabbit_vhost:add(V, By), \
             rabbit_auth_backend_internal:set_permissions(By, V, A, A, A, By)"
        ))?;
        Ok(self.uri(name))
    }

    /// Writes what the node reads when it starts.
    pub(crate) fn prepare(&self, configuration: &str, advanced: &[String]) -> Result<(), NodeError> {
        self.write("rabbitmq.conf", &format!("{}{configuration}", self.configuration()))?;
        self.write("advanced.config", &format!("[{{rabbit, [{}]}}].\n", advanced.join(", ")))?;
        self.write("enabled_plugins", "[].\n")?;
        self.write(PORTS, &self.ports.to_string())
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

    pub(crate) fn tls_configuration(&self, folder: &Path, require: bool) -> String {
        let (port, folder) = (self.ports.tls, folder.display());
        format!(
            "listeners.ssl.default = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {folder}/ca.pem\n\
             ssl_options.certfile = {folder}/server.pem\n\
             ssl_options.keyfile = {folder}/server.key\n\
             ssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = {require}\n"
        )
    }

    pub(crate) fn environment(&self, command: &mut Command) {
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

/// Where it listens, on the loopback interface.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    pub(crate) tls: u16,
    epmd: u16,
    distribution: u16,
    /// Locked as long as they are the node's, whether or not it runs.
    _block: Option<File>,
}

impl Ports {
    /// Takes four ports that nobody uses, and no other node of this machine will use.
    pub(crate) fn choose(amqp: Option<u16>) -> Result<Self, NodeError> {
        let folder = env::temp_dir().join("palfrey-ports");
        fs::create_dir_all(&folder).map_err(NodeError::io(format!("create {}", folder.display())))?;
        // Somewhere, so that not everybody tries the same ones.
        let start = (RandomState::new().hash_one(()) % u64::from(BLOCKS)) as u16;
        for block in (start..BLOCKS).chain(0..start) {
            let first = FIRST_PORT + 4 * block;
            let ports @ [own, epmd, distribution, tls] = [first, first + 1, first + 2, first + 3];
            let Ok(lock) = File::create(folder.join(first.to_string())) else { continue };
            let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            if lock.try_lock().is_ok() && ports.into_iter().all(is_free) {
                return Ok(Self { amqp: amqp.unwrap_or(own), epmd, distribution, tls, _block: Some(lock) });
            }
        }
        Err(NodeError::io("find free ports")(io::ErrorKind::AddrInUse.into()))
    }

    pub(crate) fn check_amqp(&self) -> Result<(), NodeError> {
        let port = self.amqp;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|_| NodeError::PortInUse { port })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut ports = text.split(' ').map(str::parse);
        let mut next = || ports.next()?.ok();
        Some(Self { amqp: next()?, epmd: next()?, distribution: next()?, tls: next()?, _block: None })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.amqp, self.epmd, self.distribution, self.tls)
    }
}
