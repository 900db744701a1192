//! The plots, as SVG.

use plotters::prelude::*;

use crate::figures::{Figures, Round};
use crate::stats::{number, quantile, size};

const SIZE: (u32, u32) = (760, 320);
const COLORS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44)];

/// A line with its name.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Name, title and SVG of each plot.
pub fn all(figures: &Figures) -> [(&'static str, String, String); 3] {
    let stages = stages(figures);
    let plots = [
        ("rates", "creations in a second, by round", "round", rates(figures)),
        ("latency", "annotation to Secret, ms, by percentile", "percentile", latency(figures)),
        ("memory", "resident memory of the leader, MiB, by stage", &*stages, memory(figures)),
    ];
    plots.map(|(name, title, axis, lines)| (name, title.to_owned(), draw(title, axis, &lines)))
}

fn rates(figures: &Figures) -> Vec<Line> {
    let line = |name: &str, value: fn(&Round) -> f64| {
        let values = figures.rounds.iter().map(value);
        Line { name: name.to_owned(), points: values.enumerate().map(|(n, v)| (number(n + 1), v)).collect() }
    };
    vec![
        line("minimal client, best", Round::server_rate),
        line("cold sync", |round| round.cold_sync.per_second()),
    ]
}

fn latency(figures: &Figures) -> Vec<Line> {
    let line = |name: &str, values: &[f64]| {
        let points =
            (0..=100).map(|percent| (f64::from(percent), quantile(values, f64::from(percent) / 100.0)));
        Line { name: name.to_owned(), points: points.collect() }
    };
    let latency = &figures.latency;
    vec![line("idle", &latency.idle_ms), line("during a renewal", &latency.during_renewal_ms)]
}

/// The numbers and names of the stages.
fn stages(figures: &Figures) -> String {
    let stages = figures.lives.first().map(|life| &life.stages[..]).unwrap_or_default();
    let numbered = stages.iter().enumerate().map(|(index, stage)| format!("{} {}", index + 1, stage.name));
    numbered.collect::<Vec<_>>().join(", ")
}

fn memory(figures: &Figures) -> Vec<Line> {
    let of = |life: &crate::figures::Life| {
        let values = life.stages.iter().map(|stage| size(stage.leader.rss_kib) / 1_024.0);
        Line {
            name: life.name.clone(),
            points: values.enumerate().map(|(n, v)| (number(n + 1), v)).collect(),
        }
    };
    figures.lives.iter().map(of).collect()
}

fn draw(title: &str, axis: &str, lines: &[Line]) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    plot(&area, title, axis, lines)
        .and_then(|()| area.present().map_err(|error| error.to_string()))
        .expect("an SVG is text");
    drop(area);
    svg
}

fn plot<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    title: &str,
    axis: &str,
    lines: &[Line],
) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.15;
    let left = points().map(|(x, _)| *x).fold(right, f64::min);
    area.fill(&WHITE).map_err(text)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(left..right, 0.0..top)
        .map_err(text)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(axis)
        .label_style(("sans-serif", 13))
        .x_label_formatter(&|x| format!("{x:.0}"));
    mesh.draw().map_err(text)?;
    for (line, color) in lines.iter().zip(COLORS) {
        let series = LineSeries::new(line.points.iter().copied(), color.stroke_width(2)).point_size(2);
        let drawn = chart.draw_series(series).map_err(text)?;
        drawn
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    let mut labels = chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 13))
        .background_style(WHITE)
        .border_style(BLACK);
    labels.draw().map_err(text)
}
