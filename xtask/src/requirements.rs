//! Programs that have to be there. What may be installed is installed; of the rest the command is named that does it.

use std::path::Path;

use anyhow::{Result, bail};
use palfrey_rabbitmq::{Node, NodeError, NodeOptions};
use rustix::process::geteuid;

use crate::{
    process::{Program, check_interrupted},
    step::step,
    workspace::{WASM, Workspace},
};

/// Makes sure that Rust can build for WebAssembly.
pub(crate) fn wasm_target(workspace: &Workspace) -> Result<()> {
    let rustc = || Program::new("rustc").current_dir(workspace.root());
    let libraries = rustc().args(["--print", "target-libdir", "--target", WASM]).output()?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    if !Program::new("rustup").args(["--version"]).succeeds()? {
        bail!(
            "Rust has no target {WASM}, and rustup is not here to install it: install Rust by https://rustup.rs, or the \
             target's standard library as your system provides it"
        );
    }
    step(&format!("installing the target {WASM}"), || {
        Program::new("rustup").args(["target", "add", WASM]).current_dir(workspace.root()).run()
    })
}

/// Starts a RabbitMQ node of our own, and installs RabbitMQ before if it is missing.
pub(crate) fn broker(workspace: &Workspace) -> Result<Node> {
    let start = || NodeOptions::new().folder(workspace.target().join("rabbitmq")).start();
    let node = step("starting a private RabbitMQ node", || match start() {
        Err(error @ NodeError::Missing(_)) => {
            install_rabbitmq(&error)?;
            Ok(start()?)
        }
        started => Ok(started?),
    })?;
    check_interrupted()?;
    Ok(node)
}

fn install_rabbitmq(missing: &NodeError) -> Result<()> {
    install("RabbitMQ", "rabbitmq-server", missing)
}

/// Makes sure that the public tool for signatures is there, which tests compare ours with.
pub(crate) fn minisign() -> Result<()> {
    if Program::new("minisign").args(["-v"]).succeeds()? {
        return Ok(());
    }
    install("minisign", "minisign", &"minisign is not installed")
}

fn install(name: &str, package: &str, missing: &dyn std::fmt::Display) -> Result<()> {
    if !Program::new("apt-get").args(["--version"]).succeeds()? {
        bail!("{missing}; elsewhere install {name} as your system provides it");
    }
    if !geteuid().is_root() {
        bail!("{name} is not installed: `sudo apt-get install {package}` installs it");
    }
    step(&format!("installing {name}"), || {
        apt_get(&["update"])?;
        apt_get(&["install", "--yes", "--no-install-recommends", package])
    })
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    // With that run level the package does not start a broker for the whole machine, where no systemd decides that.
    let apt_get = Program::new("apt-get").args(arguments);
    apt_get.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").run()
}
