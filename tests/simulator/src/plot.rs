//! Plots, as SVG.

use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::prelude::*;

/// A line with its name.
pub type Line = (String, Vec<(f64, f64)>);

/// Draws lines over the number of workers, on a logarithmic scale.
///
/// # Errors
/// If the file cannot be written.
pub fn over_workers(path: &Path, title: &str, y: &str, most: f64, lines: &[Line]) -> Result<()> {
    draw(path, title, y, most, lines).with_context(|| format!("cannot draw {}", path.display()))
}

fn draw(path: &Path, title: &str, y: &str, most: f64, lines: &[Line]) -> Result<()> {
    let area = SVGBackend::new(path, (900, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let workers = lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.0));
    let largest = workers.fold(10.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((1.0..largest).log_scale(), 0.0..most)?;
    chart.configure_mesh().x_desc("workers").y_desc(y).light_line_style(WHITE).draw()?;
    for (number, (name, points)) in lines.iter().enumerate() {
        let style = Palette99::pick(number).stroke_width(2);
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?.label(name.as_str()).legend(legend);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
