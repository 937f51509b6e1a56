//! Records for tests.

use super::{Action, Activation, Record, UnixMillis};
use crate::{
    engine::{Description, Descriptor, Kind},
    task::Digest,
};

/// A description whose operations take and return `u64`; those called `sum` are monoids.
pub(super) fn description(name: &str, version: &str, operations: &[&str]) -> Description {
    let schema = || Some(r#"{"name":"u64","ty":"U64"}"#.to_owned());
    let operations = operations.iter().map(|&name| Descriptor {
        name: name.to_owned(),
        kind: if name == "sum" { Kind::Monoid } else { Kind::Operation },
        summary: String::new(),
        encodings: vec!["postcard".to_owned()],
        config_schema: None,
        input_schema: schema(),
        output_schema: schema(),
        needs: Default::default(),
    });
    Description { name: name.to_owned(), version: version.parse().unwrap(), operations: operations.collect() }
}

/// A record by `ada`, at an instant that does not change.
pub(super) fn record(action: Action) -> Record {
    Record { when: UnixMillis(1_700_000_000_000), ..Record::new("ada", action) }
}

/// Activates a component that is named by its bytes.
pub(super) fn activate(plugin: &str, version: &str, component: &str) -> Record {
    record(Action::Activate(activation(plugin, version, component)))
}

pub(super) fn activation(plugin: &str, version: &str, component: &str) -> Activation {
    Activation {
        digest: Digest::of(component.as_bytes()),
        size: component.len() as u64,
        chunks: 1,
        description: description(plugin, version, &["fib-at", "multiply-by", "sum"]),
        imports: Vec::new(),
        force: false,
        signature: None,
        grants: Default::default(),
    }
}

pub(super) fn forced(plugin: &str, version: &str, component: &str) -> Record {
    record(Action::Activate(Activation { force: true, ..activation(plugin, version, component) }))
}

pub(super) fn undeploy(plugin: &str) -> Record {
    record(Action::Undeploy { plugin: plugin.to_owned() })
}

pub(super) fn roll_back(plugin: &str, from: Option<&str>, to: &str) -> Record {
    let digest = |component: &str| Digest::of(component.as_bytes());
    record(Action::RollBack { plugin: plugin.to_owned(), from: from.map(digest), to: digest(to) })
}
