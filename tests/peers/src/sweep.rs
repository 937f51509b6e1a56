//! How throughput goes with one quantity: the works of the plots.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use plotters::prelude::*;

use crate::{
    contestant::{Site, Who},
    measure::{Effort, Measured, Spread, measure},
    work::{Batch, Goal, Job, Measure, Work},
};

/// A quantity that is varied.
pub(crate) struct Sweep {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    axis: &'static str,
    unit: &'static str,
    points: &'static [u64],
    work: fn(u64) -> Work,
    /// Of an element, in the unit.
    value: fn(u64) -> f64,
}

const BESIDE_LAPIN: &[Goal] = &[Goal { against: Who::Lapin, ratio: None }];
const BESIDE_BOTH: &[Goal] = &[Goal { against: Who::Lapin, ratio: None }, Goal { against: Who::Paladin, ratio: None }];
const BESIDE_WASM: &[Goal] = &[Goal { against: Who::Wasm, ratio: None }];

const OVER_AMQP: Work = Work {
    name: "",
    about: "",
    job: Job::Map,
    measure: Measure::Rate,
    batch: Batch::Own,
    slots: 2,
    palfrey: Who::Palfrey,
    goals: BESIDE_LAPIN,
};

/// All plots.
pub(crate) const SWEEPS: &[Sweep] = &[
    Sweep {
        name: "plot-batch",
        about: "an empty operation over RabbitMQ, by batch size",
        axis: "elements a message",
        unit: "thousand elements a second",
        points: &[1, 8, 64, 512, 4096, 32_768],
        work: |batch| Work { name: "by batch", batch: Batch::Fixed(batch as usize), ..OVER_AMQP },
        value: |_| 1e-3,
    },
    Sweep {
        name: "plot-payload",
        about: "bytes there and back over RabbitMQ, by payload",
        axis: "KiB an element",
        unit: "MB a second",
        points: &[1, 8, 64, 512, 4096, 16_384],
        work: |kib| Work { name: "by payload", job: Job::Echo((kib as usize) << 10), goals: BESIDE_BOTH, ..OVER_AMQP },
        value: |kib| (kib << 10) as f64 / 1e6,
    },
    Sweep {
        name: "plot-slots",
        about: "an operation of about 2 ms over RabbitMQ, by slots",
        axis: "workers of one slot",
        unit: "elements a second",
        points: &[1, 2, 4, 8],
        work: |slots| Work {
            name: "by slots",
            job: Job::Burn(1_000_000),
            slots: slots as usize,
            goals: BESIDE_WASM,
            ..OVER_AMQP
        },
        value: |_| 1.0,
    },
];

impl Sweep {
    /// Measures all points, or every second one.
    pub(crate) async fn measure(&self, site: &Site, effort: Effort, quick: bool) -> Result<Vec<(u64, Measured)>> {
        let mut all = Vec::new();
        for &point in self.points.iter().step_by(if quick { 2 } else { 1 }) {
            all.push((point, measure(site, &(self.work)(point), effort, None).await?.0));
        }
        Ok(all)
    }

    /// Draws the medians.
    pub(crate) fn draw(&self, path: &Path, measured: &[(u64, Measured)]) -> Result<()> {
        self.try_draw(path, measured).with_context(|| format!("cannot draw {}", path.display()))
    }

    fn try_draw(&self, path: &Path, measured: &[(u64, Measured)]) -> Result<()> {
        let mut lines: BTreeMap<Who, Vec<(f64, f64)>> = BTreeMap::new();
        for (point, shown) in measured {
            for (who, shown) in shown {
                let median = Spread::of(shown.values.iter().copied()).median;
                lines.entry(*who).or_default().push((*point as f64, median * (self.value)(*point)));
            }
        }
        let (mut lowest, mut highest) = (f64::MAX, f64::MIN_POSITIVE);
        for &(_, value) in lines.values().flatten() {
            (lowest, highest) = (lowest.min(value), highest.max(value));
        }
        let ends = |points: &[(u64, Measured)]| Some((points.first()?.0 as f64, points.last()?.0 as f64));
        let (first, last) = ends(measured).context("there are no points")?;

        let area = SVGBackend::new(path, (800, 460)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.about, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d((first..last).log_scale(), (lowest / 1.5..highest * 1.5).log_scale())?;
        chart.configure_mesh().x_desc(self.axis).y_desc(self.unit).light_line_style(WHITE).draw()?;
        for (number, (who, points)) in lines.into_iter().enumerate() {
            let style = Palette99::pick(number).stroke_width(2);
            let legend = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style);
            chart.draw_series(LineSeries::new(points, style))?.label(who.to_string()).legend(legend);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
        Ok(())
    }
}
