//! `cargo xtask bench`: Palfrey side by side with its peers, which are built and installed for it.

mod baseline;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;

use self::baseline::Medians;
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
  cargo xtask bench --only latency --explain
  cargo xtask bench --list
  cargo xtask bench --inner              compares with tests/peers/inner.json
  cargo xtask bench --accept --inner     writes it anew

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
    /// Says where the time of Palfrey's tasks goes
    #[arg(long)]
    explain: bool,
    /// Names what can be measured
    #[arg(long)]
    list: bool,
    /// Measures the steps of a task instead, by Criterion, and compares their medians with those that are kept. Criterion is
    /// given what follows: part of a name, `--save-baseline NAME`, `--baseline NAME`
    #[arg(long, value_name = "ARGUMENTS", num_args = 0.., allow_hyphen_values = true, conflicts_with_all = ["quick", "only", "explain", "list"])]
    inner: Option<Vec<String>>,
    /// Keeps the medians of the steps, for comparisons
    #[arg(long, requires = "inner")]
    accept: bool,
}

/// What the steps took when somebody last kept it.
const KEPT: &str = "tests/peers/inner.json";

const PEERS: &str = "tests/peers/Cargo.toml";

/// Builds what everybody executes, for WebAssembly.
const OPERATIONS: [&str; 6] = ["--profile", "plugin", "--package", "operations-000", "--target", WASM];

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    // The folders of other builds have other features, and are left alone.
    let target = workspace.target().join("peers");
    let build = |arguments: &[&str]| {
        let cargo = workspace.cargo(["build", "--manifest-path", PEERS]);
        cargo.args(["--target-dir".into(), target.clone()]).args(arguments).run()
    };
    if let Some(arguments) = &options.inner {
        return inner(workspace, &target, build, arguments, options.accept);
    }
    step("building Palfrey and its peers, optimised", || build(&["--release"]))?;
    let bench = Program::typed_as(target.join("release/bench"), "cargo xtask bench");
    if options.list {
        return bench.args(["list"]).run();
    }
    plugins::build(workspace)?;
    step("building the operations", || build(&OPERATIONS))?;
    let python = python(workspace)?;
    let node = requirements::broker(workspace)?;
    let out = workspace.target().join("bench");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let component = component(&target);
    let empty = ["bench-deploying", "bench-starting"].map(|name| node.add_vhost(name)).into_iter();
    let empty = empty.collect::<Result<Vec<_>, _>>()?;
    let bench = bench
        .args(["run", "--uri", &node.uri()])
        .args(empty.iter().flat_map(|uri| ["--empty", uri]))
        .args(["--component".into(), component])
        .args(["--plugins".into(), workspace.component_folder()])
        .args(["--python".into(), python])
        .args(["--out".into(), out])
        .args(options.only.iter().flat_map(|name| ["--only", name]));
    let flags = [(options.quick, "--quick"), (options.explain, "--explain")];
    bench.args(flags.iter().filter(|(given, _)| *given).map(|(_, flag)| flag)).run()
}

/// The steps of a task, one by one.
fn inner(
    workspace: &Workspace,
    target: &Path,
    build: impl Fn(&[&str]) -> Result<()>,
    arguments: &[String],
    accept: bool,
) -> Result<()> {
    requirements::wasm_target(workspace)?;
    step("building the operations", || build(&OPERATIONS))?;
    let node = requirements::broker(workspace)?;
    let results = target.join("criterion");
    baseline::forget_latest(&results)?;
    let cargo = workspace.cargo(["bench", "--manifest-path", PEERS, "--bench", "inner"]);
    let cargo = cargo.args(["--target-dir".as_ref(), target.as_os_str()]);
    let cargo = cargo.env("PALFREY_BENCH_COMPONENT", component(target)).env("CRITERION_HOME", &results);
    cargo.env_unseen("PALFREY_BENCH_AMQP_URI", node.uri()).args(["--"]).args(arguments).run()?;
    let medians = Medians::of_criterion(&results)?;
    let kept = workspace.root().join(KEPT);
    println!("\nMedians, and how they compare with {KEPT}:\n{}", medians.compared(Medians::kept(&kept)?.as_ref()));
    if accept { medians.keep(&kept) } else { Ok(()) }
}

fn component(target: &Path) -> PathBuf {
    target.join(WASM).join("plugin/operations.wasm")
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
