//! The registry: whatever is in the log, in whatever order and however often, and whenever somebody begins to read it, everybody
//! ends with the state that a model of a page has.

use bytes::Bytes;
use palfrey_host::{
    plugin::{Action, Activation, Record, Registry, RegistryOptions, RegistryState},
    queue::{Connection as _, QueueKind, QueueSpec, in_memory::InMemory},
    task::Digest,
};
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

use crate::registry::description;

const PLUGINS: [&str; 2] = ["arith", "text"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
const COMPONENTS: [&str; 3] = ["one", "two", "three"];

#[derive(Debug, Clone)]
enum Entry {
    Change(Change),
    /// A record that is in the log already comes once more, as when a confirm was lost.
    Again(Index),
    /// The beginning of one.
    Cut(Index, Index),
    Garbage(Vec<u8>),
    /// Another process begins to read.
    Open,
}

/// Plugins, versions and components are positions in the lists above.
#[derive(Debug, Clone, Copy)]
enum Change {
    Deploy { plugin: usize, version: usize, component: usize, force: bool },
    RollBack { plugin: usize, from: Option<usize>, to: usize },
    Undeploy { plugin: usize },
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let (plugin, version, component) = (0..PLUGINS.len(), 0..VERSIONS.len(), 0..COMPONENTS.len());
    let deploy = (plugin.clone(), version, component.clone(), prop::bool::weighted(0.2));
    let roll_back = (plugin.clone(), prop::option::of(component.clone()), component);
    prop_oneof![
        8 => deploy.prop_map(|(plugin, version, component, force)| {
            Entry::Change(Change::Deploy { plugin, version, component, force })
        }),
        4 => roll_back.prop_map(|(plugin, from, to)| Entry::Change(Change::RollBack { plugin, from, to })),
        2 => plugin.prop_map(|plugin| Entry::Change(Change::Undeploy { plugin })),
        2 => any::<Index>().prop_map(Entry::Again),
        1 => any::<(Index, Index)>().prop_map(|(which, length)| Entry::Cut(which, length)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Entry::Garbage),
        1 => Just(Entry::Open),
    ]
}

impl Change {
    fn record(self) -> Record {
        let digest = |component: usize| Digest::of(COMPONENTS[component].as_bytes());
        let action = match self {
            Self::Deploy { plugin, version, component, force } => Action::Activate(Activation {
                digest: digest(component),
                size: 3,
                chunks: 1,
                description: description(PLUGINS[plugin], VERSIONS[version]),
                imports: Vec::new(),
                force,
                signature: None,
                grants: Default::default(),
            }),
            Self::RollBack { plugin, from, to } => {
                Action::RollBack { plugin: PLUGINS[plugin].to_owned(), from: from.map(digest), to: digest(to) }
            }
            Self::Undeploy { plugin } => Action::Undeploy { plugin: PLUGINS[plugin].to_owned() },
        };
        Record::new("ada", action)
    }
}

/// A plugin that was ever deployed: its components with their versions, in the order in which they were deployed last, and
/// which of them can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Plugin {
    deployed: Vec<(usize, usize, bool)>,
    active: Option<usize>,
}

#[derive(Debug, Default)]
struct Model {
    plugins: [Option<Plugin>; PLUGINS.len()],
}

impl Model {
    /// What a record does that is seen for the first time. What it must not do leaves everything as it is.
    fn follow(&mut self, change: Change) {
        match change {
            Change::Deploy { plugin, version, component, force } => {
                let plugin = &mut self.plugins[plugin];
                let known = plugin.clone().unwrap_or_default();
                let last_of_version = known.deployed.iter().rfind(|(_, of, _)| *of == version);
                let is_taken = last_of_version.is_some_and(|(other, ..)| *other != component);
                if known.active == Some(component) || (is_taken && !force) {
                    return;
                }
                let plugin = plugin.get_or_insert_default();
                plugin.deployed.retain(|(other, ..)| *other != component);
                plugin.deployed.push((component, version, true));
                plugin.active = Some(component);
            }
            Change::RollBack { plugin, from, to } => {
                let Some(plugin) = &mut self.plugins[plugin] else { return };
                let Some(target) = plugin.deployed.iter_mut().find(|(component, ..)| *component == to) else { return };
                if plugin.active == from && from != Some(to) {
                    target.2 = true;
                    plugin.active = Some(to);
                }
            }
            Change::Undeploy { plugin } => {
                let Some(plugin) = self.plugins[plugin].as_mut().filter(|plugin| plugin.active.is_some()) else {
                    return;
                };
                plugin.active = None;
                plugin.deployed.iter_mut().for_each(|deployment| deployment.2 = false);
            }
        }
    }
}

/// A state in the words of the model.
fn as_model(state: &RegistryState) -> [Option<Plugin>; PLUGINS.len()] {
    let component =
        |digest: &Digest| COMPONENTS.iter().position(|name| Digest::of(name.as_bytes()) == *digest).unwrap();
    PLUGINS.map(|name| {
        let history = state.plugin(name).ok()?;
        let deployed = history.deployments().iter().map(|deployment| {
            let version = VERSIONS.iter().position(|version| *version == deployment.version().to_string()).unwrap();
            (component(&deployment.digest), version, !deployment.withdrawn)
        });
        let active = history.active().map(|active| component(&active.digest));
        Some(Plugin { deployed: deployed.collect(), active })
    })
}

async fn check(entries: Vec<Entry>) -> Result<(), TestCaseError> {
    let broker = InMemory::new();
    let log = broker.declare(&QueueSpec::new("palfrey.registry", QueueKind::Log)).await.unwrap();
    let log = log.publisher().await.unwrap();
    let open = async || Registry::open(&broker.another_connection(), RegistryOptions::default()).await.unwrap();
    let (mut registries, mut records, mut model) = (vec![open().await], Vec::<Bytes>::new(), Model::default());
    let mut length = 0;
    for entry in entries {
        let entry = match entry {
            Entry::Change(change) => {
                model.follow(change);
                records.push(change.record().encode());
                records.last().cloned()
            }
            Entry::Again(_) | Entry::Cut(..) if records.is_empty() => None,
            Entry::Again(which) => Some(records[which.index(records.len())].clone()),
            Entry::Cut(which, at) => {
                let whole = &records[which.index(records.len())];
                Some(whole.slice(..at.index(whole.len())))
            }
            Entry::Garbage(bytes) => Some(bytes.into()),
            Entry::Open => {
                registries.push(open().await);
                None
            }
        };
        if let Some(entry) = entry {
            log.publish(entry).await.unwrap();
            length += 1;
        }
    }
    registries.push(open().await);
    for registry in &registries {
        registry.caught_up().await.unwrap();
        let state = registry.state();
        prop_assert_eq!(as_model(&state), model.plugins.clone());
        prop_assert_eq!(state.next_offset(), length);
    }
    let states: Vec<_> = registries.iter().map(Registry::state).collect();
    prop_assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "whoever reads it, whenever, knows the same");
    Ok(())
}

#[test]
fn everybody_who_reads_the_log_ends_as_a_model_of_it_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ran = TestRunner::default()
        .run(&prop::collection::vec(any_entry(), 0..40), |entries| runtime.block_on(check(entries)));
    ran.unwrap_or_else(|error| panic!("{error}"));
}
