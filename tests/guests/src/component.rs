//! The component around the operations, and its description.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "plugin", generate_all });
}

pub(crate) use bindings::{exports::palfrey::plugin::operations, palfrey::plugin::context, palfrey::plugin::types};

use crate::misbehave::{fold, map, names};

/// How `describe` misbehaves: the word behind the colon. Tests overwrite it in the component's bytes with one as long.
static MODE: [u8; 36] = *b"palfrey-test-guests describe:normal ";

macro_rules! modes {
    ($($name:ident)*) => {
        #[expect(non_camel_case_types, reason = "it saves a second list of the names")]
        enum Mode {
            $($name),*
        }

        impl Mode {
            fn named(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}
include!("modes.rs");
for_each_mode!(modes);

struct Guests;

#[expect(unsafe_code, reason = "generated: functions that are called from outside")]
mod export {
    use super::{Guests, bindings};

    bindings::export!(Guests with_types_in bindings);
}

impl operations::Guest for Guests {
    fn describe() -> operations::Description {
        // Read as it is in memory: the compiler must not decide what it says.
        let mode = std::hint::black_box(&MODE);
        let mode = std::str::from_utf8(&mode[29..]).unwrap_or_default().trim_end();
        let mut description = operations::Description {
            name: "test-guests".to_owned(),
            version: "0.1.0".to_owned(),
            operations: names().map(|name| descriptor(&name)).collect(),
        };
        let mode = Mode::named(mode).unwrap_or_else(|| panic!("the test asks for an unknown mode {mode:?}"));
        match mode {
            Mode::normal => {}
            Mode::kebab => description.operations[0].name = "Not_Kebab".to_owned(),
            Mode::twice => description.operations.push(description.operations[0].clone()),
            Mode::version => description.version = "1".to_owned(),
            Mode::nothing => description.operations.clear(),
            Mode::huge => description.operations[0].summary = "x".repeat(1025),
            Mode::endless => description.operations[0].summary = "x".repeat(17 << 20),
            Mode::meganam => description.operations[0].name = "x".repeat(1 << 20),
            Mode::many => {
                description.operations = (0..10_000).map(|number| descriptor(&format!("o{number}"))).collect();
            }
            Mode::differ => description.version = format!("0.1.{}", crate::misbehave::something_else_each_time()),
            Mode::flood => (0..100_000).for_each(|line| println!("line {line}")),
            Mode::exit => std::process::exit(1),
            Mode::panic => panic!("nothing to describe"),
            Mode::spin => crate::misbehave::spin(),
        }
        description
    }

    fn map(operation: String, config: Vec<u8>, _: String, inputs: types::Packed) -> operations::MapOutcome {
        map(&operation, parameter(&config), inputs)
    }

    fn fold(
        monoid: String,
        config: Vec<u8>,
        _: String,
        inputs: types::Packed,
    ) -> Result<Vec<u8>, types::ElementFailure> {
        fold(&monoid, parameter(&config), inputs)
    }

    fn empty(monoid: String, config: Vec<u8>, _: String) -> Result<Vec<u8>, types::Failure> {
        fold(&monoid, parameter(&config), types::Packed { bytes: Vec::new(), ends: Vec::new() })
            .map_err(|failure| failure.failure)
    }
}

fn descriptor(name: &str) -> operations::Descriptor {
    operations::Descriptor {
        name: name.to_owned(),
        kind: operations::Kind::Monoid,
        summary: "Misbehaves.".to_owned(),
        encodings: vec!["postcard".to_owned(), "cbor".to_owned()],
        config_schema: None,
        input_schema: None,
        output_schema: Some(r#"{"name":"Vec<u8>"}"#.to_owned()),
        needs: Vec::new(),
    }
}

fn parameter(config: &[u8]) -> u64 {
    std::str::from_utf8(config).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}
