//! What is measured: one table of works, and for each job its inputs and its answer.

use crate::contestant::Who;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// An operation that returns the number it was given.
    Map,
    /// The sum of numbers.
    Fold,
    /// The sum of what the empty operation returns.
    MapAndFold,
    /// So many bytes there and back.
    Echo(usize),
    /// An operation of so many rounds.
    Burn(u64),
}

/// What is told of a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Elements per second, all sent as fast as they are taken.
    Rate,
    /// Seconds from sending an element to having its result, one after the other.
    Latency,
}

/// How many elements travel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Each contestant does as it does.
    Own,
    /// So many.
    Fixed(usize),
    /// Palfrey does as it does, and the bare loop is given what that came to in the mean of its last job.
    LikePalfrey,
}

/// What Palfrey should reach beside a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) against: Who,
    /// How many times its rate, or of its latency, if there is a goal.
    pub(crate) ratio: Option<f64>,
}

/// A row of the table, or several: one for each peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) job: Job,
    pub(crate) measure: Measure,
    pub(crate) batch: Batch,
    /// Processes, or threads of one process, that execute.
    pub(crate) slots: usize,
    pub(crate) palfrey: Who,
    pub(crate) goals: &'static [Goal],
}

const fn goal(against: Who, ratio: f64) -> Goal {
    Goal { against, ratio: Some(ratio) }
}

const fn beside(against: Who) -> Goal {
    Goal { against, ratio: None }
}

const AMQP: Work = Work {
    name: "",
    about: "",
    job: Job::Map,
    measure: Measure::Rate,
    batch: Batch::Own,
    slots: 2,
    palfrey: Who::Palfrey,
    goals: &[],
};
const IN_MEMORY: Work = Work { palfrey: Who::PalfreyInMemory, ..AMQP };

/// Everything that is measured.
pub(crate) const WORKS: &[Work] = &[
    Work {
        name: "map",
        about: "map of an empty operation, over RabbitMQ",
        goals: &[goal(Who::Paladin, 100.0), beside(Who::Celery), beside(Who::Dask)],
        ..AMQP
    },
    Work {
        name: "fold",
        about: "fold of a sum, over RabbitMQ",
        job: Job::Fold,
        goals: &[goal(Who::Paladin, 200.0), beside(Who::Celery), beside(Who::Dask)],
        ..AMQP
    },
    Work {
        name: "map-fold",
        about: "map of an empty operation and fold of a sum, over RabbitMQ",
        job: Job::MapAndFold,
        goals: &[goal(Who::Paladin, 400.0), beside(Who::Celery), beside(Who::Dask)],
        ..AMQP
    },
    Work {
        name: "map-by-one",
        about: "the same map, each element a message",
        batch: Batch::Fixed(1),
        goals: &[goal(Who::Lapin, 0.85), beside(Who::Paladin), beside(Who::Celery), beside(Who::Dask)],
        ..AMQP
    },
    Work {
        name: "map-by-many",
        about: "the same map, the bare loop with the batch that Palfrey has chosen",
        batch: Batch::LikePalfrey,
        goals: &[goal(Who::Lapin, 0.85), beside(Who::Celery), beside(Who::Dask)],
        ..AMQP
    },
    Work {
        name: "map-in-memory",
        about: "map of an empty operation, in memory",
        goals: &[
            goal(Who::PaladinInMemory, 20.0),
            beside(Who::Wasm),
            beside(Who::Native),
            beside(Who::Celery),
            beside(Who::Dask),
        ],
        ..IN_MEMORY
    },
    Work {
        name: "fold-in-memory",
        about: "fold of a sum, in memory",
        job: Job::Fold,
        goals: &[
            goal(Who::PaladinInMemory, 30.0),
            beside(Who::Wasm),
            beside(Who::Native),
            beside(Who::Celery),
            beside(Who::Dask),
        ],
        ..IN_MEMORY
    },
    Work {
        name: "latency",
        about: "one task there and back, on a lease that is kept",
        measure: Measure::Latency,
        palfrey: Who::PalfreyKept,
        goals: &[goal(Who::Lapin, 1.15), beside(Who::Paladin), beside(Who::Celery), beside(Who::Dask)],
        ..AMQP
    },
    Work {
        name: "latency-fresh",
        about: "one task there and back, each on a lease of its own",
        measure: Measure::Latency,
        goals: &[goal(Who::PalfreyKept, 1.2), beside(Who::Paladin)],
        ..AMQP
    },
    Work { name: "echo-64k", about: "64 KiB there and back", job: Job::Echo(64 << 10), goals: ECHO, ..AMQP },
    Work { name: "echo-1m", about: "1 MiB there and back", job: Job::Echo(1 << 20), goals: ECHO, ..AMQP },
    Work { name: "echo-16m", about: "16 MiB there and back", job: Job::Echo(16 << 20), goals: ECHO, ..AMQP },
    Work {
        name: "echo-in-memory",
        about: "1 MiB there and back, in memory",
        job: Job::Echo(1 << 20),
        goals: &[goal(Who::PaladinInMemory, 4.0)],
        ..IN_MEMORY
    },
    Work {
        name: "heavy",
        about: "an operation of about 15 ms, over RabbitMQ",
        job: HEAVY,
        goals: &[goal(Who::Wasm, 0.97), beside(Who::Paladin), beside(Who::Native)],
        ..AMQP
    },
    Work {
        name: "heavy-in-memory",
        about: "an operation of about 15 ms, in memory",
        job: HEAVY,
        goals: &[goal(Who::Wasm, 0.97), beside(Who::PaladinInMemory), beside(Who::Native)],
        ..IN_MEMORY
    },
];

/// Python would take a second for it.
const HEAVY: Job = Job::Burn(8_000_000);

// Celery encodes bytes as text and Dask hands them over by pickle: neither is sent payloads like these, so neither takes part.
const ECHO: &[Goal] = &[goal(Who::Lapin, 0.8), beside(Who::Paladin)];

impl Work {
    /// Palfrey, and those it is measured beside.
    pub(crate) fn contestants(&self) -> Vec<Who> {
        [self.palfrey].into_iter().chain(self.goals.iter().map(|goal| goal.against)).collect()
    }
}

impl Job {
    /// Bytes of an element, as people count them.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Echo(bytes) => bytes,
            _ => 8,
        }
    }

    /// What must come out for the inputs `0..count`: the sum of all outputs, each weighted with its place, so that an output
    /// which is lost, twice there or in another place is seen. A fold's answer is its result.
    pub(crate) fn answer(self, count: u64) -> u64 {
        let sum = |of: &dyn Fn(u64) -> u64| (0..count).map(of).fold(0, u64::wrapping_add);
        match self {
            Self::Map => sum(&|index| weighted(index, index)),
            Self::Fold | Self::MapAndFold => sum(&|index| index),
            Self::Echo(bytes) => {
                let last = count.min(256);
                let texts: Vec<_> = (0..last).map(|index| fingerprint(&payload(bytes, index))).collect();
                sum(&|index| weighted(index, fingerprint_of(&texts, index)))
            }
            Self::Burn(rounds) => sum(&|index| weighted(index, operations::burn(index, rounds))),
        }
    }
}

/// What an output adds to the answer.
pub(crate) fn weighted(index: u64, output: u64) -> u64 {
    output.wrapping_mul(index.wrapping_add(1))
}

/// The input of an echo. It repeats every 256 elements.
pub(crate) fn payload(bytes: usize, index: u64) -> Vec<u8> {
    vec![index as u8; bytes]
}

/// Tells payloads apart by their length and some of their bytes.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let step = (bytes.len() / 16).max(1);
    bytes.iter().step_by(step).fold(bytes.len() as u64, |sum, &byte| sum.wrapping_mul(257).wrapping_add(byte.into()))
}

fn fingerprint_of(first: &[u64], index: u64) -> u64 {
    first[index as usize % first.len()]
}
