//! `palfrey inspect`

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use clap::ValueHint;
use palfrey_host::{
    Config,
    engine::{Capability, Description, Descriptor, Kind},
    plugin::{Event, EventKind, PluginHistory, Refusal, schema},
    task::{Digest, is_kebab_case},
};
use serde_json::{Value, json};

use super::{Failure, connection, deploy, output};

pub(super) const HELP: &str = "\
A name in kebab-case is a deployed plugin, anything else is a file, which needs no broker. What an operation needs is what it
asks for from outside of the sandbox: `palfrey deploy --grant` grants it, `palfrey worker --allow` allows it. The others are pure.

Examples:
  palfrey inspect arith
  palfrey inspect target/wasm32-wasip2/release/arith.wasm";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A deployed plugin's name, or a component's file
    #[arg(value_name = "PLUGIN|FILE", value_hint = ValueHint::FilePath)]
    subject: String,
    /// As JSON, for machines; with the schemas as they are
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    let sheet = if is_kebab_case(&args.subject) {
        let runtime = connection::connect(config).await?;
        let sheet = Sheet::of_deployed(&*runtime.registry().inspect(&args.subject)?)?;
        runtime.close().await?;
        sheet
    } else {
        let engine = connection::engine(&config)?;
        let (_, plugin) = deploy::check(Path::new(&args.subject), &engine).await?;
        Sheet {
            description: plugin.description().clone(),
            digest: plugin.digest(),
            size: plugin.size(),
            imports: plugin.imports().to_vec(),
            grants: None,
            history: None,
        }
    };
    if args.json { output::print_json(&sheet.to_json()) } else { output::print(&sheet.to_text()) }
}

/// All that is known of a component.
struct Sheet {
    description: Description,
    digest: Digest,
    size: u64,
    imports: Vec<String>,
    /// `None` for a file.
    grants: Option<BTreeSet<Capability>>,
    /// `None` for a file.
    history: Option<History>,
}

struct History {
    active: bool,
    /// Time, what happened, version, digest, who.
    events: Vec<[String; 5]>,
}

impl Sheet {
    /// The active deployment, or the last one.
    fn of_deployed(history: &PluginHistory) -> Result<Self, Refusal> {
        let deployment = history
            .active()
            .or_else(|| history.previous())
            .ok_or_else(|| Refusal::NotDeployed { plugin: history.name().to_owned() })?;
        let events = history.events().iter().map(|event| row(history, event)).collect();
        Ok(Self {
            description: deployment.description.clone(),
            digest: deployment.digest,
            size: deployment.size,
            imports: deployment.imports.clone(),
            grants: Some(deployment.grants.clone()),
            history: Some(History { active: history.active().is_some(), events }),
        })
    }

    fn to_text(&self) -> String {
        let Self { description, digest, size, imports, grants, history } = self;
        let state = match history {
            None => "",
            Some(History { active: true, .. }) => ", active",
            Some(History { active: false, .. }) => ", undeployed",
        };
        let mut text = output::heading(&format!("{} {}{state}", description.name, description.version));
        _ = write!(text, "\n  digest   {digest}\n  size     {}\n", output::size(*size));
        for (index, import) in imports.iter().enumerate() {
            _ = writeln!(text, "  {}  {import}", if index == 0 { "imports" } else { "       " });
        }
        let needs = description.needs();
        if !needs.is_empty() {
            _ = writeln!(text, "  needs    {}", output::names(&needs));
        }
        if let Some(grants) = grants.as_ref().filter(|grants| !grants.is_empty()) {
            _ = writeln!(text, "  granted  {}", output::names(grants));
        }
        _ = writeln!(text, "\n{}", output::heading("Operations"));
        for operation in &description.operations {
            write_operation(&mut text, operation);
        }
        if let Some(history) = history {
            _ = writeln!(text, "\n{}", output::heading("History"));
            let mut table = output::table(["WHEN", "WHAT", "VERSION", "DIGEST", "BY"]);
            table.add_rows(&history.events);
            _ = writeln!(text, "{}", table.trim_fmt());
        }
        text
    }

    fn to_json(&self) -> Value {
        let Self { description, digest, size, imports, grants, history } = self;
        let operations = description.operations.iter().map(|operation| {
            let schema = |schema: &Option<String>| schema.as_deref().and_then(|text| serde_json::from_str(text).ok());
            json!({
                "name": operation.name,
                "kind": operation.kind,
                "summary": operation.summary,
                "encodings": operation.encodings,
                "config_schema": schema(&operation.config_schema).unwrap_or(Value::Null),
                "input_schema": schema(&operation.input_schema).unwrap_or(Value::Null),
                "output_schema": schema(&operation.output_schema).unwrap_or(Value::Null),
                "needs": operation.needs,
                "pure": operation.is_pure(),
            })
        });
        let history = history.as_ref().map(|history| {
            let event = |[when, what, version, digest, who]: &[String; 5]| {
                json!({ "when": when, "what": what, "version": version, "digest": digest, "who": who })
            };
            json!({ "active": history.active, "events": history.events.iter().map(event).collect::<Vec<_>>() })
        });
        json!({
            "name": description.name,
            "version": description.version.to_string(),
            "digest": digest.to_string(),
            "size": size,
            "imports": imports,
            "needs": description.needs(),
            "grants": grants,
            "operations": operations.collect::<Vec<_>>(),
            "deployment": history,
        })
    }
}

fn row(history: &PluginHistory, event: &Event) -> [String; 5] {
    let (what, digest) = match &event.kind {
        EventKind::Deployed(digest) => ("deployed", Some(digest)),
        EventKind::RolledBack(digest) => ("rolled back", Some(digest)),
        EventKind::Undeployed => ("undeployed", None),
        EventKind::Signed(digest) => ("signed", Some(digest)),
    };
    let version = digest.and_then(|digest| history.deployment(digest)).map(|it| it.version().to_string());
    [
        event.when.to_string(),
        what.to_owned(),
        version.unwrap_or_default(),
        digest.map(Digest::short).unwrap_or_default(),
        event.who.clone(),
    ]
}

fn write_operation(text: &mut String, operation: &Descriptor) {
    let kind = match operation.kind {
        Kind::Operation => "",
        Kind::Monoid => ", a monoid",
    };
    let impure = if operation.is_pure() { "" } else { ", impure" };
    _ = writeln!(text, "  {}{kind}{impure} ({})", output::heading(&operation.name), operation.encodings.join(", "));
    if !operation.summary.is_empty() {
        _ = writeln!(text, "    {}", operation.summary);
    }
    if !operation.is_pure() {
        _ = writeln!(text, "      needs    {}", output::names(&operation.needs));
    }
    let schemas = [
        ("config", &operation.config_schema),
        (if operation.kind == Kind::Monoid { "element" } else { "input" }, &operation.input_schema),
        ("output", &operation.output_schema),
    ];
    for (what, schema) in schemas {
        // The output of a monoid is one more element.
        if let Some(schema) = schema
            && !(what == "output" && operation.kind == Kind::Monoid)
        {
            _ = writeln!(text, "      {what:<7}  {}", schema::indented(schema, 15));
        }
    }
}
