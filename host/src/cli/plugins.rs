//! `palfrey plugins`

use std::sync::Arc;

use palfrey_host::{
    Config,
    engine::Descriptor,
    plugin::{Deployment, PluginHistory},
};
use serde_json::{Value, json};

use super::{Failure, connection, output};

pub(super) const HELP: &str = "\
Examples:
  palfrey plugins
  palfrey plugins --json | jq -r '.[] | .name + \" \" + .version'";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON, for machines
    #[arg(long)]
    json: bool,
    /// Those that were undeployed as well
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let runtime = connection::connect(config).await?;
    let plugins = shown(&runtime.registry().list(), args.all);
    if args.json {
        output::print_json(&plugins.iter().map(|(history, deployment)| to_json(history, deployment)).collect())?;
    } else if plugins.is_empty() {
        output::print("nothing is deployed; `palfrey deploy FILE` deploys a plugin\n")?;
    } else {
        output::print(&format!("{}\n", to_table(&plugins)))?;
    }
    Ok(runtime.close().await?)
}

type Shown = (Arc<PluginHistory>, Arc<Deployment>);

/// Each plugin with its active deployment, or its last one.
fn shown(plugins: &[Arc<PluginHistory>], all: bool) -> Vec<Shown> {
    let deployment = |history: &PluginHistory| match history.active() {
        Some(active) => Some(active.clone()),
        None if all => history.previous().cloned(),
        None => None,
    };
    plugins.iter().filter_map(|history| Some((history.clone(), deployment(history)?))).collect()
}

fn to_table(plugins: &[Shown]) -> String {
    let mut table = output::table(["PLUGIN", "VERSION", "STATE", "OPERATIONS", "SIZE", "DIGEST", "DEPLOYED", "BY"]);
    for (history, deployment) in plugins {
        let name = |it: &Descriptor| if it.is_pure() { it.name.clone() } else { format!("{} (impure)", it.name) };
        let operations: Vec<_> = deployment.description.operations.iter().map(name).collect();
        table.add_row([
            history.name().to_owned(),
            deployment.version().to_string(),
            if history.active().is_some() { "active" } else { "undeployed" }.to_owned(),
            operations.join(" "),
            output::size(deployment.size),
            deployment.digest.short(),
            deployment.when.to_string(),
            deployment.who.clone(),
        ]);
    }
    table.trim_fmt()
}

fn to_json(history: &PluginHistory, deployment: &Deployment) -> Value {
    json!({
        "name": history.name(),
        "version": deployment.version().to_string(),
        "active": history.active().is_some(),
        "digest": deployment.digest.to_string(),
        "size": deployment.size,
        "operations": deployment.description.operations.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        "impure": deployment.description.operations.iter().filter(|it| !it.is_pure()).map(|it| it.name.as_str()).collect::<Vec<_>>(),
        "grants": deployment.grants,
        "deployed_by": deployment.who,
        "deployed_at": deployment.when.to_string(),
    })
}
