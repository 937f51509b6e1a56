//! The orchestrator: a loop that does one thing at a time.

use std::{ops::Range, time::Duration};

use palfrey_schedule::{COMBINING, Executed, Phase, Seen, Unanswered, Window, hedge_every};

use super::{Event, Simulation, Task};

impl Simulation<'_> {
    /// As in a job, results come before anything is sent.
    pub(super) fn work_if_free(&mut self) {
        if self.working || self.done {
            return;
        }
        let costs = &self.cluster.orchestrator;
        if let Some((worker, task, execution)) = self.inbox.pop_front() {
            let Task { range, partials, output, .. } = &self.tasks[task];
            let elements = if *partials { 0.0 } else { (range.end - range.start) as f64 };
            let seconds = costs.settle + elements * costs.per_element + output * costs.per_byte;
            self.occupy(seconds);
            self.settle(worker, task, execution);
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
        let done = self.share(self.now, seconds).max(self.now + seconds);
        self.schedule(done, Event::Free);
    }

    fn window(&self) -> Window {
        let complete = self.crew.is_complete();
        Window { slots: self.crew.slots(), expected: self.rule.settled(), complete, ..Window::default() }
    }

    fn source_ended(&self) -> bool {
        self.pulled == self.job.elements
    }

    fn may_pull(&self) -> bool {
        !self.source_ended() && self.window().allows(self.unanswered.len(), self.bytes_in_flight as usize)
    }

    fn batch_size(&self) -> u64 {
        let left = self.job.elements - self.pulled;
        let by_rule = self.rule.next(self.job.length_is_known.then_some(left), self.crew.slots()) as u64;
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
        let (answered, copies, stopped, holders) = (false, 0, false, Vec::new());
        self.tasks.push(Task { range, partials, input, output, seconds, sent, answered, copies, stopped, holders });
        if self.unanswered.is_empty() {
            self.last_result = sent;
        }
        self.unanswered.insert(task);
        self.bytes_in_flight += input;
        self.publish(task, self.now);
        self.note_memory();
    }

    fn settle(&mut self, worker: usize, task: usize, execution: f64) {
        if std::mem::replace(&mut self.tasks[task].answered, true) {
            return;
        }
        self.last_result = self.now;
        self.crew.heard(&worker, self.cluster.slots);
        if self.tasks[task].copies > 0 {
            self.schedule(self.now + 2.0 * self.cluster.broker.latency, Event::Stopped(task));
        }
        let Task { range, partials, input, output, sent, .. } = &self.tasks[task];
        let (range, partials, input, output, sent) = (range.clone(), *partials, *input, *output, *sent);
        self.unanswered.remove(&task);
        self.bytes_in_flight -= input;
        if !partials {
            // What it waited for a slot is in it. The first ones did not, and the shortest counts.
            let transit = Duration::from_secs_f64((self.now - sent - execution).max(0.0));
            let (elements, execution) = ((range.end - range.start) as usize, Duration::from_secs_f64(execution));
            self.rule.observe(&Executed { elements, output: output as usize, execution, transit }, self.crew.slots());
        }
        if self.job.fold.is_some() {
            self.tree.insert(range, output, output as usize);
            self.partial_bytes += output;
            let is_idle = self.source_ended() && self.unanswered.len() < self.crew.slots();
            self.combine(if is_idle { Phase::Idle } else { Phase::Busy });
            if self.source_ended() && self.unanswered.is_empty() {
                self.combine(Phase::Complete { slots: self.crew.slots() });
            }
        }
        self.note_memory();
        self.done = self.source_ended() && self.unanswered.is_empty();
        if self.source_ended() && self.unanswered.len() < self.crew.slots() {
            self.hedge.slots_are_idle(Duration::from_secs_f64(self.now));
        }
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

    pub(super) fn hedge(&mut self) {
        if self.done {
            return;
        }
        let moment = Duration::from_secs_f64;
        let unanswered = self.unanswered.iter().map(|&id| {
            let task = &self.tasks[id];
            let elements = (task.range.end - task.range.start) as usize;
            let expected = if task.partials { COMBINING } else { self.rule.expected(elements) };
            Unanswered { id, sent: moment(task.sent), expected, copies: task.copies }
        });
        let unanswered: Vec<_> = unanswered.collect();
        let (slots, awake) = (self.crew.slots(), self.crew.awake());
        let seen = Seen { slots, awake, last_result: moment(self.last_result) };
        if self.crew.had_several() {
            for task in self.hedge.second_copies(moment(self.now), seen, &unanswered) {
                self.tasks[task].copies += 1;
                self.tasks[task].sent = self.now;
                self.outcome.copies += 1;
                self.publish(task, self.now);
            }
        }
        self.schedule(self.now + hedge_every(unanswered.len()).as_secs_f64(), Event::Hedge);
    }

    fn note_memory(&mut self) {
        let tasks = self.unanswered.len() as f64 * self.cluster.orchestrator.bytes_per_task;
        self.outcome.memory = self.outcome.memory.max(tasks + self.bytes_in_flight + self.partial_bytes);
    }
}
