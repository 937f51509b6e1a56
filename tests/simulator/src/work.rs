//! How long elements take.

use fastrand::Rng;

/// Distribution of the time an element takes, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Durations {
    /// All the same.
    Constant(f64),
    /// Between two bounds.
    Uniform(f64, f64),
    /// With this mean.
    Exponential(f64),
    /// With this shape, above one, and this mean.
    Pareto {
        /// Smaller is heavier; the variance is infinite up to two.
        shape: f64,
        /// Of all elements.
        mean: f64,
    },
    /// Mostly short ones, and some that are long.
    Bimodal {
        /// Of the short ones.
        short: f64,
        /// Of the long ones.
        long: f64,
        /// Part that is long.
        part: f64,
    },
    /// Known one by one.
    Trace(Vec<f64>),
}

/// Elements that are executed one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// All of them.
    pub seconds: f64,
    /// The longest of them.
    pub longest: f64,
}

/// Up to so many elements are drawn one by one; sums of more are drawn as such.
const ONE_BY_ONE: u64 = 256;

impl Durations {
    /// The mean.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Constant(seconds) | Self::Exponential(seconds) => *seconds,
            Self::Uniform(low, high) => f64::midpoint(*low, *high),
            Self::Pareto { mean, .. } => *mean,
            Self::Bimodal { short, long, part } => short + part * (long - short),
            Self::Trace(trace) => trace.iter().sum::<f64>() / trace.len().max(1) as f64,
        }
    }

    /// The work of consecutive elements.
    pub fn take(&self, start: u64, count: u64, rng: &mut Rng) -> Work {
        match self {
            Self::Trace(trace) => total(trace[start as usize..(start + count) as usize].iter().copied()),
            Self::Constant(seconds) => Work { seconds: seconds * count as f64, longest: *seconds },
            _ if count <= ONE_BY_ONE => total((0..count).map(|_| self.draw(rng))),
            Self::Uniform(low, high) => {
                Work { seconds: normal_sum(self.mean(), (high - low) / 12_f64.sqrt(), count, rng), longest: *high }
            }
            Self::Exponential(mean) => Work {
                seconds: normal_sum(*mean, *mean, count, rng),
                // The largest of many has the distribution of Gumbel around the logarithm of their number.
                longest: mean * ((count as f64).ln() - (-positive(rng).ln()).ln()),
            },
            Self::Pareto { shape, mean } => {
                // The largest ones one by one, above a threshold; all others by their mean.
                let tail = 64;
                let least = mean * (shape - 1.0) / shape;
                let threshold = least * (count as f64 / f64::from(tail)).powf(1.0 / shape);
                let bulk = count as f64 * mean * (1.0 - (least / threshold).powf(shape - 1.0));
                let large = total((0..tail).map(|_| threshold * positive(rng).powf(-1.0 / shape)));
                Work { seconds: bulk + large.seconds, ..large }
            }
            Self::Bimodal { short, long, part } => {
                let mean = part * count as f64;
                let long_ones = (mean + (mean * (1.0 - part)).sqrt() * normal(rng)).round().clamp(0.0, count as f64);
                let seconds = short * (count as f64 - long_ones) + long * long_ones;
                Work { seconds, longest: if long_ones > 0.0 { *long } else { *short } }
            }
        }
    }

    fn draw(&self, rng: &mut Rng) -> f64 {
        match self {
            Self::Uniform(low, high) => low + (high - low) * rng.f64(),
            Self::Exponential(mean) => -mean * positive(rng).ln(),
            Self::Pareto { shape, mean } => mean * (shape - 1.0) / shape * positive(rng).powf(-1.0 / shape),
            Self::Bimodal { short, long, part } => {
                if rng.f64() < *part {
                    *long
                } else {
                    *short
                }
            }
            Self::Constant(_) | Self::Trace(_) => self.mean(),
        }
    }

    /// As many elements, known one by one.
    pub fn trace(&self, count: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::with_seed(seed);
        (0..count).map(|_| self.draw(&mut rng)).collect()
    }
}

fn total(durations: impl Iterator<Item = f64>) -> Work {
    durations.fold(Work::default(), |work, seconds| Work {
        seconds: work.seconds + seconds,
        longest: work.longest.max(seconds),
    })
}

/// Above zero, and one at the most.
fn positive(rng: &mut Rng) -> f64 {
    1.0 - rng.f64()
}

/// Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * positive(rng).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

fn normal_sum(mean: f64, deviation: f64, count: u64, rng: &mut Rng) -> f64 {
    let count = count as f64;
    (mean * count + deviation * count.sqrt() * normal(rng)).max(0.0)
}
