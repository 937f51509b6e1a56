//! Where cargo has put what the tests run. A test is `<target>/<profile>/deps/<test>`, an example `…/examples/<example>`, and a
//! program of theirs `<target>/<profile>/<program>`, wherever `<target>` is.

use std::path::{Path, PathBuf};

/// The folder of this program's profile.
fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("a process knows its program");
    let folder = program.parent().expect("a program is in a folder");
    let is_below = folder.ends_with("deps") || folder.ends_with("examples");
    if is_below { folder.parent().expect("it is in a folder of cargo's") } else { folder }.to_owned()
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    profile().parent().expect("it is in a folder of cargo's").to_owned()
}

fn built(path: PathBuf, command: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `{command}`", path.display());
    path
}

/// The binary `palfrey`.
///
/// # Panics
/// If it was not built, with the command that does. Cargo does not build it for these tests.
pub fn palfrey_file() -> PathBuf {
    built(profile().join("palfrey"), "cargo build --bin palfrey")
}

/// A program of the tests.
pub(crate) fn program_file(name: &str) -> PathBuf {
    built(profile().join(name), "cargo build -p palfrey-tests --bins")
}

/// A library of the tests that is loaded into other programs.
pub(crate) fn library_file(name: &str) -> PathBuf {
    built(profile().join(format!("examples/lib{name}.so")), "cargo build -p palfrey-tests --examples")
}

/// An example of a package, by its name.
///
/// # Panics
/// If it was not built, with the command that does.
pub fn example_file(example: &str) -> PathBuf {
    built(profile().join("examples").join(example), "cargo build --workspace --examples")
}

/// A component, by the name of its package.
///
/// # Panics
/// If it was not built, with the command that does.
pub fn component_file(package: &str) -> PathBuf {
    let file = Path::new(&package.replace('-', "_")).with_extension("wasm");
    built(target().join("wasm32-wasip2/release").join(file), "cargo xtask plugins")
}

/// The bytes of a component, by the name of its package.
///
/// # Panics
/// As [`component_file`].
pub fn component(package: &str) -> Vec<u8> {
    let file = component_file(package);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The folder for compiled code that tests share.
pub fn cache_dir() -> PathBuf {
    target().join("test-cache")
}
