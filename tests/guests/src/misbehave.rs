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

/// What is described; more is understood.
pub(crate) const OPERATIONS: [&str; 3] = ["echo", "spin", "panic"];

/// Misbehaves as the name says. The parameter is a count or a size where one is needed.
pub(crate) fn map(operation: &str, parameter: u64, inputs: Packed) -> MapOutcome {
    let elements = inputs.ends.len();
    let fail_at = |index: usize, failure| MapOutcome {
        outputs: Packed { bytes: vec![0; index], ends: (1..=index as u32).collect() },
        failure: Some(ElementFailure { index: index as u32, failure }),
    };
    match operation {
        "echo" => outputs(inputs),
        "fail-transiently" => fail_at(1, transient(parameter)),
        "fail-fatally" => fail_at(0, failure(FailureKind::Fatal(FatalStrategy::Ignore))),
        "fail-at-length" => {
            let mut failure = failure(FailureKind::Fatal(FatalStrategy::Terminate));
            failure.message = "x".repeat(parameter as usize);
            failure.causes = vec!["y".repeat(parameter as usize); 100];
            fail_at(0, failure)
        }
        "refuse-config" => fail_at(0, bad_input(Undecodable::Config, parameter)),
        "refuse-element" => fail_at(1, bad_input(Undecodable::Element, parameter)),

        "spin" => spin(),
        "allocate" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "recurse" => same(elements, &[recurse(1) as u8]),
        "panic" => {
            std::panic::set_hook(Box::new(|info| {
                context::panicked(&info.to_string(), info.location().map(ToString::to_string).as_deref());
            }));
            panic!("by intent")
        }
        "panic-unannounced" => panic!("by intent"),
        "confess-at-length" => {
            context::panicked(&"x".repeat(parameter as usize), None);
            std::process::abort()
        }
        "confess-and-go-on" => {
            context::panicked("not really", None);
            outputs(inputs)
        }
        "exit" => std::process::exit(parameter as i32),
        "abort" => std::process::abort(),

        "return-bytes" => same(1, &vec![7; parameter as usize]),
        "return-too-few" => same(elements - 1, b"x"),
        "return-too-many" => same(elements + 1, b"x"),
        "decreasing-offsets" => outputs(Packed { bytes: vec![0; 3], ends: vec![2, 1] }),
        "offsets-beyond-the-end" => outputs(Packed { bytes: vec![0; 3], ends: vec![2, 4] }),
        "fail-behind-a-gap" => {
            let mut outcome = fail_at(1, failure(FailureKind::Unsupported));
            outcome.outputs = Packed { bytes: Vec::new(), ends: Vec::new() };
            outcome
        }
        "fail-beyond-the-end" => fail_at(elements, failure(FailureKind::Unsupported)),
        "malformed-text" => {
            let mut failure = failure(FailureKind::Unsupported);
            #[expect(unsafe_code, reason = "the host must not believe a guest that does this")]
            // SAFETY: none. Nothing reads the text as such before it leaves the component.
            let message = unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe]) };
            failure.message = message;
            fail_at(0, failure)
        }

        "print" => {
            for line in 0..parameter {
                println!("out {line}");
                eprintln!("err {line}");
            }
            outputs(inputs)
        }
        "print-and-abort" => {
            print!("unfinished");
            std::io::stdout().flush().unwrap_or_default();
            eprintln!("last words");
            std::process::abort()
        }
        "log" => {
            for line in 0..parameter {
                context::log(context::Level::Warn, "guests::log", &format!("message {line}"));
            }
            outputs(inputs)
        }
        "log-at-length" => {
            context::log(context::Level::Info, &"t".repeat(parameter as usize), &"x".repeat(parameter as usize));
            outputs(inputs)
        }

        "sleep" => {
            let before = Instant::now();
            std::thread::sleep(Duration::from_secs(parameter));
            same(elements, before.elapsed().as_secs().to_string().as_bytes())
        }
        "look-around" => same(elements, look_around().as_bytes()),
        "look-outside" => same(elements, look_outside().as_bytes()),
        "count-calls" => {
            static CALLS: AtomicU32 = AtomicU32::new(0);
            same(elements, CALLS.fetch_add(1, Relaxed).to_string().as_bytes())
        }
        "ask-context" => {
            let answer = format!("attempt {} cancelled {}", context::attempt(), context::cancelled());
            same(elements, answer.as_bytes())
        }
        "report-progress" => {
            for done in 0..=parameter {
                context::progress(done, parameter, "rows");
            }
            outputs(inputs)
        }
        "await-cancellation" => {
            while !context::cancelled() {
                black_box(());
            }
            // Far from done, it would go on for ever: being told is not being stopped.
            spin()
        }
        _ => fail_at(0, failure(FailureKind::Unsupported)),
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
