use super::axis::Axis;
use super::{AXIS, Area, BLUE, Drawn, GREEN, GRID, INK, ORANGE, TOP};
use super::{CHARACTER, canvas, label_room, legend};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Bars of the histogram.
const BARS: usize = 48;
/// Steps of the cumulative curve within a bar.
const FINE: usize = 10;
/// Height of the strip in which the markers' names stand.
const MARKER_STRIP: u32 = 38;
/// Times the mean that the maximum must exceed for a logarithmic axis: a tail that would squeeze the rest.
const LONG_TAIL: f64 = 10.0;

/// A histogram with the cumulative share of the values over it.
pub struct DistributionChart<'a> {
    /// What is shown, for readers who do not see it.
    pub label: &'a str,
    /// Unit of the values.
    pub unit: &'static str,
    /// What is counted, such as `requests`.
    pub counted: &'a str,
    /// Hands every value to the sink, the same ones on every call; negative and infinite ones are left out.
    pub values: &'a Values<'a>,
    /// Values that are marked by name, such as the median; ascending.
    pub markers: &'a [Marker],
}

/// Hands values to a sink.
pub type Values<'a> = dyn Fn(&mut dyn FnMut(f64)) + 'a;

/// A value that is marked in a distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Marker {
    /// Its name.
    pub label: String,
    /// Where it stands.
    pub value: f64,
}

/// Counts per step of the axis.
struct Bins {
    axis: Axis,
    logarithmic: bool,
    fine: Vec<u64>,
    count: u64,
}

impl DistributionChart<'_> {
    /// The chart as an SVG element; `None` without a value.
    pub fn svg(&self) -> Option<String> {
        let bins = self.bins()?;
        canvas(self.label, |root| self.draw(root, &bins))
    }

    fn each(&self, sink: &mut dyn FnMut(f64)) {
        (self.values)(&mut |value| {
            if value.is_finite() && 0.0 <= value {
                sink(value);
            }
        });
    }

    /// Two passes over the values, so that none need be kept: a long run has many millions of gaps.
    fn bins(&self) -> Option<Bins> {
        let (mut low, mut high, mut sum, mut count) = (f64::INFINITY, 0_f64, 0.0, 0_u64);
        self.each(&mut |value| {
            (low, high) = (low.min(value), high.max(value));
            sum += value;
            count += 1;
        });
        if count == 0 {
            return None;
        }
        let logarithmic = 0.0 < low && LONG_TAIL * sum / (count as f64) < high;
        let axis = if logarithmic { Axis::logarithmic(low, high) } else { Axis::around(low, high, 6) };
        let axis = axis.in_unit(self.unit);
        let mut fine = vec![0; BARS * FINE];
        let scale = fine.len() as f64 / (axis.high - axis.low);
        self.each(&mut |value| {
            let at = ((axis.place(value) - axis.low) * scale) as usize;
            let last = fine.len() - 1;
            fine[at.min(last)] += 1;
        });
        Some(Bins { axis, logarithmic, fine, count })
    }

    fn draw(&self, root: &Area<'_>, bins: &Bins) -> Drawn {
        let scale = if bins.logarithmic { ", logarithmic scale" } else { "" };
        legend(root, &format!("{} per bar{scale}", self.counted), &[("cumulative share", ORANGE)])?;

        let bars: Vec<u64> = bins.fine.chunks(FINE).map(|steps| steps.iter().sum()).collect();
        let heights = Axis::from_zero(bars.iter().copied().max().unwrap_or(1) as f64, 4);
        let (_, plot) = root.split_vertically(TOP);
        let mut chart = ChartBuilder::on(&plot)
            .margin_top(MARKER_STRIP)
            .x_label_area_size(46)
            .y_label_area_size(label_room(&heights))
            .right_y_label_area_size(96)
            .build_cartesian_2d(bins.axis.clone(), heights.clone())?
            .set_secondary_coord(bins.axis.clone(), Axis::percent());
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb().stroke_width(2))
            .axis_style(AXIS.rgb().stroke_width(2))
            .label_style(INK.text(HPos::Center))
            .draw()?;
        let style = INK.text(HPos::Left);
        chart.configure_secondary_axes().axis_style(AXIS.rgb().stroke_width(2)).label_style(style).draw()?;

        let width = (bins.axis.high - bins.axis.low) / BARS as f64;
        chart.draw_series(bars.iter().enumerate().filter(|(_, bar)| 0 < **bar).map(|(at, &bar)| {
            let left = bins.axis.low + at as f64 * width;
            Rectangle::new(
                [(left + 0.06 * width, 0.0), (left + 0.94 * width, bar as f64)],
                BLUE.rgb().filled(),
            )
        }))?;
        chart.draw_secondary_series(LineSeries::new(cumulative(bins), ORANGE.rgb().stroke_width(4)))?;
        let mut taken = i32::MIN;
        for marker in self.markers {
            let place = bins.axis.place(marker.value).clamp(bins.axis.low, bins.axis.high);
            let line = PathElement::new([(place, 0.0), (place, heights.high)], GREEN.rgb().stroke_width(3));
            chart.draw_series([line])?;
            // Names that would touch the one before stand a little to the right of their line.
            let (left, _) = chart.backend_coord(&(place, 0.0));
            let width = (marker.label.chars().count() as f64 * CHARACTER) as i32;
            let (origin, _) = chart.backend_coord(&(bins.axis.low, 0.0));
            let x = left.max(origin + width / 2).max(taken.saturating_add(width / 2 + 12));
            root.draw(&Text::new(marker.label.clone(), (x, TOP as i32 + 18), GREEN.text(HPos::Center)))?;
            taken = x + width / 2;
        }
        Ok(())
    }
}

/// The curve's points, without those in the middle of a level stretch.
fn cumulative(bins: &Bins) -> Vec<(f64, f64)> {
    let width = (bins.axis.high - bins.axis.low) / bins.fine.len() as f64;
    let mut points = vec![(bins.axis.low, 0.0)];
    let mut below = 0;
    for (at, &count) in bins.fine.iter().enumerate() {
        let left = bins.axis.low + at as f64 * width;
        if 0 < count {
            points.push((left, 100.0 * below as f64 / bins.count as f64));
            below += count;
            points.push((left + width, 100.0 * below as f64 / bins.count as f64));
        }
    }
    points.push((bins.axis.high, 100.0));
    points
}
