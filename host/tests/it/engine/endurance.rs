//! Ten thousand hostile calls in a row, in a process of their own: nothing grows.

use std::{fs, process::Command, time::Instant};

use palfrey_host::engine::Plugin;

use super::{
    compiling, guests, raw,
    verdicts::{self, Trial},
};

/// Set in the process that is alone.
const ALONE: &str = "PALFREY_TEST_ALONE";

/// Runs one test again in a process of its own, with more in its environment, and returns what it printed.
pub(crate) fn alone(test: &str, value: &str) -> Option<String> {
    if std::env::var_os(ALONE).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(ALONE, value).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    Some(stdout)
}

/// Bytes of this process in memory, and its open files.
fn held() -> (u64, usize) {
    let pages: u64 = fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4096, fs::read_dir("/proc/self/fd").unwrap().count())
}

#[test]
fn ten_thousand_hostile_calls_leave_nothing_behind() {
    if let Some(report) = alone("engine::endurance::ten_thousand_hostile_calls_leave_nothing_behind", "1") {
        print!("{report}");
        return;
    }
    let engine = guests::engine(2);
    let plugin = engine.load(&guests::wasm()).unwrap();
    let mut trials: Vec<(String, Plugin, Trial)> = Vec::new();
    trials.extend(verdicts::all().into_iter().map(|(name, trial)| (name, plugin.clone(), trial)));
    trials.extend(raw::all(&engine).into_iter().map(|(name, plugin, trial)| (name.to_owned(), plugin, trial)));
    let is_raw = |plugin: &Plugin| plugin.description().name == "raw";
    let run = |(name, plugin, trial): &(String, Plugin, Trial)| {
        trial.run(plugin, if is_raw(plugin) { "go" } else { name });
    };
    // Pools fill, and what is made on first use is made.
    for _ in 0..3 {
        trials.iter().for_each(run);
    }
    let (memory, files) = held();
    println!("{:34} {:>10} {:>12}", "guest", "a call", "memory");
    let each = 10_000_usize.div_ceil(trials.len());
    let (mut calls, begin) = (0, Instant::now());
    for trial in &trials {
        let ((before, files), start) = (held(), Instant::now());
        for _ in 0..each {
            run(trial);
        }
        calls += each;
        let took = start.elapsed() / each as u32;
        let (after, files_after) = held();
        let grown = after.saturating_sub(before);
        println!("{:34} {took:>10.1?} {:>8} KiB", trial.0, grown >> 10);
        assert_eq!(files_after, files, "{}", trial.0);
        assert!(grown < 16 << 20, "{} leaves {grown} bytes", trial.0);
    }
    let (memory_after, files_after) = held();
    let grown = memory_after.saturating_sub(memory);
    println!(
        "{calls} calls in {:.1?}: memory {} KiB, then {} KiB; {files} files, then {files_after}",
        begin.elapsed(),
        memory >> 10,
        memory_after >> 10
    );
    assert_eq!(files, files_after);
    assert!(grown < 16 << 20, "{grown} bytes more after {calls} calls");
}

/// Components that are refused, and how often each is loaded: some are compiled for a second before.
fn refused() -> Vec<(String, Vec<u8>, u32)> {
    let starting = |body: &str| raw::starting(body);
    let mut refused = vec![
        ("a trap in a start function".to_owned(), starting("unreachable"), 100),
        ("memory in a start function".to_owned(), starting("(drop (memory.grow (i32.const 60000)))"), 100),
        ("data beyond the memory".to_owned(), raw::with_fields("(data (i32.const 131070) \"beyond\")".to_owned()), 100),
        ("a memory too large".to_owned(), compiling::component("(memory 60000)"), 100),
        ("threads".to_owned(), compiling::component("(memory 1 1 shared)"), 100),
        ("half a component".to_owned(), guests::wasm()[..100_000].to_vec(), 100),
        ("a loop in a start function".to_owned(), starting("(loop $again (br $again))"), 1),
    ];
    // One that describes itself is no hostile one, and one that never does takes five seconds.
    let harmless = ["normal", "differ", "flood", "spin"];
    let modes = guests::MODES.iter().filter(|mode| !harmless.contains(mode));
    refused.extend(modes.map(|mode| (format!("describe: {mode}"), guests::describing(mode), 1)));
    refused
}

#[test]
fn components_that_are_refused_leave_nothing_behind() {
    if let Some(report) = alone("engine::endurance::components_that_are_refused_leave_nothing_behind", "1") {
        print!("{report}");
        return;
    }
    let engine = guests::engine(1);
    let bombed = compiling::engine("memory=96MiB");
    let bomb = compiling::many_locals_in_many_loops(1_000, 100);
    let refused = refused();
    let load = |wasm: &[u8]| drop(engine.load(wasm).unwrap_err());
    let explode = || drop(bombed.load(&bomb).unwrap_err());
    // The compiler's threads start, and what is made on first use is made.
    refused.iter().filter(|(.., times)| *times > 1).for_each(|(_, wasm, _)| load(wasm));
    load(&guests::describing("twice"));
    explode();
    let (memory, files) = held();
    let check = |name: &str, times: u32, load: &dyn Fn()| {
        let start = Instant::now();
        (0..times).for_each(|_| load());
        let took = start.elapsed() / times;
        let (memory_after, files_after) = held();
        let grown = memory_after.saturating_sub(memory);
        println!("{name:34} {times:>4} times: {took:>10.1?} {:>8} KiB", grown >> 10);
        assert_eq!(files_after, files, "{name}");
        assert!(grown < 16 << 20, "{name}: {grown} bytes more");
    };
    for (name, wasm, times) in &refused {
        check(name, *times, &|| load(wasm));
    }
    check("made to compile greedily", 3, &explode);
}
