//! `palfrey deploy`

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use clap::ValueHint;
use indicatif::{ProgressBar, ProgressStyle};
use palfrey_host::{
    Config,
    engine::{Capability, Engine, Plugin},
    plugin::{Change, CheckedComponent, DeployOptions, Deployed, Registry, Trust, check_grants, check_signature_name},
};

use super::{Failure, connection, output, sign::signature_file};

pub(super) const HELP: &str = "\
Every file is checked before any is deployed. New jobs execute what was deployed; jobs under way keep what they began with.
Deploying what is active already changes nothing, unless it brings a new signature. The signature of FILE is in FILE.minisig,
where `palfrey sign` puts it. With `--trust` what these keys did not sign is not deployed.

A component whose operations ask for something outside of the sandbox is deployed only if that is granted: `clocks`, `entropy`,
`env:NAME`, `dir:/path`. `palfrey inspect FILE` shows what it asks for. Each worker decides whether it allows that.

Example:
  cargo build --release --target wasm32-wasip2
  palfrey deploy target/wasm32-wasip2/release/arith.wasm";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Components: the `.wasm` files that `cargo build --release --target wasm32-wasip2` leaves
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Replace a version that was deployed with other bytes, and upload bytes that were uploaded before
    #[arg(long)]
    force: bool,
    /// Grant what the operations of these components ask for, by name. Repeatable
    #[arg(long = "grant", value_name = "CAPABILITY")]
    grants: Vec<Capability>,
}

pub(super) async fn run(config: Config, args: Args, quiet: bool) -> Result<(), Failure> {
    let engine = connection::engine(&config)?;
    let trust = Trust::load(&config.trust)?;
    let mut components = Vec::new();
    let granted: BTreeSet<_> = args.grants.into_iter().collect();
    let mut unused = granted.clone();
    for path in &args.files {
        let (bytes, plugin) = check(path, &engine).await?;
        let signature = signature(path, &bytes, &plugin, &trust).await?;
        check_grants(plugin.description(), &granted)?;
        // Each has what it asks for, and nothing that another one does.
        let grants = plugin.description().needs();
        unused.retain(|grant| !grants.contains(grant));
        components.push((bytes, plugin, signature, grants));
    }
    if let Some(grant) = unused.pop_first() {
        return Err(Failure::GrantNotAsked(grant));
    }
    let runtime = connection::connect(config).await?;
    for (bytes, plugin, signature, grants) in components {
        let options = DeployOptions { force: args.force, signature, grants, ..DeployOptions::default() };
        let deployed = upload(runtime.registry(), bytes, &plugin, options, quiet).await?;
        output::print(&describe(&deployed, runtime.registry()))?;
    }
    Ok(runtime.close().await?)
}

/// Reads a file and checks that workers can execute it.
pub(super) async fn check(path: &Path, engine: &Engine) -> Result<(Bytes, Plugin), Failure> {
    let unreadable = |source| Failure::File { path: path.to_owned(), source };
    // Before gigabytes are read that nobody takes.
    let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    engine.check_size(size).map_err(|source| Failure::Component { path: path.to_owned(), source })?;
    let bytes = tokio::fs::read(path).await.map_err(unreadable)?;
    let bytes = Bytes::from(bytes);
    let (engine, component) = (engine.clone(), bytes.clone());
    let loaded = tokio::task::spawn_blocking(move || engine.load(&component)).await;
    let plugin = loaded
        .map_err(|panic| Failure::Internal(panic.into()))?
        .map_err(|source| Failure::Component { path: path.to_owned(), source })?;
    Ok((bytes, plugin))
}

/// The signature that lies beside a file, if there is one. A mistake is found here rather than on all workers.
async fn signature(path: &Path, bytes: &[u8], plugin: &Plugin, trust: &Trust) -> Result<Option<String>, Failure> {
    let file = signature_file(path);
    let signature = match tokio::fs::read_to_string(&file).await {
        Ok(signature) => Some(signature),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(Failure::File { path: file, source }),
    };
    let (name, version) = (&plugin.description().name, &plugin.description().version);
    if let Some(signature) = &signature {
        check_signature_name(signature, name, version)
            .map_err(|source| Failure::Signature { path: file.clone(), source })?;
    }
    trust
        .check(bytes, name, version, signature.as_slice())
        .map_err(|source| Failure::Untrusted { path: path.to_owned(), source })?;
    Ok(signature)
}

async fn upload(
    registry: &Registry,
    bytes: Bytes,
    plugin: &Plugin,
    options: DeployOptions,
    quiet: bool,
) -> Result<Deployed, Failure> {
    let bar = (!quiet && std::io::stderr().is_terminal()).then(|| progress_bar(&plugin.description().name));
    let options = DeployOptions {
        progress: bar.clone().map(|bar| -> Arc<dyn Fn(u64, u64) + Send + Sync> {
            Arc::new(move |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            })
        }),
        ..options
    };
    let deployed = registry.deploy_checked(bytes, CheckedComponent::from(plugin), &options).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(deployed?)
}

fn progress_bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}");
    ProgressBar::new(0).with_style(style.expect("the template is well-formed")).with_message(name.to_owned())
}

fn describe(deployed: &Deployed, registry: &Registry) -> String {
    let deployment = &deployed.deployment;
    let name = format!("{} {}", deployment.description.name, deployment.version());
    let details = format!(
        "{}, {}, {} operations{}{}",
        deployment.digest.short(),
        output::size(deployment.size),
        deployment.description.operations.len(),
        if deployment.grants.is_empty() { "" } else { ", granted " },
        output::names(&deployment.grants),
    );
    match &deployed.change {
        Change::Signed { .. } => format!("{name} was active already, and has one more signature ({details})\n"),
        Change::Nothing => format!("{name} is active already ({details})\n"),
        Change::Deployed { plugin, replaced: Some(replaced), .. } => {
            let replaced = registry.inspect(plugin).ok().and_then(|history| {
                history.deployment(replaced).map(|replaced| format!(" in place of {}", replaced.version()))
            });
            format!("deployed {name}{} ({details})\n", replaced.unwrap_or_default())
        }
        _ => format!("deployed {name} ({details})\n"),
    }
}
