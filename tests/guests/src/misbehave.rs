//! The operations.

use std::{
    collections::hash_map::RandomState,
    fmt::Debug,
    hash::BuildHasher,
    hint::black_box,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use crate::component::{
    context,
    operations::MapOutcome,
    types::{
        BadInput, ElementFailure, ExponentialRetry, Failure, FailureKind, FatalStrategy, Packed, RetryStrategy,
        TransientFailure, Undecodable,
    },
};

macro_rules! operations {
    ($($name:ident)*) => {
        /// What is understood, in snake case here and in kebab case outside.
        #[derive(Clone, Copy)]
        #[expect(non_camel_case_types, reason = "it saves a second list of the names")]
        enum Operation {
            $($name),*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];

        impl Operation {
            fn named(name: &str) -> Option<Self> {
                match name.replace('-', "_").as_str() {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}
include!("names.rs");
for_each_operation!(operations);

/// What is described: all of them.
pub(crate) fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| name.replace('_', "-"))
}

/// Misbehaves as the name says. The parameter is a count or a size where one is needed.
pub(crate) fn map(operation: &str, parameter: u64, inputs: Packed) -> MapOutcome {
    let elements = inputs.ends.len();
    let fail_at = |index: usize, failure| MapOutcome {
        outputs: Packed { bytes: vec![0; index], ends: (1..=index as u32).collect() },
        failure: Some(ElementFailure { index: index as u32, failure }),
    };
    let Some(operation) = Operation::named(operation) else {
        return fail_at(0, failure(FailureKind::Unsupported));
    };
    match operation {
        Operation::echo => outputs(inputs),
        Operation::fail_transiently => fail_at(1, transient(parameter)),
        Operation::fail_fatally => fail_at(0, failure(FailureKind::Fatal(FatalStrategy::Ignore))),
        Operation::fail_at_length => {
            let mut failure = failure(FailureKind::Fatal(FatalStrategy::Terminate));
            failure.message = "x".repeat(parameter as usize);
            failure.causes = vec!["y".repeat(parameter as usize); 100];
            fail_at(0, failure)
        }
        Operation::refuse_config => fail_at(0, bad_input(Undecodable::Config, parameter)),
        Operation::refuse_element => fail_at(1, bad_input(Undecodable::Element, parameter)),

        Operation::spin => spin(),
        Operation::allocate => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        Operation::recurse => same(elements, &[recurse(1) as u8]),
        Operation::panic => {
            std::panic::set_hook(Box::new(|info| {
                context::panicked(&info.to_string(), info.location().map(ToString::to_string).as_deref());
            }));
            panic!("by intent")
        }
        Operation::panic_unannounced => panic!("by intent"),
        Operation::confess_at_length => {
            context::panicked(&"x".repeat(parameter as usize), None);
            std::process::abort()
        }
        Operation::confess_and_go_on => {
            context::panicked("not really", None);
            outputs(inputs)
        }
        Operation::exit => std::process::exit(parameter as i32),
        Operation::abort => std::process::abort(),

        Operation::return_bytes => same(1, &vec![7; parameter as usize]),
        Operation::return_too_few => same(elements - 1, b"x"),
        Operation::return_too_many => same(elements + 1, b"x"),
        Operation::decreasing_offsets => outputs(Packed { bytes: vec![0; 3], ends: vec![2, 1] }),
        Operation::offsets_beyond_the_end => outputs(Packed { bytes: vec![0; 3], ends: vec![2, 4] }),
        Operation::fail_behind_a_gap => {
            let mut outcome = fail_at(1, failure(FailureKind::Unsupported));
            outcome.outputs = Packed { bytes: Vec::new(), ends: Vec::new() };
            outcome
        }
        Operation::fail_beyond_the_end => fail_at(elements, failure(FailureKind::Unsupported)),
        Operation::malformed_text => {
            let mut failure = failure(FailureKind::Unsupported);
            #[expect(unsafe_code, reason = "the host must not believe a guest that does this")]
            // SAFETY: none. Nothing reads the text as such before it leaves the component.
            let message = unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe]) };
            failure.message = message;
            fail_at(0, failure)
        }

        Operation::print => {
            for line in 0..parameter {
                println!("out {line}");
                eprintln!("err {line}");
            }
            outputs(inputs)
        }
        Operation::print_and_abort => {
            print!("unfinished");
            std::io::stdout().flush().unwrap_or_default();
            eprintln!("last words");
            std::process::abort()
        }
        Operation::log => {
            for line in 0..parameter {
                context::log(context::Level::Warn, "guests::log", &format!("message {line}"));
            }
            outputs(inputs)
        }
        Operation::log_at_length => {
            context::log(context::Level::Info, &"t".repeat(parameter as usize), &"x".repeat(parameter as usize));
            outputs(inputs)
        }

        Operation::sleep => {
            let before = Instant::now();
            std::thread::sleep(Duration::from_secs(parameter));
            same(elements, before.elapsed().as_secs().to_string().as_bytes())
        }
        Operation::look_around => same(elements, look_around().as_bytes()),
        Operation::look_outside => same(elements, look_outside().as_bytes()),
        Operation::count_calls => {
            static CALLS: AtomicU32 = AtomicU32::new(0);
            same(elements, CALLS.fetch_add(1, Relaxed).to_string().as_bytes())
        }
        Operation::ask_context => {
            let answer = format!("attempt {} cancelled {}", context::attempt(), context::cancelled());
            same(elements, answer.as_bytes())
        }
        Operation::report_progress => {
            for done in 0..=parameter {
                context::progress(done, parameter, "rows");
            }
            outputs(inputs)
        }
        Operation::await_cancellation => {
            while !context::cancelled() {
                black_box(());
            }
            // Far from done, it would go on for ever: being told is not being stopped.
            spin()
        }

        Operation::panic_within_panic => {
            std::panic::set_hook(Box::new(|_| panic!("in the hook")));
            panic!("by intent")
        }
        Operation::grow_page_by_page => {
            #[cfg(target_arch = "wasm32")]
            while core::arch::wasm32::memory_grow(0, 1) != usize::MAX {}
            outputs(inputs)
        }
        Operation::return_offsets => outputs(Packed { bytes: Vec::new(), ends: vec![0; parameter as usize] }),
        Operation::print_at_length => {
            let line = "x".repeat(1 << 16);
            for _ in 0..parameter {
                print!("{line}");
                eprint!("{line}");
            }
            outputs(inputs)
        }
        Operation::deny_itself => fail_at(0, failure(FailureKind::Unsupported)),
        Operation::draw_random => each(elements, |_| RandomState::new().hash_one("guests").to_string()),
        Operation::read_clock => each(elements, |_| format!("{:?}", since_epoch())),
        Operation::compute_nan => {
            let [zero, none, infinity, all] = black_box([0.0, 0.0, f64::INFINITY, f64::INFINITY]);
            let payload = black_box(f64::from_bits(0xfff4_dead_beef_0001));
            let nans = [zero / none, (-infinity).sqrt(), infinity - all, payload + 1.0, payload * payload];
            same(elements, format!("{:x?}", nans.map(f64::to_bits)).as_bytes())
        }
    }
}

/// Concatenates, or misbehaves as [`map`] does.
pub(crate) fn fold(monoid: &str, parameter: u64, inputs: Packed) -> Result<Vec<u8>, ElementFailure> {
    match monoid {
        "echo" => Ok(inputs.bytes),
        "return-bytes" => Ok(vec![7; parameter as usize]),
        "fail-transiently" => Err(ElementFailure { index: 1, failure: transient(parameter) }),
        "fail-beyond-the-end" => {
            Err(ElementFailure { index: inputs.ends.len() as u32, failure: failure(FailureKind::Unsupported) })
        }
        "panic" | "spin" | "abort" => Ok(map(monoid, parameter, inputs).outputs.bytes),
        _ => Err(ElementFailure { index: 0, failure: failure(FailureKind::Unsupported) }),
    }
}

pub(crate) fn spin() -> ! {
    loop {
        black_box(());
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    // Both sides are used, so that it is neither a loop nor a tail call.
    black_box(recurse(black_box(depth + 1))) + depth
}

fn outputs(outputs: Packed) -> MapOutcome {
    MapOutcome { outputs, failure: None }
}

/// The same output so many times.
fn same(elements: usize, output: &[u8]) -> MapOutcome {
    let ends = (1..=elements).map(|count| (count * output.len()) as u32).collect();
    outputs(Packed { bytes: output.repeat(elements), ends })
}

/// An output for each element, made one after the other.
fn each(elements: usize, output: impl Fn(usize) -> String) -> MapOutcome {
    let mut made = Packed { bytes: Vec::new(), ends: Vec::new() };
    for index in 0..elements {
        made.bytes.extend(output(index).into_bytes());
        made.ends.push(made.bytes.len() as u32);
    }
    outputs(made)
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, message: "by intent".to_owned(), causes: vec!["near".to_owned(), "far".to_owned()] }
}

fn transient(delay_ms: u64) -> Failure {
    failure(FailureKind::Transient(TransientFailure {
        retry: RetryStrategy::Exponential(ExponentialRetry {
            max_retries: u32::MAX,
            min_delay_ms: delay_ms,
            max_delay_ms: u64::MAX,
        }),
        exhausted: FatalStrategy::Ignore,
    }))
}

fn bad_input(what: Undecodable, position: u64) -> Failure {
    failure(FailureKind::BadInput(BadInput { what, position: Some(position as u32) }))
}

/// Everything that could differ between two machines.
fn look_around() -> String {
    let start = Instant::now();
    let mut heap = Vec::new();
    for _ in 0..4 {
        heap.push(RandomState::new().hash_one("guests"));
    }
    format!(
        "random {heap:?} now {:?} again {:?} elapsed {:?} environment {:?} arguments {:?} stdin {:?}",
        since_epoch(),
        since_epoch(),
        start.elapsed(),
        std::env::vars().collect::<Vec<_>>(),
        std::env::args().collect::<Vec<_>>(),
        std::io::stdin().read(&mut [0; 8]).ok(),
    )
}

/// A number that would differ from call to call in an ordinary process.
pub(crate) fn something_else_each_time() -> u64 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = u64::from(CALLS.fetch_add(1, Relaxed));
    (RandomState::new().hash_one(calls) >> 8) ^ since_epoch().as_nanos() as u64
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// What nothing is granted for: each should be an error.
fn look_outside() -> String {
    fn outcome<T: Debug>(result: std::io::Result<T>) -> &'static str {
        if result.is_ok() { "granted" } else { "refused" }
    }
    format!(
        "read {} write {} list {} tcp {} udp {}",
        outcome(std::fs::read("/etc/passwd")),
        outcome(std::fs::write("file", "text")),
        outcome(std::fs::read_dir(".").map(drop)),
        outcome(TcpStream::connect("127.0.0.1:80")),
        outcome(UdpSocket::bind("127.0.0.1:0")),
    )
}
