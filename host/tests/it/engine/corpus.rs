//! Every operation of the plugin that misbehaves ends as its [verdict](super::verdicts) says, and the next call of the same engine
//! is executed. [`raw`](super::raw) has the guests that no compiler makes.

use palfrey_host::engine::{Call, Plugin};

use super::{
    guests::{inputs, plugin},
    verdicts::{Trial, Verdict, verdict},
};

impl Trial {
    /// Calls the guest.
    pub(crate) fn run(&self, plugin: &Plugin, operation: &str) {
        let config = self.parameter.to_string();
        let outcome = plugin.map(&Call::new(operation, config.as_bytes(), self.limits), &inputs());
        match (&self.verdict, outcome) {
            (Verdict::Answers(text), Ok(outcome)) if outcome.failure.is_none() => {
                let output = outcome.outputs.get(0).unwrap();
                let output = String::from_utf8_lossy(&output);
                assert!(output.contains(text), "{operation}: {output}");
            }
            (Verdict::Fails(cause), Ok(outcome)) => {
                let (_, failure) = outcome.failure.unwrap_or_else(|| panic!("{operation} did not fail"));
                assert!(cause(&failure.kind.clone().into()), "{operation}: {failure:?}");
            }
            (Verdict::Stopped(cause, message), Err(stopped)) => {
                assert!(cause(&stopped.cause), "{operation}: {stopped:?}");
                assert!(stopped.to_string().contains(message), "{operation}: {stopped}");
            }
            (_, outcome) => panic!("{operation}: {outcome:?}"),
        }
    }
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                verdict::$name().run(plugin(), &stringify!($name).replace('_', "-"));
                verdict::echo().run(plugin(), "echo");
            }
        )*
    };
}
include!("../../../../tests/guests/src/names.rs");
for_each_operation!(tests);
