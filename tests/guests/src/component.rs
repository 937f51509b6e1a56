//! The component around the operations, and its description.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "plugin", generate_all });
}

pub(crate) use bindings::{exports::palfrey::plugin::operations, palfrey::plugin::context, palfrey::plugin::types};

use crate::misbehave::{OPERATIONS, fold, map};

/// How `describe` misbehaves: the word behind the colon. Tests overwrite it in the component's bytes with one as long.
static MODE: [u8; 36] = *b"palfrey-test-guests describe:normal ";

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
            operations: OPERATIONS.iter().map(|name| descriptor(name)).collect(),
        };
        match mode {
            "normal" => {}
            "kebab" => description.operations[0].name = "Not_Kebab".to_owned(),
            "twice" => description.operations.push(descriptor(OPERATIONS[0])),
            "version" => description.version = "1".to_owned(),
            "nothing" => description.operations.clear(),
            "huge" => description.operations[0].summary = "x".repeat(1025),
            "endless" => description.operations[0].summary = "x".repeat(17 << 20),
            "meganam" => description.operations[0].name = "x".repeat(1 << 20),
            "many" => description.operations = (0..10_000).map(|number| descriptor(&format!("o{number}"))).collect(),
            "differ" => description.version = format!("0.1.{}", crate::misbehave::something_else_each_time()),
            "flood" => (0..100_000).for_each(|line| println!("line {line}")),
            "exit" => std::process::exit(1),
            "panic" => panic!("nothing to describe"),
            "spin" => crate::misbehave::spin(),
            other => panic!("the test asks for an unknown mode {other:?}"),
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
