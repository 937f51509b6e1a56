//! `palfrey keygen`

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::ValueHint;
use palfrey_host::{
    plugin::NewKey,
    secret::{self, ExposeSecret as _, SecretString},
};

use super::{Failure, output};

pub(super) const HELP: &str = "\
Makes FILE.key, which signs plugins and should be seen by nobody, and FILE.pub, for workers that are to trust them. Both are
in the formats of minisign, whose tools understand them. Neither is overwritten.

Example:
  palfrey keygen release
  palfrey sign --key release.key target/wasm32-wasip2/release/arith.wasm
  palfrey worker --trust release.pub";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to put the keys: FILE.key and FILE.pub
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    name: PathBuf,
    /// File with the password that encrypts the secret key [default: ask for it]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    password_file: Option<PathBuf>,
    /// Do not encrypt the secret key: whoever reads the file can sign
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = |extension| {
        // A dot in the name is none that begins an extension.
        let mut path = args.name.clone().into_os_string();
        path.push(extension);
        PathBuf::from(path)
    };
    let (secret_path, public_path) = (path(".key"), path(".pub"));
    for path in [&secret_path, &public_path] {
        if path.exists() {
            return Err(Failure::Exists { path: path.clone() });
        }
    }
    let password = match &args.password_file {
        _ if args.no_password => None,
        Some(path) => Some(secret::read(path)?),
        None => Some(ask_twice()?),
    };
    let new = NewKey::generate(password.as_ref()).map_err(|error| Failure::Internal(error.into()))?;
    write(&secret_path, new.secret.expose_secret(), 0o600)?;
    write(&public_path, &new.public, 0o644)?;
    let (secret, public) = (secret_path.display(), public_path.display());
    output::print(&format!("key {}: {secret} signs, `palfrey worker --trust {public}` trusts it\n", new.id))
}

fn ask_twice() -> Result<SecretString, Failure> {
    let password = ask("Password for the new key: ")?;
    if password.expose_secret() != ask("Once more: ")?.expose_secret() {
        return Err(Failure::Password("the passwords differ".to_owned()));
    }
    Ok(password)
}

/// Asks on the terminal, which does not show what is typed.
pub(super) fn ask(prompt: &str) -> Result<SecretString, Failure> {
    rpassword::prompt_password(prompt).map(SecretString::from).map_err(|error| {
        Failure::Password(format!(
            "there is no terminal to ask for the password ({error}): name its file with --password-file"
        ))
    })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Failure::Write { path: path.to_owned(), source })
}
