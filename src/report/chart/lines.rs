use super::axis::Axis;
use super::{AXIS, Area, Colour, Drawn, GRID, INK, TOP};
use super::{canvas, label_room, legend};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Points above which a series is thinned for drawing: two for each drawn column.
const MOST_POINTS: usize = 1000;

/// Series of values over the seconds of a run, or over something else.
pub struct LineChart<'a> {
    /// What is shown, for readers who do not see it.
    pub label: &'a str,
    /// Unit of the values.
    pub unit: &'a str,
    /// Unit of what they are over: `s`, or nothing for a plain number.
    pub across: &'static str,
    /// The series, first one drawn first.
    pub series: &'a [Series<'a>],
}

/// One series; a missing value leaves a gap.
pub struct Series<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its colour.
    pub colour: Colour,
    /// Seconds since the start, or what else the values are over, and the value there.
    pub points: Vec<(f64, Option<f64>)>,
}

impl LineChart<'_> {
    /// The chart as an SVG element; `None` without a value.
    pub fn svg(&self) -> Option<String> {
        let present = || self.series.iter().flat_map(|series| pieces(&series.points)).flatten();
        present().next()?;
        let high = present().map(|(_, value)| value).fold(0.0, f64::max);
        let (first, last) = present().fold((f64::INFINITY, 0_f64), |(a, b), (t, _)| (a.min(t), b.max(t)));
        let seconds =
            Axis::around(if first < 0.2 * last { 0.0 } else { first }, last, 8).in_unit(self.across);
        canvas(self.label, |root| self.draw(root, &seconds, &Axis::from_zero(high, 4)))
    }

    fn draw(&self, root: &Area<'_>, seconds: &Axis, heights: &Axis) -> Drawn {
        let names: Vec<_> = self.series.iter().map(|series| (series.name, series.colour)).collect();
        legend(root, self.unit, &names)?;
        let (_, plot) = root.split_vertically(TOP);
        let mut chart = ChartBuilder::on(&plot)
            .margin_top(14)
            .margin_right(16)
            .x_label_area_size(46)
            .y_label_area_size(label_room(heights))
            .build_cartesian_2d(seconds.clone(), heights.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb().stroke_width(2))
            .axis_style(AXIS.rgb().stroke_width(2))
            .label_style(INK.text(HPos::Center))
            .draw()?;
        for series in self.series {
            let colour = series.colour.rgb();
            for piece in pieces(&series.points) {
                match piece[..] {
                    [alone] => chart.draw_series([Circle::new(alone, 6, colour.filled())]).map(drop)?,
                    _ => chart
                        .draw_series(LineSeries::new(thinned(piece), colour.stroke_width(4)))
                        .map(drop)?,
                }
            }
        }
        Ok(())
    }
}

/// The stretches of points that have a value.
fn pieces(points: &[(f64, Option<f64>)]) -> Vec<Vec<(f64, f64)>> {
    let value = |point: &(f64, Option<f64>)| point.1.filter(|value| value.is_finite());
    points
        .split(|point| value(point).is_none())
        .filter(|piece| !piece.is_empty())
        .map(|piece| piece.iter().filter_map(|point| Some((point.0, value(point)?))).collect())
        .collect()
}

/// The least and the greatest of each group of neighbours, so that no peak is lost.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let group = points.len().div_ceil(MOST_POINTS / 2);
    let extremes = |neighbours: &[(f64, f64)]| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let least = neighbours.iter().min_by(by_value).copied();
        let most = neighbours.iter().max_by(by_value).copied();
        let mut pair: Vec<_> = least.into_iter().chain(most).collect();
        pair.sort_by(|a, b| a.0.total_cmp(&b.0));
        pair
    };
    points.chunks(group).flat_map(extremes).collect()
}
