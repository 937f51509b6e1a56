//! One job, event by event.

mod orchestrator;
mod workers;

use std::{
    cmp::Ordering,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    ops::Range,
};

use fastrand::Rng;
use palfrey_schedule::{BatchRule, BatchSize, Crew, FoldTree, Hedge};

use self::workers::{Queue, Worker};

use crate::{
    cluster::Cluster,
    work::{Durations, Work},
};

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// How long its elements take.
    pub durations: Durations,
    /// How many there are.
    pub elements: u64,
    /// How many of them travel together.
    pub batch: BatchSize,
    /// Whether the source says so.
    pub length_is_known: bool,
    /// Bytes of an element.
    pub input: f64,
    /// Bytes of its output, if they are not folded.
    pub output: f64,
    /// Folded to one partial result a batch, which are combined.
    pub fold: Option<Partials>,
    /// Whether late tasks are sent a second time.
    pub hedges: bool,
}

impl Job {
    /// A job of numbers without any.
    pub fn of(durations: Durations) -> Self {
        Self {
            durations,
            elements: 0,
            batch: BatchSize::Measured,
            length_is_known: true,
            input: 16.0,
            output: 16.0,
            fold: None,
            hedges: true,
        }
    }
}

/// How large partial results are.
#[derive(Debug, Clone, Copy)]
pub struct Partials {
    /// Bytes of the partial result of `n` elements: `bytes · n^growth`. Vocabularies grow with 0.5 to 0.7 (Heaps, 1978).
    pub bytes: f64,
    /// See there.
    pub growth: f64,
    /// What a worker takes for a byte that is decoded or encoded.
    pub seconds_per_byte: f64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// From the first task to the last result, in seconds.
    pub makespan: f64,
    /// No schedule is shorter: all work on all slots, and the longest element.
    pub bound: f64,
    /// Part of the time that slots executed elements, each counted once.
    pub efficiency: f64,
    /// Tasks that were sent, second copies and combining included.
    pub tasks: u64,
    /// Second copies among them.
    pub copies: u64,
    /// Bytes that combining decoded and encoded.
    pub combined: f64,
    /// Messages at the broker, tasks and results, each in and out.
    pub messages_per_second: f64,
    /// Their bytes.
    pub bytes_per_second: f64,
    /// The most that the orchestrator held: tasks in flight, and partial results.
    pub memory: f64,
    /// Part of the time that the orchestrator was busy.
    pub orchestrator_busy: f64,
    /// Part of the time that the busiest process of the broker was busy.
    pub broker_busy: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    /// The orchestrator can do something else.
    Free,
    Hedge,
    Queued(usize),
    Delivered {
        worker: usize,
        life: u32,
        task: usize,
    },
    Finished {
        worker: usize,
        life: u32,
        task: usize,
    },
    Answered {
        worker: usize,
        task: usize,
        /// What it took there.
        seconds: f64,
    },
    /// The workers hear that somebody has answered a task.
    Stopped(usize),
    Acknowledged {
        worker: usize,
        life: u32,
    },
    Died(usize),
    Revived(usize),
}

#[derive(Debug, PartialEq)]
struct Scheduled {
    at: f64,
    number: u64,
    event: Event,
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, for the heap.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.number.cmp(&self.number))
    }
}

#[derive(Debug)]
struct Task {
    range: Range<u64>,
    partials: bool,
    input: f64,
    output: f64,
    seconds: f64,
    sent: f64,
    answered: bool,
    copies: u32,
    /// Whether the workers have heard that it is answered.
    stopped: bool,
    /// Who has a delivery of it.
    holders: Vec<usize>,
}

/// A process that does one thing after the other.
#[derive(Debug, Clone, Copy, Default)]
struct Server {
    free: f64,
    busy: f64,
}

impl Server {
    fn serve(&mut self, from: f64, seconds: f64) -> f64 {
        self.free = self.free.max(from) + seconds;
        self.busy += seconds;
        self.free
    }
}

/// A process of the broker.
#[derive(Debug, Clone, Copy)]
enum Process {
    Queue(usize),
    Results,
}

struct Simulation<'a> {
    cluster: &'a Cluster,
    job: &'a Job,
    rng: Rng,
    now: f64,
    events: BinaryHeap<Scheduled>,
    scheduled: u64,
    tasks: Vec<Task>,
    workers: Vec<Worker>,
    queues: Vec<Queue>,
    results: Server,
    /// The processors, where all processes share them.
    cores: Server,
    /// Tasks under execution.
    executing: usize,
    /// Seconds that other processes have taken of each execution.
    stolen: f64,
    // The orchestrator.
    inbox: VecDeque<(usize, usize, f64)>,
    working: bool,
    busy: f64,
    rule: BatchRule,
    tree: FoldTree<f64>,
    pulled: u64,
    unanswered: BTreeSet<usize>,
    bytes_in_flight: f64,
    partial_bytes: f64,
    crew: Crew<usize>,
    hedge: Hedge,
    hedging: bool,
    last_result: f64,
    done: bool,
    // Figures.
    executed: Work,
    outcome: Outcome,
}

/// Runs a job to its end.
pub fn simulate(cluster: &Cluster, job: &Job, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut workers: Vec<_> = (0..cluster.workers).map(|_| Worker::new(cluster.slots)).collect();
    let slow = (cluster.slow * cluster.workers as f64).round() as usize;
    for worker in workers.iter_mut().take(slow) {
        worker.slowness = cluster.slowness;
    }
    rng.shuffle(&mut workers);
    let mut queues: Vec<Queue> = std::iter::repeat_with(Queue::default).take(cluster.broker.queues).collect();
    for worker in 0..cluster.workers {
        queues[worker % cluster.broker.queues].consumers.push_back(worker);
    }
    let mut simulation = Simulation {
        cluster,
        job,
        rng,
        now: 0.0,
        events: BinaryHeap::new(),
        scheduled: 0,
        tasks: Vec::new(),
        workers,
        queues,
        results: Server::default(),
        cores: Server::default(),
        executing: 0,
        stolen: 0.0,
        inbox: VecDeque::new(),
        working: false,
        busy: 0.0,
        rule: BatchRule::new(job.batch),
        tree: FoldTree::default(),
        pulled: 0,
        unanswered: BTreeSet::new(),
        bytes_in_flight: 0.0,
        partial_bytes: 0.0,
        crew: Crew::default(),
        hedge: Hedge::default(),
        hedging: false,
        last_result: 0.0,
        done: false,
        executed: Work::default(),
        outcome: Outcome {
            makespan: 0.0,
            bound: 0.0,
            efficiency: 0.0,
            tasks: 0,
            copies: 0,
            combined: 0.0,
            messages_per_second: 0.0,
            bytes_per_second: 0.0,
            memory: 0.0,
            orchestrator_busy: 0.0,
            broker_busy: 0.0,
        },
    };
    simulation.run();
    simulation.figures()
}

impl Simulation<'_> {
    fn run(&mut self) {
        for worker in 0..self.cluster.workers {
            self.schedule_death(worker);
        }
        self.work_if_free();
        while !self.done {
            let Some(Scheduled { at, event, .. }) = self.events.pop() else {
                panic!("nothing happens any more, and {} tasks have no result", self.unanswered.len());
            };
            self.now = at;
            self.handle(event);
        }
    }

    fn schedule(&mut self, at: f64, event: Event) {
        self.scheduled += 1;
        self.events.push(Scheduled { at, number: self.scheduled, event });
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Free => {
                self.working = false;
                self.work_if_free();
            }
            Event::Hedge => self.hedge(),
            Event::Queued(task) => {
                let queue = task % self.queues.len();
                self.queues[queue].ready.push_back(task);
                self.deliver(queue);
            }
            Event::Delivered { worker, life, task } => {
                if self.workers[worker].life == life {
                    self.receive(worker, task);
                }
            }
            Event::Finished { worker, life, task } => {
                if self.workers[worker].life == life {
                    self.finish(worker, task);
                }
            }
            Event::Stopped(task) => self.stop_others(task),
            Event::Answered { worker, task, seconds } => {
                self.inbox.push_back((worker, task, seconds));
                self.work_if_free();
            }
            Event::Acknowledged { worker, life } => {
                if self.workers[worker].life == life {
                    self.release(worker);
                }
            }
            Event::Died(worker) => self.die(worker),
            Event::Revived(worker) => self.revive(worker),
        }
    }

    /// A process does something for so many seconds, on a processor of its own or on one of those that all share. Returns when it is done.
    fn process(&mut self, which: Process, from: f64, seconds: f64) -> f64 {
        let server = match which {
            Process::Queue(queue) if !self.cluster.broker.one_core => &mut self.queues[queue].server,
            Process::Queue(_) | Process::Results => &mut self.results,
        };
        let done = server.serve(from, seconds);
        done.max(self.share(from, seconds))
    }

    /// What is done beside the elements takes its part of the processors first.
    fn share(&mut self, from: f64, seconds: f64) -> f64 {
        let Some(cores) = self.cluster.cores else { return from };
        if self.executing >= cores {
            self.stolen += seconds / cores as f64;
        }
        // They are in use from now on: what is done later must not keep them idle until then.
        self.cores.serve(self.now, seconds / cores as f64) + (from - self.now)
    }

    fn figures(self) -> Outcome {
        let Self { mut outcome, cluster, now, executed, .. } = self;
        let (slots, seconds, healthy) = (cluster.all_slots() as f64, executed.seconds, cluster.slow_from);
        let speed: f64 = self.workers.iter().map(|worker| cluster.slots as f64 / worker.slowness).sum();
        outcome.makespan = now;
        let while_healthy = slots * healthy;
        let all_work =
            if seconds <= while_healthy { seconds / slots } else { healthy + (seconds - while_healthy) / speed };
        outcome.bound = all_work.max(executed.longest);
        outcome.efficiency = seconds / (slots * now.min(healthy) + speed * (now - healthy).max(0.0));
        outcome.messages_per_second = 4.0 * outcome.tasks as f64 / now;
        outcome.bytes_per_second /= now;
        outcome.orchestrator_busy = self.busy / now;
        let busiest = self.queues.iter().map(|queue| queue.server.busy).fold(self.results.busy, f64::max);
        outcome.broker_busy = busiest / now;
        outcome
    }
}

impl Partials {
    fn bytes_of(&self, range: &Range<u64>) -> f64 {
        self.bytes * ((range.end - range.start) as f64).powf(self.growth)
    }
}
