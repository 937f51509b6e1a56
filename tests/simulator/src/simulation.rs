//! One job, event by event.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    ops::Range,
    time::Duration,
};

use fastrand::Rng;
use palfrey_schedule::{
    BatchRule, BatchSize, COMBINING, FoldTree, Phase, Unanswered, Window, hedge_every, second_copies,
};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    Answered(usize),
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
    copied: bool,
}

#[derive(Debug, Clone)]
struct Worker {
    alive: bool,
    /// Counts its deaths: what was for an earlier life is void.
    life: u32,
    slowness: f64,
    idle: usize,
    credit: usize,
    waiting: VecDeque<usize>,
    held: Vec<usize>,
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

#[derive(Debug, Default)]
struct Queue {
    server: Server,
    ready: VecDeque<usize>,
    /// Workers that can take a task, in turn.
    consumers: VecDeque<usize>,
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
    // The orchestrator.
    inbox: VecDeque<usize>,
    working: bool,
    busy: f64,
    rule: BatchRule,
    tree: FoldTree<f64>,
    pulled: u64,
    unanswered: BTreeSet<usize>,
    copies_under_way: usize,
    bytes_in_flight: f64,
    partial_bytes: f64,
    heard: Vec<bool>,
    slots: usize,
    hedging: bool,
    idle_since: Option<f64>,
    done: bool,
    // Figures.
    executed: Work,
    outcome: Outcome,
}

/// Runs a job to its end.
pub fn simulate(cluster: &Cluster, job: &Job, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let worker = Worker {
        alive: true,
        life: 0,
        slowness: 1.0,
        idle: cluster.slots,
        credit: cluster.prefetch,
        waiting: VecDeque::new(),
        held: Vec::new(),
    };
    let mut workers = vec![worker; cluster.workers];
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
        inbox: VecDeque::new(),
        working: false,
        busy: 0.0,
        rule: BatchRule::new(BatchSize::Measured),
        tree: FoldTree::default(),
        pulled: 0,
        unanswered: BTreeSet::new(),
        copies_under_way: 0,
        bytes_in_flight: 0.0,
        partial_bytes: 0.0,
        heard: vec![false; cluster.workers],
        slots: 0,
        hedging: false,
        idle_since: None,
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
                    self.workers[worker].waiting.push_back(task);
                    self.execute(worker);
                }
            }
            Event::Finished { worker, life, task } => {
                if self.workers[worker].life == life {
                    self.finish(worker, task);
                }
            }
            Event::Answered(task) => {
                self.inbox.push_back(task);
                self.work_if_free();
            }
            Event::Acknowledged { worker, life } => {
                if self.workers[worker].life == life {
                    let queue = worker % self.queues.len();
                    self.workers[worker].credit += 1;
                    if self.workers[worker].credit == 1 {
                        self.queues[queue].consumers.push_back(worker);
                    }
                    self.deliver(queue);
                }
            }
            Event::Died(worker) => self.die(worker),
            Event::Revived(worker) => self.revive(worker),
        }
    }

    // The broker.

    fn deliver(&mut self, queue: usize) {
        let broker = &self.cluster.broker;
        while let (Some(&task), Some(&worker)) =
            (self.queues[queue].ready.front(), self.queues[queue].consumers.front())
        {
            self.queues[queue].consumers.pop_front();
            if !self.workers[worker].alive || self.workers[worker].credit == 0 {
                continue;
            }
            self.queues[queue].ready.pop_front();
            let state = &mut self.workers[worker];
            state.credit -= 1;
            state.held.push(task);
            let life = state.life;
            if state.credit > 0 {
                self.queues[queue].consumers.push_back(worker);
            }
            let seconds = broker.deliver + self.tasks[task].input / broker.bytes_per_second;
            let now = self.now;
            let at = self.task_server(queue).serve(now, seconds);
            self.schedule(at + self.cluster.broker.latency, Event::Delivered { worker, life, task });
        }
    }

    fn task_server(&mut self, queue: usize) -> &mut Server {
        if self.cluster.broker.one_core { &mut self.results } else { &mut self.queues[queue].server }
    }

    /// A task, or its second copy, from the orchestrator to its queue.
    fn publish(&mut self, task: usize, from: f64) {
        let broker = &self.cluster.broker;
        let input = self.tasks[task].input;
        let (seconds, latency) = (broker.publish + input / broker.bytes_per_second, broker.latency);
        let queue = task % self.queues.len();
        let at = self.task_server(queue).serve(from + latency, seconds);
        self.outcome.tasks += 1;
        self.outcome.bytes_per_second += 2.0 * input;
        self.schedule(at, Event::Queued(task));
    }

    // Workers.

    fn execute(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        while state.idle > 0
            && let Some(task) = state.waiting.pop_front()
        {
            state.idle -= 1;
            let at = self.now + self.cluster.per_task + self.tasks[task].seconds * state.slowness;
            let life = state.life;
            self.scheduled += 1;
            self.events.push(Scheduled { at, number: self.scheduled, event: Event::Finished { worker, life, task } });
        }
    }

    fn finish(&mut self, worker: usize, task: usize) {
        let broker = &self.cluster.broker;
        let output = self.tasks[task].output;
        let at = self.results.serve(self.now + broker.latency, broker.result + output / broker.bytes_per_second);
        self.outcome.bytes_per_second += 2.0 * output;
        if !self.heard[worker] {
            self.heard[worker] = true;
            self.slots += self.cluster.slots;
        }
        let latency = broker.latency;
        let state = &mut self.workers[worker];
        state.idle += 1;
        state.held.retain(|&held| held != task);
        let life = state.life;
        self.schedule(at + latency, Event::Answered(task));
        self.schedule(at + 2.0 * latency, Event::Acknowledged { worker, life });
        self.execute(worker);
    }

    fn schedule_death(&mut self, worker: usize) {
        if let Some((between, _)) = self.cluster.deaths {
            let after = -between * (1.0 - self.rng.f64()).ln();
            self.schedule(self.now + after, Event::Died(worker));
        }
    }

    /// Its connection is gone, and the broker hands its tasks to others.
    fn die(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        state.alive = false;
        state.life += 1;
        state.waiting.clear();
        let held = std::mem::take(&mut state.held);
        let queue = worker % self.queues.len();
        for task in held.into_iter().rev() {
            self.queues[queue].ready.push_front(task);
        }
        self.deliver(queue);
        let gone = self.cluster.deaths.map_or(0.0, |(_, gone)| gone);
        self.schedule(self.now + gone, Event::Revived(worker));
    }

    fn revive(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        (state.alive, state.idle, state.credit) = (true, self.cluster.slots, self.cluster.prefetch);
        let queue = worker % self.queues.len();
        self.queues[queue].consumers.retain(|&consumer| consumer != worker);
        self.queues[queue].consumers.push_back(worker);
        self.deliver(queue);
        self.schedule_death(worker);
    }

    // The orchestrator. As in a job, results come before anything is sent.

    fn work_if_free(&mut self) {
        if self.working || self.done {
            return;
        }
        let costs = &self.cluster.orchestrator;
        if let Some(task) = self.inbox.pop_front() {
            let Task { range, partials, output, .. } = &self.tasks[task];
            let elements = if *partials { 0.0 } else { (range.end - range.start) as f64 };
            let seconds = costs.settle + elements * costs.per_element + output * costs.per_byte;
            self.occupy(seconds);
            self.settle(task);
        } else if self.may_pull() {
            let size = self.batch_size();
            let range = self.pulled..self.pulled + size;
            self.pulled = range.end;
            let input = size as f64 * self.job.input;
            let seconds = costs.send + size as f64 * costs.per_element + input * costs.per_byte;
            self.occupy(seconds);
            let work = self.job.durations.take(range.start, size, &mut self.rng);
            self.executed.seconds += work.seconds;
            self.executed.longest = self.executed.longest.max(work.longest);
            let (output, encoding) = match self.job.fold {
                Some(partials) => {
                    let bytes = partials.bytes_of(&range);
                    (bytes, bytes * partials.seconds_per_byte)
                }
                None => (size as f64 * self.job.output, 0.0),
            };
            self.send(range, false, input, output, work.seconds + encoding);
        }
    }

    fn occupy(&mut self, seconds: f64) {
        self.working = true;
        self.busy += seconds;
        self.schedule(self.now + seconds, Event::Free);
    }

    fn window(&self) -> Window {
        Window { slots: self.slots, ..Window::default() }
    }

    fn source_ended(&self) -> bool {
        self.pulled == self.job.elements
    }

    fn may_pull(&self) -> bool {
        !self.source_ended() && self.window().allows(self.unanswered.len(), self.bytes_in_flight as usize)
    }

    fn batch_size(&self) -> u64 {
        let left = self.job.elements - self.pulled;
        let by_rule = self.rule.next(self.job.length_is_known.then_some(left), self.slots) as u64;
        let by_bytes = if self.job.input > 0.0 {
            (self.window().batch_bytes() as f64 / self.job.input).ceil().max(1.0) as u64
        } else {
            u64::MAX
        };
        by_rule.min(by_bytes).min(left)
    }

    fn send(&mut self, range: Range<u64>, partials: bool, input: f64, output: f64, seconds: f64) {
        let task = self.tasks.len();
        let sent = self.now;
        self.tasks.push(Task { range, partials, input, output, seconds, sent, answered: false, copied: false });
        self.unanswered.insert(task);
        self.bytes_in_flight += input;
        self.publish(task, self.now);
        self.note_memory();
    }

    fn settle(&mut self, task: usize) {
        if self.tasks[task].copied {
            self.copies_under_way = self.copies_under_way.saturating_sub(1);
        }
        if std::mem::replace(&mut self.tasks[task].answered, true) {
            return;
        }
        let Task { range, partials, input, output, seconds, .. } = &self.tasks[task];
        let (range, partials, input, output, seconds) = (range.clone(), *partials, *input, *output, *seconds);
        self.unanswered.remove(&task);
        self.bytes_in_flight -= input;
        if !partials {
            let execution = Duration::from_secs_f64(self.cluster.per_task + seconds);
            self.rule.observe((range.end - range.start) as usize, output as usize, execution, self.slots);
        }
        if self.job.fold.is_some() {
            self.tree.insert(range, output, output as usize);
            self.partial_bytes += output;
            let is_idle = self.source_ended() && self.unanswered.len() < self.slots;
            self.combine(if is_idle { Phase::Idle } else { Phase::Busy });
            if self.source_ended() && self.unanswered.is_empty() {
                self.combine(Phase::Complete { slots: self.slots });
            }
        }
        self.note_memory();
        self.done = self.source_ended() && self.unanswered.is_empty();
        if self.source_ended() && self.job.hedges && !self.hedging {
            self.hedging = true;
            self.schedule(self.now + hedge_every(self.unanswered.len()).as_secs_f64(), Event::Hedge);
        }
    }

    fn combine(&mut self, phase: Phase) {
        let Some(partials) = self.job.fold else { return };
        while let Some((range, run)) = self.tree.take_run(phase) {
            let input: f64 = run.iter().sum();
            let output = partials.bytes_of(&range);
            self.partial_bytes -= input;
            self.outcome.combined += input + output;
            self.send(range, true, input, output, (input + output) * partials.seconds_per_byte);
        }
    }

    fn hedge(&mut self) {
        if self.done {
            return;
        }
        let idle = self.slots.saturating_sub(self.unanswered.len() + self.copies_under_way);
        let now = self.now;
        self.idle_since = (idle > 0 && self.cluster.workers > 1).then(|| self.idle_since.unwrap_or(now));
        let idle_since = self.idle_since.unwrap_or(now);
        let unanswered = self.unanswered.iter().map(|&id| {
            let task = &self.tasks[id];
            let elements = (task.range.end - task.range.start) as usize;
            Unanswered {
                id,
                age: Duration::from_secs_f64(now - task.sent.max(idle_since)),
                expected: if task.partials { COMBINING } else { self.rule.expected(elements) },
                copied: task.copied,
            }
        });
        for task in second_copies(unanswered, idle) {
            self.tasks[task].copied = true;
            self.copies_under_way += 1;
            self.outcome.copies += 1;
            self.publish(task, now);
        }
        self.schedule(now + hedge_every(self.unanswered.len()).as_secs_f64(), Event::Hedge);
    }

    fn note_memory(&mut self) {
        let tasks = self.unanswered.len() as f64 * self.cluster.orchestrator.bytes_per_task;
        self.outcome.memory = self.outcome.memory.max(tasks + self.bytes_in_flight + self.partial_bytes);
    }

    fn figures(self) -> Outcome {
        let Self { mut outcome, cluster, now, executed, .. } = self;
        let speed: f64 = self.workers.iter().map(|worker| cluster.slots as f64 / worker.slowness).sum();
        outcome.makespan = now;
        outcome.bound = (executed.seconds / speed).max(executed.longest);
        outcome.efficiency = executed.seconds / speed / now;
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
