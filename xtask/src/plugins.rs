//! `cargo xtask plugins`: everything that is built as a component.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    requirements,
    step::step,
    workspace::{WASM, Workspace},
};

pub(crate) const EXAMPLES: &str = "\
Example:
  cargo xtask plugins
  cargo run --example fib";

/// Builds them, and lists what came out.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    build(workspace)?;
    for file in workspace.component_files() {
        let size = fs::metadata(&file).with_context(|| format!("{} was not built", file.display()))?.len();
        println!("{:>8} KiB  {}", size.div_ceil(1024), file.display());
    }
    Ok(())
}

/// Builds them, with the target for it if that is missing.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    requirements::wasm_target(workspace)?;
    step("building plugins and other components", || compile(workspace))
}

/// Builds them; the target is there.
pub(crate) fn compile(workspace: &Workspace) -> Result<()> {
    let cargo = workspace.cargo(["build", "--release", "--target", WASM]);
    cargo.args(workspace.component_arguments()).run()
}
