//! The host library and its binary as people use them: real components, real processes. One binary, so that wasmtime is
//! linked once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli;
mod contrary;
mod directives;
mod engine;
mod failures;
mod foreign;
mod grants;
mod late;
mod limits_table;
mod log;
mod models;
mod pace;
mod plugins;
mod presence;
mod recorded;
mod registry;
mod speech;
mod strategies;
mod task_channel;
mod workers;

use std::{num::NonZeroUsize, path::PathBuf};

use palfrey_host::{
    Config, Runtime,
    directive::{BatchSize, JobOptions},
};

/// Where everything is built: this test is `<target>/<profile>/deps/<test>`, wherever cargo was told to put `<target>`.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// A component of this repository.
fn component_path(name: &str) -> PathBuf {
    let path = target().join(format!("wasm32-wasip2/release/{name}.wasm"));
    assert!(path.exists(), "{} is missing: build it with `cargo xtask plugins`", path.display());
    path
}

/// The bytes of a component of this repository.
fn component(name: &str) -> Vec<u8> {
    std::fs::read(component_path(name)).unwrap()
}

/// Machine code is shared by all tests, as it is by the workers of a machine.
fn cache_dir() -> Option<PathBuf> {
    Some(target().join("test-cache"))
}

/// A runtime in memory with some plugins deployed.
async fn runtime(config: Config, plugins: &[&str]) -> Runtime {
    let runtime = Runtime::from_config(&Config { cache_dir: cache_dir(), ..config }).await.unwrap();
    for plugin in plugins {
        runtime.deploy(component(plugin)).await.unwrap();
    }
    runtime
}

/// Two workers in memory with `arith` and `text`.
async fn two_workers() -> Runtime {
    runtime(Config { workers: 2, ..Config::default() }, &["arith", "text"]).await
}

/// No workers: the test has its own.
async fn no_workers() -> Runtime {
    runtime(Config { workers: 0, ..Config::default() }, &["arith", "text"]).await
}

/// Batches of so many elements.
fn fixed(size: usize) -> JobOptions {
    JobOptions::default().batch_size(BatchSize::Fixed(NonZeroUsize::new(size).unwrap()))
}
