//! `palfrey undeploy` and `palfrey rollback`

use palfrey_host::{
    Config,
    plugin::{Change, RollbackTo},
    task::Digest,
};
use semver::Version;

use super::{Failure, connection, output};

pub(super) const UNDEPLOY_HELP: &str = "\
Every version is withdrawn. `palfrey rollback` brings back the one that was active.

Example:
  palfrey undeploy arith";

pub(super) const ROLLBACK_HELP: &str = "\
Without `--to` it goes back to what was deployed before the active version, or, after undeploying, to what was active then.
New jobs execute it; jobs under way keep what they began with.

Example:
  palfrey rollback arith --to 1.2.0";

#[derive(Debug, clap::Args)]
pub(super) struct UndeployArgs {
    /// The plugin's name
    plugin: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The plugin's name
    plugin: String,
    /// The version or the digest to go back to
    #[arg(long, value_name = "VERSION|DIGEST", value_parser = parse_target)]
    to: Option<RollbackTo>,
}

fn parse_target(text: &str) -> Result<RollbackTo, String> {
    if text.starts_with("sha256:") {
        return text.parse::<Digest>().map(RollbackTo::Digest).map_err(|error| error.to_string());
    }
    text.parse::<Version>()
        .map(RollbackTo::Version)
        .map_err(|_| format!("`{text}` is neither a version such as `1.2.0` nor a digest such as `sha256:…`"))
}

pub(super) async fn undeploy(config: Config, args: UndeployArgs) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    runtime.registry().undeploy(&args.plugin).await?;
    output::print(&format!("undeployed {}\n", args.plugin))?;
    Ok(runtime.close().await?)
}

pub(super) async fn rollback(config: Config, args: RollbackArgs) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    let to = args.to.unwrap_or_default();
    let deployed = runtime.registry().rollback(&args.plugin, &to).await?;
    let done = match deployed.change {
        Change::Nothing => "is active already",
        _ => "is active again",
    };
    let (version, digest) = (deployed.deployment.version(), deployed.deployment.digest.short());
    output::print(&format!("{} {version} {done} ({digest})\n", args.plugin))?;
    Ok(runtime.close().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_version_or_a_digest() {
        assert_eq!(parse_target("1.2.0"), Ok(RollbackTo::Version(Version::new(1, 2, 0))));
        let digest = Digest::of(b"component");
        assert_eq!(parse_target(&digest.to_string()), Ok(RollbackTo::Digest(digest)));
        assert!(parse_target("newest").unwrap_err().contains("neither a version such as `1.2.0` nor a digest"));
        assert!(parse_target("sha256:12").unwrap_err().contains("64 hexadecimal digits"));
    }
}
