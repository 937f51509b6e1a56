//! What the simulation must be, whatever it simulates, and what it says about second copies and failures.

use std::num::NonZeroUsize;

use palfrey_schedule::BatchSize;
use palfrey_simulator::{
    cluster::{Cluster, Here},
    scenarios,
    simulation::{Job, Partials, simulate},
    work::Durations,
};

fn job(durations: Durations, elements: u64) -> Job {
    Job { elements, ..Job::of(durations) }
}

#[test]
fn the_seed_decides_everything() {
    let mut cluster = Cluster::over_broker(5, 8);
    cluster.deaths = Some((5.0, 1.0));
    (cluster.slow, cluster.slowness) = (0.2, 10.0);
    let mut job = job(Durations::Pareto { shape: 1.5, mean: 5e-3 }, 50_000);
    job.fold = Some(Partials { bytes: 1000.0, growth: 0.6, seconds_per_byte: 1e-8 });
    let once = simulate(&cluster, &job, 3);
    assert_eq!(once, simulate(&cluster, &job, 3));
    assert_ne!(once.makespan, simulate(&cluster, &job, 4).makespan);
}

#[test]
fn no_job_is_faster_than_its_bound() {
    for scenario in scenarios::troubles() {
        let outcome = scenario.run(1);
        assert!(outcome.makespan >= outcome.bound, "{}: {outcome:?}", scenario.name);
        assert!(outcome.efficiency <= 1.0 && outcome.orchestrator_busy <= 1.0 && outcome.broker_busy <= 1.0);
    }
}

#[test]
fn sums_of_many_elements_are_as_long_as_the_elements() {
    let kinds = scenarios::durations().into_iter().chain([("", Durations::Pareto { shape: 3.0, mean: 1.0 })]);
    for (name, durations) in kinds {
        let mut rng = fastrand::Rng::with_seed(1);
        let sums: f64 = (0..200).map(|_| durations.take(0, 1000, &mut rng).seconds).sum();
        let one_by_one: f64 = durations.trace(200_000, 2).iter().sum();
        assert!((sums / one_by_one - 1.0).abs() < 0.05, "{name}: {sums} and {one_by_one}");
    }
}

#[test]
fn second_copies_hide_a_worker_that_is_slow() {
    let mut cluster = Cluster::over_broker(8, 2);
    (cluster.slow, cluster.slowness) = (0.125, 500.0);
    let makespan = |hedges| {
        let job = Job { hedges, ..job(Durations::Constant(0.05), 4000) };
        let outcome = simulate(&cluster, &job, 1);
        outcome.makespan / outcome.bound
    };
    let (with, without) = (makespan(true), makespan(false));
    assert!(with < 1.10 && without > 1.50, "{with} with second copies, {without} without");
}

#[test]
fn a_worker_of_two_that_stands_still_costs_no_more_than_its_slots() {
    for slots in [1, 2, 16] {
        let mut cluster = Cluster::over_broker(2, slots);
        (cluster.slow, cluster.slowness, cluster.slow_from) = (0.5, f64::INFINITY, 1.0);
        let outcome = simulate(&cluster, &job(Durations::Constant(0.01), 2000 * slots as u64), 1);
        assert!(outcome.makespan < 1.1 * outcome.bound && outcome.copies > 0, "{slots} slots: {outcome:?}");
    }
}

#[test]
fn processes_on_one_machine_share_its_processors() {
    let here = Here { cores: 2, execution: 20e-6, task: 180e-6, element: 0.0, latency: 100e-6 };
    let empty = Job { batch: BatchSize::Fixed(NonZeroUsize::MIN), ..job(Durations::Constant(0.0), 10_000) };
    let makespan = simulate(&Cluster::here(2, 1, &here), &empty, 1).makespan;
    // 180 µs for each task on two processors, beside which little is executed.
    assert!(makespan > 0.9 && makespan < 1.1, "{makespan} s");
    // What tasks cost is taken from the executions as well.
    let long = Job { batch: BatchSize::Fixed(NonZeroUsize::MIN), ..job(Durations::Constant(1e-3), 10_000) };
    let makespan = simulate(&Cluster::here(2, 1, &here), &long, 1).makespan;
    assert!(makespan > 5.6 && makespan < 6.3, "{makespan} s");
}

#[test]
fn deaths_lose_time_and_no_work() {
    let mut cluster = Cluster::over_broker(4, 4);
    let job = job(Durations::Exponential(10e-3), 20_000);
    let alive = simulate(&cluster, &job, 1).makespan;
    cluster.deaths = Some((4.0, 1.0));
    let dying = simulate(&cluster, &job, 1).makespan;
    assert!(dying > 1.1 * alive && dying < 2.0 * alive, "{alive} s, and {dying} s with deaths");
}

#[test]
fn a_vocabulary_is_combined_for_less_than_it_takes_to_count() {
    let cluster = Cluster::in_memory(2);
    let mut job = job(Durations::Constant(1e-3), 20_000);
    // A thousand words in a file; 20 ns for a byte of them.
    job.fold = Some(Partials { bytes: 15e3, growth: 0.65, seconds_per_byte: 20e-9 });
    let outcome = simulate(&cluster, &job, 1);
    assert!(outcome.makespan < 2.0 * outcome.bound, "{outcome:?}");
}
