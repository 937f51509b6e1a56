//! `palfrey sign`

use std::path::{Path, PathBuf};

use clap::ValueHint;
use palfrey_host::{
    Config,
    plugin::{KeyError, SigningKey},
    secret::{self, ExposeSecret as _},
};

use super::{Failure, connection, deploy, keygen, output};

pub(super) const HELP: &str = "\
Writes FILE.minisig, which `palfrey deploy FILE` carries along. The signature is good for these bytes, under the name and the
version that they have now. Workers that run with `--trust` execute nothing else.

Example:
  palfrey sign --key release.key target/wasm32-wasip2/release/arith.wasm
  palfrey deploy target/wasm32-wasip2/release/arith.wasm";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Components to sign
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Secret key, as `palfrey keygen` or `minisign -G` makes it
    #[arg(long, env = "PALFREY_SIGNING_KEY", value_name = "KEYFILE", value_hint = ValueHint::FilePath)]
    key: PathBuf,
    /// File with the key's password [default: ask for it, if the key has one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    password_file: Option<PathBuf>,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let key = open(&args)?;
    let engine = connection::engine(&config)?;
    for path in &args.files {
        let (component, plugin) = deploy::check(path, &engine).await?;
        let description = plugin.description();
        let (name, version) = (&description.name, &description.version);
        let signature = key.sign(&component, name, version).map_err(|error| Failure::Internal(error.into()))?;
        let file = signature_file(path);
        let failed = |source| Failure::Write { path: file.clone(), source };
        tokio::fs::write(&file, signature).await.map_err(failed)?;
        output::print(&format!("signed {name} {version} by key {}: {}\n", key.id(), file.display()))?;
    }
    Ok(())
}

fn open(args: &Args) -> Result<SigningKey, Failure> {
    let read = secret::read(&args.key)?;
    let password = match &args.password_file {
        Some(path) => Some(secret::read(path)?),
        None if SigningKey::is_encrypted(read.expose_secret()) => Some(keygen::ask("Password of the key: ")?),
        None => None,
    };
    SigningKey::open(read.expose_secret(), password.as_ref()).map_err(|source| match source {
        KeyError::NeedsPassword | KeyError::WrongPassword => Failure::Password(source.to_string()),
        source => Failure::Key { path: args.key.clone(), source },
    })
}

/// Where the signature of a file is: where minisign has it.
pub(super) fn signature_file(component: &Path) -> PathBuf {
    let mut path = component.to_owned().into_os_string();
    path.push(".minisig");
    path.into()
}
