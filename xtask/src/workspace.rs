//! Where the workspace is, what it holds, and how cargo is called in it.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::Program;

/// The target that plugins are built for.
pub(crate) const WASM: &str = "wasm32-wasip2";

/// The workspace, as cargo describes it.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    components: Vec<Component>,
}

/// A package that is built as a component.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Component {
    name: String,
    /// With the version, since a dependency may have the same name.
    specification: String,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root.canonicalize().context("the workspace is not where this program was built")?;
        let metadata = cargo(&root).args(["metadata", "--no-deps", "--format-version=1"]).output()?;
        Self::from_metadata(root, &metadata).context("cannot understand what `cargo metadata` prints")
    }

    fn from_metadata(root: PathBuf, metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata)?;
        let target = metadata["target_directory"].as_str().context("there is no target folder")?.into();
        let packages = metadata["packages"].as_array().context("there are no packages")?;
        let components = packages.iter().filter(|package| is_component(package)).map(Component::from_metadata);
        let components = components.collect::<Result<_>>()?;
        Ok(Self { root, target, components })
    }

    /// The folder with the workspace's Cargo.toml.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The files that the components are built to.
    pub(crate) fn component_files(&self) -> impl Iterator<Item = PathBuf> {
        let file = |component: &Component| self.component_folder().join(component.name.replace('-', "_"));
        self.components.iter().map(move |component| file(component).with_extension("wasm"))
    }

    /// What tells cargo to build the components.
    pub(crate) fn component_arguments(&self) -> impl Iterator<Item = &str> {
        self.components.iter().flat_map(|component| ["--package", &component.specification])
    }

    /// Where the components are built.
    pub(crate) fn component_folder(&self) -> PathBuf {
        self.target.join(WASM).join("release")
    }

    /// A program or an example of the profile `dev`.
    pub(crate) fn built(&self, path: &str) -> PathBuf {
        self.target.join("debug").join(path)
    }

    /// Cargo, in the root of the workspace.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Program {
        cargo(&self.root).args(arguments)
    }
}

impl Component {
    fn from_metadata(package: &Value) -> Result<Self> {
        let name = package["name"].as_str().context("a package has no name")?;
        let version = package["version"].as_str().context("a package has no version")?;
        Ok(Self { name: name.to_owned(), specification: format!("{name}@{version}") })
    }
}

fn cargo(root: &Path) -> Program {
    // What cargo tells a program that it runs is not meant for the next cargo.
    let is_ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Program::typed_as(program, "cargo").without_env(is_ours).current_dir(root)
}

/// Packages that are libraries of the C kind have no other use here. (An example of that kind does not count.)
fn is_component(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    let mut kinds = targets.flat_map(|target| target["kind"].as_array().into_iter().flatten());
    kinds.any(|kind| kind == "cdylib")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_the_packages_with_a_c_library() {
        let metadata = r#"{
            "target_directory": "/somewhere/target",
            "packages": [
                {"name": "host", "version": "0.1.0", "targets": [{"kind": ["lib"]}, {"kind": ["example"], "crate_types": ["cdylib"]}]},
                {"name": "test-guests", "version": "0.2.0", "targets": [{"kind": ["cdylib", "rlib"]}, {"kind": ["bin"]}]}
            ]
        }"#;
        let workspace = Workspace::from_metadata("/somewhere".into(), metadata).unwrap();
        assert_eq!(workspace.component_arguments().collect::<Vec<_>>(), ["--package", "test-guests@0.2.0"]);
        let file = Path::new("/somewhere/target/wasm32-wasip2/release/test_guests.wasm");
        assert_eq!(workspace.component_files().collect::<Vec<_>>(), [file]);
    }
}
