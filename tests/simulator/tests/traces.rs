//! The decisions against the best schedule in hindsight, on recorded and synthetic traces.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use palfrey_simulator::{
    cluster::Cluster,
    simulation::{Job, simulate},
    work::Durations,
};

/// A job whose elements are known one by one.
fn job(trace: Vec<f64>, length_is_known: bool) -> Job {
    Job { elements: trace.len() as u64, length_is_known, input: 10.0, output: 10.0, ..Job::of(Durations::Trace(trace)) }
}

fn clusters() -> [(&'static str, Cluster); 4] {
    [
        ("2 slots in memory", Cluster::in_memory(2)),
        ("8 slots in memory", Cluster::in_memory(8)),
        ("2 workers of 1 slot over a broker", Cluster::over_broker(2, 1)),
        ("8 workers of 8 slots over a broker", Cluster::over_broker(8, 8)),
    ]
}

/// Work of about so many seconds.
fn traces(seconds: f64) -> Vec<(String, Vec<f64>)> {
    let mut traces = Vec::new();
    for (name, mean) in [("50 µs", 50e-6), ("1 ms", 1e-3), ("20 ms", 20e-3)] {
        let count = (seconds / mean) as usize;
        let ramp = |i: usize| mean * (0.1 + 1.8 * i as f64 / count as f64);
        let drawn = |durations: Durations| durations.trace(count, 7);
        let mut sorted = drawn(Durations::Exponential(mean));
        sorted.sort_by(f64::total_cmp);
        let largest_first = sorted.iter().rev().copied().collect();
        let of_mean = [
            ("constant", drawn(Durations::Constant(mean))),
            ("uniform", drawn(Durations::Uniform(0.0, 2.0 * mean))),
            ("exponential", drawn(Durations::Exponential(mean))),
            ("Pareto 2.5", drawn(Durations::Pareto { shape: 2.5, mean })),
            ("Pareto 1.5", drawn(Durations::Pareto { shape: 1.5, mean })),
            ("bimodal", drawn(Durations::Bimodal { short: mean / 2.0, long: 50.5 * mean, part: 0.01 })),
            ("drift upward", (0..count).map(ramp).collect()),
            ("drift downward", (0..count).rev().map(ramp).collect()),
            ("smallest first", sorted),
            ("largest first", largest_first),
        ];
        traces.extend(of_mean.map(|(what, trace)| (format!("{what}, {name}"), trace)));
    }
    // Sizes of source files whose words were counted, at 20 MB/s.
    let files = include_str!("../traces/source-files.txt").lines().map(|size| size.parse::<f64>().unwrap() / 20e6);
    traces.push(("words of files".to_owned(), files.collect()));
    traces.extend(recorded());
    traces
}

/// What elements of real operations took, one by one, in nanoseconds. The program `record` of the tests has measured them.
fn recorded() -> [(String, Vec<f64>); 2] {
    [
        ("mine, recorded", include_str!("../traces/mine.txt")),
        ("words of files, recorded", include_str!("../traces/words.txt")),
    ]
    .map(|(name, lines)| (name.to_owned(), lines.lines().map(|line| line.parse::<f64>().unwrap() / 1e9).collect()))
}

/// Where a single element takes an eighth of an even share, the bound is not one that a schedule without foresight reaches.
fn is_fair(cluster: &Cluster, trace: &[f64]) -> bool {
    let longest = trace.iter().copied().fold(0.0, f64::max);
    longest <= trace.iter().sum::<f64>() / cluster.all_slots() as f64 / 8.0
}

#[test]
fn every_trace_is_close_to_the_best_schedule_in_hindsight() {
    let (mut fair, mut wrong) = (0, Vec::new());
    for (place, cluster) in clusters() {
        for (name, trace) in traces(4.0 * cluster.all_slots().max(8) as f64) {
            if !is_fair(&cluster, &trace) {
                continue;
            }
            let outcome = simulate(&cluster, &job(trace, true), 1);
            let ratio = outcome.makespan / outcome.bound;
            println!("{ratio:.3}: {name}, {place}, {} tasks, {} copies", outcome.tasks, outcome.copies);
            fair += 1;
            if ratio > 1.10 {
                wrong.push(format!("{ratio:.3} for {name}, {place}"));
            }
        }
    }
    assert!(fair >= 90, "only {fair} are fair");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
