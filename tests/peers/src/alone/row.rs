//! What a measure has shown: values of each repetition, and those of what is beside it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    measure::Spread,
    report::{figure, range},
};

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    Seconds,
    /// Bytes per second.
    Rate,
    MiB,
    Percent,
}

/// What should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Bound {
    /// So many times what is beside it, at the most.
    Times(f64),
    /// So much more than what is beside it, at the most.
    More(f64),
    /// So much at the most.
    Most(f64),
}

/// One thing that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    what: String,
    unit: Unit,
    /// One of each repetition.
    values: Vec<f64>,
    beside: Option<Beside>,
    bound: Option<Bound>,
    /// What is durable and confirmed.
    keeps: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Beside {
    what: String,
    /// Of the same repetitions.
    values: Vec<f64>,
}

/// What is durable and confirmed where there is no broker.
const NOTHING: &str = "nothing";
/// And with Palfrey's over RabbitMQ.
pub(super) const ALL: &str = "tasks, results";

impl Row {
    pub(super) fn new(what: impl Into<String>, unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        let (values, keeps) = (values.into_iter().collect(), NOTHING.to_owned());
        Self { what: what.into(), unit, values, beside: None, bound: None, keeps }
    }

    pub(super) fn beside(self, what: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self { beside: Some(Beside { what: what.into(), values: values.into_iter().collect() }), ..self }
    }

    pub(super) fn bound(self, bound: Bound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    pub(super) fn keeps(self, keeps: &str) -> Self {
        Self { keeps: keeps.to_owned(), ..self }
    }

    /// Of the values over those beside them.
    fn ratios(&self) -> Option<Spread> {
        let beside = self.beside.as_ref()?;
        Some(Spread::of(self.values.iter().zip(&beside.values).map(|(value, beside)| value / beside)))
    }

    fn spread(&self) -> Spread {
        Spread::of(self.values.iter().copied())
    }

    /// Whether it is as it should be.
    fn reached(&self) -> Option<bool> {
        Some(match self.bound? {
            Bound::Times(most) => self.ratios()?.median <= most,
            Bound::More(more) => {
                let values = self.values.iter().zip(&self.beside.as_ref()?.values);
                Spread::of(values.map(|(value, beside)| value - beside)).median <= more
            }
            Bound::Most(most) => self.spread().median <= most,
        })
    }

    /// The cells of a table: the ratio, what was measured, its spread, the goal, the values, what is kept.
    pub(crate) fn cells(&self) -> [String; 7] {
        let ratios = self.ratios();
        let spread = match ratios {
            Some(ratios) => range(ratios, figure),
            None => range(self.spread(), |value| self.unit.show(value)),
        };
        let bound = match (self.bound, self.reached()) {
            (Some(bound), Some(reached)) => format!("≤ {} {}", self.show(bound), if reached { "✓" } else { "✗" }),
            _ => String::new(),
        };
        let beside = self.beside.as_ref().map(|beside| {
            format!("{}: {}", self.unit.show(Spread::of(beside.values.iter().copied()).median), beside.what)
        });
        [
            self.what.clone(),
            ratios.map_or_else(String::new, |ratios| format!("{} ×", figure(ratios.median))),
            spread,
            bound,
            self.unit.show(self.spread().median),
            beside.unwrap_or_default(),
            self.keeps.clone(),
        ]
    }

    fn show(&self, bound: Bound) -> String {
        match bound {
            Bound::Times(times) => format!("{} ×", figure(times)),
            Bound::More(more) => format!("+ {}", self.unit.show(more)),
            Bound::Most(most) => self.unit.show(most),
        }
    }

    /// Everything, for machines.
    pub(crate) fn document(&self) -> Value {
        json!({ "row": self, "ratio": self.ratios(), "measured": self.spread(), "reached": self.reached() })
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match (self, value.abs()) {
            (Self::Seconds, 0.0..1e-6) => format!("{} ns", figure(1e9 * value)),
            (Self::Seconds, 0.0..1e-3) => format!("{} µs", figure(1e6 * value)),
            (Self::Seconds, 0.0..1.0) => format!("{} ms", figure(1e3 * value)),
            (Self::Seconds, _) => format!("{} s", figure(value)),
            (Self::Rate, _) => format!("{} MB/s", figure(value / 1e6)),
            (Self::MiB, _) => format!("{} MiB", figure(value)),
            (Self::Percent, _) => format!("{} %", figure(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_about_the_values_of_the_same_repetition() {
        let row = Row::new("", Unit::Seconds, [1.0, 3.0, 2.0]).beside("", [1.0, 2.0, 1.5]);
        let reached = |bound| row.clone().bound(bound).reached();
        assert_eq!((reached(Bound::Times(1.4)), reached(Bound::Times(1.3))), (Some(true), Some(false)));
        assert_eq!((reached(Bound::More(0.5)), reached(Bound::More(0.4))), (Some(true), Some(false)));
        assert_eq!((reached(Bound::Most(2.0)), reached(Bound::Most(1.9))), (Some(true), Some(false)));
        assert_eq!(row.reached(), None);
    }

    #[test]
    fn seconds_are_shown_in_the_unit_that_suits_them() {
        let shown = [2e-9, 2e-6, 0.02, 2.0].map(|seconds| Unit::Seconds.show(seconds));
        assert_eq!(shown, ["2.00 ns", "2.00 µs", "20.0 ms", "2.00 s"]);
    }
}
