//! How each operation of the plugin that misbehaves ends, by its name there. An operation without a verdict does not compile.
//!
//! The tests of the engine read this (`corpus.rs`), and those with a worker process (`tests/src/hostile.rs`).

use std::time::Duration;

use palfrey_host::{engine::Limits, task::Cause};

/// What is called, and how that ends.
pub(crate) struct Trial {
    pub(crate) parameter: u64,
    pub(crate) limits: Limits,
    pub(crate) verdict: Verdict,
}

pub(crate) enum Verdict {
    /// With outputs. The first one contains a text.
    Answers(&'static str),
    /// With a failure that the guest reports.
    Fails(fn(&Cause) -> bool),
    /// By force, for a cause, with a message that contains a text.
    Stopped(fn(&Cause) -> bool, &'static str),
}

impl Trial {
    fn with(self, parameter: u64) -> Self {
        Self { parameter, ..self }
    }

    /// What most guests need to reach the limit, and little more.
    fn within(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }
}

fn trial(verdict: Verdict) -> Trial {
    let limits = Limits { time: Duration::from_secs(60), memory: 64 << 20, output: 1 << 20, ..Limits::default() };
    Trial { parameter: 0, limits, verdict }
}

pub(crate) fn answers(text: &'static str) -> Trial {
    trial(Verdict::Answers(text))
}

fn fails(cause: fn(&Cause) -> bool) -> Trial {
    trial(Verdict::Fails(cause))
}

pub(crate) fn stopped(cause: fn(&Cause) -> bool, message: &'static str) -> Trial {
    trial(Verdict::Stopped(cause, message))
}

pub(crate) fn deadline() -> Trial {
    let stopped =
        stopped(|cause| matches!(cause, Cause::Deadline { .. }), "longer than the limit of 5ms: it did not return");
    stopped.within(|limits| limits.time = Duration::from_millis(5))
}

pub(crate) fn trap(message: &'static str) -> Trial {
    stopped(|cause| matches!(cause, Cause::Trap), message)
}

fn panicked(message: &'static str) -> Trial {
    stopped(|cause| matches!(cause, Cause::Panic { .. }), message)
}

pub(crate) fn contract(message: &'static str) -> Trial {
    stopped(|cause| matches!(cause, Cause::Contract), message)
}

pub(crate) fn memory(message: &'static str) -> Trial {
    stopped(|cause| matches!(cause, Cause::Memory { .. }), message).within(|limits| limits.memory = 8 << 20)
}

pub(crate) fn too_large() -> Trial {
    stopped(|cause| matches!(cause, Cause::OutputTooLarge { .. }), "`output` is the limit to raise")
}

/// By the names of the operations.
pub(crate) mod verdict {
    use super::*;

    pub(crate) fn echo() -> Trial {
        answers("a")
    }
    pub(crate) fn fail_transiently() -> Trial {
        fails(|cause| matches!(cause, Cause::Transient { .. }))
    }
    pub(crate) fn fail_fatally() -> Trial {
        fails(|cause| matches!(cause, Cause::Fatal { .. }))
    }
    pub(crate) fn fail_at_length() -> Trial {
        fails(|cause| matches!(cause, Cause::Fatal { .. })).with(10_000)
    }
    pub(crate) fn refuse_config() -> Trial {
        fails(|cause| matches!(cause, Cause::BadInput { config: true, .. }))
    }
    pub(crate) fn refuse_element() -> Trial {
        fails(|cause| matches!(cause, Cause::BadInput { config: false, .. }))
    }
    pub(crate) fn deny_itself() -> Trial {
        fails(|cause| matches!(cause, Cause::Unsupported))
    }

    pub(crate) fn spin() -> Trial {
        deadline()
    }
    pub(crate) fn await_cancellation() -> Trial {
        deadline()
    }
    pub(crate) fn allocate() -> Trial {
        memory("`memory` is the limit to raise")
    }
    pub(crate) fn grow_page_by_page() -> Trial {
        memory("it wanted 8.")
    }
    pub(crate) fn recurse() -> Trial {
        trap("call stack exhausted")
    }
    pub(crate) fn panic() -> Trial {
        panicked("by intent")
    }
    pub(crate) fn panic_unannounced() -> Trial {
        trap("unreachable")
    }
    pub(crate) fn panic_within_panic() -> Trial {
        trap("unreachable")
    }
    pub(crate) fn confess_at_length() -> Trial {
        panicked("xxx").with(10_000)
    }
    pub(crate) fn confess_and_go_on() -> Trial {
        answers("a")
    }
    pub(crate) fn exit() -> Trial {
        trap("it ended its process with exit status 1").with(3)
    }
    pub(crate) fn abort() -> Trial {
        trap("unreachable")
    }

    pub(crate) fn return_bytes() -> Trial {
        too_large().with(4 << 20)
    }
    pub(crate) fn return_offsets() -> Trial {
        too_large().with(4 << 20)
    }
    pub(crate) fn return_too_few() -> Trial {
        contract("it returned 2 outputs for 3 inputs")
    }
    pub(crate) fn return_too_many() -> Trial {
        contract("it returned 4 outputs for 3 inputs")
    }
    pub(crate) fn decreasing_offsets() -> Trial {
        contract("offset 1 is 1, less than the 2 before it")
    }
    pub(crate) fn offsets_beyond_the_end() -> Trial {
        contract("the last offset is 4, and the buffer has 3 bytes")
    }
    pub(crate) fn fail_behind_a_gap() -> Trial {
        contract("it returned 0 outputs and the failure of element 1")
    }
    pub(crate) fn fail_beyond_the_end() -> Trial {
        contract("it failed at element 3 of a batch of 3")
    }
    pub(crate) fn malformed_text() -> Trial {
        contract("its answer cannot be read")
    }

    // What is said is cut, and stops nobody: see the tests of speech.
    pub(crate) fn print() -> Trial {
        answers("a").with(1_000)
    }
    pub(crate) fn print_at_length() -> Trial {
        answers("a").with(10)
    }
    pub(crate) fn print_and_abort() -> Trial {
        trap("unreachable")
    }
    pub(crate) fn log() -> Trial {
        answers("a").with(1_000)
    }
    pub(crate) fn log_at_length() -> Trial {
        answers("a").with(1 << 20)
    }
    pub(crate) fn report_progress() -> Trial {
        answers("a").with(10_000)
    }

    // What is looked for is not there.
    pub(crate) fn sleep() -> Trial {
        answers("3600").with(3600)
    }
    pub(crate) fn look_around() -> Trial {
        answers("environment [] arguments [] stdin Some(0)")
    }
    pub(crate) fn look_outside() -> Trial {
        answers("read refused write refused list refused tcp refused udp refused")
    }
    pub(crate) fn count_calls() -> Trial {
        answers("0")
    }
    pub(crate) fn ask_context() -> Trial {
        answers("attempt 0 cancelled false")
    }
    pub(crate) fn draw_random() -> Trial {
        answers("")
    }
    pub(crate) fn read_clock() -> Trial {
        answers("946684800s")
    }
    pub(crate) fn compute_nan() -> Trial {
        let nan = "[7ff8000000000000, 7ff8000000000000, 7ff8000000000000, 7ff8000000000000, 7ff8000000000000]";
        answers(nan)
    }
}

macro_rules! list {
    ($($name:ident)*) => {
        /// All of them, by the names of the operations.
        pub(crate) fn all() -> Vec<(String, Trial)> {
            vec![$((stringify!($name).replace('_', "-"), verdict::$name())),*]
        }
    };
}
include!("../../../../tests/guests/src/names.rs");
for_each_operation!(list);
