//! What a plugin says about itself, checked.

use std::collections::{BTreeSet, HashSet};

use palfrey_sdk::Serializer;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::capability::{Capability, CapabilityError};
use crate::task::is_kebab_case;

/// A whole plugin: its name, version and operations.
///
/// One that came out of [`Engine::load`](super::Engine::load) keeps all rules of the contract.
///
/// ```no_run
/// # fn example(plugin: palfrey_host::engine::Plugin) {
/// let description = plugin.description();
/// println!("{} {}", description.name, description.version);
/// for operation in &description.operations {
///     println!("  {}: {}", operation.name, operation.summary);
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Kebab-case. Operation IDs begin with it.
    pub name: String,
    /// Of the plugin.
    pub version: Version,
    /// In the order in which people should read them. No two have the same name.
    pub operations: Vec<Descriptor>,
}

/// One operation of a plugin.
///
/// ```
/// use palfrey_host::{engine::Descriptor, plugin::schema};
/// use palfrey_sdk::Serializer;
///
/// fn print(operation: &Descriptor) {
///     let show = |schema: &Option<String>| schema.as_deref().map_or("?".to_owned(), schema::inline);
///     println!("{}({}) -> {}", operation.name, show(&operation.input_schema), show(&operation.output_schema));
///     if !operation.understands(Serializer::Cbor) {
///         println!("  not in CBOR");
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Kebab-case, unique within the plugin.
    pub name: String,
    /// What can be done with it.
    pub kind: Kind,
    /// One line for people.
    pub summary: String,
    /// Names of the encodings it understands, at least one. There may be some that this worker does not know.
    pub encodings: Vec<String>,
    /// Schema of the config, a JSON text.
    pub config_schema: Option<String>,
    /// Schema of an input element, a JSON text. For a monoid, of one element, not of the pair.
    pub input_schema: Option<String>,
    /// Schema of an output element, a JSON text.
    pub output_schema: Option<String>,
    /// What it needs from outside of the sandbox. It is executed where all of it is granted and allowed, and nowhere else.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<Capability>,
}

/// What can be done with an operation.
///
/// ```
/// use palfrey_host::engine::{Description, Kind};
///
/// /// The operations that can be folded with.
/// fn monoids(description: &Description) -> impl Iterator<Item = &str> {
///     let monoids = description.operations.iter().filter(|operation| operation.kind == Kind::Monoid);
///     monoids.map(|operation| operation.name.as_str())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It maps one element to another.
    Operation,
    /// It combines two elements to one: it can be folded, and mapped over pairs.
    Monoid,
}

/// A description that breaks a rule.
///
/// ```
/// use palfrey_host::engine::{DescriptionError, LoadError};
///
/// // What is wrong is the source of the error of loading.
/// let error = LoadError::from(DescriptionError::Duplicate("fib-at".to_owned()));
/// let source = std::error::Error::source(&error).expect("it has one");
/// assert_eq!(source.to_string(), "two operations have the name `fib-at`: rename one of them");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// The plugin's name.
    #[error(
        "the plugin's name {0:?} is not in kebab-case: use lower-case letters, digits and single hyphens, beginning with \
         a letter, at most 64 characters"
    )]
    PluginName(String),
    /// The plugin's version.
    #[error("the plugin's version {version:?} is not a semantic version such as `1.2.0`: {reason}")]
    Version {
        /// What it says.
        version: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing to execute.
    #[error("the plugin has no operations")]
    NoOperations,
    /// More operations than anybody needs.
    #[error("the plugin has {count} operations, and at most {MAX_OPERATIONS} are allowed: split it")]
    TooManyOperations {
        /// How many.
        count: usize,
    },
    /// An operation's name.
    #[error(
        "the operation's name {0:?} is not in kebab-case: use lower-case letters, digits and single hyphens, beginning \
         with a letter, at most 64 characters"
    )]
    OperationName(String),
    /// Two operations of one name.
    #[error("two operations have the name `{0}`: rename one of them")]
    Duplicate(String),
    /// An operation that understands nothing.
    #[error("the operation `{0}` understands no encoding: it must understand `postcard` or `cbor`")]
    NoEncodings(String),
    /// An encoding's name.
    #[error("the operation `{operation}` has an encoding {encoding:?}, which is not a lower-case name")]
    Encoding {
        /// Whose.
        operation: String,
        /// The name, cut.
        encoding: String,
    },
    /// Something is too large.
    #[error("the {what} of the operation `{operation}` has {size} {}, and at most {limit} are allowed", if what.starts_with("list") { "entries" } else { "bytes" })]
    TooLarge {
        /// Whose.
        operation: String,
        /// What of it.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Something that it needs and that nobody can grant.
    #[error("the operation `{operation}` needs what this release cannot give")]
    Need {
        /// Whose.
        operation: String,
        /// Which of its needs.
        source: CapabilityError,
    },
    /// A schema that is not JSON.
    #[error("the {what} of the operation `{operation}` is not JSON: {reason}")]
    Schema {
        /// Whose.
        operation: String,
        /// Which schema.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The most operations a plugin may have.
pub const MAX_OPERATIONS: usize = 1024;
/// The longest summary in bytes.
pub const MAX_SUMMARY: usize = 1024;
/// The largest schema in bytes.
pub const MAX_SCHEMA: usize = 64 << 10;
/// The most capabilities an operation may need.
pub(super) const MAX_NEEDS: usize = 16;
/// The most encodings an operation may name.
const MAX_ENCODINGS: usize = 16;

impl Description {
    /// The operation of a name.
    pub fn operation(&self, name: &str) -> Option<&Descriptor> {
        self.operations.iter().find(|operation| operation.name == name)
    }

    /// What any of its operations needs: what has to be granted to whoever is to execute all of them.
    pub fn needs(&self) -> BTreeSet<Capability> {
        self.operations.iter().flat_map(|operation| operation.needs.iter().cloned()).collect()
    }

    /// Checks everything that the contract demands, on what a plugin answered.
    pub(super) fn new(name: String, version: &str, operations: Vec<Descriptor>) -> Result<Self, DescriptionError> {
        if !is_kebab_case(&name) {
            return Err(DescriptionError::PluginName(cut(&name)));
        }
        let version = Version::parse(version)
            .map_err(|error| DescriptionError::Version { version: cut(version), reason: error.to_string() })?;
        if operations.is_empty() {
            return Err(DescriptionError::NoOperations);
        }
        if operations.len() > MAX_OPERATIONS {
            return Err(DescriptionError::TooManyOperations { count: operations.len() });
        }
        let mut names = HashSet::new();
        for operation in &operations {
            operation.check()?;
            if !names.insert(&operation.name) {
                return Err(DescriptionError::Duplicate(operation.name.clone()));
            }
        }
        Ok(Self { name, version, operations })
    }
}

impl Descriptor {
    /// Whether it understands an encoding.
    pub fn understands(&self, serializer: Serializer) -> bool {
        self.encodings.iter().any(|encoding| encoding == serializer.name())
    }

    /// Whether it is a function of its bytes (and of the attempt), on every machine and at any time. Then a result may be kept and
    /// used again, and it makes no difference which of two executions is listened to. Whoever relies on that asks here.
    ///
    /// ```
    /// # fn example(descriptor: &palfrey_host::engine::Descriptor) {
    /// if !descriptor.is_pure() {
    ///     println!("{} depends on {} of its worker", descriptor.name, descriptor.needs.len());
    /// }
    /// # }
    /// ```
    pub fn is_pure(&self) -> bool {
        self.needs.is_empty()
    }

    fn check(&self) -> Result<(), DescriptionError> {
        if !is_kebab_case(&self.name) {
            return Err(DescriptionError::OperationName(cut(&self.name)));
        }
        let operation = || self.name.clone();
        let small = |what, size, limit| {
            if size > limit {
                Err(DescriptionError::TooLarge { operation: operation(), what, size, limit })
            } else {
                Ok(())
            }
        };
        small("summary", self.summary.len(), MAX_SUMMARY)?;
        if self.encodings.is_empty() {
            return Err(DescriptionError::NoEncodings(operation()));
        }
        small("list of encodings", self.encodings.len(), MAX_ENCODINGS)?;
        small("list of needs", self.needs.len(), MAX_NEEDS)?;
        for encoding in &self.encodings {
            if !is_kebab_case(encoding) {
                return Err(DescriptionError::Encoding { operation: operation(), encoding: cut(encoding) });
            }
        }
        let schemas = [
            ("config schema", &self.config_schema),
            ("input schema", &self.input_schema),
            ("output schema", &self.output_schema),
        ];
        for (what, schema) in schemas {
            let Some(schema) = schema else { continue };
            small(what, schema.len(), MAX_SCHEMA)?;
            serde_json::from_str::<serde::de::IgnoredAny>(schema).map_err(|error| DescriptionError::Schema {
                operation: operation(),
                what,
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }
}

/// The beginning of a text that may be far too long for an error message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: &str) -> Descriptor {
        Descriptor {
            name: name.to_owned(),
            kind: Kind::Operation,
            summary: "Adds one.".to_owned(),
            encodings: vec!["postcard".to_owned()],
            config_schema: None,
            input_schema: Some(r#"{"name":"u64","ty":"U64"}"#.to_owned()),
            output_schema: None,
            needs: BTreeSet::new(),
        }
    }

    fn refused(name: &str, version: &str, operations: Vec<Descriptor>, expect: &str) {
        let error = Description::new(name.to_owned(), version, operations).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_description_that_keeps_the_rules_is_taken_as_it_is() {
        let description = Description::new("arith".to_owned(), "0.1.0-beta.1", vec![descriptor("fib-at")]).unwrap();
        assert!(description.operation("fib-at").unwrap().understands(Serializer::Postcard));
        assert!(!description.operation("fib-at").unwrap().understands(Serializer::Cbor));
        assert!(description.operation("fib").is_none());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let one = || vec![descriptor("fib-at")];
        refused("Arith", "0.1.0", one(), "the plugin's name \"Arith\" is not in kebab-case");
        refused("arith", "1.0", one(), "the plugin's version \"1.0\" is not a semantic version such as `1.2.0`");
        refused("arith", "0.1.0", vec![], "no operations");
        refused("arith", "0.1.0", vec![descriptor("fib_at")], "the operation's name \"fib_at\"");
        refused("arith", "0.1.0", vec![descriptor("a"), descriptor("b"), descriptor("a")], "have the name `a`: rename");
        let many = (0..=MAX_OPERATIONS).map(|number| descriptor(&format!("a{number}"))).collect();
        refused("arith", "0.1.0", many, "has 1025 operations, and at most 1024");
        let changed = |change: fn(&mut Descriptor)| {
            let mut operation = descriptor("fib-at");
            change(&mut operation);
            vec![operation]
        };
        refused("arith", "0.1.0", changed(|op| op.encodings.clear()), "`fib-at` understands no encoding");
        refused("arith", "0.1.0", changed(|op| op.encodings[0] = "JSON!".to_owned()), "encoding \"JSON!\"");
        refused("arith", "0.1.0", changed(|op| op.summary = "x".repeat(1025)), "the summary of the operation `fib-at`");
        let many =
            |op: &mut Descriptor| op.needs = (0..17).map(|number| Capability::Env(format!("N{number}"))).collect();
        refused("arith", "0.1.0", changed(many), "list of needs of the operation `fib-at` has 17");
        refused("arith", "0.1.0", changed(|op| op.output_schema = Some("u64".to_owned())), "output schema");
        refused("arith", "0.1.0", changed(|op| op.input_schema = Some("[".repeat(MAX_SCHEMA + 1))), "at most 65536");
    }

    mod hostile {
        use proptest::{collection::vec, option, prelude::*};

        use super::*;

        /// Names that are right, nearly right, and far too long.
        fn names() -> impl Strategy<Value = String> {
            prop_oneof![4 => "[a-z]{1,3}(-[a-z0-9]{1,3})?", 1 => "[-a-zA-Z_/.@]{0,5}", 1 => ("\\PC{0,3}", 0..2000_usize).prop_map(|(part, times)| part.repeat(times))]
        }

        fn schemas() -> impl Strategy<Value = Option<String>> {
            let nested = (0..2000_usize).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth));
            let long = (0..2 * MAX_SCHEMA).prop_map(|length| format!("\"{}\"", "x".repeat(length)));
            option::of(
                prop_oneof![3 => Just(r#"{"name":"u64","ty":"U64"}"#.to_owned()), 1 => "[\\[\\]{}\":,0-9a-z]{0,20}", 1 => nested, 1 => long],
            )
        }

        prop_compose! {
            fn descriptors()(
                name in names(),
                summary in prop_oneof![4 => "\\PC{0,20}", 1 => (0..2 * MAX_SUMMARY).prop_map(|length| "x".repeat(length))],
                encodings in prop_oneof![4 => vec("postcard|cbor", 1..3), 1 => vec(names(), 0..30)],
                schemas in [schemas(), schemas(), schemas()],
            ) -> Descriptor {
                let [config_schema, input_schema, output_schema] = schemas;
                let needs = BTreeSet::new();
                Descriptor { name, kind: Kind::Monoid, summary, encodings, config_schema, input_schema, output_schema, needs }
            }
        }

        proptest! {
            /// What a component says about itself keeps the rules, or is refused in a line.
            #[test]
            fn a_description_keeps_the_rules_or_is_refused(
                name in names(),
                version in prop_oneof![4 => "[0-9]\\.[0-9]\\.[0-9]", 1 => "[-+.0-9a-z]{0,30}", 1 => "1\\.[0-9]{20,400}\\.0"],
                operations in vec(descriptors(), 0..4),
                times in prop_oneof![20 => Just(1_usize), 1 => Just(2000)],
            ) {
                let operations = operations.iter().cycle().take(operations.len() * times).cloned().collect::<Vec<_>>();
                let (given, mut described) = ((name.clone(), operations.clone()), None);
                let allocated =
                    allocation_counter::measure(|| described = Some(Description::new(given.0, &version, given.1)));
                // What is new are a set of the names, an error of a line, and the version.
                prop_assert!(allocated.bytes_max <= 256 << 10, "{} bytes", allocated.bytes_max);
                match described.unwrap() {
                    Err(error) => prop_assert!(error.to_string().len() <= 1000, "{} bytes", error.to_string().len()),
                    Ok(description) => {
                        prop_assert!(is_kebab_case(&description.name) && description.name == name);
                        prop_assert_eq!(description.version.to_string().parse::<Version>().unwrap(), description.version);
                        prop_assert!((1..=MAX_OPERATIONS).contains(&operations.len()));
                        let names: HashSet<_> = operations.iter().map(|operation| &operation.name).collect();
                        prop_assert_eq!(names.len(), operations.len());
                        for operation in &operations {
                            prop_assert!(is_kebab_case(&operation.name) && operation.summary.len() <= MAX_SUMMARY);
                            prop_assert!((1..=MAX_ENCODINGS).contains(&operation.encodings.len()));
                            for schema in [&operation.config_schema, &operation.input_schema, &operation.output_schema] {
                                prop_assert!(schema.as_ref().is_none_or(|schema| schema.len() <= MAX_SCHEMA));
                            }
                        }
                    }
                }
            }
        }
    }
}
