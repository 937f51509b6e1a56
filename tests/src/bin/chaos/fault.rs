//! What can happen.

use std::{fmt, time::Duration};

use palfrey_rabbitmq::Resource;
use palfrey_tests::{Conduct, Frame, Side};
use rand_chacha::{ChaCha8Rng, rand_core::Rng};

/// Workers of the theatre.
pub(crate) const WORKERS: usize = 3;

/// One of the things that can happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// A worker is killed; another one comes.
    Kill { worker: usize },
    /// A worker is replaced by one that dies of itself at some moment of some task.
    Doom { worker: usize, moment: &'static str, occasion: u32 },
    /// A worker is stopped for a while, and goes on.
    Stop { worker: usize, time: Duration },
    /// A worker is told to end; another one comes.
    Terminate { worker: usize },
    /// All workers are killed; others come.
    KillAll,
    /// A worker is replaced by one on a machine whose clock jumps a day to and fro.
    Confuse { worker: usize },
    /// A network misbehaves for a while.
    Network { whose: Whose, conduct: Conduct, time: Duration },
    /// Connections are reset, so many times.
    Cut { whose: Whose, times: u32 },
    /// Connections are reset at a frame.
    CutAt { whose: Whose, side: Side, frame: Frame },
    /// The broker is restarted in order.
    Restart,
    /// The broker is killed, and started again after a while.
    Crash { time: Duration },
    /// The broker is short of something for a while.
    Alarm { of: Resource, time: Duration },
    /// The queue of tasks is deleted with all that waits in it.
    Delete,
    /// Somebody deploys a plugin, and their connections are cut at a frame of that.
    CutDeployment { side: Side, frame: Frame, spared: u32 },
    /// Another program begins the same jobs, and is gone without a word.
    Abandon,
    /// Another program begins the same jobs, and drops them.
    Abort,
}

/// Whose connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Whose {
    Worker(usize),
    Program,
}

impl Fault {
    /// The next one.
    pub(crate) fn choose(random: &mut ChaCha8Rng) -> Self {
        let mut below = |bound: u32| random.next_u32() % bound;
        let worker = below(WORKERS as u32) as usize;
        let whose = if below(WORKERS as u32 + 1) == 0 { Whose::Program } else { Whose::Worker(worker) };
        // Now and then longer than the heartbeats, after which the broker takes somebody for dead.
        let time = Duration::from_millis(if below(12) == 0 { 12_000 } else { 100 + u64::from(below(2000)) });
        let frames = [Frame::Publish, Frame::Confirm, Frame::Consume, Frame::Deliver, Frame::Acknowledge];
        let side = if below(2) == 0 { Side::Before } else { Side::After };
        match below(100) {
            0..8 => Self::Kill { worker },
            8..18 => {
                let moments = ["before-execution", "during-execution", "before-result", "before-acknowledgement"];
                Self::Doom { worker, moment: moments[below(4) as usize], occasion: 1 + below(20) }
            }
            18..26 => Self::Stop { worker, time },
            26..32 => Self::Terminate { worker },
            32..46 => {
                let conduct = match below(4) {
                    0 => Conduct::Silence,
                    1 => Conduct::Delay(Duration::from_millis(u64::from(below(400)))),
                    2 => Conduct::Throttle(20_000 + below(500_000)),
                    _ => Conduct::Refuse,
                };
                Self::Network { whose, conduct, time }
            }
            46..60 => Self::Cut { whose, times: 1 + below(3) },
            60..78 => Self::CutAt { whose, side, frame: frames[below(5) as usize] },
            78..81 => Self::CutDeployment { side, frame: frames[below(2) as usize], spared: below(3) },
            81..83 => Self::KillAll,
            83..85 => Self::Confuse { worker },
            85..87 => Self::Restart,
            87..90 => Self::Crash { time },
            90..94 => {
                let of = if below(2) == 0 { Resource::Memory } else { Resource::Disk };
                Self::Alarm { of, time: time.min(Duration::from_secs(3)) }
            }
            94..96 => Self::Delete,
            96..98 => Self::Abort,
            _ => Self::Abandon,
        }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(worker) => write!(f, "worker {worker}"),
            Self::Program => f.write_str("the program"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { worker } => write!(f, "worker {worker} is killed"),
            Self::Doom { worker, moment, occasion } => {
                write!(f, "worker {worker} is replaced by one that dies {moment} of its task {occasion}")
            }
            Self::Stop { worker, time } => write!(f, "worker {worker} is stopped for {time:?}"),
            Self::Terminate { worker } => write!(f, "worker {worker} is told to end"),
            Self::KillAll => f.write_str("all workers are killed"),
            Self::Confuse { worker } => write!(f, "worker {worker} is replaced by one whose clock jumps"),
            Self::Network { whose, conduct, time } => write!(f, "the network of {whose}: {conduct:?} for {time:?}"),
            Self::Cut { whose, times } => write!(f, "connections of {whose} are cut, {times} times"),
            Self::CutAt { whose, side, frame } => {
                write!(f, "connections of {whose} are cut: {side:?} {frame:?}")
            }
            Self::Restart => f.write_str("the broker is restarted"),
            Self::Crash { time } => write!(f, "the broker is killed, and started again after {time:?}"),
            Self::Alarm { of, time } => write!(f, "the broker is short of {of:?} for {time:?}"),
            Self::Delete => f.write_str("the queue of tasks is deleted"),
            Self::CutDeployment { side, frame, spared } => {
                write!(f, "a deployment is cut: {side:?} {frame:?}, {spared} spared")
            }
            Self::Abandon => f.write_str("a program with two jobs is gone without a word"),
            Self::Abort => f.write_str("a program drops two jobs"),
        }
    }
}
