//! What the modelled machines are like. Times are in seconds.

/// Everything but the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Worker processes.
    pub workers: usize,
    /// Tasks that each executes at once.
    pub slots: usize,
    /// What a worker takes for a task beside its elements: an instance, decoding, encoding.
    pub per_task: f64,
    /// Part of the workers that is slow.
    pub slow: f64,
    /// How much slower they are. Infinitely slow ones stand still: they do not hear what they are told, either.
    pub slowness: f64,
    /// From when on they are.
    pub slow_from: f64,
    /// Mean time between the deaths of a worker, and how long it is gone.
    pub deaths: Option<(f64, f64)>,
    /// Processors that workers, broker and orchestrator share, if they are on one machine.
    pub cores: Option<usize>,
    /// The broker.
    pub broker: Broker,
    /// The program with the job.
    pub orchestrator: Orchestrator,
}

/// A broker. Each queue is a process that does one thing at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Task queues, each with a share of the workers and of the tasks.
    pub queues: usize,
    /// Whether all queues share one processor, as on a machine that also has workers to run.
    pub one_core: bool,
    /// Accepting a task: persistent, on a quorum queue, confirmed.
    pub publish: f64,
    /// Handing a task out, and its acknowledgement.
    pub deliver: f64,
    /// Accepting a result and handing it out, on a classic queue.
    pub result: f64,
    /// What a queue carries.
    pub bytes_per_second: f64,
    /// One way, between two machines.
    pub latency: f64,
}

/// The program with the job: a loop that does one thing at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Orchestrator {
    /// Sending a task.
    pub send: f64,
    /// Taking a result.
    pub settle: f64,
    /// For each element, both ways.
    pub per_element: f64,
    /// For each byte, both ways.
    pub per_byte: f64,
    /// Memory for a task in flight, beside its inputs.
    pub bytes_per_task: f64,
}

/// What was measured on a machine that has workers, broker and orchestrator. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Here {
    /// Processors.
    pub cores: usize,
    /// Executing a task, beside its elements.
    pub execution: f64,
    /// Everything else that is done for a task: sending, queueing, its result, acknowledging.
    pub task: f64,
    /// What the orchestrator does for an element, both ways.
    pub element: f64,
    /// One way between two processes.
    pub latency: f64,
}

impl Cluster {
    /// Everything on one machine. How a task's cost is divided is assumed: where the processors are shared the sum counts.
    pub fn here(workers: usize, slots: usize, here: &Here) -> Self {
        let over_broker = Self::over_broker(workers, slots);
        let broker = Broker {
            publish: 0.2 * here.task,
            deliver: 0.2 * here.task,
            result: 0.26 * here.task,
            latency: here.latency,
            ..over_broker.broker
        };
        let orchestrator = Orchestrator {
            send: 0.17 * here.task,
            settle: 0.17 * here.task,
            per_element: here.element / 2.0,
            per_byte: 0.0,
            ..over_broker.orchestrator
        };
        Self { per_task: here.execution, cores: Some(here.cores), broker, orchestrator, ..over_broker }
    }

    /// Workers in the same process: messages cost next to nothing.
    pub fn in_memory(slots: usize) -> Self {
        let broker = Broker {
            queues: 1,
            one_core: false,
            publish: 2e-6,
            deliver: 2e-6,
            result: 2e-6,
            bytes_per_second: 10e9,
            latency: 5e-6,
        };
        Self { broker, ..Self::over_broker(1, slots) }
    }

    /// Workers and a RabbitMQ node on machines of their own, with the rates of docs/SCALING.md.
    pub fn over_broker(workers: usize, slots: usize) -> Self {
        Self {
            workers,
            slots,
            per_task: 50e-6,
            slow: 0.0,
            slowness: 1.0,
            slow_from: 0.0,
            deaths: None,
            cores: None,
            broker: Broker {
                queues: 1,
                one_core: false,
                publish: 1.0 / 40e3,
                deliver: 1.0 / 38e3,
                result: 1.0 / 19e3,
                bytes_per_second: 640e6,
                latency: 250e-6,
            },
            orchestrator: Orchestrator {
                send: 20e-6,
                settle: 20e-6,
                per_element: 20e-9,
                per_byte: 1e-9,
                bytes_per_task: 600.0,
            },
        }
    }

    /// All slots.
    pub fn all_slots(&self) -> usize {
        self.workers * self.slots
    }
}
