//! What is simulated: jobs of all kinds, on clusters of all sizes.

use crate::{
    cluster::Cluster,
    simulation::{Job, Outcome, Partials, simulate},
    work::Durations,
};

/// A job on a cluster, under a name.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What the job is.
    pub name: String,
    /// Where it runs.
    pub cluster: Cluster,
    /// The job.
    pub job: Job,
}

/// Slots of a worker.
pub const SLOTS: usize = 64;

/// Seconds of work for each slot, unless elements are long.
const WORK: f64 = 60.0;

/// More elements are not simulated: a job of short ones then ends sooner.
const MOST_ELEMENTS: f64 = 1e9;

impl Scenario {
    fn new(name: &str, cluster: Cluster, durations: Durations) -> Self {
        let seconds = WORK.max(20.0 * durations.mean());
        let elements = (seconds * cluster.all_slots() as f64 / durations.mean()).min(MOST_ELEMENTS) as u64;
        let job = Job { elements, ..Job::of(durations) };
        Self { name: name.to_owned(), cluster, job }
    }

    /// Runs it.
    pub fn run(&self, seed: u64) -> Outcome {
        simulate(&self.cluster, &self.job, seed)
    }
}

/// Durations of elements, from short to long.
pub fn durations() -> [(&'static str, Durations); 5] {
    [
        ("1 µs", Durations::Constant(1e-6)),
        ("100 µs, exponential", Durations::Exponential(100e-6)),
        ("10 ms, Pareto 2.2", Durations::Pareto { shape: 2.2, mean: 10e-3 }),
        ("1 s, bimodal", Durations::Bimodal { short: 0.5, long: 5.5, part: 0.1 }),
        ("1 min, uniform", Durations::Uniform(30.0, 90.0)),
    ]
}

/// Numbers of workers.
pub fn workers(quick: bool) -> &'static [usize] {
    if quick { &[1, 10, 100] } else { &[1, 10, 100, 1000, 10_000] }
}

/// All durations on all numbers of workers.
pub fn sizes(quick: bool) -> Vec<Scenario> {
    let on = |workers| move |(name, durations)| Scenario::new(name, Cluster::over_broker(workers, SLOTS), durations);
    workers(quick).iter().flat_map(|&workers| durations().map(on(workers))).collect()
}

/// What goes wrong, and what is large, on ten workers.
pub fn troubles() -> Vec<Scenario> {
    let cluster = Cluster::over_broker(10, SLOTS);
    let durations = Durations::Exponential(10e-3);
    let plain = Scenario::new("10 ms, exponential", cluster, durations);
    let with = |name: &str, change: &dyn Fn(&mut Scenario)| {
        let mut scenario = plain.clone();
        scenario.name = format!("{}, {name}", plain.name);
        change(&mut scenario);
        scenario
    };
    let slow = |scenario: &mut Scenario| (scenario.cluster.slow, scenario.cluster.slowness) = (0.1, 10.0);
    let fold = |growth| {
        move |scenario: &mut Scenario| {
            scenario.job.fold = Some(Partials { bytes: 100.0, growth, seconds_per_byte: 20e-9 });
        }
    };
    vec![
        plain.clone(),
        with("length unknown", &|scenario| scenario.job.length_is_known = false),
        with("a worker ten times slower", &slow),
        with("the same without second copies", &|scenario| {
            slow(scenario);
            scenario.job.hedges = false;
        }),
        with("half of the workers stand still", &|scenario| {
            (scenario.cluster.slow, scenario.cluster.slowness, scenario.cluster.slow_from) = (0.5, f64::INFINITY, 30.0);
        }),
        with("workers die every minute", &|scenario| scenario.cluster.deaths = Some((60.0, 5.0))),
        with("elements of 64 KiB", &|scenario| {
            scenario.job.input = 65536.0;
            scenario.job.elements = 500_000;
        }),
        with("elements of 1 MiB", &|scenario| {
            scenario.job.input = 1048576.0;
            scenario.job.elements = 50_000;
        }),
        with("folded to a number", &fold(0.0)),
        with("folded to a vocabulary", &fold(0.6)),
        with("ten queues", &|scenario| scenario.cluster.broker.queues = 10),
    ]
}
