//! Compiling what nobody trusts: in a child process, within limits, and whatever becomes of it the engine goes on.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use palfrey_host::engine::{CompileLimits, Compiler, Engine, EngineConfig, LoadError};

use super::{
    guests::{call, inputs, wasm},
    raw,
};

fn child() -> Compiler {
    Compiler::Process { program: env!("CARGO_BIN_EXE_palfrey").into(), arguments: vec!["compile-component".into()] }
}

/// An engine that compiles in a child, within limits.
pub(crate) fn engine(limits: &str) -> Engine {
    let compile_limits = limits.parse().unwrap();
    Engine::new(&EngineConfig { compiler: child(), compile_limits, ..EngineConfig::default() }).unwrap()
}

/// A component of one core module, in text.
pub(crate) fn component(module: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {module}))")).unwrap()
}

/// Each loop carries each local around, and each may change it: the compiler has to connect them all.
pub(crate) fn many_locals_in_many_loops(locals: usize, loops: usize) -> Vec<u8> {
    let sets = (0..locals).map(|local| format!("(local.set {local} (i32.add (local.get {local}) (i32.const 1)))"));
    let sets = sets.collect::<Vec<_>>().join("\n");
    let body = format!("(loop {sets} (br_if 0 (local.get 0)))").repeat(loops);
    component(&format!("(func (local {}) {body})", "i32 ".repeat(locals)))
}

/// The engine loads another plugin, and executes it.
fn goes_on(engine: &Engine) {
    let plugin = engine.load(&wasm()).unwrap();
    assert_eq!(plugin.fold(&call("echo", "0"), &inputs()).unwrap().unwrap(), "abc");
}

macro_rules! check {
    ($limits:expr, $wasm:expr, $pattern:pat, $expect:expr) => {
        let engine = engine($limits);
        let error = engine.load($wasm).unwrap_err();
        assert!(matches!(error, $pattern), "{error:?}");
        assert!(error.to_string().contains($expect), "{error}");
        goes_on(&engine);
    };
}

#[test]
fn a_component_that_takes_for_ever_is_stopped_at_the_limit() {
    let slow = many_locals_in_many_loops(1_000, 200);
    let engine = engine("time=1s");
    let start = Instant::now();
    let error = engine.load(&slow).unwrap_err();
    assert!(matches!(error, LoadError::CompileTime { limit } if limit == Duration::from_secs(1)), "{error:?}");
    assert!(
        error.to_string().contains("longer than the limit of 1s") && error.to_string().contains("`time`"),
        "{error}"
    );
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(!error.is_temporary());
    // The same engine, whose limit is short for a busy machine: a component of nothing is compiled within it.
    let nothing = engine.load(b"\0asm\x0d\0\x01\0").unwrap_err();
    assert!(matches!(nothing, LoadError::NoOperations { .. } | LoadError::CompileTime { .. }), "{nothing:?}");
}

#[test]
fn a_component_that_takes_much_memory_is_stopped_at_the_limit() {
    let greedy = many_locals_in_many_loops(1_000, 100);
    check!("memory=96MiB", &greedy, LoadError::CompileMemory { .. }, "more memory than the limit of 96.0 MiB");
}

#[test]
fn more_machine_code_than_the_limit_is_refused() {
    let store = |number| format!("(i64.store (i32.const {number}) (i64.const 0x1234567890{number:05}))");
    let stores: String = (0..60_000).map(store).collect();
    let long = component(&format!("(memory 1) (func {stores})"));
    check!("code=800KiB", &long, LoadError::MachineCode { .. }, "machine code than the limit of 800.0 KiB");
}

#[test]
fn a_component_of_hundreds_of_megabytes_is_refused_before_anybody_reads_it() {
    let mut huge = vec![0; 300 << 20];
    huge[..8].copy_from_slice(b"\0asm\x0d\0\x01\0");
    check!(
        "time=50s",
        &huge,
        LoadError::TooLarge { size: 314_572_800, limit: 67_108_864 },
        "at most 64.0 MiB are allowed"
    );
}

/// A section behind a component that has everything it should have.
fn with_section(kind: u8, content: &[u8]) -> Vec<u8> {
    [&raw::with_fields(String::new()), [kind].as_slice(), &leb128(content.len()), content].concat()
}

#[test]
fn types_that_grow_with_each_of_their_parts_are_refused() {
    let engine = engine("time=50s");
    // Each is a tuple of two of the type before.
    let types = (0..2_000_usize).flat_map(|number| [vec![0x6f, 2], leb128(number), leb128(number)].concat());
    let types = [leb128(2_001), vec![0x6f, 2, 0x7d, 0x7d], types.collect()].concat();
    // In a component within, whose types are counted from zero.
    let within = [b"\0asm\x0d\0\x01\0".as_slice(), &[7], &leb128(types.len()), &types].concat();
    let error = engine.load(&with_section(4, &within)).unwrap_err();
    assert!(matches!(error, LoadError::Malformed { .. }), "{error:?}");
    assert!(format!("{error:?}").contains("size"), "{error:?}");
    goes_on(&engine);
}

#[test]
fn what_is_nested_or_repeated_often_is_compiled_and_executed() {
    // As bytes, because text so deep would overflow the parser of the test.
    let components = (0..200).fold(b"\0asm\x0d\0\x01\0".to_vec(), |inner, _| {
        [b"\0asm\x0d\0\x01\0\x04".as_slice(), &leb128(inner.len()), &inner].concat()
    });
    let blocks = format!("(func {}{})", "block ".repeat(50_000), "end ".repeat(50_000));
    let exports: String = (0..10_000).map(|number| format!("(export \"e{number}\" (func 0))")).collect();
    for wasm in [with_section(4, &components), raw::with_fields(blocks), raw::with_fields(exports)] {
        let plugin = engine("time=50s").load(&wasm).unwrap();
        assert_eq!(plugin.map(&call("go", "0"), &inputs()).unwrap().outputs.get(0).unwrap(), "a");
    }
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number > 0 { byte | 0x80 } else { byte });
        if number == 0 {
            return bytes;
        }
    }
}

#[test]
fn a_refusal_is_the_same_wherever_it_is_compiled() {
    let half = &wasm()[..100_000];
    let (inside, outside) = (super::guests::engine(1).load(half), engine("time=50s").load(half));
    let (inside, outside) = (inside.unwrap_err(), outside.unwrap_err());
    assert!(matches!(outside, LoadError::Malformed { .. }), "{outside:?}");
    assert_eq!(inside.to_string(), outside.to_string());
}

#[test]
fn machine_code_is_the_same_wherever_it_is_compiled() {
    let code = |compiler: Compiler| {
        let folder = tempfile::tempdir().unwrap();
        let cache_dir = Some(folder.path().to_owned());
        let config = EngineConfig { cache_dir, compiler, ..EngineConfig::default() };
        goes_on(&Engine::new(&config).unwrap());
        let files: Vec<_> = fs::read_dir(folder.path().join("machine-code")).unwrap().collect();
        let [Ok(file)] = &files[..] else { panic!("{files:?}") };
        (file.file_name(), fs::read(file.path()).unwrap())
    };
    assert!(code(Compiler::InProcess) == code(child()));
}

/// A shell in place of the compiler.
fn shell(script: &str) -> Engine {
    let compiler = Compiler::Process { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    Engine::new(&EngineConfig { compiler, ..EngineConfig::default() }).unwrap()
}

#[test]
fn how_the_compiler_ended_is_told_and_whether_that_may_pass() {
    let crash = shell("echo 'thread panicked' >&2; kill -SEGV $$").load(&wasm()).unwrap_err();
    assert!(matches!(crash, LoadError::CompilerCrashed { .. }) && !crash.is_temporary());
    assert!(crash.to_string().contains("signal: 11") && crash.to_string().contains("thread panicked"), "{crash}");
    let killed = shell("kill -KILL $$").load(&wasm()).unwrap_err();
    assert!(matches!(killed, LoadError::CompilerEnded { signal: 9 }) && killed.is_temporary());
    assert!(killed.to_string().contains("short of memory"), "{killed}");
    let abort = shell("echo 'memory allocation of 65536 bytes failed' >&2; kill -ABRT $$").load(&wasm()).unwrap_err();
    assert!(matches!(abort, LoadError::CompileMemory { .. }), "{abort}");
    let absent = Compiler::Process { program: "/no/such/program".into(), arguments: Vec::new() };
    let config = EngineConfig { compiler: absent, ..EngineConfig::default() };
    let absent = Engine::new(&config).unwrap().load(&wasm()).unwrap_err();
    assert!(matches!(absent, LoadError::CompilerNotStarted(_)) && absent.is_temporary());
}

#[test]
fn a_signal_for_the_worker_does_not_cost_a_plugin() {
    // A service manager signals all processes of a worker: the first child dies of it, the second one compiles.
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "test -e {0} && exec {1} compile-component $0 $1; touch {0}; kill -TERM $$",
        folder.path().join("again").display(),
        env!("CARGO_BIN_EXE_palfrey")
    );
    goes_on(&shell(&script));
}

#[test]
fn the_compiler_ends_with_its_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slow.wasm");
    fs::write(&file, many_locals_in_many_loops(1_000, 200)).unwrap();
    let mut worker = Command::new(env!("CARGO_BIN_EXE_palfrey"))
        .args(["inspect", file.to_str().unwrap(), "--compile-limit", "time=1h"])
        .env("HOME", folder.path())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait_for = |condition: &dyn Fn() -> bool| {
        while !condition() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    };
    let children = || {
        let threads = fs::read_dir(format!("/proc/{}/task", worker.id())).into_iter().flatten().flatten();
        let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        children.collect::<String>().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // Once it has its limits it has told the system to end it with its parent.
    let limited = |child: &str| {
        fs::read_to_string(format!("/proc/{child}/limits")).is_ok_and(|limits| {
            let core = limits.lines().find(|line| line.starts_with("Max file size"));
            core.is_some_and(|line| line.split_whitespace().nth(3) == Some("0"))
        })
    };
    wait_for(&|| children().iter().any(|child| limited(child)));
    let child = children().remove(0);
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait_for(&|| {
        // Whoever inherits it may take its time to collect it.
        fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn the_binary_compiles_in_a_child_and_names_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slow.wasm");
    fs::write(&file, many_locals_in_many_loops(1_000, 200)).unwrap();
    let inspect = |file: &Path, limits: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palfrey"));
        command.args(["inspect", file.to_str().unwrap(), "--compile-limit", limits]).env("HOME", folder.path());
        command.output().unwrap()
    };
    let output = inspect(&file, "time=1s");
    assert_eq!(output.status.code(), Some(5));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("compiling the component took longer than the limit of 1s"), "{error}");
    let output = inspect(&crate::component_path("palfrey_test_guests"), "time=50s");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(CompileLimits::default().time, Duration::from_secs(60));
}
