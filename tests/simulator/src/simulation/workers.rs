//! The broker's queues, and the workers behind them.

use std::{collections::VecDeque, time::Duration};

use palfrey_schedule::Prefetch;

use super::{Event, Process, Server, Simulation};

#[derive(Debug)]
pub(super) struct Worker {
    alive: bool,
    /// Counts its deaths: what was for an earlier life is void.
    pub(super) life: u32,
    pub(super) slowness: f64,
    idle: usize,
    prefetch: Prefetch,
    /// Deliveries that it may have beside those it has; fewer than none after the rule has allowed it less.
    credit: isize,
    /// Whether it stands in the line of its queue.
    in_line: bool,
    waiting: VecDeque<usize>,
    executing: Vec<Execution>,
}

#[derive(Debug)]
struct Execution {
    task: usize,
    /// What the guest takes.
    seconds: f64,
    /// What others had taken of the processors by the time up to which it is scheduled.
    stolen: f64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) server: Server,
    pub(super) ready: VecDeque<usize>,
    /// Workers that can take a task, in turn.
    pub(super) consumers: VecDeque<usize>,
}

impl Worker {
    pub(super) fn new(slots: usize) -> Self {
        let prefetch = Prefetch::new(slots);
        Self {
            alive: true,
            life: 0,
            slowness: 1.0,
            idle: slots,
            credit: prefetch.tasks() as isize,
            prefetch,
            in_line: true,
            waiting: VecDeque::new(),
            executing: Vec::new(),
        }
    }

    fn has(&self, task: usize) -> bool {
        self.waiting.contains(&task) || self.executing.iter().any(|execution| execution.task == task)
    }
}

impl Simulation<'_> {
    // The broker.

    pub(super) fn deliver(&mut self, queue: usize) {
        let broker = &self.cluster.broker;
        while let (Some(&task), Some(&worker)) =
            (self.queues[queue].ready.front(), self.queues[queue].consumers.front())
        {
            self.queues[queue].consumers.pop_front();
            let state = &mut self.workers[worker];
            if !state.alive || state.credit <= 0 {
                state.in_line = false;
                continue;
            }
            self.queues[queue].ready.pop_front();
            state.credit -= 1;
            let life = state.life;
            state.in_line = state.credit > 0;
            if state.in_line {
                self.queues[queue].consumers.push_back(worker);
            }
            self.tasks[task].holders.push(worker);
            let seconds = broker.deliver + self.tasks[task].input / broker.bytes_per_second;
            let at = self.process(Process::Queue(queue), self.now, seconds);
            self.schedule(at + broker.latency, Event::Delivered { worker, life, task });
        }
    }

    /// A task, or its second copy, from the orchestrator to its queue.
    pub(super) fn publish(&mut self, task: usize, from: f64) {
        let broker = &self.cluster.broker;
        let input = self.tasks[task].input;
        let (seconds, latency) = (broker.publish + input / broker.bytes_per_second, broker.latency);
        let queue = task % self.queues.len();
        let at = self.process(Process::Queue(queue), from + latency, seconds);
        self.outcome.tasks += 1;
        self.outcome.bytes_per_second += 2.0 * input;
        self.schedule(at, Event::Queued(task));
    }

    /// The broker has heard an acknowledgement.
    pub(super) fn release(&mut self, worker: usize) {
        self.workers[worker].credit += 1;
        self.get_in_line(worker);
    }

    fn get_in_line(&mut self, worker: usize) {
        let queue = worker % self.queues.len();
        let state = &mut self.workers[worker];
        if state.credit > 0 && !std::mem::replace(&mut state.in_line, true) {
            self.queues[queue].consumers.push_back(worker);
        }
        self.deliver(queue);
    }

    // Workers.

    fn stands_still(&self, worker: usize) -> bool {
        self.workers[worker].slowness.is_infinite() && self.now >= self.cluster.slow_from
    }

    pub(super) fn receive(&mut self, worker: usize, task: usize) {
        if self.stands_still(worker) {
            return;
        }
        // Somebody else has answered it, or it is here already and answers for both.
        if self.tasks[task].stopped || self.workers[worker].has(task) {
            return self.acknowledge(worker);
        }
        self.workers[worker].waiting.push_back(task);
        self.execute(worker);
    }

    fn acknowledge(&mut self, worker: usize) {
        let life = self.workers[worker].life;
        self.schedule(self.now + self.cluster.broker.latency, Event::Acknowledged { worker, life });
    }

    fn execute(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        while state.idle > 0
            && let Some(task) = state.waiting.pop_front()
        {
            state.idle -= 1;
            self.executing += 1;
            let slowness = if self.now < self.cluster.slow_from { 1.0 } else { state.slowness };
            let seconds = self.cluster.per_task + self.tasks[task].seconds * slowness;
            state.executing.push(Execution { task, seconds, stolen: self.stolen });
            let at = self.now + seconds;
            let life = state.life;
            self.scheduled += 1;
            let event = Event::Finished { worker, life, task };
            self.events.push(super::Scheduled { at, number: self.scheduled, event });
        }
    }

    pub(super) fn finish(&mut self, worker: usize, task: usize) {
        if self.stands_still(worker) {
            return;
        }
        let state = &mut self.workers[worker];
        let life = state.life;
        // It was stopped meanwhile.
        let Some(position) = state.executing.iter().position(|execution| execution.task == task) else { return };
        let behind = self.stolen - state.executing[position].stolen;
        if behind > 1e-9 {
            state.executing[position].stolen = self.stolen;
            return self.schedule(self.now + behind, Event::Finished { worker, life, task });
        }
        let Execution { seconds, .. } = state.executing.swap_remove(position);
        state.idle += 1;
        self.executing -= 1;
        self.tasks[task].holders.retain(|&holder| holder != worker);
        let before = state.prefetch.tasks() as isize;
        if state.prefetch.observe(Duration::from_secs_f64(seconds)) {
            let more = state.prefetch.tasks() as isize - before;
            state.credit += more;
            if more < 0 {
                self.hand_back(worker);
            }
            self.get_in_line(worker);
        }
        let broker = &self.cluster.broker;
        let output = self.tasks[task].output;
        let sent = self.now + broker.latency;
        let at = self.process(Process::Results, sent, broker.result + output / broker.bytes_per_second);
        self.outcome.bytes_per_second += 2.0 * output;
        self.schedule(at + broker.latency, Event::Answered { worker, task, seconds });
        self.schedule(at + 2.0 * broker.latency, Event::Acknowledged { worker, life });
        self.execute(worker);
    }

    /// What waits is better off elsewhere.
    fn hand_back(&mut self, worker: usize) {
        let queue = worker % self.queues.len();
        let waiting = std::mem::take(&mut self.workers[worker].waiting);
        self.workers[worker].credit += waiting.len() as isize;
        for task in waiting.into_iter().rev() {
            self.tasks[task].holders.retain(|&holder| holder != worker);
            self.queues[queue].ready.push_front(task);
        }
    }

    /// The workers hear that a task was answered: whoever else has it drops it.
    pub(super) fn stop_others(&mut self, task: usize) {
        self.tasks[task].stopped = true;
        for worker in std::mem::take(&mut self.tasks[task].holders) {
            if self.stands_still(worker) {
                continue;
            }
            let state = &mut self.workers[worker];
            if let Some(position) = state.executing.iter().position(|execution| execution.task == task) {
                state.executing.swap_remove(position);
                state.idle += 1;
                self.executing -= 1;
            } else if let Some(position) = state.waiting.iter().position(|&waiting| waiting == task) {
                state.waiting.remove(position);
            } else {
                // On its way there.
                continue;
            }
            self.acknowledge(worker);
            self.execute(worker);
        }
    }

    pub(super) fn schedule_death(&mut self, worker: usize) {
        if let Some((between, _)) = self.cluster.deaths {
            let after = -between * (1.0 - self.rng.f64()).ln();
            self.schedule(self.now + after, Event::Died(worker));
        }
    }

    /// Its connection is gone, and the broker hands its tasks to others.
    pub(super) fn die(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        state.alive = false;
        state.life += 1;
        state.waiting.clear();
        self.executing -= state.executing.len();
        state.executing.clear();
        let queue = worker % self.queues.len();
        // In the order in which they were sent. A task that it has answered and not acknowledged is not modelled to come again.
        for &task in self.unanswered.iter().rev() {
            let holders = &mut self.tasks[task].holders;
            if holders.contains(&worker) {
                holders.retain(|&holder| holder != worker);
                self.queues[queue].ready.push_front(task);
            }
        }
        self.deliver(queue);
        let gone = self.cluster.deaths.map_or(0.0, |(_, gone)| gone);
        self.schedule(self.now + gone, Event::Revived(worker));
    }

    pub(super) fn revive(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        let Worker { life, slowness, in_line, .. } = *state;
        *state = Worker { life, slowness, in_line, ..Worker::new(self.cluster.slots) };
        self.get_in_line(worker);
        self.schedule_death(worker);
    }
}
