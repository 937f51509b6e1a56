//! The plugin that misbehaves by name (`tests/guests`), and how tests call it.

use std::sync::LazyLock;

use palfrey_host::{
    engine::{Call, Engine, EngineConfig, LimitRules, Limits, MapOutcome, Plugin, Stopped},
    task::{Cause, Packed},
};

/// The component's bytes.
pub(crate) fn wasm() -> Vec<u8> {
    crate::component("palfrey_test_guests")
}

/// The bytes with each occurrence of a text replaced by one as long.
pub(crate) fn changed(mut wasm: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths are written elsewhere in the component");
    let mut found = 0;
    for start in 0..=wasm.len() - from.len() {
        let window = &mut wasm[start..start + from.len()];
        if window == from.as_bytes() {
            window.copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from} is not in the component");
    wasm
}

macro_rules! modes {
    ($($name:ident)*) => {
        /// The ways in which it can describe itself.
        pub(crate) const MODES: &[&str] = &[$(stringify!($name)),*];
    };
}
include!("../../../../tests/guests/src/modes.rs");
for_each_mode!(modes);

/// The component, describing itself in another way.
pub(crate) fn describing(mode: &str) -> Vec<u8> {
    let marker = |mode: &str| format!("palfrey-test-guests describe:{mode:<7}");
    changed(wasm(), &marker("normal"), &marker(mode))
}

/// One that finds machine code in the cache that tests share.
pub(crate) fn engine(slots: usize) -> Engine {
    Engine::new(&EngineConfig { slots, cache_dir: crate::cache_dir(), ..EngineConfig::default() }).unwrap()
}

pub(crate) fn engine_with(rules: &[&str]) -> Engine {
    let limits: LimitRules =
        rules.iter().map(|rule| rule.parse::<palfrey_host::engine::LimitRule>().unwrap()).collect();
    Engine::new(&EngineConfig { limits, cache_dir: crate::cache_dir(), ..EngineConfig::default() }).unwrap()
}

/// One that most tests share, in an engine with room for all of them.
pub(crate) fn plugin() -> &'static Plugin {
    static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| engine(4).load(&wasm()).unwrap());
    &PLUGIN
}

/// A call with a number as config. It has time enough for a slow machine, and an end.
pub(crate) fn call<'a>(operation: &'a str, parameter: &'a str) -> Call<'a> {
    Call::new(operation, parameter.as_bytes(), Limits { time: std::time::Duration::from_secs(60), ..Limits::default() })
}

pub(crate) fn inputs() -> Packed {
    ["a", "bc", ""].into_iter().collect()
}

pub(crate) fn map(operation: &str, parameter: u64) -> Result<MapOutcome, Stopped> {
    plugin().map(&call(operation, &parameter.to_string()), &inputs())
}

/// Calls an operation that does not come to an end of its own.
pub(crate) fn stopped(operation: &str, parameter: u64) -> Stopped {
    map(operation, parameter).unwrap_err()
}

/// The text that each element of a batch became.
pub(crate) fn text(outcome: &MapOutcome) -> String {
    String::from_utf8(outcome.outputs.get(0).unwrap().to_vec()).unwrap()
}

/// Calls an operation that is stopped with a cause, and a message that contains a text.
pub(crate) fn check(operation: &str, parameter: u64, cause: &Cause, message: &str) {
    let stopped = stopped(operation, parameter);
    assert_eq!(&stopped.cause, cause, "{operation}: {stopped}");
    assert!(stopped.message.contains(message), "{operation}: {stopped}");
}
