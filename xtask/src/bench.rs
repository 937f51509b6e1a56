//! `cargo xtask bench`: Palfrey side by side with its peers, which are built and installed for it.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    plugins,
    process::Program,
    requirements,
    step::step,
    workspace::{WASM, Workspace},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask bench --quick
  cargo xtask bench --only map --only fold
  cargo xtask bench --list

The first time it builds an optimised host, which takes some minutes, and installs Celery and Dask from PyPI into a folder
under target/, which needs Python 3. Results go to target/bench as well, as JSON and as plots.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Shorter repetitions: less than ten minutes for everything
    #[arg(long)]
    quick: bool,
    /// Measures this work only. Repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Names what can be measured
    #[arg(long)]
    list: bool,
}

const PEERS: &str = "tests/peers/Cargo.toml";

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    // The folders of other builds have other features, and are left alone.
    let target = workspace.target().join("peers");
    let build = |arguments: &[&str]| {
        let cargo = workspace.cargo(["build", "--manifest-path", PEERS]);
        cargo.args(["--target-dir".into(), target.clone()]).args(arguments).run()
    };
    step("building Palfrey and its peers, optimised", || build(&["--release"]))?;
    let bench = Program::typed_as(target.join("release/bench"), "cargo xtask bench");
    if options.list {
        return bench.args(["list"]).run();
    }
    plugins::build(workspace)?;
    let operations = ["--profile", "plugin", "--package", "operations-000", "--target", WASM];
    step("building the operations", || build(&operations))?;
    let python = python(workspace)?;
    let node = requirements::broker(workspace)?;
    let out = workspace.target().join("bench");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let component = target.join(WASM).join("plugin/operations.wasm");
    let bench = bench
        .args(["run", "--uri", &node.uri()])
        .args(["--component".into(), component])
        .args(["--text".into(), workspace.component_folder().join("text.wasm")])
        .args(["--python".into(), python])
        .args(["--out".into(), out])
        .args(options.only.iter().flat_map(|name| ["--only", name]));
    if options.quick { bench.args(["--quick"]) } else { bench }.run()
}

/// An interpreter that has the peers in Python.
fn python(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("peers/python");
    let python = folder.join("bin/python");
    let requirements = workspace.root().join("tests/peers/python/requirements.txt");
    let installed = folder.join("installed.txt");
    if fs::read(&requirements)? == fs::read(&installed).unwrap_or_default() {
        return Ok(python);
    }
    step("installing Celery and Dask", || {
        Program::new("python3").args(["-m".into(), "venv".into(), folder.clone()]).run()?;
        let pip = Program::typed_as(&python, "pip").args(["-m", "pip", "install", "--quiet", "--requirement"]);
        pip.args([&requirements]).run()?;
        fs::copy(&requirements, &installed).map(drop).context("cannot note what is installed")
    })?;
    Ok(python)
}
